"""Forms to predict with, measured; and advice: what an edit saves and costs."""

import json
import math
from datetime import UTC, datetime

import numpy as np
import pytest

import search_spaces
from raynas.explanation import advice, scorecard
from raynas.explanation.claims import Claim
from raynas.explanation.features import Described
from raynas.explanation.pool import pool
from raynas.explanation.scorecard import better_of_two, counted, standing
from raynas.explanation.scorecard import tree as grow
from raynas.objective import Objective
from tests.spaces import CELL, MERGED, TREE, score

ACCURACY = Objective("accuracy", "max")
LOSS = Objective("loss", "min")
CELLS = pool(CELL)
DESCRIBED = Described(CELL)
NAMES, VALUES = DESCRIBED.human(CELLS.designs)


def make(kind, tier, verdict, about, **rest):
    rest = {"metric": "accuracy", "unit": "1", **rest}
    return Claim("id", kind, tier, verdict, about, datetime.now(UTC), snapshot="s", **rest)


def table(space, values):
    place = {str(design): i for i, design in enumerate(pool(space).designs)}
    return lambda designs: values[:, [place[str(d)] for d in designs]]


def agree(scores, truth):
    rng = np.random.default_rng(0)
    pairs = rng.integers(len(truth), size=(4000, 2))
    return better_of_two(scores[pairs], truth[pairs][None])[0]


def test_better_of_two_counts_right_names_halves_ties_and_drops_equals():
    scores = np.array([[2.0, 1.0], [1.0, 2.0], [1.0, 1.0], [5.0, 1.0]])
    gains = np.array([[[9.0, 1.0], [9.0, 1.0], [9.0, 1.0], [4.0, 4.0]]])
    assert better_of_two(scores, gains) == pytest.approx([0.5])
    assert better_of_two(scores[:1], -gains[:, :1]) == pytest.approx([0])


def test_standing_is_normal_and_keeps_the_order():
    values = np.random.default_rng(0).exponential(size=999) ** 3
    found = standing(values)
    assert found.std() == pytest.approx(1, abs=0.02)
    assert np.all(np.argsort(found) == np.argsort(values))


def test_a_planted_scorecard_is_found_and_predicts():
    truth = (
        3.0 * (CELLS.codes[:, 1] == 3) + 1.0 * CELLS.codes[:, 3] - 2.0 * (CELLS.codes[:, 0] == 0)
    )
    card = scorecard.scorecard(NAMES, VALUES, truth)
    assert {"input_to_out is conv3x3", "input_to_a is none"} <= set(card.terms)
    assert len(card.terms) <= 6
    assert agree(card.score(NAMES, VALUES), truth) > 0.97
    points = dict(zip(card.terms, card.points, strict=True))
    assert points["input_to_out is conv3x3"] > 0 > points["input_to_a is none"]
    assert card.score(NAMES, VALUES).mean() == pytest.approx(0, abs=1e-6)


def test_fewer_terms_predict_less_and_of_noise_a_scorecard_says_little():
    rng = np.random.default_rng(1)
    truth = sum(
        rng.standard_normal(len(d.options))[c]
        for d, c in zip(CELL.decisions, CELLS.codes.T, strict=True)
    )
    found = [
        agree(scorecard.scorecard(NAMES, VALUES, truth, k).score(NAMES, VALUES), truth)
        for k in (1, 3, 6)
    ]
    assert found[0] < found[1] < found[2]
    assert found[2] > 0.85
    noise = rng.standard_normal(len(truth))
    card = scorecard.scorecard(NAMES, VALUES, noise)
    assert agree(card.score(NAMES, VALUES), rng.standard_normal(len(truth))) < 0.56
    assert scorecard.scorecard(NAMES, VALUES, np.zeros(len(truth))).terms == ()


def test_terms_are_counted_as_they_read():
    names, values = ["layers", "x is y"], np.array([[1.0, 0.0], [3.0, 1.0]])
    assert counted("layers", names, values).tolist() == [1, 3]
    assert counted("layers >= 2", names, values).tolist() == [0, 1]
    assert counted("x is y", names, values).tolist() == [0, 1]


def test_a_tree_is_data_whose_rules_lead_to_its_leaves():
    truth = 5.0 * (CELLS.codes[:, 1] == 3) + 1.0 * CELLS.codes[:, 3]
    grown = grow(NAMES, VALUES, truth, truth)
    leaves = [i for _, i in grown.rules()]
    assert 2 < len(leaves) <= 8
    at = grown.leaves(NAMES, VALUES)
    assert set(at) == set(leaves)
    for leaf in leaves:
        node = grown.nodes[leaf]
        assert node.term is None
        assert node.share == pytest.approx((at == leaf).mean())
        assert node.estimate == pytest.approx(truth[at == leaf].mean())
    assert agree(grown.score(NAMES, VALUES), truth) > 0.95
    best = max(leaves, key=lambda i: grown.nodes[i].estimate)
    assert "input_to_out is conv3x3" in dict((i, r) for r, i in grown.rules())[best]


@pytest.mark.parametrize("objective", [ACCURACY, LOSS], ids=["max", "min"])
def test_claims_carry_the_measured_fidelity(objective):
    rng = np.random.default_rng(2)
    sign = 1 if objective.direction == "max" else -1
    truth = (
        3.0 * (CELLS.codes[:, 1] == 3) + 2.0 * (CELLS.codes[:, 3] == 1) + rng.normal(0, 0.3, 250)
    )
    draws = sign * (truth + 0.1 * rng.standard_normal((30, 250)))
    found = list(
        scorecard.claims(make, objective, CELLS, DESCRIBED.human, table(CELL, draws), draws)
    )
    card, grown = found
    assert (card.kind, grown.kind) == ("scorecard", "tree")
    worth = {a["value"]: a["estimate"] for a in card.alternatives}
    assert len(worth) <= 6
    assert worth["input_to_out is conv3x3"] > 0
    for c in found:
        assert set(c.side_effects) >= {"random", "top", "edit"}
        assert c.ci_low <= c.estimate <= c.ci_high
        assert c.estimate == pytest.approx(c.side_effects["random"])
        assert 0.7 < c.estimate < 0.98
        assert c.side_effects["top"] < c.side_effects["random"]  # noise is all that is left there
    nodes = json.loads(grown.method_args)
    assert len(nodes) == 2 * grown.side_effects["leaves"] - 1
    assert nodes[0]["term"] == "input_to_out is conv3x3"


@pytest.mark.parametrize("name", ["layered", "darts"])
def test_large_spaces_have_forms(name):
    space = search_spaces.find(name)
    over, described = pool(space, most=250), Described(space)
    names, values = described.human(over.designs)
    column = int(values.std(axis=0).argmax())

    def draw(designs):
        return described.human(designs)[1][:, column][None].repeat(4, axis=0)

    card, grown = scorecard.claims(make, ACCURACY, over, described.human, draw, draw(over.designs))
    assert card.estimate > 0.9
    assert grown.estimate > 0.8
    assert names[column] in {a["value"].partition(" >= ")[0] for a in card.alternatives}


def design_of(**options):
    plain = {"input_to_a": "conv3x3", "input_to_out": "conv3x3", "a_to_out": "conv3x3", "width": 16}
    return CELL.architecture({**plain, **options})


def test_every_edit_that_makes_another_network_is_weighed():
    draws = np.random.default_rng(0).standard_normal((20, 250))
    design = design_of()
    found = advice.edits(CELL, design, table(CELL, draws), score)
    assert len(found) == 4 * 3 + 1
    for edit in found:
        assert edit.made[edit.name] != design[edit.name]
        assert edit.ratios["params"] == score(edit.made)["params"] / score(design)["params"]
        before, after = (table(CELL, draws)([d])[:, 0] for d in (design, edit.made))
        assert edit.change == pytest.approx(after - before)
    merged = MERGED.architecture({**design.options, "a_to_out": "none"})
    quiet = advice.edits(MERGED, merged, table(CELL, draws), score)
    assert "input_to_a" not in {e.name for e in quiet}  # nobody sees it
    wide = advice.edits(CELL, design, table(CELL, draws), score, lambda d: d["width"] == 16)
    assert all(e.made["width"] == 16 for e in wide)


@pytest.mark.parametrize("objective", [ACCURACY, LOSS], ids=["max", "min"])
def test_savings_prefer_the_sure_loss_to_the_doubtful_gain(objective):
    sign = 1 if objective.direction == "max" else -1
    rng = np.random.default_rng(1)
    draws = np.zeros((400, 250)) - 1.0
    place = {str(d): i for i, d in enumerate(CELLS.designs)}
    sure, doubtful = design_of(a_to_out="skip"), design_of(a_to_out="none")
    draws[:, place[str(sure)]] = -0.1
    draws[:, place[str(doubtful)]] = rng.normal(0.5, 2.0, 400)
    draws[:, place[str(design_of())]] = 0.0
    found = advice.edits(CELL, design_of(), table(CELL, sign * draws), score)
    ranked = advice.savings(found, "params", objective)
    assert ranked[0].made == sure
    assert all(e.ratios["params"] <= 0.8 for e in ranked)
    assert "width" not in {e.name for e in ranked}  # saves nothing
    by_mean = max(ranked, key=lambda e: sign * e.change.mean())
    assert by_mean.made == doubtful


def test_the_exchange_rate_is_per_tenth_saved():
    edit = advice.Edit("a", "b", "c", design_of(), np.array([-2.0]), {"params": 0.9**4})
    assert edit.exchange_rate("params") == pytest.approx(-0.5)
    larger = advice.Edit("a", "b", "c", design_of(), np.array([2.0]), {"params": 1.1})
    assert larger.exchange_rate("params") == 0


def test_claims_advise_the_saving_and_the_best_edit_not_tried():
    rng = np.random.default_rng(2)
    worth = np.array([score(d)["accuracy"] for d in CELLS.designs])
    draws = worth + 0.3 * (CELLS.codes[:, 3] == 1) + 0.01 * rng.standard_normal((100, 250))
    design = design_of()
    found = advice.edits(CELL, design, table(CELL, draws), score)
    tried = {CELL.identity(e.made) for e in found if e.name != "width"}
    said = list(advice.claims(make, ACCURACY, CELL, 4, found, tried))
    saving = next(c for c in said if c.family == "saving" and "params" in c.about)
    assert saving.estimate == pytest.approx(-1 / 3, abs=0.03)
    assert saving.side_effects["params"] < 0.8
    tenths = math.log(saving.side_effects["params"]) / math.log(0.9)
    rate = saving.side_effects["per tenth of params"]
    assert rate == pytest.approx(saving.estimate / tenths)
    best = said[-1]
    assert (best.family, best.path, best.chosen, best.alternative) == (
        "best untried edit",
        "width",
        "16",
        "32",
    )
    assert best.estimate == pytest.approx(0.3, abs=0.02)
    assert best.verdict == "asserts"
    everything = {CELL.identity(e.made) for e in found}
    assert all(
        c.family == "saving" for c in advice.claims(make, ACCURACY, CELL, 4, found, everything)
    )


def test_conditional_designs_are_advised_too():
    over = pool(TREE)
    draws = np.random.default_rng(3).standard_normal((10, len(over.designs)))
    for design in over.designs:
        found = advice.edits(TREE, design, table(TREE, draws), lambda d: {"n": len(d.choices)})
        assert len(found) == len(list(TREE.edits(design)))
        for edit in found:
            TREE.check(edit.made)

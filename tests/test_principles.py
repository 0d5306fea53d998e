"""Principles: right about planted rules, honest intervals, quiet on noise; and motifs."""

from datetime import UTC, datetime

import numpy as np
import pytest
from scipy.stats import t as student

import search_spaces
from raynas.explanation import motifs, principles
from raynas.explanation.claims import Claim
from raynas.explanation.features import Described
from raynas.explanation.pool import pool
from raynas.explanation.principles import Probes, estimates, options
from raynas.explanation.surface import fit
from raynas.objective import Objective
from tests.spaces import CELL, TREE

ACCURACY = Objective("accuracy", "max")
CELLS = pool(CELL)
HUMAN = Described(CELL).human


def make(kind, tier, verdict, about, **rest):
    rest = {"metric": "accuracy", "unit": "1", **rest}
    return Claim("id", kind, tier, verdict, about, datetime.now(UTC), snapshot="s", **rest)


def probed(over, truth, model, number, rng, noise=0.1):
    """Uniform probes of a truth, and a model that has not seen them."""
    at = rng.choice(len(over.designs), number, p=over.weights)
    readings = truth[at] + noise * rng.standard_normal(number)
    designs = [over.designs[i] for i in at]
    nothing = np.zeros(len(over.designs), dtype=bool)
    return Probes(designs, readings, model[at], nothing, np.zeros(number, dtype=bool))


def lift(over, truth, held):
    within, beyond = over.weights * held, over.weights * ~held
    return truth @ within / within.sum() - truth @ beyond / beyond.sum()


def planted(over):
    """A main effect, and a rule of two options."""
    first = over.codes[:, 1] == 3
    both = (over.codes[:, 0] == 2) & (over.codes[:, 3] == 1)
    return 2.0 * first + 3.0 * both


@pytest.mark.parametrize("wrongly", [0.0, 1.0], ids=["right model", "model without a clue"])
def test_intervals_cover_the_truth_whatever_the_model_says(wrongly):
    """The model's own lift is 0 or the truth; the interval must cover at 90 % in both cases."""
    rng = np.random.default_rng(0)
    over, hits, widths = CELLS, [], []
    truth = planted(over) + rng.normal(0, 0.5, len(over.designs))
    model = (1 - wrongly) * truth + wrongly * truth.mean()
    draws = model + 0.02 * rng.standard_normal((20, 1))
    for _ in range(60):
        probes = probed(over, truth, model, 60, rng)
        found = estimates(over, probes, options(over, probes), draws)
        hits += [p.low <= lift(over, truth, p.rule.pool) <= p.high for p in found]
        widths += [p.high - p.low for p in found]
    assert np.mean(hits) > 0.86
    assert np.mean(widths) < (2.5 if wrongly else 0.2)


def test_a_good_model_makes_principles_of_few_probes_sharper_than_the_probes_alone():
    rng = np.random.default_rng(1)
    truth = planted(CELLS) + rng.normal(0, 0.5, len(CELLS.designs))
    probes = probed(CELLS, truth, truth, 40, rng)
    (principle,) = estimates(CELLS, probes, options(CELLS, probes)[8:9], truth[None])
    held = principle.rule.probes
    sides = probes.readings[held], probes.readings[~held]
    alone = np.sqrt(sum(s.var(ddof=1) / len(s) for s in sides)) * student.ppf(0.95, 38)
    assert principle.high - principle.low < alone / 3


def test_what_the_model_misses_at_the_probes_moves_the_estimate():
    rng = np.random.default_rng(2)
    truth = planted(CELLS)
    flat = np.full(len(truth), truth.mean())
    probes = probed(CELLS, truth, flat, 80, rng)
    rule = options(CELLS, probes)[8]
    assert rule.text == "input_to_out=conv3x3"
    (found,) = estimates(CELLS, probes, [rule], flat[None])
    assert found.lift == pytest.approx(lift(CELLS, truth, rule.pool), abs=0.6)


def test_networks_that_were_read_are_not_corrected():
    rng = np.random.default_rng(3)
    truth = planted(CELLS)
    probes = probed(CELLS, truth + 5, truth, 40, rng)
    known = np.ones(len(truth), dtype=bool)
    all_read = Probes(probes.designs, probes.readings, probes.predicted, known, probes.common)
    for found in estimates(CELLS, all_read, options(CELLS, probes), truth[None]):
        assert found.lift == pytest.approx(lift(CELLS, truth, found.rule.pool))


def test_frequent_networks_are_counted_by_identity():
    space = search_spaces.find("nasbench201")
    over = pool(space)
    designs = [over.designs[0], over.designs[7777]]  # dead, and one of few names
    found = principles.probes(over, designs, np.ones(2), np.ones(2), [])
    assert found.common.tolist() == [True, False]
    assert over.weights[found.known].sum() == pytest.approx(341 / 15625, abs=0.002)


def test_planted_rules_are_found_and_said_with_their_support():
    rng = np.random.default_rng(4)
    truth = planted(CELLS)
    probes = probed(CELLS, truth, truth, 40, rng)
    draws = truth + 0.05 * rng.standard_normal((30, 1))
    found = list(principles.claims(make, ACCURACY, CELLS, probes, draws, HUMAN))
    texts = {c.path: c for c in found}
    first = texts["input_to_out=conv3x3"]
    assert first.verdict == "asserts"
    assert first.estimate == pytest.approx(2, abs=0.15)
    assert first.scope["support"] == pytest.approx(0.2)
    assert first.side_effects["probes"] == 40
    assert first.side_effects["violations"] < 0.2
    assert first.ci_kind == "prediction-powered"
    assert any("input_to_a=conv1x1 and width=32" in t or "width=32 and input" in t for t in texts)
    assert len(found) <= principles.MOST
    for c in found:
        assert c.ci_low <= c.estimate <= c.ci_high


def test_below_forty_probes_nothing_is_asserted():
    rng = np.random.default_rng(5)
    truth = planted(CELLS)
    for number, most in ((39, "leans"), (7, None)):
        probes = probed(CELLS, truth, truth, number, rng)
        found = list(principles.claims(make, ACCURACY, CELLS, probes, truth[None]))
        assert {c.verdict for c in found} <= {most, "open"}
        assert bool(found) == (most is not None)


def test_of_pure_noise_nothing_is_asserted():
    """With a fitted surface and its own predictions without the probes."""
    loud = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        at = rng.choice(len(CELLS.designs), 60)
        designs, readings = [CELLS.designs[i] for i in at], rng.standard_normal(60)
        if seed < 4:
            surface = fit(CELL, designs, readings)
            draws = surface.draws(CELLS.designs)
            predicted = principles.left_out(surface, designs[:40])
        else:
            draws = 0.2 * rng.standard_normal((40, len(CELLS.designs)))
            predicted = np.zeros(40)
        probes = principles.probes(CELLS, designs[:40], readings[:40], predicted, designs)
        found = principles.claims(make, ACCURACY, CELLS, probes, draws, HUMAN)
        loud.append(sum(c.verdict == "asserts" for c in found))
    assert sum(n > 0 for n in loud) <= 2


def test_selection_widens_the_intervals():
    rng = np.random.default_rng(6)
    truth = planted(CELLS)
    probes = probed(CELLS, truth, truth, 40, rng, noise=0.5)
    chosen, looked = principles.principles(CELLS, probes, truth[None], ACCURACY, HUMAN)
    assert looked > len(chosen) > 1
    for p in chosen:
        assert p.level == pytest.approx(1 - 0.1 * len(chosen) / looked)
        assert p.high - p.low > p.at(0.9).high - p.at(0.9).low


def test_rules_of_two_say_no_more_than_is_there_and_none_says_the_same_twice():
    rng = np.random.default_rng(7)
    probes = probed(CELLS, planted(CELLS), planted(CELLS), 40, rng)
    found = principles.candidates(CELLS, probes, HUMAN, planted(CELLS)[None], ACCURACY)
    masks = {(r.pool ^ r.pool[0]).tobytes() for r in found}
    assert len(masks) == len(found)
    assert all(principles.SUPPORT <= r.support <= 1 - principles.SUPPORT for r in found)
    for r in found:
        assert r.support == pytest.approx(CELLS.weights[r.pool].sum())


@pytest.mark.parametrize("space", [TREE, search_spaces.find("layered")], ids=["tree", "layered"])
def test_conditional_spaces_have_principles(space):
    over = pool(space, most=500)
    rng = np.random.default_rng(8)
    truth = over.codes[:, 0] * 1.0
    at = rng.choice(len(over.designs), 40, p=over.weights)
    designs = [over.designs[i] for i in at]
    readings = truth[at] + 0.05 * rng.standard_normal(40)
    probes = principles.probes(over, designs, readings, truth[at], designs)
    found = list(principles.claims(make, ACCURACY, over, probes, truth[None]))
    assert any(space.decisions[0].name in c.path and c.verdict == "asserts" for c in found)


def test_a_surface_says_what_it_would_predict_without_a_reading():
    """Left out in truth: the surface fitted without a design errs alike."""
    rng = np.random.default_rng(9)
    at = rng.choice(len(CELLS.designs), 50, replace=False)
    designs, readings = [CELLS.designs[i] for i in at], planted(CELLS)[at] + rng.normal(0, 0.1, 50)
    whole = fit(CELL, designs, readings)
    said = principles.left_out(whole, designs)
    again = []
    for i in range(0, 50, 17):
        rest = [j for j in range(50) if j != i]
        without = fit(CELL, [designs[j] for j in rest], readings[rest])
        again.append(np.median(without.draws([designs[i]])))
    spread = np.abs(readings - readings.mean()).mean()
    assert np.abs(np.array(again) - said[::17]).mean() < 0.25 * spread
    kept = np.abs(readings - whole.mean(designs)).mean()
    assert np.abs(readings - said).mean() > 1.5 * kept


def test_motifs_are_what_good_designs_share_and_the_rest_lacks():
    truth = planted(CELLS)
    draws = truth + 0.05 * np.random.default_rng(0).standard_normal((30, len(truth)))
    found = list(motifs.claims(make, ACCURACY, CELLS, draws, capped=False))
    assert {c.chosen for c in found} == {"input_to_a=conv1x1", "width=32"}  # of the best tenth
    for c in found:
        assert c.side_effects["good"] >= motifs.LIFT * c.side_effects["rest"]
        assert c.ci_low <= c.estimate <= c.ci_high
    first = found[0]
    assert first.chosen == "input_to_a=conv1x1"
    assert first.estimate == pytest.approx(1.5, abs=0.1)
    assert first.side_effects["good"] == pytest.approx(1)
    assert first.verdict == "asserts"
    assert all(c.verdict != "asserts" for c in motifs.claims(make, ACCURACY, CELLS, draws, True))


def test_motifs_of_graphs_are_live_paths_and_edges():
    space = search_spaces.find("nasbench201")
    options = dict.fromkeys((d.name for d in space.decisions), "none")
    options |= {"cell.node1.from_0": "nor_conv_3x3", "cell.node3.from_1": "avg_pool_3x3"}
    options |= {"cell.node2.from_0": "nor_conv_1x1"}  # leads nowhere
    found = motifs.patterns(space, space.architecture(options))
    assert {t.partition(": ")[2] for t in found} == {
        "path nor_conv_3x3 > avg_pool_3x3",
        "nor_conv_3x3 from input to node1",
        "avg_pool_3x3 from node1 to node3",
    }

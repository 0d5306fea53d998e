"""Shares of variance: planted effects and interactions, conditional spaces, samples, and noise."""

from datetime import UTC, datetime
from itertools import combinations

import numpy as np
import pytest

import search_spaces
from raynas.architecture import Decision
from raynas.explanation import importance
from raynas.explanation.claims import Claim
from raynas.explanation.importance import additive, local_shares, pairs, shares, top_shares
from raynas.explanation.pool import WHOLE, answer, codes, edited, pool, verdict
from raynas.objective import Objective
from raynas.space import Space
from tests.spaces import CELL, TREE

ACCURACY = Objective("accuracy", "max")
WIDE = Space(  # 3^12 designs: too many to go through
    "wide", tuple(Decision(f"layer{i}.kind", ("a", "b", "c"), "kind") for i in range(12))
)


def make(kind, tier, verdict, about, **rest):
    rest = {"metric": "accuracy", "unit": "1", **rest}
    return Claim("id", kind, tier, verdict, about, datetime.now(UTC), snapshot="s", **rest)


def effects(space, seed, size=1.0):
    rng = np.random.default_rng(seed)
    return {(d.name, o): size * rng.standard_normal() for d in space.decisions for o in d.options}


def additive_values(designs, worth):
    return np.array([sum(worth[c] for c in design.choices) for design in designs])


def by_hand(over, values):
    """The share of each decision by averages of its definition, without any model."""
    total = over.weights @ (values - over.weights @ values) ** 2
    found = []
    for column in over.codes.T:
        on = column >= 0
        chance = over.weights[on].sum()
        centre = over.weights[on] @ values[on] / chance
        part = 0.0
        for option in set(column[on]):
            w = over.weights * (column == option)
            part += w.sum() * (w @ values / w.sum() - centre) ** 2
        found.append(part / total)
    return np.array(found)


@pytest.mark.parametrize("space", [CELL, TREE], ids=["grid", "conditional"])
def test_a_small_space_is_gone_through_with_the_chances_of_sampling(space):
    over = pool(space)
    assert over.whole
    assert len(over.designs) == space.size
    assert over.weights.sum() == pytest.approx(1)
    rng = np.random.default_rng(0)
    drawn = [str(space.sample(rng)) for _ in range(20_000)]
    i = int(over.weights.argmax())
    assert drawn.count(str(over.designs[i])) / 20_000 == pytest.approx(over.weights[i], abs=0.02)


def test_a_large_space_is_sampled_the_same_way_each_time_and_within_what_is_allowed():
    assert WIDE.size > WHOLE
    a, b = pool(WIDE, most=200), pool(WIDE, most=200)
    assert a.designs == b.designs
    assert len(a.designs) == 200
    assert not a.whole
    few = pool(WIDE, lambda design: design["layer0.kind"] == "b", most=200)
    assert set(few.codes[:, 0]) == {1}
    assert len(few.designs) == 200
    assert pool(WIDE, lambda design: False, most=20).designs == ()


def test_codes_say_which_option_and_which_decisions_are_inactive():
    over = pool(TREE)
    for row, design in zip(codes(TREE, over.designs), over.designs, strict=True):
        for code, d in zip(row, TREE.decisions, strict=True):
            assert (code == -1) == (d.name not in design)
            assert code == -1 or d.options[code] == design[d.name]


def test_an_edit_always_makes_a_design():
    for design in pool(TREE).designs:
        for name, option in TREE.edits(design):
            other = edited(TREE, design, name, option)
            TREE.check(other)
            assert other[name] == option


@pytest.mark.parametrize("space", [CELL, TREE], ids=["grid", "conditional"])
@pytest.mark.parametrize("seed", range(5))
def test_shares_of_a_whole_space_are_those_of_the_definition(space, seed):
    over = pool(space)
    values = np.random.default_rng(seed).standard_normal(len(over.designs))
    found = shares(additive(over, values[None]))[0]
    assert found == pytest.approx(by_hand(over, values), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_planted_additive_effects_have_all_of_the_variance_and_pairs_none(seed):
    over = pool(CELL)
    values = additive_values(over.designs, effects(CELL, seed))
    model = additive(over, values[None])
    assert shares(model).sum() == pytest.approx(1, abs=1e-9)
    assert pairs(model) == pytest.approx(0, abs=1e-9)


def test_a_planted_interaction_is_in_its_pair_alone():
    over = pool(CELL)
    a, b = over.codes[:, 0], over.codes[:, 3]
    values = np.where((a == 2) == (b == 1), 1.0, 0.0)
    for option in set(a):  # take the main effects out
        values[a == option] -= values[a == option].mean()
    for option in set(b):
        values[b == option] -= values[b == option].mean()
    model = additive(over, values[None])
    found = pairs(model)[0]
    both = list(combinations(range(4), 2))
    assert found[both.index((0, 3))] == pytest.approx(1, abs=1e-9)
    assert found.sum() == pytest.approx(1, abs=1e-9)
    assert shares(model).sum() == pytest.approx(0, abs=1e-9)


def test_alone_pairs_and_the_rest_add_up_to_one_on_a_grid():
    over = pool(CELL)
    values = np.random.default_rng(3).standard_normal((4, len(over.designs)))
    model = additive(over, values)
    rest = 1 - shares(model).sum(axis=1) - pairs(model).sum(axis=1)
    assert np.all(rest > 0.2)  # 4 x 4 x 4 x 1 of 249 degrees of freedom and the triples
    assert np.all(rest < 0.9)


def test_a_sample_gives_the_shares_of_the_whole_space():
    worth = effects(WIDE, 0)
    for i in range(4, 12):  # eight decisions without effect
        worth |= {(f"layer{i}.kind", o): 0.0 for o in "abc"}
    over = pool(WIDE)
    values = additive_values(over.designs, worth)
    joint = 1.5 * (over.codes[:, 0] == 1) * (over.codes[:, 5] == 2)
    found = additive(over, (values + joint)[None])
    alone, both = shares(found)[0], pairs(found)[0]
    exact = {}
    for i in range(12):
        own = np.array([worth[f"layer{i}.kind", o] for o in "abc"])
        own = own + 1.5 / 3 * np.array({0: (0, 1, 0), 5: (0, 0, 1)}.get(i, (0, 0, 0)))
        exact[i] = own.var()
    joined = 1.5**2 * (1 / 3 * 2 / 3) ** 2  # of an indicator of both, about its margins
    total = sum(exact.values()) + joined
    assert alone == pytest.approx([exact[i] / total for i in range(12)], abs=0.015)
    assert np.abs(alone[6:]).max() < 0.002
    place = list(combinations(range(12), 2)).index((0, 5))
    assert both[place] == pytest.approx(joined / total, abs=0.01)
    assert np.abs(np.delete(both, place)).max() < 0.003


def test_chance_alone_gives_decisions_without_effect_no_share_on_average():
    over = pool(WIDE, most=300)
    noise = np.random.default_rng(0).standard_normal((200, 300))
    model = additive(over, noise)
    assert np.abs(shares(model).mean(axis=0)).max() < 0.003  # 2 / 300 without the correction
    assert abs(pairs(model).mean()) < 0.002  # 4 / 300 without


def test_in_a_conditional_space_a_share_counts_as_often_as_the_decision_is_there():
    over = pool(TREE)
    active = over.codes[:, 4] >= 0  # layer2.rate: at one depth of three
    values = np.where(active, over.codes[:, 4], 1.0) * 1.0
    found = shares(additive(over, values[None]))[0]
    assert found[4] == pytest.approx(1, abs=1e-9)
    assert np.abs(np.delete(found, 4)).max() < 1e-9


@pytest.mark.parametrize("name", ["layered", "darts", "regnet"])
def test_large_and_conditional_spaces_are_answered(name):
    space = search_spaces.find(name)
    over = pool(space, most=600)
    rng = np.random.default_rng(0)
    values = rng.standard_normal((8, len(over.designs)))
    j = int((over.codes >= 0).all(axis=0).argmax())
    values += 5 * over.codes[:, j]
    model = additive(over, values)
    found = shares(model).mean(axis=0)
    assert int(found.argmax()) == j
    assert np.delete(found, j).max() < 0.05
    assert np.isfinite(pairs(model)).all()
    assert top_shares(over, -values).argmax(axis=1).tolist() == [j] * 8


def test_being_among_the_best_is_explained_by_what_they_have():
    over = pool(CELL)
    values = 10.0 * (over.codes[:, 1] == 3) + over.codes[:, 0]
    found = top_shares(over, -values[None])[0]
    counts = [np.bincount(over.codes[values.argsort()[::-1][:25]][:, j]) for j in (0, 1)]
    divergence = [
        ((c / 25 * 5 - 1) ** 2).sum() / 5 for c in (np.pad(n, (0, 5 - len(n))) for n in counts)
    ]
    assert found[0] / found[1] == pytest.approx(divergence[0] / divergence[1], rel=0.3)
    assert found[[0, 1]].sum() > 0.9
    assert found.sum() == pytest.approx(1)


def test_around_a_design_only_what_matters_there_has_a_share():
    over = pool(CELL)

    def draw(designs):  # node a's input matters only if a is read
        on = np.array([d["a_to_out"] != "none" for d in designs])
        kind = np.array([CELL.decisions[0].options.index(d["input_to_a"]) for d in designs])
        return (on * (1 + kind))[None].astype(float)

    unread = next(d for d in over.designs if d["a_to_out"] == "none" and d["input_to_a"] == "skip")
    names, found = local_shares(over, unread, draw)
    assert names[int(found[0].argmax())] == "a_to_out"
    assert found[0].max() == pytest.approx(1)
    names, found = local_shares(over, edited(CELL, unread, "a_to_out", "skip"), draw)
    assert found[0, names.index("input_to_a")] > 0.5


def test_answers_are_intervals_of_draws_and_exact_for_one():
    draws = np.random.default_rng(0).normal(2, 1, 4000)
    said = answer(draws)
    assert said.estimate == pytest.approx(2, abs=0.1)
    assert (said.low, said.high) == pytest.approx((2 - 1.645, 2 + 1.645), abs=0.12)
    assert said.wrong == pytest.approx(0.0228, abs=0.01)
    assert answer(np.array([3.0])).low == 3.0
    assert answer(np.array([3.0])).wrong == 0
    assert answer(np.zeros(5)).wrong == 0.5


def test_more_claims_need_more_evidence_and_a_cap_allows_a_leaning_only():
    assert verdict(0.01, 1) == "asserts"
    assert verdict(0.01, 100) == "leans"
    assert verdict(0.01, 1, capped=True) == "leans"
    assert verdict(0.2, 1) == "open"


def claimed(values, probes):
    over = pool(CELL)
    place = {str(design): i for i, design in enumerate(over.designs)}

    def draw(designs):
        return values[:, [place[str(design)] for design in designs]]

    subject = (7, over.designs[11])
    return list(importance.claims(make, ACCURACY, over, draw, values, probes, subject))


def test_claims_name_every_decision_the_pairs_and_the_rest():
    over = pool(CELL)
    rng = np.random.default_rng(0)
    values = 3.0 * (over.codes[:, 1] == 3) + rng.normal(0, 0.05, (50, len(over.designs)))
    found = claimed(values, probes=40)
    whole = [c for c in found if c.kind == "importance" and c.family == "whole space"]
    assert whole[0].path == "input_to_out"
    assert whole[0].verdict == "asserts"
    assert whole[0].ci_low <= whole[0].estimate <= whole[0].ci_high
    assert {c.path for c in whole} == {None, *(d.name for d in CELL.decisions)}
    assert {c.family for c in found} == {"whole space", "top decile", "around trial 7"}
    assert all(0 <= c.estimate <= 1 and c.unit == "share" for c in found)
    assert all(c.verdict != "asserts" for c in claimed(values, probes=39))


def test_of_pure_noise_nothing_is_asserted():
    loud = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        values = rng.standard_normal((100, 250)) * rng.uniform(0.1, 2)
        loud += any(c.verdict == "asserts" for c in claimed(values, probes=40))
    assert loud <= 2


def test_costs_are_exact_single_draws():
    over = pool(CELL)
    values = np.array([[float(d["width"]) for d in over.designs]])
    width = next(c for c in claimed(values, 40) if c.path == "width")
    assert width.estimate == pytest.approx(1)
    assert width.ci_low == width.ci_high == pytest.approx(1)


def test_recurring_decisions_are_taken_together():
    over = pool(WIDE, most=400)
    values = np.random.default_rng(0).standard_normal((20, 400)) + over.codes[:, 2]
    found = list(importance.claims(make, ACCURACY, over, lambda d: values, values, 40))
    together = next(c for c in found if c.path == "*.kind")
    alone = [
        c.estimate
        for c in found
        if c.path
        and c.path.startswith("layer")
        and c.family == "whole space"
        and c.kind == "importance"
    ]
    assert together.estimate == pytest.approx(sum(alone), abs=0.05)

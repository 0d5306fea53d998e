"""Shapley values: exact where they can be, fair where they are sampled."""

import math
from datetime import UTC, datetime
from itertools import permutations, product

import numpy as np
import pytest

import search_spaces
from raynas.architecture import Decision
from raynas.explanation import attribution
from raynas.explanation.attribution import against, against_average
from raynas.explanation.claims import Claim
from raynas.explanation.pool import pool
from raynas.space import Space
from tests.spaces import CELL, TREE


def make(kind, tier, verdict, about, **rest):
    rest = {"metric": "accuracy", "unit": "1", **rest}
    return Claim("id", kind, tier, verdict, about, datetime.now(UTC), snapshot="s", **rest)


def table(space, seed, draws=3):
    """A random function of all designs of a space, as draws, and as something to ask."""
    over = pool(space)
    values = np.random.default_rng(seed).standard_normal((draws, len(over.designs)))
    place = {str(design): i for i, design in enumerate(over.designs)}
    return over, values, lambda designs: values[:, [place[str(d)] for d in designs]]


def average(space, draw, given):
    """The mean over complete assignments of all decisions, some of them given."""
    spans = [(given[d.name],) if d.name in given else d.options for d in space.decisions]
    made = []
    for options in product(*spans):
        chosen = dict(zip((d.name for d in space.decisions), options, strict=True))
        made.append(space.answer(lambda d, chosen=chosen: chosen[d.name]))
    return draw(made).mean(axis=1)


def by_orders(space, draw, design):
    """The definition: mean gains over all orders in which decisions are given."""
    names, known = list(design.options), {}

    def level(given):
        if given not in known:
            known[given] = average(space, draw, {n: design[n] for n in given})
        return known[given]

    gains = dict.fromkeys(names, 0.0)
    for order in permutations(names):
        for k, name in enumerate(order):
            step = level(frozenset(order[: k + 1])) - level(frozenset(order[:k]))
            gains[name] = gains[name] + step / math.factorial(len(names))
    return np.array([gains[n] for n in names]).T


@pytest.mark.parametrize("seed", range(3))
def test_a_small_grid_is_taken_apart_exactly(seed):
    over, values, draw = table(CELL, seed)
    design = over.designs[17 * (seed + 1)]
    found = against_average(over, design, draw, values)
    assert found.contributions == pytest.approx(by_orders(CELL, draw, design))
    assert found.reference == pytest.approx(values.mean(axis=1))
    assert found.design == pytest.approx(draw([design])[:, 0])


@pytest.mark.parametrize("space", [CELL, TREE], ids=["grid", "conditional"])
@pytest.mark.parametrize("seed", range(4))
def test_contributions_add_up_to_the_difference(space, seed):
    over, values, draw = table(space, seed)
    design = over.designs[-1 - seed]
    found = against_average(over, design, draw, values)
    assert found.names == tuple(n for n, _ in design.choices)
    gap = found.design - found.reference
    assert found.contributions.sum(axis=1) == pytest.approx(gap)
    assert found.reference == pytest.approx(over.mean(values))
    between = against(over, design, over.designs[3], draw)
    levels = draw([design, over.designs[3]])
    assert between.contributions.sum(axis=1) == pytest.approx(levels[:, 0] - levels[:, 1])


@pytest.mark.parametrize("seed", range(3))
def test_conditional_decisions_share_fairly_with_what_switches_them_on(seed):
    over, values, draw = table(TREE, seed, draws=2)
    design = max(over.designs, key=lambda d: len(d.choices))
    exact = by_orders(TREE, draw, design)
    found = against_average(over, design, draw, values)
    spread = np.abs(exact).mean()
    assert np.abs(found.contributions - exact).mean() < 0.15 * spread


def test_the_additive_part_is_exact_also_where_orders_are_sampled():
    space = Space(
        "wide", tuple(Decision(f"layer{i}.kind", ("a", "b", "c"), "kind") for i in range(14))
    )
    over = pool(space)
    worth = np.random.default_rng(0).standard_normal((14, 3))

    def draw(designs):
        codes = np.array([["abc".index(str(o)) for _, o in d.choices] for d in designs])
        return worth[np.arange(14), codes].sum(axis=1)[None] + 2.0 * (codes[:, :2] == 1).all(1)

    design = over.designs[0]
    design = space.architecture({**design.options, "layer0.kind": "b", "layer1.kind": "b"})
    found = against_average(over, design, draw, draw(over.designs))
    codes = np.array(["abc".index(str(o)) for _, o in design.choices])
    exact = worth[np.arange(14), codes] - worth.mean(axis=1)
    exact[:2] += 2.0 * (1 - 1 / 9) / 2  # the bonus for both is shared
    assert found.contributions[0] == pytest.approx(exact, abs=0.12)
    assert np.abs(found.contributions[0] - exact)[2:].max() < 0.08


def test_against_another_design_only_differences_take_part():
    over, _, draw = table(CELL, 0)
    a, b = over.designs[0], over.designs[1]
    found = against(over, a, b, draw)
    assert found.names == ("width",)
    assert found.contributions[:, 0] == pytest.approx(draw([a, b]) @ [1, -1])
    assert against(over, a, a, draw).names == ()


def test_many_differences_are_sampled_and_still_add_up():
    space = search_spaces.find("darts")
    over = pool(space, most=50)
    a, b = over.designs[0], over.designs[1]

    def draw(designs):
        return np.array([[float(len(str(d)) % 17) for d in designs]] * 2)

    found = against(over, a, b, draw)
    assert len(found.names) > 11
    assert found.contributions.sum(axis=1) == pytest.approx(found.design - found.reference)
    assert found.design == pytest.approx(draw([a])[:, 0])


@pytest.mark.parametrize("name", ["layered", "vit"])
def test_large_conditional_spaces_are_answered_with_few_designs(name):
    space = search_spaces.find(name)
    over = pool(space, most=400)
    asked = []

    def draw(designs):
        asked.append(len(designs))
        return np.array([[float(len(d.choices)) + len(str(d)) / 50 for d in designs]] * 3)

    design = over.designs[0]
    found = against_average(over, design, draw, draw(over.designs))
    assert found.contributions.sum(axis=1) == pytest.approx(found.design - found.reference)
    assert sum(asked[1:]) < 4000


def test_claims_say_what_each_decision_added_largest_first():
    over = pool(CELL)
    rng = np.random.default_rng(0)
    values = 2.0 * (over.codes[:, 1] == 3) + rng.normal(0, 0.01, (60, len(over.designs)))
    place = {str(design): i for i, design in enumerate(over.designs)}
    design = next(d for d in over.designs if d["input_to_out"] == "conv3x3")

    def draw(designs):
        return values[:, [place[str(d)] for d in designs]]

    found = list(attribution.claims(make, 5, design, against_average(over, design, draw, values)))
    assert len(found) == 4
    first = found[0]
    assert (first.path, first.chosen, first.alternative) == ("input_to_out", "conv3x3", "average")
    assert first.estimate == pytest.approx(1.6, abs=0.02)
    assert first.verdict == "asserts"
    assert first.family == "attribution of trial 5"
    assert first.side_effects["design"] == pytest.approx(2, abs=0.02)
    assert first.side_effects["reference"] == pytest.approx(0.4, abs=0.02)
    total = sum(c.estimate for c in found)
    assert total == pytest.approx(first.side_effects["design"] - first.side_effects["reference"])

"""What each decision of a design contributes over a reference: Shapley values, per draw.

Against the average design every other decision is drawn as in `Space.sample` (interventional: a
decision is given, not observed); against another design it is that one's. Contributions add up to
the difference of the two levels (efficiency, Shapley 1953). On a full grid they are exact, by
averages of subsets. In larger spaces the additive part of the surface is exact, and only what it
leaves is sampled, over orders of the decisions and their reverse (Mitchell et al. 2022,
arXiv:2104.12199).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np

from raynas.architecture import Architecture, Decision, Option, option_text
from raynas.explanation.claims import Claim
from raynas.explanation.importance import Additive, additive
from raynas.explanation.pool import Draw, Index, Make, Pool, answer, codes, verdict
from raynas.objective import Array

PLAYERS = 12  # decisions whose subsets are all gone through
DESIGNS = 3000  # that are asked for at most; half of it where each is a graph to be read


@dataclass(frozen=True)
class Attribution:
    """A design's level taken apart.

    Attributes:
        names: the decisions that take part.
        contributions: of each, in the metric's unit `[S, decisions]`.
        reference, design: levels; the contributions sum to their difference `[S]`.
        options: of the decisions that take part, all together.
    """

    names: tuple[str, ...]
    contributions: Array
    reference: Array
    design: Array
    options: int


def against_average(
    pool: Pool,
    design: Architecture,
    draw: Draw,
    draws: Array,
    model: Additive | None = None,
    seed: int = 0,
) -> Attribution:
    """Shapley values of a design against the average over the space.

    Args:
        draws: of the pool's designs `[S, M]`.
        model: `importance.additive(pool, draws)`, if it is there already.
    """
    if pool.grid is not None and len(pool.grid) <= PLAYERS:
        return _on_grid(pool, design, draws)
    return _sampled(pool, design, draw, model or additive(pool, draws), seed)


def against(pool: Pool, design: Architecture, other: Architecture, draw: Draw) -> Attribution:
    """Shapley values of a design against another one, over the decisions that both answer.

    What only one of them answers comes and goes with the decision that switches it on.
    """
    shared = [n for n, o in design.choices if n in other and other[n] != o]
    if 2 ** len(shared) <= DESIGNS:
        subsets = _subsets(len(shared))
        made = [
            _between(pool, design, other, frozenset(shared[i] for i in subset))
            for subset in subsets
        ]
        values = dict(zip(subsets, draw(made).T, strict=True))
        found = _shapley(len(shared), values)
        ends = values[()], values[subsets[-1]]
    else:
        orders = _orders(len(shared), DESIGNS // (len(shared) + 1), np.random.default_rng(0))
        walks = [
            _between(pool, design, other, frozenset(shared[i] for i in order[:k]))
            for order in orders
            for k in range(len(order) + 1)
        ]
        found, first, last = _along(draw(walks), orders)
        ends = first, last
    return Attribution(tuple(shared), found, ends[0], ends[1], _options(pool, shared))


def _on_grid(pool: Pool, design: Architecture, draws: Array) -> Attribution:
    assert pool.grid is not None
    values = draws.reshape(len(draws), *pool.grid)
    chosen = codes(pool.space, [design])[0]
    for axis, option in enumerate(chosen, start=1):  # each axis becomes: average, chosen
        values = np.stack([values.mean(axis=axis), values.take(option, axis=axis)], axis=axis)
    values = values.reshape(len(draws), -1)  # one column per subset, in binary
    subsets = _subsets(len(chosen))
    given = {
        subset: values[:, sum(2 ** (len(chosen) - 1 - j) for j in subset)] for subset in subsets
    }
    return Attribution(
        pool.names,
        _shapley(len(chosen), given),
        given[()],
        given[tuple(range(len(chosen)))],
        _options(pool, pool.names),
    )


def _subsets(players: int) -> list[tuple[int, ...]]:
    sizes = range(players + 1)
    return list(chain.from_iterable(combinations(range(players), size) for size in sizes))


def _shapley(players: int, values: dict[tuple[int, ...], Array]) -> Array:
    """Exact Shapley values `[S, players]` from the value of every subset."""
    first = values[()]
    found = np.zeros((len(first), players))
    for subset, value in values.items():
        size = len(subset)
        for player in range(players):
            if player in subset:
                weight = math.factorial(size - 1) * math.factorial(players - size)
                found[:, player] += value * (weight / math.factorial(players))
            else:
                weight = math.factorial(size) * math.factorial(players - size - 1)
                found[:, player] -= value * (weight / math.factorial(players))
    return found


def _sampled(
    pool: Pool, design: Architecture, draw: Draw, model: Additive, seed: int
) -> Attribution:
    names = tuple(n for n, _ in design.choices)
    rng = np.random.default_rng(seed)
    most = DESIGNS if pool.space.graphs is None else DESIGNS // 2
    orders = _orders(len(names), most // (len(names) + 1), rng)
    walks: list[Architecture] = []
    for i, order in enumerate(orders):
        if i % 2 == 0:  # an order and its reverse start at the same design
            start = {d.name: d.options[rng.integers(len(d.options))] for d in pool.space.decisions}
        for k in range(len(order) + 1):
            given = {names[j]: design[names[j]] for j in order[:k]}
            walks.append(_answered(pool, {**start, **given}))
    where = {str(a): a for a in walks}
    designs = list(where.values())
    values, coded = draw([*designs, design]), codes(pool.space, [*designs, design])
    left = values - model.of(coded)
    place = {text: i for i, text in enumerate(where)}
    found, *_ = _along(left[:, [place[str(a)] for a in walks]], orders)
    at = [pool.names.index(n) for n in names]
    found += _added(model, coded[-1])[:, at]
    level = values[:, -1]
    gap = level - model.level - found.sum(axis=1)
    size = np.abs(found).mean(axis=0)
    found += gap[:, None] * (size / max(size.sum(), 1e-300))
    return Attribution(names, found, model.level, level, _options(pool, names))


def _added(model: Additive, coded: Index) -> Array:
    """Exact Shapley values of a design in the additive model `[S, decisions]`.

    A conditional decision shares its effect with those that switch it on: before they are given,
    it is there only by chance.
    """
    decisions = model.pool.space.decisions
    place = {d.name: j for j, d in enumerate(decisions)}
    out = np.zeros((len(model.level), len(coded)))
    for j, option in enumerate(coded):
        if option < 0:
            continue
        players, chances, d = [j], [0.0], decisions[j]
        while d.when is not None:
            parent = model.pool.space.by_name[d.when[0]]
            players.append(place[parent.name])
            chances.append(len(d.when[1]) / len(parent.options))
            d = parent
        values = {
            subset: np.prod([[c] for i, c in enumerate(chances) if i not in subset] or [[1.0]], 0)
            for subset in _subsets(len(players))
        }
        parts = _shapley(len(players), values)[0]
        effect = model.effects[:, model.owner == j][:, int(option)]
        out[:, players] += effect[:, None] * parts
    return out


def _orders(players: int, walks: int, rng: np.random.Generator) -> list[list[int]]:
    """Random orders, each followed by its reverse."""
    made: list[list[int]] = []
    for _ in range(max(walks // 2, 1)):
        order = rng.permutation(players).tolist()
        made += [order, order[::-1]]
    return made


def _along(values: Array, orders: Sequence[Sequence[int]]) -> tuple[Array, Array, Array]:
    """Mean gains along walks `[S, players]`, and the mean levels at their two ends `[S]`."""
    players = len(orders[0])
    steps = values.reshape(len(values), len(orders), players + 1)
    gains = np.diff(steps, axis=2)
    found = np.zeros((len(values), players))
    for i, order in enumerate(orders):
        found[:, order] += gains[:, i] / len(orders)
    return found, steps[:, :, 0].mean(axis=1), steps[:, :, -1].mean(axis=1)


def _answered(pool: Pool, options: dict[str, Option]) -> Architecture:
    return pool.space.answer(lambda d: options[d.name])


def _options(pool: Pool, names: Sequence[str]) -> int:
    return sum(len(pool.space.by_name[name].options) for name in names)


def _between(
    pool: Pool, design: Architecture, other: Architecture, given: frozenset[str]
) -> Architecture:
    """The other design with the given decisions from this one."""

    def pick(d: Decision) -> Option:
        if d.name in design and (d.name in given or d.name not in other):
            return design[d.name]
        return other[d.name] if d.name in other else d.options[0]

    return pool.space.answer(pick)


def claims(
    make: Make, trial: int, design: Architecture, found: Attribution, reference: str = "average"
) -> Iterator[Claim]:
    """What each decision contributed, largest first.

    Args:
        reference: "average", or "trial N".
    """
    # A design is explained because it is good: as many options could have been credited.
    compared = max(found.options, len(found.names))
    order = np.argsort(-np.abs(found.contributions.mean(axis=0)), kind="stable")
    levels = {
        "reference": float(found.reference.mean()),
        "design": float(found.design.mean()),
    }
    for j in order:
        part = answer(found.contributions[:, j])
        name = found.names[j]
        yield make(
            "attribution",
            "estimated",
            verdict(part.wrong, compared),
            f"{name}={option_text(design[name])} against {reference}",
            trial=trial,
            path=name,
            chosen=option_text(design[name]),
            alternative=reference,
            family=f"attribution of trial {trial}",
            family_size=len(found.names),
            scope={"type": "design", "predicate": str(design), "n_in_scope": 1},
            side_effects=levels,
            method="Shapley values over draws of the response surface",
            **part.fields(),
        )

"""Designs that together have all parts of a space's networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations, product

import numpy as np

from raynas.architecture import Architecture, Decision, Option
from raynas.costs import costs_of
from raynas.space import Shape, Space
from raynas.supernet.slots import Bare


def extremes(
    space: Space, input_shape: Shape, num_classes: int
) -> tuple[Architecture, Architecture]:
    """The costliest and the cheapest options together, by parameters, then FLOPs.

    Decisions of the same name in different layers are judged by one of them.
    """
    largest: dict[str, Option] = {d.name: d.options[-1] for d in space.decisions}
    ranked: dict[tuple[str, tuple[Option, ...]], list[Option]] = {}

    def design(d: Decision, option: Option) -> Architecture:
        fixed = {**largest, **_enabling(space, d), d.name: option}
        return space.answer(lambda d: fixed[d.name])

    def params(d: Decision, option: Option) -> float:
        assert space.build is not None, "only a space that builds networks has weights"
        with Bare():
            network = space.build(design(d, option), input_shape, num_classes)
        return sum(p.numel() for p in network.parameters())

    def flops(d: Decision, option: Option) -> float:
        return costs_of(space, design(d, option), input_shape, num_classes)["flops"]

    for d in space.decisions:
        if (d.leaf, d.options) not in ranked:
            ends = [d.options[0], d.options[-1]] if d.ordered else list(d.options)
            costs = {option: (params(d, option), 0.0) for option in ends}
            if len(set(costs.values())) < len(ends):
                costs = {o: (known, flops(d, o)) for o, (known, _) in costs.items()}
            ranked[d.leaf, d.options] = sorted(ends, key=lambda o: costs[o])
        largest[d.name] = ranked[d.leaf, d.options][-1]
    return (
        space.answer(lambda d: ranked[d.leaf, d.options][-1]),
        space.answer(lambda d: ranked[d.leaf, d.options][0]),
    )


def _enabling(space: Space, d: Decision) -> dict[str, Option]:
    """Options of other decisions by which this one is active."""
    found: dict[str, Option] = {}
    while d.when is not None:
        parent, options = d.when
        d = space.by_name[parent]
        found[d.name] = next(o for o in reversed(d.options) if o in options)
    return found


def cover(
    space: Space,
    largest: Architecture,
    smallest: Architecture,
    rng: np.random.Generator,
    visit: Callable[[Architecture], bool],
) -> None:
    """Visits designs that together have all parts of the space's networks.

    Any two options of one layer's decisions meet in one of them, in each layer, with the largest
    options of ordered decisions elsewhere and other ones at random; so do options of decisions
    that others depend on, in different layers. Where decisions of a layer have the same options,
    they are also answered alike, as equal parts may stand side by side. Each design is visited a
    second time with the largest options of all ordered decisions on which no other depends.

    Args:
        visit: whether the design counts: one with parts left out may not show what it should.
    """
    wanted = [fixed for fixed in _combinations(space) if fixed]
    wanted = [wanted[i] for i in rng.permutation(len(wanted))]
    biggest = {d.name: largest.options.get(d.name, d.options[-1]) for d in space.decisions}
    inner = {d.name for d in space.decisions if d.ordered} - parents(space)
    visit(largest)
    visit(smallest)
    spare = len(wanted)
    while wanted:
        chosen: dict[str, Option] = {}
        left: list[dict[str, Option]] = []
        used: list[dict[str, Option]] = []
        for fixed in wanted:
            fits = all(chosen.get(name, option) == option for name, option in fixed.items())
            (used if fits else left).append(fixed)
            if fits:
                chosen |= fixed
        for d in space.decisions:
            free = biggest[d.name] if d.ordered else d.options[rng.integers(len(d.options))]
            chosen.setdefault(d.name, free)
        design = space.answer(lambda d, chosen=chosen: chosen[d.name])  # type: ignore[misc]
        counts = visit(design)
        swelled = chosen | {name: biggest[name] for name in inner}
        if inner:
            visit(space.answer(lambda d, swelled=swelled: swelled[d.name]))  # type: ignore[misc]
        wanted = left
        if not counts and spare:
            wanted, spare = left + used, spare - 1


def parents(space: Space) -> set[str]:
    return {d.when[0] for d in space.decisions if d.when}


def _combinations(space: Space) -> Iterator[dict[str, Option]]:
    structural = parents(space)
    together: dict[str, list[Decision]] = {}
    for d in space.decisions:
        together.setdefault(d.layer, []).append(d)
    pairs = [pair for layer in together.values() for pair in combinations(layer, 2)]
    pairs += combinations([d for d in space.decisions if d.name in structural], 2)
    alone = [(d,) for d in space.decisions]
    for group in (*alone, *pairs):
        for options in product(*(d.options for d in group)):
            yield _active(space, dict(zip((d.name for d in group), options, strict=True)))
    for layer in together.values():
        alike: dict[tuple[Option, ...], list[str]] = {}
        for d in layer:
            alike.setdefault(d.options, []).append(d.name)
        for one, other in combinations((names for names in alike.values() if names[1:]), 2):
            first, second = (space.by_name[names[0]].options for names in (one, other))
            for a, b in product(first, second):
                yield _active(space, dict.fromkeys(one, a) | dict.fromkeys(other, b))


def _active(space: Space, fixed: dict[str, Option]) -> dict[str, Option]:
    """The options, with those that make them active; empty if they exclude each other."""
    whole = dict(fixed)
    for name in fixed:
        d = space.by_name[name]
        while d.when is not None:
            parent, options = d.when
            d = space.by_name[parent]
            if parent not in whole:
                whole[parent] = next(o for o in reversed(d.options) if o in options)
            elif whole[parent] not in options:
                return {}
    return whole

"""How much each option matters in the designs tried: contrasts, averaged over them.

An effect is the mean change of the metric when a decision is set to one option instead of
another in designs of the archive, the rest as it is: what the search's own designs owe to the
option. (What holds over the whole space is a principle, see `raynas.explanation.principles`.)
Decisions that recur in many layers are also set in all of them at once, as `*.kernel_size`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from raynas.architecture import Architecture, Decision, Option, option_text
from raynas.explanation.claims import Claim
from raynas.explanation.making import Maker
from raynas.explanation.surface import Surface
from raynas.objective import Array, Objective
from raynas.space import Space

SHOWN = 24  # designs of the archive that stand for all
MOST = 5_000  # changed designs that the surface is asked for; beyond, fewer of the archive


@dataclass(frozen=True)
class Question:
    """One decision, or `*.leaf` for a family of decisions, to be set in designs."""

    path: str
    decisions: tuple[Decision, ...]

    @property
    def options(self) -> tuple[Option, ...]:
        return self.decisions[0].options

    def concerns(self, design: Architecture) -> bool:
        return any(d.name in design.options for d in self.decisions)


def questions(space: Space) -> tuple[list[Question], list[Question]]:
    """(about the whole design: decisions of their own and families, about single layers)."""
    families: dict[tuple[str, tuple[Option, ...]], list[Decision]] = {}
    for d in space.decisions:
        if len(d.options) > 1:
            families.setdefault((d.leaf, d.options), []).append(d)
    whole, single = [], []
    for (leaf, _), ds in families.items():
        if len(ds) == 1:
            whole.append(Question(ds[0].name, (ds[0],)))
        else:
            whole.append(Question(f"*.{leaf}", tuple(ds)))
            single += [Question(d.name, (d,)) for d in ds]
    return whole, single


def effects(
    make: Maker, space: Space, surface: Surface, read: pd.DataFrame, objective: Objective
) -> list[Claim]:
    """For every decision and pair of its options that were tried: the mean change, clearest first.

    Args:
        read: the trials that the surface was fitted to.
    """
    tried = [space.parse(text) for text in dict.fromkeys(read["architecture"].map(str))]
    claims: list[Claim] = []
    for family, asked in zip(("whole design", "single layers"), questions(space), strict=True):
        size = sum(len(q.options) * (len(q.options) - 1) // 2 for q in asked)
        shown = min(SHOWN, max(6, MOST // max(1, sum(len(q.options) for q in asked))))
        for q, levels, count in _levels(space, surface, asked, tried, shown):
            claims += _pairs(make, q, levels, count, family, size, read, objective)
    return sorted(claims, key=lambda c: (c.lfsr or 0.0, -abs(c.estimate or 0.0)))


def _levels(
    space: Space,
    surface: Surface,
    asked: Sequence[Question],
    tried: Sequence[Architecture],
    shown: int,
) -> Iterator[tuple[Question, Array, int]]:
    """Per question: draws of the mean under each option `[DRAWS, options]`, and of how many."""
    designs: list[Architecture] = []
    places: list[tuple[Question, int]] = []
    for q in asked:
        where = _evenly([a for a in tried if q.concerns(a)], shown)
        designs += [set_to(space, a, q, option) for option in q.options for a in where]
        places.append((q, len(where)))
    draws, at = surface.draws(designs), 0
    for q, count in places:
        if count:
            block = draws[:, at : at + count * len(q.options)]
            yield q, block.reshape(len(draws), len(q.options), count).mean(axis=2), count
        at += count * len(q.options)


def set_to(space: Space, design: Architecture, q: Question, option: Option) -> Architecture:
    """The design with the decision (in all layers) at an option; new parts are as the others are.

    What becomes active takes the option of a like decision of the design, in turn.
    """
    names = {d.name for d in q.decisions}
    alike: dict[str, list[Option]] = {}
    for name, value in design.choices:
        alike.setdefault(space.by_name[name].leaf, []).append(value)
    turn: dict[str, int] = {}

    def pick(d: Decision) -> Option:
        if d.name in names:
            return option
        if d.name in design.options:
            return design[d.name]
        values = [v for v in alike.get(d.leaf, []) if v in d.options]
        if not values:
            return d.options[0]
        turn[d.leaf] = turn.get(d.leaf, -1) + 1
        return values[turn[d.leaf] % len(values)]

    return space.answer(pick)


def _pairs(
    make: Maker,
    q: Question,
    levels: Array,
    count: int,
    family: str,
    size: int,
    read: pd.DataFrame,
    objective: Objective,
) -> Iterator[Claim]:
    named = [f"d.{d.name}" for d in q.decisions if f"d.{d.name}" in read]
    having = {o: (read[named] == o).any(axis=1) for o in q.options}
    for (j, b), (i, a) in combinations(enumerate(q.options), 2):
        if not (having[a].any() and having[b].any()):
            continue
        change = levels[:, i] - levels[:, j]
        better, worse = a, b
        if objective.loss(float(change.mean())) > 0:  # name the better option first
            better, worse, change = b, a, -change
        yield make.estimated(
            "effect",
            change,
            family,
            size,
            about=f"{q.path}={option_text(better)} instead of {option_text(worse)}",
            path=q.path,
            chosen=option_text(better),
            alternative=option_text(worse),
            n_direct=int((having[a] | having[b]).sum()),
            scope={
                "type": "archive",
                "predicate": "designs tried in which the decision is active",
                "n_in_scope": count,
            },
        )


def _evenly(designs: Sequence[Architecture], most: int) -> list[Architecture]:
    few = np.unique(np.linspace(0, len(designs) - 1, min(most, len(designs))).round().astype(int))
    return [designs[i] for i in few] if len(designs) else []

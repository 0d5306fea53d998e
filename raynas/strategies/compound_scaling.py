"""Compound scaling (Tan & Le 2019, arXiv:1905.11946, section 3.3): the best growth of depth, width
and resolution is sought by growing a network once; larger ones follow from it without a search.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from raynas.architecture import Architecture, Option
from raynas.errors import UserError
from raynas.objective import Objective
from raynas.recipe import USUAL
from raynas.space import Space
from raynas.strategies.base import Seen, SpaceExhausted
from raynas.strategies.comparable import comparable_losses
from raynas.trial import Candidate, Proposal, Reason, Trial

SCALE, DEPTH, WIDTH = "scale", "depth_growth", "width_growth"
RULE = 2.0  # alpha * beta^2 * gamma^2: FLOPs per step of scale
NEAR = 0.1  # a growth that comes so close to the rule by itself leaves nothing to the others
SAID = 3  # growths that are logged as turned away


class Growth(NamedTuple):
    """How many times more blocks and channels a step of scale gives; pixels take what is left."""

    depth: float  # alpha
    width: float  # beta

    @property
    def alone(self) -> str:
        """The dimension that grows alone: `depth`, `width` or `resolution`; '' if several do."""
        if self == (1.0, 1.0):
            return "resolution"
        if self.width == 1.0 and abs(self.depth / RULE - 1) <= NEAR:
            return "depth"
        if self.depth == 1.0 and abs(self.width**2 / RULE - 1) <= NEAR:
            return "width"
        return ""

    @property
    def compound(self) -> bool:
        """Whether several dimensions grow and none shrinks."""
        return not self.alone and min(self) >= 1.0 and self.depth * self.width**2 <= RULE

    def __str__(self) -> str:
        return f"depth x{self.depth:g} and width x{self.width:g} per step"


class Step(NamedTuple):
    """A design of the plan, why it is there, and the design that it is made from."""

    design: Architecture
    note: str
    parent: Architecture | None = None


def growth_of(options: Mapping[str, Option]) -> Growth:
    """What the decisions of a design say of its growth."""
    return Growth(*(float(options.get(name, 1.0)) for name in (DEPTH, WIDTH)))


@dataclass
class CompoundScaling:
    """Grows a base design by a grid of growths once, then by the best of them further.

    The space asks three things in numbers: `scale` (phi: how many times the FLOPs double),
    `depth_growth` (alpha) and `width_growth` (beta); the resolution grows by what the rule
    alpha * beta^2 * gamma^2 = 2 leaves, which the space sees to. Other decisions stay as they are
    in the first design of the search. In this order: the base (scale 0); at scale 1 a grid of
    growths of several dimensions; the family of the best at every larger scale; the same scales by
    growing one dimension alone, for comparison. While the grid is still running these come first.
    What is left of the budget goes to growths between those of the grid, then to the families of
    the others, best first.

    The first objective decides. All of a grid have about the same FLOPs, but for rounding, which
    is coarse in small networks: nothing corrects for it here, reports draw the real FLOPs. Where
    we depart: a grid of options that the space has; the paper's took fine steps.

    Attributes:
        trials: how many the search may make, if known: the grid is coarser where they are few.
        largest: the largest scale of the family.
        grid: the most growths to compare: every option of depth and of width that the space has,
            or every second, third and so on.
    """

    space: Space
    objectives: tuple[Objective, ...]
    trials: int | None = None
    largest: float = 3.0
    grid: int = 12
    _told: dict[str, Trial] = field(default_factory=dict, init=False)  # by identity
    _seen: Seen = field(init=False)

    def __post_init__(self) -> None:
        _check(self.space)
        if self.largest <= 1 or self.grid < 1:
            raise UserError(
                "compound_scaling: expected largest above 1 and grid of 1 or more; got "
                f"largest={self.largest:g}, grid={self.grid}."
            )
        self._seen = Seen(self.space)

    def ask(self, rng: np.random.Generator, pending: Sequence[Architecture]) -> Proposal:
        del rng  # nothing is left to chance
        running = {self.space.identity(a) for a in pending}
        first = next(iter(self._told.values()), None)
        rest = first.architecture if first else next(iter(pending), None)
        twins: list[Candidate] = []
        for step in self._plan(Designs(self.space, rest), running):
            number = self._seen.number(step.design)
            if number is not None:
                known = self._told[self.space.identity(step.design)].architecture
                if known != step.design:
                    cause = f"duplicate of trial {number}: rounding makes them one network"
                    twins.append(Candidate(str(step.design), None, cause))
            elif self.space.identity(step.design) not in running:
                return Proposal(step.design, self._reason(step), (*self._others(step), *twins[-2:]))
        raise SpaceExhausted(
            f"all designs of the space {self.space.name!r} that scaling makes of this base have "
            "been tried. Begin another search with another base: --start-from."
        )

    def tell(self, trial: Trial) -> None:
        identity = self._seen.add(trial)
        if trial.status != "lost" and (identity not in self._told or trial.usable):
            self._told[identity] = trial

    def _plan(self, designs: Designs, running: set[str]) -> Iterator[Step]:
        """All steps in order, those done included."""
        base = designs.at(0.0)
        yield Step(base, "the base design, which is not scaled")
        further = [s for s in designs.scales if 1 < s <= self.largest]
        grid = self._grid(designs, 1 + len(further))
        for growth in grid:
            note = f"one of {len(grid)} growths with about twice the base's FLOPs: {growth}"
            yield Step(designs.at(1.0, growth), note, base)

        def family() -> Iterator[Step]:
            for growth in self._ranked(designs, grid)[:1]:
                yield from self._family(
                    designs, growth, further, f"the best of {len(grid)} growths"
                )

        def alone() -> Iterator[Step]:
            for scale in (1.0, *further):
                for growth in designs.growths:
                    if growth.alone:
                        note = f"scale {scale:g} by {growth.alone} alone, to compare with"
                        yield Step(designs.at(scale, growth), note, base)

        # While the best is not known, workers do what does not depend on it.
        waiting = any(self.space.identity(designs.at(1.0, g)) in running for g in grid)
        for part in (alone, family) if waiting else (family, alone):
            yield from part()
        between = [g for g in designs.growths if g.compound]
        for growth in between:
            note = f"a growth between those of the grid: {growth}"
            yield Step(designs.at(1.0, growth), note, base)
        for place, growth in enumerate(self._ranked(designs, between), 1):
            yield from self._family(designs, growth, further, f"growth {place} of {len(between)}")
        left = [s for s in designs.scales if s not in (0.0, 1.0, *further)]
        for scale in (*left, 1.0, *further):
            for growth in (*self._ranked(designs, between), *designs.growths):
                note = f"scale {scale:g}, which is left after the family: {growth}"
                yield Step(designs.at(scale, growth), note, base)

    def _grid(self, designs: Designs, others: int) -> list[Growth]:
        """The growths to compare, so few that the budget leaves room for the family."""
        compound = [growth for growth in designs.growths if growth.compound]
        depths, widths = (sorted({growth[i] for growth in compound}) for i in (0, 1))
        most = self.grid if self.trials is None else min(self.grid, self.trials - others)
        for every in range(1, max(len(depths), len(widths)) + 1):
            taken = (depths[::every], widths[::every])
            grid = [g for g in compound if g.depth in taken[0] and g.width in taken[1]]
            if 0 < len(grid) <= most:
                return grid
        return compound[:1]

    def _family(
        self, designs: Designs, growth: Growth, scales: Sequence[float], place: str
    ) -> Iterator[Step]:
        parent = designs.at(1.0, growth)
        for scale in scales:
            note = f"scale {scale:g} of the family of {place} ({growth})"
            yield Step(designs.at(scale, growth), note, parent)

    def _ranked(self, designs: Designs, growths: Sequence[Growth]) -> list[Growth]:
        """By what they reached at scale 1; those without a reading last."""
        found = [self._told.get(self.space.identity(designs.at(1.0, g))) for g in growths]
        usable = [(g, t) for g, t in zip(growths, found, strict=True) if t and t.usable]
        rest = [g for g, t in zip(growths, found, strict=True) if not (t and t.usable)]
        if not usable:
            return rest
        losses = comparable_losses([t for _, t in usable], self.objectives[:1])[:, 0]
        return [usable[i][0] for i in np.argsort(losses, kind="stable")] + rest

    def _reason(self, step: Step) -> Reason:
        parent = step.parent and self._told.get(self.space.identity(step.parent))
        if not parent:
            return Reason("scaling", step.note)
        note = f"{step.note}, from trial {parent.number}"
        return Reason.child("scaling", note, parent, step.design)

    def _others(self, step: Step) -> Iterator[Candidate]:
        """For a member of a family: the same scale of other growths, which were not the best."""
        if step.parent is None or float(step.parent[SCALE]) != 1.0:
            return
        designs, objective = Designs(self.space, step.design), self.objectives[0]
        own = growth_of(step.design.options)
        others = self._ranked(designs, [g for g in designs.growths if g.compound and g != own])
        for growth in others[:SAID]:
            trial = self._told.get(self.space.identity(designs.at(1.0, growth)))
            if trial and objective.name in trial.metrics:
                design = designs.at(float(step.design[SCALE]), growth)
                cause = f"another growth than that of the family, see trial {trial.number}"
                yield Candidate(str(design), float(trial.metrics[objective.name]), cause)


@dataclass
class Designs:
    """The designs that scaling makes of one base: all that is not scaled is the same.

    Attributes:
        base: any of them; None: each other decision has its usual or its first option.
    """

    space: Space
    base: Architecture | None

    def at(self, scale: float, growth: Growth | None = None) -> Architecture:
        """The base, or the design that a growth makes of it at a scale."""
        wanted: dict[str, Option] = dict(self.base.options) if self.base else dict(USUAL)
        wanted |= {SCALE: scale} | ({DEPTH: growth.depth, WIDTH: growth.width} if growth else {})
        return self.space.answer(
            lambda d: next((o for o in d.options if o == wanted.get(d.name)), d.options[0])
        )

    @cached_property
    def scales(self) -> list[float]:
        """All that the space has, the base's among them."""
        return [float(scale) for scale in self.space.by_name[SCALE].options]

    @cached_property
    def growths(self) -> list[Growth]:
        """Those that can be chosen, each once."""
        asked = [self.space.by_name[name].options for name in (DEPTH, WIDTH)]
        pairs = [Growth(float(a), float(b)) for a in asked[0] for b in asked[1]]
        return list(dict.fromkeys(growth_of(self.at(1.0, pair).options) for pair in pairs))


def _check(space: Space) -> None:
    """Raises UserError if the space does not say how its designs are scaled."""
    for name in (SCALE, DEPTH, WIDTH):
        options = space.by_name[name].options if name in space.by_name else ()
        if any(not isinstance(o, int | float) for o in options) or not options:
            raise UserError(
                "the strategy compound_scaling: expected a space with the decisions scale, "
                f"depth_growth and width_growth, each a number; got {space.name!r}, without "
                f"{name}. Take --space compound_scaling, or give these to a space of your own as "
                "search_spaces/compound_scaling.py does. If a wish took it away, undo that."
            )
    if not {0, 1} <= set(space.by_name[SCALE].options):
        raise UserError(
            f"{space.name}.scale: expected 0 (the base) and 1 among its options; got "
            f"{', '.join(str(o) for o in space.by_name[SCALE].options)}. If a wish took them "
            "away, undo that."
        )

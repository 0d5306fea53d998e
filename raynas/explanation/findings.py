"""What can be said of a run: trials in, claims out.

One response surface (`readings`, `surface`) answers every question about designs; what the log
records and what dedicated trials measured stands beside it. Where designs are scored, with shared
weights or by a proxy, the surface is that of the score: only it is known of many designs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from raynas.architecture import Architecture
from raynas.explanation import (
    advice,
    attribution,
    audit,
    collapse,
    confirmation,
    contrasts,
    designs,
    effects,
    importance,
    motifs,
    predictions,
    principles,
    provenance,
    ranking,
    scaling,
    scorecard,
    steering,
    suggestions,
)
from raynas.explanation.claims import Claim, snapshot
from raynas.explanation.contrasts import Costs
from raynas.explanation.making import Maker
from raynas.explanation.pool import Pool, pool
from raynas.explanation.readings import Readings, readings
from raynas.explanation.surface import Surface
from raynas.explanation.wording import SHARES
from raynas.front import front_of
from raynas.history import History, of_info
from raynas.objective import Array, Objective
from raynas.run import RunInfo

MOST_IDS = 10_000  # beyond, a claim names its trials by the snapshot only


@dataclass
class Findings:
    """Makes claims from a run.

    Args:
        info: the run's problem and space.
        trials: `raynas.load(RUN).trials`.
        choices: `raynas.load(RUN).choices`, if something decided while shared weights trained.
        proposals: `raynas.load(RUN).proposals`, which hold what was predicted and considered.
        audited: claims as they were before their audit, if there was one.
        costs: exact costs of any design; None leaves out what an edit saves.
        history: what was said and what held before (`raynas.history`); None takes the info's.
    """

    info: RunInfo
    trials: pd.DataFrame
    choices: pd.DataFrame | None = None
    proposals: pd.DataFrame | None = None
    audited: pd.DataFrame | None = None
    costs: Costs | None = None
    history: History | None = None
    front: pd.DataFrame = field(init=False)
    read: Readings = field(init=False)
    make: Maker = field(init=False)

    def __post_init__(self) -> None:
        self.front = front_of(self.trials, self.info)
        taken = snapshot(self.trials)
        self.trials = self.trials[self.trials["purpose"] != "supernet"]  # which is no design
        usable = self.trials[self.trials["status"].isin(["finished", "stopped_early"])]
        if self.info.screening:
            usable = usable[usable["purpose"] == "search"]
        self.read = readings(usable, self._objective, self.info.space)
        rows = self.read.rows
        self.make = Maker(
            self._objective,
            self.info.data.get("name"),
            taken,
            None if self.info.screening else float(self.read.fidelity),
            rows["number"].to_list() if len(rows) <= MOST_IDS else [],
            len(rows),
        )

    @property
    def _objective(self) -> Objective:
        """What effects are effects on."""
        return self.info.searched[0]

    @cached_property
    def surface(self) -> Surface | None:
        """The posterior over the metric of every design; None below eight readings."""
        classes = self.info.data.get("num_classes") if self._objective.name == "accuracy" else None
        bounds = (0.0, 1.0) if self._objective.name in SHARES else (-math.inf, math.inf)
        return self.read.surface(self.info.space, None if classes is None else 1 / classes, bounds)

    @cached_property
    def pool(self) -> Pool:
        """The designs over which questions about the whole space are asked: those that are left,
        where people have narrowed it."""
        return pool(self.info.allowed)

    def _around(self, design: Architecture) -> tuple[Pool, Array]:
        """The designs that one is compared with, and what is believed of them: those of what is
        left if it is one of them, otherwise of all that was ever possible."""
        if self.surface is None or self.info.allowed.holds(design):
            return self.pool, self._pooled
        everything = pool(self.info.space)
        return everything, self.surface.draws(everything.designs)

    @cached_property
    def _pooled(self) -> Array:
        assert self.surface is not None
        return self.surface.draws(self.pool.designs)

    def all(self, trial: int | None, layer_costs: designs.LayerCosts = ()) -> list[Claim]:
        """Every claim about the run as a whole and about one design, most telling first."""
        claims = [*self._recorded(trial), *self.marginal_effects(), *self._of_space(trial)]
        if trial is not None:
            claims += designs.shares(self.make, trial, layer_costs)
            claims += self._of_design(trial)
        return claims

    def _recorded(self, trial: int | None) -> Iterator[Claim]:
        """What trials measured and the log says."""
        if len(self.front):
            yield designs.performance(self.make, self.front, self.trials, self.info)
            yield from confirmation.claims(self.make, self.front, self.trials, self.info)
            own = self.surface is not None and self._objective == self.info.objectives[0]
            noise = self.surface.noise if own and self.surface is not None else None
            yield from designs.trade_offs(self.make, self.front, self.info, noise)
        yield from self._of_feedback()
        yield from ranking.claims(self.make, self.trials, self.info)
        if self.audited is not None:
            yield from audit.claims(self.make, self.trials, self.audited)
        if self.choices is not None and len(self.choices):
            yield from collapse.claims(self.make, self.choices)
            yield from provenance.beliefs(self.make, self.choices)
        if self.proposals is not None:
            given = (self.make, self.trials, self.proposals, self.info)
            yield from predictions.claims(*given)
            yield from provenance.claims(*given, trial)
        yield from scaling.claims(self.make, self.trials, self.info)

    def _of_feedback(self) -> Iterator[Claim]:
        """What came of what people said."""
        history = of_info(self.info) if self.history is None else self.history
        said = [turn for turn, _ in history]
        if not said:
            return
        yield from suggestions.claims(self.make, self.info, self.trials, said)
        yield from steering.claims(self.make, self.info, self.trials, history)

    def marginal_effects(self) -> list[Claim]:
        """For every decision and pair of its options: the mean change over the designs tried."""
        if self.surface is None:
            return []
        given = (self.info.space, self.surface, self.read.rows, self._objective)
        return effects.effects(self.make, *given)

    def contrasts(self, trial: int) -> list[Claim]:
        """For every decision of a design: what each alternative option would have changed."""
        given = (self.info.space, self.surface, self.trials, self.read.rows, trial, self.costs)
        found = contrasts.contrasts(self.make, *given)
        return found if self.audited is None else audit.judged(found, self.trials, self.audited)

    def _of_space(self, trial: int | None) -> Iterator[Claim]:
        """What holds over all designs: importance, principles, motifs, compact forms."""
        if self.surface is None or len(self.pool.designs) < 2:
            return
        make, objective, draws = self.make, self._objective, self._pooled
        probes = self._probes()
        number = 0 if probes is None else len(probes.designs)
        design = None if trial is None else (trial, self.design(trial))
        if design is not None and not self.info.allowed.holds(design[1]):
            design = None
        draw = self.surface.draws
        yield from importance.claims(make, objective, self.pool, draw, draws, number, design)
        if probes is not None:
            given = (self.pool, probes, draws, self._human)
            yield from principles.claims(make, objective, *given)
        few = number < principles.NEEDED
        yield from motifs.claims(make, objective, self.pool, draws, few)
        yield from scorecard.claims(make, objective, self.pool, self._human, draw, draws)

    def _of_design(self, trial: int) -> Iterator[Claim]:
        """Why a design is as it is, and what to change of it."""
        yield from self.contrasts(trial)
        if self.surface is None:
            return
        make, design, draw = self.make, self.design(trial), self.surface.draws
        around, pooled = self._around(design)
        parts = attribution.against_average(around, design, draw, pooled)
        yield from attribution.claims(make, trial, design, parts)
        space, objective = self.info.space, self._objective
        left = self.info.allowed if self.info.allowed.holds(design) else space
        found = advice.edits(left, design, draw, self.costs)
        tried = {space.identity(Architecture.parse(text)) for text in self.trials["architecture"]}
        yield from advice.claims(make, objective, space, trial, found, tried)

    def between(self, trial: int, other: int) -> list[Claim]:
        """What each decision contributes to the difference of two trials' designs."""
        if self.surface is None:
            return []
        designs_ = self.design(trial), self.design(other)
        inside = all(map(self.info.allowed.holds, designs_))
        around = self.pool if inside else pool(self.info.space)
        parts = attribution.against(around, *designs_, self.surface.draws)
        return list(attribution.claims(self.make, trial, designs_[0], parts, f"trial {other}"))

    def _human(self, found: Sequence[Architecture]) -> tuple[list[str], Array]:
        assert self.surface is not None
        return self.surface.described.human(found)

    def _probes(self) -> principles.Probes | None:
        """The designs drawn uniformly, with what the surface says of each without its reading."""
        assert self.surface is not None
        rows = self.read.rows
        drawn = (rows["purpose"] == "uniform_probe").to_numpy()
        if self.info.now.left:  # what is drawn from all is drawn from what is left, if it is there
            inside = [self.info.allowed.holds(d) for d in self.read.designs]
            drawn = drawn & np.array(inside, dtype=bool)
        drawn = drawn & (rows["number"] >= self.info.widened_at).to_numpy()
        if self.info.screening or not drawn.any():
            return None
        read = self.read.designs
        designs_ = [design for design, probe in zip(read, drawn, strict=True) if probe]
        values, alone = rows["value"].to_numpy()[drawn], principles.left_out(self.surface, designs_)
        named = self.surface.described.rows

        def identity(design: Architecture) -> str:
            return named([design])[0].identity

        return principles.probes(self.pool, designs_, values, alone, read, identity)

    def design(self, trial: int) -> Architecture:
        """The design of a trial."""
        return Architecture.parse(str(self.trials.set_index("number").loc[trial, "architecture"]))

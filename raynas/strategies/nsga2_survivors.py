"""The designs that live in NSGA-II: who they are after each result, at little cost.

All that live and the newcomer are ranked as `fitness` ranks them, and the worst leave. Done anew
for each of 100,000 results, that takes minutes when a search is resumed. But most newcomers are
the last of all, which can be told without ranking the others. Who lives is the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from raynas.objective import Array, Constraint, Objective, Ranks, losses
from raynas.strategies.compared import Compared
from raynas.trial import Trial

Fitness = tuple[Ranks, Array]  # rank and room, see `Compared.fitness`


@dataclass
class Survivors:
    """At most `population` trials, or as many as `front` while none of them dominates another."""

    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    population: int
    front: int
    _alive: Compared = field(init=False)
    _judged: Fitness | None = field(default=None, init=False)  # before the last of them left
    _alone: Fitness | None = field(default=None, init=False)  # of those alive and nobody else

    def __post_init__(self) -> None:
        self._alive = Compared(self.objectives, self.constraints)

    @property
    def trials(self) -> list[Trial]:
        """Who lives, in the order in which they came."""
        return self._alive.trials

    @property
    def fitness(self) -> Fitness:
        """Rank and room of each, as they were when the latest had come and nobody had left."""
        return self._judged or self._now()

    def add(self, trial: Trial) -> None:
        """Lets a trial in, and those leave that have no place any more."""
        if len(self.trials) >= self.population and self._comes_last(trial):
            self._judged = None
            return
        self._alive.add(trial)
        self._judged = self._alone = None
        if len(self.trials) <= self.population:
            return
        rank, room = self._alive.fitness()
        most = self._most(rank, room)
        if len(self.trials) <= most:
            self._alone = rank, room
            return
        kept = np.sort(np.lexsort((-room, rank))[:most])
        self._alive.keep(kept)
        self._judged = rank[kept], room[kept]

    def _now(self) -> Fitness:
        if self._alone is None:
            self._alone = self._alive.fitness()
        return self._alone

    def _most(self, rank: Ranks, room: Array) -> int:
        """How many may live."""
        spread = int((room[rank == 0] > 0).sum())  # of equals, two count
        return min(max(self.population, spread), self.front)

    def _comes_last(self, trial: Trial) -> bool:
        """Whether a newcomer would leave at once, with nothing changed for the others."""
        alive = self._alive
        if beyond := alive.beyond_of(trial):
            last = beyond >= alive.beyond.max()
        elif trial.status == "finished" and alive.plain:
            rank, point = self._now()[0], np.array(losses(self.objectives, trial.metrics))
            worst = alive.last[rank == rank.max()]
            last = ((worst <= point).all(axis=1) & (worst < point).any(axis=1)).any()
        else:  # whoever was stopped is placed by all others, and so each moves them
            return False
        return bool(last) and len(self.trials) == self._most(*self._now())

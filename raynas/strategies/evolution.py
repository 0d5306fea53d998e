"""Regularized (aging) evolution (Real et al. 2019, arXiv:1802.01548, Algorithm 1)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from raynas.architecture import Architecture
from raynas.objective import Objective, losses, ranks
from raynas.space import Space
from raynas.strategies.base import Seen
from raynas.trial import Proposal, Reason, Trial


@dataclass
class RegularizedEvolution:
    """Mutates the best of a random few; the oldest die, not the worst.

    Several objectives: the fitness is the rank of non-dominated sorting within the living
    population (Deb et al. 2002); equals are decided by lot.

    Attributes:
        population: how many of the latest trials are alive (P in the paper); until so many have
            results, designs are drawn at random.
        tournament: how many of them compete to be the parent (S in the paper).
        edits: up to how many mutations make a child (1 in the paper); a second or third is made
            with probability 1/4 each, so that spaces of many decisions are crossed in time.
    """

    space: Space
    objectives: tuple[Objective, ...]
    population: int = 10
    tournament: int = 3
    edits: int = 3
    _alive: deque[Trial] = field(init=False)
    _seen: Seen = field(init=False)

    def __post_init__(self) -> None:
        self._alive = deque(maxlen=self.population)
        self._seen = Seen(self.space)

    def ask(self, rng: np.random.Generator, pending: Sequence[Architecture]) -> Proposal:
        if len(self._alive) + len(pending) < self.population or len(self._alive) < self.tournament:
            drawn, rejected = self._seen.first_new(lambda: self.space.sample(rng), pending)
            note = f"drawn at random: the population of {self.population} is not yet complete"
            return Proposal(drawn or self._seen.any_new(pending), Reason("random", note), rejected)
        parent, rank = self._parent(rng)
        drawn, rejected = self._seen.first_new(lambda: self._child(parent, rng), pending)
        if drawn is None:
            note = "drawn anew: all children of the parent have been tried"
            return Proposal(self._seen.any_new(pending), Reason("random", note), rejected)
        note = (
            f"mutates trial {parent.number}, the best of {self.tournament} drawn from the latest "
            f"{len(self._alive)} (front {rank} of the population)"
        )
        reason = Reason.child("mutation", note, parent, drawn)
        return Proposal(drawn, reason, rejected)

    def tell(self, trial: Trial) -> None:
        self._seen.add(trial)
        if trial.usable:
            self._alive.append(trial)

    def _parent(self, rng: np.random.Generator) -> tuple[Trial, int]:
        rank = ranks(np.array([losses(self.objectives, t.metrics) for t in self._alive]))
        rivals = rng.choice(len(self._alive), size=self.tournament, replace=False)
        best = min(rivals, key=lambda i: rank[i])  # rivals come in random order: lots are drawn
        return self._alive[best], int(rank[best])

    def _child(self, parent: Trial, rng: np.random.Generator) -> Architecture:
        child = self.space.mutate(parent.architecture, rng)
        for _ in range(self.edits - 1):
            if rng.random() < 0.25:
                child = self.space.mutate(child, rng)
        return child

"""Regularized (aging) evolution (Real et al. 2019, arXiv:1802.01548, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from raynas.architecture import Architecture, changes
from raynas.objective import Constraint, Objective, Ranks
from raynas.space import Space
from raynas.strategies.base import Seen
from raynas.strategies.comparable import fitness
from raynas.trial import Proposal, Reason, Trial


@dataclass
class RegularizedEvolution:
    """Mutates the best of a random few; the oldest die, not the worst.

    Several objectives: the fitness is the rank of non-dominated sorting within the living
    population (Deb et al. 2002); equals are decided by lot. Trials that were stopped early are
    compared at the epoch that they reached (`comparable_losses`). What breaks a constraint ranks
    behind all that keep them.

    The paper's is `evolution:population=10,tournament=3,edits=1` (with its own sizes); the
    textbook's with elitism `evolution:population=50,tournament=5,crossover=0.5,generational=true`.

    Attributes:
        population: how many of the latest trials are alive (P in the paper); until so many have
            results, designs are drawn at random.
        tournament: how many of them compete to be the parent (S in the paper).
        edits: up to how many mutations make a child (1 in the paper); a second or third is made
            with probability 1/4 each, so that spaces of many decisions are crossed in time.
        crossover: the share of children that are combined of two parents before they are mutated
            (none in the paper).
        generational: whether all are replaced at once, when enough children have results, and
            not the oldest by each result. Nobody waits: until then, those alive have more.
        elite: how many of the best live on when a generation is replaced.
    """

    space: Space
    objectives: tuple[Objective, ...]
    population: int = 10
    tournament: int = 3
    edits: int = 3
    crossover: float = 0.0
    generational: bool = False
    elite: int = 2
    constraints: tuple[Constraint, ...] = ()
    _alive: list[Trial] = field(default_factory=list, init=False)
    _children: list[Trial] = field(default_factory=list, init=False)  # of the next generation
    _seen: Seen = field(init=False)

    def __post_init__(self) -> None:
        self._seen = Seen(self.space)

    def ask(self, rng: np.random.Generator, pending: Sequence[Architecture]) -> Proposal:
        if self._filling(len(pending)):
            note = f"drawn at random: the population of {self.population} is not yet complete"
            return self._seen.random(rng, pending, note)
        rank = self._ranks()
        parent = self._winner(rank, rng)
        other = parent
        if self.crossover > 0 and rng.random() < self.crossover:
            other = self._winner(rank, rng)
        trials = [self._alive[i] for i in dict.fromkeys((parent, other))]
        drawn, rejected = self._seen.first_new(lambda: self._child(trials, rng), pending)
        if drawn is None:
            note = "drawn anew: all children of the parent have been tried"
            return self._seen.random(rng, pending, note)
        return Proposal(drawn, self._reason(trials, int(rank[parent]), drawn), rejected)

    def tell(self, trial: Trial) -> None:
        self._seen.add(trial)
        if not trial.usable:
            return
        if not self.generational:
            self._alive = [*self._alive, trial][-self.population :]
            return
        self._children.append(trial)
        if len(self._children) >= self.population - (self.elite if self._alive else 0):
            best = np.argsort(self._ranks(), kind="stable")[: self.elite] if self._alive else ()
            self._alive = [*(self._alive[i] for i in best), *self._children]
            self._children = []

    def _filling(self, running: int) -> bool:
        if len(self._alive) < min(self.tournament, self.population):
            return True
        return not self.generational and len(self._alive) + running < self.population

    def _ranks(self) -> Ranks:
        return fitness(self._alive, self.objectives, self.constraints)[0]

    def _winner(self, rank: Ranks, rng: np.random.Generator) -> int:
        size = min(self.tournament, len(self._alive))
        rivals = rng.choice(len(self._alive), size=size, replace=False)
        return int(min(rivals, key=lambda i: rank[i]))  # in random order: lots are drawn

    def _child(self, parents: Sequence[Trial], rng: np.random.Generator) -> Architecture:
        child = parents[0].architecture
        if len(parents) > 1:
            child = self.space.crossover(child, parents[1].architecture, rng)
        child = self.space.mutate(child, rng)
        for _ in range(self.edits - 1):
            if rng.random() < 0.25:
                child = self.space.mutate(child, rng)
        return child

    def _reason(self, parents: Sequence[Trial], rank: int, drawn: Architecture) -> Reason:
        first, *others = parents
        best = f"the best of {self.tournament} drawn from"
        alive = f"the {'' if self.generational else 'latest '}{len(self._alive)}"
        where = f"{best} {alive} (front {rank} of the population)"
        if not others:
            return Reason.child("mutation", f"mutates trial {first.number}, {where}", first, drawn)
        note = f"combines trials {first.number}, {where}, and {others[0].number}, then mutates"
        numbers = (first.number, others[0].number)
        return Reason("crossover", note, numbers, changes(first.architecture, drawn))

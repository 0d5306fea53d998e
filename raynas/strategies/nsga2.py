"""Multi-objective evolution: NSGA-II (Deb et al. 2002), one trial at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from raynas.architecture import Architecture, changes
from raynas.objective import Constraint, Objective
from raynas.space import Space
from raynas.strategies.base import Seen
from raynas.strategies.comparable import allowed
from raynas.strategies.nsga2_survivors import Survivors
from raynas.trial import Proposal, Reason, Trial

MORE = 0.25  # the probability of each further edit of a mutation
PATIENCE = 20  # children in a row that had been tried, after which one more edit is made of each


@dataclass
class NSGA2:
    """Keeps what nothing dominates, spread out; children of two, chosen by binary tournaments.

    Fitness is the non-dominated rank, then the room around a design (crowding distance). What
    breaks a constraint ranks behind all that keep them, the further beyond the further behind
    (constraint domination); designs that were refused before training count by what is known of
    them. With one objective this is evolution that keeps the best. Trials that were stopped
    early are compared at the epoch that they reached (`comparable_losses`).

    Where we depart from the paper: every result takes part in selection as soon as it arrives
    (steady state), so that no worker waits; the population is small, and grows with its front.

    Attributes:
        population: how many designs live.
        front: how many may live if none of them dominates another.
        start: how many results there must be before designs have parents.
        crossover: the share of children with two parents.
        mutation: the share of those that are mutated as well; all others always are.
    """

    space: Space
    objectives: tuple[Objective, ...]
    population: int = 20
    front: int = 100
    start: int = 20
    crossover: float = 0.9
    mutation: float = 1.0
    constraints: tuple[Constraint, ...] = ()
    _survivors: Survivors = field(init=False)
    _seen: Seen = field(init=False)

    def __post_init__(self) -> None:
        given = (self.objectives, self.constraints, self.population, self.front)
        self._survivors = Survivors(*given)
        self._seen = Seen(self.space)

    def ask(self, rng: np.random.Generator, pending: Sequence[Architecture]) -> Proposal:
        alive = self._survivors.trials
        if not alive or len(alive) + len(pending) < self.start:
            note = f"drawn at random: fewer than {self.start} designs were tried"
            return self._seen.random(rng, pending, note)
        parents: tuple[int, ...] = ()
        draws = 0

        def draw() -> Architecture:
            nonlocal parents, draws
            parents, child = self._child(rng, draws // PATIENCE)
            draws += 1
            return child

        drawn, rejected = self._seen.first_new(draw, pending)
        if drawn is None:
            note = "drawn at random: a hundred children in a row had been tried"
            return self._seen.random(rng, pending, note)
        trials = [alive[i] for i in parents]
        told = " and ".join(f"trial {alive[i].number} ({self._place(i)})" for i in parents)
        kind, verb = ("crossover", "combines") if len(parents) > 1 else ("mutation", "mutates")
        changed = changes(trials[0].architecture, drawn)
        reason = Reason(
            kind,  # type: ignore[arg-type]  # one of two literals
            f"{verb} {told}",
            tuple(t.number for t in trials),
            changed,
        )
        return Proposal(drawn, reason, rejected)

    def tell(self, trial: Trial) -> None:
        self._seen.add(trial)
        if trial.usable or trial.status == "infeasible":
            self._survivors.add(trial)

    def _child(self, rng: np.random.Generator, extra: int) -> tuple[tuple[int, ...], Architecture]:
        """Places of the parents among those alive, and a child of theirs with extra edits."""
        alive = self._survivors.trials
        a, b = self._winner(rng), self._winner(rng)
        child = alive[a].architecture
        crossed = a != b and rng.random() < self.crossover
        if crossed:
            child = self.space.crossover(child, alive[b].architecture, rng)
        if not crossed or rng.random() < self.mutation:
            child = self.space.mutate(child, rng)
            while rng.random() < MORE:
                child = self.space.mutate(child, rng)
        for _ in range(extra):
            child = self.space.mutate(child, rng)
        return ((a, b) if crossed else (a,)), child

    def _winner(self, rng: np.random.Generator) -> int:
        rank, room = self._survivors.fitness
        a, b = (int(i) for i in rng.integers(len(rank), size=2))
        return min(a, b, key=lambda i: (rank[i], -room[i]))

    def _place(self, i: int) -> str:
        if not allowed(self._survivors.trials[i], self.constraints):
            return "breaks a constraint"
        return f"front {self._survivors.fitness[0][i]}"

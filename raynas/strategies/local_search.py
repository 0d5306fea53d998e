"""Local search (White et al. 2020, arXiv:2005.02960): hill climbing with restarts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from raynas.architecture import Architecture, Option
from raynas.objective import Array, Constraint, Objective, crowding
from raynas.space import Space
from raynas.strategies.base import Seen
from raynas.strategies.compared import Compared
from raynas.trial import Proposal, Reason, Trial

KEPT = 100  # members of a climb's front; more would cost time and hardly be visited


@dataclass
class Place:
    """A trial that a climb may go on from.

    Attributes:
        tried: which of its edits are known to lead nowhere new; only ever grows, so that it is
            a memory of work done and no state.
    """

    trial: Trial
    space: Space
    tried: set[int] = field(default_factory=set)

    @cached_property
    def edits(self) -> tuple[tuple[str, Option], ...]:
        """Every (decision, other option)."""
        return tuple(self.space.edits(self.trial.architecture))

    @property
    def exhausted(self) -> bool:
        return len(self.tried) == len(self.edits)


@dataclass(eq=False)
class Climb:
    """A start, or some, and what was reached from there by better neighbours.

    Attributes:
        number: 1 for the first.
        front: what nothing in the climb dominates (one place for one objective), oldest first.
        starts: how many of its trials were no neighbours.
        last: where its latest neighbour came from.
    """

    number: int
    compared: Compared  # the trials of the front
    front: list[Place] = field(default_factory=list)
    starts: int = 0
    last: Place | None = None

    def add(self, place: Place) -> bool:
        """Moves to the place if nothing in the front is as good; says whether it did.

        Of two the better one is less far beyond the constraints, if either is at all.
        """
        compared, own = self.compared, len(self.front)
        compared.add(place.trial)
        beyond, finished = compared.beyond, np.isinf(compared.epochs[:-1])
        same, less = beyond[:-1] == beyond[-1], beyond[:-1] < beyond[-1]
        # Who finished keeps its losses, whoever comes: mostly, one of those is as good.
        ahead = finished & (compared.last[:-1] <= compared.newest()).all(axis=1)
        points = None if (less | same & ahead).any() else compared.comparable()
        if points is None or (same & (points[:-1] <= points[-1]).all(axis=1)).any():
            compared.take_back()
            return False
        new, old = points[-1], points[:-1]
        stays = np.flatnonzero(same & ~(new <= old).all(axis=1)).tolist()
        self._keep([*self.front, place], [*stays, own])
        if len(self.front) > KEPT:
            least = int(np.argmin(self.room()))
            self._keep(self.front, [i for i in range(len(self.front)) if i != least])
        return True

    def room(self) -> Array:
        """Crowding distance of each of the front."""
        return crowding(self.compared.comparable())

    def _keep(self, front: Sequence[Place], kept: Sequence[int]) -> None:
        self.front = [front[i] for i in kept]
        self.compared.keep(kept)


@dataclass
class LocalSearch:
    """Tries the neighbours of the best in random order, and moves as soon as one is better.

    A neighbour differs in one decision (`Space.neighbours`); neighbours are made one by one, so
    that large spaces cost no more. Where all are known, the climb is over and the next one begins
    a few edits from the best of all. Workers share the neighbours of one climb; when all of them
    are running, the next begins.

    Several objectives: a climb holds its Pareto front, and goes on from the design with the most
    room (crowding distance) in a random half of it; it is over when all neighbours of the front
    are known. So the front is searched as a whole: no weights, no reference point.

    A trial that was stopped early is compared at the epoch that it reached
    (`comparable_losses`); it never takes the place of a finished one.

    Attributes:
        starts: random designs before the first climb, which begins with the best of them (1 in
            the paper).
        kick: how many edits of the best begin a new climb; 0: at random, with `starts` designs
            (as in the paper).
        first: whether to move on the first improvement, or (False) to the best neighbour after
            all were tried.
    """

    space: Space
    objectives: tuple[Objective, ...]
    starts: int = 10
    kick: int = 2
    first: bool = True
    constraints: tuple[Constraint, ...] = ()
    # The latest climb, and before it those that may go on: like `Place.tried`, a memory of work.
    _climbs: list[Climb] = field(default_factory=list, init=False)
    _of: dict[int, tuple[Climb, Place]] = field(default_factory=dict, init=False)  # where moved to
    _best: Climb = field(init=False)  # of all climbs
    _seen: Seen = field(init=False)

    def __post_init__(self) -> None:
        self._seen = Seen(self.space)
        self._best = self._climb(0)

    def ask(self, rng: np.random.Generator, pending: Sequence[Architecture]) -> Proposal:
        running = {self.space.identity(a) for a in pending}
        salt = int(rng.integers(2**32))  # so that skipping what is exhausted shifts no draw
        self._climbs = [c for c in self._climbs if c is self._climbs[-1] or not self._over(c)]
        for climb in self._climbs:
            waits = climb is self._climbs[-1] and climb.last is None
            if waits and climb.starts + len(pending) < self._wanted(climb):
                break
            for place in self._order(climb, salt):
                if (found := self._neighbour(place, salt, running)) is not None:
                    note = (
                        f"a neighbour of trial {place.trial.number}, "
                        f"{'the best' if len(self.objectives) == 1 else 'on the front'} "
                        f"of climb {climb.number}"
                    )
                    return Proposal(found, Reason.child("neighbour", note, place.trial, found))
        return self._start(rng, pending)

    def tell(self, trial: Trial) -> None:
        self._seen.add(trial)
        place = Place(trial, self.space)
        reason = trial.reason
        climb, parent = None, None
        if reason is not None and reason.kind == "neighbour" and reason.parents:
            climb, parent = self._of.get(reason.parents[0], (None, None))
        if climb is not None:
            climb.last = parent
            if climb not in self._climbs:  # it was over, but for this late one
                self._climbs = sorted([*self._climbs, climb], key=lambda c: c.number)
        if not trial.usable:
            return
        if climb is None:
            if not self._climbs or self._climbs[-1].last is not None:
                self._climbs.append(self._climb(self._climbs[-1].number + 1 if self._climbs else 1))
            climb = self._climbs[-1]
            climb.starts += 1
        if climb.add(place):
            self._of[trial.number] = climb, place
        self._best.add(place)

    def _climb(self, number: int) -> Climb:
        return Climb(number, Compared(self.objectives, self.constraints))

    def _wanted(self, climb: Climb) -> int:
        return 1 if self.kick and climb.number > 1 else self.starts

    def _over(self, climb: Climb) -> bool:
        """Whether all neighbours are known."""
        further = not self.first and climb.last is not None and not climb.last.exhausted
        return not further and all(place.exhausted for place in climb.front)

    def _order(self, climb: Climb, salt: int) -> Iterator[Place]:
        """The places to go on from, best first."""
        if not self.first and climb.last is not None and not climb.last.exhausted:
            yield climb.last
        front = climb.front
        if all(place.exhausted for place in front):
            return
        if len(front) > 1:
            order = np.random.default_rng((salt, len(front))).permutation(len(front))
            half = -(-len(front) // 2)
            room = climb.room()
            sought = sorted(order[:half], key=lambda i: -room[i])
            front = [front[i] for i in (*sought, *order[half:])]
        yield from front

    def _neighbour(self, place: Place, salt: int, running: set[str]) -> Architecture | None:
        """A neighbour that was neither told nor is running, if there is one."""
        if place.exhausted:
            return None
        rng = np.random.default_rng((salt, place.trial.number))
        order = rng.permutation(len(place.edits))  # of all, whatever is remembered
        for i in order.tolist():
            if i in place.tried:
                continue
            other = self.space.neighbour(place.trial.architecture, *place.edits[i])
            if other is None or self._seen.number(other) is not None:
                place.tried.add(i)
            elif self.space.identity(other) not in running:
                return other
        return None

    def _start(self, rng: np.random.Generator, pending: Sequence[Architecture]) -> Proposal:
        """A design to begin a climb with."""
        latest = self._climbs[-1] if self._climbs else self._climb(0)
        if self.kick and (latest.number > 1 or latest.last is not None):
            front = self._best.front
            origin = front[rng.integers(len(front))].trial

            def kicked() -> Architecture:
                architecture = origin.architecture
                for _ in range(self.kick):
                    architecture = self.space.mutate(architecture, rng)
                return architecture

            drawn, rejected = self._seen.first_new(kicked, pending)
            if drawn is not None:
                note = f"begins a new climb {self.kick} edits from trial {origin.number}"
                reason = Reason.child("mutation", note, origin, drawn)
                return Proposal(drawn, reason, rejected)
        return self._seen.random(rng, pending, "drawn at random: a climb may begin here")

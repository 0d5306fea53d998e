"""A few trials that are compared again and again, with what they are compared by at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from raynas.objective import Array, Constraint, Objective, Ranks, losses
from raynas.strategies.comparable import allowed, comparable_losses, ranked
from raynas.strategies.standing import excess, reading_at
from raynas.trial import Trial

ROOM = 16  # rows to begin with


@dataclass
class Compared:
    """Says of some trials what `comparable_losses` and `fitness` say of them, to the last bit.

    These look into every trial each time; here that is done once, when it comes.

    Attributes:
        trials: in the order in which they came.
        stops: epochs at which some of them were stopped early.
    """

    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    trials: list[Trial] = field(default_factory=list, init=False)
    stops: list[int] = field(default_factory=list, init=False)
    _losses: Array = field(init=False)  # `[room, 1 + stops, M]`: the last ones, then at each stop
    _marks: Array = field(init=False)  # `[room, 2]`: epoch, beyond

    def __post_init__(self) -> None:
        self._losses = np.empty((ROOM, 1, len(self.objectives)))
        self._marks = np.empty((ROOM, 2))

    @property
    def last(self) -> Array:
        """Final losses `[N, M]`; NaN where there is no such reading."""
        return self._losses[: len(self.trials), 0]

    @property
    def epochs(self) -> Array:
        """At which each was stopped early `[N]`; inf if it was not."""
        return self._marks[: len(self.trials), 0]

    @property
    def beyond(self) -> Array:
        """How far each is beyond the constraints, as a share of the bounds `[N]`.

        0 if it keeps all, inf if it does not and nothing says how far it is.
        """
        return self._marks[: len(self.trials), 1]

    @property
    def plain(self) -> bool:
        """Whether final losses are all that counts."""
        return not self.stops and not self.beyond.any()

    def beyond_of(self, trial: Trial) -> float:
        """What `beyond` would say of it."""
        if allowed(trial, self.constraints):
            return 0.0
        return excess(trial, self.constraints) or np.inf

    def add(self, trial: Trial) -> None:
        """Takes in one more."""
        if len(self.trials) == len(self._marks):
            self._losses = np.concatenate([self._losses, np.empty_like(self._losses)])
            self._marks = np.concatenate([self._marks, np.empty_like(self._marks)])
        stopped = trial.status == "stopped_early"
        if stopped and trial.fidelity not in self.stops:
            self._begin(trial.fidelity)
        place = len(self.trials)
        self._marks[place] = trial.fidelity if stopped else np.inf, self.beyond_of(trial)
        self._losses[place] = [self._readings(trial, stop) for stop in (np.inf, *self.stops)]
        self.trials.append(trial)

    def keep(self, places: Sequence[int] | Ranks) -> None:
        """Leaves those at some places, in this order."""
        self.trials = [self.trials[i] for i in places]
        for rows in (self._losses, self._marks):
            rows[: len(places)] = rows[np.asarray(places, dtype=np.int64)]
        self._end()

    def take_back(self) -> None:
        """Leaves the latest out again."""
        self.trials.pop()
        self._end()

    def fitness(self) -> tuple[Ranks, Array]:
        """Rank (0 is best) and room of each."""
        keep = self.beyond == 0
        if keep.all():
            return ranked(keep, self.comparable(), np.zeros(0, dtype=np.int64))
        behind = np.unique(self.beyond[~keep], return_inverse=True)[1]
        kept = Compared(self.objectives, self.constraints)
        for i in np.flatnonzero(keep):  # rarely, and soon no more
            kept.add(self.trials[i])
        return ranked(keep, kept.comparable(), behind)

    def comparable(self) -> Array:
        """The losses `[N, M]` by which they are compared, whatever constraints they break."""
        last, epochs = self.last, self.epochs
        finished = np.isinf(epochs)
        if finished.all():
            return last.copy()
        if np.isnan(last).any():  # nothing without such a reading should come here
            return comparable_losses(self.trials, self.objectives)
        place = np.empty_like(last)
        for i, stop in enumerate(self.stops, 1):
            own = epochs == stop
            there = self._losses[: len(last), i][epochs >= stop]
            place[own] = _places(there, last[own], len(last))
        if not finished.any():
            return -place
        points, stopped = last.copy(), ~finished
        points[stopped] = np.nextafter(_quantiles(last[finished], 1 - place[stopped]), np.inf)
        return points

    def newest(self) -> Array:
        """What `comparable` says of the latest `[M]`, at less cost."""
        last, epochs = self.last, self.epochs
        finished, own = np.isinf(epochs), epochs[-1]
        if finished[-1]:
            return np.asarray(last[-1])
        if not finished.any() or np.isnan(last).any():
            return np.asarray(self.comparable()[-1])
        there = self._losses[: len(last), 1 + self.stops.index(int(own))][epochs >= own]
        place = _places(there, last[-1:], len(last))
        return np.asarray(np.nextafter(_quantiles(last[finished], 1 - place), np.inf)[0])

    def _end(self) -> None:
        """Forgets epochs at which nobody was stopped any more."""
        there = set(self.epochs.tolist())
        if not there.issuperset(self.stops):
            stays = [stop in there for stop in self.stops]
            self.stops = [stop for stop in self.stops if stop in there]
            self._losses = self._losses[:, [True, *stays]]

    def _begin(self, stop: int) -> None:
        """Looks up where all that came were at an epoch."""
        there = np.empty((len(self._losses), 1, len(self.objectives)))
        for row, trial in zip(there, self.trials, strict=False):
            row[0] = self._readings(trial, stop)
        self._losses = np.concatenate([self._losses, there], axis=1)
        self.stops.append(stop)

    def _readings(self, trial: Trial, epoch: float) -> Sequence[float]:
        reading = reading_at(trial, epoch)
        if all(o.name in reading for o in self.objectives):
            return losses(self.objectives, reading)
        return [o.loss(reading.get(o.name, np.nan)) for o in self.objectives]


def _places(there: Array, own: Array, count: int) -> Array:
    """Where those stopped at an epoch stand among so many, objective by objective (`standings`).

    Args:
        there: losses `[T, M]` at that epoch of all that reached it; NaN without a reading.
        own: losses `[K, M]` of those that were stopped there.
    """
    others = (~np.isnan(there)).sum(axis=0) - 1
    behind = (there > own[:, None]).sum(axis=1)
    equal = (there == own[:, None]).sum(axis=1)
    beaten = np.where(others > 0, (behind + (equal - 1) / 2) / np.maximum(others, 1), 1.0)
    return np.asarray((1 - len(there) / count * (1 - beaten)) * count / count)  # rounded likewise


def _quantiles(values: Array, shares: Array) -> Array:
    """What `np.quantile` says of each column of `[N, M]` at its own shares `[K, M]`."""
    ordered, columns = np.sort(values, axis=0), np.arange(values.shape[1])
    place = (len(values) - 1) * np.clip(shares, 0, 1)
    below = place.astype(np.int64)
    low, high = ordered[below, columns], ordered[np.minimum(below + 1, len(values) - 1), columns]
    share, width = place - below, high - low
    return np.where(share >= 0.5, high - width * (1 - share), low + width * share)

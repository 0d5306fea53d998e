"""Predictor-guided search: fit, rank many designs, evaluate the most promising, refit.

A Gaussian process on decisions, live paths and structure (as in NAS-BOWL, Ru et al. 2021,
arXiv:2006.07556, with other features) and expected improvement; for several objectives one
process each and the expected gain of dominated volume.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from raynas.architecture import Architecture
from raynas.objective import Array, Constraint, Mask, Objective, losses
from raynas.space import Space
from raynas.strategies.acquisition import (
    Scale,
    conditioned,
    expected_improvement,
    expected_volume,
    finished_losses,
    normal_scores,
)
from raynas.strategies.base import Seen
from raynas.strategies.candidates import BEST, Made, Pool, Told, chosen, joined, representative
from raynas.strategies.gaussian import GaussianProcess, Theta, fitted, most_probable
from raynas.trial import Proposal, Reason, Trial

MOST = 300  # trials that a process learns from
CHILDREN, STRANGERS, SECOND = 200, 100, 100  # candidates where a space is too large to go through
PARTS = 10  # weights and noise are found anew when a tenth of the trials is new


@dataclass(frozen=True)
class Data:
    """What processes learn from: places of all trials `[count]`, features and values of some."""

    places: Array
    features: Array
    values: tuple[Array, ...]
    scales: tuple[Scale, ...]


@dataclass(frozen=True)
class State:
    """What was learned from the first trials: one process per objective, and a pool.

    Attributes:
        count: how many trials those were.
        scales: from losses to what the processes learned; empty for one objective.
        front: losses that nothing dominates; worst: of any trial, per objective.
        stalled: for how many trials nothing better has come.
    """

    count: int
    pool: Pool
    processes: tuple[GaussianProcess, ...]
    scales: tuple[Scale, ...]
    front: tuple[tuple[float, ...], ...]
    worst: tuple[float, ...]
    stalled: int

    @cached_property
    def projected(self) -> tuple[Array, ...]:
        """The pool's designs, per process."""
        return tuple(p.project(self.pool.features) for p in self.processes)

    @cached_property
    def best(self) -> float:
        """The best mean of a told design."""
        process = self.processes[0]
        return float(process.predict(process.project(process.features))[0].max())

    def predict(self, running: Array) -> tuple[Array, Array]:
        """Means and deviations `[M, pool]`, as if running designs `[R, D]` met their means."""
        means, deviations = [], []
        for process, projected in zip(self.processes, self.projected, strict=True):
            mean, deviation = process.predict(projected)
            means.append(mean)
            deviations.append(
                conditioned(process, self.pool.features, projected, deviation, running)
                if len(running)
                else deviation
            )
        return np.array(means), np.array(deviations)


@dataclass
class Predictor:
    """Proposes what a Gaussian process expects to improve most.

    One objective: the process learns the trials' places among each other as normal scores, so
    units and outliers do not matter; the acquisition is expected improvement over the best mean.
    Several: each has its process (of the loss, on a scale that is logarithmic away from the
    best), and the acquisition is the expected gain of dominated volume. Its reference point is
    the worst of the front so far and a tenth of its range, or (half of the time, by lot)
    twice the range of all trials: the front becomes dense and long (see `expected_volume`).

    Trials stopped early are placed among those that reached the same epoch (`standings`); with
    several objectives they are given the finished losses of the same place. What failed is never
    proposed again; what broke a constraint is placed last. Running designs are taken to meet
    their predictions, so that others are proposed beside them.

    Attributes:
        initial: how many designs are drawn at random first.
        patience: after so many trials without a better one, every second proposal is drawn from
            the posterior (Thompson sampling), so that a wrong model cannot hold the search.
    """

    space: Space
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    initial: int = 8
    patience: int = 25
    _told: Told = field(init=False)
    _seen: Seen = field(init=False)
    _state: State | None = field(init=False, default=None)
    _theta: tuple[int, tuple[Theta, ...]] = field(init=False, default=(-1, ()))

    def __post_init__(self) -> None:
        self._told = Told(self.space, self.objectives, self.constraints)
        self._seen = Seen(self.space)

    def tell(self, trial: Trial) -> None:
        self._seen.add(trial)
        self._told.add(trial)

    def ask(self, rng: np.random.Generator, pending: Sequence[Architecture]) -> Proposal:
        told = self._told
        if told.usable < 2 or told.usable + len(pending) < self.initial:
            note = f"drawn at random: the first {self.initial} are"
            return self._random(rng, pending, note)
        state = self._learned()
        if state is None:
            return self._random(rng, pending, "drawn at random: too few trials had readings")
        taken = [*told.identities, *(self.space.identity(a) for a in pending)]
        free = state.pool.free(taken)
        if not free.any():
            return self._random(rng, pending, "drawn anew: all candidates have been tried")
        since = [t.architecture for t in told.trials[state.count :] if t.usable]
        running = [*since, *pending]
        mean, deviation = state.predict(told.features(running) if running else np.zeros((0, 0)))
        what, acquisition = self._acquisition(state, mean, deviation, free, rng)
        return chosen(state.pool, mean[0], deviation[0], acquisition, what, state.count)

    def _acquisition(
        self,
        state: State,
        mean: Array,
        deviation: Array,
        free: Mask,
        rng: np.random.Generator,
    ) -> tuple[str, Array]:
        """What counts in words, and its value for each design of the pool."""
        if state.stalled >= self.patience and rng.random() < 0.5:
            drawn = mean + deviation * rng.standard_normal(mean.shape)
            weights = rng.dirichlet(np.ones(len(mean)))
            return "draw from the posterior", np.where(free, weights @ drawn, -np.inf)
        if len(mean) == 1:
            gain = expected_improvement(mean[0], deviation[0], state.best)
            return "expected improvement", np.where(free, gain, -np.inf)
        gain = self._volume(state, mean, deviation, free, rng)
        return "expected gain of dominated volume", gain

    def _random(
        self, rng: np.random.Generator, pending: Sequence[Architecture], note: str
    ) -> Proposal:
        drawn, rejected = self._seen.first_new(lambda: self.space.sample(rng), pending)
        return Proposal(drawn or self._seen.any_new(pending), Reason("random", note), rejected)

    def _learned(self) -> State | None:
        """The state at the start of the present window; a function of the trials before it."""
        count = self._told.window()
        if self._state is None or self._state.count != count:
            self._state = self._learn(count)
        return self._state

    def _learn(self, count: int) -> State | None:
        told = self._told
        data = self._data(count)
        if data is None:
            return None
        since = count - count % max(1, count // PARTS)
        if self._theta[0] != since:  # weights and noise are found anew
            earlier = data if since == count else self._data(since) or data
            blocks = told.describe.blocks
            found = tuple(most_probable(earlier.features, v, blocks) for v in earlier.values)
            self._theta = since, found
        processes = tuple(
            fitted(data.features, v, told.describe.blocks, theta)
            for v, theta in zip(data.values, self._theta[1], strict=True)
        )
        best = told.front(count)
        front = tuple(losses(self.objectives, told.trials[i].metrics) for i in best)
        read = [losses(self.objectives, t.metrics) for t in told.trials[:count] if t.usable]
        worst = tuple(max(column) for column in zip(*read, strict=True))
        first = dict(zip(reversed(front), reversed(best), strict=True))
        stalled = count - 1 - max(first.values(), default=0)  # equals of old ones are no news
        if (pool := told.everything) is None:
            rng = np.random.default_rng((count, 3))
            pool = told.around(told.best(data.places), rng, CHILDREN, STRANGERS)
            state = State(count, pool, processes, data.scales, front, worst, stalled)
            pool = joined(pool, told.around(self._promising(state, rng), rng, SECOND))
        return State(count, pool, processes, data.scales, front, worst, stalled)

    def _data(self, count: int) -> Data | None:
        """What the first trials say; None if fewer than two say something."""
        told = self._told
        places = told.places(count)
        kept = [i for i in range(count) if told.trials[i].status != "failed"]
        kept = representative([i for i in kept if np.isfinite(places[i])], places, MOST)
        if len(kept) < 2:
            return None
        trials = [told.trials[i] for i in kept]
        features = told.features([t.architecture for t in trials])
        if len(self.objectives) == 1:
            return Data(places, features, (normal_scores(places[kept]),), ())
        points = finished_losses(trials, self.objectives, self.constraints)
        if points is None:
            return None
        scales = tuple(Scale.of(column) for column in points.T)
        values = tuple(s(column) for s, column in zip(scales, points.T, strict=True))
        return Data(places, features, values, scales)

    def _promising(self, state: State, rng: np.random.Generator) -> list[Made]:
        """The pool's designs of the highest hope, to be varied once more."""
        mean, deviation = state.predict(np.zeros((0, 0)))
        free = state.pool.free(self._told.identities)
        hope = np.where(free, mean[0] + deviation[0], -np.inf)
        if len(mean) > 1:
            hope = self._volume(state, mean, deviation, free, rng)
        top = np.argsort(-hope, kind="stable")[:BEST]
        return [(state.pool.architectures[i], state.pool.origins[i]) for i in top]

    def _volume(
        self, state: State, mean: Array, deviation: Array, free: Mask, rng: np.random.Generator
    ) -> Array:
        since = [t for t in self._told.trials[state.count :] if t.status == "finished"]
        told = [losses(self.objectives, t.metrics) for t in since]
        points = np.array([*state.front, *told])
        worst = np.array(state.worst)
        return expected_volume(mean, deviation, free, points, worst, state.scales, rng)

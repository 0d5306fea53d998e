"""Predictor-guided search: fit, rank many designs, evaluate the most promising, refit.

A Gaussian process on decisions, live paths and structure (as in NAS-BOWL, Ru et al. 2021,
arXiv:2006.07556, with other features) and expected improvement; for several objectives one
process each and the expected gain of dominated volume.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from raynas.architecture import Architecture
from raynas.objective import Array, Constraint, Mask, Objective
from raynas.space import Space
from raynas.strategies.acquisition import (
    Scale,
    conditioned,
    expected_improvement,
    expected_volume,
)
from raynas.strategies.candidates import (
    BEST,
    Pool,
    Told,
    beginning,
    chosen,
    joined,
)
from raynas.strategies.comparable import bounds_of, comparable_losses
from raynas.strategies.forecast import Forecast
from raynas.strategies.gaussian import GaussianProcess, Theta, between, fitted, most_probable
from raynas.strategies.scored import Scored, ScoresOf, Standard, slope
from raynas.strategies.standing import normal_scores, representative
from raynas.trial import Proposal, Trial

MOST = 300  # trials that a process learns from
CHILDREN, STRANGERS, SECOND = 200, 100, 100  # candidates where a space is too large to go through
SHORT = 1000  # candidates where it is not: those of the highest hope
SCORED = 32  # of them whose proxies are computed, where proxies are asked for
REFIT, REWEIGH = 1 / 200, 1 / 10  # shares of new trials; the latter for weights and noise


@dataclass(frozen=True)
class Data:
    """What processes learn from: places of all trials `[count]`, features and values of some.

    `inside`: which of these are of the part of the space that is proposed from.
    """

    places: Array
    inside: Mask
    architectures: Sequence[Architecture]
    features: Array
    values: tuple[Array, ...]
    scales: tuple[Scale, ...]
    forecast: Forecast | None


@dataclass(frozen=True)
class State:
    """What was learned from the first trials: one process per objective, and a pool.

    Attributes:
        count: how many trials those were.
        pool: designs that they left.
        known: the features that the processes learned from, in these blocks.
        scales: from losses to what the processes learned; empty for one process.
        forecast: from what the first process learned to readings of the first objective.
        front: losses that nothing dominates; worst: of any trial, per objective.
        beaten: which of the known designs a new one is to be better than.
        stalled: for how many trials nothing better has come.
        lifts: per process, what proxies say of known designs and of the pool, beside it.
    """

    count: int
    pool: Pool
    known: Array
    blocks: tuple[slice, ...]
    processes: tuple[GaussianProcess, ...]
    scales: tuple[Scale, ...]
    forecast: Forecast | None
    front: Array
    worst: Array
    beaten: Mask
    stalled: int
    lifts: tuple[tuple[Array, Array], ...] = ()

    @cached_property
    def believed(self) -> tuple[tuple[Array, Array, Array], ...]:
        """The pool's designs as projected, their means and deviations, per process."""
        distances = between(self.known, self.pool.features, self.blocks)
        projected = [p.project(distances) for p in self.processes]
        beliefs = [(j, *p.predict(j)) for p, j in zip(self.processes, projected, strict=True)]
        if self.lifts:
            pairs = zip(beliefs, self.lifts, strict=True)
            beliefs = [(j, mean + own, deviation) for (j, mean, deviation), (_, own) in pairs]
        return tuple(beliefs)

    @cached_property
    def best(self) -> float:
        """The best mean of a told design that could be proposed."""
        process = self.processes[0]
        projected = process.project(between(self.known, self.known, self.blocks))
        lift = self.lifts[0][0] if self.lifts else 0.0
        return float((process.predict(projected)[0] + lift)[self.beaten].max())

    def expected(self, place: int) -> tuple[float, float]:
        """Of a design of the pool, mean and deviation of what the first process would be told."""
        _, mean, deviation = self.believed[0]
        return float(mean[place]), math.hypot(deviation[place], self.processes[0].noise)

    def predict(self, running: Array | None = None) -> tuple[Array, Array]:
        """Means and deviations `[M, pool]`, as if running designs `[R, D]` met their means."""
        means = np.array([mean for _, mean, _ in self.believed])
        deviations = np.array([deviation for *_, deviation in self.believed])
        if running is not None:
            known = between(self.known, running, self.blocks)
            across = between(self.pool.features, running, self.blocks)
            among = between(running, running, self.blocks)
            for i, (projected, _, deviation) in enumerate(self.believed):
                process = self.processes[i]
                deviations[i] = conditioned(process, projected, deviation, known, across, among)
        return means, deviations


@dataclass
class Predictor:
    """Proposes what a Gaussian process expects to improve most.

    One objective: the process learns the trials' places among each other as normal scores, so
    units and outliers do not matter; the acquisition is expected improvement over the best mean.
    Several: each has its process (of the loss, on a scale that is logarithmic away from the
    best), and the acquisition is the expected gain of dominated volume. Its reference point is
    the worst of the front so far and a tenth of its range, or (half of the time, by lot)
    twice the range of all trials: the front becomes dense and long (see `expected_volume`).
    Bounds on objectives that some of the front misses cut it: what is beyond is worth nothing.

    Trials stopped early are placed among those that reached the same epoch (`standings`); with
    several objectives they are given the finished losses of the same place, and until something
    is finished, one process learns places as for one objective. What failed is never
    proposed again; what broke a constraint is placed last. Running designs are taken to meet
    their predictions, so that others are proposed beside them.

    Attributes:
        initial: how many designs are drawn at random first.
        patience: after so many trials without a better one, every second proposal is drawn from
            the posterior (Thompson sampling), so that a wrong model cannot hold the search.
        earlier: trials of searches of the same space on other data (see `Informed`); they also
            choose the first designs among random ones.
        proxies: names of scores that need no training, such as `naswot+synflow`: features of the
            trials and of the most promising designs, which are weighed once more with them.
        scorer: computes them; a second or so per design.
        wide: the space that all told trials are of (see `Told`).
    """

    space: Space
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    initial: int = 8
    patience: int = 25
    earlier: tuple[Trial, ...] = ()
    proxies: str = ""
    scorer: ScoresOf | None = None
    wide: Space | None = None
    _told: Told = field(init=False)
    _scored: Scored | None = field(init=False, default=None)
    _state: State | None = field(init=False, default=None)
    _theta: tuple[tuple[int, int], tuple[Theta, ...]] = field(init=False, default=((0, 0), ()))

    def __post_init__(self) -> None:
        self._told = Told(self.space, self.objectives, self.constraints, self.earlier, self.wide)
        if self.proxies and self.scorer is not None:
            self._scored = Scored(tuple(self.proxies.split("+")), self.scorer)

    def tell(self, trial: Trial) -> None:
        self._told.add(trial)
        if self._scored is not None:
            self._scored.tell(trial)

    def ask(self, rng: np.random.Generator, pending: Sequence[Architecture]) -> Proposal:
        told = self._told
        if told.usable < 2 or told.usable + len(pending) < self.initial:
            note = f"drawn at random: the first {self.initial} are"
            return told.begin(rng, pending, note)
        state = self._learned()
        if state is None:
            return told.seen.random(rng, pending, "drawn at random: too few trials had readings")
        since = told.identities[state.count :]
        free = state.pool.free([*since, *(self.space.identity(a) for a in pending)])
        if not free.any():
            return told.seen.random(rng, pending, "drawn anew: all candidates have been tried")
        running = [t.architecture for t in told.trials[state.count :] if t.usable]
        running += pending
        mean, deviation = state.predict(told.features(running) if running else None)
        what, acquisition = self._acquisition(state, mean, deviation, free, rng)

        def expected(place: int) -> Mapping[str, float]:
            scores = self._scored.named(state.pool.architectures[place]) if self._scored else {}
            return {**told.expected(state.forecast, *state.expected(place)), **scores}

        return chosen(state.pool, expected, acquisition, what, state.count)

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
        wide = bool(rng.random() < 0.5)
        gain = self._volume(state, mean, deviation, free, wide, rng)
        return "expected gain of dominated volume", gain

    def _learned(self) -> State | None:
        """The state at the start of the present window; a function of the trials before it."""
        count = beginning(len(self._told.trials), REFIT)
        if self._state is None or self._state.count != count:
            self._state = self._learn(count)
        return self._state

    def _learn(self, count: int) -> State | None:
        told, data = self._told, self._data(count)
        if data is None:
            return None
        blocks = told.describe.blocks
        distances = between(data.features, data.features, blocks)
        processes = tuple(
            fitted(distances, values, theta)
            for values, theta in zip(data.values, self._weights(count, data), strict=True)
        )
        best, points = told.front(count), np.array(told.losses[:count])
        front = points[best]
        _, first = np.unique(front, axis=0, return_index=True)  # equals of old ones are no news
        since = 1 + max((best[i] for i in first), default=0)
        stalled = sum(told.inside[since:count])
        worst = np.nanmax(points, axis=0)
        beaten = data.inside if data.inside.any() else ~data.inside
        learned = processes, data.scales, data.forecast
        parts = data.features, blocks, *learned, front, worst, beaten, stalled
        rng = np.random.default_rng((count, 3))
        if (pool := told.remaining(count)) is not None:
            state = State(count, pool, *parts)
            state = replace(state, pool=pool.part(self._promising(state, rng)[:SHORT]))
            return self._weighed(state, data, rng)
        pool = told.around(told.best(data.places), rng, count, CHILDREN, STRANGERS)
        state = State(count, pool, *parts)
        parents = [pool.made(i) for i in self._promising(state, rng)[:BEST]]
        state = replace(state, pool=joined(pool, told.around(parents, rng, count, SECOND)))
        return self._weighed(state, data, rng)

    def _weighed(self, state: State, data: Data, rng: np.random.Generator) -> State:
        """With proxies: only the most promising designs, and processes of what these leave open."""
        if self._scored is None:
            return state
        pool = state.pool.part(self._promising(state, rng)[:SCORED])
        scores = self._scored(data.architectures)
        standard = Standard.of(scores)
        known, own = standard(scores), standard(self._scored(pool.architectures))
        slopes = [slope(known, values) for values in data.values]
        distances = between(data.features, data.features, state.blocks)
        processes = tuple(
            fitted(distances, values - known @ b)
            for values, b in zip(data.values, slopes, strict=True)
        )
        lifts = tuple((known @ b, own @ b) for b in slopes)
        return replace(state, pool=pool, processes=processes, lifts=lifts)

    def _weights(self, count: int, data: Data) -> tuple[Theta, ...]:
        """Each process's weights and noise, found anew when a tenth of the trials is new."""
        since = beginning(count, REWEIGH)
        if self._theta[0] != (since, len(data.values)):
            then = data if since == count else self._data(since)
            if then is None or len(then.values) != len(data.values):
                since, then = count, data
            distances = between(then.features, then.features, self._told.describe.blocks)
            found = tuple(most_probable(distances, values) for values in then.values)
            self._theta = (since, len(found)), found
        return self._theta[1]

    def _data(self, count: int) -> Data | None:
        """What the first trials say; None if fewer than two say something."""
        told = self._told
        places = told.places(count)
        kept = [i for i in range(count) if told.trials[i].status != "failed"]
        kept = representative([i for i in kept if np.isfinite(places[i])], places, MOST)
        if len(kept) < 2:
            return None
        trials = [told.trials[i] for i in kept]
        designs = [t.architecture for t in trials]
        features, inside = told.features(designs), np.array([told.inside[i] for i in kept])
        if len(self.objectives) == 1 or not any(t.status == "finished" for t in trials):
            scores = normal_scores(places[kept])
            forecast = Forecast.of(self.objectives[0], trials, scores)
            return Data(places, inside, designs, features, (scores,), (), forecast)
        points = comparable_losses(trials, self.objectives, self.constraints)
        scales = tuple(Scale.of(column) for column in points.T)
        values = tuple(s(column) for s, column in zip(scales, points.T, strict=True))
        forecast = Forecast.of(self.objectives[0], trials, values[0])
        return Data(places, inside, designs, features, values, scales, forecast)

    def _promising(self, state: State, rng: np.random.Generator) -> list[int]:
        """The places in the pool, those of the highest hope first."""
        mean, deviation = state.predict()
        hopes = [mean[0] + deviation[0]]
        if len(mean) > 1:
            free = np.ones(len(mean[0]), dtype=bool)
            boxes = (False, True)
            hopes = [self._volume(state, mean, deviation, free, wide, rng) for wide in boxes]
        orders = np.array([np.argsort(-hope, kind="stable") for hope in hopes])
        return list(dict.fromkeys(orders.T.ravel().tolist()))

    def _volume(
        self,
        state: State,
        mean: Array,
        deviation: Array,
        free: Mask,
        wide: bool,
        rng: np.random.Generator,
    ) -> Array:
        told, start = self._told, state.count
        since = [
            loss
            for loss, trial, inside in zip(
                told.losses[start:], told.trials[start:], told.inside[start:], strict=True
            )
            if trial.status == "finished" and inside
        ]
        points = np.array([*state.front, *since])
        rest = (points, state.worst, state.scales, wide, rng)
        bounds = bounds_of(self.objectives, self.constraints)
        return expected_volume(mean, deviation, free, *rest, bounds)

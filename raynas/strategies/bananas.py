"""BANANAS: an ensemble of neural predictors and Thompson sampling (White et al. 2019,
arXiv:1910.11858).

Where we depart: networks see decisions and structure beside the path encoding; they learn places
among the trials (as normal scores) by squared error instead of accuracies by relative error;
mutations make up to four edits, and some candidates are random. They are smaller than the
paper's (two hidden layers of 32 units instead of ten of 20), which fit as well and in less time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raynas.architecture import Architecture
from raynas.objective import Array, Constraint, Objective
from raynas.space import Space
from raynas.strategies.candidates import Pool, Told, beginning, chosen
from raynas.strategies.forecast import Forecast
from raynas.strategies.standing import normal_scores, representative
from raynas.trial import Proposal, Trial

CHILDREN, STRANGERS = 200, 50  # candidates per round
MOST = 300  # trials that the networks learn from
WIDTH = 32  # of the two hidden layers
STEPS = 150  # of Adam, on all trials at once
RATE, DECAY = 0.01, 1e-3
RESIDUAL = 0.3  # deviation of scores that the networks agree on, to begin with

Single = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Round:
    """What was learned from the first `count` trials: each network's score of each candidate."""

    count: int
    pool: Pool
    scores: Array  # [networks, pool]
    forecast: Forecast | None

    def expected(self, place: int) -> tuple[float, float]:
        """Of a design of the pool, mean and deviation of the score that its trial would have."""
        column = self.scores[:, place]
        return float(column.mean()), math.hypot(column.std(), RESIDUAL)


@dataclass
class Bananas:
    """Proposes what a draw from an ensemble's beliefs likes best.

    Independent Thompson sampling: each candidate's score is drawn from a normal distribution with
    the mean and deviation of the ensemble's predictions for it; the highest is proposed. Running
    and told designs are passed over, and draws differ, so proposals at one time are spread.

    Several objectives: the score of a trial is its place by non-dominated front, then crowding.
    Trials stopped early are placed among those that reached the same epoch; what failed or broke
    a constraint counts as worst (`standings`).

    Attributes:
        initial: how many designs are drawn at random first (10 in the paper).
        networks: in the ensemble (5 in the paper).
        batch: how many trials there are from one fit to the next (10 in the paper); up to 5 % of
            all trials once that is more.
        earlier: trials of searches of the same space on other data (see `Informed`); they also
            choose the first designs among random ones.
        wide: the space that all told trials are of (see `Told`).
    """

    space: Space
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    initial: int = 10
    networks: int = 5
    batch: int = 10
    earlier: tuple[Trial, ...] = ()
    wide: Space | None = None
    _told: Told = field(init=False)
    _round: Round | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._told = Told(self.space, self.objectives, self.constraints, self.earlier, self.wide)

    def tell(self, trial: Trial) -> None:
        self._told.add(trial)

    def ask(self, rng: np.random.Generator, pending: Sequence[Architecture]) -> Proposal:
        told = self._told
        count = beginning(len(told.trials), 1 / 20, self.batch)
        if told.usable + len(pending) < self.initial or (now := self._learned(count)) is None:
            note = f"drawn at random: too few trials with readings yet ({told.usable})"
            return told.begin(rng, pending, note)
        free = now.pool.free(told.identities[count:] + [self.space.identity(a) for a in pending])
        if not free.any():
            return told.seen.random(rng, pending, "drawn anew: all candidates have been tried")
        mean, deviation = now.scores.mean(axis=0), now.scores.std(axis=0)
        drawn = mean + deviation * rng.standard_normal(len(mean))
        drawn = np.where(free, drawn, -np.inf)
        what = f"score drawn from {self.networks} networks' beliefs"

        def expected(place: int) -> Mapping[str, float]:
            return told.expected(now.forecast, *now.expected(place))

        return chosen(now.pool, expected, drawn, what, count)

    def _learned(self, count: int) -> Round | None:
        """What the first trials teach; the same after a resume, as it depends on nothing else."""
        if self._round is None or self._round.count != count:
            told, rng = self._told, np.random.default_rng((count, 4))
            places = told.places(count)
            parents = told.best(places)
            kept = np.flatnonzero(np.isfinite(places)).tolist()
            if not parents or len(kept) < 2:
                return None
            kept = representative(kept, places, MOST)
            features = told.features([told.trials[i].architecture for i in kept])
            pool = told.around(parents, rng, count, CHILDREN, STRANGERS)
            scores = normal_scores(places[kept])
            forecast = None
            if len(self.objectives) == 1:
                forecast = Forecast.of(self.objectives[0], [told.trials[i] for i in kept], scores)
            found = ensemble(features, scores, pool.features, self.networks, rng)
            self._round = Round(count, pool, found, forecast)
        return self._round


def ensemble(
    features: Array, values: Array, asked: Array, networks: int, rng: np.random.Generator
) -> Array:
    """Predictions `[networks, Q]` of networks that differ in their first weights.

    Each is a perceptron with two hidden layers of rectified units, in single precision, trained
    from scratch by Adam with weight decay on the squared error of values `[N]` at `[N, D]`.
    """
    x, y, z = (a.astype(np.float32) for a in (features, values, asked))
    inputs = features.shape[1]
    sizes = [(inputs, WIDTH), (WIDTH, WIDTH), (WIDTH, 1)]
    gains = (np.sqrt(2.0), np.sqrt(2.0 / WIDTH), np.sqrt(1.0 / WIDTH))
    weights = [
        (gain * rng.standard_normal((networks, *size))).astype(np.float32)
        for gain, size in zip(gains, sizes, strict=True)
    ]
    weights += [np.zeros((networks, 1, size[1]), np.float32) for size in sizes]
    first = [np.zeros_like(w) for w in weights]
    second = [np.zeros_like(w) for w in weights]
    for step in range(1, STEPS + 1):
        rate = RATE * math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        for i, gradient in enumerate(_gradients(weights, x, y)):
            first[i] += 0.1 * (gradient - first[i])
            second[i] += 0.001 * (gradient**2 - second[i])
            weights[i] -= rate * first[i] / (np.sqrt(second[i]) + 1e-8)
            weights[i] *= 1 - RATE * DECAY
    return np.asarray(_forward(weights, z)[-1][:, :, 0], dtype=np.float64)


def _forward(weights: Sequence[Single], features: Single) -> tuple[Single, Single, Single]:
    a = np.maximum(features @ weights[0] + weights[3], 0.0)
    b = np.maximum(a @ weights[1] + weights[4], 0.0)
    return a, b, b @ weights[2] + weights[5]


def _gradients(weights: Sequence[Single], features: Single, values: Single) -> list[Single]:
    a, b, out = _forward(weights, features)
    error = (out - values[:, None]) * (2 / len(values))
    before = (error @ weights[2].swapaxes(1, 2)) * (b > 0)
    earlier = (before @ weights[1].swapaxes(1, 2)) * (a > 0)
    return [
        features.T @ earlier,
        a.swapaxes(1, 2) @ before,
        b.swapaxes(1, 2) @ error,
        *(e.sum(axis=1, keepdims=True) for e in (earlier, before, error)),
    ]

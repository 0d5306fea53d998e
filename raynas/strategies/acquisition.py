"""What it would be worth to try a design, given what is predicted of it and how surely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from raynas.objective import Array, Constraint, Mask, Objective, losses, pareto_front
from raynas.strategies.gaussian import GaussianProcess
from raynas.strategies.standing import standings
from raynas.trial import Trial

POINTS = 8192  # of the box, by which volume is estimated
COARSE, FINE = 64, 1024  # of them that are not dominated: for all designs, for the best
NEAR = 150  # designs looked at finely
BEYOND = 0.05  # how far the box reaches beyond the best, as a share of the front's range
WIDE = 0.5  # and how much more where the box is wide
REFERENCE = 0.1  # and beyond the front's worst


@dataclass(frozen=True)
class Scale:
    """Maps losses to values, larger is better: linear below `best`, logarithmic above it."""

    best: float
    unit: float

    @classmethod
    def of(cls, column: Array) -> Scale:
        best, worst = float(column.min()), float(column.max())
        middle = float(np.median(column))
        unit = middle - best if middle > best else worst - best
        return cls(best, unit if unit > 0 else 1.0)

    def __call__(self, loss: Array) -> Array:
        gap = (loss - self.best) / self.unit
        return -np.where(gap > 0, np.log1p(np.maximum(gap, 0.0)), gap)


def normal_scores(places: Array) -> Array:
    """Places (larger is better) as quantiles of the normal distribution; equals share one."""
    _, group, sizes = np.unique(places, return_inverse=True, return_counts=True)
    middle = np.cumsum(sizes) - sizes / 2
    return np.asarray(ndtri(middle / len(places))[group])


def expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """How much a value is expected to exceed `best`, counting nothing where it does not."""
    z = (mean - best) / deviation
    density = np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    return np.asarray(deviation * (z * ndtr(z) + density))


def expected_volume(
    mean: Array,
    deviation: Array,
    free: Mask,
    points: Array,
    worst: Array,
    scales: Sequence[Scale],
    rng: np.random.Generator,
) -> Array:
    """How much of the box each design is expected to dominate that nothing dominates yet.

    The box reaches from beyond the front's best losses to the reference point. In half of the
    calls it is narrow, up to the front's worst losses and a tenth, so that the front becomes
    dense; in the others it is wide, as far beyond the worst of all trials as those are from the
    best, so that the front becomes long. That a design dominates a point of the box is the
    product, over objectives, of the probabilities that it is better there; points are random.

    Args:
        mean, deviation: predicted values `[M, N]`.
        free: which designs can be had; -inf is returned for the others.
        points: losses so far `[T, M]`, those on the front at least.
        worst: losses of any trial `[M]`.
        scales: from losses to values, per objective.
    """
    front = np.unique(points[pareto_front(points)], axis=0)
    low, high = front.min(axis=0), front.max(axis=0)
    width = np.where(high > low, high - low, np.maximum(worst - low, 0.0))
    width = np.where(width > 0, width, np.maximum(np.abs(low), 1e-9))
    low, high = low - BEYOND * width, low + (1 + REFERENCE) * width
    if rng.random() < 0.5:
        low, high = low - WIDE * width, np.maximum(high, worst + (worst - low))
    box = low + (high - low) * rng.random((POINTS, len(low)))
    dominated = np.zeros(POINTS, dtype=bool)
    for point in front:
        dominated |= (point <= box).all(axis=1)
    box = box[~dominated][:FINE]
    value = np.array([scale(column) for scale, column in zip(scales, box.T, strict=True)])
    gain = np.where(free, _dominating(mean, deviation, value[:, :COARSE]), -np.inf)
    near = np.argsort(-gain, kind="stable")[:NEAR]
    near = near[np.isfinite(gain[near])]
    total = np.where(np.isfinite(gain), 0.0, -np.inf)
    total[near] = _dominating(mean[:, near], deviation[:, near], value)
    return np.asarray(total * (1.0 - dominated.mean()))


def _dominating(mean: Array, deviation: Array, value: Array) -> Array:
    """The share of the points `[M, P]` that each of the designs `[M, N]` may dominate."""
    chance = np.ones((mean.shape[1], value.shape[1]))
    for m, d, v in zip(mean, deviation, value, strict=True):
        chance *= ndtr((m[:, None] - v) / d[:, None])
    return np.asarray(chance.mean(axis=1))


def conditioned(
    process: GaussianProcess, features: Array, projected: Array, deviation: Array, running: Array
) -> Array:
    """Deviations of designs `[N, D]` once the running ones `[R, D]` have met their means."""
    known = process.project(running)
    noise = (np.exp(process.theta[-1]) + 1e-6) * np.eye(len(running))
    among = process.kernel(running, running) - known.T @ known + noise
    across = process.kernel(features, running) - projected.T @ known
    lower = np.linalg.inv(np.linalg.cholesky(among))
    less = deviation**2 - process.scale * ((across @ lower.T) ** 2).sum(axis=1)
    return np.asarray(np.sqrt(np.maximum(less, 1e-6 * process.scale)))


def finished_losses(
    trials: Sequence[Trial], objectives: Sequence[Objective], constraints: Sequence[Constraint]
) -> Array | None:
    """Losses `[N, M]` of trials; what did not finish has the finished losses of its own place.

    None if nothing has readings.
    """
    usable = [t.usable for t in trials]
    whole = [t.status == "finished" for t in trials]
    source = np.flatnonzero(whole if any(whole) else usable).tolist()
    if not source:
        return None
    columns = []
    for objective in objectives:
        own = np.array([losses([objective], trials[i].metrics)[0] for i in source])
        column = np.full(len(trials), np.nan)
        column[source] = own
        rest = np.flatnonzero(np.isnan(column))
        if len(rest):
            places = standings(trials, (objective,), constraints)
            column[rest] = np.quantile(own, 1 - np.clip(places[rest], 0, 1))
        columns.append(column)
    return np.array(columns).T

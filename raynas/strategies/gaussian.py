"""Gaussian processes over features in blocks: what a design is worth, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raynas.objective import Array

LENGTH = 0.0  # log of a block's inverse squared length: what its weight starts from
DECISIONS = -2.0  # that of the first of three blocks or more, which paths and structure repeat
NOISE = -4.0  # log of the noise's share
DEVIATION = 1.5  # of their normal prior around these
STEPS = (1.2, 0.6, 0.3)  # of the search for the most probable ones, one sweep each
JITTER = 1e-6

Theta = tuple[float, ...]
Distances = Sequence[Array]  # squared, one array per block of features


@dataclass(frozen=True)
class GaussianProcess:
    """A posterior given observations; make one with `fitted`.

    The kernel is Matérn 5/2 of the summed squared distances of all blocks, each with a weight of
    its own; the mean is constant. Weights and noise are those of the highest posterior density
    under a weak normal prior on their logarithms, so that few observations cannot make the
    process certain.
    """

    theta: Theta
    lower: Array  # the inverse of the Cholesky factor [N, N]
    weights: Array  # of the kernel's columns in the mean
    mean: float
    scale: float  # signal variance

    def project(self, distances: Distances) -> Array:
        """`[N, Q]`: columns whose inner products are what the observations explain.

        Args:
            distances: between the observed designs and those in question.
        """
        explained: Array = self.lower @ self.kernel(distances)
        return explained

    def predict(self, projected: Array) -> tuple[Array, Array]:
        """Means and standard deviations `[Q]`, of what `project` returned."""
        mean = self.mean + self.weights @ projected
        left = np.maximum(1.0 - (projected**2).sum(axis=0), JITTER)
        return mean, np.sqrt(self.scale * left)

    @property
    def noise(self) -> float:
        """The standard deviation of what is read of a design around its worth."""
        return math.sqrt(self.scale * (math.exp(self.theta[-1]) + JITTER))

    def kernel(self, distances: Distances) -> Array:
        return _matern(_weighted(distances, self.theta))


def fitted(distances: Distances, values: Array, theta: Theta | None = None) -> GaussianProcess:
    """The posterior of values `[N]` at designs with these distances `[N, N]` per block.

    Args:
        theta: weights and noise; None finds them, by coordinate search from the same start.
    """
    theta = theta or most_probable(distances, values)
    _, factor, mean, scale = _likelihood(distances, values, theta)
    inverse = np.asarray(np.linalg.inv(factor), dtype=np.float64)
    return GaussianProcess(theta, inverse, inverse @ (values - mean), mean, scale)


def most_probable(distances: Distances, values: Array) -> Theta:
    """The weights of the blocks and the noise, on a logarithmic scale."""
    first = DECISIONS if len(distances) > 2 else LENGTH
    start = (first, *[LENGTH] * (len(distances) - 1), NOISE)
    theta, best = start, _cost(distances, values, start, start)
    for step in STEPS:
        for i in range(len(theta)):
            for sign in (1, -1):
                moved = (*theta[:i], theta[i] + sign * step, *theta[i + 1 :])
                cost = _cost(distances, values, moved, start)
                if cost < best:
                    theta, best = moved, cost
                    break
    return theta


def _cost(distances: Distances, values: Array, theta: Theta, start: Theta) -> float:
    away = sum((t - s) ** 2 for t, s in zip(theta, start, strict=True))
    return _likelihood(distances, values, theta)[0] + away / (2 * DEVIATION**2)


def _likelihood(
    distances: Distances, values: Array, theta: Theta
) -> tuple[float, Array, float, float]:
    """Negative log likelihood, Cholesky factor, mean and signal variance at their optimum."""
    count = len(values)
    covariance = _matern(_weighted(distances, theta))
    covariance[np.diag_indices(count)] += math.exp(theta[-1]) + JITTER
    factor = np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
    a, b = np.linalg.solve(factor, np.column_stack([values, np.ones(count)])).T
    mean = float((a @ b) / (b @ b))
    rest = a - mean * b
    scale = float(rest @ rest) / count + JITTER
    return (
        0.5 * count * math.log(scale) + float(np.log(np.diag(factor)).sum()),
        factor,
        mean,
        scale,
    )


def between(a: Array, b: Array, blocks: Sequence[slice]) -> Distances:
    """Squared distances `[N, Q]` within each block; columns that are 0 throughout are left out."""
    found = []
    for block in blocks:
        left, right = a[:, block], b[:, block]
        used = left.any(axis=0) | right.any(axis=0)
        left, right = left[:, used], right[:, used]
        squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)
        found.append(np.maximum(squares - 2 * left @ right.T, 0.0))
    return found


def _weighted(distances: Distances, theta: Theta) -> Array:
    total = np.zeros_like(distances[0])
    for weight, distance in zip(theta, distances, strict=False):
        total += math.exp(weight) * distance
    return total


def _matern(squared: Array) -> Array:
    r = np.sqrt(5 * squared)
    return np.asarray((1 + r + r * r / 3) * np.exp(-r))

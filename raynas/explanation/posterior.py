"""A joint posterior over what every design of a space would read, and its draws.

Draws are whole functions (Matheron's rule, Wilson et al. 2020, arXiv:2002.09309), so that the
answers to all questions agree. `surface.fit` makes it.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from raynas.architecture import Architecture
from raynas.explanation.basis import Functions
from raynas.explanation.evidence import GROWS, Model
from raynas.explanation.features import Described
from raynas.explanation.forest import Forest
from raynas.objective import Array

DRAWS = 400
HALF = DRAWS // 2  # every deviation from the mean is drawn with both signs
FAR = 2.5  # deviations beyond which levels are not told apart


@dataclass(frozen=True)
class Level:
    """How good a design is on the whole: a first surface's mean, in deviations of the readings.

    Networks that were read stand where their level would be expected without their reading.
    """

    first: Surface
    known: Mapping[str, float]
    centre: float

    def __call__(self, designs: Sequence[Architecture]) -> Array:
        rows = self.first.described.rows(designs)
        means = self.first.latent(designs)[0]
        found = [self.known.get(row.identity, m) for row, m in zip(rows, means, strict=True)]
        return np.clip(np.array(found) - self.centre, -FAR, FAR)


@dataclass(frozen=True)
class Opinion:
    """A forest's word: which part of the way to it each draw goes.

    Attributes:
        forest: on the surface's scale.
        shares: of the draws `[DRAWS]`.
        damped: identity -> (the surface's own word without the network's reading, how far the
            reading leaves an opinion about it any weight).
    """

    forest: Forest
    shares: Array
    damped: Mapping[str, tuple[float, float]]

    def gap(self, designs: Sequence[Architecture], means: Array) -> Array:
        """How far the forest is from the surface's means, less where it was read `[N]`."""
        rows = self.forest.described.rows(designs)
        said = self.forest(designs)
        read = [self.damped.get(row.identity) for row in rows]
        own = np.array([m if r is None else r[0] for r, m in zip(read, means, strict=True)])
        left = np.array([1.0 if r is None else r[1] for r in read])
        return np.asarray((said - own) * left)


@dataclass(frozen=True)
class Surface:
    """The posterior.

    Attributes:
        described: the features of designs.
        model: variances and scale.
        weights, deviations: of the functions `[functions]`, `[functions, HALF]`.
        terms: for each of `TERMS`, key -> (mean, deviations `[HALF]`) of the networks read.
        widths: for each of `TERMS`, the deviation of a network that was not read `[HALF]`.
        constant: readings of networks that compute nothing; may be empty.
        level, tilt: how the terms grow with a design's level.
        spread: of each draw's deviations, because variances are not known exactly `[HALF]`.
        opinion: of a forest.
    """

    described: Described
    functions: Functions
    model: Model
    weights: Array
    deviations: Array
    terms: Mapping[str, Mapping[str, tuple[float, Array]]]
    widths: Mapping[str, Array]
    constant: Array
    level: Level | None = None
    tilt: float = 0.0
    spread: Array | None = None
    opinion: Opinion | None = None

    @property
    def noise(self) -> float:
        """The deviation of one reading, in the metric's unit."""
        return self.model.noise

    def draws(self, designs: Sequence[Architecture]) -> Array:
        """`[DRAWS, N]` in the metric's unit; draw s is the same function in every call."""
        if not designs:
            return np.zeros((DRAWS, 0))
        mean, deviations = self.latent(designs)
        latent = np.vstack([mean + deviations, mean - deviations])
        if self.opinion is not None:
            latent += self.opinion.shares[:, None] * self.opinion.gap(designs, mean)
        return self._with_constants(designs, self.model.unit(latent))

    def mean(self, designs: Sequence[Architecture]) -> Array:
        """The expected values `[N]`, in the metric's unit."""
        return np.asarray(self.draws(designs).mean(axis=0))

    def latent(self, designs: Sequence[Architecture]) -> tuple[Array, Array]:
        """Mean `[N]` and deviations `[HALF, N]` on the scale, without a forest's word."""
        x = self.functions(designs)
        mean, deviations = x @ self.weights, (x @ self.deviations).T
        amplitude = self.amplitude(designs)
        for i, row in enumerate(self.described.rows(designs)):
            for term, width in self.widths.items():
                key = getattr(row, term)
                known = self.terms[term].get(key)
                own, apart = known or (0.0, normals(f"{term} {key}") * width)
                size = amplitude[i] if term == GROWS else 1.0
                mean[i] += size * own
                deviations[:, i] += size * apart
        if self.spread is not None:
            deviations *= self.spread[:, None]
        return mean, deviations

    def amplitude(self, designs: Sequence[Architecture]) -> Array:
        """What the networks' own terms are multiplied by `[N]`."""
        if self.level is None or self.tilt == 0.0:
            return np.ones(len(designs))
        return np.asarray(np.exp(self.tilt * self.level(designs)))

    def _with_constants(self, designs: Sequence[Architecture], values: Array) -> Array:
        nothing = np.array([row.nothing for row in self.described.rows(designs)])
        if len(self.constant) and nothing.any():
            apart = normals("nothing") * self.noise / np.sqrt(len(self.constant))
            said = self.constant.mean() + np.concatenate([apart, -apart])
            values[:, nothing] = said[:, None]
        return values


def normals(key: str) -> Array:
    """The same standard normal numbers for the same text, `[HALF]`."""
    return np.random.default_rng(zlib.crc32(key.encode())).standard_normal(HALF)

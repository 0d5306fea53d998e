"""Which spreads, which noise and which scale fit the readings: the marginal likelihood.

Rasmussen & Williams 2006, ch. 5. Readings of one network are taken together: their mean counts
as one reading with less noise, and how they differ among themselves tells the noise directly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

from raynas.architecture import Architecture
from raynas.explanation.features import Described
from raynas.objective import Array

Index = np.ndarray[tuple[int], np.dtype[np.int64]]

TERMS = ("kind", "identity")  # what of a `features.Row` has a term of its own
GROWS = "identity"  # the term whose size may go with the level; a shared one could mimic effects
WIDTH = 2.5  # of the prior of a log variance
USUAL = {
    "level": 0.0,
    "kind": -3.5,
    "identity": -5.0,
    "extra": -1.0,
}  # its middle; others: -3
NOISE = 0.3  # the middle of the noise's prior, of the deviation of all readings
JITTER = 1e-6
CANDIDATES, STEP = 32, 0.1  # models that are tried around the best; of its curvature
BEYOND = 3.0  # ranges of the readings that a value may lie outside of them
GAP = 0.05  # of the range of the readings: how far beyond them a bound may be


@dataclass(frozen=True)
class Link:
    """A scale on which effects add up.

    Attributes:
        to, back: from the metric's unit to the scale, and the way back.
        slope: of `to`, at values in the metric's unit.
        plain: whether it is the metric's own scale.
    """

    to: Callable[[Array], Array]
    back: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    plain: bool = False


@dataclass(frozen=True)
class Readings:
    """What was read, one row per network.

    Attributes:
        designs: one of each network.
        means, counts: of a network's readings.
        levels: where on the metric's scale a network is thought to be: a scale's slope is taken
            there, not at its reading, whose chance it would take for the network's.
        within: of each network, sum of squares of its readings around their mean.
        keys: for each of `TERMS` the networks' keys.
    """

    designs: Sequence[Architecture]
    means: Array
    counts: Array
    levels: Array
    within: Array
    keys: Mapping[str, Sequence[str]]

    def some(self, most: int) -> tuple[Readings, Index]:
        """At most so many networks, evenly over time, and their places here."""
        places = np.unique(np.linspace(0, len(self.means) - 1, most).round().astype(np.int64))
        if len(self.means) <= most:
            return self, np.arange(len(self.means))
        keys = {term: [keys[i] for i in places] for term, keys in self.keys.items()}
        chosen = [self.designs[i] for i in places]
        counts = self.counts[places]
        means, levels = self.means[places], self.levels[places]
        return Readings(chosen, means, counts, levels, self.within[places], keys), places


@dataclass(frozen=True)
class Model:
    """The variances of all parts of a surface.

    Attributes:
        link: the scale on which the parts add up; there, values are centred and scaled.
        centre, scale: of the readings on the link's scale.
        groups: which functions of a basis belong together.
        loss: minus the log of evidence and prior.
        start: logs of the variances of each group, of each of `TERMS` and of the noise.
        even: whether noise is the same everywhere on the link's scale, and not on the metric's.
        factors: by how much more each function's weight varies than its group's `[functions]`.
    """

    link: Link
    centre: float
    scale: float
    groups: Mapping[str, slice]
    loss: float
    start: Array
    even: bool = False
    factors: Array | None = None

    @property
    def variances(self) -> Array:
        """Of each group and then of each of `TERMS`."""
        return np.asarray(np.exp(self.start[:-1]))

    @property
    def noise(self) -> float:
        """Deviation of one reading, metric's unit; where `even`, at the readings' middle."""
        return float(np.exp(self.start[-1] / 2))

    @property
    def columns(self) -> Array:
        """The variance of each function's weight."""
        widths = [g.stop - g.start for g in self.groups.values()]
        each = np.repeat(self.variances[: len(widths)], widths)
        return each if self.factors is None else each * self.factors

    @property
    def terms(self) -> dict[str, float]:
        """The variance of each of `TERMS`."""
        return dict(zip(TERMS, self.variances[len(self.groups) :].tolist(), strict=True))

    def latent(self, values: Array) -> Array:
        """Values in the metric's unit on the centred and scaled link."""
        return np.asarray((self.link.to(values) - self.centre) / self.scale)

    def unit(self, latent: Array) -> Array:
        """The way back."""
        return self.link.back(self.centre + self.scale * latent)

    def errors(self, readings: Readings) -> Array:
        """The variance of what was read of each network, on the scale."""
        slope = self.link.slope(readings.levels) / self.scale
        size = self.noise * slope * sizes(self.link, readings, self.even)
        return np.asarray(size**2 / readings.counts + JITTER)

    def smoothed(self, x: Array, readings: Readings) -> Array:
        """What the networks that were read are thought to be, in the metric's unit `[N]`."""
        gram, values = (
            self.gram(x, readings, np.ones(len(x))),
            self.latent(readings.means),
        )
        kept = values - self.errors(readings) * cho_solve(cho_factor(gram, lower=True), values)
        low, high = readings.means.min(), readings.means.max()
        return np.asarray(np.clip(self.unit(kept), low, high))

    def gram(self, x: Array, readings: Readings, amplitude: Array) -> Array:
        """The covariance of what was read."""
        k = (x * self.columns) @ x.T
        for term, variance in self.terms.items():
            own = amplitude if term == GROWS else np.ones(len(k))
            k += variance * same(readings.keys[term]) * np.outer(own, own)
        k[np.diag_indices(len(k))] += self.errors(readings)
        return np.asarray(k)


def gathered(described: Described, designs: Sequence[Architecture], values: Array) -> Readings:
    """Puts the readings of each network together."""
    rows = described.rows(designs)
    index: dict[str, int] = {}
    at = np.array([index.setdefault(row.identity, len(index)) for row in rows])
    first = [int(i) for i in np.unique(at, return_index=True)[1]]
    counts = np.bincount(at).astype(float)
    means = np.bincount(at, values) / counts
    within = np.asarray(np.bincount(at, (values - means[at]) ** 2), dtype=float)
    keys = {term: [str(getattr(rows[i], term)) for i in first] for term in TERMS}
    return Readings([designs[i] for i in first], means, counts, means, within, keys)


def links(values: Array, bounds: tuple[float, float] = (-np.inf, np.inf)) -> list[Link]:
    """The scales that are tried: as it is, and logarithms of the distance to a bound.

    None leads beyond what the metric may be, nor far beyond what was read: the way back from a
    logarithm explodes where little is known.

    The bound is one that the metric may have (0, 1, 100) or lies just beyond what was read:
    near it, a search finds many designs that differ little, and far from it a few broken ones.
    """
    low, high = float(values.min()), float(values.max())
    found = [Link(np.array, np.array, np.ones_like, plain=True)]
    if high - low <= 1e-12 * max(abs(high), abs(low), 1e-300):
        return found
    beyond = GAP * (high - low)
    tops, bottoms = [high + beyond], [low - beyond]
    tops += [1.0] if low >= 0 and high < 1 else [100.0] if low >= 0 and 1 < high < 100 else []
    bottoms += [0.0] if low > 0 else []
    found += [_bounded(top, -1.0, 0.3 * (top - high)) for top in tops]
    found += [_bounded(bottom, 1.0, 0.3 * (low - bottom)) for bottom in bottoms]
    reach = BEYOND * (high - low)
    return [
        _within(link, max(bounds[0], low - reach), min(bounds[1], high + reach)) for link in found
    ]


def _within(link: Link, low: float, high: float) -> Link:
    return replace(link, back=lambda latent: np.clip(link.back(latent), low, high))


def _bounded(bound: float, sign: float, least: float) -> Link:
    """The logarithm of how far values are above (sign 1) or below (-1) a bound."""

    def distance(values: Array) -> Array:
        return np.asarray(np.maximum(sign * (values - bound), least))

    return Link(
        lambda values: np.asarray(sign * np.log(distance(values))),
        lambda latent: np.asarray(bound + sign * np.exp(np.minimum(sign * latent, 700.0))),
        lambda values: np.asarray(1 / distance(values)),
    )


def sizes(link: Link, readings: Readings, even: bool) -> Array:
    """How large the noise of each network's readings is, by that at the middle reading `[N]`."""
    if not even:
        return np.ones(len(readings.levels))
    middle = link.slope(np.array([np.median(readings.levels)]))
    return np.asarray(middle / link.slope(readings.levels))


def same(keys: Sequence[str]) -> Array:
    """1 where two rows have the same key, else 0 `[N, N]`."""
    index: dict[str, int] = {}
    at = np.array([index.setdefault(key, len(index)) for key in keys])
    return np.asarray(at[:, None] == at[None], dtype=float)


def fitted(
    link: Link,
    x: Array,
    groups: Mapping[str, slice],
    readings: Readings,
    amplitude: Array | None = None,
    start: Array | None = None,
    steps: int = 60,
    even: bool = False,
) -> Model:
    """The variances that fit best under a link.

    Args:
        x: the functions' values at the readings' designs `[N, functions]`.
        amplitude: what the networks' own terms are multiplied by `[N]`; 1 if not given.
        even: see `Model`.
    """
    loss, centre, scale = _loss(link, x, groups, readings, amplitude, even)
    middle = loss.middle
    found = minimize(
        loss,
        middle if start is None else start,
        jac=True,
        method="L-BFGS-B",
        bounds=_bounds(middle),
        options={"maxiter": steps},
    )
    density = float(np.log(link.slope(readings.means) / scale).sum())
    return Model(link, centre, scale, groups, float(found.fun) - density, found.x, even)


def doubted(
    model: Model,
    x: Array,
    readings: Readings,
    amplitude: Array | None,
    count: int,
    rng: np.random.Generator,
) -> list[Model]:
    """So many models that fit about as well: draws from the posterior of the variances.

    Candidates come from a normal around the best with the curvature there, and are drawn again in
    proportion to how much more probable they are than under it (Rubin 1988).
    """
    loss, _, _ = _loss(model.link, x, model.groups, readings, amplitude, model.even)
    best, size = model.start, len(model.start)
    steps = np.eye(size) * STEP
    slopes = [(loss(best + s)[1] - loss(best - s)[1]) / (2 * STEP) for s in steps]
    values, axes = np.linalg.eigh((np.array(slopes) + np.array(slopes).T) / 2)
    widths = 1 / np.sqrt(np.maximum(values, 1 / WIDTH**2))
    normal = rng.standard_normal((CANDIDATES, size))
    normal[0] = 0.0
    low, high = np.array(_bounds(loss.middle)).T
    found = np.clip(best + (normal * widths) @ axes.T, low, high)
    logs = np.array([-loss.value(logs) for logs in found]) + 0.5 * (normal**2).sum(axis=1)
    chances = np.exp(np.minimum(logs - logs.max(), 0.0))
    at = (np.arange(count) + rng.uniform()) / count
    picks = np.searchsorted(np.cumsum(chances / chances.sum()), at)
    return [replace(model, start=found[min(i, len(found) - 1)]) for i in picks]


def _bounds(middle: Array) -> list[tuple[float, float]]:
    return [(-12.0, 6.0)] * (len(middle) - 1) + [(middle[-1] - 8, middle[-1] + 8)]


def _loss(
    link: Link,
    x: Array,
    groups: Mapping[str, slice],
    readings: Readings,
    amplitude: Array | None,
    even: bool,
) -> tuple[_Loss, float, float]:
    """The function that is minimized; centre and scale of the readings on the link."""
    latent = link.to(readings.means)
    centre, scale = float(latent.mean()), max(float(latent.std()), 1e-9)
    slope = link.slope(readings.levels) / scale
    parts = [x[:, group] @ x[:, group].T for group in groups.values()]
    outer = 1.0 if amplitude is None else np.outer(amplitude, amplitude)
    parts += [same(readings.keys[t]) * (outer if t == GROWS else 1.0) for t in TERMS]
    names = [*groups, *TERMS]
    middle = np.array([USUAL.get(name, -3.0) for name in names])
    spread = max(float(readings.means.std()), 1e-9)
    middle = np.append(middle, 2 * np.log(NOISE * spread))
    size = sizes(link, readings, even)
    errors = (slope * size) ** 2 / readings.counts
    loss = _Loss(parts, (latent - centre) / scale, errors, middle, readings, size)
    return loss, centre, scale


@dataclass(frozen=True)
class _Loss:
    """Minus the log evidence and prior of log variances, the noise's last; with its gradient."""

    parts: Sequence[Array]
    values: Array
    errors: Array  # of readings with noise 1
    middle: Array
    readings: Readings
    sizes: Array  # of the noise, by network

    def __call__(self, logs: Array) -> tuple[float, Array]:
        """The value and the gradient."""
        variances = np.exp(logs)
        try:
            factor, weights = self._solved(variances)
        except np.linalg.LinAlgError:
            return 1e10, np.zeros_like(logs)
        inverse, _ = dpotri(factor, lower=1)
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        inner = inverse - np.outer(weights, weights)
        slopes = [0.5 * np.vdot(inner, part) for part in self.parts]
        slopes.append(0.5 * float(np.diag(inner) @ self.errors))
        more, within = self._repeats
        slopes[-1] += 0.5 * more / variances[-1] - 0.5 * within / variances[-1] ** 2
        away = (logs - self.middle) / WIDTH**2
        return self._summed(logs, factor, weights), np.array(slopes) * variances + away

    def value(self, logs: Array) -> float:
        """The value alone, which costs a fourth."""
        try:
            return self._summed(logs, *self._solved(np.exp(logs)))
        except np.linalg.LinAlgError:
            return 1e10

    @property
    def _repeats(self) -> tuple[float, float]:
        """Readings beyond each network's first, and their squares, of noise 1 at the middle."""
        more = float((self.readings.counts - 1).sum())
        return more, float((self.readings.within / self.sizes**2).sum())

    def _solved(self, variances: Array) -> tuple[Array, Array]:
        """The Cholesky factor of the readings' covariance, and its inverse times them."""
        k = np.diag(variances[-1] * self.errors + JITTER)
        for variance, part in zip(variances[:-1], self.parts, strict=True):
            k += variance * part
        factor, _ = cho_factor(k, lower=True)
        return factor, cho_solve((factor, True), self.values)

    def _summed(self, logs: Array, factor: Array, weights: Array) -> float:
        more, within = self._repeats
        loss = 0.5 * self.values @ weights + np.log(np.diag(factor)).sum()
        loss += 0.5 * more * logs[-1] + 0.5 * within / np.exp(logs[-1])
        loss += (self.readings.counts - 1) @ np.log(self.sizes)
        away = (logs - self.middle) / WIDTH
        return float(loss + 0.5 * away @ away)

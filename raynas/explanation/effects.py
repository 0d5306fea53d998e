"""How much each option matters: one additive model of a metric over all decisions of a space.

Estimates come from one joint model because a search draws good options together, and averages
of one option at a time would credit it with what the others do. Each decision has an effect per
option, and decisions that recur in many layers (`*.kernel_size`) share a common effect on top,
so that sixteen layers learn from each other. Every group of effects has a spread of its own: a
half-Cauchy prior (Gelman 2006) and the marginal likelihood (Rasmussen & Williams 2006, ch. 5)
say which spreads fit, and the draws carry that doubt too. Where the archive shows nothing, effects
are near zero, within what it could not have shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.special import expit, logit

from raynas.architecture import Decision, Option
from raynas.objective import Objective
from raynas.space import Space

Array = np.ndarray[Any, np.dtype[np.float64]]
Index = np.ndarray[Any, np.dtype[np.int64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

DRAWS = 600
SPREADS = 50  # sets of spreads that the draws are made under
GRID = np.array([0.01, 0.03, 0.1, 0.2, 0.35, 0.55, 0.85, 1.3, 2.0, 3.0])  # a group's spread may be
WIDTH = 0.5  # of the prior of a spread; metrics are scaled to deviation 1
MOST = 600  # trials that enter the model; more are thinned evenly


@dataclass(frozen=True)
class Link:
    """A scale on which effects add up, and the way back."""

    to: Callable[[Array], Array]
    back: Callable[[Array], Array]


def link_for(values: Array) -> Link:
    """Shares of one add up as log-odds, positive quantities as logarithms, the rest as they are."""
    if values.min() >= 0 and values.max() <= 1:
        return Link(lambda v: logit(np.clip(v, 2e-3, 1 - 2e-3)), expit)
    if values.min() > 0 and values.max() > 10 * values.min():
        return Link(np.log, np.exp)
    return Link(lambda v: v, lambda v: v)


class Features:
    """Architectures as rows of the additive model; inactive and unknown decisions are 0."""

    def __init__(self, space: Space) -> None:
        layers: dict[tuple[str, tuple[Option, ...]], list[Decision]] = {}
        for d in space.decisions:
            layers.setdefault((d.leaf, d.options), []).append(d)
        self.space = space
        self.shared = {leaf: ds for (leaf, _), ds in layers.items() if len(ds) > 1}
        self._column: dict[tuple[str, Option], int] = {}
        self.group: list[int] = []
        groups = 0
        for (leaf, options), ds in layers.items():
            for name in [f"*.{leaf}"] if len(ds) > 1 else []:
                for option in options:
                    self._column[name, option] = len(self.group)
                    self.group.append(groups)
            groups += len(ds) > 1
            for d in ds:
                for option in options:
                    self._column[d.name, option] = len(self.group)
                    self.group.append(groups)
            groups += 1
        self.groups = groups

    def row(self, options: Mapping[str, Option]) -> Array:
        """The features of an architecture, `[columns]`."""
        x = np.zeros(len(self.group))
        for name, option in options.items():
            self._add(x, name, self.space.by_name[name], option, 1.0)
        for leaf, decisions in self.shared.items():
            active = [d for d in decisions if d.name in options]
            for d in active:
                self._add(x, f"*.{leaf}", d, options[d.name], 1.0 / len(active))
        return x

    def columns(self, name: str, d: Decision) -> Index:
        """Where the options of a decision, or of `*.leaf`, stand in a row."""
        return np.array([self._column[name, o] for o in d.options])

    def _add(self, x: Array, name: str, d: Decision, option: Option, weight: float) -> None:
        if option not in d.options:
            return
        for o in d.options:  # centred: an unknown option is the average one
            x[self._column[name, o]] += weight * ((o == option) - 1.0 / len(d.options))


@dataclass
class Effects:
    """The fitted model: joint draws of all effects.

    Attributes:
        draws: `[DRAWS, columns]`, on the link's scale.
        base: `[DRAWS]`, the level all effects are relative to.
        rows: features of the designs in the archive `[trials, columns]`.
        active: for each decision, in which of the rows it is active `[trials]`.
    """

    features: Features
    objective: Objective
    link: Link
    rows: Array
    active: Mapping[str, Mask]
    draws: Array
    base: Array

    def where(self, path: str, d: Decision) -> Mask:
        """The rows in which a decision, or for `*.leaf` any layer's, is active."""
        names = [other.name for other in self._meant(path, d)]
        return np.asarray(np.any([self.active[name] for name in names], axis=0))

    def switched(self, path: str, d: Decision, option: Option) -> Array:
        """The rows `where` it is active, with a decision, or `*.leaf` in all layers, set to it."""
        rows, decisions = self.rows.copy(), self._meant(path, d)
        target = np.array([o == option for o in d.options]) - 1.0 / len(d.options)
        family = self.features.shared.get(d.leaf, [])
        layers = sum((self.active[other.name] for other in family), np.zeros(len(rows)))
        for other in decisions:
            own = self.features.columns(other.name, d)
            on = np.flatnonzero(self.active[other.name])[:, None]
            if family:  # what all layers share moves by this layer's part of it
                moved = (target - rows[on, own]) / layers[on]
                rows[on, self.features.columns(f"*.{d.leaf}", d)] += moved
            rows[on, own] = target
        return rows[self.where(path, d)]

    def _meant(self, path: str, d: Decision) -> list[Decision]:
        return self.features.shared[d.leaf] if path.startswith("*.") else [d]

    def change(self, before: Array, after: Array) -> Array:
        """Draws of the metric's mean change from rows `before` to `after`, each [N, columns]."""
        low = self.base[:, None] + self.draws @ before.T
        high = self.base[:, None] + self.draws @ after.T
        return np.asarray((self.link.back(high) - self.link.back(low)).mean(axis=1))


def fit(
    space: Space,
    objective: Objective,
    designs: Sequence[Mapping[str, Option]],
    values: Sequence[float],
) -> Effects | None:
    """Fits the model to readings of one metric at one fidelity; None below eight of them."""
    if len(values) < 8:
        return None
    keep = evenly(len(values))
    features = Features(space)
    x = np.array([features.row(designs[i]) for i in keep])
    readings = np.array([values[i] for i in keep], dtype=float)
    link = link_for(readings)
    y = link.to(readings)
    centre, scale = float(y.mean()), float(y.std()) or 1.0
    group = np.array(features.group)
    kernels = [x[:, group == g] @ x[:, group == g].T for g in range(features.groups)]
    spreads, noises = _spreads(kernels, (y - centre) / scale)
    base, draws = _draw(x, spreads[:, group], noises, (y - centre) / scale)
    active = {d.name: np.array([d.name in designs[i] for i in keep]) for d in space.decisions}
    return Effects(features, objective, link, x, active, draws * scale, base * scale + centre)


def evenly(count: int) -> Index:
    """Which of `count` readings enter the model."""
    return np.unique(np.linspace(0, count - 1, min(MOST, count)).astype(int))


def _spreads(kernels: list[Array], y: Array) -> tuple[Array, Array]:
    """Draws of the groups' prior deviations `[SPREADS, groups]` and of the noise's `[SPREADS]`.

    The noise is at the peak of the posterior; each group is drawn from its conditional posterior
    there, on a grid.
    """
    stack = np.array(kernels)

    def loss(theta: Array) -> tuple[float, Array]:
        variance = np.exp(2 * theta)
        inverse, alpha, value = _solve(stack, variance, y)
        traces = np.einsum("ij,gij->g", inverse, stack)
        slopes = variance[:-1] * (traces - np.einsum("i,gij,j->g", alpha, stack, alpha))
        prior = variance[:-1] / WIDTH**2
        noise = variance[-1] * (np.trace(inverse) - alpha @ alpha)
        slope = np.append(slopes + 2 * prior / (1 + prior), noise)
        return value + float(np.log1p(prior).sum()), slope

    start = np.log([*[0.3] * len(kernels), 0.7])
    bounds = [(np.log(GRID[0]), np.log(GRID[-1]))] * len(kernels) + [(np.log(0.02), np.log(2.0))]
    peak = np.exp(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x)
    rng = np.random.default_rng(0)
    spreads = np.tile(peak[:-1], (SPREADS, 1))
    for g in range(len(kernels)):
        values = np.array([loss(np.log(_with(peak, g, t)))[0] for t in GRID])
        weights = np.exp(values.min() - values) * np.gradient(GRID)
        spreads[:, g] = rng.choice(GRID, size=SPREADS, p=weights / weights.sum())
    return spreads, np.full(SPREADS, peak[-1])


def _with(values: Array, i: int, value: float) -> Array:
    changed = values.copy()
    changed[i] = value
    return changed


def _solve(stack: Array, variance: Array, y: Array) -> tuple[Array, Array, float]:
    """Inverse covariance of the readings, its product with them, and their negative log density."""
    k = np.einsum("g,gij->ij", variance[:-1], stack) + 1.0 + variance[-1] * np.eye(len(y))
    factor = cho_factor(k, lower=True)
    alpha = cho_solve(factor, y)
    value = float(np.log(np.diag(factor[0])).sum() + 0.5 * y @ alpha)
    return cho_solve(factor, np.eye(len(y))), alpha, value


def _draw(x: Array, deviations: Array, noises: Array, y: Array) -> tuple[Array, Array]:
    """Posterior draws of level `[DRAWS]` and effects `[DRAWS, columns]`, with the tails of a t.

    Matheron's rule: a draw from the prior, moved by how it misses the readings.
    """
    rng = np.random.default_rng(0)  # fixed: the same archive always says the same
    wide = np.column_stack([np.ones(len(y)), x])
    found = []
    for deviation, noise in zip(deviations, noises, strict=True):
        prior = np.concatenate([[1.0], deviation])
        gain = (wide * prior**2).T
        k = wide @ gain
        factor = cho_factor(k + noise**2 * np.eye(len(y)), lower=True)
        count = DRAWS // len(deviations)
        free = rng.normal(size=(count, len(prior))) * prior
        errors = rng.normal(size=(count, len(y))) * noise
        moved = free - (gain @ cho_solve(factor, (free @ wide.T + errors).T)).T
        freedom = max(len(y) - float(np.trace(cho_solve(factor, k))), 3.0)
        moved *= np.sqrt(freedom / rng.chisquare(freedom, size=count))[:, None]
        found.append(gain @ cho_solve(factor, y) + moved)
    draws = np.concatenate(found)
    return draws[:, 0], draws[:, 1:]

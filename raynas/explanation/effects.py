"""How much each option matters: one additive model of a metric over all decisions of a space.

Estimates come from one joint model because a search draws good options together, and averages
of one option at a time would credit it with what the others do. Each decision has an effect per
option, and decisions that recur in many layers (`*.kernel_size`) share a common effect on top,
so that sixteen layers learn from each other. Every group of effects has a spread of its own,
found by marginal likelihood (empirical Bayes, Rasmussen & Williams 2006, ch. 5): where the
archive shows nothing the spread is near zero, and so is every effect.
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

DRAWS = 500
MOST = 1500  # trials that enter the model; more are thinned evenly


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

    def with_option(self, rows: Array, path: str, d: Decision, option: Option) -> Array:
        """Rows `[N, columns]` with a decision, or `*.leaf` in all layers, set to an option."""
        rows = rows.copy()
        for o in d.options:
            rows[:, self._column[path, o]] = (o == option) - 1.0 / len(d.options)
        return rows

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
        kept: which of the readings given these rows are.
        noise: what one reading scatters around the model, on the link's scale.
    """

    features: Features
    objective: Objective
    link: Link
    rows: Array
    kept: Array
    draws: Array
    base: Array
    noise: float

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
    keep = np.unique(np.linspace(0, len(values) - 1, min(MOST, len(values))).astype(int))
    features = Features(space)
    x = np.array([features.row(designs[i]) for i in keep])
    readings = np.array([values[i] for i in keep], dtype=float)
    link = link_for(readings)
    y = link.to(readings)
    centre, scale = float(y.mean()), float(y.std()) or 1.0
    group = np.array(features.group)
    kernels = [x[:, group == g] @ x[:, group == g].T for g in range(features.groups)]
    spread, noise = _spreads(kernels, (y - centre) / scale)
    base, draws = _draw(x, spread[group], noise, (y - centre) / scale)
    return Effects(
        features, objective, link, x, keep, draws * scale, base * scale + centre, noise * scale
    )


def _spreads(kernels: list[Array], y: Array) -> tuple[Array, float]:
    """The prior deviation of each group and the noise's, at the peak of the marginal likelihood."""
    ones = np.ones((len(y), len(y)))

    def loss(theta: Array) -> tuple[float, Array]:
        variance = np.exp(2 * theta)
        k = sum(v * kernel for v, kernel in zip(variance, kernels, strict=False)) + ones
        factor = cho_factor(k + variance[-1] * np.eye(len(y)), lower=True)
        alpha = cho_solve(factor, y)
        inverse = cho_solve(factor, np.eye(len(y)))
        value = np.log(np.diag(factor[0])).sum() + 0.5 * y @ alpha
        slopes = [
            v * (np.sum(inverse * kernel) - alpha @ kernel @ alpha)
            for v, kernel in zip(variance, kernels, strict=False)
        ]
        slopes.append(variance[-1] * (np.trace(inverse) - alpha @ alpha))
        # A half-Cauchy prior of width 0.5 on each group keeps single lucky readings from ruling.
        value += np.log1p(4 * variance[:-1]).sum()
        slopes[:-1] = [
            s + 8 * v / (1 + 4 * v) for s, v in zip(slopes[:-1], variance[:-1], strict=True)
        ]
        return float(value), np.array(slopes)

    start = np.log([*[0.3] * len(kernels), 0.7])
    bounds = [(np.log(1e-3), np.log(5.0))] * len(kernels) + [(np.log(0.02), np.log(2.0))]
    best = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return np.exp(best[:-1]), float(np.exp(best[-1]))


def _draw(x: Array, deviation: Array, noise: float, y: Array) -> tuple[Array, Array]:
    """Posterior draws of level and effects (Matheron's rule), with the tails of a t."""
    rng = np.random.default_rng(0)  # fixed: the same archive always says the same
    wide = np.column_stack([np.ones(len(y)), x])
    prior = np.concatenate([[1.0], deviation])
    k = (wide * prior**2) @ wide.T
    factor = cho_factor(k + noise**2 * np.eye(len(y)), lower=True)
    gain = (wide * prior**2).T
    mean = gain @ cho_solve(factor, y)
    free = rng.normal(size=(DRAWS, len(prior))) * prior
    errors = rng.normal(size=(DRAWS, len(y))) * noise
    moved = free - (gain @ cho_solve(factor, (free @ wide.T + errors).T)).T
    used = float(np.trace(cho_solve(factor, k)))
    freedom = max(len(y) - used, 3.0)
    moved *= np.sqrt(freedom / rng.chisquare(freedom, size=DRAWS))[:, None]
    draws = mean + moved
    return draws[:, 0], draws[:, 1:]

"""Zero-cost proxies as features: of the trials, and of the few designs that are worth the time.

What is learned is a line over each proxy, and of what the lines leave, a Gaussian process of the
other features (regression kriging). As one more distance of the process a proxy was not believed,
even where it told the metric itself: few trials cannot outweigh the distances of all the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from raynas.architecture import Architecture
from raynas.objective import Array
from raynas.strategies.features import FAR
from raynas.trial import Trial

RIDGE = 1.0  # as if one trial more, a deviation away, had shown nothing
ScoresOf = Callable[[Architecture], Mapping[str, float]]


@dataclass
class Scored:
    """Scores of designs by name, each computed once; of told trials, read from their reasons.

    Attributes:
        scorer: must answer the same for the same design, so that a search can be resumed.
    """

    names: tuple[str, ...]
    scorer: ScoresOf
    _known: dict[str, tuple[float, ...]] = field(default_factory=dict, init=False)

    def tell(self, trial: Trial) -> None:
        scores = trial.reason.scores if trial.reason else {}
        if all(name in scores for name in self.names):
            self._known[str(trial.architecture)] = tuple(scores[name] for name in self.names)

    def __call__(self, architectures: Iterable[Architecture]) -> Array:
        """Scores `[N, names]`; `-inf` where a proxy gives none."""
        return np.array([self._of(a) for a in architectures]).reshape(-1, len(self.names))

    def named(self, architecture: Architecture) -> dict[str, float]:
        """A design's finite scores."""
        pairs = zip(self.names, self._of(architecture), strict=True)
        return {name: score for name, score in pairs if np.isfinite(score)}

    def _of(self, architecture: Architecture) -> tuple[float, ...]:
        text = str(architecture)
        if text not in self._known:
            found = self.scorer(architecture)
            self._known[text] = tuple(float(found[name]) for name in self.names)
        return self._known[text]


@dataclass(frozen=True)
class Standard:
    """Centres scores and makes their deviation 1; what is far, or is no number, is cut off."""

    centre: Array
    spread: Array

    @classmethod
    def of(cls, scores: Array) -> Standard:
        known = np.where(np.isfinite(scores), scores, np.nan)
        some = np.isfinite(known).any(axis=0)
        known[:, ~some] = 0.0
        return cls(np.nanmedian(known, axis=0), np.maximum(np.nanstd(known, axis=0), 1e-9))

    def __call__(self, scores: Array) -> Array:
        return np.asarray(np.clip((scores - self.centre) / self.spread, -FAR, FAR))


def slope(scores: Array, values: Array) -> Array:
    """Of values `[N]` over standardized scores `[N, P]`; ridge regression, shy of few trials."""
    centred = scores - scores.mean(axis=0)
    square = centred.T @ centred + RIDGE * np.eye(scores.shape[1])
    return np.asarray(np.linalg.solve(square, centred.T @ (values - values.mean())))

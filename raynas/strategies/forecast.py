"""What a model expects of a trial, in the unit of the metric: a mean, a deviation, an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from raynas.objective import Array, Objective
from raynas.trial import Trial

LEVEL = 0.9  # of intervals
REACH = NormalDist().inv_cdf((1 + LEVEL) / 2)  # deviations to either side of the mean
BEYOND = 2.0  # how much of either end says how readings go on beyond it


@dataclass(frozen=True)
class Forecast:
    """From what a model learned (larger is better) back to readings of an objective.

    Models learn places or scaled losses, for units and outliers would mislead them. The finished
    trials have both, and between them readings are interpolated. Beyond the best and the worst of
    them readings go on as straight lines, as steep as over the last `BEYOND`.

    Attributes:
        values: learned values of finished trials, rising, each once.
        readings: of the objective at them, never worse for a larger value.
        objective: whose readings these are.
    """

    values: Array
    readings: Array
    objective: Objective

    @classmethod
    def of(cls, objective: Objective, trials: Sequence[Trial], values: Array) -> Forecast | None:
        """None where no two finished trials differ: then there is no unit to speak in."""
        ended = [
            (float(v), objective.loss(t.metrics[objective.name]))
            for v, t in zip(values, trials, strict=True)
            if t.status == "finished" and objective.name in t.metrics
        ]
        if len(ended) < 2:
            return None
        pairs = np.array(ended)
        knots, group = np.unique(pairs[:, 0], return_inverse=True)
        losses = np.bincount(group, pairs[:, 1]) / np.bincount(group)
        losses = np.minimum.accumulate(losses)
        if len(knots) < 2 or losses[0] == losses[-1]:
            return None
        return cls(knots, objective.loss(1.0) * losses, objective)

    def __call__(
        self, mean: float, deviation: float, wider: tuple[float, float] = (1.0, 1.0)
    ) -> dict[str, float]:
        """What is expected of one design.

        Args:
            mean, deviation: of its value as read, noise included.
            wider: by what the deviation is multiplied for values below and above the mean.

        Returns:
            `mean`, `std`, and the ends `low` and `high` of the interval that 90 % of such
            readings should lie in; all in the metric's unit.
        """
        below, above = wider
        reach = deviation * np.array([-REACH * below, -below, 0.0, above, REACH * above])
        a, left, middle, right, b = self.read(mean + reach).tolist()
        std = abs(right - left) / 2
        return {"mean": middle, "std": std, "low": min(a, b), "high": max(a, b)}

    def read(self, values: Array) -> Array:
        """Readings at learned values."""
        first, last = self.values[0], self.values[-1]
        width = min(BEYOND, last - first)
        inner = np.interp([first + width, last - width], self.values, self.readings)
        below = (inner[0] - self.readings[0]) / width
        above = (self.readings[-1] - inner[1]) / width
        inside = np.interp(values, self.values, self.readings)
        return np.asarray(
            inside
            + below * np.minimum(values - first, 0.0)
            + above * np.maximum(values - last, 0.0)
        )


def surprise(trial: Trial, objective: Objective) -> int | None:
    """Whether a finished trial read what was expected: 0, or 1 if better, -1 if worse.

    None if nothing was expected, or it did not end.
    """
    scores = trial.reason.scores if trial.reason else {}
    reading = trial.metrics.get(objective.name) if trial.status == "finished" else None
    if reading is None or "low" not in scores or "high" not in scores:
        return None
    way = int(reading > scores["high"]) - int(reading < scores["low"])
    return int(-objective.loss(1.0)) * way

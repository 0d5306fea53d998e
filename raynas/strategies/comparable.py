"""Losses of trials, side by side, when some were stopped early."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raynas.objective import Array, Objective, losses
from raynas.strategies.standing import standings
from raynas.trial import Trial


def comparable_losses(trials: Sequence[Trial], objectives: Sequence[Objective]) -> Array:
    """Losses `[N, M]` of trials with readings, smaller is better.

    What was stopped early has no final loss. It gets the one that the finished have at its own
    place, where places are given at the epoch that it reached (see `standings`), objective by
    objective; where nothing is finished yet, places stand for losses altogether.
    """
    points = np.array([losses(objectives, t.metrics) for t in trials]).reshape(-1, len(objectives))
    stopped = np.array([t.status != "finished" for t in trials], dtype=bool)
    if not stopped.any():
        return points
    for column, objective in enumerate(objectives):
        place = standings(trials, (objective,))
        if stopped.all():
            points[:, column] = -place
        else:
            finished = points[~stopped, column]
            own = np.quantile(finished, 1 - np.clip(place[stopped], 0, 1))
            points[stopped, column] = np.nextafter(own, np.inf)  # of equals, the finished is better
    return points

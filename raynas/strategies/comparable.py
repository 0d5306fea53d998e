"""Losses of trials, side by side, when some were stopped early or broke a constraint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raynas.objective import Array, Constraint, Objective, losses
from raynas.strategies.standing import standings
from raynas.trial import Trial


def comparable_losses(
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint] = (),
) -> Array:
    """Losses `[N, M]` of trials that were not lost, smaller is better.

    What did not finish has no final loss. It gets the one that the finished have at its own
    place, where places are given at the epoch that it reached (see `standings`), objective by
    objective; where nothing is finished yet, places stand for losses altogether.
    """
    finished = np.array([t.status == "finished" for t in trials], dtype=bool)
    points = np.full((len(trials), len(objectives)), np.nan)
    if finished.any():
        points[finished] = [losses(objectives, t.metrics) for t in trials if t.status == "finished"]
    if finished.all():
        return points
    for column, objective in enumerate(objectives):
        place = standings(trials, (objective,), constraints)
        if not finished.any():
            points[:, column] = -place
        else:
            final = points[finished, column]
            own = np.quantile(final, 1 - np.clip(place[~finished], 0, 1))
            points[~finished, column] = np.nextafter(own, np.inf)  # of equals, the finished wins
    return points

"""Losses and ranks of trials, when some were stopped early or broke a constraint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raynas.objective import Array, Constraint, Mask, Objective, Ranks, crowding, losses, ranks
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


def fitness(
    trials: Sequence[Trial], objectives: Sequence[Objective], constraints: Sequence[Constraint]
) -> tuple[Ranks, Array]:
    """Rank (0 is best) and room of each trial, by constraint domination.

    What breaks a constraint ranks behind all that keep them, the further beyond the further
    behind (Fonseca & Fleming 1998, doi:10.1109/3468.650319, who treat goals so too).
    """
    keep = np.array([allowed(t, constraints) for t in trials], dtype=bool)
    points = comparable_losses([t for t, k in zip(trials, keep, strict=True) if k], objectives)
    broken = [t for t, k in zip(trials, keep, strict=True) if not k]
    places = standings(broken, objectives, constraints)
    return ranked(keep, points, np.unique(-places, return_inverse=True)[1].ravel())


def ranked(keep: Mask, points: Array, behind: Ranks) -> tuple[Ranks, Array]:
    """Rank and room: losses `[K, M]` of those that keep all constraints, the others by rank."""
    rank, room = np.zeros(len(keep), dtype=np.int64), np.zeros(len(keep))
    if keep.any():
        own = ranks(points)
        rank[keep], room[keep] = own, crowding(points, own)
    rank[~keep] = rank[keep].max(initial=-1) + 1 + behind
    return rank, room


def allowed(trial: Trial, constraints: Sequence[Constraint]) -> bool:
    """Whether a trial has readings that keep every constraint."""
    return trial.usable and all(c.holds(trial.metrics) for c in constraints)


def bounds_of(objectives: Sequence[Objective], constraints: Sequence[Constraint]) -> Array:
    """Losses `[M]` that the constraints allow at most; inf for objectives they do not bound."""
    wanted = [
        [o.loss(c.bound) for c in constraints if (c.metric, c.sense) == (o.name, worse)]
        for o in objectives
        for worse in ["max" if o.direction == "min" else "min"]
    ]
    return np.array([min(bounds, default=np.inf) for bounds in wanted])

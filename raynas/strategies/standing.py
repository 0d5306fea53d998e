"""How trials compare when some were stopped early, broke a constraint or failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np

from raynas.objective import Array, Constraint, Metrics, Objective, crowding, losses, ranks
from raynas.trial import Trial

RESPONSIBLE = ("finished", "stopped_early", "infeasible", "failed")  # a lost trial says nothing


def standings(
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint] = (),
) -> Array:
    """Where each trial stands among all of them, from 0 (worst) to 1 (best); NaN if it was lost.

    Ranks only, so neither units nor outliers matter. Trials with readings come first, then what
    broke a constraint, by how far, then what failed. With readings:

    - one objective: by its value;
    - several: by non-dominated front, then by crowding distance within it (Deb et al. 2002), so
      that the whole front counts as best and its thin parts a little more. No reference point.
    - a trial stopped at an epoch is compared at that epoch, with all that got there. With `s` the
      share that did and `q` the share of those that it beats, it stands at `1 - s (1 - q)`: below
      nothing that went on is assumed better than it was when it was last seen. Finished trials
      are compared with each other in the same way.
    """
    usable = [i for i, t in enumerate(trials) if _read(t, objectives, constraints)]
    within = set(usable)
    broken = [i for i, t in enumerate(trials) if i not in within and t.status != "lost"]
    excess = np.array([_excess(trials[i], constraints) for i in broken])
    places = np.full(len(trials), np.nan)
    total = len(usable) + len(broken)
    if broken:
        places[broken] = _shares(excess[:, None]) * len(broken) / total
        places[[i for i, e in zip(broken, excess, strict=True) if np.isinf(e)]] = 0.0
    if usable:
        own = _usable([trials[i] for i in usable], objectives)
        places[usable] = (len(broken) + own * len(usable)) / total
    return places


def normal_scores(places: Array) -> Array:
    """Places (larger is better) as quantiles of the normal distribution; equals share one."""
    _, group, sizes = np.unique(places, return_inverse=True, return_counts=True)
    middle = (np.cumsum(sizes) - sizes / 2) / len(places)
    return np.array([NormalDist().inv_cdf(m) for m in middle])[group]


def representative(kept: Sequence[int], places: Array, most: int) -> list[int]:
    """Up to `most` of the trials: the best half, the latest sixth, the rest evenly by place."""
    if len(kept) <= most:
        return list(kept)
    order = sorted(kept, key=lambda i: -places[i])
    taken = {*order[: most // 2], *kept[-(most // 6) :]}
    rest = [i for i in order if i not in taken]
    spread = np.linspace(0, len(rest) - 1, most - len(taken)).astype(int)
    return sorted(taken | {rest[k] for k in spread})


def _usable(trials: Sequence[Trial], objectives: Sequence[Objective]) -> Array:
    """The standing of trials with readings among themselves."""
    stopped = np.array([t.status == "stopped_early" for t in trials])
    reached = np.where(stopped, [t.fidelity for t in trials], np.inf)
    places = np.zeros(len(trials))
    for epoch in np.unique(reached):
        there = np.flatnonzero(reached >= epoch)
        readings = [reading_at(trials[int(i)], epoch) for i in there]
        told = [all(o.name in r for o in objectives) for r in readings]
        points = np.array(
            [losses(objectives, r) for r, known in zip(readings, told, strict=True) if known]
        )
        here = there[np.array(told)]
        beaten = _shares(_order(points))
        now = reached[here] == epoch
        places[here[now]] = 1 - len(there) / len(trials) * (1 - beaten[now])
    return places


def reading_at(trial: Trial, epoch: float) -> Metrics:
    """The readings after an epoch (inf: the last ones); those that never change come along."""
    if np.isinf(epoch) or (trial.status == "stopped_early" and trial.fidelity == epoch):
        return trial.metrics
    curve: Mapping[str, float] = (
        trial.curve[int(epoch) - 1] if 0 < epoch <= len(trial.curve) else {}
    )
    varying = {name for reading in trial.curve for name in reading}
    constant = {n: v for n, v in trial.metrics.items() if n not in varying}
    return {**constant, **curve}


def _order(points: Array) -> Array:
    """Keys `[N, K]` by which rows are sorted, smaller is better: the loss, or rank and crowding."""
    if points.shape[1] == 1:
        return points
    return np.column_stack([ranks(points), -crowding(points)])


def _shares(keys: Array) -> Array:
    """The share of the other rows that each row of `[N, K]` is ahead of; equals share a place."""
    if len(keys) < 2:
        return np.ones(len(keys))
    _, group = np.unique(keys, axis=0, return_inverse=True)
    group = group.ravel()
    size = np.bincount(group)
    behind = len(keys) - np.cumsum(size)
    return np.asarray((behind + (size - 1) / 2)[group] / (len(keys) - 1))


def _read(trial: Trial, objectives: Sequence[Objective], constraints: Sequence[Constraint]) -> bool:
    known = trial.usable and all(o.name in trial.metrics for o in objectives)
    return known and all(c.holds(trial.metrics) for c in constraints)


def _excess(trial: Trial, constraints: Sequence[Constraint]) -> float:
    """How far a trial is beyond the bounds, as a share of them; inf if it failed."""
    beyond = excess(trial, constraints)
    return beyond if beyond and trial.status != "failed" else np.inf


def excess(trial: Trial, constraints: Sequence[Constraint]) -> float:
    """How far a trial is beyond the bounds, as a share of them; 0 if it keeps them all."""
    broken = [c for c in constraints if not c.holds(trial.metrics)]
    return float(sum(c.excess(trial.metrics) / max(abs(c.bound), 1e-12) for c in broken))

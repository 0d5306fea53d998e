"""What a search is judged by: objectives, constraints, dominance and the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from raynas.errors import UserError

Metrics = Mapping[str, float]
Array = np.ndarray[Any, np.dtype[np.float64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
Ranks = np.ndarray[Any, np.dtype[np.int64]]

FEW = 256  # points that are ranked by a table of who dominates whom

# Metrics with one sensible direction, and their units: for these, `accuracy` alone says enough.
KNOWN: dict[str, tuple[Literal["min", "max"], str]] = {
    "accuracy": ("max", "1"),
    "loss": ("min", "nat"),
    "params": ("min", "1"),
    "flops": ("min", "1"),  # two per multiply-add, for one image
    "model_size_kb": ("min", "kB"),  # the file of the weights as they are stored
    "peak_memory_mb": ("min", "MB"),  # of one pass of one image: weights and what lives beside
    "latency_ms": ("min", "ms"),  # of one image
    "train_seconds": ("min", "s"),
}
COUNTS = ("params", "flops")  # metrics that are whole numbers
TOLD = ("model_size_kb", "peak_memory_mb", "latency_ms")  # by a machine, or estimated for one
COSTS = (*COUNTS, *TOLD)  # metrics that are known of a design before it is trained


@dataclass(frozen=True)
class Objective:
    """A measured quantity, the way it should go, and its unit ('1' if it has none)."""

    name: str
    direction: Literal["min", "max"]
    unit: str = "1"

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Reads `accuracy:max`; the direction may be left out of a metric in `KNOWN`."""
        name, _, direction = text.partition(":")
        known, unit = KNOWN.get(name, ("", "1"))
        direction = direction or known
        if not name or direction not in ("min", "max"):
            raise UserError(
                f"expected an objective such as accuracy:max or params:min; got {text!r}."
            )
        return cls(name, direction, unit)  # type: ignore[arg-type]  # checked above

    def __str__(self) -> str:
        return f"{self.name}:{self.direction}"

    def loss(self, value: float) -> float:
        """The value, turned so that smaller is better: the only place that knows directions."""
        return value if self.direction == "min" else -value


@dataclass(frozen=True)
class Constraint:
    """A bound on a metric: `max_params: 50000` or `min_accuracy: 0.9`."""

    metric: str
    sense: Literal["min", "max"]
    bound: float

    def holds(self, metrics: Metrics) -> bool:
        """Whether the metric, if it is known yet, keeps the bound."""
        return metrics.get(self.metric) is None or self.excess(metrics) <= 0

    def excess(self, metrics: Metrics) -> float:
        """How far the metric is beyond the bound, in its unit; negative when it holds."""
        gap = metrics[self.metric] - self.bound
        return gap if self.sense == "max" else -gap

    def __str__(self) -> str:
        return f"{self.sense}_{self.metric}={self.bound:g}"


def figure(number: float) -> str:
    """A number as it is said: whole above a thousand, else with four digits."""
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"


def losses(objectives: Sequence[Objective], metrics: Metrics) -> tuple[float, ...]:
    """One number per objective, smaller is better."""
    return tuple(o.loss(metrics[o.name]) for o in objectives)


def pareto_front(points: Array) -> Mask:
    """Marks the points that no other point dominates.

    Args:
        points: losses `[N, M]`, smaller is better; rows with NaN are never on the front.

    Returns:
        bool `[N]`; of equal points, all or none. O(N log N) for up to two objectives, O(N F) for
        a front of F points otherwise.
    """
    points = np.asarray(points, dtype=float)
    front = np.zeros(len(points), dtype=bool)
    alive = np.flatnonzero(~np.isnan(points).any(axis=1))
    if points.shape[1] == 2:
        order = alive[np.lexsort(points[alive].T[::-1])]  # by the first objective, then the second
        x, y = points[order].T
        best_before = np.minimum.accumulate(np.concatenate([[np.inf], y]))[:-1]
        first = np.searchsorted(x, x)  # of equal x only the lowest y, and its equals, can stay
        front[order[(y < best_before[first]) & (y == y[first])]] = True
        return front
    while len(alive):
        best = points[alive[np.argmin(points[alive].sum(axis=1))]]
        # Of rounded sums the least may be that of a point that another dominates by very little.
        near = points[alive[(points[alive] <= best).all(axis=1)]]
        best = near[np.lexsort(near.T[::-1])[0]]
        same = (points[alive] == best).all(axis=1)
        front[alive[same]] = True
        alive = alive[(points[alive] < best).any(axis=1)]
    return front


def ranks(points: Array) -> Ranks:
    """Non-domination rank of each row of `[N, M]` losses: 0 on the front, 1 on the next..."""
    rank = np.full(len(points), len(points), dtype=np.int64)
    left = np.flatnonzero(~np.isnan(points).any(axis=1))
    if points.shape[1] == 1:
        rank[left] = np.unique(points[left, 0], return_inverse=True)[1]
        return rank
    if len(left) <= FEW:
        rank[left] = _ranks_of_few(points[left])
        return rank
    level = 0
    while len(left):
        front = pareto_front(points[left])
        rank[left[front]] = level
        left, level = left[~front], level + 1
    return rank


def _ranks_of_few(points: Array) -> Ranks:
    """The same, by who dominates whom; no row has NaN."""
    count = len(points)
    no_worse = np.ones((count, count), dtype=bool)
    for column in points.T:
        no_worse &= column[:, None] <= column
    dominates = no_worse & ~no_worse.T
    by = dominates.sum(axis=0)  # how many of those left dominate each
    rank, level = np.zeros(count, dtype=np.int64), 0
    while (front := np.flatnonzero(by == 0)).size:
        rank[front], by[front] = level, count + 1  # never to be 0 again
        by -= dominates[front].sum(axis=0)
        level += 1
    return rank


def crowding(points: Array, rank: Ranks | None = None) -> Array:
    """How much room each row of `[N, M]` losses has among those of its own rank.

    The sum over objectives of the gap between a point's neighbours, as a share of the range;
    infinite at the ends of a front (Deb et al. 2002, section III-B).

    Args:
        rank: of the rows, where it is known already.
    """
    room = np.zeros(len(points))
    rank = ranks(points) if rank is None else rank
    for level in range(int(rank.max(initial=-1)) + 1):
        members = np.flatnonzero(rank == level)
        for column in points[members].T:
            places = np.argsort(column, kind="stable")
            order, values = members[places], column[places]
            width = values[-1] - values[0] if len(values) else 0.0
            room[order[[0, -1]]] = np.inf if len(order) else 0.0
            if width > 0:
                room[order[1:-1]] += (values[2:] - values[:-2]) / width
    return room


def contributions(points: Array, reference: Array) -> Array:
    """The volume that each row of `[N, M]` losses, none dominating another, dominates alone."""
    alone = np.empty(len(points))
    for i, point in enumerate(points):
        others = np.maximum(np.delete(points, i, axis=0), point)
        alone[i] = np.prod(reference - point) - hypervolume(others, reference)
    return alone


def hypervolume(points: Array, reference: Array) -> float:
    """What `[N, M]` losses dominate of the box below the reference point (Zitzler & Thiele 1998).

    Exact, slice by slice: O(N log N) for two objectives, N times that for each further one.
    """
    points = points[(points < reference).all(axis=1)]
    points = np.unique(points[pareto_front(points)], axis=0)
    if not len(points):
        return 0.0
    steps = np.diff(np.append(points[:, 0], reference[0]))
    if points.shape[1] == 2:
        return float(steps @ (reference[1] - points[:, 1]))
    slices = (hypervolume(points[: i + 1, 1:], reference[1:]) for i in range(len(points)))
    return float(sum(s * v for s, v in zip(steps, slices, strict=True)))

"""Where a search stands, kept up to date trial by trial at a cost that does not grow with them."""

from __future__ import annotations

import math
import re
import time
from collections import deque
from collections.abc import Sequence

import numpy as np

from raynas.objective import Array, Constraint, Objective, hypervolume, pareto_front
from raynas.trial import Purpose, Trial

FIRST = 10  # readings whose worst are the reference point of the hypervolume
DESIGNS = 200  # on a front of three objectives or more, beyond which no hypervolume is told
POINTS = 24  # of the curve of the hypervolume that is shown
BARS = "▁▂▃▄▅▆▇█"
TESTS: frozenset[Purpose] = frozenset({"confirm", "ablation", "audit"})
NEVER: frozenset[Purpose] = frozenset({"supernet", "final"})


class Standing:
    """Front, hypervolume, the best per objective and causes of failure, of trials told one by one.

    The hypervolume is what the front dominates of the box between the reference point (in each
    objective the worst of the first ten readings) and the best reading of each objective, as a
    share of that box. With one objective it is how far the best has come, and says nothing.

    `tell` only notes a trial and may be called in any thread; `settle` counts what was noted.

    Args:
        constraints: trials whose readings break one do not stand on the front.

    Attributes:
        front: the numbers of the trials on it.
        best: per objective the trial that is best in it; empty without readings.
        causes: first line of an error, its numbers left out -> (how many, the last of them).
    """

    def __init__(
        self, objectives: Sequence[Objective], constraints: Sequence[Constraint] = ()
    ) -> None:
        self.objectives, self.constraints = tuple(objectives), tuple(constraints)
        self.best: list[Trial] = []
        self.causes: dict[str, tuple[int, int]] = {}
        self.began = time.monotonic()
        self._noted: deque[tuple[float, Trial]] = deque()
        self._seen: set[int] = set()  # numbers told
        self._early: list[Array] = []  # the first readings
        self._points: Array = np.empty((0, len(self.objectives)))
        self._numbers = np.empty(0, dtype=int)
        self._steps: list[tuple[float, float]] = []  # when it grew, and to how much
        self._searched = False

    @property
    def front(self) -> list[int]:
        return [int(n) for n in self._numbers]

    @property
    def hypervolume(self) -> float | None:
        """The share now; None if there is nothing to tell, as before the tenth reading."""
        return self._steps[-1][1] / self._box if self._steps and self._box > 0 else None

    def curve(self, points: int = POINTS) -> list[float]:
        """The hypervolume at so many moments from the beginning until now, by today's box."""
        if self.hypervolume is None:
            return []
        times, values = np.array(self._steps).T
        moments = np.linspace(self.began, max(time.monotonic(), times[-1]), points)
        at = np.searchsorted(times, moments, side="right")
        return [float(v) for v in np.concatenate([[0.0], values])[at] / self._box]

    def tell(self, trial: Trial) -> None:
        """Notes a trial that has ended; one that was noted before is passed over."""
        if trial.number not in self._seen:
            self._seen.add(trial.number)
            self._noted.append((time.monotonic(), trial))

    def settle(self) -> None:
        """Counts what was noted since the last time."""
        fresh: list[tuple[float, Trial]] = []
        while self._noted:
            at, trial = self._noted.popleft()
            if trial.status in ("failed", "lost"):
                lines = (trial.error or "").strip().splitlines()
                cause = blanked(lines[0] if lines else "no message")
                self.causes[cause] = (self.causes.get(cause, (0, 0))[0] + 1, trial.number)
            elif trial.status == "finished" and self._counts(trial):
                fresh.append((at, trial))
        if fresh:
            self._add(fresh)

    def _counts(self, trial: Trial) -> bool:
        """Whether it may stand on the front: as `raynas.front.front_of` has it."""
        metrics = trial.metrics
        if trial.purpose in NEVER or (trial.purpose in TESTS and self._searched):
            return False
        if not all(math.isfinite(metrics.get(o.name, math.nan)) for o in self.objectives):
            return False
        self._searched = self._searched or trial.purpose not in TESTS
        return all(c.holds(metrics) for c in self.constraints)

    def _add(self, fresh: Sequence[tuple[float, Trial]]) -> None:
        rows = [[o.loss(t.metrics[o.name]) for o in self.objectives] for _, t in fresh]
        points = np.array(rows, dtype=float)
        self._early += list(points[: FIRST - len(self._early)]) if len(self._early) < FIRST else []
        for i, objective in enumerate(self.objectives):
            first = fresh[int(points[:, i].argmin())][1]
            if len(self.best) <= i:
                self.best.append(first)
            elif points[:, i].min() < objective.loss(self.best[i].metrics[objective.name]):
                self.best[i] = first
        numbers = np.concatenate([self._numbers, [t.number for _, t in fresh]])
        points = np.concatenate([self._points, points])
        stands = pareto_front(points)
        grew = stands[len(self._points) :].any()
        self._points, self._numbers = points[stands], numbers[stands].astype(int)
        if grew and len(self.objectives) > 1:
            self._measure(fresh[-1][0])

    def _measure(self, at: float) -> None:
        if len(self.objectives) > 2 and len(self._points) > DESIGNS:
            self._steps = []
            return
        if len(self._early) == FIRST:  # else the reference point is not settled yet
            self._steps.append((at, hypervolume(self._points, self._reference)))

    @property
    def _reference(self) -> Array:
        worst: Array = np.array(self._early).max(axis=0)
        return worst

    @property
    def _box(self) -> float:
        return float(np.prod(self._reference - self._points.min(axis=0)))


def grown(points: Array) -> list[float]:
    """The hypervolume of `Standing` after each of so many shares of readings in their order.

    Args:
        points: losses `[N, M]` of the trials that may stand on a front.
    """
    if len(points) < FIRST or points.shape[1] < 2:
        return []
    reference, front, grown = points[:FIRST].max(axis=0), points[:0], []
    for part in np.array_split(points, min(POINTS, len(points) // FIRST)):
        front = np.concatenate([front, part])
        front = front[pareto_front(front)]
        if points.shape[1] > 2 and len(front) > DESIGNS:
            return []
        grown.append(hypervolume(front, reference))
    box = float(np.prod(reference - front.min(axis=0)))
    return [value / box for value in grown] if box > 0 else []


def sparkline(values: Sequence[float]) -> str:
    """Values as a row of bars, from the least to the most of them."""
    if not values:
        return ""
    least, most = min(values), max(values)
    scale = (len(BARS) - 1) / (most - least) if most > least else 0.0
    return "".join(BARS[round((v - least) * scale)] for v in values)


def blanked(line: str) -> str:
    """A line of an error without what differs between trials that failed alike."""
    line = re.sub(r"\b0x[0-9a-fA-F]+\b", "N", line)
    return re.sub(r"-?\d[\d,]*(?:\.\d+)?(?:[eE][+-]?\d+)?", "N", line)

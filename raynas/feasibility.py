"""What a space has to offer within limits, before any search: sampled, not trained."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import beta

from raynas import targets
from raynas.architecture import Architecture
from raynas.choices import as_space
from raynas.errors import UserError
from raynas.objective import COSTS, Constraint, figure
from raynas.problem import Problem
from raynas.space import Shape, Space

if TYPE_CHECKING:
    from raynas.costs import Latencies

LEVEL = 0.95  # of the interval
FRESH = "measured here just now (to keep a table: raynas latency measure)"
STEPS = 300  # changes to the nearest design, where none of the sampled ones keeps the limits

Measure = Callable[[Architecture], dict[str, float]]


@dataclass(frozen=True)
class Preview:
    """What random designs of a space cost.

    Attributes:
        space: its name.
        samples: how many random designs were drawn.
        feasible: how many of them keep all limits.
        costs: one row per cost: smallest, median, largest; limit and the share that keeps it
            (`kept`), null without one.
        low, high: the 95 % interval of the share that keeps all limits.
        constraints: the limits.
        found: a design that keeps them: a sampled one or, if there was none, one that was reached
            by small changes to the nearest; None if none was.
        nearest: the costs of the design that comes nearest to keeping them.
        note: what is to be known of the latencies; '' if nothing is.
    """

    space: str
    samples: int
    feasible: int
    costs: pd.DataFrame
    low: float
    high: float
    constraints: tuple[Constraint, ...]
    found: Architecture | None
    nearest: Mapping[str, float]
    note: str = ""

    @property
    def share(self) -> float:
        """Of the random designs, those that keep all limits."""
        return self.feasible / self.samples

    @property
    def bounds(self) -> dict[str, float]:
        """The nearest limits that some design keeps, rounded away from it; the given where kept."""
        return {
            f"{c.sense}_{c.metric}": c.bound if c.holds(self.nearest) else _loose(c, self.nearest)
            for c in self.constraints
        }

    def sentences(self) -> list[str]:
        """What was found, in words."""
        said = [f"Latencies are {self.note}."] if self.note else []
        if not self.constraints:
            return said
        limits = ", ".join(map(str, self.constraints))
        said.append(
            f"{self.feasible} of {self.samples} random designs of {self.space} keep {limits}: "
            f"{100 * self.share:.1f} % ({100 * LEVEL:.0f} %: {100 * self.low:.1f} to "
            f"{100 * self.high:.1f} %)."
        )
        costs = ", ".join(f"{c.metric} {figure(self.nearest[c.metric])}" for c in self.constraints)
        if not self.feasible and self.found:
            said.append(
                f"There are some: small changes to the nearest led to {self.found}: {costs}."
            )
        elif not self.feasible:
            bounds = ", ".join(f"{n}={_digits(b)}" for n, b in self.bounds.items())
            said.append(f"The nearest has {costs}. Limits that it keeps: {bounds}.")
        return said

    def __str__(self) -> str:
        return "\n".join([self.costs.to_string(), *self.sentences()])


def preview(
    problem: Problem | Mapping[str, Any] | None = None,
    *,
    space: str | Space | Callable[..., Any] = "layered",
    latency_table: str | Path | None = None,
    samples: int = 1000,
    seed: int = 0,
    data_root: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Preview:
    """What share of a space keeps limits, and what its designs cost, from random designs.

    Args:
        problem: as for `search`: its constraints, and `input_shape` and `num_classes` or a
            dataset, which is loaded for them only where they are not given.
        space: as for `search`.
        latency_table: a file of `raynas latency measure`; without one, where a latency is limited
            and the target device is not mobile, one is measured first and not kept.
        samples: how many designs are drawn.
        seed: of the designs.
        data_root: where named data lies.
        progress: is called with (steps done, steps in all), first of a table that is measured.

    Raises:
        UserError: a limit is on something that only training tells, or there is no such device.
    """
    problem = Problem.of(problem if problem is not None else {})
    if other := [c.metric for c in problem.constraints if c.metric not in COSTS]:
        raise UserError(
            f"expected limits on what is known before training ({', '.join(COSTS)}); got "
            f"{other[0]}. Leave it away."
        )
    shape, classes = _images(problem, seed, data_root)
    found = as_space(space, shape, classes)
    if found.build is None:
        raise UserError(f"the space {found.name!r} says nothing of networks.")
    names = targets.wanted(problem, latency_table)
    limited = {c.metric for c in problem.constraints}
    names = tuple(n for n in names if n in limited | {"params", "latency_ms"} or not limited)
    latency = targets.settings_of(problem, latency_table)
    table = targets.ready(latency) if latency else None
    with tempfile.TemporaryDirectory(prefix="raynas-") as folder:
        fresh = bool(latency) and table is None
        if latency and table is None:
            given = (latency, found, shape, classes, progress, seed)
            table = targets.measured_first(Path(folder), *given)
        made = _drawn(found, shape, classes, names, table, problem, samples, seed, progress)
    return replace(made, note=FRESH) if fresh else made


def _drawn(
    space: Space,
    input_shape: Shape,
    num_classes: int,
    names: tuple[str, ...],
    table: Latencies | None,
    problem: Problem,
    samples: int,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> Preview:
    from raynas.costs import costs_of

    def measure(design: Architecture) -> dict[str, float]:
        return costs_of(space, design, input_shape, num_classes, names, table)

    drawn, costs = [], []
    rng = np.random.default_rng(seed)
    for i in range(samples):
        drawn.append(space.plainest(space.sample(rng)))
        costs.append(measure(drawn[-1]))
        if progress is not None:
            progress(i + 1, samples)
    return _summed(space, drawn, costs, problem.constraints, measure, seed, table)


def _images(problem: Problem, seed: int, data_root: str | Path | None) -> tuple[Shape, int]:
    if problem.input_shape is not None and problem.num_classes is not None:
        channels, height, width = problem.input_shape
        return (channels, height, width), problem.num_classes
    from raynas.data import load

    given: dict[str, Any] = {"seed": seed, "root": data_root}
    given |= {"input_shape": problem.input_shape, "num_classes": problem.num_classes}
    data = load(problem.dataset, **given)
    return data.input_shape, data.num_classes


def _summed(
    space: Space,
    drawn: Sequence[Architecture],
    costs: Sequence[dict[str, float]],
    constraints: tuple[Constraint, ...],
    measure: Measure,
    seed: int,
    table: Any,
) -> Preview:
    excess = [_excess(c, constraints) for c in costs]
    feasible = sum(e <= 0 for e in excess)
    best = int(np.argmin(excess))
    nearest, its_costs = drawn[best], costs[best]
    if not feasible:
        nearest, its_costs = _descend(space, nearest, its_costs, constraints, measure, seed)
    low, high = _interval(feasible, len(costs))
    return Preview(
        space.name,
        len(costs),
        feasible,
        _table(pd.DataFrame(costs), constraints),
        low,
        high,
        constraints,
        nearest if _excess(its_costs, constraints) <= 0 else None,
        its_costs,
        table.note if table is not None else "",
    )


def _table(costs: pd.DataFrame, constraints: Sequence[Constraint]) -> pd.DataFrame:
    rows = pd.DataFrame({"smallest": costs.min(), "median": costs.median(), "largest": costs.max()})
    rows["limit"], rows["kept"] = math.nan, math.nan
    for c in constraints:
        rows.loc[c.metric, "limit"] = c.bound
        holds = [c.holds({c.metric: value}) for value in costs[c.metric]]
        rows.loc[c.metric, "kept"] = float(np.mean(holds))
    return rows


def _excess(costs: Mapping[str, float], constraints: Sequence[Constraint]) -> float:
    """How far beyond the limits, as a share of each; 0 when all hold."""
    return sum(max(c.excess(costs), 0.0) / max(abs(c.bound), 1e-9) for c in constraints)


def _descend(
    space: Space,
    design: Architecture,
    costs: dict[str, float],
    constraints: Sequence[Constraint],
    measure: Measure,
    seed: int,
) -> tuple[Architecture, dict[str, float]]:
    """Walks towards the limits by changes that do not lead away from them."""
    rng = np.random.default_rng((seed, 1))
    for _ in range(STEPS):
        other = space.plainest(space.mutate(design, rng))
        measured = measure(other)
        if _excess(measured, constraints) <= _excess(costs, constraints):
            design, costs = other, measured
        if _excess(costs, constraints) <= 0:
            break
    return design, costs


def _interval(hits: int, trials: int) -> tuple[float, float]:
    """Of Clopper & Pearson (1934)."""
    tail = (1 - LEVEL) / 2
    low = float(beta.ppf(tail, hits, trials - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, trials - hits)) if hits < trials else 1.0
    return low, high


def _loose(constraint: Constraint, costs: Mapping[str, float]) -> float:
    """A bound of three digits that a design keeps."""
    value = costs[constraint.metric]
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 2) if value else 1.0
    steps = math.ceil(value / unit) if constraint.sense == "max" else math.floor(value / unit)
    return float(f"{steps * unit:.3g}")


def _digits(number: float) -> str:
    return f"{number:.0f}" if abs(number) >= 1000 else f"{number:.3g}"

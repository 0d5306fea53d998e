"""Parallel coordinates: each trial as a line through its decisions and what it reached."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from raynas.architecture import Decision, option_text
from raynas.explanation.claims import Claim
from raynas.objective import Array, Objective
from raynas.report.axes import axis
from raynas.report.charts import readings
from raynas.report.importance import WHOLE
from raynas.report.words import goal, named
from raynas.run import RunInfo

MOST_LINES = 150
MOST_DECISIONS = 5
MOST_OBJECTIVES = 3
STEPS = 5  # of colour
BAND = 0.6  # of the distance between two options over which their lines are spread
ABSENT = "not there"


@dataclass(frozen=True)
class Mark:
    """A label on an axis, `at` per cent from the top."""

    at: float
    text: str


@dataclass(frozen=True)
class Upright:
    """One axis: where it stands, its name on two lines, its labels."""

    x: float
    group: str
    name: str
    remark: str
    marks: Sequence[Mark]


@dataclass(frozen=True)
class Line:
    """A trial; `step` is its colour, 0 the worst fifth of those drawn."""

    number: int
    points: str
    step: int
    front: bool
    title: str


@dataclass(frozen=True)
class Parallel:
    axes: Sequence[Upright]
    lines: Sequence[Line]
    by: str
    left_out: int
    hidden: int


def parallel(
    rows: pd.DataFrame, front: pd.DataFrame, info: RunInfo, claims: Sequence[Claim]
) -> Parallel | None:
    """None below three trials or two decisions.

    Args:
        rows: trials with readings of the first objective.
    """
    objectives = [o for o in info.objectives if f"m.{o.name}" in rows][:MOST_OBJECTIVES]
    order = [name for name in _order(claims, info) if f"d.{name}" in rows]
    decisions = [info.space.by_name[name] for name in order[:MOST_DECISIONS]]
    rows = rows.dropna(subset=[f"m.{o.name}" for o in objectives])
    if len(rows) < 3 or len(decisions) < 2 or not objectives:
        return None
    shown = _drawn(rows, set(front["number"]))
    losses = shown[f"m.{objectives[0].name}"].astype(float) * objectives[0].loss(1.0)
    rank = (
        losses.rank(method="first", ascending=False).to_numpy(dtype=float) - 1
    )  # the best is the last
    columns = [_options(shown, d, rank) for d in decisions]
    columns += [_values(shown, o) for o in objectives]
    across = np.linspace(0, 100, len(columns))
    uprights = [
        Upright(round(float(x), 2), *upright)
        for x, (upright, _) in zip(across, columns, strict=True)
    ]
    heights = np.array([ys for _, ys in columns]).T
    steps = np.minimum(rank * STEPS // len(shown), STEPS - 1).astype(int)
    best = set(front["number"])
    lines = [
        Line(
            int(row["number"]),
            " ".join(f"{x:.4g},{y:.4g}" for x, y in zip(across, heights[i], strict=True)),
            int(steps[i]),
            row["number"] in best,
            readings(row, info.objectives),
        )
        for i, row in enumerate(shown.to_dict("records"))
    ]
    lines.sort(key=lambda line: (line.front, line.step))
    by = f"{named(objectives[0].name)} ({goal(objectives[0])})"
    hidden = len(info.space.decisions) - len(decisions)
    return Parallel(uprights, lines, by, len(rows) - len(shown), hidden)


def _order(claims: Sequence[Claim], info: RunInfo) -> list[str]:
    """Decisions by their importance over the whole space, else by their largest effect."""
    weight: dict[str, float] = {}
    kind = "importance" if any(c.kind == "importance" for c in claims) else "effect"
    for c in claims:
        if c.kind == kind and c.path and (kind == "effect" or c.family == WHOLE):
            weight[c.path] = max(weight.get(c.path, 0.0), abs(c.estimate or 0.0))
    names = {d.name for d in info.space.decisions}
    led = [name for name in sorted(weight, key=lambda n: -weight[n]) if name in names]
    return [*led, *(d.name for d in info.space.decisions if d.name not in led)]


def _drawn(rows: pd.DataFrame, front: set[int]) -> pd.DataFrame:
    """Trials evenly spread over the search, and the front."""
    every = max(1, math.ceil(len(rows) / MOST_LINES))
    kept: pd.DataFrame = rows[(np.arange(len(rows)) % every == 0) | rows["number"].isin(front)]
    return kept


_Column = tuple[tuple[str, str, str, list[Mark]], Array]


def _options(rows: pd.DataFrame, decision: Decision, rank: np.ndarray[Any, Any]) -> _Column:
    """Options from the bottom upwards in the decision's order; the lines of one are spread."""
    texts = [option_text(o) for o in decision.options]
    met = _texts(rows[f"d.{decision.name}"])
    if ABSENT in met:
        texts = [ABSENT, *texts]
    gap = 100 / len(texts)
    base = {text: 100 - gap * (i + 0.5) for i, text in enumerate(texts)}
    heights = np.array([base[text] for text in met])
    for text in set(met):
        own = np.flatnonzero([m == text for m in met])
        own = own[np.argsort(rank[own])]
        spread = np.linspace(0.5, -0.5, len(own)) if len(own) > 1 else np.zeros(1)
        heights[own] += gap * BAND * spread
    group, _, leaf = decision.name.rpartition(".")
    marks = [Mark(round(at, 2), text) for text, at in base.items()]
    return (f"{group}." if group else "", leaf, "", marks), heights


def _texts(column: pd.Series[Any]) -> list[str]:
    """Options as text; numpy's numbers have other texts than the space's."""
    plain = [v.item() if isinstance(v, np.generic) else v for v in column]
    return [ABSENT if pd.isna(v) else option_text(v) for v in plain]


def _values(rows: pd.DataFrame, objective: Objective) -> _Column:
    """Values with the better end on top."""
    numbers = rows[f"m.{objective.name}"].astype(float).to_numpy()
    scale = axis(numbers, objective.name)
    up = objective.direction == "max"
    places = np.array([scale.at(float(v)) for v in numbers])
    heights = 100 - places if up else places
    marks = [Mark(round(100 - t.at if up else t.at, 2), t.text) for t in scale.ticks]
    remark = "log, ↑ better" if scale.log else "↑ better"
    return ("", named(objective.name), remark, marks), heights

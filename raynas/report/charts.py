"""Charts as plain numbers: positions in per cent of the drawing, so that text keeps its size on
every screen. Upwards is what `Axis.at` gives; the template turns it round for SVG."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from raynas.explanation.sentences import value
from raynas.front import allowed
from raynas.objective import Objective, pareto_front
from raynas.report.axes import NUMBER, Axis, axis, time_axis
from raynas.report.words import goal, named
from raynas.run import RunInfo

EXTRA = (
    "uniform_probe",
    "confirm",
    "ablation",
    "audit",
    "final",
)  # purposes with a mark of their own
NARROW = 0.25  # of the range of all trials: a front within less is drawn again, closer
MOST_POINTS = 1500  # drawn in one chart; the front is always among them


@dataclass(frozen=True)
class Point:
    """A trial in a chart."""

    number: int
    x: float
    y: float
    kind: str  # a status, `front`, `scored` or the purpose of a design trained alone
    title: str


@dataclass(frozen=True)
class Line:
    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class Label:
    x: float
    y: float
    text: str
    dx: int
    dy: int


@dataclass(frozen=True)
class Chart:
    """A drawing with two axes; `left_out` points of many are not drawn.

    Attributes:
        bars: how sure points are, drawn beneath them.
        links: from a trial to those that it was made from.
    """

    x: Axis
    y: Axis
    x_name: str
    y_name: str
    points: Sequence[Point]
    lines: Sequence[Line]
    labels: Sequence[Label] = ()
    left_out: int = 0
    bars: Sequence[Line] = ()
    links: Sequence[Line] = ()


def trade_off(rows: pd.DataFrame, front: pd.DataFrame, info: RunInfo) -> Chart:
    """The trials with readings over the first two objectives, upwards the first."""
    first, second = info.objectives[:2]
    front = front[front["number"].isin(rows["number"])]
    bare = spread(rows, _marked(rows, front, info), info.objectives)
    x, y = bare.x, bare.y
    pairs = front[[f"m.{second.name}", f"m.{first.name}"]].astype(float).to_numpy()
    turned = pairs * [second.loss(1.0), first.loss(1.0)]
    stairs = pairs[pareto_front(turned)] if len(pairs) else pairs
    stairs = stairs[np.argsort(second.loss(1.0) * stairs[:, 0])]
    return replace(bare, lines=_steps([(x.at(a), y.at(b)) for a, b in stairs]))


def spread(rows: pd.DataFrame, marked: Mapping[int, str], objectives: Sequence[Objective]) -> Chart:
    """Trials with readings over the first two objectives, upwards the first.

    Args:
        marked: trial number -> kind of point, where it is not the status. The front is labelled;
            where it is not marked, all of these are.
    """
    first, second = objectives[:2]
    shown = thinned(rows, marked)
    x, y = axis(rows[f"m.{second.name}"], second.name), axis(rows[f"m.{first.name}"], first.name)
    points = _points(shown, marked, objectives, x, y, f"m.{second.name}")
    labels = numbered(_labelled(points, marked))
    left_out = len(rows) - len(shown)
    return Chart(x, y, hint(second), hint(first), points, (), labels, left_out)


def close_to(rows: pd.DataFrame, front: pd.DataFrame, first: Objective) -> pd.DataFrame:
    """The trials about as good as the front in the first objective, where it is a narrow band
    among them all; else none."""
    losses = rows[f"m.{first.name}"].astype(float) * first.loss(1.0)
    members = losses[rows["number"].isin(front["number"])]
    width = members.max() - members.min()
    narrow = 0 < width < NARROW * (losses.max() - losses.min())
    near: pd.DataFrame = rows[(losses <= members.max() + width) & narrow]
    return near


def by_number(rows: pd.DataFrame, front: pd.DataFrame, info: RunInfo) -> Chart:
    """The only objective over the trial number."""
    return in_order(rows, _marked(rows, front, info), info.objectives)


def in_order(
    rows: pd.DataFrame, marked: Mapping[int, str], objectives: Sequence[Objective]
) -> Chart:
    """The first objective over the trial number; `marked` as for `spread`."""
    first = objectives[0]
    shown = thinned(rows, marked)
    x, y = axis(rows[NUMBER], NUMBER), axis(rows[f"m.{first.name}"], first.name)
    points = _points(shown, marked, objectives, x, y, NUMBER)
    labels = numbered(_labelled(points, marked))
    return Chart(x, y, "trial number", hint(first), points, (), labels, len(rows) - len(shown))


def timeline(
    trials: pd.DataFrame,
    front: pd.DataFrame,
    info: RunInfo,
    parents: Mapping[int, Sequence[int]] | None = None,
) -> Chart:
    """The first objective of each trial when it ended, and the best so far.

    Args:
        trials: of `with_ends`; those without a reading are marked on the base line.
        parents: of trials, which are linked to them.
    """
    first = info.objectives[0]
    column = f"m.{first.name}"
    usable = trials["status"].isin(["finished", "stopped_early"])
    trials = trials.assign(**{column: trials[column].where(usable).astype(float)})
    last = float(trials["ended"].max())
    x, y = time_axis(last), axis(trials[column].dropna(), first.name)
    marked = _marked(trials, front, info)
    shown = thinned(trials, [*marked, *(parents or {})])
    points = _points(shown, marked, info.objectives, x, y, "ended")
    ends = allowed(trials[trials["status"] == "finished"], info).sort_values("ended")
    losses = ends[column] * first.loss(1.0)
    better = ends[losses < losses.cummin().shift(fill_value=math.inf)]
    corners = [(x.at(t), y.at(v)) for t, v in zip(better["ended"], better[column], strict=True)]
    lines = _steps([*corners, (x.at(last), corners[-1][1])] if corners else [])
    name = "time at work since the start"
    read = trials[trials[column].notna()]
    places = {
        int(n): (x.at(t), y.at(v))
        for n, t, v in zip(read["number"], read["ended"], read[column], strict=True)
    }
    links = _links(places, parents or {})
    left_out = len(trials) - len(shown)
    return Chart(x, y, name, hint(first), points, lines, (), left_out, links=links)


def _links(
    places: Mapping[int, tuple[float, float]], parents: Mapping[int, Sequence[int]]
) -> list[Line]:
    return [
        Line(*places[p], *places[child])
        for child, own in parents.items()
        for p in own
        if child in places and p in places
    ]


def with_ends(trials: pd.DataFrame, proposals: pd.DataFrame) -> pd.DataFrame:
    """Adds `ended`: seconds from the start to each trial's end; pauses of the run are left out."""
    proposed = trials["number"].map(proposals.set_index("number")["at"])
    start = trials["started_at"].where(trials["status"] != "infeasible", proposed)  # never started
    begin = (start - start.min()).dt.total_seconds()
    rows = trials.assign(begin=begin, ended=begin + trials["seconds"]).sort_values("begin")
    idle = (rows["begin"] - rows["ended"].cummax().shift()).clip(lower=0).fillna(0).cumsum()
    rows = rows.assign(ended=rows["ended"] - idle).drop(columns="begin")
    return rows.dropna(subset=["ended"]).sort_values("number")


def thinned(rows: pd.DataFrame, marked: Collection[int]) -> pd.DataFrame:
    """At most MOST_POINTS trials, evenly spread over the search, and those of marked numbers."""
    every = max(1, math.ceil(len(rows) / MOST_POINTS))
    drawn = np.arange(len(rows)) % every == 0
    kept: pd.DataFrame = rows[drawn | rows["number"].isin(list(marked))]
    return kept


def readings(row: Mapping[Hashable, Any], objectives: Sequence[Objective]) -> str:
    """A trial in one line: number, status, objectives and what it was bought for."""
    known = [o.name for o in objectives if not pd.isna(row.get(f"m.{o.name}"))]
    said = [f"{named(name)} {value(float(row[f'm.{name}']), name)}" for name in known]
    bought = [row["purpose"].replace("_", " ")] if row.get("purpose") in EXTRA else []
    status = str(row["status"]).replace("_", " ")
    return ", ".join([f"trial {row['number']}", status, *said, *bought])


def hint(objective: Objective) -> str:
    """An objective's name, unit and which way is better."""
    unit = "" if objective.unit == "1" else f", {objective.unit}"
    return f"{named(objective.name)}{unit} ({goal(objective)})"


def _points(
    rows: pd.DataFrame,
    marked: Mapping[int, str],
    objectives: Sequence[Objective],
    x: Axis,
    y: Axis,
    across: str,
) -> list[Point]:
    points = []
    for row in rows.to_dict("records"):
        kind = marked.get(row["number"], str(row["status"]))
        height = float(row[f"m.{objectives[0].name}"])
        title = readings(row, objectives)
        up = 0.0 if math.isnan(height) else y.at(height)
        points.append(Point(row["number"], x.at(float(row[across])), up, kind, title))
    return sorted(points, key=lambda p: (p.number in marked, p.kind == "front"))  # last: on top


def _labelled(points: Sequence[Point], marked: Collection[int]) -> list[Point]:
    front = [p for p in points if p.kind == "front"]
    return front or [p for p in points if p.number in marked]


def _marked(rows: pd.DataFrame, front: pd.DataFrame, info: RunInfo) -> dict[int, str]:
    """The front, and trials that the search bought for certainty (where none was screened)."""
    bought = rows["purpose"].isin(EXTRA) & rows["status"].isin(["finished", "stopped_early"])
    bought &= info.screening is None
    kinds = {int(n): str(p) for n, p in rows.loc[bought, ["number", "purpose"]].to_numpy()}
    return kinds | {int(number): "front" for number in front["number"]}


def _steps(corners: Sequence[tuple[float, float]]) -> list[Line]:
    lines = []
    for (x1, y1), (x2, y2) in pairwise(corners):
        lines += [Line(x1, y1, x2, y1), Line(x2, y1, x2, y2)]
    return lines


def numbered(points: Sequence[Point]) -> list[Label]:
    """Numbers beside points, those of one place together; what finds no room is left out."""
    places: dict[tuple[float, float], list[str]] = {}
    for p in points:
        places.setdefault((p.x, p.y), []).append(str(p.number))
    labels: list[Label] = []
    taken: list[tuple[float, float, float]] = []  # left, right, middle
    for (x, y), names in sorted(places.items()):
        text = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
        width = 3.0 * len(text)  # per cent of a narrow drawing
        for dx, dy in ((8, -8), (-8, -8), (8, 16), (-8, 16)):
            left, right = (x, x + width + 2) if dx > 0 else (x - width - 2, x)
            middle = y + (4 if dy < 0 else -4)
            room = left >= 0 and right <= 104
            if room and all(left > r or right < a or abs(middle - m) > 6 for a, r, m in taken):
                taken.append((left, right, middle))
                labels.append(Label(x, y, text, dx, dy))
                break
    return labels

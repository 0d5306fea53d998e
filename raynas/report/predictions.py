"""What was predicted of trials, beside what was read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from raynas.explanation import predictions
from raynas.explanation.claims import Claim
from raynas.explanation.sentences import SHARES, sentence, value
from raynas.objective import Objective
from raynas.report.axes import axis
from raynas.report.charts import Chart, Line, Point, hint, thinned
from raynas.result import SearchResult

FAR = 3.0  # interquartile ranges of the readings beyond which a trial is not drawn


@dataclass(frozen=True)
class Predictions:
    """What the page says of predictions.

    Attributes:
        said: how they rank and how often intervals held, with the claims.
        chart: readings over predictions.
        beyond: how many trials lie outside of the chart.
    """

    said: Sequence[tuple[str, Claim]]
    chart: Chart
    beyond: int


def predicted(result: SearchResult, claims: Sequence[Claim]) -> Predictions | None:
    """None where fewer than two finished trials had a prediction."""
    objective = result.info.searched[0]
    rows = predictions.judged(result.trials, result.proposals, result.info).dropna(subset=["read"])
    if len(rows) < 2:
        return None
    near = close(rows)
    said = [(sentence(c), c) for c in claims if c.kind in ("prediction", "calibration")]
    return Predictions(said, _chart(near, objective), len(rows) - len(near))


def close(rows: pd.DataFrame) -> pd.DataFrame:
    """The trials that did about as most did: a few that failed to learn would press all others
    into a corner."""
    first, last = rows["read"].quantile([0.25, 0.75])
    room = FAR * (last - first) or float("inf")
    kept: pd.DataFrame = rows[rows["read"].between(first - room, last + room)]
    return kept


def _ends(read: pd.Series[float]) -> tuple[float, float]:
    """Beyond which a prediction stands at the edge: the range of readings and a half more."""
    low, high = float(read.min()), float(read.max())
    return (low / 2 if low > 0 else low - (high - low) / 2), high + (high - low) / 2


def _chart(rows: pd.DataFrame, objective: Objective) -> Chart:
    """The line is where predictions come true; bars are intervals."""
    shown = thinned(rows, ())
    x = axis([*rows["read"], *rows["mean"].clip(*_ends(rows["read"]))], objective.name)
    ends = x.low, x.high
    points, bars = [], []
    for row in shown.to_dict("records"):
        a, b = (min(max(row[end], ends[0]), ends[1]) for end in ("low", "high"))
        up = x.at(row["read"])
        bars.append(Line(x.at(a), up, x.at(b), up))
        said = {c: _said(row[c], objective) for c in ("mean", "low", "high", "read")}
        expected = "predicted {mean} ({low} to {high}), read {read}".format_map(said)
        title = f"trial {row['number']}: {expected}"
        kind = "held" if row["held"] else "missed"
        mean = min(max(row["mean"], ends[0]), ends[1])
        points.append(Point(row["number"], x.at(mean), up, kind, title))
    same = Line(x.at(ends[0]), x.at(ends[0]), x.at(ends[1]), x.at(ends[1]))
    name = hint(objective)
    left_out = len(rows) - len(shown)
    return Chart(x, x, f"predicted {name}", f"read {name}", points, [same], (), left_out, bars)


def _said(number: float, objective: Objective) -> str:
    """A reading as text; a share beyond what shares can be is said to be at its end."""
    return value(min(max(number, 0.0), 1.0) if objective.name in SHARES else number, objective.name)

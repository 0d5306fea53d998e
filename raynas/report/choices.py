"""How what decides between options made up its mind: one small chart per decision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from raynas.architecture import Architecture, option_text

MOST_DECISIONS = 40  # drawn; of more, the least decided
MOST_EPOCHS = 60  # points of a line
COLOURS = 10  # of lines, and
PATTERNS = 6  # of dashes, which repeat at another step


@dataclass(frozen=True)
class Style:
    """How the line of an option looks, in all charts."""

    option: str
    colour: int
    pattern: int


@dataclass(frozen=True)
class Line:
    """The chance of an option over the epochs, as an SVG polyline in a box of 100 by 100."""

    style: Style
    points: str
    end: float  # height of the last point, in per cent from the top
    title: str
    leads: bool
    chosen: bool


@dataclass(frozen=True)
class Small:
    """One decision.

    Attributes:
        lines: the leading one last, on top.
        leader, chance: the most likely option at the end.
        chosen: the option of the best design where it is another, else ''.
    """

    decision: str
    lines: Sequence[Line]
    leader: Style
    chance: str
    chosen: str


@dataclass(frozen=True)
class Choices:
    """All charts: same epochs, same scale from 0 to `top`, same styles.

    Attributes:
        left_out: decisions that are not drawn.
    """

    charts: Sequence[Small]
    styles: Sequence[Style]
    first: int
    last: int
    top: str
    left_out: int


def choices(table: pd.DataFrame, best: Architecture | None) -> Choices | None:
    """None for a run in which nothing decided while shared weights trained.

    Args:
        table: `raynas.load(RUN).choices`.
        best: the best design, whose options are marked where it has these decisions.
    """
    if not len(table):
        return None
    styles = {
        str(option): Style(str(option), i % COLOURS, i % PATTERNS)
        for i, option in enumerate(table["option"].unique())
    }
    picked = {} if best is None else {n: option_text(o) for n, o in best.options.items()}
    wide = {
        str(name): rows.pivot(index="epoch", columns="option", values="chance").fillna(0.0)
        for name, rows in table.groupby("decision", sort=False)
    }
    drawn = sorted(wide, key=lambda name: _lead(wide[name]))[:MOST_DECISIONS]
    top = min(1.0, math.ceil(10 * float(table["chance"].max()) - 1e-9) / 10) or 1.0
    first, last = int(table["epoch"].min()), int(table["epoch"].max())
    charts = [
        _small(name, rows, list(styles.values()), picked.get(name, ""), top)
        for name, rows in wide.items()
        if name in drawn
    ]
    said = f"{100 * top:.0f} %"
    return Choices(charts, list(styles.values()), first, last, said, len(wide) - len(charts))


def _lead(rows: pd.DataFrame) -> float:
    """By how much the most likely option leads in the end: little where it is undecided."""
    chances = np.sort(rows.loc[rows.index.max()].to_numpy(dtype=float))
    return float(chances[-1] - chances[-2]) if len(chances) > 1 else 1.0


def _small(
    name: str, rows: pd.DataFrame, styles: Sequence[Style], picked: str, top: float
) -> Small:
    keep = np.unique(np.linspace(0, len(rows) - 1, min(MOST_EPOCHS, len(rows))).astype(int))
    epochs = rows.index.to_numpy(dtype=float)[keep]
    width = epochs[-1] - epochs[0]
    across = 100 * (epochs - epochs[0]) / width if width else np.array([0.0, 100.0])
    offered = [style for style in styles if style.option in rows]
    final = rows.iloc[-1]
    leader = max(offered, key=lambda style: float(final[style.option]))
    lines = []
    for style in offered:
        chances = rows[style.option].to_numpy(dtype=float)
        heights = np.broadcast_to(100 * (1 - chances[keep] / top), across.shape)
        points = " ".join(f"{x:.4g},{y:.4g}" for x, y in zip(across, heights, strict=True))
        title = f"{style.option}: {_percent(chances[0])} → {_percent(chances[-1])}"
        end = round(float(heights[-1]), 2)
        lines.append(Line(style, points, end, title, style == leader, style.option == picked))
    lines.sort(key=lambda line: (line.leads, line.chosen))
    other = next((line for line in lines if line.chosen and not line.leads), None)
    chosen = f"{picked} ({_percent(final[picked])})" if other else ""
    return Small(name, lines, leader, _percent(final[leader.option]), chosen)


def _percent(chance: float) -> str:
    return f"{100 * chance:.0f} %"

"""A base design grown in several ways: what it reached against what it cost, and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from raynas.explanation.claims import Claim
from raynas.explanation.scaling import TOGETHER, Curve, Size, scaling
from raynas.explanation.sentences import plural, sentence, value
from raynas.objective import Objective
from raynas.report.axes import Axis, axis
from raynas.report.charts import Line, hint
from raynas.result import SearchResult

ORDER = (TOGETHER, "depth", "width", "resolution")  # each has the same style in every report
UNITS = (("G", 1e9), ("M", 1e6), ("k", 1e3))


@dataclass(frozen=True)
class Dot:
    """A size of the network, or a growth of the grid."""

    x: float
    y: float
    title: str


@dataclass(frozen=True)
class Drawn:
    """A curve; `style` is its colour and pattern."""

    name: str
    style: int
    lines: Sequence[Line]
    dots: Sequence[Dot]


@dataclass(frozen=True)
class Grown:
    """What the page says of scaling.

    Attributes:
        lead: what was done, in a sentence or two.
        said: the claims, in words.
        curves: the thin ones first, so that the family is drawn on top.
        grid: the other growths of the grid.
        head, rows: the table of (value, cost, trial) by scale and curve; None where no trial is.
    """

    lead: str
    said: Sequence[tuple[str, Claim]]
    x: Axis
    y: Axis
    x_name: str
    y_name: str
    curves: Sequence[Drawn]
    grid: Sequence[Dot]
    head: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[str, str, int] | None]]]


def grown(result: SearchResult, claims: Sequence[Claim]) -> Grown | None:
    """None for a run of another strategy, or before anything larger than the base is finished."""
    info = replace(result.info, space=result.code or result.info.space)
    found = scaling(result.trials, info)
    if found is None:
        return None
    all_ = [*found.grid, *(size for curve in found.curves for size in curve.sizes)]
    x = axis((size.cost for size in all_), found.cost)
    y = axis((size.value for size in all_), found.metric)

    def dot(size: Size) -> Dot:
        reached = f"{found.metric} {value(size.value, found.metric)}"
        title = f"trial {size.number}, scale {size.scale:g}, {reached}, {_short(size.cost)}"
        return Dot(x.at(size.cost), y.at(size.value), f"{title} {found.cost}")

    def drawn(curve: Curve) -> Drawn:
        dots = [dot(size) for size in curve.sizes]
        lines = [Line(a.x, a.y, b.x, b.y) for a, b in pairwise(dots)]
        return Drawn(_named(curve.name), ORDER.index(curve.name), lines, dots)

    on_curves = {size.number for curve in found.curves for size in curve.sizes}
    return Grown(
        _lead(found.curves, found.grid),
        [(sentence(c), c) for c in claims if c.kind == "scaling"],
        x,
        y,
        hint(Objective(found.cost, "min")),
        hint(info.objectives[0]),
        [drawn(curve) for curve in reversed(found.curves)],
        [dot(size) for size in found.grid if size.number not in on_curves],
        [_named(curve.name) for curve in found.curves],
        list(_rows(found.curves, found.metric, found.cost)),
    )


def _lead(curves: Sequence[Curve], grid: Sequence[Size]) -> str:
    tried = f"{plural(len(grid), 'growth')} of several dimensions at once were tried at scale 1"
    if curves and curves[0].name == TOGETHER:
        larger = plural(sum(size.scale > 1 for size in curves[0].sizes), "larger network")
        return (
            f"One base was grown; each step of scale has about twice the FLOPs. {tried}; the best, "
            f"{curves[0].growth}, made a family of {larger}. Beside it the same base grown in one "
            "dimension alone."
        )
    return f"One base was grown; each step of scale has about twice the FLOPs. So far {tried}."


def _rows(
    curves: Sequence[Curve], metric: str, cost: str
) -> list[tuple[str, list[tuple[str, str, int] | None]]]:
    scales = sorted({size.scale for curve in curves for size in curve.sizes})
    rows = []
    for scale in scales:
        found = [{size.scale: size for size in curve.sizes}.get(scale) for curve in curves]
        cells = [
            (value(size.value, metric), f"{_short(size.cost)} {cost}", size.number)
            if size
            else None
            for size in found
        ]
        rows.append(("base" if scale == 0 else f"{scale:g}", cells))
    return rows


def _named(curve: str) -> str:
    return "all together" if curve == TOGETHER else f"{curve} alone"


def _short(number: float) -> str:
    unit, size = next(((u, s) for u, s in UNITS if number >= s), ("", 1.0))
    return f"{number / size:.3g} {unit}".strip()

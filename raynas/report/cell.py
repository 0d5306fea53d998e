"""The cells of a design as graphs whose edges are as wide as what they add."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raynas import drawing
from raynas.architecture import Architecture
from raynas.graphs import Graph
from raynas.report.contributions import Contributions, Gain
from raynas.space import Space

INCH = 92.0  # in pixels: text keeps the size of the page's own
MARGIN = 8.0
HEAD = 8.0  # of an arrow

_Edge = tuple[str, str, str, str]  # title of the graph, source, target, operation


@dataclass(frozen=True)
class Box:
    """An operation or a node; all lengths in pixels, `x` and `y` of the upper left corner."""

    text: str
    kind: str
    x: float
    y: float
    width: float
    height: float
    gain: Gain | None


@dataclass(frozen=True)
class Arrow:
    """A line of points, the triangle at its end, and where its gain is written if nowhere else."""

    points: str
    head: str
    label: tuple[float, float] | None
    gain: Gain | None


@dataclass(frozen=True)
class Cell:
    """One graph of a design; `weighted` if any of its edges is known to add something."""

    title: str
    width: float
    height: float
    boxes: Sequence[Box]
    arrows: Sequence[Arrow]
    weighted: bool


def cells(space: Space, design: Architecture, found: Contributions | None) -> list[Cell]:
    """The graphs of a design; empty for a chain, whose blocks say it all."""
    if space.graphs is None:
        return []
    graphs = space.graphs(design)
    owners = _owners(space, design, graphs) if found else {}
    parts = list(dict.fromkeys(owners.values()))
    gains = dict(zip(parts, found.gains(parts), strict=True)) if found else {}
    return [
        _cell(title, graph, {e: gains[names] for e, names in owners.items() if e[0] == title})
        for title, graph in graphs.items()
    ]


def _owners(
    space: Space, design: Architecture, graphs: Mapping[str, Graph]
) -> dict[_Edge, tuple[str, ...]]:
    """Edge -> the decisions that made it: those whose change makes it another, or none at all.

    Of a decision's options the one that changes least is taken, as a change may cut off more.
    """
    assert space.graphs is not None
    own = _edges(graphs)
    made: dict[_Edge, list[str]] = {}
    for name in design.options:
        changed: list[list[_Edge]] = []
        for option in space.by_name[name].options:
            if option == design[name]:
                continue
            options = {**design.options, name: option}
            other = space.answer(lambda d, o=options: o.get(d.name, d.options[0]))  # type: ignore[misc]
            gone = list((own - _edges(space.graphs(other))).elements())
            changed += [gone] if gone else []
        for edge in min(changed, key=len, default=[]):
            made.setdefault(edge, []).append(name)
    return {edge: tuple(names) for edge, names in made.items()}


def _edges(graphs: Mapping[str, Graph]) -> Counter[_Edge]:
    return Counter(
        (title, e.source, e.target, e.operation) for title, g in graphs.items() for e in g.edges
    )


def _cell(title: str, graph: Graph, gains: Mapping[_Edge, Gain | None]) -> Cell:
    placed, routes, width, height = drawing.arranged(graph)
    on_edges = _in_order(title, graph, gains)
    boxes = [
        Box(
            box.text,
            box.kind,
            _px(x - box.width / 2),
            _px(y - drawing.HEIGHT / 2),
            round(box.width * INCH, 1),
            round(drawing.HEIGHT * INCH, 1),
            on_edges.boxes.get(i),
        )
        for i, (box, x, y) in enumerate(placed)
    ]
    arrows = [
        _arrow([(_px(x), _px(y)) for x, y in route], gain, bare)
        for route, (gain, bare) in zip(routes, on_edges.arrows, strict=True)
    ]
    size = (round(width * INCH + 2 * MARGIN, 1), round(height * INCH + 2 * MARGIN, 1))
    return Cell(title, *size, boxes, arrows, any(a.gain for a in arrows))


@dataclass(frozen=True)
class _Marked:
    """Gains by number of a box; and of every arrow in order, with whether it has no operation."""

    boxes: Mapping[int, Gain]
    arrows: Sequence[tuple[Gain | None, bool]]


def _in_order(title: str, graph: Graph, gains: Mapping[_Edge, Gain | None]) -> _Marked:
    """Boxes and arrows as `drawing.boxed` numbers them: an operation has one arrow to it and
    one from it, an edge without an operation is one arrow."""
    boxes: dict[int, Gain] = {}
    arrows: list[tuple[Gain | None, bool]] = []
    _, pairs = drawing.boxed(graph)
    for edge in graph.edges:
        gain = gains.get((title, edge.source, edge.target, edge.operation))
        if edge.operation:
            if gain is not None:
                boxes[pairs[len(arrows)][1]] = gain
            arrows.append((gain, False))
        arrows.append((gain, not edge.operation))
    return _Marked(boxes, arrows)


def _arrow(route: Sequence[tuple[float, float]], gain: Gain | None, bare: bool) -> Arrow:
    (xa, ya), (xb, yb) = route[-2:]
    length = math.hypot(xb - xa, yb - ya) or 1.0
    dx, dy = (xb - xa) / length, (yb - ya) / length
    long, half = HEAD, HEAD / 2 + (2.5 * gain.weight if gain else 0.0)
    foot = (xb - long * dx, yb - long * dy)
    corners = [(foot[0] - half * dy, foot[1] + half * dx), (xb, yb)]
    corners.append((foot[0] + half * dy, foot[1] - half * dx))
    head = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    line = [*route[:-1], (round(foot[0], 1), round(foot[1], 1))]
    (xc, yc), (xd, yd) = route[(len(route) - 1) // 2 : (len(route) - 1) // 2 + 2]
    label = None
    if gain and bare:  # nearer to its end, where arrows have parted
        label = (round(xc + 0.7 * (xd - xc) + 9, 1), round(yc + 0.7 * (yd - yc), 1))
    return Arrow(" ".join(f"{x},{y}" for x, y in line), head, label, gain)


def _px(inches: float) -> float:
    return round(inches * INCH + MARGIN, 1)

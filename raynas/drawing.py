"""Pictures of a design: its layers as a chain of blocks, its cells as graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas.architecture import Architecture, option_text
from raynas.errors import UserError
from raynas.graphs import Graph

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# All lengths are inches: the picture is legible at its natural size, whatever it shows.
CHARACTER = 0.083  # width of one at the font size below
SIZE, SMALL = 10.0, 8.0  # points
HEIGHT, GAP = 0.36, 0.62  # of a box in a graph, and between two rows of boxes
ROW, BETWEEN = 0.17, 0.24  # a line of text in the chain of layers, and between two layers
MARGIN, TITLE = 0.3, 0.35
INK, LINE = "#1f2933", "#7b8794"
FILL = {"input": "#e4e7eb", "node": "#ffffff", "operation": "#d9e8fb", "layer": "#e3f4e8"}

Layer = Mapping[str, Any]  # a row of raynas.costs.layers


@dataclass(frozen=True)
class Box:
    """One thing in a cell's picture."""

    text: str
    kind: str

    @property
    def width(self) -> float:
        return max(len(self.text) * CHARACTER + 0.2, 0.5)


def draw(
    architecture: Architecture, layers: Sequence[Layer], graphs: Mapping[str, Graph]
) -> Figure:
    """Draws a design.

    Args:
        architecture: for the title.
        layers: what `raynas.costs.layers` says of it; repetitions are drawn once.
        graphs: its cells by title; empty for a chain.
    """
    from matplotlib.figure import Figure

    chain = _repetitions(architecture, layers)
    pictures = [(title, *arranged(graph)) for title, graph in graphs.items()]
    chain_width = max((_wide(lines) for lines in chain), default=0.0)
    width = 2 * MARGIN + chain_width + max((MARGIN + w for _, _, _, w, _ in pictures), default=0.0)
    chain_height = sum(_high(lines) + BETWEEN for lines in chain)
    height = max(chain_height, sum(TITLE + h + MARGIN for *_, h in pictures)) + 2 * MARGIN + TITLE
    figure = Figure(figsize=(max(width, 4.0), height))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(0, max(width, 4.0))
    axes.set_ylim(height, 0)  # downwards, as an image passes
    axes.axis("off")
    total = sum(int(layer["params"]) for layer in layers)
    top = MARGIN
    if layers:
        title = f"{architecture.space}: {total:,} parameters"
        _write(axes, MARGIN, top, title, SIZE + 1, "left", weight="bold")
        top += TITLE
    _draw_chain(axes, chain, MARGIN, top, chain_width)
    left = MARGIN + chain_width + (MARGIN if chain else 0.0)
    for title, boxes, arrows, own_width, own_height in pictures:  # one below the other
        _write(axes, left + own_width / 2, top, title, SIZE, "center", weight="bold")
        _draw_graph(axes, boxes, arrows, left, top + TITLE)
        top += TITLE + own_height + MARGIN
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes a picture as SVG or PNG, by the file's ending.

    Raises:
        UserError: another ending, or the file cannot be written.
    """
    kind = path.suffix.lower()
    if kind not in (".svg", ".png"):
        raise UserError(f"expected a file that ends in .svg or .png; got {str(path)!r}.")
    try:
        if kind == ".svg":
            path.write_text(svg(figure))
        else:
            figure.savefig(path, dpi=130, facecolor="white")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}.") from None


def svg(figure: Figure) -> str:
    """A picture as one `<svg>` element; the same design gives the same text."""
    import matplotlib

    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "raynas"}  # text stays text
    with matplotlib.rc_context(settings), StringIO() as text:
        figure.savefig(text, format="svg", facecolor="white", metadata={"Date": None})
        page = text.getvalue()
    return page[page.index("<svg") :]


def _repetitions(architecture: Architecture, layers: Sequence[Layer]) -> list[list[str]]:
    """Each layer, or run of alike layers, as lines of text."""

    def look(layer: Layer) -> tuple[Any, ...]:
        chosen = tuple((name.rpartition(".")[2], architecture[name]) for name in layer["decisions"])
        return layer["kind"], chosen, layer["shape"], layer["params"], layer["flops"]

    chain = []
    for (kind, chosen, shape, params, _), run in groupby(layers, look):
        names = [str(layer["name"]) for layer in run]
        times = f" to {names[-1]} ({len(names)} times)" if len(names) > 1 else ""
        size = " × ".join(str(n) for n in shape)
        said = [f"{leaf} {option_text(option)}" for leaf, option in chosen]
        lines = [f"{names[0]}{times}: {kind}", f"{size}    {params:,} parameters"]
        apart = len({leaf for leaf, _ in chosen}) == len(chosen)
        if said and apart and len(said) <= 8:  # else they are a cell's, which has its own picture
            lines += [", ".join(said[i : i + 4]) for i in range(0, len(said), 4)]
        chain.append(lines)
    return chain


def _wide(lines: Sequence[str]) -> float:
    small = max((len(line) * CHARACTER * SMALL / SIZE for line in lines[1:]), default=0.0)
    return max(len(lines[0]) * CHARACTER, small) + 0.3


def _high(lines: Sequence[str]) -> float:
    return len(lines) * ROW + 0.12


def _draw_chain(
    axes: Axes, chain: Sequence[Sequence[str]], left: float, top: float, width: float
) -> None:
    for i, lines in enumerate(chain):
        _box(axes, left, top, width, _high(lines), FILL["layer"])
        for k, line in enumerate(lines):
            y = top + 0.06 + (k + 0.5) * ROW
            _write(axes, left + 0.12, y, line, SMALL if k else SIZE, "left")
        bottom = top + _high(lines)
        top = bottom + BETWEEN
        if i + 1 < len(chain):
            _arrow(axes, [(left + width / 2, bottom), (left + width / 2, top)])


def arranged(graph: Graph) -> tuple[list[tuple[Box, float, float]], list[Any], float, float]:
    """Boxes with their centres, arrows as lines of points, width and height of the whole.

    Rows and order within them are Sugiyama's (1981), which keeps crossings few.
    """
    import igraph

    boxes, pairs = boxed(graph)
    layout = igraph.Graph(len(boxes), edges=pairs, directed=True).layout_sugiyama(
        hgap=max(box.width for box in boxes) + 0.15, vgap=GAP, maxiter=200
    )
    points = [(x, y) for x, y in layout.coords]
    routes = [[tuple(p) for p in route] for route in layout.edge_routing]
    everywhere = points + [p for route in routes for p in route]
    half = max(box.width for box in boxes) / 2
    left = min(x for x, _ in everywhere) - half
    arrows = []
    for (a, b), route in zip(pairs, routes, strict=True):
        (xa, ya), (xb, yb) = points[a], points[b]
        past = [(x, y + side * HEIGHT / 2) for x, y in route for side in (-1, 1)]  # upright
        line = [(xa, ya + HEIGHT / 2), *past, (xb, yb - HEIGHT / 2)]
        arrows.append([(x - left, y + HEIGHT / 2) for x, y in line])
    placed = [(box, x - left, y + HEIGHT / 2) for box, (x, y) in zip(boxes, points, strict=True)]
    width = max(x for x, _ in everywhere) + half - left
    height = max(y for _, y in everywhere) + HEIGHT
    return placed, arrows, width, height


def boxed(graph: Graph) -> tuple[list[Box], list[tuple[int, int]]]:
    """Nodes and operations of a cell as boxes, and which leads to which."""
    names: dict[str, int] = {}
    boxes: list[Box] = []
    pairs: list[tuple[int, int]] = []

    def at(node: str) -> int:
        if node not in names:
            kind = "input" if node in (*graph.inputs, graph.output) else "node"
            names[node] = len(boxes)
            boxes.append(Box(node, kind))
        return names[node]

    for node in graph.inputs:
        at(node)
    for edge in graph.edges:
        source, target = at(edge.source), at(edge.target)
        if edge.operation:
            boxes.append(Box(edge.operation, "operation"))
            pairs += [(source, len(boxes) - 1), (len(boxes) - 1, target)]
        else:
            pairs.append((source, target))
    return boxes, pairs


def _draw_graph(
    axes: Axes,
    boxes: Sequence[tuple[Box, float, float]],
    arrows: Sequence[Sequence[tuple[float, float]]],
    left: float,
    top: float,
) -> None:
    for line in arrows:
        _arrow(axes, [(left + x, top + y) for x, y in line])
    for box, x, y in boxes:
        corner = left + x - box.width / 2
        _box(axes, corner, top + y - HEIGHT / 2, box.width, HEIGHT, FILL[box.kind])
        _write(axes, left + x, top + y, box.text, SIZE, "center")


def _box(axes: Axes, x: float, y: float, width: float, height: float, fill: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    style = "round,pad=0,rounding_size=0.08"
    patch = FancyBboxPatch((x, y), width, height, style, facecolor=fill, edgecolor=LINE, zorder=2)
    axes.add_patch(patch)


def _arrow(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Line

    style = "-|>,head_length=4,head_width=2"
    patch = FancyArrowPatch(
        path=Line(list(points)), arrowstyle=style, color=LINE, linewidth=1.2, zorder=1
    )
    axes.add_patch(patch)


def _write(
    axes: Axes, x: float, y: float, text: str, size: float, align: str, weight: str = "normal"
) -> None:
    axes.text(
        x, y, text, size=size, ha=align, va="center", color=INK, weight=weight, zorder=3,
        family=["DejaVu Sans", "sans-serif"],
    )  # fmt: skip

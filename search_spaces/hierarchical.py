"""Motifs of motifs: operations make motifs, motifs make a cell, and cells make the network; all
three levels are searched together.

Liu et al. 2018, arXiv:1711.00436: six motifs of four nodes, on whose edges stand six primitive
operations, and a cell of five nodes, on whose edges stand motifs; each use of a motif has weights
of its own. Cells follow each other in stages, between which a separable 3x3 convolution halves the
image. Departures: how many stages and cells there are, how wide they are, and whether stages
double the channels is searched as well; a node is the sum of its edges (the paper concatenates,
so that channels grow without bound), and a batch norm ends each cell, so that many paths do not
swell; the stem halves images until their shorter side is under 64 pixels. On small images halvings
between stages are left out from the front until 4 pixels remain, so parameters do not depend on
the image. What does not reach the cell's output is not built. Takes images of 8x8 and up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import TYPE_CHECKING

from raynas.architecture import Architecture, Decision
from raynas.graphs import Edge, Graph, identity, pruned
from raynas.space import Space

if TYPE_CHECKING:
    from torch import Tensor, nn

SMALLEST = 8  # pixels on a side
LARGE = 64  # from which on the stem halves
MOTIFS = tuple(f"motif{m}" for m in range(6))
MOTIF_NODES, CELL_NODES = 4, 5  # the first is the input, the last the output
POOLS = ("max_pool_3x3", "avg_pool_3x3")
PRIMITIVES = ("none", "identity", "conv_1x1", "depthwise_3x3", "separable_3x3", *POOLS)


AROUND = (
    Decision("stages", (2, 3, 4), "how many groups of cells, with a halving between", True),
    Decision("cells", (1, 2, 3), "how many cells follow each other in a stage", ordered=True),
    Decision("width", (16, 24, 32, 48, 64), "channels of the first stage", ordered=True),
    Decision("doubling", (False, True), "doubles the channels from stage to stage"),
)


def _name(layer: str, source: int, target: int) -> str:
    return f"{layer}.node{target}.from_{source}"


@cache
def _edges(layer: str) -> tuple[Decision, ...]:
    """What stands on the edges of the cell, or of the motif `cell.motif0`."""
    last = (CELL_NODES if layer == "cell" else MOTIF_NODES) - 1
    options = ("none", "identity", *MOTIFS) if layer == "cell" else PRIMITIVES
    called = ["its input", *(f"node {n}" for n in range(1, last)), "its output"]
    return tuple(
        Decision(_name(layer, s, t), options, f"what carries {called[s]} to {called[t]}")
        for t in range(1, last + 1)
        for s in range(t)
    )


def _graph(architecture: Architecture, layer: str, without: Collection[str] = ()) -> Graph:
    """The live part of the cell, or of the motif `cell.motif0`.

    Args:
        without: motifs that carry nothing.
    """
    edges, target = [], ""
    for decision in _edges(layer):
        operation = str(architecture[decision.name])
        source = f"node{decision.leaf.removeprefix('from_')}".replace("node0", "input")
        target = decision.layer.rpartition(".")[2]
        if operation != "none" and operation not in without:
            edges.append(Edge(source, target, "" if operation == "identity" else operation))
    return pruned(Graph(("input",), tuple(edges), target))


def graphs(architecture: Architecture) -> dict[str, Graph]:
    """The live parts of the cell and of each motif it uses, by `cell`, `motif0` and so on."""
    motifs = {motif: _graph(architecture, f"cell.{motif}") for motif in MOTIFS}
    cell = _graph(architecture, "cell", [motif for motif in MOTIFS if not motifs[motif].edges])
    used = {edge.operation for edge in cell.edges}
    return {"cell": cell, **{motif: graph for motif, graph in motifs.items() if motif in used}}


def flat(found: Mapping[str, Graph]) -> Graph:
    """The cell with what its motifs consist of in place of them."""
    edges: list[Edge] = []
    for i, edge in enumerate(found["cell"].edges):
        motif = found.get(edge.operation)
        if motif is None:
            edges.append(edge)
            continue
        outside = {"input": edge.source, motif.output: edge.target}
        for part in motif.edges:
            source, target = (outside.get(n, f"{i}.{n}") for n in (part.source, part.target))
            edges.append(Edge(source, target, part.operation))
    return Graph(("input",), tuple(edges), found["cell"].output)


def canonical(architecture: Architecture) -> str:
    """What the cell computes, however it is divided into motifs, and what stands around it."""
    text = identity(flat(graphs(architecture)), free=POOLS[:1], linear=POOLS[1:])
    plain = simplify(architecture)
    return f"hierarchical {' '.join(f'{d.name}={plain[d.name]}' for d in AROUND)} {text}"


def simplify(architecture: Architecture) -> Architecture:
    """The design with `none` wherever nothing is carried or what is carried leads nowhere.

    Of cells that carry nothing at all there is one in a stage.
    """
    alive = set()
    for title, graph in graphs(architecture).items():
        layer = title if title == "cell" else f"cell.{title}"
        for edge in graph.edges:
            source = edge.source.removeprefix("node").replace("input", "0")
            alive.add(f"{layer}.{edge.target}.from_{source}")
    plain = {d.name: "none" for d in EDGES if d.name not in alive}
    numbers = {} if alive else {"cells": min(AROUND[1].options)}
    choices = ((n, {**plain, **numbers}.get(n, o)) for n, o in architecture.choices)
    return Architecture(architecture.space, tuple(choices))


def halvings(architecture: Architecture, side: int) -> tuple[int, list[int]]:
    """How often the stem halves an image of so many pixels, and the stride after each stage."""
    from raynas.operations import kept_strides

    stem = 0
    while side >= LARGE:
        stem, side = stem + 1, -(-side // 2)
    return stem, kept_strides([2] * (int(architecture["stages"]) - 1), side)


def costs(
    architecture: Architecture, input_shape: tuple[int, int, int], num_classes: int
) -> dict[str, float]:
    """`params` and `flops` of what `build` makes, by formula."""
    channels, height, width = input_shape
    stem, strides = halvings(architecture, min(height, width))
    for _ in range(stem):
        height, width = -(-height // 2), -(-width // 2)
    used = [edge.operation for edge in flat(graphs(architecture)).edges]
    c, cells = int(architecture["width"]), int(architecture["cells"])
    first = -(-input_shape[1] // min(stem + 1, 2)) * -(-input_shape[2] // min(stem + 1, 2))
    params, adds = (9 * channels + 2) * c, 9 * channels * c * first
    for stage in range(int(architecture["stages"])):
        if stage:  # a separable convolution
            stride, wider = strides[stage - 1], c * (2 if architecture["doubling"] else 1)
            height, width = -(-height // stride), -(-width // stride)
            params += (9 + 2) * c + (c + 2) * wider
            adds += (9 * c + c * wider) * height * width
            c = wider
        weights = {"conv_1x1": c * c, "depthwise_3x3": 9 * c, "separable_3x3": 9 * c + c * c}
        norms = {"conv_1x1": 2 * c, "depthwise_3x3": 2 * c, "separable_3x3": 4 * c}
        inside = sum(weights.get(operation, 0) for operation in used)
        params += cells * (inside + sum(norms.get(o, 0) for o in used) + (2 * c if used else 0))
        adds += cells * inside * height * width
    params += (c + 1) * num_classes
    return {"params": float(params), "flops": 2.0 * (adds + c * num_classes)}


def build(
    architecture: Architecture, input_shape: tuple[int, int, int], num_classes: int
) -> nn.Module:
    """Builds the network: images `[N, C, H, W]` -> logits `[N, num_classes]`.

    Raises:
        UserError: the images are smaller than 8x8.
    """
    from torch import nn

    from raynas.blocks import normalized
    from raynas.operations import require_side, separable

    require_side(SPACE.name, SMALLEST, input_shape)
    found, width = graphs(architecture), int(architecture["width"])
    halved, strides = halvings(architecture, min(input_shape[1:]))
    stem = normalized(input_shape[0], width, 3, 2 if halved else 1, "relu")
    stem.extend(nn.MaxPool2d(3, 2, 1) for _ in range(halved - 1))
    parts: dict[str, nn.Module] = {"stem": stem}
    number = 0
    for stage, stride in enumerate([1, *strides]):
        if stage:
            wider = width * (2 if architecture["doubling"] else 1)
            layers = (separable(width, wider, 3, stride), nn.BatchNorm2d(wider), nn.ReLU())
            parts[f"reduction{stage - 1}"], width = nn.Sequential(*layers), wider
        for _ in range(int(architecture["cells"])):
            parts[f"cell{number}"] = _cell(found, width)
            number += 1
    parts["head"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    parts["classifier"] = nn.Linear(width, num_classes)
    return nn.Sequential(OrderedDict(parts))


def _cell(found: Mapping[str, Graph], width: int) -> nn.Module:
    """A cell, each motif of which has weights of its own; keeps the shape `[N, width, H, W]`."""
    from torch import nn

    from raynas.blocks import normalized
    from raynas.operations import separable

    def operation(name: str) -> nn.Module:
        if name in found:
            return Motif(found[name])
        make: dict[str, Callable[[], nn.Module]] = {
            "": nn.Identity,
            "conv_1x1": lambda: normalized(width, width, 1, 1, "relu"),
            "depthwise_3x3": lambda: normalized(width, width, 3, 1, "relu", groups=width),
            "separable_3x3": lambda: nn.Sequential(
                separable(width, width, 3, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
            ),
            "max_pool_3x3": lambda: nn.MaxPool2d(3, 1, 1),
            "avg_pool_3x3": lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
        }
        return make[name]()

    class Motif(nn.Module):
        """A graph whose nodes are the sums of their edges."""

        def __init__(self, graph: Graph) -> None:
            super().__init__()
            self.graph = graph
            self.edges = nn.ModuleDict(
                {f"{e.source}_{e.target}": operation(e.operation) for e in graph.edges}
            )

        def forward(self, x: Tensor) -> Tensor:
            values = {"input": x}
            for edge, operation in zip(self.graph.edges, self.edges.values(), strict=True):
                y = operation(values[edge.source])
                values[edge.target] = values[edge.target] + y if edge.target in values else y
            return values.get(self.graph.output, 0 * x)

    class Cell(nn.Sequential):
        """A graph of motifs; batch norm, unless nothing comes out of it."""

    norm = [nn.BatchNorm2d(width)] if found["cell"].edges else []
    return Cell(Motif(found["cell"]), *norm)


EDGES = (
    *(decision for motif in MOTIFS for decision in _edges(f"cell.{motif}")),
    *_edges("cell"),
)
SPACE = Space(
    "hierarchical",
    (*AROUND, *EDGES),
    canonical=canonical,
    simplify=simplify,
    build=build,
    costs=costs,
    graphs=graphs,
)

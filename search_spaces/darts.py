"""DARTS: a normal and a reduction cell of four nodes, each of which applies two of eight
operations to two earlier values.

Liu et al. 2019 (arXiv:1806.09055), as its found cells are trained: two reduction cells at one and
two thirds of the depth, C channels at first (C = 16 and 8 cells by default; the paper trains C =
36 and 20 cells), no auxiliary classifier, no path dropped. A pair of inputs such as `0+2` counts
the values of the cell before the last (0), of the last (1), and of this cell's nodes (2 and up).
What receives nothing but `none` is nothing: it is not built, is left out of the concatenation and
is taken out of a design that a search trains. Where we depart: images of 64x64 and more are
halved by the stem until they are smaller; feature maps of odd sides are rounded up. Takes images
of 8x8 and up.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING

from raynas.architecture import Architecture, Decision, Option
from raynas.errors import UserError
from raynas.graphs import Edge, Graph, stack_identity, stacked, survivors
from raynas.space import Chances, Known, Shape, Space

if TYPE_CHECKING:
    from torch import nn

    from raynas.mixtures import Mixture

OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
KINDS = ("normal", "reduction")
NODES = 4
VALUES = ("input0", "input1", *(f"node{i}" for i in range(NODES)))  # by number
SMALLEST = 8  # pixels on a side: two are left in the last cells


def _pairs(node: int) -> tuple[str, ...]:
    return tuple(f"{a}+{b}" for a, b in combinations(range(node + 2), 2))


def _sources(architecture: Architecture, kind: str, node: int) -> tuple[int, int]:
    pair = str(architecture.options.get(f"{kind}.node{node}.inputs", "0+1"))
    first, second = pair.split("+")
    return int(first), int(second)


def _edge(kind: str, source: int, node: int, operation: str) -> Edge:
    """Strided, a skip connection is a layer of its own; otherwise it is the value as it is."""
    strided = kind == "reduction" and source < 2
    plain = operation == "skip_connect" and not strided
    return Edge(VALUES[source], f"node{node}", "" if plain else operation)


def graph(architecture: Architecture, kind: str) -> Graph:
    """The normal or the reduction cell, without the edges that carry nothing."""
    edges = []
    for node in range(NODES):
        for slot, source in enumerate(_sources(architecture, kind, node)):
            operation = str(architecture[f"{kind}.node{node}.op{slot}"])
            if operation != "none":
                edges.append(_edge(kind, source, node, operation))
    edges += [Edge(f"node{node}", "output", "") for node in range(NODES)]
    return Graph(("input0", "input1"), tuple(edges), concatenates=True)


def _graphs(architecture: Architecture) -> dict[str, Graph]:
    return {f"{kind} cell": graph(architecture, kind) for kind in KINDS}


def _stack(architecture: Architecture, cells: int) -> list[Graph | None]:
    normal, reduction = (graph(architecture, kind) for kind in KINDS)
    return stacked(normal, reduction, cells)


def canonical(architecture: Architecture, cells: int = 8) -> str:
    """The text that all names of one network share."""
    stack = _stack(architecture, cells)
    return stack_identity(stack, free=("max_pool_3x3",), linear=("avg_pool_3x3",))


def simplify(architecture: Architecture, cells: int = 8) -> Architecture:
    """The design without operations that nothing reaches or that lead nowhere.

    Inputs that an operation no longer reads are the first ones that may be chosen.
    """
    options = dict(architecture.options)
    for kind, alive in zip(KINDS, survivors(_stack(architecture, cells)), strict=True):
        for node in range(NODES):
            kept: dict[int, Option] = {}
            for slot, source in enumerate(_sources(architecture, kind, node)):
                operation = architecture[f"{kind}.node{node}.op{slot}"]
                if _edge(kind, source, node, str(operation)) in alive:
                    kept[source] = operation
            pair = next(p for p in _pairs(node) if {*map(int, p.split("+"))} >= kept.keys())
            if node:
                options[f"{kind}.node{node}.inputs"] = pair
            for slot, source in enumerate(map(int, pair.split("+"))):
                options[f"{kind}.node{node}.op{slot}"] = kept.get(source, "none")
    return Architecture(architecture.space, tuple(options.items()))


def costs(
    architecture: Architecture,
    input_shape: Shape,
    num_classes: int,
    channels: int = 16,
    cells: int = 8,
) -> dict[str, float]:
    """`params` and `flops` of what `build` makes, without building it."""
    from raynas.cells import network_costs

    return network_costs(_stack(architecture, cells), channels, input_shape, num_classes)


def build(
    architecture: Architecture,
    input_shape: Shape,
    num_classes: int,
    channels: int = 16,
    cells: int = 8,
) -> nn.Module:
    """Builds the network: images `[N, C, H, W]` -> logits `[N, num_classes]`.

    Args:
        channels: of the first cells' nodes.
        cells: how many there are, reduction cells included.

    Raises:
        UserError: the images are smaller than 8x8.
    """
    from raynas.cells import CellNetwork
    from raynas.operations import require_side

    require_side(SPACE.name, SMALLEST, input_shape)
    return CellNetwork(_stack(architecture, cells), channels, input_shape, num_classes)


def _edges(space: Space) -> dict[str, tuple[str, ...]]:
    """Every earlier value of every node -> what may be done to it in a design of this space."""
    found: dict[str, set[str]] = {}
    for kind, node, pair in _choices(space):
        for slot, source in enumerate(pair):
            options = space.by_name[f"{kind}.node{node}.op{slot}"].options
            found.setdefault(_edge_name(kind, node, source), set()).update(map(str, options))
    return {edge: tuple(o for o in OPERATIONS if o in found[edge]) for edge in found}


def _choices(space: Space) -> Iterator[tuple[str, int, tuple[int, int]]]:
    """All (kind, node, values that it may read); in the order of what nodes read first."""
    for kind in KINDS:
        for node in range(NODES):
            d = space.by_name.get(f"{kind}.node{node}.inputs")
            for pair in map(str, d.options) if d else ("0+1",):
                first, second = map(int, pair.split("+"))
                yield kind, node, (first, second)


def _edge_name(kind: str, node: int, source: int) -> str:
    return f"{kind}.node{node}.from_{VALUES[source]}"


def mixture(
    space: Space,
    input_shape: Shape,
    num_classes: int,
    part: int = 1,
    channels: int = 16,
    cells: int = 8,
) -> Mixture:
    """All operations on all earlier values of every node: 14 edges in either kind of cell.

    Where we depart from the paper: batch norms learn a scale and a shift, and pooling has none.
    """
    from raynas.cells import CellNetwork
    from raynas.mixtures import NOTHING, mixed_cells, require_parts
    from raynas.operations import require_side

    require_side(SPACE.name, SMALLEST, input_shape)
    require_parts(SPACE.name, channels, part, smallest=2)
    edges = _edges(space)

    def layer(edge: str, option: str) -> Edge:
        kind, node, value = edge.replace(".from_", ".").split(".")
        return _edge(kind, VALUES.index(value), int(node.removeprefix("node")), option)

    def whole(kind: str) -> Graph:
        own = [(e, o) for e in edges if e.startswith(f"{kind}.") for o in edges[e] if o != NOTHING]
        out = [Edge(f"node{node}", "output", "") for node in range(NODES)]
        carrying = (*(layer(*pair) for pair in own), *out)
        return Graph(("input0", "input1"), carrying, concatenates=True)

    def taken(architecture: Architecture) -> dict[str, str]:
        return {
            _edge_name(kind, node, source): str(architecture[f"{kind}.node{node}.op{slot}"])
            for kind in KINDS
            for node in range(NODES)
            for slot, source in enumerate(_sources(architecture, kind, node))
        }

    stack = stacked(whole("normal"), whole("reduction"), cells)
    network = CellNetwork(stack, channels, input_shape, num_classes, part=part)
    return mixed_cells(network, edges, layer, taken, part)


def discretize(space: Space, strengths: Chances) -> Architecture:
    """Each node reads the two values with the strongest operations, `none` left out of account.

    Where a narrowed space does not allow these two, it reads those with the largest sum.
    """
    found: dict[str, tuple[float, dict[str, Option]]] = {}
    for kind, node, pair in _choices(space):
        name, total = f"{kind}.node{node}", 0.0
        chosen: dict[str, Option] = {f"{name}.inputs": "+".join(map(str, pair))}
        for slot, source in enumerate(pair):
            strong = {**strengths[_edge_name(kind, node, source)], "none": 0.0}
            options = space.by_name[f"{name}.op{slot}"].options
            chosen[f"{name}.op{slot}"] = best = max(options, key=lambda o: strong[str(o)])
            total += strong[str(best)]
        if name not in found or total > found[name][0]:
            found[name] = total, chosen
    taken = {name: o for _, chosen in found.values() for name, o in chosen.items()}
    return space.answer(lambda d: taken.get(d.name, d.options[0]))


def _decisions(kind: str) -> list[Decision]:
    decisions = []
    for node in range(NODES):
        name, said = f"{kind}.node{node}", f"node {node} of the {kind} cells"
        if node:
            meaning = f"which two values {said} reads (0, 1: of the cells before)"
            decisions.append(Decision(f"{name}.inputs", _pairs(node), meaning))
        for slot, which in enumerate(("first", "second")):
            meaning = f"what is done to the {which} value that {said} reads"
            decisions.append(Decision(f"{name}.op{slot}", OPERATIONS, meaning))
    return decisions


def _known(normal: str, reduction: str, source: str, params: float) -> Known:
    """From a genotype: for each node two operations, each with the number of what it reads."""
    options: dict[str, Option] = {}
    for kind, words in zip(KINDS, (normal.split(), reduction.split()), strict=True):
        for node in range(NODES):
            edges = sorted((w[-1], w[:-2]) for w in words[2 * node : 2 * node + 2])
            if node:
                options[f"{kind}.node{node}.inputs"] = "+".join(value for value, _ in edges)
            for slot, (_, operation) in enumerate(edges):
                options[f"{kind}.node{node}.op{slot}"] = operation
    settings = {"channels": 36, "cells": 20}
    return Known(options, source, params, None, (3, 32, 32), 10, settings)


KNOWN = {
    "darts_v1": _known(
        "sep_conv_3x3@1 sep_conv_3x3@0 skip_connect@0 sep_conv_3x3@1 "
        "skip_connect@0 sep_conv_3x3@1 sep_conv_3x3@0 skip_connect@2",
        "max_pool_3x3@0 max_pool_3x3@1 skip_connect@2 max_pool_3x3@0 "
        "max_pool_3x3@0 skip_connect@2 skip_connect@2 avg_pool_3x3@0",
        "Liu et al. 2019, first order",
        3.3e6,
    ),
    "darts_v2": _known(
        "sep_conv_3x3@0 sep_conv_3x3@1 sep_conv_3x3@0 sep_conv_3x3@1 "
        "sep_conv_3x3@1 skip_connect@0 skip_connect@0 dil_conv_3x3@2",
        "max_pool_3x3@0 max_pool_3x3@1 skip_connect@2 max_pool_3x3@1 "
        "max_pool_3x3@0 skip_connect@2 skip_connect@2 max_pool_3x3@1",
        "Liu et al. 2019, second order",
        3.3e6,
    ),
    "p_darts": _known(
        "skip_connect@0 dil_conv_3x3@1 skip_connect@0 sep_conv_3x3@1 "
        "sep_conv_3x3@1 sep_conv_3x3@3 sep_conv_3x3@0 dil_conv_5x5@4",
        "avg_pool_3x3@0 sep_conv_5x5@1 sep_conv_3x3@0 dil_conv_5x5@2 "
        "max_pool_3x3@0 dil_conv_3x3@1 dil_conv_3x3@1 dil_conv_5x5@3",
        "Chen et al. 2019 (arXiv:1904.12760), found on CIFAR-10",
        3.4e6,
    ),
    "pc_darts": _known(
        "sep_conv_3x3@1 skip_connect@0 sep_conv_3x3@0 dil_conv_3x3@1 "
        "sep_conv_5x5@0 sep_conv_3x3@1 avg_pool_3x3@0 dil_conv_3x3@1",
        "sep_conv_5x5@1 max_pool_3x3@0 sep_conv_5x5@1 sep_conv_5x5@2 "
        "sep_conv_3x3@0 sep_conv_3x3@3 sep_conv_3x3@1 sep_conv_3x3@2",
        "Xu et al. 2020 (arXiv:1907.05737), found on CIFAR-10",
        3.6e6,
    ),
}


def space(channels: int = 16, cells: int = 8) -> Space:
    """The space with another width (the first cells' channels) or depth (cells in all)."""
    if channels < 2 or cells < 1:
        raise UserError(
            "darts: expected channels of 2 or more and cells of 1 or more; got "
            f"{channels} and {cells}. The paper trains channels=36,cells=20."
        )
    return Space(
        "darts",
        tuple(decision for kind in KINDS for decision in _decisions(kind)),
        canonical=partial(canonical, cells=cells),
        simplify=partial(simplify, cells=cells),
        build=partial(build, channels=channels, cells=cells),
        mixture=partial(mixture, channels=channels, cells=cells),
        discretize=discretize,
        costs=partial(costs, channels=channels, cells=cells),
        graphs=_graphs,
        known=KNOWN,
    )


SPACE = space()

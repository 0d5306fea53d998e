"""NASNet cells: a normal and a reduction cell of five nodes, each of which adds up two of ten
operations on two earlier values.

Zoph et al. 2018 (arXiv:1707.07012), with the ten operations of the explainable-NAS article; two
reduction cells at one and two thirds of the depth, C channels at first (C = 16 and 8 cells by
default; NASNet-A on CIFAR-10 has C = 32 and 20 cells). A cell's value is the concatenation of
the nodes that none of its operations reads. Values are numbered: 0 is that of the cell before the
last, 1 that of the last, 2 and up are this cell's nodes. `identity` passes a value on as it is (a
factorized reduction where it must be halved), `skip` through a 1x1 convolution of its own;
convolutions stand between ReLU and batch norm, separable ones twice in a row. What receives
nothing but `none` is nothing: it is not built and is taken out of a design that a search trains.
Where we depart: images of 64x64 and more are halved by the stem until they are smaller; feature
maps of odd sides are rounded up; no auxiliary classifier, no path dropped. Takes images of 8x8
and up.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from raynas.architecture import Architecture, Decision, Option
from raynas.errors import UserError
from raynas.graphs import Edge, Graph, stack_identity, stacked, survivors
from raynas.space import Known, Shape, Space

if TYPE_CHECKING:
    from torch import nn

OPERATIONS = (
    "identity",
    "conv_3x3",
    "conv_5x5",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "max_pool_3x3",
    "avg_pool_3x3",
    "dilated_3x3",
    "skip",
    "none",
)
KINDS = ("normal", "reduction")
NODES = 5
VALUES = ("input0", "input1", *(f"node{i}" for i in range(NODES)))  # by number
SMALLEST = 8  # pixels on a side: two are left in the last cells


def _edge(architecture: Architecture, kind: str, node: int, slot: int) -> Edge | None:
    """What a node adds up first or second; None if that is `none`.

    Strided, an identity is a layer of its own; otherwise it is the value as it is.
    """
    source = int(architecture[f"{kind}.node{node}.input{slot}"])
    operation = str(architecture[f"{kind}.node{node}.op{slot}"])
    if operation == "none":
        return None
    plain = operation == "identity" and not (kind == "reduction" and source < 2)
    return Edge(VALUES[source], f"node{node}", "" if plain else operation)


def graph(architecture: Architecture, kind: str) -> Graph:
    """The normal or the reduction cell, without the edges that carry nothing."""
    slots = [(node, slot) for node in range(NODES) for slot in (0, 1)]
    edges = [e for at in slots if (e := _edge(architecture, kind, *at)) is not None]
    read = {edge.source for edge in edges}
    edges += [Edge(node, "output", "") for node in VALUES[2:] if node not in read]
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
    """The design without operations that nothing reaches; what those would read is 0."""
    options = dict(architecture.options)
    for kind, alive in zip(KINDS, survivors(_stack(architecture, cells)), strict=True):
        for node in range(NODES):
            for slot in (0, 1):
                if _edge(architecture, kind, node, slot) not in alive:
                    options[f"{kind}.node{node}.op{slot}"] = "none"
                    options[f"{kind}.node{node}.input{slot}"] = 0
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
    stack = _stack(architecture, cells)
    return CellNetwork(stack, channels, input_shape, num_classes, relu=True)


def _decisions(kind: str) -> list[Decision]:
    decisions = []
    for node in range(NODES):
        name, said = f"{kind}.node{node}", f"node {node} of the {kind} cells"
        values = tuple(range(node + 2))
        for slot, which in enumerate(("first", "second")):
            reads = f"which value {said} reads {which} (0, 1: of the cells before)"
            does = f"what is done to the {which} value that {said} reads"
            decisions.append(Decision(f"{name}.input{slot}", values, reads))
            decisions.append(Decision(f"{name}.op{slot}", OPERATIONS, does))
    return decisions


def _known(normal: str, reduction: str, source: str, params: float, channels: int) -> Known:
    """From ten operations per cell, each with the number of what it reads."""
    options: dict[str, Option] = {}
    for kind, words in zip(KINDS, (normal.split(), reduction.split()), strict=True):
        for i, word in enumerate(words):
            operation, _, value = word.partition("@")
            options[f"{kind}.node{i // 2}.input{i % 2}"] = int(value)
            options[f"{kind}.node{i // 2}.op{i % 2}"] = operation
    settings = {"channels": channels, "cells": 20}
    return Known(options, source, params, None, (3, 32, 32), 10, settings)


KNOWN = {
    "nasnet_a": _known(
        "sep_conv_5x5@1 sep_conv_3x3@0 sep_conv_5x5@0 sep_conv_3x3@0 avg_pool_3x3@1 "
        "identity@0 avg_pool_3x3@0 avg_pool_3x3@0 sep_conv_3x3@1 identity@1",
        "sep_conv_5x5@1 sep_conv_5x5@0 max_pool_3x3@1 sep_conv_5x5@0 avg_pool_3x3@1 "
        "sep_conv_5x5@0 identity@3 avg_pool_3x3@2 sep_conv_3x3@2 max_pool_3x3@1",
        "NASNet-A (6 @ 768), Zoph et al. 2018; 5x5 where two separable convolutions are 7x7, and "
        "no input beside the nodes in the concatenation",
        3.3e6,
        32,
    ),
    "amoebanet_a": _known(
        "avg_pool_3x3@0 max_pool_3x3@1 sep_conv_3x3@0 sep_conv_5x5@2 sep_conv_3x3@0 "
        "avg_pool_3x3@3 sep_conv_3x3@1 identity@1 identity@0 avg_pool_3x3@1",
        "avg_pool_3x3@0 sep_conv_3x3@1 max_pool_3x3@0 sep_conv_5x5@2 sep_conv_5x5@0 "
        "avg_pool_3x3@1 max_pool_3x3@0 max_pool_3x3@1 conv_3x3@0 sep_conv_3x3@5",
        "AmoebaNet-A (N = 6, F = 36), Real et al. 2019 (arXiv:1802.01548); 5x5 where two separable "
        "convolutions are 7x7, 3x3 for a convolution of 1x7 then 7x1",
        3.2e6,
        36,
    ),
}


def space(channels: int = 16, cells: int = 8) -> Space:
    """The space with another width (the first cells' channels) or depth (cells in all)."""
    if channels < 2 or cells < 1:
        raise UserError(
            "nasnet_cell: expected channels of 2 or more and cells of 1 or more; got "
            f"{channels} and {cells}. NASNet-A has channels=32,cells=20."
        )
    return Space(
        "nasnet_cell",
        tuple(decision for kind in KINDS for decision in _decisions(kind)),
        canonical=partial(canonical, cells=cells),
        simplify=partial(simplify, cells=cells),
        build=partial(build, channels=channels, cells=cells),
        costs=partial(costs, channels=channels, cells=cells),
        graphs=_graphs,
        known=KNOWN,
    )


SPACE = space()

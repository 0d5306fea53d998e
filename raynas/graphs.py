"""Cells as graphs of operations: for pictures, and to know equal networks by one text.

What a graph computes: a node's value is a multiset of tensors, which are summed. An edge without
an operation adds its source's value; an operation makes one new tensor of it. An operation with
weights makes a tensor of its own on every edge, so that a convolution which two nodes read is not
the same as two convolutions; one without weights makes equal tensors of equal values. What
nothing reaches is nothing, whatever is done to it; what does not reach the output does not count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

Tensor = tuple[str, tuple[int, ...]]  # the operation that makes it, the numbers of what it reads


@dataclass(frozen=True)
class Edge:
    """An operation that carries one node's value to another; "" carries it as it is."""

    source: str
    target: str
    operation: str


@dataclass(frozen=True)
class Graph:
    """A directed acyclic graph; a node is the sum of its incoming edges.

    Attributes:
        inputs: nodes without incoming edges.
        edges: in an order in which every node is complete before it is read.
        output: the node that is the graph's value.
        concatenates: whether the output concatenates what its edges carry instead of summing it.
    """

    inputs: tuple[str, ...]
    edges: tuple[Edge, ...]
    output: str = "output"
    concatenates: bool = False


def live(graph: Graph) -> tuple[Edge, ...]:
    """The edges on a path from an input to the output, in the graph's order; the rest is dead."""
    filled, carrying = set(graph.inputs), []
    for edge in graph.edges:
        if edge.source in filled:
            filled.add(edge.target)
            carrying.append(edge)
    needed, found = {graph.output}, []
    for edge in reversed(carrying):
        if edge.target in needed:
            needed.add(edge.source)
            found.append(edge)
    return tuple(reversed(found))


def pruned(graph: Graph) -> Graph:
    """The graph without dead edges and without inputs that nobody reads."""
    edges = live(graph)
    read = {edge.source for edge in edges}
    return replace(graph, inputs=tuple(i for i in graph.inputs if i in read), edges=edges)


def identity(graph: Graph, free: Collection[str] = (), linear: Collection[str] = ()) -> str:
    """One text for exactly those graphs that compute the same with the same weights.

    Nodes may have other names (inputs may not), summands and concatenated values another order.

    Args:
        graph: which may have dead parts.
        free: operations without weights: equal if their names and what they read are equal.
        linear: those of them that can as well be applied to each summand (average pooling).

    Returns:
        The tensors in the order of their numbers, which begin at 0: an operation and the numbers
        of what it reads, such as `input conv(0) =(0,1)`; "=" is the output or a part that it
        concatenates. "nothing" if nothing reaches the output.
    """
    tensors = _tensors(graph, frozenset(free) | frozenset(linear), frozenset(linear))
    if not tensors:
        return "nothing"
    users: list[list[int]] = [[] for _ in tensors]
    depths = [0] * len(tensors)
    for i, (operation, inputs) in enumerate(tensors):
        for j in inputs:
            users[j].append(i)
        depths[i] = max((depths[j] + 1 for j in inputs), default=0)
        depths[i] += len(tensors) if operation == "=" else 0  # outputs last
    start = [(depth, operation) for depth, (operation, _) in zip(depths, tensors, strict=True)]
    return min(_texts(tensors, users, _ranked(start)))


def _tensors(graph: Graph, free: Collection[str], linear: Collection[str]) -> list[Tensor]:
    """The distinct live tensors, each after what it reads; parts of the output are called "="."""
    tensors: list[Tensor] = []
    made: dict[Tensor, int] = {}
    values: dict[str, tuple[int, ...]] = {}
    joined: list[tuple[int, ...]] = []

    def make(tensor: Tensor, shared: bool) -> int:
        if not shared or tensor not in made:
            made[tensor] = len(tensors)
            tensors.append(tensor)
        return made[tensor]

    for edge in live(graph):
        if edge.source in graph.inputs and edge.source not in values:
            values[edge.source] = (make((edge.source, ()), True),)
        value = values[edge.source]
        if edge.operation in linear:
            value = tuple(make((edge.operation, (t,)), True) for t in value)
        elif edge.operation:
            value = (make((edge.operation, value), edge.operation in free),)
        if graph.concatenates and edge.target == graph.output:
            joined.append(tuple(sorted(value)))
        else:
            values[edge.target] = tuple(sorted(values.get(edge.target, ()) + value))
    if not graph.concatenates and graph.output in values:
        joined.append(values[graph.output])
    for value in joined:
        make(("=", value), False)
    return tensors


def _texts(
    tensors: Sequence[Tensor], users: Sequence[Sequence[int]], colours: Sequence[int]
) -> set[str]:
    """The texts of all ways to number the tensors that their places in the graph leave open.

    Colour refinement, then each of the tensors that are still alike is told apart in turn (McKay
    1981). One whose first text was met before is the image of another under a symmetry, so it
    need not be followed further: ten equal operations take tens of numberings, not 10!.
    """
    colours = _refined(tensors, users, colours)
    alike = _alike(colours)
    if not alike:
        return {_text(tensors, colours)}
    found: set[str] = set()
    for i in alike:
        told = _told_apart(colours, i)
        if _first(tensors, users, told) not in found:
            found |= _texts(tensors, users, told)
    return found


def _first(
    tensors: Sequence[Tensor], users: Sequence[Sequence[int]], colours: Sequence[int]
) -> str:
    colours = _refined(tensors, users, colours)
    while alike := _alike(colours):
        colours = _refined(tensors, users, _told_apart(colours, alike[0]))
    return _text(tensors, colours)


def _refined(
    tensors: Sequence[Tensor], users: Sequence[Sequence[int]], colours: Sequence[int]
) -> list[int]:
    """Splits colours by the colours of what is read and of what reads, until nothing changes."""
    while True:
        marks = [
            (
                own,
                tuple(sorted([colours[j] for j in inputs])),
                tuple(sorted([colours[j] for j in readers])),
            )
            for own, (_, inputs), readers in zip(colours, tensors, users, strict=True)
        ]
        finer = _ranked(marks)
        if max(finer) == max(colours) or max(finer) == len(finer) - 1:
            return finer
        colours = finer


def _ranked(marks: Sequence[tuple[object, ...]]) -> list[int]:
    rank = {mark: i for i, mark in enumerate(sorted(set(marks)))}
    return [rank[mark] for mark in marks]


def _alike(colours: Sequence[int]) -> list[int]:
    """The tensors of the first colour that several have; empty if there is none."""
    for colour in range(max(colours) + 1):
        if colours.count(colour) > 1:
            return [i for i, c in enumerate(colours) if c == colour]
    return []


def _told_apart(colours: Sequence[int], chosen: int) -> list[int]:
    moved = [c + 1 if c >= colours[chosen] else c for c in colours]
    moved[chosen] = colours[chosen]
    return moved


def _text(tensors: Sequence[Tensor], colours: Sequence[int]) -> str:
    words = [""] * len(tensors)
    for i, (operation, inputs) in enumerate(tensors):
        read = ",".join(str(c) for c in sorted(colours[j] for j in inputs))
        words[colours[i]] = f"{operation}({read})" if read else operation
    return " ".join(words)


def reductions(cells: int) -> tuple[int, ...]:
    """Which of so many cells halve the image: those at one and two thirds of the depth."""
    return tuple(sorted({cells // 3, 2 * cells // 3}))


def stacked(normal: Graph, reduction: Graph, cells: int) -> list[Graph | None]:
    """What each cell of a network does in which a cell reads the two before it.

    Args:
        normal, reduction: cells whose inputs are called `input0` (the value of the cell before
            the last) and `input1` (of the last); the stem's value stands before the first cell.
        cells: how many there are; the reduction cells among them are at `reductions`.

    Returns:
        For each cell what is left of it, given that some of the cells it reads may have no
        value; None for a cell that does not matter to the last cell's value.
    """
    filled, cut = [True, True], []
    for k in range(cells):
        graph = reduction if k in reductions(cells) else normal
        inputs = tuple(name for i, name in enumerate(("input0", "input1")) if filled[k + i])
        cut.append(pruned(replace(graph, inputs=inputs)))
        filled.append(bool(cut[k].edges))
    needed = {cells - 1} if filled[-1] else set()
    for k in reversed(range(cells)):
        if k in needed:
            needed |= {k - 2 + int(name == "input1") for name in cut[k].inputs}
    return [graph if k in needed else None for k, graph in enumerate(cut)]


def stack_identity(
    stack: Iterable[Graph | None], free: Collection[str] = (), linear: Collection[str] = ()
) -> str:
    """`identity` of a whole network of cells: each kind of cell once, after its places."""
    places: dict[Graph, list[str]] = {}
    for k, graph in enumerate(stack):
        if graph is not None:
            places.setdefault(graph, []).append(str(k))
    texts: dict[str, list[str]] = {}
    for graph, where in places.items():
        texts.setdefault(identity(graph, free, linear), []).extend(where)
    said = sorted((sorted(where, key=int), text) for text, where in texts.items())
    return " | ".join(f"{','.join(where)}: {text}" for where, text in said) or "nothing"


def survivors(stack: Sequence[Graph | None]) -> tuple[set[Edge], set[Edge]]:
    """The edges that are alive in some normal cell, and those in some reduction cell."""
    kinds: tuple[set[Edge], set[Edge]] = set(), set()
    for k, graph in enumerate(stack):
        kinds[k in reductions(len(stack))].update(graph.edges if graph else ())
    return kinds

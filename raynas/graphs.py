"""Cells as graphs of operations: for pictures, and to know equal networks by one text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Edge:
    """An operation that carries one node's tensor to another; "" carries it as it is."""

    source: str
    target: str
    operation: str


@dataclass(frozen=True)
class Graph:
    """A directed acyclic graph; a node is the sum of its incoming edges.

    Attributes:
        inputs: nodes without incoming edges.
        edges: in an order in which every node is complete before it is read.
        output: the node whose incoming edges are concatenated, or summed if there is one kind.
    """

    inputs: tuple[str, ...]
    edges: tuple[Edge, ...]
    output: str = "output"

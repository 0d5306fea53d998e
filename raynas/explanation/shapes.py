"""What a person can count in a graph of operations: paths, depths, shortcuts.

A path's signature is the sequence of its operations, without edges that only pass a value on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from raynas.graphs import Graph, live
from raynas.strategies.features import paths as signatures

__all__ = ["Signature", "Ways", "shape", "signatures", "terms", "weighted"]

WEIGHTLESS = ("pool", "skip", "identity", "none", "zero")  # words in names of such operations
ALSO = (
    "paths, log",
    "connected",
    "edges",
    "longest path, operations with weights",
    "shortest path, operations with weights",
    "mean path, operations with weights",
    "longest path, operations",
    "a shortcut beside weights",
    "share of paths that are shortcuts",
)

Signature = tuple[str, ...]
Ways = Counter[Signature]


def weighted(operation: str) -> bool:
    """Whether an operation has weights, as far as its name tells."""
    return not any(word in operation for word in WEIGHTLESS)


def terms(operations: Sequence[str]) -> list[str]:
    """What `shape` counts, in its order."""
    ways = ("live {}", "most {} on a path", "fewest {} on a path")
    return [*(way.format(o) for o in operations for way in ways), *ALSO]


def shape(graph: Graph | None, ways: Ways, operations: Sequence[str]) -> list[float]:
    """What is alive in a graph, in numbers; zeros where there is no graph or no path."""
    if graph is None or not ways:
        return [0.0] * (3 * len(operations) + len(ALSO))
    edges = live(graph)
    alive = Counter(edge.operation for edge in edges)
    row: list[float] = []
    for operation in operations:
        on = [path.count(operation) for path in ways]
        row += [float(alive[operation]), float(max(on)), float(min(on))]
    return [*row, float(np.log1p(sum(ways.values()))), 1.0, float(len(edges)), *_depths(ways)]


def _depths(ways: Mapping[Signature, int]) -> list[float]:
    total = sum(ways.values())
    deep = {path: sum(map(weighted, path)) for path in ways}
    mean = sum(deep[path] * count for path, count in ways.items()) / total
    bare = ways.get((), 0)
    return [
        float(max(deep.values())),
        float(min(deep.values())),
        mean,
        float(max(map(len, ways))),
        float(bare > 0 and max(deep.values()) > 0),
        bare / total,
    ]

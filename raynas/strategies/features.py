"""What predictors see of a design: its decisions, its live paths and its structure, as numbers.

Everything is computed on the plainest design, so that dead parts do not count. Three blocks:

- decisions: `Space.encode`;
- paths, where the space draws graphs: which sequences of operations lead from an input to the
  output (the path encoding of White et al. 2019, arXiv:1910.11858, without edges that only pass
  their value on), hashed into columns;
- structure: how often each option is chosen over all decisions that offer the same options, and
  how many decisions are active; for graphs, how often each operation is alive, the number of
  paths, their lengths; nominal parameters and FLOPs where the space has a formula.

No block knows a particular space. Scales come from designs drawn at random, with a fixed seed.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from raynas.architecture import Architecture, Option
from raynas.errors import UserError
from raynas.graphs import Graph, live
from raynas.objective import Array
from raynas.space import Space

REFERENCE = 128  # random designs that set the scales
PATHS = 256  # columns of hashed paths, shared by all graphs of a design
OPERATIONS = 16  # columns of hashed operations, per graph
LONGEST = 8  # operations of a path that are told apart: the last ones
IMAGE, CLASSES = (3, 32, 32), 10  # for which nominal costs are computed
FAR = 4.0  # standard deviations beyond which structure is not told apart

Paths = Counter[tuple[str, ...]]


@dataclass(frozen=True)
class Features:
    """Turns the architectures of a space into numbers."""

    space: Space

    def __call__(self, architectures: Iterable[Architecture]) -> Array:
        """Float64 `[N, D]`; within each block, two random designs are at mean square distance 1."""
        rows = [np.concatenate(self._blocks(a)) for a in architectures]
        if not rows:
            return np.zeros((0, len(self._scale)))
        centred = (np.array(rows) - self._centre) * self._scale
        within = self.blocks[-1]
        centred[:, within] = np.clip(centred[:, within], -FAR, FAR)
        return centred / self._spread

    @cached_property
    def blocks(self) -> tuple[slice, ...]:
        """Where the columns of decisions, of paths (if there are graphs) and of structure are."""
        ends = np.cumsum([len(b) for b in self._blocks(self._random[0])]).tolist()
        return tuple(slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True))

    @cached_property
    def _random(self) -> list[Architecture]:
        rng = np.random.default_rng(0)
        return [self.space.sample(rng) for _ in range(REFERENCE)]

    @cached_property
    def _titles(self) -> tuple[str, ...]:
        """Of the graphs that are described by structure; a design may lack some (motifs)."""
        if self.space.graphs is None:
            return ()
        drawn = [self.space.graphs(self.space.plainest(a)) for a in self._random]
        return tuple(dict.fromkeys(title for graphs in drawn for title in graphs))

    @cached_property
    def _reference(self) -> Array:
        return np.array([np.concatenate(self._blocks(a)) for a in self._random])

    @cached_property
    def _centre(self) -> Array:
        centre = np.zeros(self._reference.shape[1])
        centre[self.blocks[-1]] = self._reference[:, self.blocks[-1]].mean(axis=0)
        return centre

    @cached_property
    def _scale(self) -> Array:
        """Structure is standardized; the other blocks are 0 and 1 already."""
        scale = np.ones(self._reference.shape[1])
        deviation = self._reference[:, self.blocks[-1]].std(axis=0)
        varies = deviation > 1e-9
        scale[self.blocks[-1]] = np.where(varies, 1 / np.where(varies, deviation, 1.0), 0.0)
        return scale

    @cached_property
    def _spread(self) -> Array:
        """The root of the mean square distance of two random designs, per block."""
        varying = (self._reference - self._centre) * self._scale
        spread = np.ones(varying.shape[1])
        for block in self.blocks:
            spread[block] = max(np.sqrt(2 * varying[:, block].var(axis=0).sum()), 1e-9)
        return spread

    @cached_property
    def _groups(self) -> tuple[tuple[Option, ...], ...]:
        """The lists of options that some decision offers."""
        return tuple(dict.fromkeys(d.options for d in self.space.decisions))

    @cached_property
    def _has_costs(self) -> bool:
        if self.space.costs is None:
            return False
        try:
            self.space.costs(self._random[0], IMAGE, CLASSES)
        except UserError:  # the space does not take such images
            return False
        return True

    def _blocks(self, architecture: Architecture) -> list[Array]:
        plain = self.space.plainest(architecture)
        graphs = self.space.graphs(plain) if self.space.graphs else {}
        structure = self._chosen(plain)
        hashed = np.zeros(PATHS)
        shapes: dict[str, list[float]] = {}
        for title, graph in graphs.items():
            found = paths(graph)
            for path in found:
                hashed[_hash(f"{title}:{','.join(path)}", PATHS)] = 1.0
            shapes[title] = _shape(graph, found)
        for title in self._titles:
            structure += shapes.get(title, _NOTHING)
        if self._has_costs and self.space.costs:
            costs = self.space.costs(plain, IMAGE, CLASSES)
            structure += [float(np.log1p(costs[name])) for name in ("params", "flops")]
        decisions = self.space.encode(plain)
        return [decisions, *([hashed] if self.space.graphs else []), np.array(structure)]

    def _chosen(self, architecture: Architecture) -> list[float]:
        """How often each option of each group is chosen, and how many decisions are active."""
        counts = Counter((self.space.by_name[n].options, o) for n, o in architecture.choices)
        said = [float(counts[options, o]) for options in self._groups for o in options]
        return [float(len(architecture.choices)), *said]


def paths(graph: Graph) -> Paths:
    """How many ways from an input to the output pass each sequence of operations."""
    at: dict[str, Paths] = {name: Counter({(): 1}) for name in graph.inputs}
    for edge in live(graph):
        target = at.setdefault(edge.target, Counter())
        for path, count in at[edge.source].items():
            longer = (*path, edge.operation)[-LONGEST:] if edge.operation else path
            target[longer] += count
    return at.get(graph.output, Counter())


def _shape(graph: Graph, found: Paths) -> list[float]:
    """What is alive in a graph, in 5 + OPERATIONS numbers."""
    edges = live(graph)
    operations = [0.0] * OPERATIONS
    for edge in edges:
        operations[_hash(edge.operation, OPERATIONS)] += 1.0
    total = sum(found.values())
    lengths = [len(path) for path in found]
    mean = sum(len(path) * count for path, count in found.items()) / max(total, 1)
    shortest, longest = min(lengths, default=-1), max(lengths, default=-1)
    return [
        *operations,
        float(len(edges)),
        float(np.log1p(total)),
        float(shortest),
        float(longest),
        mean if total else -1.0,
    ]


def _hash(text: str, columns: int) -> int:
    """The same column in every process, unlike Python's own hash."""
    return zlib.crc32(text.encode()) % columns


_NOTHING = _shape(Graph((), ()), Counter())  # of a graph that a design does not have

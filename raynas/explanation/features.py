"""What explanations see of a design: named numbers, from the space alone.

Everything is computed on the plainest design, so that dead parts do not count. The groups:

- `main`: one column per decision and option, and for ordered decisions one per step ("at least");
- `tied`: for decisions that recur (the same last word and options, or the same options), the
  share of those active that choose an option, over all layers and over the first and last third;
- `structure`: how many decisions are active, mean ranks of ordered ones; for graphs how often an
  operation is alive, how many of each a path passes at most and at least, how many paths there
  are, whether the output is connected and whether a bare shortcut runs beside weights (in the
  spirit of Kadlecova et al. 2024, arXiv:2404.16551); nominal parameters and FLOPs;
- `paths`: how many ways from an input to the output pass each sequence of operations, which is
  the path encoding of White et al. 2019 (arXiv:1910.11858) with multiplicities.

No group knows a particular space. What random designs (of a fixed seed) show gives the words.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from raynas.architecture import Architecture, Decision, Option, option_text
from raynas.errors import UserError
from raynas.explanation.shapes import Signature, Ways, shape, signatures, terms
from raynas.graphs import Graph
from raynas.objective import Array
from raynas.space import Space

REFERENCE = 256  # random designs that set words and scales
WORDS = 320  # path signatures with a column of their own: those met most often
OTHERS = 48  # columns shared by all other signatures
IMAGE, CLASSES = (3, 32, 32), 10  # for which nominal costs are computed


@dataclass(frozen=True)
class Row:
    """One design as numbers, by group; and its keys.

    Attributes:
        groups: name of the group -> float64 `[columns]`.
        identity: shared by all names of one network (`Space.identity`).
        kind: looser, shared by graphs with the same paths and, at most, other wiring; without
            graphs all designs are of one kind.
        human: `Described.human`'s values.
        nothing: whether no path of its graphs leads to an output: the network is a constant.
    """

    groups: Mapping[str, Array]
    identity: str
    kind: str
    human: Array
    nothing: bool = False


@dataclass(frozen=True)
class Described:
    """Turns the designs of a space into named numbers; keeps what it has computed."""

    space: Space
    _seen: dict[tuple[tuple[str, Option], ...], Row] = field(default_factory=dict, repr=False)

    def rows(self, designs: Iterable[Architecture]) -> list[Row]:
        """The designs as numbers, in order."""
        return [self._row(design) for design in designs]

    def group(self, name: str, designs: Sequence[Architecture]) -> Array:
        """One group's columns, float64 `[N, columns]`."""
        rows = [row.groups[name] for row in self.rows(designs)]
        return np.array(rows) if rows else np.zeros((0, len(self.columns[name])))

    def human(self, designs: Sequence[Architecture]) -> tuple[list[str], Array]:
        """Terms that a person can count: their names `[T]` and values `[N, T]`."""
        names = [n for group in ("main", "tied", "structure") for n in self.columns.get(group, [])]
        rows = [row.human for row in self.rows(designs)]
        return names, np.array(rows) if rows else np.zeros((0, len(names)))

    @cached_property
    def reference(self) -> list[Architecture]:
        """Random designs with a fixed seed."""
        rng = np.random.default_rng(0)
        return [self.space.sample(rng) for _ in range(REFERENCE)]

    @cached_property
    def columns(self) -> Mapping[str, list[str]]:
        """What the columns of each group mean; groups without columns are left out."""
        paths = [f"{title}: {' > '.join(s) or 'shortcut'}" for title, s in self._words]
        paths += [f"paths, other {i}" for i in range(OTHERS)] if self._words else []
        found = {
            "main": [f"{n} is {option_text(o)}" for n, o in self._options]
            + [f"{n} at least {option_text(o)}" for n, o in self._steps],
            "tied": [name for name, _, _ in self._shares],
            "structure": self._structure_names,
            "paths": paths,
        }
        return {name: columns for name, columns in found.items() if columns}

    # Decisions

    @cached_property
    def questions(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """For each column of `main`: the number of the decision that it belongs to."""
        index: dict[str, int] = {}
        names = [name for name, _ in [*self._options, *self._steps]]
        return np.array([index.setdefault(name, len(index)) for name in names])

    @cached_property
    def _options(self) -> list[tuple[str, Option]]:
        return [(d.name, o) for d in self.space.decisions if len(d.options) > 1 for o in d.options]

    @cached_property
    def _steps(self) -> list[tuple[str, Option]]:
        """Ordered decisions' steps: between two options one column is enough, so none."""
        ordered = [d for d in self.space.decisions if d.ordered and len(d.options) > 2]
        return [(d.name, o) for d in ordered for o in d.options[1:]]

    @cached_property
    def _column(self) -> Mapping[tuple[str, Option], int]:
        return {pair: i for i, pair in enumerate(self._options)}

    @cached_property
    def _step_columns(self) -> Mapping[str, int]:
        """Where the steps of an ordered decision begin."""
        first: dict[str, int] = {}
        for i, (name, _) in enumerate(self._steps):
            first.setdefault(name, len(self._options) + i)
        return first

    def _main(self, design: Architecture) -> Array:
        row = np.zeros(len(self._options) + len(self._steps))
        for name, option in design.choices:
            if (name, option) in self._column:
                row[self._column[name, option]] = 1.0
            if name in self._step_columns:
                rank = self.space.by_name[name].options.index(option)
                row[self._step_columns[name] : self._step_columns[name] + rank] = 1.0
        return row

    @cached_property
    def _recurring(self) -> list[tuple[str, list[Decision]]]:
        """Decisions that are one question asked again: by the last word, and by their options."""
        groups: dict[tuple[str, tuple[Option, ...]], list[Decision]] = {}
        for d in self.space.decisions:
            groups.setdefault((d.leaf, d.options), []).append(d)
            groups.setdefault(("", d.options), []).append(d)
        named: list[tuple[str, list[Decision]]] = []
        met: Counter[str] = Counter()
        for (leaf, _), ds in groups.items():
            leaves = list(dict.fromkeys(d.leaf for d in ds))
            name = f"layers with {leaf or leaves[0]}" if len(leaves) == 1 else "choices that are"
            met[name] += 1
            named.append((name if met[name] == 1 else f"{name} ({met[name]})", ds))
        several = {tuple(d.name for d in ds): (n, ds) for n, ds in reversed(named) if len(ds) > 1}
        return [pair for pair in reversed(several.values()) if len(pair[1][0].options) > 1]

    @cached_property
    def _shares(self) -> list[tuple[str, int, Option]]:
        parts = ("", "the first third of ", "the last third of ")
        return [
            (f"share of {part}{name} {option_text(o)}", i, o)
            for i, (name, ds) in enumerate(self._recurring)
            for part in parts
            for o in ds[0].options
        ]

    def _tied(self, design: Architecture) -> list[float]:
        row: list[float] = []
        for _, ds in self._recurring:
            options = ds[0].options
            chosen = [design.options[d.name] for d in ds if d.name in design.options]
            third = max(round(len(chosen) / 3), 1)
            for part in (chosen, chosen[:third], chosen[-third:]):
                counts = Counter(part)
                row += [counts[o] / max(len(part), 1) for o in options]
        return row

    # Structure

    @cached_property
    def _structure_names(self) -> list[str]:
        names = ["active decisions", "active decisions, log"]
        ranked = [n.removeprefix("layers with ") for n, ds in self._recurring if ds[0].ordered]
        names += [f"mean rank of {n.removesuffix(' that are')}" for n in ranked]
        for title in self._titles:
            before = f"{title}: " if len(self._titles) > 1 else ""
            names += [before + term for term in terms(self._operations[title])]
        return names + (["parameters, log", "FLOPs, log"] if self._has_costs else [])

    def _structure(
        self, plain: Architecture, graphs: Mapping[str, Graph], found: Mapping[str, Ways]
    ) -> list[float]:
        active = float(len(plain.choices))
        row = [active, float(np.log1p(active))]
        for _, ds in self._recurring:
            if ds[0].ordered:
                ranks = [d.options.index(plain[d.name]) for d in ds if d.name in plain.options]
                row.append(float(np.mean(ranks)) if ranks else 0.0)
        for title in self._titles:
            ways = found.get(title, Counter())
            row += shape(graphs.get(title), ways, self._operations[title])
        if self._has_costs and self.space.costs:
            costs = self.space.costs(plain, IMAGE, CLASSES)
            row += [float(np.log1p(costs[name])) for name in ("params", "flops")]
        return row

    @cached_property
    def _has_costs(self) -> bool:
        if self.space.costs is None:
            return False
        try:
            self.space.costs(self.space.plainest(self.reference[0]), IMAGE, CLASSES)
        except UserError:  # the space does not take such images
            return False
        return True

    # Graphs

    @cached_property
    def _reference_graphs(self) -> list[Mapping[str, Graph]]:
        if self.space.graphs is None:
            return []
        return [self.space.graphs(self.space.plainest(design)) for design in self.reference]

    @cached_property
    def _titles(self) -> list[str]:
        return list(dict.fromkeys(title for graphs in self._reference_graphs for title in graphs))

    @cached_property
    def _operations(self) -> Mapping[str, list[str]]:
        """The operations met under each title."""
        met: dict[str, set[str]] = {title: set() for title in self._titles}
        for graphs in self._reference_graphs:
            for title, graph in graphs.items():
                met[title] |= {edge.operation for edge in graph.edges if edge.operation}
        return {title: sorted(names) for title, names in met.items()}

    @cached_property
    def _words(self) -> list[tuple[str, Signature]]:
        met: Counter[tuple[str, Signature]] = Counter()
        for graphs in self._reference_graphs:
            for title, graph in graphs.items():
                met.update((title, signature) for signature in signatures(graph))
        return [word for word, _ in met.most_common(WORDS)]

    @cached_property
    def _word_column(self) -> Mapping[tuple[str, Signature], int]:
        return {word: i for i, word in enumerate(self._words)}

    def _paths(self, found: Mapping[str, Ways]) -> Array:
        row = np.zeros(len(self._words) + OTHERS)
        for title, ways in found.items():
            for signature, count in ways.items():
                column = self._word_column.get((title, signature))
                if column is None:
                    text = f"{title}:{','.join(signature)}".encode()
                    column = len(self._words) + zlib.crc32(text) % OTHERS
                row[column] += count
        return row

    # Rows

    def _row(self, design: Architecture) -> Row:
        if design.choices not in self._seen:
            plain = self.space.plainest(design)
            if plain.choices not in self._seen:
                self._seen[plain.choices] = self._made(plain)
            self._seen[design.choices] = self._seen[plain.choices]
        return self._seen[design.choices]

    def _made(self, plain: Architecture) -> Row:
        graphs = self.space.graphs(plain) if self.space.graphs else {}
        found = {title: signatures(graph) for title, graph in graphs.items()}
        main, tied = self._main(plain), self._tied(plain)
        structure = self._structure(plain, graphs, found)
        groups = {
            "main": main,
            "tied": np.array(tied),
            "structure": np.array(structure),
            "paths": self._paths(found),
        }
        identity = self.space.identity(plain)
        kind = repr(sorted((t, sorted(ways.items())) for t, ways in found.items()))
        human = np.concatenate([main, tied, structure])
        nothing = bool(found) and not any(found.values())
        return Row(groups, identity, kind if found else "", human, nothing)

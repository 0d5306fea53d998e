"""Layers that are alike become one class or function, and what they differ in its parameters.

Plotkin's anti-unification (1970) of the calls that make the layers: numbers that are the same in
all of them are written down, numbers that differ become parameters, one for all places at which
they are equal in every layer.
"""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from raynas.export.naming import (
    INPUTS,
    OUTPUTS,
    Columns,
    Parameter,
    filled,
    function_name,
    variant_names,
)
from raynas.export.recording import Forward, Recording
from raynas.export.terms import Own, Term, children, class_of, kind_of, leaf, parameter

NUMBERS = (bool, int, float)
ALWAYS = (*INPUTS, *OUTPUTS, "channels", "features", "groups", "num_features")


@dataclass
class Definition:
    """A class (with a forward pass) or a function that makes a sequence (without one).

    Attributes:
        attributes: what `__init__` sets, or the sequence itself; buffers apart.
        kept: parameters that the forward pass reads from the layer.
    """

    name: str
    said: str
    parameters: list[Parameter]
    attributes: list[tuple[str, Term]]
    buffers: list[tuple[str, Term]] = field(default_factory=list)
    forward: Forward | None = None
    kept: list[str] = field(default_factory=list)


@dataclass
class Written:
    """All definitions in an order in which each uses earlier ones, and the whole network."""

    definitions: list[Definition]
    network: Term


def share(model: nn.Module, recording: Recording) -> Written:
    """Writes a network as few classes and functions."""
    return _Sharing(model, recording).written()


@dataclass
class _Member:
    """A layer of a class of its own that is to be written."""

    module: nn.Module
    name: str  # in what holds it
    forward: Forward
    attributes: list[tuple[str, Term]]
    buffers: list[tuple[str, Term]]


class _Sharing:
    def __init__(self, model: nn.Module, recording: Recording) -> None:
        self.model, self.recording = model, recording
        self.terms: dict[int, Term] = {}
        self.definitions: list[Definition] = []
        self.taken: set[str] = set()
        self.names: dict[int, str] = {}
        for path, module in model.named_modules():
            self.names[id(module)] = path.rpartition(".")[2]
        self.forwards = recording.forwards

    def written(self) -> Written:
        heights = self._heights()
        order = sorted({*heights.values()})
        modules = {id(m): m for m in self.model.modules()}
        for height in order:
            level = [modules[key] for key, h in heights.items() if h == height]
            self._sequences([m for m in level if kind_of(m) == "sequence"])
            self._classes([m for m in level if id(m) in self.forwards])
            for module in level:
                if id(module) not in self.terms:
                    self.terms[id(module)] = self._plain(module)
        return _inlined(Written(self.definitions, self.terms[id(self.model)]))

    def _heights(self) -> dict[int, int]:
        """Each layer's level; layers of one class are on one, where they do not hold each other."""
        heights: dict[int, int] = {}
        modules = [*self.model.modules()][::-1]
        groups: dict[Any, list[nn.Module]] = defaultdict(list)
        for module in modules:
            if id(module) in self.forwards:
                groups[class_of(module)].append(module)
        nested = {
            kind
            for kind, found in groups.items()
            for m in found
            if any(class_of(inner) == kind for inner in m.modules() if inner is not m)
        }
        while True:
            before = dict(heights)
            for module in modules:
                below = [heights.get(id(c), 0) for _, c in children(module)]
                heights[id(module)] = max(heights.get(id(module), 0), 1 + max(below, default=-1))
            for kind, found in groups.items():
                if kind not in nested:
                    top = max(heights[id(m)] for m in found)
                    heights |= {id(m): top for m in found}
            if before == heights:
                return heights

    def _plain(self, module: nn.Module) -> Term:
        """A layer of torch's, or one that only holds others."""
        kind = kind_of(module)
        if kind == "leaf":
            found = leaf(module)
            assert found is not None
            return found
        inside = [(name, self.terms[id(c)]) for name, c in children(module)]
        head = {"list": "nn.ModuleList", "dict": "nn.ModuleDict"}.get(kind, "nn.Sequential")
        keys = tuple(name for name, _ in inside)
        return Term(head, tuple((None, term) for _, term in inside), keys)

    def _sequences(self, modules: list[nn.Module]) -> None:
        """Sequences that occur again become a function."""
        groups: dict[Any, list[nn.Module]] = defaultdict(list)
        for module in modules:
            if module is not self.model:
                self.terms[id(module)] = term = self._plain(module)
                groups[_title(module), skeleton(term)].append(module)
        for (title, _), members in groups.items():
            terms = [self.terms[id(m)] for m in members]
            if len(members) < 2 or len(terms[0].args) < 2:
                continue
            columns = Columns(len(members), ALWAYS)
            body = columns.unify(terms)
            columns.parameters()
            name = self._free(title or function_name(body, self.names[id(members[0])]))
            self.definitions.append(Definition(name, "", columns.parameters(), [("", body)]))
            for i, module in enumerate(members):
                self.terms[id(module)] = columns.call(name, i)

    def _classes(self, modules: list[nn.Module]) -> None:
        groups: dict[Any, list[_Member]] = defaultdict(list)
        for module in modules:
            member = self._member(module)
            names = tuple(name for name, _ in (*member.attributes, *member.buffers))
            groups[class_of(module), _forward_key(member.forward), names].append(member)
        by_kind: dict[str, list[list[_Member]]] = defaultdict(list)
        for (kind, *_), members in groups.items():
            by_kind[kind].append(members)
        for kind, variants in by_kind.items():
            found = [([m.name for m in v], _adds(v[0].forward)) for v in variants]
            called = variant_names(kind.rpartition(".")[2], found)
            for name, members in zip(called, variants, strict=True):
                self._class(self._free(name), members)

    def _class(self, name: str, members: list[_Member]) -> None:
        columns, first = Columns(len(members)), members[0]
        attributes = []
        for i, (attribute, _term) in enumerate(first.attributes):
            terms = [m.attributes[i][1] for m in members]
            alike = all_alike(terms)
            body = columns.unify(terms) if alike else columns.layers(attribute, terms, all_alike)
            attributes.append((attribute, body))
        buffers = [
            (n, columns.unify([m.buffers[i][1] for m in members]))
            for i, (n, _) in enumerate(first.buffers)
        ]
        inner = columns.inner([m.module for m in members])
        forward = _reached(_unified([m.forward for m in members], inner), first.module)
        parameters, said = columns.parameters(), _first_paragraph(type(first.module))
        self.definitions.append(
            Definition(name, said, parameters, attributes, buffers, forward, columns.kept())
        )
        for i, member in enumerate(members):
            self.terms[id(member.module)] = columns.call(name, i)

    def _member(self, module: nn.Module) -> _Member:
        forward = self.forwards[id(module)]
        used = {o.path for o in owned(forward)}

        def needed(path: str) -> bool:
            return any(u == path or u.startswith(f"{path}.") for u in used)

        attributes: list[tuple[str, Term]] = []
        for name, held in module._parameters.items():
            if held is not None and needed(name):
                attributes.append((name, Term("nn.Parameter", ((None, parameter(held)),))))
        for name, child in children(module):
            if needed(name):
                term = self.terms[id(child)]
                if isinstance(child, nn.ModuleDict):  # without what takes no part
                    keep = [needed(f"{name}.{key}") for key in term.keys or ()]
                    args = tuple(a for a, k in zip(term.args, keep, strict=True) if k)
                    keys = tuple(n for n, k in zip(term.keys or (), keep, strict=True) if k)
                    term = replace(term, args=args, keys=keys)
                attributes.append((name, term))
        held_buffers = {n: b for n, b in module._buffers.items() if b is not None and needed(n)}
        held_buffers |= forward.constants
        buffers = [(n, parameter(b)) for n, b in held_buffers.items()]
        return _Member(module, self.names[id(module)], forward, attributes, buffers)

    def _free(self, name: str) -> str:
        number, found = 1, name
        while found in self.taken:
            number += 1
            found = f"{name}{number}"
        self.taken.add(found)
        return found


def all_alike(terms: Sequence[Any]) -> bool:
    """Whether calls differ in numbers only."""
    return len({skeleton(t) for t in terms}) == 1


def skeleton(term: Any) -> Any:
    """What is the same in two calls that differ in numbers only."""
    if isinstance(term, Term):
        said = dict(term.args)
        alone = said.get("groups", 1) != 1 and said["groups"] == said.get("in_channels")
        inside = tuple((n, skeleton(v)) for n, v in term.args)
        return f"depthwise {term.head}" if alone else term.head, inside, term.keys
    if isinstance(term, tuple):
        return (tuple, *(skeleton(v) for v in term)) if len(term) != 2 else (tuple, 2)
    return "#" if isinstance(term, NUMBERS) else str(term)


def _inlined(written: Written) -> Written:
    """Without the functions that are called in one place only."""
    calls: dict[str, int] = defaultdict(int)
    terms = [t for d in written.definitions for _, t in d.attributes]
    for term in (*terms, written.network):
        for head in _heads(term):
            calls[head] += 1
    once = {d.name: d for d in written.definitions if d.forward is None and calls[d.name] == 1}

    def put(term: Any) -> Any:
        if not isinstance(term, Term):
            return term
        term = replace(term, args=tuple((n, put(v)) for n, v in term.args))
        if (found := once.get(term.head)) is None:
            return term
        given = {p.name: int(p.default) for p in found.parameters if p.default}
        given |= {str(n): v for n, v in term.args}
        return filled(put(found.attributes[0][1]), given)

    kept = [d for d in written.definitions if d.name not in once]
    for d in kept:
        d.attributes = [(n, put(t)) for n, t in d.attributes]
    return Written(kept, put(written.network))


def _heads(term: Any) -> Iterator[str]:
    if isinstance(term, Term):
        yield term.head
        for _, value in term.args:
            yield from _heads(value)


def owned(forward: Forward) -> Iterator[Own]:
    """All that a forward pass uses of what its layer holds."""

    def within(value: Any) -> Iterator[Own]:
        if isinstance(value, Own):
            yield value
        elif isinstance(value, tuple | list):
            for part in value:
                yield from within(part)
        elif isinstance(value, dict):
            yield from within([*value.values()])

    for step in forward.steps:
        yield from within((step.does, step.args, [v for _, v in step.kwargs]))
    yield from within(forward.output)


def _forward_key(forward: Forward) -> str:
    """The same for forward passes that differ in numbers only."""

    def number(value: Any) -> Any:
        if isinstance(value, tuple | list):
            return [number(v) for v in value]
        if isinstance(value, slice):
            return ["slice", *map(number, (value.start, value.stop, value.step))]
        return "#" if type(value) in (int, float) else repr(value)

    steps = [
        (str(s.does), number(s.args), [(n, number(v)) for n, v in s.kwargs], s.results)
        for s in forward.steps
    ]
    return repr((forward.inputs, steps, repr(forward.output)))


def _unified(forwards: Sequence[Forward], column: Callable[[tuple[Any, ...]], Any]) -> Forward:
    """One forward pass, with slots where the numbers differ."""

    def join(values: Sequence[Any]) -> Any:
        first = values[0]
        if isinstance(first, tuple | list):
            return type(first)(join(v) for v in zip(*values, strict=True))
        if isinstance(first, slice):
            return slice(*(join([getattr(v, n) for v in values]) for n in SLICE))
        if type(first) in (int, float) and any(v != first for v in values):
            return column(tuple(values))
        return first

    steps = []
    for same in zip(*(f.steps for f in forwards), strict=True):
        args = join([s.args for s in same])
        kwargs = tuple((n, join([dict(s.kwargs)[n] for s in same])) for n, _ in same[0].kwargs)
        steps.append(replace(same[0], args=args, kwargs=kwargs))
    return replace(forwards[0], steps=steps)


SLICE = ("start", "stop", "step")


def _reached(forward: Forward, module: nn.Module) -> Forward:
    """With the paths of layers as they are typed: `edges["input_1"]`, `branch[0]`."""

    def typed(value: Any) -> Any:
        if isinstance(value, Own):
            return Own(_typed(module, value.path))
        if isinstance(value, tuple | list):
            return type(value)(typed(v) for v in value)
        if isinstance(value, dict):
            return {k: typed(v) for k, v in value.items()}
        return value

    steps = [
        replace(
            s,
            does=typed(s.does),
            args=typed(s.args),
            kwargs=tuple((n, typed(v)) for n, v in s.kwargs),
        )
        for s in forward.steps
    ]
    return replace(forward, steps=steps, output=typed(forward.output))


def _typed(module: nn.Module, path: str) -> str:
    found = ""
    for part in path.split("."):
        if isinstance(module, nn.ModuleDict):
            found += f'["{part}"]'
        elif isinstance(module, nn.Sequential | nn.ModuleList) and part.isdigit():
            found += f"[{[*module._modules].index(part)}]"
        else:
            found += f".{part}"
        module = module._modules.get(part) or module
    return found


def _adds(forward: Forward) -> bool:
    return any(step.does in (".add", ".__add__", ".add_") for step in forward.steps)


def _title(module: nn.Module) -> str:
    """A class of sequences in the way of a function's name; '' for a plain one."""
    if type(module) is nn.Sequential:
        return ""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(module).__name__).lower()


def _first_paragraph(kind: type) -> str:
    said = inspect.cleandoc(kind.__dict__.get("__doc__") or "").partition("\n\n")[0]
    return said if len(said) < 500 and not re.search(r"[\\\"]", said) else ""

"""Names for what is written: parameters by what they set, functions by what they hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os.path import commonpath
from typing import Any

from torch import nn

from raynas.export.terms import Slot, Term

INPUTS = ("in_channels", "in_features")
OUTPUTS = ("out_channels", "out_features")
WIDTHS = (*INPUTS, *OUTPUTS, "num_features", "normalized_shape", "groups", "channels", "hidden")
BOTH = ("channels", "features")
BARE = (*BOTH, *INPUTS, *OUTPUTS)  # said without their names, at the front
ONES = ("stride", "dilation", "groups")  # 1, where nothing is said
SHORT = {
    "BatchNorm2d": "norm",
    "LayerNorm": "norm",
    "Hardswish": "hard_swish",
    "SiLU": "swish",
    "ReLU": "relu",
    "GELU": "gelu",
    "MaxPool2d": "max_pool",
    "AvgPool2d": "avg_pool",
    "AdaptiveAvgPool2d": "pool",
}
KINDS = {bool: "bool", int: "int", float: "float"}


@dataclass(frozen=True)
class Parameter:
    """Of a class or function: name, type as written, default as written or ''."""

    name: str
    kind: str
    default: str = ""


@dataclass
class _Column:
    """Values of one place in each of the layers; `roles` are the places.

    Attributes:
        text, base: `{} // 2` and the columns that it is of, where it needs no parameter.
        kept: whether the forward pass reads it from the layer.
    """

    values: tuple[Any, ...]
    roles: list[str]
    name: str = ""
    text: str = ""
    base: tuple[_Column, ...] = ()
    kept: bool = False


class Columns:
    """What differs between so many layers that are alike.

    Args:
        always: places whose number is a parameter even where it is the same everywhere.
    """

    def __init__(self, count: int, always: Sequence[str] = ()) -> None:
        self.count, self.always, self.found = count, always, list[_Column]()
        self.places: list[tuple[str, _Column]] = []  # in order, a column as often as it occurs
        self.named = False

    def unify(self, terms: Sequence[Any], role: str = "") -> Any:
        """One call for all, with a `_Column` where their numbers differ."""
        first = terms[0]
        if isinstance(first, Term):
            args = []
            for i, (name, _) in enumerate(first.args):
                inner = name or (f"size{i}" if first.head == "torch.empty" else "")
                args.append((name, self.unify([t.args[i][1] for t in terms], inner)))
            return Term(first.head, tuple(args), first.keys)
        same = all(t == first and type(t) is type(first) for t in terms)
        if same and (
            role not in self.always or type(first) is not int or not self._wide(terms, role)
        ):
            return first
        return self.column(tuple(terms), role)

    def _wide(self, values: Sequence[Any], role: str) -> bool:
        """Whether an equal number is a parameter: groups and the like where others are."""
        known = any(c.values == tuple(values) for c in self.found)
        return (known and values[0] != 1) if role in ("groups", "num_features") else True

    def column(self, values: tuple[Any, ...], role: str) -> Late:
        for column in self.found:
            if column.values == values and [*map(type, column.values)] == [*map(type, values)]:
                column.roles.append(role)
                self.places.append((role, column))
                return Late(self, column)
        self.found.append(_Column(values, [role]))
        self.places.append((role, self.found[-1]))
        return Late(self, self.found[-1])

    def layers(
        self, attribute: str, terms: Sequence[Term], alike: Callable[[Sequence[Any]], bool]
    ) -> Any:
        """Parameters for whole layers: for each in a dictionary of the same keys, or one."""
        first = terms[0]
        keys = first.keys if first.head == "nn.ModuleDict" else None
        if keys is None or any(t.keys != keys for t in terms):
            return self.layer(attribute, terms)
        args: list[tuple[str | None, Any]] = []
        for i, key in enumerate(keys):
            inside = [t.args[i][1] for t in terms]
            same = alike(inside) or not key.isidentifier()
            if same and not alike(inside):
                return self.layer(attribute, terms)
            args.append((None, self.unify(inside) if same else self.layer(key, inside)))
        return Term(first.head, tuple(args), keys)

    def layer(self, attribute: str, terms: Sequence[Term]) -> Late:
        """A parameter for a whole layer."""
        self.found.append(_Column(tuple(terms), [f"layer {attribute}"]))
        return Late(self, self.found[-1])

    def inner(self, modules: Sequence[nn.Module]) -> Callable[[tuple[Any, ...]], Any]:
        """A function for numbers of a forward pass, which are read as `self.NAME`."""

        def column(values: tuple[Any, ...]) -> Late:
            public = [n for n in vars(modules[0]) if not n.startswith("_") and n != "training"]
            held = (n for n in public if tuple(getattr(m, n, None) for m in modules) == values)
            late = self.column(values, next(held, "value"))
            late.column.kept = True
            return Late(self, late.column, within=True)

        return column

    def kept(self) -> list[str]:
        """The parameters that the forward pass reads from the layer."""
        self._name()
        return [c.name for c in self.found if c.kept]

    def parameters(self) -> list[Parameter]:
        self._name()
        return [
            Parameter(c.name, _kind(c.values), "1" if _optional(c) else "")
            for c in self._ordered()
            if not c.text
        ]

    def call(self, name: str, i: int) -> Term:
        """The call that makes the i-th layer."""
        self._name()
        said = [c for c in self._ordered() if not c.text]
        said = [c for c in said if not (_optional(c) and c.values[i] == 1)]
        return Term(name, tuple((c.name, c.values[i]) for c in said))

    def _ordered(self) -> list[_Column]:
        """Layers, what enters, what leaves, the rest; after them what has a default."""

        def place(c: _Column) -> int:
            if _optional(c):
                return 4
            if isinstance(c.values[0], Term):
                return 0
            return 1 + (c.name in OUTPUTS) if c.name in BARE else 3

        return sorted(self.found, key=place)

    def _name(self) -> None:
        if self.named:
            return
        self.named = True
        numbers = [c for c in self.found if not c.roles[0].startswith("layer ")]
        for c in sorted(numbers, key=lambda c: len(c.roles)):  # rare ones of frequent ones
            free = [o for o in numbers if o is not c and not o.text]
            if c.kept or any(c in o.base for o in numbers):
                continue
            c.text, c.base = next((d for d in _derivations(c, free)), ("", ()))
        entering = next((c for r, c in self.places if r in (*INPUTS, *BOTH)), None)
        leaving = next((c for r, c in self.places[::-1] if r in (*OUTPUTS, *BOTH)), None)
        layers = (c.roles[0] for c in self.found if c.roles[0].startswith("layer "))
        taken = {role.removeprefix("layer ") for role in layers}
        for c in self.found:
            if c.text:
                continue
            if c.roles[0].startswith("layer "):
                c.name = c.roles[0].removeprefix("layer ")
                continue
            wide = any(r in WIDTHS for r in c.roles)
            unit = "features" if any("features" in r for r in c.roles[:1]) else "channels"
            if {*c.roles} == {"groups"}:
                wish = "groups"
            elif c is entering and (leaving is c or leaving is None or leaving.text):
                wish = unit
            elif c is entering:
                wish = f"in_{unit}"
            elif c is leaving:
                wish = f"out_{unit}"
            elif wide:
                wish = "hidden" if entering else unit
            else:
                wish = next((r for r in c.roles if r), "value")
            c.name, number = wish, 1
            while c.name in taken:
                number += 1
                c.name = f"{wish}{number}"
            taken.add(c.name)


@dataclass(frozen=True)
class Late:
    """A place whose parameter gets its name when all places are known."""

    columns: Columns
    column: _Column
    within: bool = False  # a forward pass, which reads it from the layer

    def slot(self) -> Slot:
        self.columns._name()
        text = self.column.name
        if self.column.base:
            text = self.column.text.format(*(c.name for c in self.column.base))
        return Slot(f"self.{text}" if self.within else text)


@dataclass(frozen=True)
class Formula:
    """`{} // 2` of a parameter, or of another formula."""

    text: str
    parts: tuple[Any, ...]

    def slot(self) -> Slot:
        said = [p.slot().text if isinstance(p, Late | Formula) else p for p in self.parts]
        return Slot(self.text.format(*said))


RULES: dict[str, Callable[..., int]] = {  # what expressions of parameters there are
    "{} // 2": lambda n: n // 2,
    "{} // 4": lambda n: n // 4,
    "2 * {}": lambda n: 2 * n,
    "4 * {}": lambda n: 4 * n,
    "{1} * ({0} // 2)": lambda n, times: times * (n // 2),
}
UNDONE = {"{} // 2": "2 * {}", "{} // 4": "4 * {}", "2 * {}": "{} // 2", "4 * {}": "{} // 4"}


def _optional(column: _Column) -> bool:
    return _base(column.name) in ONES and 1 in column.values and not column.text


def _base(name: str) -> str:
    return name.rstrip("0123456789")


def _derivations(
    column: _Column, others: Sequence[_Column]
) -> Iterator[tuple[str, tuple[_Column, ...]]]:
    """Expressions of other parameters that are this one in every layer."""

    def holds(rule: Callable[..., Any], *bases: _Column) -> bool:
        rows = [*zip(column.values, *(b.values for b in bases), strict=True)]
        whole = all(type(v) is int for row in rows for v in row)
        return whole and all(row[0] == rule(*row[1:]) for row in rows)

    def having(role: str) -> list[_Column]:
        return [o for o in others if role in o.roles]

    if "padding" in column.roles:
        for kernel in having("kernel_size"):
            if holds(lambda k: k // 2, kernel):
                yield "{} // 2", (kernel,)
            for dilation in having("dilation"):
                if holds(lambda k, d: d * (k // 2), kernel, dilation):
                    yield "{1} * ({0} // 2)", (kernel, dilation)
    for other in others:
        if {*WIDTHS} & {*column.roles} and {*WIDTHS} & {*other.roles}:
            for factor in (2, 4):
                if holds(lambda n, k=factor: k * n, other):
                    yield f"{factor} * {{}}", (other,)
                if holds(lambda n, k=factor: n // k if n % k == 0 else -1, other):
                    yield f"{{}} // {factor}", (other,)


def filled(term: Any, given: Mapping[str, Any]) -> Any:
    """A function's body with values in the place of its parameters."""
    if isinstance(term, Term):
        args = tuple((n, filled(v, given)) for n, v in term.args)
        return Term(term.head, args, term.keys)
    if isinstance(term, Formula):
        return _formula(term.text, tuple(filled(p, given) for p in term.parts))
    if not isinstance(term, Late):
        return term
    if not term.column.base:
        return given[term.column.name]
    return _formula(term.column.text, tuple(given[c.name] for c in term.column.base))


def _formula(text: str, parts: tuple[Any, ...]) -> Any:
    """`{} // 2` of some parts: a number where they are numbers."""
    if not any(isinstance(p, Late | Formula) for p in parts):
        return RULES[text](*parts)
    inner = parts[0]
    if isinstance(inner, Formula) and inner.text == UNDONE.get(text):
        return inner.parts[0]
    if isinstance(inner, Late) and inner.column.text and inner.column.text == UNDONE.get(text):
        return replace(inner, column=inner.column.base[0])
    return Formula(text, parts)


def _kind(values: Sequence[Any]) -> str:
    if isinstance(values[0], Term):
        return "nn.Module"
    kinds = {type(v) for v in values}
    if kinds == {int, float}:
        return "float"
    if tuple in kinds:
        return "int | tuple[int, ...]" if int in kinds else "tuple[int, ...]"
    return KINDS.get(kinds.pop(), "") if len(kinds) == 1 else ""


def function_name(term: Term, attribute: str) -> str:
    """For a function that makes a sequence: what it holds, `conv_norm_relu`."""
    words = [_word(inner) for _, inner in term.args]
    if len(words) == 2 and words[0] == words[1] and "_" in words[0]:
        return f"{words[0]}_twice"
    if len(words) > 4 or sum(map(len, words)) > 32:
        return attribute if attribute.isidentifier() and len(attribute) > 2 else "layers"
    return "_".join(words)


def _word(term: Term) -> str:
    plain, said = term.head.removeprefix("nn."), dict(term.args)
    if plain == "Conv2d":
        groups, kernel = said["groups"], said["kernel_size"]
        if isinstance(groups, Late):
            inside = said["in_channels"]
            alone = isinstance(inside, Late) and groups.column is inside.column
            return "depthwise" if alone else "grouped"
        plain = f"conv{kernel}x{kernel}" if isinstance(kernel, int) else "conv"
        return plain if said["dilation"] == 1 else f"dilated_{plain}"
    return SHORT.get(plain, re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", plain).lower())


def variant_names(name: str, variants: Sequence[tuple[list[str], bool]]) -> list[str]:
    """A name for each of several classes that one class becomes.

    Args:
        variants: the attributes that hold each one's layers, and whether it adds its input.
    """
    if len(variants) == 1:
        return [name]
    stems = []
    for attributes, _ in variants:
        stem = commonpath(attributes).rstrip("0123456789_")
        stems.append(stem if stem.isidentifier() else "")
    if all(stems) and len({*stems}) == len(stems):
        return ["".join(map(str.capitalize, s.split("_"))) + name for s in stems]
    adding = [adds for _, adds in variants]
    if sum(adding) == 1 and len(variants) == 2:
        return [f"Residual{name}" if adds else name for adds in adding]
    return [name] * len(variants)

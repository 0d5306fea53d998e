"""Definitions as text, laid out as a person would: one thing per line where it gets long."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import Any

from raynas.export.naming import BARE, Formula, Late
from raynas.export.recording import Forward, Step
from raynas.export.sharing import Definition
from raynas.export.terms import Batch, Made, Own, Slot, Term, Value, defaults, leaf

WIDTH = 100
INDENT = "    "
REPEATED = 3  # so many equal layers in a row become a loop
LONGEST = 72  # characters of an expression that is put into another
STACKED = ("nn.Sequential(", "OrderedDict(", "OrderedDict({", "ModuleDict({", "ModuleList([")
OPERATORS = {
    ".add": "+",
    ".__add__": "+",
    ".sub": "-",
    ".mul": "*",
    ".__mul__": "*",
    ".div": "/",
    ".true_divide": "/",
    ".matmul": "@",
    ".__pow__": "**",
    ".gt": ">",
    ".lt": "<",
    ".ge": ">=",
    ".le": "<=",
}
REVERSED = {".__rsub__": "-", ".__rtruediv__": "/", ".__rdiv__": "/", ".__rpow__": "**"}


def definition(found: Definition) -> str:
    """A class or function, without blank lines around it."""
    given = [_parameter(p.name, p.kind, p.default) for p in found.parameters]
    if found.forward is None:
        lines = fold("", f"def {found.name}({', '.join(given)}) -> nn.Sequential:")
        return "\n".join([*lines, *fold(INDENT, f"return {text(found.attributes[0][1])}")])
    lines = [f"class {found.name}(nn.Module):"]
    if found.said:
        said = found.said.replace("\n", f"\n{INDENT}")
        lines.append(f'{INDENT}"""{said}"""')
        lines.append("")
    body = INDENT * 2
    inside: list[str] = []
    for name in found.kept:
        inside.append(f"{body}self.{name} = {name}")
    for name, term in found.attributes:
        inside += fold(body, f"self.{name} = {text(term)}")
    for name, term in found.buffers:
        inside += fold(body, f'self.register_buffer("{name}", {text(term)})')
    if inside:
        lines += fold(INDENT, f"def __init__({', '.join(['self', *given])}) -> None:")
        lines += [f"{body}super().__init__()", *inside, ""]
    takes = ", ".join(["self", *(f"{n}: Tensor" for n in found.forward.inputs)])
    lines += fold(INDENT, f"def forward({takes}) -> {_type(found.forward.output)}:")
    for line in _Writer(found.forward).lines():
        lines += fold(body, line)
    return "\n".join(lines)


def text(value: Any) -> str:
    """A call or a value on one line."""
    if isinstance(value, Late | Formula):
        return value.slot().text
    if isinstance(value, Slot):
        return value.text
    if isinstance(value, Term):
        return _call(value)
    if isinstance(value, tuple):
        inside = ", ".join(map(text, value))
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    if isinstance(value, str):
        return f'"{value}"' if '"' not in value else repr(value)
    if isinstance(value, float) and abs(value) == float("inf"):
        return f'float("{value}")'
    return repr(value)


def items(term: Term) -> list[tuple[str, str]]:
    """What stands in a sequence's brackets, with the key of the last layer of each."""
    keys = term.keys or ()
    plain = keys == tuple(map(str, range(len(keys))))
    pairs = [(key, text(v)) for key, (_, v) in zip(keys, term.args, strict=True)]
    words = all(key.isidentifier() and not keyword.iskeyword(key) for key in keys)
    if term.head == "nn.ModuleDict":
        words = False
    found = []
    for (stem, said), group in groupby(pairs, key=lambda p: (_stem(p[0]), p[1])):
        run = [key for key, _ in group]
        if len(run) >= REPEATED and _counts(run):
            first, last = (int(k.removeprefix(stem)) for k in (run[0], run[-1]))
            span = f"{last + 1}" if first == 0 else f"{first}, {last + 1}"
            if plain:
                found.append((run[-1], f"*({said} for _ in range({len(run)}))"))
            else:
                name = f'f"{stem}{{i}}"'
                found.append((run[-1], f"**{{{name}: {said} for i in range({span})}}"))
            continue
        for key in run:
            bare = said if plain else (f"{key}={said}" if words else f'"{key}": {said}')
            found.append((key, bare))
    return found


def brackets(term: Term) -> tuple[str, str]:
    """What a sequence's layers stand between."""
    keys = term.keys or ()
    if term.head == "nn.ModuleList":
        return "nn.ModuleList([", "])"
    if term.head == "nn.ModuleDict":
        return "nn.ModuleDict({", "})"
    if keys == tuple(map(str, range(len(keys)))):
        return f"{term.head}(", ")"
    if all(key.isidentifier() and not keyword.iskeyword(key) for key in keys):
        return f"{term.head}(OrderedDict(", "))"
    return f"{term.head}(OrderedDict({{", "}))"


def _call(term: Term) -> str:
    if term.keys is not None:
        opening, closing = brackets(term)
        return opening + ", ".join(said for _, said in items(term)) + closing
    known = defaults(term.head)
    said: list[str] = []
    for name, value in term.args:
        if not term.head.startswith(("nn.", "torch.")):  # defined in the file
            bare = name in BARE or isinstance(value, Term) or len(term.args) == 1
            bare = bare and len(said) == sum("=" not in s.partition("(")[0] for s in said)
            said.append(text(value) if bare else f"{name}={text(value)}")
        elif name is None or (term.head.startswith("nn.") and name not in known):
            said.append(text(value))
        elif isinstance(value, Late | Formula | Slot) or name not in known or known[name] != value:
            said.append(f"{name}={text(value)}")
    return f"{term.head}({', '.join(said)})"


def _stem(key: str) -> str:
    return key.rstrip("0123456789")


def _counts(keys: Sequence[str]) -> bool:
    numbers = [re.search(r"\d+$", key) for key in keys]
    found = [int(n[0]) for n in numbers if n]
    return len(found) == len(keys) and found == [*range(found[0], found[0] + len(keys))]


def _parameter(name: str, kind: str, default: str) -> str:
    typed = f"{name}: {kind}" if kind else name
    return f"{typed} = {default}" if default else typed


def _type(output: Any) -> str:
    if isinstance(output, tuple):
        return f"tuple[{', '.join('Tensor' for _ in output)}]"
    return "Tensor" if isinstance(output, Value | Own) else "Any"


class _Writer:
    """The steps of a forward pass as lines: what is used once, at once, goes into its use.

    Nothing is computed in another order than it was. What cannot go into its use is found out by
    trying, and has a line of its own in the next try.
    """

    def __init__(self, forward: Forward, forced: frozenset[int] = frozenset()) -> None:
        self.forward, self.forced = forward, forced
        self.more: set[int] = set()
        self.uses: dict[int, int] = {}
        for values in (*(_reads(s) for s in forward.steps), [*_within(forward.output)]):
            for number in values:
                self.uses[number] = self.uses.get(number, 0) + 1
        self.written: dict[int, str] = dict(enumerate(forward.inputs))  # values with a name
        self.waiting: list[tuple[Step, str, bool]] = []  # may still go into their use, in order
        self.taken: dict[str, int] = {name: n for n, name in enumerate(forward.inputs)}
        self.found: list[str] = []
        self.position = 0
        self.last = self._last_uses()
        self.ambiguous = self._ambiguous()

    def lines(self) -> list[str]:
        end = len(self.forward.steps) - 1
        for i, step in enumerate(self.forward.steps):
            self.position = i
            self._take(_reads(step))
            said, single = self._said(step)
            fits = len(said) <= LONGEST or self.position == end
            if fits and self._once(step):
                self.waiting.append((step, said, single))
                continue
            self._flush()
            self._write(step, said)
        self.position = end + 1
        self._take([*_within(self.forward.output)])
        self.found.append(f"return {self._text(self.forward.output)}")
        if self.more:
            return _Writer(self.forward, self.forced | self.more).lines()
        return self.found

    def _once(self, step: Step) -> bool:
        """Whether a step's value goes into the one place where it is used."""
        if len(step.results) != 1 or step.several or step.results[0] in self.forced:
            return False
        return self.uses.get(step.results[0], 0) == 1

    def _take(self, numbers: Sequence[int]) -> None:
        """Leaves those waiting that the next step reads, if they are the last, in its order."""
        wanted = [n for n in numbers if n not in self.written]
        held = [s.results[0] for s, _, _ in self.waiting]
        if wanted and wanted != held[len(held) - len(wanted) :]:
            kept = 0
            while kept < len(wanted) and wanted[len(wanted) - 1 - kept :] == held[-kept - 1 :]:
                kept += 1
            self.more |= {*wanted[: len(wanted) - kept]}
            self._flush(forced=False)

    def _flush(self, forced: bool = True) -> None:
        for step, said, _ in self.waiting:
            if forced:
                self.more.add(step.results[0])
            self._write(step, said)
        self.waiting = []

    def _write(self, step: Step, said: str) -> None:
        if not step.results:
            self.found.append(said)
            return
        names = ", ".join(self._named(step, number) for number in step.results)
        names += "," if step.several and len(step.results) == 1 else ""
        self.found.append(f"{names} = {said}")

    def _named(self, step: Step, number: int) -> str:
        if not self.uses.get(number):
            return "_"
        wish = self.forward.names.get(number, "")
        if (not wish or wish in self.ambiguous) and isinstance(step.does, Own):
            tail = re.split(r"\W+", step.does.path.rstrip('"]'))[-1]
            wish = tail if tail.isidentifier() and not keyword.iskeyword(tail) else wish
        wish = wish or "x"
        name, count = wish, 1
        while name in self.taken and self.last.get(self.taken[name], -1) > self.position:
            count += 1
            name = f"{wish}{count}"
        self.taken[name] = number
        self.written[number] = name
        return name

    def _ambiguous(self) -> set[str]:
        """Names that the forward pass gives to several values that are needed at one time."""
        made = {r: i for i, step in enumerate(self.forward.steps) for r in step.results}
        spans: dict[str, list[tuple[int, int]]] = {}
        for i, step in enumerate(self.forward.steps):
            if not self._once(step):
                for r in step.results:
                    name = self.forward.names.get(r, "")
                    spans.setdefault(name, []).append((made[r], self.last.get(r, i)))
        return {
            name
            for name, found in spans.items()
            if any(b[0] < a[1] for a, b in pairwise(sorted(found)))
        }

    def _last_uses(self) -> dict[int, int]:
        last: dict[int, int] = {}
        end = len(self.forward.steps)
        for number in _within(self.forward.output):
            last[number] = end
        for i in reversed(range(end)):
            step = self.forward.steps[i]
            later = max((last.get(r, i) for r in step.results), default=i)
            # what goes into its use is read only there
            inlined = self._once(step)
            for number in _reads(step):
                last[number] = max(last.get(number, -1), later if inlined else i)
        return last

    def _said(self, step: Step) -> tuple[str, bool]:
        """A step as an expression; whether it may stand before a dot as it is."""
        args, kwargs = step.args, step.kwargs
        if isinstance(step.does, Own | Made):
            inside = ", ".join(self._text(a) for a in args)
            return f"{self._layer(step.does)}({inside})", True
        does = step.does
        if does in OPERATORS and len(args) == 2 and not kwargs:
            left, right = self._operand(args[0], does, True), self._operand(args[1], does, False)
            return f"{left} {OPERATORS[does]} {right}", False
        if does in REVERSED and len(args) == 2 and not kwargs:
            left, right = self._operand(args[1], does, True), self._operand(args[0], does, False)
            return f"{left} {REVERSED[does]} {right}", False
        if does == ".neg" and len(args) == 1:
            return f"-{self._operand(args[0], does, False)}", False
        if does == ".__getitem__":
            return f"{self._before(args[0])}[{self._index(args[1])}]", True
        if does == ".__setitem__":
            return f"{self._before(args[0])}[{self._index(args[1])}] = {self._text(args[2])}", True
        if does.startswith("@"):
            return f"{self._before(args[0])}.{does[1:]}", True
        method = does.startswith(".")
        before = self._before(args[0]) if method else ""
        given = [*map(self._text, args[method:]), *(f"{n}={self._text(v)}" for n, v in kwargs)]
        return f"{before}{does}({', '.join(given)})", True

    def _layer(self, does: Own | Made) -> str:
        if isinstance(does, Made):
            return text(leaf(does.module))
        return f"self{does.path}"

    def _pending(self, value: Any) -> tuple[str, bool] | None:
        if isinstance(value, Value) and value.number not in self.written:
            for i, (step, said, single) in enumerate(self.waiting):
                if step.results[0] == value.number:
                    del self.waiting[i]
                    return said, single
        return None

    def _operand(self, value: Any, does: str, left: bool) -> str:
        found = self._pending(value)
        if found is None:
            return self._text(value)
        said, single = found
        bare = single or (left and does in (".add", ".__add__") and _sum(said))
        return said if bare else f"({said})"

    def _before(self, value: Any) -> str:
        found = self._pending(value)
        if found is None:
            return self._text(value)
        return found[0] if found[1] else f"({found[0]})"

    def _text(self, value: Any) -> str:
        if isinstance(value, Value):
            found = self._pending(value)
            return found[0] if found else self.written[value.number]
        if isinstance(value, Own):
            return f"self{value.path}"
        if isinstance(value, Batch):
            batch = f"{self.forward.inputs[0]}.shape[0]"
            return batch if value.factor == 1 else f"{value.factor} * {batch}"
        if isinstance(value, list):
            return f"[{', '.join(map(self._text, value))}]"
        if isinstance(value, tuple):
            inside = ", ".join(map(self._text, value))
            return f"({inside},)" if len(value) == 1 else f"({inside})"
        if isinstance(value, dict):
            return "{" + ", ".join(f'"{k}": {self._text(v)}' for k, v in value.items()) + "}"
        return text(value)

    def _index(self, value: Any) -> str:
        if isinstance(value, tuple):
            return ", ".join(map(self._index, value))
        if isinstance(value, slice):
            parts = ["" if v is None else self._text(v) for v in (value.start, value.stop)]
            step = "" if value.step is None else f":{self._text(value.step)}"
            return ":".join(parts) + step
        return "..." if value is ... else self._text(value)


def _sum(said: str) -> bool:
    """Whether an expression is a sum at its top and no comparison or the like."""
    depth, outer = 0, []
    for c in said:
        depth += (c in "([{") - (c in ")]}")
        if not depth:
            outer.append(c)
    return not {*"-*/@<>"} & {*outer}


def _within(value: Any) -> Iterator[int]:
    if isinstance(value, Value):
        yield value.number
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _within(part)
    elif isinstance(value, dict):
        yield from _within([*value.values()])


def _reads(step: Step) -> list[int]:
    """The values that a step reads, in the order in which its line names them."""
    args = step.args[::-1] if isinstance(step.does, str) and step.does in REVERSED else step.args
    return [*_within((args, [v for _, v in step.kwargs]))]


def fold(indent: str, line: str, tail: str = "", room: int = 0) -> list[str]:
    """A line, or several where it is longer than WIDTH, one thing on each.

    Args:
        tail: follows the last of them.
        room: characters to be left free for a comment after a line.
    """
    if len(indent) + len(line) + len(tail) + room <= WIDTH:
        return [f"{indent}{line}{tail}"]
    if (terms := _terms(line)) is not None:
        pieces = [piece for part in terms[1] for piece in fold(indent + INDENT, part)]
        return [f"{indent}{terms[0]}(", *pieces, f"{indent}){tail}"]
    opening = _last_group(line)
    if opening is None:
        return [f"{indent}{line}{tail}"]
    start, end = opening
    head, inside, rest = line[: start + 1], line[start + 1 : end], line[end:]
    parts = _parts(inside)
    while len(parts) == 1 and parts[0].endswith((")", "]", "}")):  # brackets in brackets are hugged
        inner = _last_group(parts[0])
        if inner is None or inner[1] != len(parts[0]) - 1 or " for " in parts[0]:
            break
        head, rest = head + parts[0][: inner[0] + 1], parts[0][inner[1] :] + rest
        parts = _parts(parts[0][inner[0] + 1 : inner[1]])
    lines = [f"{indent}{head}"]
    if len(parts) == 1 and (loop := re.search(r" for \w+ in range\([\d, ]+\)$", parts[0])):
        element = fold(indent + INDENT, parts[0][: loop.start()])
        return [*lines, *element, f"{indent}{INDENT}{loop[0].strip()}", f"{indent}{rest}{tail}"]
    short = ", ".join(parts)
    if not head.endswith(STACKED) and len(indent) + len(INDENT) + len(short) <= WIDTH:
        return [*lines, f"{indent}{INDENT}{short}", f"{indent}{rest}{tail}"]
    for part in parts:
        lines += fold(indent + INDENT, part, ",")
    return [*lines, f"{indent}{rest}{tail}"]


def _terms(line: str) -> tuple[str, list[str]] | None:
    """What comes before a sum, and its parts, the sign in front of them."""
    start = re.match(r"return |[\w, ]+ = ", line)
    if start is None:
        return None
    depth, begin, found = 0, start.end(), []
    for i in range(start.end(), len(line)):
        depth += (line[i] in "([{") - (line[i] in ")]}")
        if depth == 0 and line[i : i + 3] in (" + ", " - "):
            found.append(line[begin:i])
            begin = i + 1
    return (start[0], [*found, line[begin:]]) if found else None


def _last_group(line: str) -> tuple[int, int] | None:
    """Where the last outermost brackets with something inside open and close."""
    found, stack = None, []
    for i, c in enumerate(line):
        if c in "([{":
            stack.append(i)
        elif c in ")]}":
            start = stack.pop()
            if not stack and i > start + 1:
                found = (start, i)
    return found


def _parts(inside: str) -> list[str]:
    """What commas outside of brackets part."""
    depth, start, found = 0, 0, []
    for i, c in enumerate(inside):
        depth += (c in "([{") - (c in ")]}")
        if c == "," and depth == 0:
            found.append(inside[start:i].strip())
            start = i + 1
    return [p for p in (*found, inside[start:].strip()) if p]

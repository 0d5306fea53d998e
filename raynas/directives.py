"""What a person may tell a search, as data: each directive changes one thing and can be undone.

A run keeps its turns (what was said, and the directives that it became) and nothing else: what is
in force now is folded from them, so that undoing a turn restores exactly what was before it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, get_args

from raynas.architecture import Decision, Option, option_text
from raynas.errors import UserError
from raynas.objective import KNOWN, Constraint, Objective
from raynas.problem import Problem
from raynas.space import Space

Kind = Literal["pin", "forbid", "prefer", "limit", "aim", "order", "try", "add", "comment"]
Confidence = Literal["low", "medium", "high"]
Move = Literal["feedback", "modify", "proposal", "final", "undo"]

KINDS: tuple[str, ...] = get_args(Kind)
CONFIDENCES: tuple[str, ...] = get_args(Confidence)


class Contradiction(UserError):
    """Directives that cannot hold together; the message names both and where they come from."""


@dataclass(frozen=True)
class Directive:
    """One thing that a person wants.

    Attributes:
        kind: `pin` leaves only `options` to the decisions `paths`; `forbid` takes `options` from
            them; `prefer` makes `options` likelier, the less so the more was tried; `limit` refuses
            designs beyond a bound; `aim` refuses nothing: designs that miss its bound stand behind
            those that reach it (a reference point); `order` says which objectives matter, the
            most important first; `try` has one design tried; `add` gives decisions `paths` more
            `options`, or the space the decision `decision`; `comment` is kept and changes nothing.
        words: what it was read from.
        paths: names of decisions.
        options: of these decisions; each has all of them, or those that it has at all.
        confidence: how sure the person is, of a preference.
        metric, sense, bound: of a limit or an aim; a bound of None drops what was there.
        objectives: of an order, such as `accuracy:max`.
        architecture: the text of a design to try.
        tested: whether it is a suggestion: it is also put to the test against what it replaces.
        decision: a decision to add; `before` is the option that designs had before there was one.
        note: how the words were read, where that is not plain ("half of trial 17's 24,310").
    """

    kind: Kind
    words: str = ""
    paths: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    confidence: Confidence = "medium"
    metric: str = ""
    sense: Literal["min", "max"] = "max"
    bound: float | None = None
    objectives: tuple[str, ...] = ()
    architecture: str = ""
    tested: bool = False
    decision: Decision | None = None
    before: Option | None = None
    note: str = ""


@dataclass(frozen=True)
class Turn:
    """Something that was said or done between parts of a search.

    Attributes:
        number: from 1.
        at: seconds since 1970 (UTC).
        move: `feedback` and `modify` carry directives; `proposal` shows a design; `final` trains
            it fully; `undo` takes back the turn `undoes`.
        said: as it was typed.
        since: the first trial number that it can have changed.
        trial: the trial that was under discussion; of a proposal the one that was shown; None if
            there is none.
        about: the text of the design that was under discussion; '' if there was none.
        design: of the design under discussion after this turn; '' leaves it as it was.
        answer: what was answered.
    """

    number: int
    at: float
    move: Move
    said: str = ""
    directives: tuple[Directive, ...] = ()
    since: int = 0
    trial: int | None = None
    about: str = ""
    design: str = ""
    answer: str = ""
    undoes: int | None = None


def in_force(turns: Sequence[Turn]) -> list[Turn]:
    """The turns that were not taken back, in order, without those that take back."""
    gone = {t.undoes for t in turns if t.undoes is not None}
    return [t for t in turns if t.move != "undo" and t.number not in gone]


@dataclass(frozen=True)
class State:
    """What holds now.

    Attributes:
        problem: with the objectives and constraints as they are now.
        space: all that was possible at any time: every trial of the run is one of its designs.
        left: decision -> the options that are left to it, where that is not all of them.
        aims: see `Directive.kind`.
        preferences: with the trial number since which each holds.
        turns: in force.
    """

    problem: Problem
    space: Space
    left: Mapping[str, tuple[Option, ...]] = field(default_factory=dict)
    aims: tuple[Constraint, ...] = ()
    preferences: tuple[tuple[Directive, int], ...] = ()
    turns: tuple[Turn, ...] = ()

    @cached_property
    def allowed(self) -> Space:
        """The part of the space that may be proposed."""
        gone = {
            name: {o for o in self.space.by_name[name].options if o not in left}
            for name, left in self.left.items()
        }
        return self.space.narrow(forbidden=gone) if gone else self.space

    @property
    def directives(self) -> list[tuple[Turn, Directive]]:
        """All that are in force, in the order in which they were given."""
        return [(turn, d) for turn in self.turns for d in turn.directives]


def fold(problem: Problem, space: Space, turns: Sequence[Turn]) -> State:
    """What holds after the turns.

    Options that were ever added stay in the space: trials may have them. Once that was taken back
    they are left to nobody.

    Raises:
        Contradiction: directives of different turns, or of one, cannot hold together.
    """
    held = in_force(turns)
    for turn in turns:
        for d in turn.directives:
            space = widened(space, d) if d.kind == "add" else space
    given = [(turn, d) for turn in held for d in turn.directives]
    return State(
        problem.model_copy(
            update={
                "objectives": _objectives(problem, given),
                "constraints": _bounds(problem.constraints, "limit", given),
            }
        ),
        space,
        _left(space, given, _taken_back(turns, held)),
        _bounds((), "aim", given),
        tuple((d, turn.since) for turn, d in given if d.kind == "prefer"),
        tuple(held),
    )


def widened(space: Space, directive: Directive) -> Space:
    """The space with what an `add` brings; what is there already stays as it is."""
    if directive.decision is not None:
        new = directive.decision
        return space if new.name in space.by_name else space.with_decision(new)
    for path in directive.paths:
        space = space.with_options(path, directive.options)
    return space


def _objectives(problem: Problem, given: Iterable[tuple[Turn, Directive]]) -> tuple[Objective, ...]:
    now = problem.objectives
    for _, d in given:
        if d.kind == "order":
            known = {o.name: o for o in now}
            first = [known.get(n) or Objective.parse(t) for t in d.objectives
                     for n in [t.partition(":")[0]]]  # fmt: skip
            now = tuple(dict.fromkeys([*first, *now]))
    return now


def _bounds(
    before: Sequence[Constraint], kind: Kind, given: Iterable[tuple[Turn, Directive]]
) -> tuple[Constraint, ...]:
    now = {(c.metric, c.sense): c for c in before}
    for _, d in given:
        if d.kind == kind:
            now.pop((d.metric, d.sense), None)
            if d.bound is not None:
                now[d.metric, d.sense] = Constraint(d.metric, d.sense, d.bound)
    return tuple(now.values())


def left_after(space: Space, turns: Sequence[Turn]) -> dict[str, tuple[Option, ...]]:
    """Decision -> the options that the turns leave to it, where that is not all of them.

    Raises:
        Contradiction: see `fold`.
    """
    held = in_force(turns)
    given = [(turn, d) for turn in held for d in turn.directives]
    return _left(space, given, _taken_back(turns, held))


def _taken_back(turns: Sequence[Turn], held: Sequence[Turn]) -> dict[str, set[Option]]:
    """Options that were added by turns which were taken back, and by no other."""
    back: dict[str, set[Option]] = {}
    numbers = {t.number for t in held}
    for kept in (False, True):
        for turn in turns:
            for d in turn.directives:
                if d.kind != "add" or (turn.number in numbers) != kept:
                    continue
                if d.decision is not None:
                    others = {o for o in d.decision.options if o != d.before}
                    named = {d.decision.name: others}
                else:
                    named = {path: set(d.options) for path in d.paths}
                for path, options in named.items():
                    mine = back.setdefault(path, set())
                    mine -= options if kept else set()
                    mine |= set() if kept else options
    return {path: options for path, options in back.items() if options}


def _left(
    space: Space,
    given: Sequence[tuple[Turn, Directive]],
    back: Mapping[str, Collection[Option]],
) -> dict[str, tuple[Option, ...]]:
    """What pins and prohibitions leave; the latest pin of a decision replaces those before."""
    pins: dict[str, tuple[Turn, Directive]] = {}
    forbidden: dict[str, list[tuple[Turn, Directive]]] = {}
    for turn, d in given:
        for path in d.paths:
            if d.kind == "pin":
                if path in pins and pins[path][0].number == turn.number:
                    earlier = pins[path]
                    if not set(earlier[1].options) & set(d.options):
                        raise _contradiction(path, earlier, (turn, d))
                    shared = tuple(o for o in d.options if o in earlier[1].options)
                    pins[path] = (turn, replace(d, options=shared))
                else:
                    pins[path] = (turn, d)
            elif d.kind == "forbid":
                forbidden.setdefault(path, []).append((turn, d))
    left: dict[str, tuple[Option, ...]] = {}
    for name in dict.fromkeys([*pins, *forbidden, *back]):
        options = space.by_name[name].options
        now = [o for o in options if o not in back.get(name, ())]
        if name in pins:
            now = [o for o in now if o in pins[name][1].options]
            if not now:
                raise Contradiction(
                    f"{name}: {_source(*pins[name])} speaks of options that were added and taken "
                    "back. Add them again first."
                )
        for turn, d in forbidden.get(name, []):
            rest = [o for o in now if o not in d.options]
            if not rest and name in pins:
                raise _contradiction(name, pins[name], (turn, d))
            if not rest:
                raise Contradiction(
                    f"{name}: nothing would be left of {listing(options)} after {_source(turn, d)}."
                )
            now = rest
        if len(now) < len(options):
            left[name] = tuple(now)
    return left


def _contradiction(
    name: str, first: tuple[Turn, Directive], second: tuple[Turn, Directive]
) -> Contradiction:
    one, other = sorted((first, second), key=lambda pair: pair[0].number)
    return Contradiction(
        f"{name}: {_source(*one)} and {_source(*other)} cannot both hold. Take one of them back "
        "(undo), or leave it away."
    )


def _source(turn: Turn, d: Directive) -> str:
    what = {"pin": "only", "forbid": "not"}[d.kind]
    return f"{what} {listing(d.options)} (turn {turn.number}: {d.words!r})"


def in_words(d: Directive, before: State) -> str:
    """What a directive changes, as it is shown back before it acts.

    Such as `layer 3: kernel_size = 5 (was 3, 5 or 7)`.
    """
    said = {
        "pin": _pinned,
        "forbid": _pinned,
        "prefer": _preferred,
        "limit": _bounded,
        "aim": _bounded,
        "order": _ordered,
        "try": _tried,
        "add": _added,
        "comment": _kept,
    }[d.kind](d, before)
    return f"{said}: {d.note}" if d.note else said


def _pinned(d: Directive, before: State) -> str:
    lines: dict[str, list[str]] = {}
    for path in d.paths:
        decision = before.space.by_name[path]
        was = before.left.get(path, decision.options)
        now = [o for o in decision.options if (o in d.options) == (d.kind == "pin")]
        now = [o for o in now if o in was or d.kind == "pin"]
        text = f"{decision.leaf} = {listing(now)} (was {listing(was)})"
        lines.setdefault(text, []).append(decision.layer)
    return "; ".join(
        f"{parts(layers)}: {text}" if any(layers) else text for text, layers in lines.items()
    )


def _preferred(d: Directive, before: State) -> str:
    layers = parts([before.space.by_name[path].layer for path in d.paths])
    leaf = before.space.by_name[d.paths[0]].leaf
    lead = f"{layers}: " if layers else ""
    return f"{lead}{leaf} rather {listing(d.options)} ({d.confidence} confidence, fading)"


def _bounded(d: Directive, before: State) -> str:
    old = before.problem.constraints if d.kind == "limit" else before.aims
    was = next((c.bound for c in old if (c.metric, c.sense) == (d.metric, d.sense)), None)
    what = f"{'limit' if d.kind == 'limit' else 'reference point'}: {d.metric}"
    sign = "at most" if d.sense == "max" else "at least"
    had = "was none" if was is None else f"was {amount(was, d.metric)}"
    now = "no bound any more" if d.bound is None else f"{sign} {amount(d.bound, d.metric)}"
    return f"{what} {now} ({had})"


def _ordered(d: Directive, before: State) -> str:
    names = [t.partition(":")[0] for t in d.objectives]
    was = [o.name for o in before.problem.objectives]
    now = list(dict.fromkeys([*names, *was]))
    if now == was:
        return f"objectives: {', then '.join(now)}, as before"
    return f"objectives: {', then '.join(now)} (was {', then '.join(was)})"


def _added(d: Directive, before: State) -> str:
    if d.decision is not None:
        given = (
            f", which designs so far had as {option_text(d.before)}" if d.before is not None else ""
        )
        return f"new decision {d.decision.name}: {listing(d.decision.options)}{given}"
    layers = parts([before.space.by_name[path].layer for path in d.paths])
    decision = before.space.by_name[d.paths[0]]
    lead = f"{layers}: " if layers else ""
    return (
        f"{lead}{decision.leaf} may also be {listing(d.options)} (was {listing(decision.options)})"
    )


def _tried(d: Directive, before: State) -> str:
    del before
    return f"try {d.architecture}"


def _kept(d: Directive, before: State) -> str:
    del before
    return f"kept as a comment, which changes nothing: {d.words!r}"


def amount(value: float, metric: str) -> str:
    """A bound in its unit: `95 %`, `2 ms`, `50,000`."""
    unit = KNOWN.get(metric, ("", "1"))[1]
    if metric.endswith("accuracy"):
        return f"{100 * value:.4g} %"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return text if unit == "1" else f"{text} {unit}"


def listing(options: Collection[Option]) -> str:
    """`3, 5 or 7`."""
    texts = [option_text(o) for o in options]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"


def parts(layers: Sequence[str]) -> str:
    """Names of layers as they are said: `layer 3`, `layers 5 to 15`, `normal.node2`; '' if none."""
    names = list(dict.fromkeys(layers))
    if not any(names):
        return ""
    stems = [name.rstrip("0123456789") for name in names]
    numbers = [name[len(stem) :] for name, stem in zip(names, stems, strict=True)]
    if len(set(stems)) > 1 or not all(numbers) or "." in stems[0]:
        return ", ".join(n or "the whole" for n in names)
    found = sorted(map(int, numbers))
    if len(found) == 1:
        return f"{stems[0]} {found[0]}"
    if len(found) > 2 and found == list(range(found[0], found[-1] + 1)):
        return f"{stems[0]}s {found[0]} to {found[-1]}"
    return f"{stems[0]}s {', '.join(map(str, found[:-1]))} and {found[-1]}"

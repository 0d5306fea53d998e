"""Whether a directive can mean something here, with other spellings brought to the space's own."""

from __future__ import annotations

import math
from dataclasses import replace

from raynas.architecture import Option, option_text
from raynas.directives import CONFIDENCES, KINDS, Directive, listing
from raynas.errors import UserError, unknown
from raynas.feedback.context import Context
from raynas.feedback.options import spelled
from raynas.objective import KNOWN, Objective


def checked(directive: Directive, context: Context) -> Directive:
    """The directive in the space's own spelling.

    Raises:
        UserError: a decision, option, metric or bound is none here; names what is possible.
    """
    d = directive
    if d.kind not in KINDS:
        raise unknown("kind", d.kind, list(KINDS))
    if d.confidence not in CONFIDENCES:
        raise unknown("confidence", d.confidence, list(CONFIDENCES))
    if d.kind == "add":
        return _added(d, context)
    if d.kind in ("pin", "forbid", "prefer"):
        return _options(d, context)
    if d.kind in ("limit", "aim"):
        return _bounded(d, context)
    if d.kind == "order":
        return _ordered(d, context)
    if d.kind == "try":
        return _tried(d, context)
    if not d.words:
        raise UserError("comment: expected words; got none.")
    return d


def option_of(path: str, given: object, context: Context) -> tuple[Option, ...]:
    """The options of a decision that `given` means.

    Raises:
        UserError: it means none of them, or what it means goes beyond this decision.
    """
    if path not in context.space.by_name:
        raise unknown("decision", path, list(context.space.by_name))
    decision = context.space.by_name[path]
    found = spelled(decision, given)
    if not found:
        raise UserError(
            f"{path}: expected one of {', '.join(map(option_text, decision.options))}; got "
            f"{given!r}. To search beyond them, add the option to the space (`add`)."
        )
    return found


def _options(d: Directive, context: Context) -> Directive:
    if not d.paths or not d.options:
        raise UserError(
            f"{d.kind}: expected decisions (paths) and options; got {d.paths}, {d.options}."
        )
    for path in d.paths:
        if path not in context.space.by_name:
            raise unknown("decision", path, list(context.space.by_name))
    meant: dict[Option, None] = {}
    for given in d.options:
        known = [p for p in d.paths if spelled(context.space.by_name[p], given)]
        if not known:
            option_of(d.paths[0], given, context)
        for path in known:
            meant.update(dict.fromkeys(spelled(context.space.by_name[path], given)))
    for path in d.paths:
        decision = context.space.by_name[path]
        here = [o for o in decision.options if o in meant]
        if not here:
            raise UserError(
                f"{path}: expected one of {', '.join(map(option_text, decision.options))}; got "
                f"{', '.join(map(str, d.options))}."
            )
        if d.kind == "forbid" and len(here) == len(decision.options):
            raise UserError(f"{path}: nothing would be left of {listing(decision.options)}.")
    return replace(d, options=tuple(meant))


def _bounded(d: Directive, context: Context) -> Directive:
    name = d.metric
    objectives = {o.name for o in context.state.problem.objectives}
    bounded = {c.metric for c in (*context.state.problem.constraints, *context.state.aims)}
    if name not in KNOWN and name not in objectives | bounded:
        raise unknown("metric", name, sorted({*KNOWN, *objectives}))
    check_known(name, context)
    if d.sense not in ("min", "max"):
        raise unknown("sense", d.sense, ["min", "max"])
    if d.bound is not None:
        if isinstance(d.bound, bool) or not isinstance(d.bound, int | float):
            raise UserError(f"{d.sense}_{name}: expected a number; got {d.bound!r}.")
        if math.isnan(d.bound) or math.isinf(d.bound) or d.bound < 0:
            raise UserError(f"{d.sense}_{name}: expected a number from 0 on; got {d.bound}.")
        if name.endswith("accuracy") and d.bound > 1:
            raise UserError(
                f"{d.sense}_{name}: expected a share from 0 to 1 (0.95 is 95 %); got {d.bound:g}."
            )
    return replace(d, bound=None if d.bound is None else float(d.bound))


def check_known(metric: str, context: Context) -> None:
    """Raises UserError if the run cannot know a cost of a design."""
    if metric in ("latency_ms", "model_size_kb", "peak_memory_mb", "params", "flops"):
        objectives = {o.name for o in context.state.problem.objectives}
        if metric not in context.costs | set(context.readings) | objectives:
            raise UserError(
                f"this run cannot know {metric} of a design; it knows "
                f"{', '.join(sorted(context.costs))}."
            )


def _ordered(d: Directive, context: Context) -> Directive:
    if not d.objectives:
        raise UserError("order: expected objectives, the most important first; got none.")
    known = {o.name: str(o) for o in context.state.problem.objectives}
    texts = []
    for given in d.objectives:
        name = given.partition(":")[0]
        if name not in known and name not in KNOWN and ":" not in given:
            raise unknown("objective", given, sorted({*known, *KNOWN}))
        if name not in known:
            check_known(name, context)
        if given not in (name, known.get(name, given)):
            raise UserError(f"order: {name} is {known[name]} in this run; got {given!r}.")
        texts.append(known.get(name) or str(Objective.parse(given)))
    if len(set(texts)) != len(texts):
        raise UserError(f"order: expected each objective once; got {', '.join(texts)}.")
    return replace(d, objectives=tuple(texts))


def _tried(d: Directive, context: Context) -> Directive:
    known = context.space.known
    if d.architecture in known:
        design = context.space.architecture(known[d.architecture].options)
        return replace(d, architecture=str(design), note=d.note or f"the design {d.architecture!r}")
    return replace(d, architecture=str(context.space.parse(d.architecture)))


def _added(d: Directive, context: Context) -> Directive:
    space = context.space
    if d.decision is not None:
        there = space.by_name.get(d.decision.name)
        taken_back = there is not None and context.state.left.get(there.name) == (d.before,)
        if there is not None and not (taken_back and there.options == d.decision.options):
            raise UserError(
                f"add: the space has a decision {d.decision.name} already; give it `options` more."
            )
        if d.before is None or d.before not in d.decision.options:
            raise UserError(
                f"{d.decision.name}: expected `before`, the one of "
                f"{', '.join(map(option_text, d.decision.options))} that designs so far had; got "
                f"{d.before!r}."
            )
        return d
    if not d.paths or not d.options:
        raise UserError("add: expected decisions (paths) and options, or a decision; got neither.")
    for path in d.paths:
        if path not in space.by_name:
            raise unknown("decision", path, list(space.by_name))
        kind = type(space.by_name[path].options[0])
        for option in d.options:
            if type(option) is not kind:
                raise UserError(
                    f"{path}: expected options of type {kind.__name__}, like "
                    f"{listing(space.by_name[path].options)}; got {option!r}."
                )
    now = {p: context.state.left.get(p, space.by_name[p].options) for p in d.paths}
    if all(o in now[p] for p in d.paths for o in d.options):
        raise UserError(f"add: {', '.join(d.paths)} may be {listing(d.options)} already.")
    return d

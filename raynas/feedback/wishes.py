"""What wishes come to as directives, however they were given."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from raynas.architecture import Architecture, Option, option_text
from raynas.directives import Directive
from raynas.errors import UserError
from raynas.feedback.checking import check_known, checked, option_of
from raynas.feedback.context import Context
from raynas.objective import KNOWN, figure

COST_WISHES = ("params", "flops", "latency_ms", "model_size_kb")


def measured(metric: str, context: Context) -> bool:
    """Whether the run tells this metric of designs."""
    objectives = {o.name for o in context.state.problem.objectives}
    bounded = {c.metric for c in (*context.state.problem.constraints, *context.state.aims)}
    return metric in objectives | bounded | set(context.readings) | set(context.best)


def edited(edits: Mapping[str, Option], context: Context) -> Architecture:
    """The design under discussion with other options; what becomes active follows `Space.fit`.

    Raises:
        UserError: there is no design, or the edits do not hold together.
    """
    if context.design is None:
        raise UserError("no design is under discussion that could be changed.")
    changed = Architecture(context.design.space, tuple({**context.design.options, **edits}.items()))
    made = context.space.fit(changed)
    for path, option in edits.items():
        if made.options.get(path) != option:
            raise UserError(f"{path} = {option_text(option)} cannot be part of {context.subject}.")
    return made


def pin(
    paths: Sequence[str], given: Sequence[object], words: str, context: Context, tested: bool = True
) -> list[Directive]:
    """Only these options for the decisions; put to the test unless the design has them already."""
    groups: dict[tuple[Option, ...], list[str]] = {}
    for path in paths:
        meant = dict.fromkeys(o for g in given for o in option_of(path, g, context))
        groups.setdefault(tuple(meant), []).append(path)
    made = []
    for options, members in groups.items():
        design = context.design
        on = [p for p in members if design is not None and p in design]
        has = bool(on) and all(design[p] in options for p in on if design is not None)
        note = f"{context.subject} has it already" if tested and has else ""
        d = Directive("pin", words, tuple(members), options, tested=tested and not has, note=note)
        made.append(checked(d, context))
    return made


def keep(paths: Sequence[str], words: str, context: Context) -> list[Directive]:
    """Decisions stay as they are in the design under discussion, one directive per leaf and option.

    Raises:
        UserError: there is no design, or it answers none of them.
    """
    from raynas.feedback.places import active

    if context.design is None:
        raise UserError("no design is under discussion whose parts could be kept.")
    groups: dict[tuple[str, Option], list[str]] = {}
    for path in active(paths, context):
        leaf = context.space.by_name[path].leaf
        groups.setdefault((leaf, context.design[path]), []).append(path)
    return [
        checked(Directive("pin", words, tuple(members), (option,)), context)
        for (_, option), members in groups.items()
    ]


def attempt(edits: Mapping[str, Option], words: str, context: Context) -> Directive:
    """The design under discussion with other options, to be tried."""
    made = edited(edits, context)
    if made == context.design:
        raise UserError(f"{context.subject} has that already: there is nothing to try.")
    said = ", ".join(f"{p} {option_text(o)}" for p, o in edits.items())
    note = f"{context.subject} with {said}"
    return Directive("try", words, architecture=str(made), tested=True, note=note)


def prioritized(
    first: Sequence[str], over: Collection[str], words: str, context: Context
) -> list[Directive]:
    """These objectives before all others, with a reference point for each.

    A metric to be raised (accuracy) shall reach the best reading so far; a cost half of the
    design's, as the smallest of all is seldom of use. Reference points on what is less important
    are dropped.
    """
    objectives = {o.name: str(o) for o in context.state.problem.objectives}
    for metric in first:
        check_known(metric, context)
    names = [*first, *(m for m in over if m in objectives and m not in first)]
    unheard = [m for m in over if m not in objectives]
    note = f"{', '.join(unheard)} is no objective of this run" if unheard else ""
    made = [
        Directive(
            "order",
            words,
            objectives=tuple(objectives.get(n, f"{n}:{direction(n)}") for n in names),
            note=note,
        )
    ]
    for metric in first:
        if direction(metric, context) == "max" or metric not in context.readings:
            made += reach_best(metric, words, context)
        else:
            made += shares([metric], 0.5, words, context)
    for c in context.state.aims:
        if c.metric in over:
            made.append(Directive("aim", words, metric=c.metric, sense=c.sense, bound=None))
    return [checked(d, context) for d in made]


def reach_best(metric: str, words: str, context: Context) -> list[Directive]:
    """A reference point at the best reading so far; none before there is one."""
    if metric not in context.best:
        return []
    reading, trial = context.best[metric]
    sense: Literal["min", "max"] = "min" if direction(metric, context) == "max" else "max"
    note = f"the best reading so far, of trial {trial}"
    return [Directive("aim", words, metric=metric, sense=sense, bound=reading, note=note)]


def direction(metric: str, context: Context | None = None) -> str:
    """Where a metric should go: `min` or `max`."""
    for o in context.state.problem.objectives if context else ():
        if o.name == metric:
            return o.direction
    if metric not in KNOWN:
        raise UserError(f"{metric}: nobody said whether more or less of it is better.")
    return KNOWN[metric][0]


def shares(
    metrics: Sequence[str], share: float, words: str, context: Context, kind: str = "aim"
) -> list[Directive]:
    """Costs at most this share of the design's readings, such as half of them.

    Raises:
        UserError: no reading of the design is known.
    """
    known = [m for m in metrics if m in context.readings]
    if not known:
        raise UserError(
            f"there is no reading of {' or '.join(metrics)} to compare with yet; say a number."
        )
    made = []
    for metric in known:
        check_known(metric, context)
        reading = context.readings[metric]
        part = "half" if share == 0.5 else f"{100 * share:.4g} %"
        made.append(
            Directive(
                kind, words, metric=metric, sense="max", bound=share * reading,  # type: ignore[arg-type]
                note=f"{part} of {context.subject}'s {figure(reading)}",
            )
        )  # fmt: skip
    return [checked(d, context) for d in made]


def noted(directives: Sequence[Directive], note: str) -> list[Directive]:
    """The directives with a further note on how words were read."""
    return [replace(d, note="; ".join(filter(None, (d.note, note)))) for d in directives]

"""Nothing that was named may be ignored: what a plugged-in interpreter left over is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from raynas.directives import Directive
from raynas.errors import UserError
from raynas.feedback.amounts import exact
from raynas.feedback.checking import checked
from raynas.feedback.context import Context, Interpreter, Refusal, Understood
from raynas.feedback.grammar import nearest
from raynas.feedback.lexing import Token, lexed
from raynas.feedback.options import marks_of
from raynas.feedback.places import Place
from raynas.feedback.plain import directive_of
from raynas.feedback.spoken_places import placed


def interpreted(text: str, interpreter: Interpreter, context: Context) -> Understood:
    """What an interpreter makes of words: all of it valid and complete, or nothing."""
    answer: Iterable[Directive | Mapping[str, Any]] = interpreter(
        text, context.state.problem, context.space
    )
    try:
        made = []
        for one in answer:
            d = one if isinstance(one, Directive) else directive_of(one)
            d = d if d.words else replace(d, words=text)
            made.append(checked(d, context))
        if not made:
            raise UserError("the interpreter found nothing in it.")
        if left := leftover(text, made, context):
            raise UserError(f"the interpreter left over {', '.join(map(repr, left))}.")
    except UserError as error:
        return Understood(refusals=(Refusal(text, str(error), nearest(text)),))
    return Understood(tuple(made))


def leftover(text: str, directives: Sequence[Directive], context: Context) -> list[str]:
    """The numbers, metrics, operations and layers of a text that no directive uses."""
    metrics = tuple(o.name for o in context.state.problem.objectives)
    tokens = placed(lexed(text, context.space, metrics).tokens, context)
    return [t.words for t in tokens if not _used(t, directives, context)]


def _used(token: Token, directives: Sequence[Directive], context: Context) -> bool:
    options = [o for d in directives for o in (*d.options, *_tried(d, context))]
    if token.kind == "P":
        place: Place = token.value
        paths = {p for d in directives for p in (*d.paths, *_edited(d, context))}
        return all(paths & set(part) for part in place.parts) or (
            (place.loose or place.everywhere) and bool(paths & set(place.paths))
        )
    if token.kind == "o":
        return any(token.value <= marks_of(o) for o in options) or (
            token.value == {"skip"}
            and any(p.endswith("skip_connection") for d in directives for p in d.paths)
        )
    if token.kind == "z":
        return any(
            f"{token.value}x{token.value}" in marks_of(o) or o == token.value for o in options
        )
    if token.kind in ("M", "C"):
        named = {d.metric for d in directives}
        named |= {o.partition(":")[0] for d in directives for o in d.objectives}
        return bool(named & set(exact(token.value, context)))
    if token.kind in ("N", "Q"):
        value = token.value if token.kind == "N" else token.value[0]
        return _is_told(value, token, directives, options, context)
    # numbers within words that are not known
    return not (token.kind == "?" and re.search(r"\d", token.words))


def _is_told(
    value: float,
    token: Token,
    directives: Sequence[Directive],
    options: Sequence[Any],
    context: Context,
) -> bool:
    if any(o == value for o in options if not isinstance(o, bool | str)):
        return True
    for d in directives:
        if d.bound is None:
            continue
        bounds = [d.bound, d.bound * 1e3]  # a memory in MB was told in kB
        reading = context.readings.get(d.metric)
        if token.kind == "Q" and reading:
            bounds += [1 - d.bound / reading, d.bound / reading, abs(d.bound - reading)]
        if any(math.isclose(value, b, rel_tol=1e-6, abs_tol=1e-12) for b in bounds):
            return True
    return False


def _edited(d: Directive, context: Context) -> list[str]:
    """The decisions that a design to try changes."""
    if not d.architecture or context.design is None:
        return []
    made = context.space.parse(d.architecture).options
    return [p for p, o in made.items() if context.design.options.get(p) != o]


def _tried(d: Directive, context: Context) -> list[Any]:
    made = context.space.parse(d.architecture).options if d.architecture else {}
    return [made[p] for p in _edited(d, context)]

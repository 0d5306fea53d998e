"""What clauses about more or less of something come to: "deeper", "larger kernels", "at most 8"."""

from __future__ import annotations

from raynas.directives import Directive
from raynas.errors import UserError
from raynas.feedback.clauses import Clause
from raynas.feedback.option_rules import grouped
from raynas.feedback.options import leaf_called
from raynas.feedback.phrases import Meant, Phrase, beyond


def formed(clause: Clause) -> list[Directive]:
    made: list[Directive] = []
    for token in clause.groups["c"]:
        if token.kind == "c":
            concept, up = token.value
            made += _stepped(clause, concept, up)
    return made


def leaf_compared(clause: Clause) -> list[Directive]:
    """`make the kernels larger`, `the kernels are too big`; "the kernels are larger" tells."""
    told = not clause.kind("u") and not clause.kind("x")
    if told and not clause.groups["v"][0].words.startswith("too"):
        raise UserError("is that a wish? Say 'make ...' or 'should be ...'.")
    return leaf_stepped(clause)


def leaf_stepped(clause: Clause) -> list[Directive]:
    said = clause.groups["l"][0]
    if clause.kind("v") in "gs" and said.words in ("layers", "stages", "blocks", "cells"):
        raise UserError(
            f"larger or smaller {said.words} in what? Say wider, deeper, or more of them."
        )
    return _stepped(clause, said.value, clause.kind("v") in "mg+", exactly=True)


def _stepped(clause: Clause, concept: str, up: bool, exactly: bool = False) -> list[Directive]:
    """The options above (or below) those of the design, in its own decisions."""
    context, design = clause.context, clause.context.design
    if design is None:
        raise UserError("no design is under discussion to compare with; say a number.")
    clause.require_active()
    leaves = [context.space.by_name[p].leaf for p in clause.paths]
    leaf = concept if exactly else leaf_called(concept, leaves)
    found: Meant = {}
    for path in clause.paths:
        decision = context.space.by_name[path]
        if decision.leaf == leaf and decision.ordered and path in design:
            at = decision.options.index(design[path])
            found[path] = decision.options[at + 1 :] if up else decision.options[:at]
    if not found:
        raise UserError(f"nothing there decides {concept} by order.")
    found = {p: options for p, options in found.items() if options}
    if not found:
        raise UserError(
            f"{context.subject} has the {'most' if up else 'least'} that there is already."
        )
    return grouped("prefer", found, clause)


def leaf_bound(clause: Clause) -> list[Directive]:
    if "n" in clause.groups:
        phrase = Phrase(
            clause.words, clause.groups["l"][0].value, number=clause.groups["n"][0].value
        )
    else:
        (phrase,) = clause.phrases
    found = beyond(phrase, clause.paths, clause.context, above=clause.kind("s") == "A")
    said = clause.groups["s"][0].words
    strict = any(
        w in said.split()
        for w in (
            "under",
            "below",
            "less",
            "fewer",
            "<",
            ">",
            "above",
            "smaller",
            "lower",
            "more",
            "greater",
            "higher",
            "larger",
        )
    ) and not any(w in said.split() for w in ("no", "not"))
    if strict and phrase.number is not None:
        raise UserError(f"say 'at most' or 'at least' with {phrase.leaf}.")
    return grouped("forbid", found, clause)

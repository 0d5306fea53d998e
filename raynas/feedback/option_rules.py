"""What clauses about options come to: pins, prohibitions, preferences, designs to try."""

from __future__ import annotations

import re

from raynas.architecture import Option
from raynas.directives import Directive
from raynas.errors import UserError
from raynas.feedback.checking import checked
from raynas.feedback.clauses import Clause
from raynas.feedback.phrases import Meant, Phrase, meant
from raynas.feedback.wishes import attempt, keep, pin


def _all_meant(clause: Clause, kind: str) -> Meant:
    """What all phrases of a clause mean together."""
    found: Meant = {}
    if kind == "forbid":
        _require_one_reading(clause)
    for phrase in clause.phrases:
        for path, options in meant(phrase, clause.paths, clause.context, kind).items():
            found[path] = tuple(dict.fromkeys((*found.get(path, ()), *options)))
    if kind != "forbid" and clause.either:
        each = [set(meant(p, clause.paths, clause.context, kind)) for p in clause.phrases]
        if any(paths != each[0] for paths in each):
            raise UserError("'or' joins options of different decisions; say two wishes.")
    return found


def _require_one_reading(clause: Clause) -> None:
    """Raises UserError for "no X and Y" of different decisions: is Y wanted, or not either?"""
    phrases, space = clause.phrases, clause.context.space
    if len(phrases) < 2 or clause.either or re.search(r"\b(?:and|,) no\b", clause.words.lower()):
        return
    leaves = [
        {space.by_name[p].leaf for p in meant(phrase, clause.paths, clause.context, "forbid")}
        for phrase in phrases
    ]
    if any(each != leaves[0] for each in leaves) or len({p.words for p in phrases}) < len(phrases):
        first, last = phrases[0].words, phrases[-1].words
        raise UserError(
            f"is {last!r} wanted, or not either? Say 'no {first} and no {last}', or two sentences."
        )


def grouped(kind: str, found: Meant, clause: Clause, confidence: str = "medium") -> list[Directive]:
    """One directive per leaf and set of options."""
    groups: dict[tuple[str, tuple[Option, ...]], list[str]] = {}
    for path, options in found.items():
        groups.setdefault((clause.context.space.by_name[path].leaf, options), []).append(path)
    return [
        checked(
            Directive(kind, clause.words, tuple(paths), options, confidence=confidence),  # type: ignore[arg-type]
            clause.context,
        )
        for (_, options), paths in groups.items()
    ]


def used(clause: Clause) -> list[Directive]:
    said = (
        clause.groups.get("v") or clause.place or any(p.number is not None for p in clause.phrases)
    )
    if not said:
        raise UserError("say what to do with it: use, avoid, prefer or try it, and where.")
    if clause.phrases[0].words == "skip" and not clause.verb:
        raise UserError("is a skip connection meant? Say 'a skip connection in layer 3'.")
    last = clause.groups.get("v3")
    if last and clause.place:
        raise UserError("'only' after a place is ambiguous; say 'only ... in layer 3'.")
    counts = [p.words for p in clause.phrases if p.number is not None]
    bare = not (clause.groups.get("v") or clause.place)
    if bare and any("blocks" in said.split() or not re.search(r"\d", said) for said in counts):
        raise UserError("is that a wish? Say 'use ...', and where.")
    clause.require_active()
    found = _all_meant(clause, "pin")
    clause.require_on(found)
    return _pins(found, clause)


def added(clause: Clause) -> list[Directive]:
    """Only what is there or not can be added: "add 64 channels" would be relative."""
    if not all(p.flag or p.marks == {"skip"} for p in clause.phrases):
        raise UserError("only something like a skip connection can be added; say 'use'.")
    return used(clause)


def _pins(found: Meant, clause: Clause) -> list[Directive]:
    groups: dict[tuple[str, tuple[Option, ...]], list[str]] = {}
    for path, options in found.items():
        groups.setdefault((clause.context.space.by_name[path].leaf, options), []).append(path)
    made: list[Directive] = []
    for (_, options), paths in groups.items():
        made += pin(paths, options, clause.words, clause.context)
    return made


def _valued(clause: Clause) -> Meant:
    """A leaf or a decision, and the option that it shall have."""
    (value,) = clause.groups["n"]
    leaf = clause.groups.get("l")
    place, context = clause.place, clause.context
    if leaf:
        name = leaf[0].value
    elif place is not None and len(place.paths) == 1:
        name = context.space.by_name[place.paths[0]].leaf
    else:
        raise UserError(f"{value.words}: of which decision there?")
    if value.kind == "N":
        phrase = Phrase(value.words, name, number=value.value)
    else:
        phrase = value.value
        if phrase.leaf not in ("", name):
            raise UserError(f"{value.words!r} is no {name}.")
        phrase = Phrase(phrase.words, name, phrase.marks, phrase.side, phrase.number, phrase.flag)
    clause.require_active()
    found = meant(phrase, clause.paths, context, "pin")
    clause.require_on(found)
    _check_from(clause, found)
    return found


def _check_from(clause: Clause, found: Meant) -> None:
    """That "increase ... to 5" does increase, and "from 3" is what the design has."""
    design = clause.context.design
    verb, before = clause.kind("v"), clause.groups.get("b")
    if design is None:
        if before:
            raise UserError("no design is under discussion that could be changed from something.")
        return
    for path, options in found.items():
        now = design.options.get(path)
        if now is None:
            continue
        if before and float(before[0].value) != now:
            raise UserError(f"{path} is {now} in {clause.context.subject}, not {before[0].words}.")
        wrong = verb == "+" and not options[0] > now  # type: ignore[operator]
        if wrong or (verb == "-" and not options[0] < now):  # type: ignore[operator]
            raise UserError(f"{path} is {now} in {clause.context.subject} already.")


def set_to(clause: Clause) -> list[Directive]:
    return _pins(_valued(clause), clause)


def replaced(clause: Clause) -> list[Directive]:
    design = clause.context.design
    if design is None:
        raise UserError("no design is under discussion in which something could be replaced.")
    (old,), (new,) = clause.groups["a"], clause.groups["o"]
    clause.require_active()
    phrase = old.value
    if old.kind == "N":
        phrase = Phrase(old.words, new.value.leaf, number=old.value)
    before = meant(phrase, clause.paths, clause.context, "pin")
    there = [p for p, options in before.items() if p in design and design[p] in options]
    if not there:
        raise UserError(f"{clause.context.subject} has no {old.words} there.")
    after = meant(new.value, there, clause.context, "pin")
    if set(after) != set(there):
        raise UserError(f"{new.words} cannot stand where {old.words} is.")
    return _pins(after, clause)


def tried(clause: Clause) -> list[Directive]:
    clause.require_active()
    found = _valued(clause) if "n" in clause.groups else _all_meant(clause, "pin")
    clause.require_on(found)
    design = clause.context.design
    edits: dict[str, Option] = {}
    for path, options in found.items():
        if len(options) > 1:
            raise UserError(f"one design is tried at a time; {path} may not be several at once.")
        # of parts that are off only what turns them on is edited; the rest follows `fit`
        if design is None or path in design or clause.context.space.by_name[path].when is None:
            edits[path] = options[0]
    return [attempt(edits, clause.words, clause.context)]


def kept(clause: Clause) -> list[Directive]:
    paths = clause.paths
    if leaves := [t.value for t in clause.groups.get("l", ()) if t.kind == "L"]:
        paths = tuple(p for p in paths if clause.context.space.by_name[p].leaf in leaves)
        if not paths:
            raise UserError(f"nothing there decides {', '.join(leaves)}.")
    elif clause.place is None:
        raise UserError("keep what? Name a layer or a decision.")
    clause.require_active()
    return keep(paths, clause.words, clause.context)


def kept_option(clause: Clause) -> list[Directive]:
    design = clause.context.design
    if design is None or clause.place is None:
        raise UserError("keep it where? Name a layer of a design under discussion.")
    if clause.either:
        raise UserError("keep which of them? Say 'only ... or ...' if both may be used.")
    clause.require_active()
    found = _all_meant(clause, "pin")
    on = {p: options for p, options in found.items() if p in design}
    missing = [p for p, options in on.items() if design[p] not in options]
    if missing:
        raise UserError(
            f"{clause.context.subject} has another {missing[0]}: there is nothing to keep."
        )
    return keep(tuple(on), clause.words, clause.context)


REMOVING = ("drop", "remove", "get rid of", "eliminate", "take out", "throw out", "throw away",
            "do away with", "ditch", "leave out", "omit")  # fmt: skip


def forbidden(clause: Clause) -> list[Directive]:
    verb = clause.groups.get("v", ())
    if verb and verb[0].words in REMOVING and any(p.counted for p in clause.phrases):
        raise UserError(f"{verb[0].words} so many, or not have so many? Say 'use' and a number.")
    return grouped("forbid", _all_meant(clause, "forbid"), clause)


def preferred(clause: Clause) -> list[Directive]:
    sure = {"h": "high", "w": "low", "": "medium"}[clause.kind("h") or clause.kind("h2")]
    found = _all_meant(clause, "prefer")
    if clause.groups.get("a"):
        other = meant(clause.groups["a"][0].value, clause.paths, clause.context, "prefer")
        if not set(found) <= set(other) or any(set(found[p]) & set(other[p]) for p in found):
            raise UserError("these are no two options of the same decision.")
    return grouped("prefer", found, clause, sure)


def more_of(clause: Clause) -> list[Directive]:
    if any(p.number is not None for p in clause.phrases):
        raise UserError("more than what? Say 'use' or 'at least' with a number.")
    return grouped("prefer", _all_meant(clause, "prefer"), clause)


def fewer_of(clause: Clause) -> list[Directive]:
    if any(
        p.number is not None and p.leaf not in ("kernel", "kernel_size") for p in clause.phrases
    ):
        raise UserError("fewer than what? Say 'at most' with a number.")
    found = _all_meant(clause, "prefer")
    by_name = clause.context.space.by_name
    others = {p: tuple(o for o in by_name[p].options if o not in gone) for p, gone in found.items()}
    if not all(others.values()):
        raise UserError("there is nothing else to prefer.")
    return grouped("prefer", others, clause)

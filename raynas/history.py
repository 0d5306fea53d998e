"""What held in a run before each of its turns, for whoever tells what a turn changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from raynas.directives import Directive, State, Turn, fold, in_force, in_words, widened
from raynas.problem import Problem
from raynas.run import RunInfo
from raynas.space import Space

History = Sequence[tuple[Turn, State]]  # every turn, those taken back too, and what held before


def history(run: Path, said: Sequence[Turn]) -> History:
    """All turns of a run on disk (`RunInfo.said`), each with what held before it."""
    if not said:
        return []
    data = json.loads((run / "run.json").read_text())  # there problem and space are the first ones
    return _folded(Problem.of(data["problem"]), Space.from_dict(data["space"]), said)


def of_info(info: RunInfo) -> History:
    """The like from what is in memory, where the first problem is not known: bounds are today's."""
    return _folded(info.problem, info.space, info.said or info.now.turns)


def _folded(problem: Problem, space: Space, said: Sequence[Turn]) -> History:
    return [(turn, fold(problem, space, said[:i])) for i, turn in enumerate(said)]


def shown(turn: Turn, before: State) -> list[str]:
    """A turn's directives in words, as they were shown back."""
    space = before.space
    for d in turn.directives:
        space = widened(space, d) if d.kind == "add" else space
    had = {name: d.options for name, d in before.space.by_name.items()}
    more = {n: had[n] for n, d in space.by_name.items() if d.options != had.get(n, d.options)}
    wider = replace(before, space=space, left={**more, **before.left})
    return [in_words(d, before if d.kind == "add" else wider) for d in turn.directives]


def spans(said: Sequence[Turn], turn: Turn, directive: Directive) -> list[tuple[int, int | None]]:
    """The trial numbers, from and to before, whose proposals a directive governed."""
    found: list[tuple[int, int | None]] = []
    for i, last in enumerate(said):
        held = in_force(said[: i + 1])
        if turn not in held or replaced(held, turn, directive) is not None:
            continue
        end = said[i + 1].since if i + 1 < len(said) else None
        if found and found[-1][1] == last.since:
            found[-1] = (found[-1][0], end)
        else:
            found.append((last.since, end))
    return found


def replaced(held: Sequence[Turn], turn: Turn, directive: Directive) -> Turn | None:
    """The turn since which other directives stand in a directive's place; None if it holds."""
    left = set(directive.paths)
    for later in held:
        for d in later.directives if later.number > turn.number else ():
            left -= set(d.paths) if d.kind == "pin" else set()
            if _instead(d, directive) or (directive.kind == "pin" and not left):
                return later
    return None


def left_of(held: Sequence[Turn], turn: Turn, directive: Directive) -> Directive:
    """A pin without the decisions that were pinned otherwise later; any other as it is."""
    pinned = {
        path
        for later in held
        for d in later.directives
        if later.number > turn.number and d.kind == "pin"
        for path in d.paths
    }
    rest = tuple(path for path in directive.paths if path not in pinned)
    return replace(directive, paths=rest) if directive.kind == "pin" and rest else directive


def _instead(new: Directive, old: Directive) -> bool:
    if new.kind in ("limit", "aim"):
        return (new.kind, new.metric, new.sense) == (old.kind, old.metric, old.sense)
    return new.kind == old.kind == "order"

"""What suggestions ask for: a person's change of a design, and the design that it changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from raynas.architecture import Architecture, Option
from raynas.directives import Directive, Turn, left_after
from raynas.run import RunInfo
from raynas.space import Space

Designs = Mapping[int, str]  # trial number -> architecture
TURNS = ("feedback", "modify")  # moves that carry directives


def edit_of(space: Space, design: Architecture, directive: Directive) -> Architecture:
    """The design with what a directive asks for; the same design where it has that already.

    What becomes active by it is answered as `Space.fit` does.

    Raises:
        UserError: the space has no such decision, option or design.
    """
    return with_all(space, design, (directive,))


def with_all(
    space: Space,
    design: Architecture,
    directives: Sequence[Directive],
    left: Mapping[str, Sequence[Option]] | None = None,
) -> Architecture:
    """The design with what several directives ask for at once; see `edit_of`.

    Args:
        left: the options that decisions are left to have, by all that was said: what becomes
            active keeps to them.
    """
    for d in directives:
        if d.kind == "try":
            design = space.parse(d.architecture)
    gone: dict[str, set[Option]] = {
        name: {o for o in space.by_name[name].options if o not in options}
        for name, options in (left or {}).items()
        if name not in design
    }
    for d in directives:
        for path in d.paths if d.kind in ("pin", "forbid") else ():
            space.narrow(forbidden={path: ()})  # which names what it does not know
            options = space.by_name[path].options
            unwanted = {o for o in options if (o in d.options) == (d.kind == "forbid")}
            gone.setdefault(path, set()).update(unwanted)
    return space.narrow(forbidden=gone).fit(design) if gone else design


@dataclass(frozen=True)
class Suggestion:
    """What is put to the test: directives that were given together, and both designs.

    Attributes:
        turn: in which they were given.
        design: under discussion then.
        edit: that design with them.
    """

    turn: Turn
    directives: tuple[Directive, ...]
    design: Architecture
    edit: Architecture


def edits(
    info: RunInfo, turn: Turn, trials: Designs | None = None
) -> list[tuple[Directive, Architecture, Architecture]]:
    """What a turn has put to the test: directive, the design under discussion, the edited design.

    Pins of one layer that were given together (in the same words) make one edit, which stands
    with the first of them. What changes nothing is left out.

    Args:
        trials: designs by number, for a turn that names a trial but does not say its design.
    """
    return [
        (s.directives[0], s.design, s.edit)
        for s in suggestions(info.space, turn, trials or {}, info.said or info.now.turns)
        if s.edit != s.design
    ]


def suggestions(
    space: Space, turn: Turn, trials: Designs, said: Sequence[Turn] = ()
) -> Iterator[Suggestion]:
    """What a turn has put to the test, what changes nothing included.

    Args:
        said: all turns of the run: edits keep to what those until this one leave.
    """
    about = turn.about or (trials.get(turn.trial, "") if turn.trial is not None else "")
    if not about or turn.move not in TURNS:
        return
    design = space.parse(about)
    groups: dict[tuple[str, ...], list[Directive]] = {}
    for i, d in enumerate(turn.directives):
        if d.tested and d.kind in ("pin", "try"):
            layer = d.paths[0].rpartition(".")[0] if d.paths else ""
            key = (d.words, layer) if d.kind == "pin" else (d.words, layer, str(i))
            groups.setdefault(key, []).append(d)
    left = left_after(space, [t for t in said if t.number <= turn.number])
    for found in groups.values():
        yield Suggestion(turn, tuple(found), design, with_all(space, design, found, left))

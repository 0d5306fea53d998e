"""What people said, as trials: designs to try, the best designs brought in, suggestions tested."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from raynas.architecture import Architecture, changes
from raynas.buying import Order
from raynas.certainty import Ledger, Over
from raynas.directives import Turn
from raynas.explanation.feedback import edits
from raynas.front import front_of
from raynas.phases import breaks
from raynas.run import RunInfo
from raynas.session import Evaluator
from raynas.trial import Proposal, Purpose, Reason

FIRST = 5  # of the best designs that a narrower space lost, as many are brought into it
EACH = {"brief": 2, "standard": 3, "detailed": 6}  # trainings of either side of a suggestion
SHARE = 3  # about one in so many of the trials that are left goes into such tests at most
FEWEST = 2  # trainings of either side without which there is no interval
SECONDS = 0.3  # likewise, of the time
TESTED: frozenset[Purpose] = frozenset({"ablation", "confirm"})


def over(evaluator: Evaluator, info: RunInfo, architecture: Architecture) -> str:
    """Why a design may not be trained: what people said, or limits; '' for none."""
    if info.now.left and not info.allowed.holds(architecture):
        return "it is not what was asked for"
    return breaks(evaluator, info.constraints, architecture)


def starts(ledger: Ledger) -> Iterator[Proposal]:
    """What a search begins with because of what was said: designs that people asked for, and the
    best designs so far that are not in the space any more, changed as little as brings them in."""
    info, space = ledger.info, ledger.info.allowed
    for turn, d in info.now.directives:
        if d.kind == "try" and space.holds(design := Architecture.parse(d.architecture)):
            note = f"tries this design, as asked in turn {turn.number}: {d.words!r}"
            parents = () if turn.trial is None else (turn.trial,)
            changed = changes(ledger.design(turn.trial), design) if turn.trial is not None else ()
            yield Proposal(design, Reason("engineer", note, parents, changed))
    if not info.now.left:
        return
    everywhere = replace(info, state=replace(info.now, left={}))
    rows = front_of(ledger.trials, everywhere)
    lost = [int(n) for n in rows["number"] if not space.holds(ledger.design(int(n)))]
    for number in lost[:FIRST]:
        design = ledger.design(number)
        inside = space.plainest(space.fit(design))
        note = f"brings trial {number} into what was asked for"
        reason = Reason("engineer", note, (number,), changes(design, inside))
        yield Proposal(inside, reason)


def suggested(ledger: Ledger, trials: int, repeats: bool, over: Over) -> Order | None:
    """What is missing of the tests of suggestions: designs with them and without, fresh seeds.

    Args:
        repeats: whether a second training of a design reads something else than the first.
        over: says which limits a design breaks; '' for none. Such designs are not trained.
    """
    waiting = ledger.unfinished(TESTED)
    wanted: list[Proposal] = []
    found = [(t, pair) for t in ledger.info.now.turns for pair in _pairs(ledger.info, t)]
    limited = ledger.info.constraints
    asked = [(t, p) for t, p in found if not limited or not (over(p[1]) or over(p[2]))]
    if asked:
        room = trials - ledger.info.now.turns[-1].since
        most = EACH[ledger.info.settings["explanation_level"]]
        each = max(min(most, room // (2 * SHARE * len(asked))), FEWEST) if repeats else 1
        for turn, pair in asked:
            wanted += _tested(ledger, turn, *pair, each)
    room = max(trials - ledger.spent(), 0)
    proposals = wanted[: max(room - waiting, 0)]
    count = min(room, waiting + len(proposals))
    title = f"testing what was suggested: training {count}, with and without"
    return Order(TESTED, proposals, count, title) if count else None


def _pairs(info: RunInfo, turn: Turn) -> list[tuple[str, Architecture, Architecture]]:
    """The designs without and with each suggestion of a turn that still stands."""
    found = [(d.words, before, after) for d, before, after in edits(info, turn)]
    return [pair for pair in found if info.allowed.holds(pair[2])]


def _tested(
    ledger: Ledger, turn: Turn, words: str, before: Architecture, after: Architecture, each: int
) -> Iterator[Proposal]:
    """Both designs by turns, so that whatever ends the part leaves as many of one as the other."""
    parents = () if turn.trial is None else (turn.trial,)
    edit = Reason(
        "ablation", f"tests what was suggested: {words!r}", parents, changes(before, after)
    )
    beside = Reason("derived", f"is trained again, to test {words!r} against it", parents)
    missing = [each - _asked(ledger, design) for design in (before, after)]
    for i in range(each):
        if i < missing[1]:
            yield Proposal(after, edit, purpose="ablation")
        if i < missing[0]:
            yield Proposal(before, beside, purpose="confirm")


def _asked(ledger: Ledger, design: Architecture) -> int:
    """How many fresh trainings of a design were asked for."""
    identity = ledger.info.space.identity(design)
    fresh = [j for j in ledger.jobs if j.purpose in ("confirm", "ablation", "audit", "final")]
    return sum(ledger.info.space.identity(j.architecture) == identity for j in fresh)

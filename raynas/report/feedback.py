"""What your feedback did: every turn with what was said, how it was read and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from raynas.directives import in_force
from raynas.explanation.claims import Claim
from raynas.explanation.sentences import sentence, value
from raynas.history import history, shown
from raynas.report.axes import Axis, interval_axis
from raynas.report.sections import metric_text
from raynas.result import SearchResult

MOVES = {"feedback": "feedback", "modify": "a change of a layer"}  # as others are called


@dataclass(frozen=True)
class Read:
    """A directive as it was shown back, and what came of it, with the claim that says so."""

    words: str
    result: str
    claim: Claim | None


@dataclass(frozen=True)
class Said:
    """One turn.

    Attributes:
        when: in UTC.
        trial: it was about; None if about none.
        since: the first trial that it can have changed.
        undone: the turn that took it back; None while it holds.
        tests: its suggestions that were put to the test, with their sentences.
        progress: sentence and claim about the best design since.
        table: rows of (what, before, now).
    """

    number: int
    when: str
    move: str
    said: str
    trial: int | None
    since: int
    undone: int | None
    directives: Sequence[Read]
    tests: Sequence[tuple[str, Claim]]
    progress: tuple[str, Claim] | None
    table: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Feedback:
    """The chapter: turns in order, one axis for what their suggestions changed, and the design
    that was agreed on at the end (its text, and what its full trainings read)."""

    turns: Sequence[Said]
    axis: Axis | None
    metric: str
    agreed: tuple[str, str] | None = None


def feedback(result: SearchResult, claims: Sequence[Claim]) -> Feedback | None:
    """None where nobody said anything that became a directive, and no design was agreed on."""
    known = history(result.path, result.info.said)
    said = [turn for turn, _ in known]
    held = {t.number for t in in_force(said)}
    undone = {t.undoes: t.number for t in said if t.undoes is not None}
    turns = []
    for turn, before in known:
        if not turn.directives:
            continue
        family = f"turn {turn.number}"
        own = [c for c in claims if c.family == family]
        made = {c.about: c for c in own if c.kind == "directive"}
        progress = next((c for c in own if c.kind == "progress"), None)
        turns.append(
            Said(
                turn.number,
                f"{datetime.fromtimestamp(turn.at, UTC):%Y-%m-%d %H:%M} UTC",
                MOVES.get(turn.move, turn.move),
                turn.said,
                turn.trial,
                turn.since,
                None if turn.number in held else undone.get(turn.number),
                [_read(text, made.get(text)) for text in shown(turn, before)],
                [(sentence(c), c) for c in own if c.kind == "suggestion"],
                None if progress is None else (sentence(progress), progress),
                [] if progress is None else _table(result, progress),
            )
        )
    tests = [c for t in turns for _, c in t.tests]
    metric = tests[0].metric if tests else ""
    finals = [t for t in in_force(said) if t.move == "final"]
    agreed = (finals[-1].about, finals[-1].answer) if finals else None
    axis = interval_axis(tests)
    return Feedback(turns, axis, metric, agreed) if turns or agreed else None


def _read(words: str, claim: Claim | None) -> Read:
    """The claim's sentence without the directive's own words, which stand before it."""
    if claim is None:
        return Read(words, "", None)
    lead = f"{(claim.family or '').capitalize()}: {words}."
    return Read(words, sentence(claim).removeprefix(lead).strip(), claim)


def _table(result: SearchResult, c: Claim) -> list[tuple[str, str, str]]:
    """The best design before a turn and now, in every objective, and the front's size."""
    trials = result.trials.set_index("number")
    pair = [None if n is None else int(n) for n in (c.alternative, c.chosen)]
    rows = [trials.loc[n] if n in trials.index else None for n in pair]

    def line(name: str, texts: Sequence[str]) -> tuple[str, str, str]:
        return (name, texts[0] or "–", texts[1] or "–")

    best = ["" if n is None else f"trial {n}" for n in pair]
    found = [line("best design", best)]
    names = [o.name for o in result.info.objectives]
    names += [n for n in (f"test_{names[0]}",) if f"m.{n}" in trials]
    for name in names:
        texts = ["" if row is None else metric_text(row, name) for row in rows]
        found.append(line(name.replace("_", " "), texts))
    fronts = [value(c.side_effects[f"front_{when}"], "designs") for when in ("before", "now")]
    return [*found, line("designs on the front", fronts)]

"""What directives did: counts and single readings from before and since, as the run recorded them.

Nothing here is estimated, and nothing says that a directive was the cause: a search goes on
getting better by itself. What a suggestion changes is measured apart (`suggestions`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from raynas.directives import Directive, Turn, in_force, listing
from raynas.errors import UserError
from raynas.explanation.claims import Claim
from raynas.explanation.designs import Make
from raynas.front import front_of
from raynas.history import History, left_of, replaced, shown, spans
from raynas.objective import COSTS
from raynas.run import RunInfo

PROPOSED = ("search", "uniform_probe")  # purposes of what a search proposes by itself
Fields = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """What a directive is judged by.

    Attributes:
        judged: the part of it that nothing replaced later.
        since: what the search proposed while the directive held; before: what it had before.
        trials: all of the run.
        past: what the run was before it; its front is that of then.
    """

    directive: Directive
    judged: Directive
    turn: Turn
    since: pd.DataFrame
    before: pd.DataFrame
    trials: pd.DataFrame
    info: RunInfo
    past: RunInfo


def claims(make: Make, info: RunInfo, trials: pd.DataFrame, history: History) -> Iterator[Claim]:
    """One claim for every directive, those taken back too, and one for every turn in force.

    Args:
        trials: all trials of the run.
        history: every turn and what held before it.
    """
    said = [turn for turn, _ in history]
    held = in_force(said)
    proposed = trials[trials["purpose"].isin(PROPOSED) & ~_withdrawn(trials)]
    for turn, state in history:
        past = replace(info, problem=state.problem, state=state)
        if turn in held and turn.directives:
            yield _progress(make, info, past, turn, trials, len(_from(proposed, turn.since)))
        for d, words in zip(turn.directives, shown(turn, state), strict=True):
            since = _within(proposed, spans(said, turn, d))
            before = proposed[proposed["number"] < turn.since]
            record = Record(d, left_of(held, turn, d), turn, since, before, trials, info, past)
            yield _directive(make, record, words, said, turn in held)


def _directive(
    make: Make, record: Record, words: str, said: Sequence[Turn], in_force_now: bool
) -> Claim:
    d, turn = record.directive, record.turn
    other = replaced(in_force(said), turn, d) if in_force_now else None
    undone = next((t for t in said if t.undoes == turn.number), None)
    status, by = "in force", None
    if not in_force_now:
        status, by = "taken back", undone
    elif other is not None:
        status, by = "replaced", other
    found: Fields = {
        "method_args": d.kind,
        "family": f"turn {turn.number}",
        "path": ", ".join(d.paths) or None,
        "chosen": listing(d.options) if d.options else None,
        "status": status,
        "scope": {"type": "archive", "predicate": None if by is None else f"turn {by.number}"},
        "n_trials": len(record.since),
        "trial_ids": [],
        "method": "count of what was proposed since",
        "fidelity": None,
    }
    found |= RESULTS[d.kind](record) if d.kind in RESULTS else {}
    return make("directive", "recorded", "asserts", words, **found)


def _kept(record: Record) -> Fields:
    """Of a pin or prohibition: how many designs keep it."""
    d, since = record.judged, record.since
    keeps = pd.Series(True, index=since.index)
    for path in d.paths:
        answers = _answers(since, path)
        keeps &= answers.isna() | (answers.isin(d.options) == (d.kind == "pin"))
    return _shares(int(keeps.sum()), len(since))


def _had(record: Record) -> Fields:
    """Of an addition: how many designs have what was added."""
    d, since = record.directive, record.since
    wanted = {path: d.options for path in d.paths}
    if d.decision is not None:
        wanted = {d.decision.name: tuple(o for o in d.decision.options if o != d.before)}
    has = pd.Series(False, index=since.index)
    for path, options in wanted.items():
        has |= _answers(since, path).isin(options)
    return _shares(int(has.sum()), len(since))


def _preferred(record: Record) -> Fields:
    """Of a preference: how many of the answers are preferred ones, since and before."""
    d = record.directive

    def counts(rows: pd.DataFrame) -> tuple[int, int]:
        answers = [_answers(rows, path).dropna() for path in d.paths]
        return sum(int(a.isin(d.options).sum()) for a in answers), sum(map(len, answers))

    return _shares(*counts(record.since), *counts(record.before))


def _limited(record: Record) -> Fields:
    """Of a limit: how many designs were refused for it, and how many of the others keep it."""
    d, since = record.directive, record.since
    reads, keeps = _reach(since, d)
    if d.metric in COSTS:
        refused = int((~keeps & (reads["status"] == "infeasible")).sum())
        return _shares(refused, len(since)) | {"metric": d.metric}
    return _shares(int(keeps.sum()), len(reads)) | {"metric": d.metric}


def _aimed(record: Record) -> Fields:
    """Of a reference point: how many of the trained designs reach it, since and before."""
    found: list[int] = []
    for rows in (record.since, record.before):
        reads, keeps = _reach(rows[rows["status"] == "finished"], record.directive)
        found += [int(keeps.sum()), len(reads)]
    return _shares(*found) | {"metric": record.directive.metric}


def _ordered(record: Record) -> Fields:
    """Of an order: which design stood first, and which stands there now."""
    was = front_of(record.trials[record.trials["number"] < record.turn.since], record.past)
    now = front_of(record.trials, record.info)
    chosen, alternative = (str(f.iloc[0]["number"]) if len(f) else None for f in (now, was))
    return {"chosen": chosen, "alternative": alternative, "method": "the best of the front"}


def _tried(record: Record) -> Fields:
    """Of a design to try: which trial it was, and what that read."""
    info, trials = record.info, record.trials
    try:
        design = info.space.parse(record.directive.architecture)
    except UserError:
        return {"method": "not found in the space"}
    texts = {str(design), str(info.space.plainest(design))}
    rows = trials[trials["architecture"].isin(texts)]
    late = _from(rows, record.turn.since)
    rows = late if len(late) else rows
    if not len(rows):
        return {"method": "not tried yet"}
    name, unit = info.objectives[0].name, info.objectives[0].unit
    column = f"m.{name}"
    read = rows.dropna(subset=[column]) if column in rows else rows.iloc[:0]
    row = (read if len(read) else rows).iloc[0]
    found: Fields = {"trial": int(row["number"]), "trial_ids": [int(row["number"])], "n_trials": 1}
    if len(read):
        found |= {"estimate": float(row[column]), "metric": name, "unit": unit}
        found["fidelity"] = float(row["fidelity"]) or None
    return found | {"method": "reading of one trial"}


RESULTS: Mapping[str, Callable[[Record], Fields]] = {
    "pin": _kept,
    "forbid": _kept,
    "add": _had,
    "prefer": _preferred,
    "limit": _limited,
    "aim": _aimed,
    "order": _ordered,
    "try": _tried,
}


def _shares(hits: int, count: int, hits_before: int = 0, count_before: int = 0) -> Fields:
    """A count of `count`, as a share of it; and the like before."""
    side = {"hits": float(hits), "of": float(count)}
    if count_before:
        side |= {"hits_before": float(hits_before), "of_before": float(count_before)}
        side["first"] = hits_before / count_before
    share = hits / count if count else None
    return {"side_effects": side, "estimate": share, "unit": "share"}


def _progress(
    make: Make, info: RunInfo, past: RunInfo, turn: Turn, trials: pd.DataFrame, count: int
) -> Claim:
    """The best design and the front, before a turn and now."""
    was = front_of(trials[trials["number"] < turn.since], past)
    now = front_of(trials, info)
    objective = info.objectives[0]
    side = {"front_before": float(len(was)), "front_now": float(len(now))}
    numbers = [str(f.iloc[0]["number"]) if len(f) else None for f in (now, was)]
    after, before = (_reading(f, objective.name) for f in (now, was))
    side |= {n: v for n, v in (("design", after), ("reference", before)) if v is not None}
    passed = ""
    if after is not None and before is not None and objective.loss(before) < objective.loss(after):
        passed = "behind" if (now["number"] == int(numbers[1] or -1)).any() else "left out"
    return make(
        "progress",
        "recorded",
        "asserts",
        f"what came after turn {turn.number}",
        family=f"turn {turn.number}",
        trial=None if numbers[0] is None else int(numbers[0]),
        chosen=numbers[0],
        alternative=numbers[1],
        metric=objective.name,
        unit=objective.unit,
        estimate=None if after is None or before is None else after - before,
        n_trials=count,
        trial_ids=[int(n) for n in dict.fromkeys(numbers) if n is not None],
        side_effects=side,
        method="single readings of the best of the front",
        method_args=passed,
        status="in force",
    )


def _reading(front: pd.DataFrame, metric: str) -> float | None:
    """What its best design reads; None where it was not told."""
    found = front.iloc[0].get(f"m.{metric}") if len(front) else None
    return None if found is None or pd.isna(found) else float(found)


def _answers(rows: pd.DataFrame, path: str) -> pd.Series[Any]:
    if f"d.{path}" not in rows:
        return pd.Series([None] * len(rows), index=rows.index, dtype=object)
    return rows[f"d.{path}"].astype(object)


def _reach(rows: pd.DataFrame, d: Directive) -> tuple[pd.DataFrame, pd.Series[bool]]:
    """The rows that were read in a bound's metric, and which of them keep it."""
    column = f"m.{d.metric}"
    reads = rows.dropna(subset=[column]) if column in rows else rows.iloc[:0]
    if d.bound is None or column not in rows:
        return reads, pd.Series(True, index=reads.index)
    gap = reads[column].astype(float) - d.bound
    return reads, (gap if d.sense == "max" else -gap) <= 0


def _withdrawn(trials: pd.DataFrame) -> pd.Series[bool]:
    """Designs that were never begun, because of what was said before they could be."""
    return trials["error"].fillna("").astype(str).str.startswith("not begun")


def _from(rows: pd.DataFrame, number: int) -> pd.DataFrame:
    kept: pd.DataFrame = rows[rows["number"] >= number]
    return kept


def _within(rows: pd.DataFrame, found: Sequence[tuple[int, int | None]]) -> pd.DataFrame:
    inside = pd.Series(False, index=rows.index)
    for start, end in found:
        numbers = rows["number"]
        inside |= (numbers >= start) & (numbers < (numbers.max() + 1 if end is None else end))
    kept: pd.DataFrame = rows[inside]
    return kept

"""How the search got to the chosen design: its ancestors, and what each change gained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raynas.architecture import Architecture, changes
from raynas.explanation.claims import Claim
from raynas.explanation.sentences import quantity, value
from raynas.report.sections import metric_text
from raynas.report.words import change, changed_text, named, signed, unit
from raynas.result import SearchResult

MOST_ANCESTORS = 40


@dataclass(frozen=True)
class Step:
    """One ancestor of the chosen design.

    Attributes:
        gained: what its change gained over its first parent, and what was predicted.
        claims: ids of what `gained` is from.
    """

    number: int
    reading: str
    kind: str
    note: str
    parents: Sequence[int]
    changed: Sequence[str]
    turned_away: Sequence[Mapping[str, Any]]
    scores: Sequence[str]
    purpose: str
    gained: Sequence[str]
    claims: str


def ancestors(result: SearchResult) -> dict[int, list[int]]:
    """The best design and what it descends from, each with its parents; the nearest if many."""
    proposals = result.proposals.set_index("number")["parents"]
    open_ = [int(result.front().iloc[0]["number"])]
    found = dict.fromkeys(open_)
    while open_ and len(found) < MOST_ANCESTORS:
        parents = [int(p) for n in open_ if n in proposals.index for p in proposals[n]]
        open_ = [p for p in dict.fromkeys(parents) if p not in found]
        found |= dict.fromkeys(open_)
    return {n: [int(p) for p in proposals[n]] for n in sorted(found) if n in proposals.index}


def history(result: SearchResult, claims: Sequence[Claim] = ()) -> list[Step]:
    """From the first ancestors of the best design to the design itself; the latest if many."""
    proposals = result.proposals.set_index("number")
    trials = result.trials.set_index("number")
    told = {c.trial: c for c in claims if c.kind == "provenance" and c.trial is not None}
    steps = []
    for number, parents in ancestors(result).items():
        row = proposals.loc[number].to_dict()
        reading = ""
        if number in trials.index:
            trial = trials.loc[number]
            read = dict.fromkeys([*result.info.objectives, *result.info.searched])
            known = [(named(o.name), metric_text(trial, o.name)) for o in read]
            reading = ", ".join(f"{name} {text}" for name, text in known if text)
        design = Architecture.parse(row["architecture"])
        turned = [_turned_away(design, c) for c in row["candidates"]]
        scores = [f"{named(n)} {_score(s, n)}" for n, s in row["scores"]]
        changed = changed_text([(c["decision"], c["before"], c["after"]) for c in row["changed"]])
        about = (row["kind"], row["note"], parents, changed, turned, scores)
        purpose = str(row["purpose"]).replace("_", " ")
        claim = told.get(number)
        ids = claim.claim_id if claim else ""
        steps.append(Step(number, reading, *about, purpose, _gained(claim), ids))
    return steps


def _gained(c: Claim | None) -> list[str]:
    if c is None or c.estimate is None:
        return []
    said = [f"{change(c)} in {quantity(c.metric)} over its parent"]
    if "predicted" in c.side_effects:
        text = f"{signed(c.side_effects['predicted'], c.metric)} {unit(c)}".rstrip()
        said.append(f"predicted: {text}")
    return said


def _turned_away(design: Architecture, candidate: Mapping[str, Any]) -> dict[str, Any]:
    other = Architecture.parse(candidate["architecture"])
    differs = changed_text([(n, a, b) for n, a, b in changes(design, other)])
    return {
        "why": candidate["rejected_by"],
        "differs": ", ".join(differs) or "the same design",
        "design": candidate["architecture"],
        "score": "" if candidate["score"] is None else f"{candidate['score']:.4g}",
    }


def _score(number: float, name: str) -> str:
    return value(number, name) if quantity(name) != name else f"{number:.4g}"

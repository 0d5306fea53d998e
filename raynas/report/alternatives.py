"""The alternatives to the chosen design: what the marks of its forest plot mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raynas.explanation.claims import Claim
from raynas.objective import Objective
from raynas.report.contributions import side

MOST_OPEN = 6  # layers whose alternatives are shown at once; of more, the clearest are
MOST_CLEAR = 14


@dataclass(frozen=True)
class Form:
    """A mark of the legend: words, and what it is a mark of."""

    words: str
    verdict: str
    tier: str
    side: str


def forms(contrasts: Sequence[Claim], objectives: Sequence[Objective]) -> list[Form]:
    """The marks that occur, for the legend."""
    known = {o.name: o for o in objectives}
    ways = [
        side(c.estimate or 0.0, known.get(c.metric, Objective(c.metric, "max"))) for c in contrasts
    ]
    met = {(c.verdict, way) for c, way in zip(contrasts, ways, strict=True)}
    found = []
    for verdict, sure in (("asserts", "asserted"), ("leans", "likely")):
        for way, winner in (("better", "chosen option"), ("worse", "alternative")):
            if (verdict, way) in met:
                found.append(Form(f"{sure}: the {winner} is better", verdict, "", way))
    if any(c.verdict == "open" for c in contrasts):
        found.append(Form("open: it cannot be told from chance", "open", "", ""))
    if any(c.verdict == "null" for c in contrasts):
        found.append(Form("proven to be the same network", "null", "", ""))
    if any(c.tier == "measured" for c in contrasts):
        found.append(Form("square: this change was retrained", "open", "measured", ""))
    return found


def clearest(contrasts: Sequence[Claim], layers: int) -> list[list[Claim]]:
    """Of many layers the alternatives that are known best, by decision: what was retrained, then
    what is surest and largest; empty for few layers, where all can be seen."""
    if layers <= MOST_OPEN:
        return []
    known = [
        c
        for c in contrasts
        if c.tier == "measured" or c.audit_trial_ids or c.verdict in ("asserts", "leans")
    ]
    known.sort(key=lambda c: (not c.audit_trial_ids, c.tier != "measured", *_doubt(c)))
    groups: dict[str, list[Claim]] = {}
    for c in known[:MOST_CLEAR]:
        groups.setdefault(c.path or "", []).append(c)
    return list(groups.values())


def _doubt(c: Claim) -> tuple[bool, float]:
    return c.verdict != "asserts", -abs(c.estimate or 0.0)

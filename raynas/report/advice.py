"""What it would cost to save: edits of the chosen design, and the other members of the front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from raynas.explanation.claims import Claim
from raynas.objective import COSTS
from raynas.report.axes import Axis, interval_axis
from raynas.report.words import percent_change, signed

GROUPS = (("saving", "Cheaper"), ("best untried edit", "Better, and not tried yet"))
MOST_MEMBERS = 8  # of the front
PER = "per "  # begins what is no ratio of costs but a rate of exchange


@dataclass(frozen=True)
class Offer:
    """What to change, and each cost's change as text ('' where it is not known).

    Attributes:
        claim: that is drawn; `claims`: the ids of all that it is from.
        rate: what a tenth of a cost is exchanged for.
    """

    what: str
    before: str
    after: str
    costs: Sequence[str]
    claim: Claim
    claims: str
    rate: str = ""


@dataclass(frozen=True)
class Group:
    """Offers of one sort; those of edits share an axis, those of trials another."""

    title: str
    offers: Sequence[Offer]
    axis: Axis | None


@dataclass(frozen=True)
class Advice:
    """Offers in groups; `costs` names the columns.

    Attributes:
        left_out: members of the front that are not listed.
    """

    costs: Sequence[str]
    groups: Sequence[Group]
    left_out: int


def advice(claims: Sequence[Claim]) -> Advice | None:
    """None without an edit to advise; members of the front are listed beside edits."""
    edits = [c for c in claims if c.kind == "advice" and c.estimate is not None]
    if not edits:
        return None
    members = [c for c in claims if c.kind == "tradeoff" and c.side_effects]
    all_ = [*edits, *members]
    met = dict.fromkeys(n for c in all_ for n in c.side_effects if not n.startswith(PER))
    costs = [n for n in met if n in COSTS] or list(met)
    shared = interval_axis(edits)
    groups = [Group(title, _edits(edits, family, costs), shared) for family, title in GROUPS]
    listed = members[:MOST_MEMBERS]
    title = "Other members of the front, as they were read"
    groups.append(Group(title, _members(listed, costs), interval_axis(listed)))
    return Advice(
        [n.replace("_", " ") for n in costs],
        [group for group in groups if group.offers],
        max(0, len(members) - MOST_MEMBERS),
    )


def _edits(edits: Sequence[Claim], family: str, costs: Sequence[str]) -> list[Offer]:
    """One offer per edit; the same edit may save several costs."""
    found: dict[tuple[str | None, str | None], Offer] = {}
    for c in edits:
        if c.family != family:
            continue
        key, rate = (c.path, c.alternative), _rate(c)
        if key in found:
            rate = ", ".join(filter(None, [found[key].rate, rate]))
            found[key] = replace(found[key], rate=rate, claims=f"{found[key].claims} {c.claim_id}")
        else:
            names = (c.path or c.about, c.chosen or "", c.alternative or "")
            found[key] = Offer(*names, _said(c, costs), c, c.claim_id, rate)
    return list(found.values())


def _members(members: Sequence[Claim], costs: Sequence[str]) -> list[Offer]:
    return [
        Offer("", f"trial {c.alternative}", f"trial {c.chosen}", _said(c, costs), c, c.claim_id)
        for c in members
    ]


def _said(c: Claim, costs: Sequence[str]) -> list[str]:
    return [percent_change(c.side_effects[n]) if n in c.side_effects else "" for n in costs]


def _rate(c: Claim) -> str:
    rates = [(n, v) for n, v in c.side_effects.items() if n.startswith(PER)]
    return ", ".join(f"{signed(v, c.metric)} {n.replace('_', ' ')}" for n, v in rates)

"""What the decisions of a design add, as a picture of the design shows it at its parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from raynas.explanation.claims import Claim
from raynas.objective import Objective
from raynas.report.words import change, signed, unit


@dataclass(frozen=True)
class Gain:
    """What a part of a design adds to the level of the design it is compared with.

    Attributes:
        text: the sum over the decisions that made the part, signed.
        weight: its size beside the largest of the design's parts, from 0 to 1.
        side: `better`, `worse` or `even`.
        title: each decision's own contribution.
        claims: ids.
    """

    text: str
    weight: float
    side: str
    title: str
    claims: str


@dataclass(frozen=True)
class Contributions:
    """The attribution of one design against one reference."""

    reference: str
    metric: str
    unit: str
    claims: Sequence[Claim]
    objective: Objective

    def gains(self, parts: Sequence[Iterable[str]]) -> list[Gain | None]:
        """One gain per part; None for a part without a claim.

        Args:
            parts: of each part of the design, the decisions that made it.
        """
        by = {c.path: c for c in self.claims}
        groups = [[by[name] for name in names if name in by] for names in parts]
        sums = [sum(c.estimate or 0.0 for c in group) for group in groups]
        largest = max((abs(total) for total in sums), default=0.0) or 1.0
        return [
            Gain(
                signed(total, self.metric),
                round(abs(total) / largest, 3),
                side(total, self.objective),
                "; ".join(f"{c.path} {c.chosen} {change(c)} (claim {c.claim_id})" for c in group),
                " ".join(c.claim_id for c in group),
            )
            if group
            else None
            for total, group in zip(sums, groups, strict=True)
        ]


def side(number: float, objective: Objective) -> str:
    """Whether a change of an objective is for the better."""
    loss = objective.loss(number)
    return "even" if loss == 0 else "better" if loss < 0 else "worse"


def contributions(
    claims: Sequence[Claim], trial: int, objectives: Sequence[Objective]
) -> list[Contributions]:
    """The attributions of a trial, one per reference, the average design first."""
    known = {o.name: o for o in objectives}
    groups: dict[tuple[str, str], list[Claim]] = {}
    for c in claims:
        if c.kind == "attribution" and c.trial == trial and c.estimate is not None:
            groups.setdefault((c.alternative or "", c.metric), []).append(c)
    found = [
        Contributions(
            reference,
            metric,
            unit(group[0]),
            sorted(group, key=lambda c: -abs(c.estimate or 0.0)),
            known.get(metric, Objective(metric, "max")),
        )
        for (reference, metric), group in groups.items()
    ]
    return sorted(found, key=lambda f: f.reference != "average")

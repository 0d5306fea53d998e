"""A few terms with points, by which a person can tell which of two designs will do better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raynas.architecture import Architecture
from raynas.explanation.claims import Claim
from raynas.explanation.features import Described
from raynas.explanation.scorecard import counted
from raynas.report.words import Fidelity, fidelity
from raynas.space import Space


@dataclass(frozen=True)
class Term:
    """One line: what to count, the points for each, and what the chosen design has."""

    name: str
    points: str
    count: str
    product: str


@dataclass(frozen=True)
class Scorecard:
    """`base` is what every design begins with; `total` the chosen design's sum, '' where its
    counts are not known."""

    claim: Claim
    base: str
    terms: Sequence[Term]
    total: str
    fidelity: Sequence[Fidelity]


def scorecard(
    claims: Sequence[Claim], space: Space, design: Architecture | None
) -> Scorecard | None:
    """None without a claim that holds a scorecard."""
    found = next((c for c in claims if c.kind == "scorecard" and c.alternatives), None)
    if found is None:
        return None
    names = [str(a["value"]) for a in found.alternatives]
    counts = _counts(space, design, names) if design is not None else {}
    base = found.side_effects.get("base", 0.0)
    terms, total = [], base
    for a in found.alternatives:
        name, points = str(a["value"]), float(a["estimate"] or 0.0)
        count = counts.get(name)
        total += points * (count or 0.0)
        said = ("", "") if count is None else (f"{count:.4g}", _points(points * count))
        terms.append(Term(name, _points(points), *said))
    whole = len(counts) == len(names)
    text = _points(total) if whole else ""
    return Scorecard(found, _points(base), terms, text, fidelity(found))


def _points(number: float) -> str:
    text = f"{number:+.1f}".replace("-", "−")
    return text if round(number, 1) else "0.0"


def _counts(space: Space, design: Architecture, names: Sequence[str]) -> Mapping[str, float]:
    """The design's count of each term, as far as the space knows the terms."""
    known, values = Described(space).human([design])
    found = {}
    for name in names:
        if name in known or name.rpartition(" >= ")[0] in known:
            found[name] = float(counted(name, known, values)[0])
    return found

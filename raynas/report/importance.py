"""How much of the metric's variance each decision has, alone and in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raynas.explanation.claims import Claim
from raynas.report.words import share

MOST_ROWS = 16  # decisions drawn, the most important first
MOST_SIDE = 12  # decisions of the matrix
WHOLE = "whole space"
TOGETHER = "*."  # begins the name of a decision in all layers


@dataclass(frozen=True)
class Bar:
    """A share of one family; `style` is its number among the families, positions in per cent."""

    style: int
    end: float
    low: float | None
    high: float | None
    claim: Claim


@dataclass(frozen=True)
class Row:
    decision: str
    bars: Sequence[Bar]


@dataclass(frozen=True)
class Segment:
    """A part of the whole variance: its name, share in per cent, text and the claims' ids."""

    name: str
    width: float
    text: str
    claims: str


@dataclass(frozen=True)
class Matrix:
    """Pairwise shares; a cell is (claim, heat from 0 to 1) or None where nothing is claimed."""

    names: Sequence[str]
    rows: Sequence[Sequence[tuple[Claim, float] | None]]
    left_out: int


@dataclass(frozen=True)
class Importance:
    """Shares per decision and family, how the whole divides, and pairs.

    Attributes:
        top: the share at the right end of the bars, as text.
        left_out: decisions that are not drawn.
    """

    families: Sequence[str]
    rows: Sequence[Row]
    top: str
    segments: Sequence[Segment]
    matrix: Matrix | None
    left_out: int


def importance(claims: Sequence[Claim]) -> Importance | None:
    """None without claims about importance."""
    found = [c for c in claims if c.kind == "importance" and c.estimate is not None]
    pairs = [c for c in claims if c.kind == "interaction" and c.estimate is not None]
    mains = [c for c in found if c.path]
    if not mains:
        return None
    families = sorted(dict.fromkeys(c.family or "" for c in mains), key=lambda f: f != WHOLE)
    by = {(c.path, c.family or ""): c for c in mains}
    order = sorted(
        dict.fromkeys(c.path or "" for c in mains),
        key=lambda path: [-_size(by.get((path, family))) for family in families],
    )
    top = max([0.01, *(max(c.estimate or 0.0, c.ci_high or 0.0) for c in mains)])
    rows = [
        Row(path, [_bar(by[path, f], i, top) for i, f in enumerate(families) if (path, f) in by])
        for path in order[:MOST_ROWS]
    ]
    whole = [c for c in found if (c.family or "") == WHOLE]
    left_out = max(0, len(order) - MOST_ROWS)
    return Importance(
        families, rows, share(top), _segments(whole, pairs), _matrix(pairs, order), left_out
    )


def _bar(c: Claim, style: int, top: float) -> Bar:
    def at(number: float | None) -> float | None:
        return None if number is None else round(100 * min(max(number / top, 0.0), 1.0), 2)

    return Bar(style, at(c.estimate) or 0.0, at(c.ci_low), at(c.ci_high), c)


def _size(c: Claim | None) -> float:
    return 0.0 if c is None else c.estimate or 0.0


def _segments(whole: Sequence[Claim], pairs: Sequence[Claim]) -> list[Segment]:
    """Single decisions, pairs, and what neither explains, over the whole space."""
    parts = [
        ("single decisions", [c for c in whole if c.path and not c.path.startswith(TOGETHER)]),
        ("pairs of decisions below", list(pairs)),
        ("three and more together", [c for c in whole if not c.path]),
    ]
    sums = [sum(max(c.estimate or 0.0, 0.0) for c in group) for _, group in parts]
    total = max(sum(sums), 1.0)
    segments = [
        Segment(name, round(100 * amount / total, 2), share(amount), _ids(group))
        for (name, group), amount in zip(parts, sums, strict=True)
        if group
    ]
    rest = 1.0 - sum(sums)
    if whole and rest > 0.005:
        said = "all other pairs" if len(segments) == len(parts) else "not told apart"
        segments.insert(-1, Segment(said, round(100 * rest, 2), share(rest), _ids(whole)))
    return segments


def _matrix(pairs: Sequence[Claim], order: Sequence[str]) -> Matrix | None:
    """Decisions by the importance they have in pairs; of many, the first."""
    if not pairs:
        return None
    weight: dict[str, float] = {}
    for c in pairs:
        for name in (c.path or "", c.alternative or ""):
            weight[name] = weight.get(name, 0.0) + max(c.estimate or 0.0, 0.0)
    kept = set(sorted(weight, key=lambda n: -weight[n])[:MOST_SIDE])
    names = [n for n in [*order, *(n for n in weight if n not in order)] if n in kept]
    top = max(_size(c) for c in pairs) or 1.0
    by = {frozenset((c.path, c.alternative)): c for c in pairs}

    def cell(a: str, b: str) -> tuple[Claim, float] | None:
        c = by.get(frozenset((a, b)))
        return None if c is None or a == b else (c, round(max(_size(c) / top, 0.0), 3))

    rows = [[cell(a, b) for b in names[:i]] for i, a in enumerate(names)]
    drawn = sum(c is not None for row in rows for c in row)
    return Matrix(names, rows, len(by) - drawn)


def _ids(claims: Sequence[Claim]) -> str:
    return " ".join(c.claim_id for c in claims)

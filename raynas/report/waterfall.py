"""From a reference to the chosen design, decision by decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raynas.explanation.claims import Claim
from raynas.explanation.sentences import plural, value
from raynas.report.axes import Axis, axis
from raynas.report.contributions import Contributions, side
from raynas.report.words import signed, span

MOST_STEPS = 14  # drawn one by one; the smallest of more are one step
SMALL = 1e-9


@dataclass(frozen=True)
class Step:
    """One bar: from where the level was to where it is with this decision.

    Attributes:
        start, end: positions in per cent of the axis.
        low, high: of the interval of its end; None without one.
        claims: ids.
    """

    name: str
    option: str
    start: float
    end: float
    low: float | None
    high: float | None
    text: str
    span: str
    side: str
    verdict: str
    claims: str


@dataclass(frozen=True)
class Waterfall:
    """All steps from one reference; `first` and `last` are (name, level as text, position)."""

    trial: int
    metric: str
    unit: str
    level: str
    axis: Axis
    first: tuple[str, str, float]
    last: tuple[str, str, float]
    steps: Sequence[Step]


def waterfall(found: Contributions) -> Waterfall | None:
    """None where the claims do not say what the reference reaches."""
    claim = found.claims[0]
    if not {"reference", "design"} <= set(claim.side_effects):
        return None
    base, top = claim.side_effects["reference"], claim.side_effects["design"]
    single = found.claims
    rest: Sequence[Claim] = ()
    if len(single) > MOST_STEPS:
        single, rest = single[: MOST_STEPS - 1], single[MOST_STEPS - 1 :]
    levels = [base]
    for c in single:
        levels.append(levels[-1] + (c.estimate or 0.0))
    ends = [
        level + (end - (c.estimate or 0.0))
        for level, c in zip(levels[1:], single, strict=True)
        for end in (c.ci_low, c.ci_high)
        if end is not None
    ]
    others = sum(c.estimate or 0.0 for c in rest)
    scale = axis([base, top, *levels, *ends, levels[-1] + others], found.metric, linear=True)
    steps = [_step(c, level, scale, found) for c, level in zip(single, levels, strict=False)]
    level = levels[-1]
    if rest:
        ids = " ".join(c.claim_id for c in rest)
        name = f"{plural(len(rest), 'smaller contribution')} together"
        steps.append(_plain(name, level, others, scale, found, ids))
        level += others
    if abs(top - level) > SMALL + 0.005 * abs(top - base):
        ids = " ".join(c.claim_id for c in found.claims)
        steps.append(_plain("not told apart", level, top - level, scale, found, ids))
    reference = "the average design" if found.reference == "average" else found.reference
    return Waterfall(
        claim.trial or 0,
        found.metric,
        found.unit,
        f"{100 * claim.ci_level:.0f} %",
        scale,
        (reference, value(base, found.metric), scale.at(base)),
        (f"trial {claim.trial}", value(top, found.metric), scale.at(top)),
        steps,
    )


def _step(c: Claim, level: float, scale: Axis, found: Contributions) -> Step:
    gain = c.estimate or 0.0
    known = c.ci_low is not None and c.ci_high is not None
    low, high = (
        (scale.at(level + (c.ci_low or 0.0)), scale.at(level + (c.ci_high or 0.0)))
        if known
        else (None, None)
    )
    return Step(
        c.path or c.about,
        c.chosen or "",
        scale.at(level),
        scale.at(level + gain),
        low,
        high,
        signed(gain, c.metric),
        span(c),
        side(gain, found.objective),
        c.verdict,
        c.claim_id,
    )


def _plain(
    name: str, level: float, gain: float, scale: Axis, found: Contributions, ids: str
) -> Step:
    text, where = signed(gain, found.metric), (scale.at(level), scale.at(level + gain))
    return Step(name, "", *where, None, None, text, "", side(gain, found.objective), "open", ids)

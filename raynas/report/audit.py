"""Claims that were put to the test: retrained, and right or wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from raynas.explanation.audit import Tested as Test
from raynas.explanation.audit import tested as tests
from raynas.explanation.claims import Claim
from raynas.explanation.sentences import sentence
from raynas.report.axes import Axis, interval_axis
from raynas.report.words import share

RIGHT = {"confirmed": "right", "refuted": "wrong"}


@dataclass(frozen=True)
class Tested:
    """A claim as it was put to the test, what it said, and the ids of it then and now."""

    claim: Claim
    said: str
    ids: str


@dataclass(frozen=True)
class Audit:
    """The audit and every claim that it tested.

    Attributes:
        claim: the audit's own.
        right, tested: how many.
        rate: right of tested, with its interval.
        expected: how many would be right if all were true, given the noise of seeds; '' if unknown.
        tested: audited claims as they were before, and the ids of what they were and are.
    """

    claim: Claim
    right: int
    count: int
    rate: str
    interval: str
    expected: str
    tested: Sequence[Tested]
    axis: Axis | None


def audit(
    claims: Sequence[Claim], trials: pd.DataFrame | None = None, before: pd.DataFrame | None = None
) -> Audit | None:
    """None where nothing was audited.

    Args:
        trials, before: all trials, and the audited claims as they were before their test, by which
            they are judged: those of today know its outcome, or are of another design by now.
    """
    found = next((c for c in claims if c.kind == "audit" and c.estimate is not None), None)
    if found is None:
        return None
    tested = [_today(c) for c in claims if c.status in RIGHT and c.audit_trial_ids]
    if trials is not None and before is not None and len(before):
        now = {c.supersedes: c.claim_id for c in claims if c.supersedes}
        tested = [_then(t, now.get(t.claim.claim_id)) for t in tests(trials, before)]
    effects = found.side_effects
    right = effects.get("right", (found.estimate or 0.0) * found.n_trials)
    interval = ""
    if found.ci_low is not None and found.ci_high is not None:
        interval = f"{100 * found.ci_level:.0f} %: {share(found.ci_low)} to {share(found.ci_high)}"
    shown = [t.claim for t in tested]
    read = [c.audit_estimate for c in shown if c.audit_estimate is not None]
    return Audit(
        found,
        round(right),
        found.n_trials,
        share(found.estimate or 0.0),
        interval,
        f"{effects['expected']:.1f}" if "expected" in effects else "",
        tested,
        interval_axis(shown, read),
    )


def _today(c: Claim) -> Tested:
    return Tested(c, sentence(c), c.claim_id)


def _then(test: Test, now: str | None) -> Tested:
    shown = replace(
        test.claim,
        status="confirmed" if test.right else "refuted",
        audit_trial_ids=[*test.trials, *test.controls],
        audit_estimate=test.difference,
    )
    return Tested(shown, sentence(shown), " ".join(filter(None, [shown.claim_id, now])))

"""Claims put to the test: their edits are trained with fresh seeds, and they were right or wrong.

What was claimed is kept from before the test (`audited.parquet`), so that all that is said here
can be told from it and the trials alone. An edit is compared with fresh trainings of the design
that it changes, never with the reading by which that was chosen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import norm

from raynas.explanation.claims import Claim, from_frame
from raynas.explanation.designs import Make, binomial
from raynas.objective import Array


@dataclass(frozen=True)
class Tested:
    """A claim and what its test read.

    Attributes:
        trials: that trained the edit.
        controls: fresh trainings of the design itself.
        difference: mean of the design less mean of the edit, in the metric's unit.
        chance: that a test as noisy as this one finds the claim's sign, if the claim's own
            estimate and deviation are true.
    """

    claim: Claim
    trials: Sequence[int]
    controls: Sequence[int]
    difference: float
    chance: float

    @property
    def right(self) -> bool:
        """Whether the sign is the claimed one."""
        return self.difference * (self.claim.estimate or 0.0) > 0


def tested(trials: pd.DataFrame, audited: pd.DataFrame) -> list[Tested]:
    """The audited claims whose edit and whose design were both trained for it, in their order."""
    finished = trials[trials["status"] == "finished"]
    edits = finished[finished["purpose"] == "audit"]
    fresh = finished[finished["purpose"] == "confirm"]
    texts = trials.set_index("number")["architecture"]
    found = []
    for claim in from_frame(audited):
        own = fresh[fresh["architecture"] == texts.get(claim.trial)]
        other = edits[edits["architecture"] == claim.alternatives[0]["architecture"]]
        mine, theirs = _read(own, claim), _read(other, claim)
        if not len(mine) or not len(theirs):
            continue
        spread = noise(fresh, claim) * math.sqrt(1 / len(mine) + 1 / len(theirs))
        found.append(
            Tested(
                claim,
                [int(n) for n in other["number"]],
                [int(n) for n in own["number"]],
                float(mine.mean() - theirs.mean()),
                chance(claim, spread),
            )
        )
    return found


def claims(make: Make, trials: pd.DataFrame, audited: pd.DataFrame) -> Iterator[Claim]:
    """The claim that says how many of the tested claims were right; none without a test.

    Args:
        trials: all trials of the run.
        audited: the claims as they were before (`raynas.explanation.claims.read`).
    """
    found = tested(trials, audited)
    if not found:
        return
    hits, count = sum(t.right for t in found), len(found)
    low, high = binomial(hits, count)
    yield make(
        "audit",
        "measured",
        "asserts",
        f"{count} claims drawn at random",
        unit="share",
        estimate=hits / count,
        ci_low=low,
        ci_high=high,
        ci_kind="binomial",
        fidelity=found[0].claim.fidelity,
        n_trials=count,
        n_seeds=1,
        trial_ids=[n for t in found for n in t.trials],
        side_effects={"right": float(hits), "expected": sum(t.chance for t in found)},
        method="edits trained with fresh seeds, against fresh trainings of their design",
    )


def judged(found: Sequence[Claim], trials: pd.DataFrame, audited: pd.DataFrame) -> list[Claim]:
    """Contrasts with what became of them in an audit: confirmed or refuted, and by what.

    A claim of today is found by what it is about: it was made anew, from more trials, since. Its
    `supersedes` names the claim that was tested, and the status is that one's.
    """
    known = {_about(test.claim): test for test in tested(trials, audited)}
    return [_with(claim, known.get(_about(claim))) for claim in found]


def _with(claim: Claim, test: Tested | None) -> Claim:
    if test is None or claim.kind != "contrast":
        return claim
    return replace(
        claim,
        status="confirmed" if test.right else "refuted",
        audit_trial_ids=list(test.trials),
        audit_estimate=test.difference,
        supersedes=test.claim.claim_id,
    )


def _about(claim: Claim) -> tuple[object, ...]:
    return claim.trial, claim.path, claim.chosen, claim.alternative


def chance(claim: Claim, spread: float) -> float:
    """How probable it is that a test finds the claimed sign.

    The claim's own deviation is what its estimate and probability of the sign say; `spread` is
    the test's, in the metric's unit.
    """
    size, sure = abs(claim.estimate or 0.0), claim.p_sign if claim.p_sign is not None else 0.5
    if not size:
        return 0.5
    z = float(norm.ppf(min(max(sure, 0.5), 1 - 1e-12)))
    own = size / z if z > 0 else math.inf
    whole = math.hypot(own, spread)
    return float(norm.cdf(size / whole)) if math.isfinite(whole) else 0.5


def noise(fresh: pd.DataFrame, claim: Claim) -> float:
    """The deviation of one reading between seeds, pooled over designs that have several; else 0."""
    squares, freedom = 0.0, 0
    for _, rows in fresh.groupby("architecture", sort=False, observed=True):
        values = _read(rows, claim)
        if len(values) > 1:
            squares += float(((values - values.mean()) ** 2).sum())
            freedom += len(values) - 1
    return math.sqrt(squares / freedom) if freedom else 0.0


def _read(rows: pd.DataFrame, claim: Claim) -> Array:
    """The readings of the claim's metric at its fidelity."""
    curve, epoch = f"c.{claim.metric}", int(claim.fidelity or 0)
    if curve in rows and epoch:
        read = [c[epoch - 1] for c in rows[curve] if c is not None and len(c) >= epoch]
        return np.array(read, dtype=float)
    name = f"m.{claim.metric}"
    return rows[name].dropna().to_numpy(dtype=float) if name in rows else np.array([])

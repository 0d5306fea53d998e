"""Makes the claims of a run: adds what all of them share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from raynas.explanation.claims import Claim, Tier, Verdict, identify
from raynas.explanation.pool import answer, verdict
from raynas.objective import Array, Objective


@dataclass(frozen=True)
class Maker:
    """Makes claims about one metric of a run.

    Attributes:
        objective: what claims are about unless they say otherwise.
        dataset: its name, if there is one.
        snapshot: hash of the trials.
        fidelity: epochs at which the objective was read; None for scores and costs.
        trial_ids: the trials with readings; empty if there are very many.
        n_trials: how many have readings.
    """

    objective: Objective
    dataset: str | None
    snapshot: str
    fidelity: float | None
    trial_ids: Sequence[int]
    n_trials: int
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self, kind: str, tier: Tier, verdict: Verdict, about: str, **rest: Any) -> Claim:
        """A claim; what is not said is as for the whole run."""
        rest.setdefault("metric", self.objective.name)
        rest.setdefault("unit", self.objective.unit)
        rest.setdefault("dataset", self.dataset)
        rest.setdefault("trial_ids", self.trial_ids)
        if tier == "estimated":
            rest.setdefault("fidelity", self.fidelity)
            rest.setdefault("n_trials", self.n_trials)
        parts = [kind, rest["metric"], about, rest.get("family"), rest.get("trial")]
        return Claim(
            claim_id=identify(self.snapshot, *map(str, parts)),
            kind=kind,
            tier=tier,
            verdict=verdict,
            about=about,
            at=self.at,
            snapshot=self.snapshot,
            **rest,
        )

    def estimated(
        self,
        kind: str,
        draws: Array,
        family: str,
        size: int,
        tier: Tier = "estimated",
        **about: Any,
    ) -> Claim:
        """A claim from draws of a change `[DRAWS]`; `size` of its family sets what is asserted."""
        found = answer(draws)
        return self(
            kind,
            tier,
            verdict(found.wrong, size),
            family=family,
            family_size=size,
            fidelity=self.fidelity,
            n_trials=self.n_trials,
            method="posterior of the response surface",
            **found.fields(),
            **about,
        )

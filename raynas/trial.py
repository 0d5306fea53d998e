"""What a search leaves behind: proposals with their reasons, and trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from raynas.architecture import Architecture, Option, changes
from raynas.objective import Metrics, Objective

Kind = Literal[
    "random",
    "mutation",
    "crossover",
    "policy",
    "acquisition",
    "derived",
    "neighbour",
    "ablation",
    "engineer",
    "scaling",
]
Purpose = Literal["search", "supernet", "uniform_probe", "confirm", "ablation", "audit", "final"]
Status = Literal["finished", "stopped_early", "failed", "infeasible", "lost"]

KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True)
class Reason:
    """Why an architecture was proposed: what cannot be recovered later.

    Attributes:
        kind: how it came about.
        parents: numbers of the trials it was made from.
        changed: `(decision, option before, option after)` against the first parent; None where
            a decision was not active.
        scores: what the strategy believed, e.g. predicted mean and deviation.
        chances: of a policy: decision -> probability of each of its options, in their order,
            when this design was drawn (given the answers before it).
        note: one sentence for a person.
    """

    kind: Kind
    note: str
    parents: tuple[int, ...] = ()
    changed: tuple[tuple[str, Option | None, Option | None], ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    chances: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @classmethod
    def child(cls, kind: Kind, note: str, parent: Trial, architecture: Architecture) -> Reason:
        """The reason of an architecture made by changing a trial's."""
        return cls(kind, note, (parent.number,), changes(parent.architecture, architecture))


@dataclass(frozen=True)
class Candidate:
    """A design that was really considered and not taken.

    Attributes:
        architecture: its text.
        score: what spoke for it, if it was scored.
        rejected_by: what turned it away (a constraint, a duplicate, a lower score).
    """

    architecture: str
    score: float | None
    rejected_by: str


@dataclass(frozen=True)
class Proposal:
    """What a strategy answers: an architecture, why, and what it considered instead.

    Attributes:
        purpose: `search`; `supernet` trains weights that all designs share (the architecture
            stands in for them). `uniform_probe` is drawn at random, to tell what holds in general;
            `confirm` trains a design again with a fresh seed; `ablation` and `audit` train an edit
            of a design, to learn what it changes or whether a claim of it is right. `final` trains
            the design that people agreed on, and always keeps its weights. Where designs
            are scored, `confirm` and `uniform_probe` train one of the best or one drawn from the
            whole ranking, alone.
    """

    architecture: Architecture
    reason: Reason
    candidates: tuple[Candidate, ...] = ()
    purpose: Purpose = "search"


@dataclass(frozen=True)
class Job:
    """A numbered proposal: what an evaluator is asked to carry out.

    Attributes:
        number: from 0, unique in a run.
        seed: of everything random in the evaluation.
        costs: what is known before training (`params`, `flops`).
        at: when it was proposed, seconds since 1970 (UTC).
    """

    number: int
    proposal: Proposal
    seed: int
    costs: Metrics
    at: float

    @property
    def architecture(self) -> Architecture:
        return self.proposal.architecture

    @property
    def purpose(self) -> Purpose:
        return self.proposal.purpose


@dataclass(frozen=True)
class Trial:
    """One evaluated architecture.

    Attributes:
        fidelity: epochs trained.
        metrics: the last readings; those of the test split begin with `test_`.
        status: `failed` says something of the design; `lost` does not: what carried it out was
            lost, time and again.
        curve: one mapping of readings per epoch, in order.
        split: which training, validation and test examples were used, as a short hash.
        seed: of weights, augmentation and order of examples.
        started_at: seconds since 1970 (UTC); seconds: how long it took. Of a trial that was run
            again both are of the last attempt.
        error: what went wrong, for a failed, lost or infeasible trial.
        log: the end of what a failed trial printed and logged, or what is known of how its process
            died; None for others.
        reason: of its proposal, when that is known.
    """

    number: int
    architecture: Architecture
    status: Status
    metrics: Metrics = field(default_factory=dict)
    fidelity: int = 0
    curve: Sequence[Metrics] = ()
    purpose: Purpose = "search"
    seed: int = 0
    split: str = ""
    started_at: float = 0.0
    seconds: float = 0.0
    device: str = ""
    node: str = ""
    error: str | None = None
    log: str | None = None
    reason: Reason | None = None

    @property
    def usable(self) -> bool:
        """Whether its metrics say something about its architecture."""
        return self.status in ("finished", "stopped_early")

    def for_strategy(self) -> Trial:
        """The trial as a strategy may see it: without readings of the test split."""

        def visible(readings: Metrics) -> Metrics:
            return {k: v for k, v in readings.items() if not k.startswith("test_")}

        curve = tuple(visible(r) for r in self.curve)
        return replace(self, metrics=visible(self.metrics), curve=curve)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without the reason (which stands with the proposal)."""
        data = {k: v for k, v in vars(self).items() if k != "reason"}
        return {**data, "architecture": str(self.architecture), "curve": list(self.curve)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Trial:
        """Reads `to_dict` back."""
        architecture = Architecture.parse(data["architecture"])
        return cls(**{**data, "architecture": architecture, "curve": tuple(data["curve"])})


def problem_with(objectives: Sequence[Objective], metrics: Metrics) -> str | None:
    """Says what is wrong with reported metrics: an objective is missing or not a number."""
    if missing := [o.name for o in objectives if o.name not in metrics]:
        return (
            f"expected {', '.join(o.name for o in objectives)}; missing {', '.join(missing)}; got "
            f"{', '.join(sorted(metrics)) or 'nothing'}. Report it from the evaluation or drop the "
            "objective."
        )
    if bad := [o.name for o in objectives if not math.isfinite(metrics[o.name])]:
        return f"{bad[0]} is {metrics[bad[0]]}: expected a finite number."
    return None


def job_to_dict(job: Job) -> dict[str, Any]:
    """Plain data of a job with its whole proposal."""
    return {
        "number": job.number,
        "architecture": str(job.architecture),
        "seed": job.seed,
        "costs": dict(job.costs),
        "at": job.at,
        "purpose": job.purpose,
        "reason": asdict(job.proposal.reason),
        "candidates": [asdict(c) for c in job.proposal.candidates],
    }


def job_from_dict(data: Mapping[str, Any]) -> Job:
    """Reads `job_to_dict` back."""
    reason = Reason(
        kind=data["reason"]["kind"],
        note=data["reason"]["note"],
        parents=tuple(data["reason"]["parents"]),
        changed=tuple((d, before, after) for d, before, after in data["reason"]["changed"]),
        scores=data["reason"]["scores"],
        chances={name: tuple(row) for name, row in data["reason"]["chances"].items()},
    )
    candidates = tuple(Candidate(**c) for c in data["candidates"])
    architecture = Architecture.parse(data["architecture"])
    proposal = Proposal(architecture, reason, candidates, data["purpose"])
    fields = {k: data[k] for k in ("number", "seed", "costs", "at")}
    return Job(proposal=proposal, **fields)

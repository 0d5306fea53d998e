"""Which trials are bought when a search has ended: see `raynas.certainty` for how many."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from raynas.architecture import Architecture, changes
from raynas.certainty import PER_CONTROL, Ledger, Over, Plan
from raynas.explanation import claims as claim_files
from raynas.explanation.claims import AUDITED, Claim
from raynas.explanation.findings import Findings
from raynas.run import RunInfo
from raynas.space import Space
from raynas.trial import Proposal, Purpose, Reason

CLEAR = ("asserts", "leans")  # verdicts that say which option is better

Settles = Callable[[Claim], float]


@dataclass(frozen=True)
class Order:
    """A part of a search that tries given designs.

    Attributes:
        trials: how many, those included that were handed out before and not finished.
    """

    purposes: frozenset[Purpose]
    proposals: Sequence[Proposal]
    trials: int
    title: str


@dataclass(frozen=True)
class Buyer:
    """Chooses the trials of each part that follows a search, from what the run holds by then.

    Attributes:
        trials: of the run in all.
        over: which limits a design breaks, as far as is known before training.
    """

    folder: Path
    info: RunInfo
    over: Over
    plan: Plan
    trials: int

    def order(self, part: str) -> Order | None:
        """What is still to be bought of a part (`confirm`, `ablation`, `audit`)."""
        ledger = self._ledger()
        number = ledger.subject
        if number is None:
            return None
        if part == "confirm":
            why = "the best design again with a fresh seed: the best of many readings was lucky too"
            wanted = ledger.confirmations(number, self.plan.confirmations, why)
            return self._order(
                ledger, {"confirm"}, wanted, f"training trial {number} again, {{}} more"
            )
        if part == "ablation":
            edits = self._ablations(ledger, number)
            title = f"training {{}}: edits of trial {number} that settle most, and it beside them"
            return self._order(ledger, {"ablation", "confirm"}, edits, title)
        plan = self.plan
        spare = plan.confirmations + plan.controls + plan.others - ledger.confirmed
        return self.audit(plan.audits - len(self._audited()), plan.others, spare)

    def audit(self, count: int, others: int, spare: int = 0) -> Order | None:
        """Puts so many further claims to the test; they are kept as they are before that.

        Args:
            others: designs of the front, beside the best, that the claims may be about.
            spare: how many fresh trainings of designs are planned; what is left is the best's.
        """
        ledger = self._ledger()
        number = ledger.subject
        if number is None:
            return None
        audited = self._audited()
        if count > 0:
            rng = np.random.default_rng((self.info.settings["seed"], len(audited), 7))
            rest = [n for n in ledger.front if n != number]
            more = sorted(rng.permutation(rest).astype(int).tolist()[:others])
            known = {str(c.alternatives[0]["architecture"]) for c in audited}
            found = self._contrasts(ledger, [number, *more])
            new = [c for c in found if str(c.alternatives[0]["architecture"]) not in known]
            audited += drawn(new, count, rng)
            claim_files.write(self.folder / "claims", audited, AUDITED)
        edits = [p for p in audits(ledger, audited) if not self.over(p.architecture)]
        about = sorted({p.reason.parents[0] for p in edits})
        why = "trained again: claims of it are put to the test"
        first = [p for n in about for p in ledger.confirmations(n, 1, why)]
        left = min(spare, others) - len(first)
        last = ledger.confirmations(number, ledger.again(number) + left, why)
        title = "putting claims to the test: training {}"
        return self._order(ledger, {"audit", "confirm"}, [*first, *edits, *last], title)

    def pending(self) -> int:
        """How many claims were drawn for an audit whose edits were not asked for yet."""
        waiting = audits(self._ledger(), self._audited())
        return sum(1 for p in waiting if not self.over(p.architecture))

    def _ablations(self, ledger: Ledger, number: int) -> list[Proposal]:
        """What is missing of the edits and the trainings of the design beside them.

        They are chosen from what was known before the first of them: the same when resumed.
        """
        plan, known = self.plan, ledger.edited(number)
        before = ledger.until(min(known.values(), default=sys.maxsize))
        claims = choose(self._contrasts(before, [number]), plan.ablations)
        wanted = ablations(ledger, number, claims, plan.controls)
        beside = max(ledger.again(number) - plan.confirmations, 0)  # controls asked for already
        missing = []
        for proposal in wanted:
            if proposal.purpose == "ablation" and str(proposal.architecture) not in known:
                missing.append(proposal)
            elif proposal.purpose == "confirm":
                missing += [proposal] if beside <= 0 else []
                beside -= 1
        return missing

    def _contrasts(self, ledger: Ledger, numbers: Sequence[int]) -> list[Claim]:
        findings = Findings(self.info, ledger.trials)
        claims = [claim for number in numbers for claim in findings.contrasts(number)]
        return list(contrasts(claims, self.info.space, self.over))

    def _order(
        self, ledger: Ledger, purposes: set[Purpose], wanted: Sequence[Proposal], title: str
    ) -> Order:
        waiting = ledger.unfinished(purposes)
        room = max(self.trials - ledger.spent(), 0)
        proposals = wanted[: max(room - waiting, 0)]
        count = min(room, waiting + len(proposals))
        return Order(frozenset(purposes), proposals, count, title.format(count))

    def _ledger(self) -> Ledger:
        return Ledger.read(self.folder, self.info)

    def _audited(self) -> list[Claim]:
        return claim_files.from_frame(claim_files.read(self.folder / "claims", AUDITED))


def settles(claim: Claim) -> float:
    """How much a training of the claim's edit would settle: doubt about its sign times spread.

    Source: `lfsr x deviation`; an option that nobody tried is as uncertain as can be.
    """
    if claim.estimate is None or claim.ci_low is None or claim.ci_high is None:
        return float("inf")
    return (0.5 if claim.lfsr is None else claim.lfsr) * (claim.ci_high - claim.ci_low)


def edit_of(claim: Claim, space: Space) -> Architecture | None:
    """The design with the alternative that a contrast speaks of; None if it leaves parts open."""
    text = claim.alternatives[0]["architecture"] if claim.alternatives else None
    return space.plainest(space.parse(str(text))) if text else None


def contrasts(claims: Iterable[Claim], space: Space, over: Over) -> Iterator[Claim]:
    """The contrasts whose edit can be trained and is another network, each edit once.

    Their edit is written as it will be trained.
    """
    seen: set[str] = set()
    for claim in claims:
        if claim.kind != "contrast" or claim.tier == "proven":
            continue
        edit = edit_of(claim, space)
        if edit is None or str(edit) in seen or over(edit):
            continue
        seen.add(str(edit))
        stated = {**claim.alternatives[0], "architecture": str(edit)}
        yield replace(claim, alternatives=[stated])


def choose(claims: Iterable[Claim], count: int, rank: Settles = settles) -> list[Claim]:
    """The contrasts whose edits settle most, those without a verdict first."""
    ordered = sorted(claims, key=lambda c: (c.verdict != "open", -rank(c), c.about))
    return ordered[:count]


def ablations(
    ledger: Ledger, number: int, claims: Sequence[Claim], controls: int
) -> Iterator[Proposal]:
    """Trains edits of a trial's design, and the design itself again after every six."""
    design, space = ledger.design(number), ledger.info.space
    why = "trained again beside its edits, which it is compared with"
    beside = iter(ledger.confirmations(number, ledger.again(number) + controls, why))
    for i, claim in enumerate(claims, 1):
        note = f"{claim.about} of trial {number}: is trained because that settles most"
        yield _edit(space, design, number, claim, note, "ablation")
        if i % PER_CONTROL == 0 or i == len(claims):
            yield from islice(beside, 1)


def drawn(claims: Sequence[Claim], count: int, rng: np.random.Generator) -> list[Claim]:
    """So many directional claims, each as likely as any other."""
    clear = [c for c in claims if c.verdict in CLEAR]
    picks = sorted(rng.permutation(len(clear)).tolist()[:count])
    return [clear[i] for i in picks]


def audits(ledger: Ledger, claims: Iterable[Claim]) -> Iterator[Proposal]:
    """Trains the edits that claims are about, unless that was asked for already."""
    asked = {str(j.architecture) for j in ledger.jobs if j.purpose == "audit"}
    for claim in claims:
        if claim.trial is None or str(claim.alternatives[0]["architecture"]) in asked:
            continue
        note = f"audits claim {claim.claim_id}: {claim.about} of trial {claim.trial}"
        design = ledger.design(claim.trial)
        yield _edit(ledger.info.space, design, claim.trial, claim, note, "audit")


def _edit(
    space: Space, design: Architecture, number: int, claim: Claim, note: str, purpose: Purpose
) -> Proposal:
    edit = space.parse(str(claim.alternatives[0]["architecture"]))
    known = {"estimate": claim.estimate, "lfsr": claim.lfsr}
    scores = {name: value for name, value in known.items() if value is not None}
    reason = Reason("ablation", note, (number,), changes(design, edit), scores)
    return Proposal(edit, reason, purpose=purpose)

"""Certainty that a search buys: trials that are not there to find a better design.

Designs drawn uniformly, by which one can tell what holds in the whole space; the best design again
with fresh seeds, because the best of many readings was lucky too (the winner's curse); edits of it,
where one training settles most; and an audit: claims drawn at random whose edits are trained, so
that one can tell how often the claims of this very run are right. How much of it is bought is set
by the explanation level. Here is how much and of what; `raynas.buying` chooses the edits, and
`raynas.stages` has them carried out.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from raynas import session, tables
from raynas.architecture import Architecture
from raynas.front import front_of
from raynas.run import RunInfo, read
from raynas.space import Space
from raynas.strategies.base import Seen, SpaceExhausted
from raynas.trial import Candidate, Job, Proposal, Purpose, Reason, Trial

PROBES, CONFIRMATIONS, ABLATIONS, AUDITS = 40, 3, 28, 10  # at most
SHORT = 300.0  # seconds of a time budget below which there are no probes
CONFIRMING = 25.0  # seconds that confirmations of a short search are left
ENOUGH = 60  # trials from which on an audit is not made smaller
PER_CONTROL = 6  # edits for each fresh training of the design that is edited
OTHERS = 5  # audited claims for each further design of the front that they may be about
TOLD: frozenset[Purpose] = frozenset({"search", "uniform_probe", "ablation", "audit"})
PROBED: frozenset[Purpose] = frozenset({"uniform_probe"})
FINAL: frozenset[Purpose] = frozenset({"final"})
BOUGHT: frozenset[Purpose] = frozenset({"confirm", "ablation", "audit"})

# Of the time budget that is used up by the end of each part.
SHARES: Mapping[str, Mapping[str, float]] = {
    "brief": {"search": 1.0},
    "standard": {"uniform_probe": 0.2, "search": 0.85, "confirm": 1.0},
    "detailed": {
        "uniform_probe": 0.2,
        "search": 0.6,
        "confirm": 0.7,
        "ablation": 0.85,
        "audit": 1.0,
    },
}

Over = Callable[[Architecture], str]  # which limits a design breaks; '' for none


@dataclass(frozen=True)
class Plan:
    """How many trials of each kind are bought.

    Attributes:
        controls: fresh trainings of the design whose edits are trained, among those.
        others: fresh trainings of further designs of the front that audited claims are about.
    """

    probes: int = 0
    confirmations: int = 0
    ablations: int = 0
    controls: int = 0
    audits: int = 0
    others: int = 0

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts after the search, in their order."""
        many = {"confirm": self.confirmations, "ablation": self.ablations, "audit": self.audits}
        return tuple(name for name, count in many.items() if count)

    @property
    def afterwards(self) -> int:
        """How many trials follow the search."""
        edits = self.ablations + self.controls + self.audits + self.others
        return self.confirmations + edits


def planned(
    level: str, trials: int, probes: bool = True, repeats: bool = True, seconds: float = math.inf
) -> Plan:
    """What a search of so many trials buys at an explanation level.

    Args:
        seconds: its time budget; a short one is not enough for probes, which are trained whole.
        probes: whether designs drawn at random are of use.
        repeats: whether a second training of a design reads something else than the first.
    """
    if level == "brief":
        return Plan()
    repeats = repeats and seconds >= 2 * CONFIRMING
    plan = Plan(min(PROBES, trials // 5) if probes and seconds >= SHORT else 0)
    if repeats:
        plan = replace(plan, confirmations=min(CONFIRMATIONS, trials // 8))
    if level != "detailed" or not repeats:
        return plan
    both = min(ABLATIONS, trials * 15 // 100)
    controls = -(-both // (PER_CONTROL + 1)) if both > 1 else 0
    audits = AUDITS if trials >= ENOUGH else trials // 10
    edits = both - controls if controls else 0
    return replace(plan, ablations=edits, controls=controls, audits=audits, others=audits // OTHERS)


def until(level: str, part: str, plan: Plan, seconds: float = math.inf) -> float:
    """The share of the time budget that is used up by the end of a part."""
    last = plan.parts[-1] if plan.parts else "search"
    if part == last:
        return 1.0
    share = SHARES[level].get(part, 0.0)
    short = part == "search" and seconds < SHORT
    return min(share, 1 - CONFIRMING / seconds) if short else share


@dataclass
class Planned:
    """A strategy that hands out proposals in their order, the same design as often as it stands."""

    left: deque[Proposal]

    def ask(self, rng: np.random.Generator, pending: Sequence[Architecture]) -> Proposal:
        del rng, pending
        if not self.left:
            raise SpaceExhausted("all planned trials have been made.")
        return self.left.popleft()

    def tell(self, trial: Trial) -> None:
        """Nothing to learn."""


@dataclass
class Probes:
    """A strategy that draws designs uniformly, as the space samples them, none twice.

    A design that breaks a limit is drawn again: what is told by them holds within the limits.
    """

    space: Space
    over: Over

    def __post_init__(self) -> None:
        self._seen = Seen(self.space)

    def ask(self, rng: np.random.Generator, pending: Sequence[Architecture]) -> Proposal:
        """Draws a design.

        Raises:
            SpaceExhausted: none of many keeps the limits, or none is left.
        """
        refused: dict[str, Candidate] = {}
        note = "drawn at random, to tell what holds in the whole space"
        for _ in range(session.ASKS):
            drawn = self._seen.random(rng, pending, note)
            if not (cause := self.over(drawn.architecture)):
                candidates = (*drawn.candidates, *refused.values())[:5]
                return replace(drawn, candidates=candidates, purpose="uniform_probe")
            text = str(drawn.architecture)
            refused.setdefault(text, Candidate(text, None, cause))
        raise SpaceExhausted(f"{session.ASKS} designs in a row broke a limit.")

    def tell(self, trial: Trial) -> None:
        self._seen.add(trial)


@dataclass(frozen=True)
class Ledger:
    """What a run holds when more is to be bought.

    Attributes:
        jobs: all of the run, in order.
        trials: `raynas.load(RUN).trials`.
    """

    info: RunInfo
    jobs: Sequence[Job]
    trials: pd.DataFrame

    @classmethod
    def read(cls, folder: Path, info: RunInfo) -> Ledger:
        """What a run holds now."""
        contents = read(folder, info.space)
        return cls(info, list(tables.jobs_from(contents.proposals)), tables.frame(contents.trials))

    def spent(self, purposes: Iterable[Purpose] | None = None) -> int:
        """How many trials were made, refused designs aside."""
        counted = self.trials["status"] != "infeasible"
        if purposes is not None:
            counted &= self.trials["purpose"].isin(list(purposes))
        return int(counted.sum())

    def unfinished(self, purposes: Iterable[Purpose]) -> int:
        """How many jobs wait to be handed out again."""
        done = set(self.trials["number"])
        return sum(j.purpose in purposes and j.number not in done for j in self.jobs)

    def searched(self, trials: int, plan: Plan, first: int = 0) -> int:
        """How many more designs the search may try, of so many trials in all.

        Args:
            first: trial number at which a continuation began; 0 if there was none.
        """
        if first:  # a part of its own: what was bought before it is not of its plan
            since = replace(self, trials=self.trials[self.trials["number"] >= first])
            open_ = max(plan.afterwards - since.spent(BOUGHT), 0)
            return max(trials - self.spent() - open_, 0)
        searched = self.spent({"search", "uniform_probe"})
        if searched + plan.afterwards >= trials:
            return 0
        return max(trials - plan.afterwards - searched - self.spent(BOUGHT), 0)

    @property
    def subject(self) -> int | None:
        """The trial whose design certainty is bought of: the best when the search ended.

        An edit may do better than it: it stays the subject until the search goes on.
        """
        after = [j for j in self.jobs if j.number > self._search and j.proposal.reason.parents]
        if after:
            return after[0].proposal.reason.parents[0]
        front = self.front
        return front[0] if front else None

    @property
    def _search(self) -> int:
        """The last job of the search."""
        return max((j.number for j in self.jobs if j.purpose not in BOUGHT), default=-1)

    @property
    def front(self) -> list[int]:
        """The trials on the front, best first."""
        return [int(n) for n in front_of(self.trials, self.info)["number"]]

    @property
    def confirmed(self) -> int:
        """How many fresh trainings of any design were asked for."""
        return sum(j.purpose == "confirm" for j in self.jobs)

    def again(self, number: int) -> int:
        """How many fresh trainings of a trial's design were asked for."""
        confirms = [j for j in self.jobs if j.purpose == "confirm"]
        return sum(j.proposal.reason.parents[:1] == (number,) for j in confirms)

    def edited(self, number: int) -> dict[str, int]:
        """The edits of a trial's design that were asked for since the search ended, as trials."""
        edits = [j for j in self.jobs if j.purpose == "ablation" and j.number > self._search]
        own = [j for j in edits if j.proposal.reason.parents[:1] == (number,)]
        return {str(j.architecture): j.number for j in own}

    def until(self, number: int) -> Ledger:
        """The run before a trial."""
        jobs = [j for j in self.jobs if j.number < number]
        return replace(self, jobs=jobs, trials=self.trials[self.trials["number"] < number])

    def design(self, number: int) -> Architecture:
        own = self.trials[self.trials["number"] == number]
        return self.info.space.parse(str(own["architecture"].iloc[0]))

    def confirmations(self, number: int, wanted: int, why: str) -> list[Proposal]:
        """The trainings of a trial's design that are missing for so many fresh seeds."""
        name = self.info.objectives[0].name
        own = self.trials[self.trials["number"] == number]
        reading = float(own[f"m.{name}"].iloc[0])
        reason = Reason("derived", why, (number,), scores={name: reading})
        one = Proposal(self.design(number), reason, purpose="confirm")
        return [one] * max(wanted - self.again(number), 0)

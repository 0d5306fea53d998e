"""How a search came to its designs, as recorded: descent, kinds of proposals, refusals.

Nothing here is estimated. Gains are differences of single readings at the same epoch, so that
those of the best design are flattered by luck; claims of this kind say what happened, not why.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from raynas.architecture import Architecture
from raynas.explanation.beliefs import of_choices as beliefs
from raynas.explanation.beliefs import of_policy
from raynas.explanation.claims import Claim
from raynas.explanation.designs import Make
from raynas.objective import Objective
from raynas.run import RunInfo
from raynas.space import Space

__all__ = ["Log", "Step", "beliefs", "claims", "genealogy", "in_words", "met"]

MOST = 20_000  # designs that are looked through for the same network by another text
TOLD = 3  # times that a design was considered
GENERATIONS = 40  # of a design that are told
DUPLICATES = "duplicates of designs tried or running"
_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(\.\d+)?(e[+\-]?\d+)?")


@dataclass(frozen=True)
class Step:
    """One proposal in the descent of a design.

    Attributes:
        changed: edits against the first parent, `layer1.kernel_size 3 → 5`.
        gain: reading less that of the first parent at the same epoch, which is `fidelity`.
        predicted: what was predicted of it, less the first parent's reading.
    """

    number: int
    kind: str
    parents: Sequence[int]
    changed: Sequence[str]
    gain: float | None
    fidelity: float | None
    predicted: float | None


class Log:
    """Trials and proposals of a run by number, and the readings of one objective."""

    def __init__(self, trials: pd.DataFrame, proposals: pd.DataFrame, objective: Objective) -> None:
        names = [f"{p}.{objective.name}" for p in ("m", "c")]
        kept = ["number", "fidelity", *(n for n in names if n in trials)]
        self.trials = trials[kept].set_index("number")
        self.proposals = proposals[["number", "kind", "parents", "scores", "changed"]].set_index(
            "number"
        )
        self._metric, self._curve = names

    def reading(self, number: int, epoch: int | None = None) -> float | None:
        """A trial's reading at an epoch, or its last one; None where there is none."""
        if number not in self.trials.index:
            return None
        row = self.trials.loc[number]
        found = row.get(self._metric)
        if epoch is not None and epoch != row["fidelity"]:
            curve = row.get(self._curve)
            found = curve[epoch - 1] if curve is not None and 0 < epoch <= len(curve) else None
        return None if found is None or pd.isna(found) else float(found)

    def gain(self, number: int, parent: int) -> tuple[float | None, float | None]:
        """How much better than its parent a trial read, and at which epoch both were read."""
        if number not in self.trials.index or parent not in self.trials.index:
            return None, None
        epoch = int(self.trials.loc[[number, parent], "fidelity"].min())
        after, before = self.reading(number, epoch), self.reading(parent, epoch)
        if after is None or before is None:
            return None, float(epoch)
        return after - before, float(epoch)

    def step(self, number: int) -> Step:
        """A proposal as a step in a descent."""
        row = self.proposals.loc[number]
        parents = [int(p) for p in row["parents"]]
        gain, fidelity = self.gain(number, parents[0]) if parents else (None, None)
        scores, predicted = dict(row["scores"]), None
        if parents and "mean" in scores and (before := self.reading(parents[0])) is not None:
            predicted = float(scores["mean"]) - before
        changed = in_words([(c["decision"], c["before"], c["after"]) for c in row["changed"]])
        return Step(number, str(row["kind"]), parents, changed, gain, fidelity, predicted)


def genealogy(log: Log, number: int) -> list[Step]:
    """The descent of a design by first parents, itself first."""
    steps: list[Step] = []
    seen: set[int] = set()
    while number in log.proposals.index and number not in seen and len(steps) < GENERATIONS:
        seen.add(number)
        steps.append(log.step(number))
        if not steps[-1].parents:
            break
        number = steps[-1].parents[0]
    return steps


def claims(
    make: Make,
    trials: pd.DataFrame,
    proposals: pd.DataFrame,
    info: RunInfo,
    trial: int | None,
) -> Iterator[Claim]:
    """How the design of a trial came about, what each kind of proposal gave, what was refused,
    and what the controller came to believe, if there was one."""
    objective = info.searched[0]
    log = Log(trials, proposals, objective)
    if trial is not None:
        for step in genealogy(log, trial):
            yield _born(make, step, trial)
    yield from _kinds(make, trials, proposals, objective)
    yield from _refused(make, proposals)
    since = max((turn.since for turn in info.now.turns), default=0)
    yield from of_policy(make, proposals[proposals["number"] >= since], info.allowed)


def met(
    make: Make,
    trials: pd.DataFrame,
    proposals: pd.DataFrame,
    objective: Objective,
    space: Space,
    text: str,
) -> Iterator[Claim]:
    """Whether a design was tried, or considered and turned away, as far as the log keeps it."""
    known: dict[str, Any] = {"trial_ids": [], "method": "look-up in the log"}
    recorded = partial(make, "provenance", "recorded", "asserts")
    rows = trials[trials["architecture"].isin(_same(trials, space, text))]
    for _, row in rows.iterrows():
        read, number = row.get(f"m.{objective.name}"), int(row["number"])
        yield recorded(
            f"trial {number} tried {text}",
            trial=number,
            chosen=str(row["status"]).replace("_", " "),
            estimate=None if read is None or pd.isna(read) else float(read),
            fidelity=float(row["fidelity"]),
            family="tried",
            n_trials=1,
            **{**known, "trial_ids": [number]},
        )
    refused = [
        (int(number), str(c["rejected_by"]))
        for number, candidates in zip(proposals["number"], proposals["candidates"], strict=True)
        for c in candidates
        if c["architecture"] == text
    ]
    for number, cause in refused[:TOLD]:
        about = f"considered before trial {number}: {text}"
        ids = {"trial": number, "proposal_ids": [number]}
        yield recorded(about, chosen=cause, family="considered", **ids, **known)
    if not len(rows) and not refused:
        yield recorded(f"never met: {text}", family="never met", n_trials=len(trials), **known)


def _same(trials: pd.DataFrame, space: Space, text: str) -> list[str]:
    """The designs tried that are the same network; of very many only the same text."""
    texts = dict.fromkeys(map(str, trials["architecture"]))
    if len(texts) > MOST:
        return [text]
    identity = space.identity(space.parse(text))
    return [t for t in texts if space.identity(Architecture.parse(t)) == identity]


def in_words(edits: Sequence[tuple[str, str | None, str | None]]) -> list[str]:
    """Edits in words; a layer that came or went is said once."""
    said: dict[str, None] = {}
    for name, before, after in edits:
        layer = name.rpartition(".")[0]
        same = [e for e in edits if layer and e[0].rpartition(".")[0] == layer]
        if same and all(e[1] is None for e in same):
            said[f"{layer} added"] = None
        elif same and all(e[2] is None for e in same):
            said[f"{layer} removed"] = None
        else:
            said[f"{name} {before or 'absent'} → {after or 'absent'}"] = None
    return list(said)


def _born(make: Make, step: Step, trial: int) -> Claim:
    parents = " and ".join(map(str, step.parents))
    several = "s" if len(step.parents) > 1 else ""
    return make(
        "provenance",
        "recorded",
        "asserts",
        f"trial {step.number}, by {step.kind}",
        trial=step.number,
        chosen=step.kind,
        alternative=f"trial{several} {parents}" if parents else None,
        estimate=step.gain,
        fidelity=step.fidelity,
        scope={"type": "edits", "predicate": "; ".join(step.changed)},
        side_effects={} if step.predicted is None else {"predicted": step.predicted},
        family=f"genealogy of trial {trial}",
        n_trials=1 + len(step.parents),
        trial_ids=[step.number, *step.parents],
        proposal_ids=[step.number],
        method="difference of two readings at the same epoch",
    )


def _kinds(
    make: Make, trials: pd.DataFrame, proposals: pd.DataFrame, objective: Objective
) -> Iterator[Claim]:
    """How often designs of each kind beat all before them, and by how much together."""
    name = f"m.{objective.name}"
    if name not in trials:
        return
    kinds = dict(zip(proposals["number"], proposals["kind"].astype(str), strict=True))
    searched = trials["purpose"].isin(["search", "uniform_probe"])
    rows = trials[(trials["status"] == "finished") & searched].dropna(subset=[name])
    rows = rows.sort_values("number")
    kind = rows["number"].map(kinds)
    losses = objective.loss(1.0) * rows[name].to_numpy(dtype=float)
    before = np.minimum.accumulate(np.concatenate([[np.inf], losses]))[:-1]
    gains = np.where(np.isfinite(before), np.maximum(before - losses, 0.0), 0.0)
    for each in dict.fromkeys(kind.dropna()):
        its = (kind == each).to_numpy()
        ids = [int(n) for n in rows["number"][its]]
        yield make(
            "provenance",
            "recorded",
            "asserts",
            f"designs proposed by {each}",
            chosen=str(each),
            estimate=-objective.loss(1.0) * float(gains[its].sum()),
            side_effects={"improved": float((gains[its] > 0).sum())},
            family="kinds of proposals",
            n_trials=len(ids),
            trial_ids=ids,
            proposal_ids=ids,
            method="sum of what each reading added to the best before it",
        )


def _refused(make: Make, proposals: pd.DataFrame) -> Iterator[Claim]:
    """How many of the candidates kept in the log were turned away, by cause."""
    counts: Counter[str] = Counter()
    for candidates in proposals["candidates"]:
        counts.update(_cause(str(c["rejected_by"])) for c in candidates)
    for cause, count in counts.most_common():
        yield make(
            "provenance",
            "recorded",
            "asserts",
            f"candidates turned away: {cause}",
            chosen=cause,
            metric="designs",
            unit="designs",
            estimate=float(count),
            family="turned away",
            n_trials=len(proposals),
            trial_ids=[],
            method="count in the log",
        )


def _cause(text: str) -> str:
    """Causes that differ by a number only, taken together."""
    return DUPLICATES if text.startswith("duplicate") else _NUMBER.sub("N", text)

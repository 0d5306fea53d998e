"""What can be said of a run: trials in, claims out.

Effects are read at the last epoch that nine in ten of the evaluated designs reached, before any
was stopped for being behind: later readings exist only for those that did well, and would mislead.
(The tenth allows for designs that were cut off by the end of the search.) Where designs are scored,
with shared weights or by a proxy, effects are those on the score: only it is known of many designs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from raynas.architecture import Architecture, Decision, Option, option_text
from raynas.explanation import collapse, designs, predictions, ranking, scaling
from raynas.explanation.claims import LEVEL, Claim, Verdict, identify, snapshot
from raynas.explanation.effects import Array, Effects, evenly, fit
from raynas.objective import Objective
from raynas.run import RunInfo, front_of

FAMILY_ERROR = 0.10  # how often an archive without any effect may yield an asserted claim

MOST_IDS = 10_000  # beyond, a claim names its trials by the snapshot only


@dataclass
class Findings:
    """Makes claims from a run.

    Args:
        info: the run's problem and space.
        trials: `raynas.load(RUN).trials`.
        choices: `raynas.load(RUN).choices`, if something decided while shared weights trained.
        proposals: `raynas.load(RUN).proposals`, which hold what was predicted.
    """

    info: RunInfo
    trials: pd.DataFrame
    choices: pd.DataFrame | None = None
    proposals: pd.DataFrame | None = None
    front: pd.DataFrame = field(init=False)

    def __post_init__(self) -> None:
        self.front = front_of(self.trials, self.info)
        self._snapshot = snapshot(self.trials)
        self.trials = self.trials[self.trials["purpose"] != "supernet"]  # which is no design
        usable = self.trials[self.trials["status"].isin(["finished", "stopped_early"])]
        if self.info.screening:
            usable = usable[usable["purpose"] == "search"]
        self.fidelity, self._read = _readings(usable, self._objective)
        self.effects = self._fit()

    @property
    def _objective(self) -> Objective:
        """What effects are effects on."""
        return self.info.searched[0]

    def all(self, trial: int | None, layer_costs: designs.LayerCosts = ()) -> list[Claim]:
        """Every claim about the run as a whole and about one design, most telling first."""
        claims: list[Claim] = []
        if len(self.front):
            claims.append(designs.performance(self._claim, self.front, self.trials, self.info))
            claims += designs.trade_offs(self._claim, self.front, self.info)
        claims += ranking.claims(self._claim, self.trials, self.info)
        if self.choices is not None and len(self.choices):
            claims += collapse.claims(self._claim, self.choices)
        if self.proposals is not None:
            claims += predictions.claims(self._claim, self.trials, self.proposals, self.info)
        claims += scaling.claims(self._claim, self.trials, self.info)
        claims += self.marginal_effects()
        if trial is not None:
            claims += designs.shares(self._claim, trial, layer_costs)
            claims += self.contrasts(trial)
        return claims

    def marginal_effects(self) -> list[Claim]:
        """For every decision and pair of its options: the mean change over all designs tried.

        Decisions that recur in many layers are also taken together, as `*.kernel_size`. Clearest
        first. A claim is asserted if its sign is wrong with at most FAMILY_ERROR divided by the
        number of pairs of its kind, so that an archive of noise rarely asserts anything.
        """
        if self.effects is None:
            return []
        features = self.effects.features
        whole: dict[str, Decision] = {}
        for d in self.info.space.decisions:
            shared = d.leaf in features.shared
            whole.setdefault(f"*.{d.leaf}" if shared else d.name, d)
        single = {d.name: d for d in self.info.space.decisions if d.name not in whole}
        claims = []
        for family, decisions in (("whole design", whole), ("single layers", single)):
            pairs = [
                (p, d, a, b) for p, d in decisions.items() for b, a in combinations(d.options, 2)
            ]
            for path, d, option, other in pairs:
                if claim := self._marginal(path, d, option, other, family, len(pairs)):
                    claims.append(claim)
        return sorted(claims, key=lambda c: (c.lfsr or 0.0, -abs(c.estimate or 0.0)))

    def _marginal(
        self, path: str, d: Decision, a: Option, b: Option, family: str, size: int
    ) -> Claim | None:
        assert self.effects is not None
        named = [f"d.{d.name}"]
        if path.startswith("*."):
            named = [f"d.{other.name}" for other in self.effects.features.shared[d.leaf]]
        having = self._read[named].isin([a, b]).any(axis=1)
        tried = [int((self._read[named] == o).any(axis=1).sum()) for o in (a, b)]
        if not all(tried):
            return None
        rows = [self.effects.switched(path, d, o) for o in (b, a)]
        changes = self.effects.change(*rows)
        if self._objective.loss(changes.mean()) > 0:  # name the better option first
            a, b, changes = b, a, -changes
        return self._estimated(
            "effect",
            changes,
            family,
            size,
            about=f"{path}={option_text(a)} instead of {option_text(b)}",
            path=path,
            chosen=option_text(a),
            alternative=option_text(b),
            n_direct=int(having.sum()),
            scope={
                "type": "archive",
                "predicate": "designs tried in which the decision is active",
                "n_in_scope": len(rows[0]),
            },
        )

    def contrasts(self, trial: int) -> list[Claim]:
        """For every decision of a design: what the model expects of each alternative option.

        The estimate is the change if the design had the chosen option instead of the alternative.
        """
        text = str(self.trials.set_index("number").loc[trial, "architecture"])
        design = self.info.space.parse(text)
        edits = {d: list(self._edits(design, d)) for d in design.options}
        size = sum(map(len, edits.values()))
        known = dict(zip(self.trials["architecture"], self.trials["number"], strict=True))
        claims = []
        for name, others in edits.items():
            for option, other in others:
                tried = known.get(str(other)) if other else None
                claims.append(self._contrast(trial, design, name, option, other, tried, size))
        return claims

    def _edits(
        self, design: Architecture, name: str
    ) -> Iterator[tuple[Option, Architecture | None]]:
        for option in self.info.space.by_name[name].options:
            if option == design[name]:
                continue
            options = {**design.options, name: option}

            def pick(d: Decision, options: dict[str, Option] = options) -> Option:
                return options.get(d.name, d.options[0])

            kept = self.info.space.answer(pick)
            whole = all(n in options for n in kept.options)  # else new parts are left unsaid
            yield option, kept if whole else None

    def _contrast(
        self,
        trial: int,
        design: Architecture,
        name: str,
        option: Option,
        other: Architecture | None,
        tried: int | None,
        size: int,
    ) -> Claim:
        direct = int((self._read[f"d.{name}"] == option).sum())
        about: dict[str, Any] = {
            "about": f"{name}={option_text(design[name])} instead of {option_text(option)}",
            "trial": trial,
            "path": name,
            "chosen": option_text(design[name]),
            "alternative": option_text(option),
            "n_direct": direct,
            "scope": {"type": "design", "predicate": str(design), "n_in_scope": 1},
            "alternatives": [
                {
                    "value": option_text(option),
                    "architecture": str(other) if other else None,
                    "trained": tried is not None,
                }
            ],
            "trial_ids": [trial] if tried is None else [trial, int(tried)],
        }
        if other is not None and self.info.space.identity(other) == self.info.space.identity(
            design
        ):
            return self._claim(
                "contrast",
                "proven",
                "null",
                estimate=0.0,
                ci_low=0.0,
                ci_high=0.0,
                ci_kind="exact",
                method="both are the same network with the same parameters",
                **about,
            )
        if self.effects is None or not (self.trials[f"d.{name}"] == option).any():
            return self._claim("contrast", "recorded", "open", method="count in the log", **about)
        after = dict(design.options)
        before = {n: o for n, o in after.items() if other is None or n in other.options}
        before[name] = option
        row = self.effects.features.row
        changes = self.effects.change(row(before)[None], row(after)[None])
        return self._estimated("contrast", changes, f"contrasts of trial {trial}", size, **about)

    def _fit(self) -> Effects | None:
        if not len(self._read):
            return None
        tried = [Architecture.parse(t).options for t in self._read["architecture"]]
        return fit(self.info.space, self._objective, tried, list(self._read["value"]))

    def _estimated(self, kind: str, changes: Array, family: str, size: int, **about: Any) -> Claim:
        tail = (1 - LEVEL) / 2
        low, high = np.quantile(changes, [tail, 1 - tail])
        deviation = float(changes.std())
        mean = float(changes.mean())
        wrong = 0.5 * math.erfc(abs(mean) / deviation / math.sqrt(2)) if deviation else 0.5
        verdict: Verdict = "open"
        if wrong <= FAMILY_ERROR / 2 / size:
            verdict = "asserts"
        elif wrong <= (1 - LEVEL) / 2:
            verdict = "leans"
        return self._claim(
            kind,
            "estimated",
            verdict,
            estimate=mean,
            ci_low=float(low),
            ci_high=float(high),
            ci_kind="posterior",
            lfsr=wrong,
            p_sign=1 - wrong,
            family=family,
            family_size=size,
            fidelity=None if self.info.screening else float(self.fidelity),
            n_trials=len(self._read),
            method="additive model with one spread per group of effects",
            **about,
        )

    def _claim(self, kind: str, tier: Any, verdict: Verdict, about: str, **rest: Any) -> Claim:
        rest.setdefault("metric", self._objective.name)
        rest.setdefault("unit", self._objective.unit)
        rest.setdefault("dataset", self.info.data.get("name"))
        used = self._read["number"].to_list() if len(self._read) <= MOST_IDS else []
        rest.setdefault("trial_ids", used)
        return Claim(
            claim_id=identify(self._snapshot, kind, about),
            kind=kind,
            tier=tier,
            verdict=verdict,
            about=about,
            at=datetime.now(UTC),
            snapshot=self._snapshot,
            **rest,
        )


def _readings(usable: pd.DataFrame, objective: Objective) -> tuple[int, pd.DataFrame]:
    """The objective's value of the trials (of very many evenly spread ones), at the last epoch that
    nine in ten of them reached."""
    if not len(usable) or f"m.{objective.name}" not in usable:
        return 0, usable.assign(value=[]).iloc[:0]
    epoch = int(usable["fidelity"].quantile(0.1, interpolation="lower"))
    curve = f"c.{objective.name}"
    if curve in usable and epoch:
        values = [
            c[epoch - 1] if c is not None and len(c) >= epoch else np.nan for c in usable[curve]
        ]
    else:  # a cost, or an evaluator without a curve
        values = list(usable[f"m.{objective.name}"])
    read = usable.assign(value=np.array(values, dtype=float)).dropna(subset=["value"])
    return epoch, read.iloc[evenly(len(read))]

"""What can be said of a run: trials in, claims out.

Effects are read at the last epoch that nine in ten of the evaluated designs reached, before any
was stopped for being behind: later readings exist only for those that did well, and would mislead.
(The tenth allows for designs that were cut off by the end of the search.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import beta

from raynas.architecture import Architecture, Decision, Option, option_text
from raynas.explanation.claims import LEVEL, Claim, Verdict, identify, snapshot
from raynas.explanation.effects import Array, Effects, fit
from raynas.objective import Objective
from raynas.run import RunInfo, front_of
from raynas.tables import COUNTS

FAMILY_ERROR = 0.10  # how often an archive without any effect may yield an asserted claim

MOST_IDS = 10_000  # beyond, a claim names its trials by the snapshot only

LayerCosts = Sequence[Mapping[str, Any]]  # see raynas.costs.layers


@dataclass
class Findings:
    """Makes claims from a run.

    Args:
        info: the run's problem and space.
        trials: `raynas.load(RUN).trials`.
    """

    info: RunInfo
    trials: pd.DataFrame
    front: pd.DataFrame = field(init=False)

    def __post_init__(self) -> None:
        self.front = front_of(self.trials, self.info)
        self._snapshot = snapshot(self.trials)
        usable = self.trials[self.trials["status"].isin(["finished", "stopped_early"])]
        self.fidelity, self._read = _readings(usable, self._objective)
        self.effects = self._fit()

    @property
    def _objective(self) -> Objective:
        return self.info.objectives[0]

    def all(self, trial: int | None, layer_costs: LayerCosts = ()) -> list[Claim]:
        """Every claim about the run as a whole and about one design, most telling first."""
        claims: list[Claim] = []
        if len(self.front):
            claims += [self.performance(), *self.trade_offs()]
        claims += self.marginal_effects()
        if trial is not None:
            claims += [*self.shares(trial, layer_costs), *self.contrasts(trial)]
        return claims

    def performance(self) -> Claim:
        """What the best finished design reached; on the test split, if it was measured there."""
        row = self.front.iloc[0]
        name = self._objective.name
        tested = f"m.test_{name}" in row and not pd.isna(row[f"m.test_{name}"])
        value = float(row[f"m.test_{name}"] if tested else row[f"m.{name}"])
        sizes = self.info.data.get("sizes", {})
        images = sizes.get("test" if tested else "validation")
        low, high = _binomial(value, images) if name == "accuracy" and images else (None, None)
        return self._claim(
            "performance",
            "measured",
            "asserts",
            f"trial {row['number']}",
            trial=int(row["number"]),
            metric=f"test_{name}" if tested else name,
            estimate=value,
            ci_low=low,
            ci_high=high,
            ci_kind="binomial" if low is not None else None,
            fidelity=float(row["fidelity"]),
            n_trials=int((self.trials["status"] == "finished").sum()),
            n_seeds=1,
            trial_ids=[int(row["number"])],
            side_effects=self._metrics(row),
            method="reading on the test split" if tested else "reading on the validation split",
        )

    def trade_offs(self) -> Iterator[Claim]:
        """What the other members of the front save against the best, and what they lose."""
        best = self.front.iloc[0]
        name = self._objective.name
        images = self.info.data.get("sizes", {}).get("validation")
        for _, row in self.front.iloc[1:].iterrows():
            gap = float(row[f"m.{name}"] - best[f"m.{name}"])
            low, high, wrong = None, None, None
            if name == "accuracy" and images:  # two binomial readings of different designs
                shares = (row[f"m.{name}"], best[f"m.{name}"])
                deviation = math.sqrt(sum(p * (1 - p) / images for p in shares)) or 1 / images
                low, high = gap - 1.645 * deviation, gap + 1.645 * deviation
                wrong = 0.5 * math.erfc(abs(gap) / deviation / math.sqrt(2))
            ratios = {
                o.name: float(row[f"m.{o.name}"] / best[f"m.{o.name}"])
                for o in self.info.objectives[1:]
                if best[f"m.{o.name}"]
            }
            yield self._claim(
                "tradeoff",
                "measured",
                "open" if wrong is None or wrong > (1 - LEVEL) / 2 else "asserts",
                f"trial {row['number']} against trial {best['number']}",
                trial=int(row["number"]),
                chosen=str(row["number"]),
                alternative=str(best["number"]),
                estimate=gap,
                ci_low=low,
                ci_high=high,
                ci_kind="normal" if low is not None else None,
                lfsr=wrong,
                p_sign=None if wrong is None else 1 - wrong,
                fidelity=float(row["fidelity"]),
                n_trials=2,
                n_seeds=1,
                trial_ids=[int(row["number"]), int(best["number"])],
                side_effects=ratios,
                method="difference of two readings on the validation split",
            )

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
        column = self.trials[f"d.{name}"]
        direct = int((column == option).sum())
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
        if self.effects is None or direct == 0:
            return self._claim("contrast", "recorded", "open", method="count in the log", **about)
        after = dict(design.options)
        before = {n: o for n, o in after.items() if other is None or n in other.options}
        before[name] = option
        row = self.effects.features.row
        changes = self.effects.change(row(before)[None], row(after)[None])
        return self._estimated("contrast", changes, f"contrasts of trial {trial}", size, **about)

    def shares(self, trial: int, layer_costs: LayerCosts) -> Iterator[Claim]:
        """Which part of the network holds most of its parameters (exact)."""
        total = sum(float(layer["params"]) for layer in layer_costs)
        if not total:
            return
        largest = max(layer_costs, key=lambda layer: float(layer["params"]))
        yield self._claim(
            "share",
            "proven",
            "asserts",
            f"{largest['name']} of trial {trial}",
            trial=trial,
            path=str(largest["name"]),
            metric="params",
            unit="share",
            estimate=float(largest["params"]) / total,
            ci_kind="exact",
            n_trials=1,
            trial_ids=[trial],
            side_effects={"params": float(largest["params"]), "total": total},
            method="count of the built network",
        )

    def _fit(self) -> Effects | None:
        if not len(self._read):
            return None
        designs = [Architecture.parse(t).options for t in self._read["architecture"]]
        return fit(self.info.space, self._objective, designs, list(self._read["value"]))

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
            fidelity=float(self.fidelity),
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

    def _metrics(self, row: Any) -> dict[str, float]:
        names = {o.name for o in self.info.objectives} | set(COUNTS)
        return {n: float(row[f"m.{n}"]) for n in sorted(names) if f"m.{n}" in row}


def _readings(usable: pd.DataFrame, objective: Objective) -> tuple[int, pd.DataFrame]:
    """The objective's value of every trial, at the last epoch that nine in ten of them reached."""
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
    return epoch, read


def _binomial(share: float, trials: int) -> tuple[float, float]:
    """The interval of Clopper and Pearson (1934) for a share of `trials` right answers."""
    hits, tail = round(share * trials), (1 - LEVEL) / 2
    low = float(beta.ppf(tail, hits, trials - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, trials - hits)) if hits < trials else 1.0
    return low, high

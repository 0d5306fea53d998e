"""Claims about single designs: the best one, the front against it, and where its parameters are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from scipy.stats import beta

from raynas.explanation.claims import LEVEL, Claim
from raynas.objective import COUNTS
from raynas.run import RunInfo

Make = Callable[..., Claim]  # `Findings._claim`: adds what all claims of a run share
LayerCosts = Sequence[Mapping[str, Any]]  # see raynas.costs.layers


def performance(make: Make, front: pd.DataFrame, trials: pd.DataFrame, info: RunInfo) -> Claim:
    """What the best finished design reached; on the test split, if it was measured there."""
    row = front.iloc[0]
    name, unit = info.objectives[0].name, info.objectives[0].unit
    tested = f"m.test_{name}" in row and not pd.isna(row[f"m.test_{name}"])
    value = float(row[f"m.test_{name}"] if tested else row[f"m.{name}"])
    sizes = info.data.get("sizes", {})
    images = sizes.get("test" if tested else "validation")
    low, high = (
        binomial(round(value * images), images) if name == "accuracy" and images else (None, None)
    )
    return make(
        "performance",
        "measured",
        "asserts",
        f"trial {row['number']}",
        trial=int(row["number"]),
        metric=f"test_{name}" if tested else name,
        unit=unit,
        estimate=value,
        ci_low=low,
        ci_high=high,
        ci_kind="binomial" if low is not None else None,
        fidelity=float(row["fidelity"]),
        n_trials=int(trials[f"m.{name}"][trials["status"] == "finished"].count()),
        n_seeds=1,
        trial_ids=[int(row["number"])],
        side_effects=_metrics(row, info),
        method="reading on the test split" if tested else "reading on the validation split",
    )


def trade_offs(
    make: Make, front: pd.DataFrame, info: RunInfo, noise: float | None = None
) -> Iterator[Claim]:
    """What the other members of the front save against the best, and what they lose.

    Args:
        noise: the deviation of one reading, where it is not that of a share of images.
    """
    best = front.iloc[0]
    name, unit = info.objectives[0].name, info.objectives[0].unit
    images = info.data.get("sizes", {}).get("validation")
    for _, row in front.iloc[1:].iterrows():
        gap = float(row[f"m.{name}"] - best[f"m.{name}"])
        low, high, wrong = None, None, None
        deviation = math.sqrt(2) * noise if noise else None
        if name == "accuracy" and images:  # two binomial readings of different designs
            shares = (row[f"m.{name}"], best[f"m.{name}"])
            deviation = math.sqrt(sum(p * (1 - p) / images for p in shares)) or 1 / images
        if deviation is not None:
            low, high = gap - 1.645 * deviation, gap + 1.645 * deviation
            wrong = 0.5 * math.erfc(abs(gap) / deviation / math.sqrt(2))
        ratios = {
            o.name: float(row[f"m.{o.name}"] / best[f"m.{o.name}"])
            for o in info.objectives[1:]
            if best[f"m.{o.name}"]
        }
        yield make(
            "tradeoff",
            "measured",
            "open" if wrong is None or wrong > (1 - LEVEL) / 2 else "asserts",
            f"trial {row['number']} against trial {best['number']}",
            trial=int(row["number"]),
            chosen=str(row["number"]),
            alternative=str(best["number"]),
            metric=name,
            unit=unit,
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


def shares(make: Make, trial: int, layer_costs: LayerCosts) -> Iterator[Claim]:
    """Which part of the network holds most of its parameters (exact)."""
    total = sum(float(layer["params"]) for layer in layer_costs)
    if not total:
        return
    largest = max(layer_costs, key=lambda layer: float(layer["params"]))
    yield make(
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


def _metrics(row: Any, info: RunInfo) -> dict[str, float]:
    names = {o.name for o in info.objectives} | set(COUNTS)
    return {n: float(row[f"m.{n}"]) for n in sorted(names) if f"m.{n}" in row}


def binomial(hits: int, trials: int) -> tuple[float, float]:
    """The interval of Clopper and Pearson (1934) for a share of `trials` right answers."""
    tail = (1 - LEVEL) / 2
    low = float(beta.ppf(tail, hits, trials - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, trials - hits)) if hits < trials else 1.0
    return low, high

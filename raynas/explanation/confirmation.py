"""What a design reads when it is trained again: the best of many readings was also lucky."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.stats import t as student

from raynas.explanation.claims import LEVEL, Claim
from raynas.explanation.designs import Make
from raynas.objective import Array
from raynas.run import RunInfo


def claims(make: Make, front: pd.DataFrame, trials: pd.DataFrame, info: RunInfo) -> Iterator[Claim]:
    """One claim for every design of the front that was trained again with fresh seeds.

    The estimate is the mean of the fresh readings, which nothing selected; its interval is that
    of Student's t, and needs two of them.

    Args:
        front: the rows of the front, best first.
        trials: all trials of the run.
    """
    name, unit = info.objectives[0].name, info.objectives[0].unit
    for _, row in front.iterrows():
        fresh = again(trials, str(row["architecture"]), name, info)
        if not len(fresh):
            continue
        readings = fresh[f"m.{name}"].to_numpy(dtype=float)
        mean, first = float(readings.mean()), float(row[f"m.{name}"])
        low, high = interval(readings)
        yield make(
            "confirmation",
            "measured",
            "asserts",
            f"trial {row['number']}",
            trial=int(row["number"]),
            metric=name,
            unit=unit,
            estimate=mean,
            ci_low=low,
            ci_high=high,
            ci_kind=None if low is None else "Student t",
            fidelity=float(fresh["fidelity"].min()),
            n_trials=len(fresh),
            n_seeds=len(fresh),
            trial_ids=[int(n) for n in fresh["number"]],
            side_effects={"reading": first, "excess": first - mean},
            method="mean of trainings with fresh seeds",
        )


def again(trials: pd.DataFrame, architecture: str, metric: str, info: RunInfo) -> pd.DataFrame:
    """The finished trainings of a design that were made to learn what it reads."""
    if info.screening is not None or f"m.{metric}" not in trials:
        return trials.iloc[:0]
    rows = trials[(trials["purpose"] == "confirm") & (trials["status"] == "finished")]
    return rows[rows["architecture"] == architecture].dropna(subset=[f"m.{metric}"])


def interval(readings: Array) -> tuple[float, float] | tuple[None, None]:
    """Student's interval of a mean; none for a single reading, or if all read the same."""
    n = len(readings)
    if n < 2 or np.ptp(readings) == 0:
        return None, None
    half = float(student.ppf((1 + LEVEL) / 2, n - 1) * np.std(readings, ddof=1) / math.sqrt(n))
    return float(readings.mean()) - half, float(readings.mean()) + half

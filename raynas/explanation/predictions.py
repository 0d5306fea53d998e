"""Whether what a strategy predicted of its trials, before they were run, came true.

Each prediction was made from the trials before it, so that the trial was held out. The designs are
those that the search chose to try: they are more alike than all, and their rank correlation is
lower. How many of the intervals held is a share with Jeffreys' interval (Brown et al. 2001,
doi:10.1214/ss/1009213286); it takes trials for independent, while the widths follow from how
earlier ones did (`raynas.strategies.candidates.Told.expected`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import beta

from raynas.explanation.claims import LEVEL, Claim, Verdict
from raynas.explanation.designs import Make
from raynas.explanation.ranking import FEWEST, correlation, interval
from raynas.objective import Array
from raynas.run import RunInfo

COLUMNS = ("mean", "low", "high")  # of `Reason.scores`, in the unit of the first objective


def judged(trials: pd.DataFrame, proposals: pd.DataFrame, info: RunInfo) -> pd.DataFrame:
    """The trials of which something was predicted.

    Returns:
        `number`, `status`, what was predicted (`mean`, `low`, `high`), what was `read` (NaN unless
        it was finished) and whether the interval `held` it.
    """
    name = f"m.{info.searched[0].name}"
    told = {int(n): dict(s) for n, s in zip(proposals["number"], proposals["scores"], strict=True)}
    known = {n: s for n, s in told.items() if s.keys() >= set(COLUMNS)}
    rows = trials[trials["number"].isin(list(known)) & (trials["purpose"] == "search")]
    scores = [known[int(n)] for n in rows["number"]]
    found = rows[["number", "status"]].assign(
        **{column: np.array([s[column] for s in scores], dtype=float) for column in COLUMNS}
    )
    reading = rows[name].astype(float) if name in rows else pd.Series(np.nan, rows.index)
    read = reading.where(rows["status"] == "finished")
    return found.assign(read=read, held=(found["low"] <= read) & (read <= found["high"]))


def line(mean: Array, read: Array, held: Array) -> str:
    """How predictions `[N]` of finished trials did, in a few words; '' for less than two."""
    if len(read) < 2:
        return ""
    r = correlation(mean, read)
    ranked = "" if r is None else f"rank correlation {r:.2f}, "
    within = f"{int(held.sum())} of {len(read)} within their {100 * LEVEL:.0f} % intervals"
    return f"predicted beforehand: {ranked}{within}"


def of_frame(rows: pd.DataFrame) -> str:
    """The same for `judged`'s rows."""
    ended = rows.dropna(subset=["read"])
    return line(*(ended[c].to_numpy(dtype=float) for c in ("mean", "read", "held")))


def claims(
    make: Make, trials: pd.DataFrame, proposals: pd.DataFrame, info: RunInfo
) -> Iterator[Claim]:
    """How predictions rank trials, and how often their intervals hold; none without any."""
    rows = judged(trials, proposals, info)
    ended = rows.dropna(subset=["read"])
    if len(ended) < FEWEST:
        return
    mean, read = (ended[column].to_numpy(dtype=float) for column in ("mean", "read"))
    counts = rows["status"].astype(str).value_counts()
    objective = info.searched[0]
    facts: dict[str, Any] = {
        "metric": objective.name,
        "scope": {
            "type": "trials with a prediction",
            "predicate": "finished",
            "n_in_scope": len(ended),
        },
        "n_trials": len(ended),
        "trial_ids": [int(n) for n in ended["number"]],
        "side_effects": {
            "stopped_early": float(counts.get("stopped_early", 0)),
            "error": float(np.median(np.abs(read - mean))),
        },
    }
    r = correlation(mean, read)
    low, high = interval(r, len(ended)) if r is not None else (None, None)
    if r is not None and low is not None and high is not None:
        yield make(
            "prediction",
            "measured",
            "asserts" if low > 0 or high < 0 else "open",
            f"predictions of {objective.name}: ranks",
            unit="rank correlation",
            estimate=r,
            ci_low=low,
            ci_high=high,
            ci_kind="Fisher z",
            method="Spearman's rank correlation; interval of Bonett and Wright (2000)",
            **facts,
        )
    held = int(ended["held"].sum())
    low, high = jeffreys(held, len(ended))
    verdict: Verdict = "open" if low <= LEVEL <= high else "asserts"
    yield make(
        "calibration",
        "measured",
        verdict,
        f"predictions of {objective.name}: intervals",
        unit="share of trials",
        estimate=held / len(ended),
        ci_low=low,
        ci_high=high,
        ci_kind="Jeffreys",
        method="count of the readings within their 90 % intervals; Jeffreys' interval",
        **facts,
    )


def jeffreys(held: int, count: int) -> tuple[float, float]:
    """The interval of a share; it ends at 0 or 1 where none or all were counted."""
    tail = (1 - LEVEL) / 2
    low, high = beta.ppf([tail, 1 - tail], held + 0.5, count - held + 0.5).tolist()
    return (0.0 if held == 0 else low), (1.0 if held == count else high)

"""Which trials of a run stand on its Pareto front, and in which order."""

from __future__ import annotations

import numpy as np
import pandas as pd

from raynas.objective import Constraint, pareto_front
from raynas.run import RunInfo

# purposes of trials that test what is known
TESTING = frozenset({"confirm", "ablation", "audit", "final"})


def front_of(trials: pd.DataFrame, info: RunInfo) -> pd.DataFrame:
    """The rows of `trials` on the Pareto front: finished, allowed, read in every
    objective and not dominated; best first: those that reach all reference points, then the
    others by how far they miss them (the sum of what they miss, as shares of the bounds), within
    each by the first objective. Shared weights themselves are no design, and trials
    that test what is known are no search: the best of their single readings would flatter it."""
    names = [f"m.{o.name}" for o in info.objectives]
    if not set(names) <= set(trials.columns):
        return trials.iloc[:0]
    rows = trials[(trials["status"] == "finished") & ~trials["purpose"].isin(not_for_front(info))]
    rows = allowed(rows, info).dropna(subset=names)
    points = np.column_stack(
        [o.loss(1.0) * rows[f"m.{o.name}"].to_numpy(dtype=float) for o in info.objectives]
    )
    front = rows[pareto_front(points)]
    first = info.objectives[0]
    front = front.sort_values(names[0], ascending=first.direction == "min")
    if not info.now.aims:
        return front
    missed = sum(excess(front, c) / max(abs(c.bound), 1e-9) for c in info.now.aims)
    return front.iloc[np.argsort(np.asarray(missed), kind="stable")]


def not_for_front(info: RunInfo) -> frozenset[str]:
    """The purposes of trials that never stand on the front.

    Where designs are scored, `confirm` trains the best of them for the first time.
    """
    return frozenset({"supernet", "final"}) | (TESTING if info.screening is None else frozenset())


def allowed(rows: pd.DataFrame, info: RunInfo) -> pd.DataFrame:
    """The trials that keep every constraint, as far as is known, of designs that may be proposed
    still."""
    broken = pd.Series(False, index=rows.index)
    for c in info.constraints:
        broken |= excess(rows, c) > 0
    for name, left in info.now.left.items():
        if (column := f"d.{name}") in rows:
            broken |= rows[column].notna() & ~rows[column].isin(left)
    kept: pd.DataFrame = rows[~broken]
    return kept


def excess(rows: pd.DataFrame, constraint: Constraint) -> pd.Series:
    """By how much each trial is beyond a bound, in its unit; 0 where it keeps it or is unknown."""
    if f"m.{constraint.metric}" not in rows:
        return pd.Series(0.0, index=rows.index)
    gap = rows[f"m.{constraint.metric}"].astype(float) - constraint.bound
    gap = gap if constraint.sense == "max" else -gap
    return gap.clip(lower=0.0).fillna(0.0)

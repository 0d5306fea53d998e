"""Costs that trials were not told when they ran, because nobody asked for them then."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from raynas import tables
from raynas.archive import Archive
from raynas.objective import COSTS
from raynas.run import RunInfo, read
from raynas.session import Evaluator
from raynas.space import Space


def asked_costs(info: RunInfo) -> list[str]:
    """The costs that limits, reference points and objectives speak of now."""
    bounds = [c.metric for c in info.goals]
    names = dict.fromkeys([*bounds, *(o.name for o in info.objectives)])
    return [name for name in names if name in COSTS]


def fill_costs(folder: Path, info: RunInfo, evaluator: Evaluator) -> int:
    """Tells the trials of a run what their designs cost, where it is asked for by now.

    A design that cannot be counted (any more) is left as it is. Without this, designs of before
    a limit would pass as keeping it, and those of before an objective could not be compared.

    Args:
        evaluator: that tells these costs; latencies by its table (`raynas.targets.told`).

    Returns:
        How many trials were told; the run's files are left alone if there was nothing to tell.

    Raises:
        ArchiveError: another process is writing the run.
    """
    if not (names := asked_costs(info)):
        return 0
    if "latency_ms" in names and hasattr(evaluator, "table"):
        assert evaluator.table is not None, "latencies need the run's table: see targets.told"
    found = _missing(folder, info.space, names, evaluator)
    if not found:
        return 0
    archive = Archive(folder)
    try:
        archive.fill(found)
    finally:
        archive.close()
    return len(found)


def _missing(
    folder: Path, space: Space, names: list[str], evaluator: Evaluator
) -> dict[int, dict[str, float]]:
    """Trial -> costs that it lacks and the evaluator tells; each design is counted once."""
    trials = tables.frame(read(folder, space).trials)
    rows = trials[trials["status"].isin(["finished", "stopped_early"])]
    rows = rows[rows["purpose"] != "supernet"]
    nowhere = pd.Series(True, index=rows.index)
    lacks = {n: rows[f"m.{n}"].isna() if f"m.{n}" in rows else nowhere for n in names}
    told: dict[str, dict[str, float]] = {}
    found: dict[int, dict[str, float]] = {}
    some = np.logical_or.reduce([column.to_numpy(dtype=bool) for column in lacks.values()])
    numbers, texts = rows["number"].to_numpy(), rows["architecture"].to_numpy()
    for i in np.flatnonzero(some):
        text = str(texts[i])
        if text not in told:
            told[text] = _told(text, space, evaluator)
        new = {n: told[text][n] for n in names if lacks[n].iloc[i] and n in told[text]}
        if new:
            found[int(numbers[i])] = new
    return found


def _told(text: str, space: Space, evaluator: Evaluator) -> dict[str, float]:
    try:
        return dict(evaluator.costs(space.parse(text)))
    except Exception:  # it cannot be built: so its trial would say
        return {}

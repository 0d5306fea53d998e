"""What a search takes over from earlier ones of the same space on other data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from raynas import mapping, tables, turns
from raynas.errors import UserError
from raynas.files import place, read_table, write_table
from raynas.objective import Objective
from raynas.run import RunInfo, grown, read
from raynas.space import Space
from raynas.strategies.standing import standings
from raynas.trial import Proposal, Reason, Trial

FILE = "earlier.parquet"  # in the run's folder: it resumes without the others
FIRST = 5  # of the best earlier designs are tried before the strategy is asked


def gather(
    runs: Sequence[str | Path], space: Space, objectives: Sequence[Objective]
) -> tuple[Trial, ...]:
    """The trials of other runs whose designs this space has, each `split` naming its run.

    Raises:
        ArchiveError: one of them is not a run.
        UserError: one has no design of this space with a reading of the first objective.
    """
    found: list[Trial] = []
    for run in map(place, runs):
        theirs = RunInfo.read(run).space
        trials = [
            replace(trial.for_strategy(), split=str(run))
            for trial in tables.trials_from(read(run, theirs).trials)
            if trial.usable
            and objectives[0].name in trial.metrics
            and space.holds(trial.architecture)
        ]
        if not trials:
            raise UserError(
                f"--warm-start {run}: expected designs of the space {space.name!r} with their "
                f"{objectives[0].name}; it searched {theirs.name!r} and has none. "
                "Give a run of the same space, or leave it away."
            )
        found += trials
    return tuple(found)


def write(folder: Path, trials: Sequence[Trial], space: Space) -> None:
    """Keeps earlier trials in a run."""
    table = tables.trials_table(trials, grown(None, trials, space))
    write_table(folder / FILE, table)


def kept(folder: Path) -> tuple[Trial, ...]:
    """The earlier trials that a run keeps."""
    path = folder / FILE
    if not path.exists():
        return ()
    table = mapping.trials(read_table(path), mapping.before(turns.read(folder)))
    return tuple(tables.trials_from(table))


def first(trials: Sequence[Trial], objectives: tuple[Objective, ...]) -> list[Proposal]:
    """Proposals of the designs that stood best among those of their own run, the best first."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        if all(o.name in trial.metrics for o in objectives):
            groups.setdefault(trial.split, []).append(trial)
    placed = [
        (float(place), trial)
        for group in groups.values()
        for place, trial in zip(standings(group, objectives), group, strict=True)
        if np.isfinite(place)
    ]
    best = sorted(placed, key=lambda pair: -pair[0])[:FIRST]
    return [
        Proposal(
            trial.architecture,
            Reason("derived", f"was among the best of {trial.split} (its trial {trial.number})"),
        )
        for _, trial in best
    ]

"""A run on disk, as it is read: run.json, Parquet parts and what is still in the log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from raynas import tables, turns
from raynas.directives import State, fold
from raynas.errors import UserError
from raynas.files import write_atomically
from raynas.objective import Constraint, Objective, pareto_front
from raynas.problem import Problem
from raynas.screening import Screening, Shared, screening
from raynas.space import Space
from raynas.trial import Job, Trial, job_from_dict

TESTING = frozenset(
    {"confirm", "ablation", "audit", "final"}
)  # purposes of trials that test what is known


class ArchiveError(UserError):
    """A run folder that cannot be used as asked."""


def exists(run: Path) -> ArchiveError:
    """The error for a new run whose folder is there already."""
    return ArchiveError(
        f"{run} exists already. Choose another --run, or `raynas resume {run}` to go on."
    )


@dataclass(frozen=True)
class RunInfo:
    """What run.json holds: everything that a run needs to be read or resumed.

    Attributes:
        settings: the options of the search (strategy, scheduler, epochs, budgets, ...).
        data: name, input_shape, num_classes, mean and std of the data; empty for own evaluators.
        versions: of the packages that matter.
        command: how it was started.
        state: what people said since and what holds by it; `problem` and `space` are as they are
            by now, and every trial of the run is a design of `space`.
    """

    problem: Problem
    space: Space
    settings: Mapping[str, Any]
    data: Mapping[str, Any]
    versions: Mapping[str, str]
    command: str
    state: State | None = None

    @cached_property
    def now(self) -> State:
        """What holds now, with this space."""
        state = self.state or State(self.problem, self.space)
        return replace(state, space=self.space)

    @property
    def allowed(self) -> Space:
        """The part of the space that may be proposed."""
        return self.now.allowed

    @property
    def goals(self) -> tuple[Constraint, ...]:
        """The constraints, and the reference points by which designs are ranked as if they were."""
        return (*self.constraints, *self.now.aims)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        return self.problem.objectives

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        return self.problem.constraints

    @property
    def screening(self) -> Screening | None:
        """How designs are scored of which only a few are trained alone; None if all are."""
        return screening(str(self.settings.get("evaluation", "train")))

    @property
    def shared(self) -> bool:
        """Whether designs are scored with shared weights."""
        return isinstance(self.screening, Shared)

    @property
    def searched(self) -> tuple[Objective, ...]:
        """The objectives as the search sees them: by the scores, where designs are scored."""
        if (how := self.screening) is None:
            return self.objectives
        return tuple(dict.fromkeys(how.seen(o) for o in self.objectives))

    def write(self, run: Path) -> None:
        """Writes RUN/run.json, making the folder.

        Raises:
            ArchiveError: the folder is there already and not empty.
        """
        if run.exists() and (not run.is_dir() or any(run.iterdir())):
            raise exists(run)
        for folder in ("trials", "proposals", "claims", "log", "models"):
            (run / folder).mkdir(parents=True, exist_ok=True)
        data = {"problem": self.problem.to_dict(), "space": self.space.to_dict()}
        data |= {k: getattr(self, k) for k in ("settings", "data", "versions", "command")}
        write_atomically(run / "run.json", json.dumps(data, indent=2).encode())

    @classmethod
    def read(cls, run: Path) -> RunInfo:
        """Reads RUN/run.json.

        Raises:
            ArchiveError: there is none, or it cannot be read.
        """
        try:
            data = json.loads((run / "run.json").read_text())
            problem = Problem.of(data["problem"])
            space = Space.from_dict(data["space"])
            rest = {k: data[k] for k in ("settings", "data", "versions", "command")}
        except FileNotFoundError:
            raise ArchiveError(
                f"{run} is not a run: it has no run.json. Give the folder that a search printed."
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArchiveError(f"{run / 'run.json'} cannot be read: {error}.") from None
        state = fold(problem, space, turns.read(run))
        return cls(state.problem, state.space, **rest, state=state)


@dataclass
class Contents:
    """All that a run holds, in the order in which it was recorded; one entry per number."""

    trials: pa.Table
    proposals: pa.Table
    notes: list[str] = field(default_factory=list)


def read(run: Path, space: Space) -> Contents:
    """Reads parts and log of a run, also while it is being written."""
    notes: list[str] = []
    jobs, trials = read_log(run, notes)  # before the parts: rolling moves entries that way
    old_trials = read_parts(run / "trials", notes)
    old_proposals = read_parts(run / "proposals", notes)
    known = numbers(old_trials)
    fresh = [t for t in trials if t.number not in known]
    schema = grown(old_trials.schema if old_trials is not None else None, fresh, space)
    table = tables.trials_table(fresh, schema)
    if old_trials is not None:
        table = pa.concat_tables([cast(old_trials, schema), table])
    known = numbers(old_proposals)
    proposals = tables.proposals_table([j for j in jobs if j.number not in known])
    if old_proposals is not None:
        proposals = pa.concat_tables([cast(old_proposals, tables.PROPOSALS), proposals])
    return Contents(table, proposals, notes)


def front_of(trials: pd.DataFrame, info: RunInfo) -> pd.DataFrame:
    """The rows of `trials` on the Pareto front: finished, allowed, read in every
    objective and not dominated; best first. Shared weights themselves are no design, and trials
    that test what is known are no search: the best of their single readings would flatter it."""
    names = [f"m.{o.name}" for o in info.objectives]
    if not set(names) <= set(trials.columns):
        return trials.iloc[:0]
    rows = trials[(trials["status"] == "finished") & ~trials["purpose"].isin(not_for_front(info))]
    rows = allowed(rows, info).dropna(subset=names)
    points = np.column_stack(
        [o.loss(1.0) * rows[f"m.{o.name}"].to_numpy(dtype=float) for o in info.objectives]
    )
    first = info.objectives[0]
    return rows[pareto_front(points)].sort_values(names[0], ascending=first.direction == "min")


def not_for_front(info: RunInfo) -> frozenset[str]:
    """The purposes of trials that never stand on the front.

    Where designs are scored, `confirm` trains the best of them for the first time.
    """
    return frozenset({"supernet"}) | (TESTING if info.screening is None else frozenset())


def allowed(rows: pd.DataFrame, info: RunInfo) -> pd.DataFrame:
    """The trials that keep every constraint, as far as is known."""
    broken = pd.Series(False, index=rows.index)
    for c in info.constraints:
        if f"m.{c.metric}" in rows:
            gap = rows[f"m.{c.metric}"].astype(float) - c.bound
            broken |= (gap if c.sense == "max" else -gap) > 0
    kept: pd.DataFrame = rows[~broken]
    return kept


def read_log(run: Path, notes: list[str]) -> tuple[list[Job], list[Trial]]:
    jobs: dict[int, Job] = {}
    trials: dict[int, Trial] = {}
    for path in sorted((run / "log").glob("*.jsonl")):
        try:
            lines = path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:  # rolled away meanwhile: its entries are in the parts
            continue
        for line in lines:
            try:
                kind, data = json.loads(line)
                if kind == "trials":
                    trials.setdefault(data["number"], Trial.from_dict(data))
                else:
                    jobs.setdefault(data["number"], job_from_dict(data))
            except (ValueError, KeyError, TypeError):
                notes.append(f"{path}: a torn entry was ignored (it had not been acknowledged).")
    return list(jobs.values()), list(trials.values())


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def read_parts(
    folder: Path, notes: list[str], columns: list[str] | None = None, set_aside: bool = False
) -> pa.Table | None:
    """Reads a table's parts; broken ones are passed over, noted, and by option renamed."""
    found = []
    for path in parts(folder):
        try:
            found.append(pq.read_table(path, columns=columns, partitioning=None))
        except (pa.ArrowInvalid, OSError) as error:
            cause = str(error).splitlines()[0]
            notes.append(
                f"{path} is broken and was passed over ({cause}); what only it held is run "
                "again on resume."
            )
            if set_aside:
                path.rename(path.with_name(f"_broken-{path.name}"))
    return pa.concat_tables(found, promote_options="default") if found else None


def numbers(table: pa.Table | None) -> set[int]:
    return set(table["number"].to_pylist()) if table is not None else set()


def grown(schema: pa.Schema | None, trials: Sequence[Trial], space: Space) -> pa.Schema:
    """The schema with a column for every metric and curve met."""
    names = schema.names if schema is not None else []
    metrics = [n[2:] for n in names if n.startswith("m.")]
    curves = [n[2:] for n in names if n.startswith("c.")]
    new_metrics = dict.fromkeys(n for t in trials for n in t.metrics)
    new_curves = dict.fromkeys(n for t in trials for r in t.curve for n in r)
    return tables.trial_schema(
        space,
        list(dict.fromkeys([*metrics, *new_metrics])),
        list(dict.fromkeys([*curves, *new_curves])),
    )


def cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = {
        f.name: table[f.name].cast(f.type)
        if f.name in table.column_names
        else pa.nulls(len(table), f.type)
        for f in schema
    }
    return pa.table(columns, schema=schema)

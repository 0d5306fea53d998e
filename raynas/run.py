"""A run on disk, as it is read: run.json, Parquet parts and what is still in the log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from raynas import log, mapping, tables, turns
from raynas.compressing import with_compression
from raynas.directives import State, Turn, fold, widened
from raynas.disk import listed
from raynas.errors import UserError
from raynas.files import move, read_contents, read_tables, write_atomically
from raynas.objective import Constraint, Objective
from raynas.problem import Problem
from raynas.remote import StoreError
from raynas.screening import Screening, Shared, screening
from raynas.space import Space
from raynas.trial import Job, Trial, job_from_dict

PART = "directives/part.json"


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
        said: all turns, also those that were taken back.
    """

    problem: Problem
    space: Space
    settings: Mapping[str, Any]
    data: Mapping[str, Any]
    versions: Mapping[str, str]
    command: str
    state: State | None = None
    said: tuple[Turn, ...] = ()

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
    def widened_at(self) -> int:
        """The first trial number since which designs may have all options that there are now."""
        adding = [t.since for t in self.said if any(d.kind == "add" for d in t.directives)]
        return max(adding, default=0)

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

    def told(self, kept: RunInfo) -> RunInfo:
        """This run with its own data and code, and what holds by what people said since."""
        changed = {"objectives": kept.objectives, "constraints": kept.constraints}
        problem = self.problem.model_copy(update=changed)
        return replace(kept, problem=problem, space=as_kept(self.space, kept))

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
    def read(cls, run: Path, more: Sequence[Turn] = ()) -> RunInfo:
        """Reads RUN/run.json, and what people said since.

        Args:
            more: turns that are not kept yet: what would hold with them?

        Raises:
            Contradiction: they cannot hold together with what was said before.
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
        except StoreError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArchiveError(f"{run / 'run.json'} cannot be read: {error}.") from None
        said = (*turns.read(run), *more)
        said = mapping.turns(said, mapping.before(said))
        state = fold(problem, space, said)
        return cls(state.problem, state.space, **rest, state=state, said=said)


def as_kept(code: Space, info: RunInfo) -> Space:
    """A space's code for the decisions of a run, with what people added to them since.

    Whether networks can be built with it was seen to when it was added (`raynas.widening`). A
    decision of an own space must be in its code: only there it means anything.

    Raises:
        UserError: the code knows other decisions by now.
    """
    added = [d for turn in info.said for d in turn.directives if d.kind == "add"]
    names = {d.decision.name for d in added if d.decision is not None}
    if any(n.startswith("compress.") and n not in code.by_name for n in names):
        code = with_compression(code)
    for d in added:
        if d.decision is None or d.decision.name.startswith("train.") or code.build is None:
            code = widened(code, d)
    return code.with_decisions(info.space)


@dataclass(frozen=True)
class Part:
    """What the last continuation of a run was given, by which it can be resumed.

    Attributes:
        first: its first trial number.
        before: how many trials had been made by then, those refused aside.
        trials: how many there may be in all.
        seconds: its time; None without a limit.
    """

    first: int = 0
    before: int = 0
    trials: int | None = None
    seconds: float | None = None

    def write(self, run: Path) -> None:
        """Keeps it in the run."""
        (run / PART).parent.mkdir(exist_ok=True)
        write_atomically(run / PART, json.dumps(vars(self)).encode())

    @classmethod
    def read(cls, run: Path) -> Part | None:
        """The last one; None if the run never went further than it was asked to at first."""
        path = run / PART
        return cls(**json.loads(path.read_text())) if path.exists() else None


@dataclass
class Contents:
    """All that a run holds, in the order in which it was recorded; one entry per number."""

    trials: pa.Table
    proposals: pa.Table
    notes: list[str] = field(default_factory=list)


def read(run: Path, space: Space) -> Contents:
    """Reads parts and log of a run, also while it is being written.

    Designs of before a decision was added have it as whoever added it said (`raynas.mapping`).
    """
    notes: list[str] = []
    had = mapping.before(turns.read(run))
    jobs, trials = read_log(run, notes, had)  # before the parts: rolling moves entries that way
    old_trials = read_parts(run / "trials", notes)
    old_proposals = read_parts(run / "proposals", notes)
    known = numbers(old_trials)
    fresh = [t for t in trials if t.number not in known]
    schema = grown(old_trials.schema if old_trials is not None else None, fresh, space)
    table = tables.trials_table(fresh, schema)
    if old_trials is not None:
        table = pa.concat_tables([mapping.trials(cast(old_trials, schema), had), table])
    known = numbers(old_proposals)
    proposals = tables.proposals_table([j for j in jobs if j.number not in known])
    if old_proposals is not None:
        old_proposals = mapping.proposals(cast(old_proposals, tables.PROPOSALS), had)
        proposals = pa.concat_tables([old_proposals, proposals])
    return Contents(table, proposals, notes)


def read_log(
    run: Path, notes: list[str], had: mapping.Had = MappingProxyType({})
) -> tuple[list[Job], list[Trial]]:
    jobs: dict[int, Job] = {}
    trials: dict[int, Trial] = {}
    paths = log.kept(run)
    for path, content in zip(paths, read_contents(paths), strict=True):
        if content is None:  # rolled away meanwhile: its entries are in the parts
            continue
        for line in content.splitlines(keepends=True):
            try:
                kind, data = json.loads(line)
                if kind == "trials":
                    trials.setdefault(data["number"], Trial.from_dict(data))
                else:
                    jobs.setdefault(data["number"], job_from_dict(data))
            except (ValueError, KeyError, TypeError):
                notes.append(f"{path}: a torn entry was ignored (it had not been acknowledged).")
    return (
        [mapping.job(j, had) for j in jobs.values()],
        [replace(t, architecture=mapping.design(t.architecture, had)) for t in trials.values()],
    )


def parts(folder: Path) -> list[Path]:
    return listed(folder, "part-*.parquet")


def read_parts(
    folder: Path, notes: list[str], columns: list[str] | None = None, set_aside: bool = False
) -> pa.Table | None:
    """Reads a table's parts; broken ones are passed over, noted, and by option renamed.

    A number counts once, where it comes first: in a store a writer that was cut off may leave
    rows that the next one has as well.
    """
    found = []
    for path, table in read_tables(parts(folder), columns):
        if not isinstance(table, Exception):
            found.append(table)
            continue
        cause = str(table).splitlines()[0]
        notes.append(
            f"{path} is broken and was passed over ({cause}); what only it held is run "
            "again on resume."
        )
        if set_aside:
            move(path, path.with_name(f"_broken-{path.name}"))
    if not found:
        return None
    rows = pa.concat_tables(found, promote_options="default")
    _, first = np.unique(rows["number"].to_numpy(), return_index=True)
    return rows if len(first) == len(rows) else rows.take(np.sort(first))


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

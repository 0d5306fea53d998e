"""The trials of a run as they come: at each look those that are new, with their reasons."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from raynas import mapping, tables, turns
from raynas.files import read_tables
from raynas.run import RunInfo, cast, grown, parts, read_log
from raynas.trial import Reason, Trial

REASONS = ["number", "kind", "note", "parents"]


class Follower:
    """Reads a run part by part, and no part again that cannot have grown.

    Attributes:
        info: the run as it was said to be at the last look.
        notes: what was found broken and passed over.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.info = RunInfo.read(run)
        self.notes: list[str] = []
        self._seen: set[int] = set()
        self._reasons: dict[int, Reason] = {}  # of trials that were not seen yet
        self._whole: set[str] = set()  # parts that get no more rows

    def new(self) -> Iterator[Trial]:
        """The trials that were not given before, in the order in which they were recorded."""
        self.info = RunInfo.read(self.run)
        had = mapping.before(turns.read(self.run))
        # The log before the parts, as rolling moves entries that way; trials before proposals, so
        # that whatever trial is found, why it was proposed is found as well.
        jobs, logged = read_log(self.run, self.notes, had)
        tables_of_trials = list(self._grown("trials"))
        for table in self._grown("proposals", REASONS):
            self._learn(table)
        for job in jobs:
            if job.number not in self._seen:
                self._reasons[job.number] = job.proposal.reason
        for table in tables_of_trials:
            schema = grown(table.schema, [], self.info.space)
            rows = cast(self._unseen(table), schema)
            for trial in tables.trials_from(mapping.trials(rows, had)):
                yield from self._once(trial)
        for trial in logged:
            yield from self._once(trial)

    def _once(self, trial: Trial) -> Iterator[Trial]:
        if trial.number not in self._seen:
            self._seen.add(trial.number)
            yield replace(trial, reason=self._reasons.pop(trial.number, None))

    def _learn(self, proposals: pa.Table) -> None:
        for row in self._unseen(proposals).to_pylist():
            reason = Reason(row["kind"], row["note"], tuple(row["parents"]))
            self._reasons.setdefault(row["number"], reason)

    def _unseen(self, table: pa.Table) -> pa.Table:
        numbers = table["number"].to_pylist()
        return table.filter(pa.array([n not in self._seen for n in numbers], pa.bool_()))

    def _grown(self, kind: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """The parts that may hold rows which were not read yet: rows are added to the last one."""
        paths = [p for p in parts(self.run / kind) if f"{kind}/{p.name}" not in self._whole]
        for path, table in read_tables(paths, columns):
            if isinstance(table, Exception):
                note = f"{path} is broken and was passed over ({str(table).splitlines()[0]})."
                if note not in self.notes:
                    self.notes.append(note)
                continue
            yield table
        self._whole |= {f"{kind}/{p.name}" for p in paths[:-1]}


@dataclass(frozen=True)
class Source:
    """A run that is copied.

    Attributes:
        key: what tells it from all others, wherever it is moved: the same command begun twice
            makes two runs, whose first proposals differ by their time.
        began: seconds since 1970.
        name: what it is called elsewhere.
    """

    place: Path
    info: RunInfo
    key: str
    began: float
    name: str


def source(run: Path, name: str | None = None) -> Source | None:
    """The run as something to be copied; None if nothing was proposed yet.

    Raises:
        ArchiveError: there is no run.
    """
    info = RunInfo.read(run)
    jobs, _ = read_log(run, [])
    found = [(j.number, datetime.fromtimestamp(j.at, UTC)) for j in jobs]
    for _, table in read_tables(parts(run / "proposals")[:1], ["number", "at"]):
        if not isinstance(table, Exception):
            found += zip(table["number"].to_pylist(), table["at"].to_pylist(), strict=True)
    if not found:
        return None
    number, at = min(found)
    key = hashlib.sha256(f"{number} {at.isoformat()}".encode()).hexdigest()[:16]
    return Source(run, info, key, at.timestamp(), name or run.resolve().name)

"""A run read by columns: what a look at it needs, however many trials it holds.

`raynas.run.read` reads all of a run; this reads only what is asked for, and again only the parts
that have changed since.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raynas import mapping, tables
from raynas.files import read_contents
from raynas.front import front_of
from raynas.remote import Remote, asked
from raynas.run import RunInfo, cast, parts, read_log
from raynas.space import Space

AT_ONCE = 32  # parts in a store that are fetched together

Stamp = tuple[Any, ...]


class Columns:
    """A run on disk, also while it is being written.

    Attributes:
        info: problem, space and settings, as of the last `refresh`.
        notes: what is broken on disk and was passed over.

    Raises:
        ArchiveError: there is no run there.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self._parts: dict[tuple[Path, tuple[str, ...]], tuple[Stamp, pa.Table | str]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Reads anew what holds by now and what is in the log, which is first: entries move from
        there into the parts."""
        self.info = RunInfo.read(self.run)
        self.notes: list[str] = []
        self._had = mapping.before(self.info.said)
        self._jobs, self._ended = read_log(self.run, self.notes, self._had)

    def trials(self, names: Sequence[str]) -> pa.Table:
        """Columns of all trials, one row per number; null where a trial has no such value."""
        lacking = bool(self._had) and any(n.startswith("d.") for n in names)
        wanted = _schema(self.info.space, [*names, "architecture"] if lacking else names)
        table = self._of_parts("trials", wanted)
        if lacking:
            table = mapping.trials(table, self._had)
        fresh = _missing(self._ended, table)
        return pa.concat_tables([table, tables.trials_table(fresh, wanted)]).select(list(names))

    def proposals(self, names: Sequence[str]) -> pa.Table:
        """Columns of all proposals."""
        wanted = pa.schema([tables.PROPOSALS.field(n) for n in names])
        table = self._of_parts("proposals", wanted)
        fresh = _missing(self._jobs, table)
        return pa.concat_tables([table, tables.proposals_table(fresh).select(list(names))])

    def rows(self, kind: str, numbers: Sequence[int]) -> pa.Table:
        """All columns that `trials` or `proposals` of these numbers have."""
        wanted = pa.array(numbers, pa.int64())
        ended = [t for t in self._ended if t.number in numbers]
        metrics = dict.fromkeys(n for t in ended for n in t.metrics)
        curves = dict.fromkeys(n for t in ended for r in t.curve for n in r)
        found = [
            tables.trials_table(ended, tables.trial_schema(self.info.space, [*metrics], [*curves]))
            if kind == "trials"
            else tables.proposals_table([j for j in self._jobs if j.number in numbers])
        ]
        for path, source in self._sources(parts(self.run / kind)):
            try:
                with pq.ParquetFile(source) as file:
                    if _may_hold(file, numbers):
                        rows = file.read()
                        found.append(rows.filter(pc.is_in(rows["number"], wanted)))
            except (pa.ArrowInvalid, OSError) as error:
                self._note(_broken(path, error))
        table = _unique(pa.concat_tables(found, promote_options="default"))
        map_ = mapping.trials if kind == "trials" else mapping.proposals
        return map_(table, self._had) if self._had else table

    @property
    def judged(self) -> list[str]:
        """The columns of trials that say which stand on the front (`raynas.front.front_of`)."""
        info = self.info
        metrics = [o.name for o in info.objectives] + [c.metric for c in info.goals]
        names = ["number", "status", "purpose", *(f"m.{n}" for n in metrics)]
        names += [f"d.{n}" for n in info.now.left if n in info.space.by_name]
        return list(dict.fromkeys(names))

    def front(self) -> pd.DataFrame:
        """The trials on the Pareto front, best first, with the columns that say so."""
        return front_of(tables.frame(self.trials(self.judged)), self.info)

    def _of_parts(self, kind: str, wanted: pa.Schema) -> pa.Table:
        stamps = _stamps(self.run / kind)
        stale = [path for path, stamp in stamps.items() if self._known(path, wanted) != stamp]
        for path, source in self._sources(stale):
            try:
                with pq.ParquetFile(source) as file:
                    there = [n for n in wanted.names if n in file.schema_arrow.names]
                    table = cast(file.read(columns=there), wanted)
            except (pa.ArrowInvalid, OSError) as error:
                table = _broken(path, error)
            self._parts[path, tuple(wanted.names)] = stamps[path], table
        found = [self._parts[path, tuple(wanted.names)][1] for path in sorted(stamps)]
        for text in found:
            if isinstance(text, str):
                self._note(text)
        whole = [table for table in found if isinstance(table, pa.Table)]
        return _unique(pa.concat_tables([wanted.empty_table(), *whole]))

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _known(self, path: Path, wanted: pa.Schema) -> Stamp | None:
        """The state of a part when these columns of it were read; None if they never were."""
        return self._parts.get((path, tuple(wanted.names)), (None,))[0]

    @staticmethod
    def _sources(paths: Sequence[Path]) -> Iterator[tuple[Path, Any]]:
        """Where to read parts from: their path, or in a store their content."""
        if not paths or not isinstance(paths[0], Remote):
            yield from ((path, path) for path in paths)
            return
        for first in range(0, len(paths), AT_ONCE):
            some = paths[first : first + AT_ONCE]
            for path, content in zip(some, read_contents(some), strict=True):
                if content is not None:
                    yield path, pa.BufferReader(content)


def busy_seconds(trials: pd.DataFrame) -> float:
    """How long a run was at work: the time during which at least one kept trial was running."""
    rows = trials[trials["started_at"].notna() & (trials["seconds"] > 0)].sort_values("started_at")
    start = rows["started_at"].astype("int64").to_numpy() / 1e6  # the column is in microseconds
    end = np.maximum.accumulate(start + rows["seconds"].to_numpy()) if len(rows) else start
    before = np.concatenate([[-np.inf], end[:-1]])
    return float(np.maximum(end - np.maximum(start, before), 0).sum())


def _schema(space: Space, names: Sequence[str]) -> pa.Schema:
    """The types of columns, also of those that no part has."""
    metrics, curves = ([n[2:] for n in names if n.startswith(p)] for p in ("m.", "c."))
    known = tables.trial_schema(space, metrics, curves)
    return pa.schema(
        [known.field(n) if n in known.names else pa.field(n, pa.string()) for n in names]
    )


def _missing(entries: Sequence[Any], table: pa.Table) -> list[Any]:
    """The entries whose number the table does not hold."""
    if not entries:
        return []
    asked = pa.array([e.number for e in entries], pa.int64())
    held = pc.is_in(asked, value_set=table["number"].combine_chunks()).to_pylist()
    return [e for e, there in zip(entries, held, strict=True) if not there]


def _unique(table: pa.Table) -> pa.Table:
    """The rows whose number comes for the first time."""
    numbers = table["number"].to_numpy()
    if len(numbers) < 2 or (np.diff(numbers) > 0).all():
        return table
    _, first = np.unique(numbers, return_index=True)
    return table if len(first) == len(table) else table.take(np.sort(first))


def _may_hold(file: pq.ParquetFile, numbers: Sequence[int]) -> bool:
    """Whether one of the numbers lies where the file's own summary says that its rows are."""
    for group in range(file.metadata.num_row_groups):
        column = file.metadata.row_group(group).column(0)
        said = column.statistics
        if column.path_in_schema != "number" or said is None or not said.has_min_max:
            return True
        if any(said.min <= n <= said.max for n in numbers):
            return True
    return False


def _stamps(folder: Path) -> dict[Path, Stamp]:
    """What tells each part's state from those before."""
    found: dict[Path, Stamp] = {}
    if isinstance(folder, Remote):
        listed = {told["name"].rpartition("/")[2]: told for told in _listed(folder)}
        marks = ("size", "ETag", "etag", "LastModified", "updated", "mtime", "created")
        for path in parts(folder):
            found[path] = tuple(str(listed.get(path.name, {}).get(m)) for m in marks)
        return found
    for path in parts(folder):
        try:
            told = path.stat()
        except FileNotFoundError:  # set aside meanwhile
            continue
        found[path] = (told.st_size, told.st_mtime_ns, told.st_ino)
    return found


def _listed(folder: Remote) -> Sequence[Mapping[str, Any]]:
    """What a store says of the objects in a folder."""
    try:
        with asked(folder):
            return list(folder._system.ls(folder._key, detail=True))
    except FileNotFoundError:
        return []


def _broken(path: Path, error: Exception) -> str:
    cause = str(error).splitlines()[0]
    return f"{path} is broken and was passed over ({cause})."

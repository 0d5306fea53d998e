"""A run on disk: every trial and every proposal, kept so that a crash at any moment loses nothing.

An entry is acknowledged once it is in the write-ahead log (`raynas.log`): fsynced in a folder,
written as an object in a store. The log is rolled into Parquet parts (`trials/`, `proposals/`,
columns: `raynas.tables`) every few seconds: the parts are replaced, then the log is dropped; an
entry that is found in both is counted once, by its number. One process writes (`raynas.lock` says
who), any may read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from raynas import lock, mapping, tables
from raynas.files import read_table, remove, write_atomically, write_table
from raynas.front import front_of, not_for_front
from raynas.lock import DYING
from raynas.log import log_of
from raynas.objective import Metrics, losses
from raynas.remote import patiently
from raynas.run import RunInfo, cast, grown, numbers, parts, read_log, read_parts
from raynas.trial import Job, Trial, job_to_dict

ROLL_ENTRIES = 500  # entries in the log, or
ROLL_SECONDS = 10.0  # its age, at which it is rolled into Parquet
PART_ROWS = 10_000  # the last part grows up to so many rows

Entry = Job | Trial


class Archive:
    """The one writer of a run.

    Opening takes the run's lock and recovers what a crash left in the log.

    Args:
        run: the folder, with a run.json.
        wait: seconds to wait for another writer (one that is just dying) to let go.

    Raises:
        ArchiveError: it is not a run, or another process is writing it.
    """

    def __init__(self, run: Path, wait: float = DYING) -> None:
        self.run = run
        self.info = RunInfo.read(run)
        self._lock = lock.take(run, wait)
        self._log = log_of(run, self._lock.owner)
        self.notes: list[str] = []
        had = mapping.before(self.info.said)
        jobs, trials = read_log(run, self.notes, had)
        old = read_parts(run / "trials", self.notes, set_aside=True)
        proposals = read_parts(run / "proposals", self.notes, ["number"], set_aside=True)
        self._numbers = {"trials": numbers(old), "proposals": numbers(proposals)}
        self._schema = grown(old.schema if old is not None else None, [], self.info.space)
        old = self._mapped(old, had)
        self._front: dict[int, Trial] = {}
        self._kept = _kept_models(run, self.info, old)
        if old is not None:
            for trial in tables.trials_from(_front_rows(old, self.info)):
                self._enter_front(trial)
        self._waiting: list[Entry] = []
        for job in jobs:
            self._accept(job)
        for trial in trials:
            self._accept(trial)
        self.roll()

    def propose(self, job: Job) -> None:
        """Keeps a proposal; returns when it would survive a crash."""
        self.append([(job, None)])

    def record(self, trial: Trial, weights: bytes | None = None) -> None:
        """Keeps a trial and its weights; returns when both would survive a crash."""
        self.append([(trial, weights)])

    def append(self, entries: Sequence[tuple[Entry, bytes | None]]) -> None:
        """Keeps several entries with one fsync; numbers that are already kept are passed over."""
        new = [(e, w) for e, w in entries if e.number not in self._numbers[_table(e)]]
        lines = []
        for entry, weights in new:
            if weights is not None and isinstance(entry, Trial):
                self._write_model(entry, weights)
            lines.append(_line(entry))
        patiently(lambda: self._commit(b"".join(lines)))
        for entry, _ in new:
            self._accept(entry)
        if len(self._waiting) >= ROLL_ENTRIES or time.monotonic() - self._rolled > ROLL_SECONDS:
            patiently(self.roll)

    def find(self, number: int) -> Trial | None:
        """The trial of this number, if it is kept."""
        if number not in self._numbers["trials"]:
            return None
        for entry in self._waiting:
            if isinstance(entry, Trial) and entry.number == number:
                return entry
        table = read_parts(self.run / "trials", self.notes)
        assert table is not None  # the number came from there
        return next(tables.trials_from(table.filter(pc.equal(table["number"], number))))

    def cached(self, name: str) -> bytes | None:
        """A file of the run; None if there is none."""
        try:
            return (self.run / name).read_bytes()
        except FileNotFoundError:
            return None

    def cache(self, name: str, data: bytes) -> None:
        """Replaces a file of the run that can be computed again."""
        self._lock.check()
        (self.run / name).parent.mkdir(exist_ok=True)
        write_atomically(self.run / name, data)

    def wants_weights(self, trial: Trial) -> bool:
        """Whether the trial would stand on the Pareto front now, or is what people agreed on."""
        if trial.status != "finished":
            return False
        return trial.purpose == "final" or self._stands_out(trial)

    def _stands_out(self, trial: Trial) -> bool:
        if trial.status != "finished" or not _allowed(trial, self.info):
            return False
        if trial.purpose in not_for_front(self.info):
            return False
        if any(o.name not in trial.metrics for o in self.info.objectives):
            return False  # scored, not trained
        point = self._point(trial)
        return not any(_dominates(self._point(t), point) for t in self._front.values())

    def fill(self, found: Mapping[int, Metrics]) -> None:
        """Adds metrics to trials that do not have them, part by part; what they have stays."""
        self.roll()
        names = list(dict.fromkeys(name for metrics in found.values() for name in metrics))
        known = [n.removeprefix("m.") for n in self._schema.names if n.startswith("m.")]
        curves = [n.removeprefix("c.") for n in self._schema.names if n.startswith("c.")]
        all_names = list(dict.fromkeys([*known, *names]))
        self._schema = tables.trial_schema(self.info.space, all_names, curves)
        for path in parts(self.run / "trials"):
            rows = cast(read_table(path), self._schema)
            for name in names:
                told = [found.get(number, {}).get(name) for number in rows["number"].to_pylist()]
                both = pc.coalesce(rows[f"m.{name}"], pa.array(told, pa.float64()))
                place = rows.column_names.index(f"m.{name}")
                rows = rows.set_column(place, self._schema.field(f"m.{name}"), both)
            write_table(path, rows)
        self._front = {}  # a limit may speak of what was not known
        trials = read_parts(self.run / "trials", self.notes)
        for trial in tables.trials_from(_front_rows(trials, self.info)) if trials else ():
            self._enter_front(trial)

    def roll(self) -> None:
        """Moves the log into Parquet, rewrites front.parquet, drops weights off the front."""
        self._lock.check()
        jobs = [e for e in self._waiting if isinstance(e, Job)]
        trials = [e for e in self._waiting if isinstance(e, Trial)]
        if trials:
            schema = grown(self._schema, trials, self.info.space)
            if schema != self._schema:
                for path in parts(self.run / "trials"):
                    write_table(path, cast(read_table(path), schema))
                self._schema = schema
            _extend(self.run / "trials", tables.trials_table(trials, schema), self._lock.owner)
            self._waiting = list(jobs)  # a second try writes no row twice
        if jobs:
            _extend(self.run / "proposals", tables.proposals_table(jobs), self._lock.owner)
        self._waiting = []
        self._log.begin()
        self._write_front()
        self._rolled = time.monotonic()

    def close(self) -> None:
        """Rolls and lets go of the run."""
        patiently(self.roll)
        self._log.close()
        self._lock.close()

    def _mapped(self, trials: pa.Table | None, had: mapping.Had) -> pa.Table | None:
        """The trials with what they lack of added decisions, which the parts then say as well."""
        if trials is None:
            return None
        if not mapping.lacking(trials, had):
            return trials
        for path in parts(self.run / "proposals"):
            rows = cast(read_table(path), tables.PROPOSALS)
            write_table(path, mapping.proposals(rows, had))
        for path in parts(self.run / "trials"):
            rows = cast(read_table(path), self._schema)
            write_table(path, mapping.trials(rows, had))
        return mapping.trials(cast(trials, self._schema), had)

    def _commit(self, lines: bytes) -> None:
        if lines:
            self._log.append(lines)
            self._lock.check()  # after it: else who took over might have looked before

    def _accept(self, entry: Entry) -> None:
        numbers = self._numbers[_table(entry)]
        if entry.number not in numbers:
            numbers.add(entry.number)
            self._waiting.append(entry)
            if isinstance(entry, Trial):
                self._enter_front(entry)
                self._kept |= {entry.number} if entry.purpose == "final" else set()

    def _enter_front(self, trial: Trial) -> None:
        if self._stands_out(trial):
            point = self._point(trial)
            beaten = [n for n, t in self._front.items() if _dominates(point, self._point(t))]
            for number in beaten:
                del self._front[number]
            self._front[trial.number] = trial

    def _point(self, trial: Trial) -> tuple[float, ...]:
        return losses(self.info.objectives, trial.metrics)

    def _write_front(self) -> None:
        members = [self._front[number] for number in sorted(self._front)]
        write_table(self.run / "front.parquet", tables.trials_table(members, self._schema))
        wanted = {*self._front, *self._kept}
        models = (self.run / "models").iterdir()
        remove([f for f in models if f.stem.isdigit() and int(f.stem) not in wanted])

    def _write_model(self, trial: Trial, weights: bytes) -> None:
        card = {
            "number": trial.number,
            "architecture": str(trial.architecture),
            "metrics": dict(trial.metrics),
            "epochs": trial.fidelity,
            "seed": trial.seed,
            "data": dict(self.info.data),
        }
        write_atomically(self.run / f"models/{trial.number}.safetensors", weights)
        path = self.run / f"models/{trial.number}.json"
        write_atomically(path, json.dumps(card, indent=2).encode())


def _table(entry: Entry) -> str:
    return "trials" if isinstance(entry, Trial) else "proposals"


def _line(entry: Entry) -> bytes:
    data = entry.to_dict() if isinstance(entry, Trial) else job_to_dict(entry)
    return json.dumps([_table(entry), data]).encode() + b"\n"


def _extend(folder: Path, rows: pa.Table, owner: str) -> None:
    """Adds rows to the last part, or to a new one: after a full one, and in a store after one of
    another writer, which may come late and replace it."""
    old = parts(folder)
    number, _, theirs = old[-1].stem.removeprefix("part-").partition("-") if old else ("1", "", "")
    if old:
        last = read_table(old[-1]) if theirs == owner else None
        if last is not None and len(last) < PART_ROWS:
            rows = pa.concat_tables([cast(last, rows.schema), rows])
        else:
            number = str(int(number) + 1)
    ending = f"-{owner}" if owner else ""
    write_table(folder / f"part-{int(number):06d}{ending}.parquet", rows)


def _allowed(trial: Trial, info: RunInfo) -> bool:
    left, options = info.now.left, trial.architecture.options
    if any(name in options and options[name] not in left[name] for name in left):
        return False
    return all(c.holds(trial.metrics) for c in info.constraints)


def _kept_models(run: Path, info: RunInfo, trials: pa.Table | None) -> set[int]:
    """The trials whose weights stay, whatever the front: designs that people agreed on and, as
    soon as somebody has said something, fronts of before, to which undoing it leads back."""
    finals = set()
    if trials is not None:
        finals = numbers(trials.filter(pc.equal(trials["purpose"], "final")))
    if not info.said:
        return finals
    return finals | {int(f.stem) for f in (run / "models").iterdir() if f.stem.isdigit()}


def _dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


def wait_until_free(run: Path) -> None:
    """Returns when no process writes the run.

    Raises:
        ArchiveError: one still does after DYING seconds.
    """
    lock.take(run, DYING).close()


def being_written(run: Path) -> bool:
    """Whether a process writes the run now."""
    return lock.held(run)


def _front_rows(trials: pa.Table, info: RunInfo) -> pa.Table:
    """The rows of the front, found with columns rather than row by row."""
    kept = front_of(tables.frame(trials), info)["number"]
    return trials.filter(pc.is_in(trials["number"], pa.array(kept, pa.int64())))

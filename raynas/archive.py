"""A run on disk: every trial and every proposal, kept so that a crash at any moment loses nothing.

An entry is acknowledged once it is in the write-ahead log (`raynas.log`): fsynced in a folder,
written as an object in a store. The log is rolled into Parquet parts (`trials/`, `proposals/`,
columns: `raynas.tables`) every few seconds: the parts are replaced, then the log is dropped; an
entry that is found in both is counted once, by its number. One process writes (`raynas.lock` says
who), any may read. A disk that is full, or a place that is away, is waited for (`raynas.patience`).
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from raynas import lock, mapping, tables
from raynas.disk import DiskError, listed, on_disk
from raynas.errors import UserError
from raynas.files import read_contents, read_table, remove, write_atomically, write_table
from raynas.front import front_of, not_for_front
from raynas.lock import DYING
from raynas.log import log_of
from raynas.objective import Metrics, losses
from raynas.patience import Patience
from raynas.remote import Remote, StoreError
from raynas.run import RunInfo, cast, grown, numbers, parts, read_log, read_parts
from raynas.session import CHECKPOINTS
from raynas.trial import Job, Trial, job_to_dict
from raynas.watching import NOW

ROLL_ENTRIES = 500  # entries in the log, or
ROLL_SECONDS = 10.0  # its age, at which it is rolled into Parquet
PART_ROWS = 10_000  # the last part grows up to so many rows
CLOSING = 10.0  # seconds for which a last rolling is tried: without it, the log keeps what it holds

_log = logging.getLogger(__name__)

Entry = Job | Trial


class Archive:
    """The one writer of a run.

    Opening takes the run's lock and recovers what a crash left in the log.

    Args:
        run: the folder, with a run.json.
        wait: seconds to wait for another writer (one that is just dying) to let go.
        patience: waits for disk or store, and knows what the trouble is.

    Raises:
        ArchiveError: it is not a run, or another process is writing it.
        StoreError: the disk is full, or the store does not answer: opening does not wait for it.
    """

    def __init__(self, run: Path, wait: float = DYING, patience: Patience | None = None) -> None:
        self.run = run
        self._patience = patience or Patience()
        self.info = RunInfo.read(run)
        self._lock = lock.take(run, wait)
        self.notes: list[str] = []
        try:
            self._log = log_of(run, self._lock.owner)
            try:
                self._recover()
            except BaseException:
                self._log.close()
                raise
        except BaseException:
            self._lock.close()
            raise

    @property
    def trouble(self) -> str:
        """What keeps it from writing now, and that it waits; '' when all is well."""
        return self._patience.trouble

    def _recover(self) -> None:
        """Reads what is there, and moves into Parquet what is in the log."""
        run = self.run
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
        self._checkpoints = {
            int(f.stem): f for f in (run / CHECKPOINTS).glob("*") if f.stem.isdigit()
        }
        _drop_halves(run)
        self._waiting: list[Entry] = []
        for job in jobs:
            self._accept(job)
        for trial in trials:
            self._accept(trial)
        self.roll()
        self._drop_checkpoints(self._numbers["trials"] & self._checkpoints.keys())

    def propose(self, job: Job) -> None:
        """Keeps a proposal; returns when it would survive a crash."""
        self.append([(job, None)])

    def record(self, trial: Trial, weights: bytes | None = None) -> None:
        """Keeps a trial and its weights; returns when both would survive a crash."""
        self.append([(trial, weights)])

    def append(self, entries: Sequence[tuple[Entry, bytes | None]]) -> None:
        """Keeps several entries with one fsync; numbers that are already kept are passed over."""
        new: dict[tuple[str, int], tuple[Entry, bytes | None]] = {}
        for entry, weights in entries:
            if entry.number not in self._numbers[_table(entry)]:
                new.setdefault((_table(entry), entry.number), (entry, weights))
        if new:
            self._patience(lambda: self._commit(list(new.values())))
        for entry, _ in new.values():
            self._accept(entry)
        self._drop_checkpoints({number for table, number in new if table == "trials"})
        if len(self._waiting) >= ROLL_ENTRIES or time.monotonic() - self._rolled > ROLL_SECONDS:
            self._roll_or_later()

    def find(self, number: int) -> Trial | None:
        """The trial of this number, if it is kept."""
        if number not in self._numbers["trials"]:
            return None
        for entry in self._waiting:
            if isinstance(entry, Trial) and entry.number == number:
                return entry
        table = self._patience(lambda: read_parts(self.run / "trials", self.notes))
        assert table is not None  # the number came from there
        return next(tables.trials_from(table.filter(pc.equal(table["number"], number))), None)

    def cached(self, name: str) -> bytes | None:
        """A file of the run; None if there is none."""
        return self._patience(lambda: read_contents([self.run / name])[0])

    def cache(self, name: str, data: bytes) -> None:
        """Replaces a file of the run that can be computed again.

        Raises:
            StoreError: a checkpoint cannot be kept now; a training need not wait for that.
        """

        def write() -> None:
            self._lock.check()
            with on_disk(self.run / name, writing=True):
                (self.run / name).parent.mkdir(exist_ok=True)
            write_atomically(self.run / name, data)

        folder, _, file = name.rpartition("/")
        if folder != CHECKPOINTS:
            self._patience(write)
            return
        number, done = int(Path(file).stem), self._numbers["trials"]
        if number in done:
            return  # of an attempt that came too late
        try:
            write()
        finally:
            self._checkpoints[number] = self.run / name
            if number in done:  # recorded by another thread meanwhile, which may have found none
                self._drop_checkpoints({number})

    def show(self, now: bytes) -> None:
        """Replaces what the run shows of the search now; best effort."""
        with suppress(OSError, UserError):
            try:
                write_atomically(self.run / NOW, now)
            except DiskError:  # of a full disk it should tell: there is room where it stood
                with (self.run / NOW).open("r+b") as file:
                    file.write(now)
                    file.truncate()

    def _drop_checkpoints(self, numbers: Set[int]) -> None:
        """Of trials that are recorded now."""
        for number in numbers:
            if (file := self._checkpoints.pop(number, None)) is not None:
                with suppress(OSError, StoreError):  # else when the run is opened again
                    file.unlink(missing_ok=True)

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
        others = list(self._front.values())  # another thread may be writing
        return not any(_dominates(self._point(t), point) for t in others)

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

    def _roll_or_later(self) -> None:
        """Rolls; if that cannot be now, nobody has to wait for it, as the log holds it all."""
        try:
            self.roll()
        except StoreError as error:
            self._patience.note("roll", str(error))
            self._rolled = time.monotonic()
        else:
            self._patience.note("roll", "")

    def close(self) -> None:
        """Rolls and lets go of the run; what cannot be rolled now stays in the log, and is when
        the run is opened again."""
        try:
            self._patience(self.roll, CLOSING)
        except StoreError as error:
            _log.warning("%s Nothing is lost: `raynas resume` goes on from the log.", error)
        finally:
            self._log.close()
            self._lock.close()

    def stop_waiting(self) -> None:
        """Lets whatever waits for the disk or the store fail, in all threads: it is not
        acknowledged."""
        self._patience.end()

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

    def _commit(self, entries: Sequence[tuple[Entry, bytes | None]]) -> None:
        for entry, weights in entries:
            if weights is not None and isinstance(entry, Trial):
                self._write_model(entry, weights)
        self._log.append(b"".join(_line(entry) for entry, _ in entries))
        self._lock.check()  # after it: else who took over might have looked before

    def _accept(self, entry: Entry) -> None:
        numbers = self._numbers[_table(entry)]
        if entry.number not in numbers:
            self._waiting.append(entry)
            numbers.add(entry.number)  # only now, as another thread may `find` it then
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
        models = listed(self.run / "models", "*")
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
        if last is not None:  # a write that failed may have been done for all that
            rows = rows.filter(pc.invert(pc.is_in(rows["number"], last["number"])))
        if last is not None and len(last) < PART_ROWS:
            rows = pa.concat_tables([cast(last, rows.schema), rows])
        else:
            number = str(int(number) + 1)
    ending = f"-{owner}" if owner else ""
    write_table(folder / f"part-{int(number):06d}{ending}.parquet", rows)


def _drop_halves(run: Path) -> None:
    """Removes what a writer left that was killed while it wrote a file."""
    if isinstance(run, Remote):
        return  # an object is there as a whole or not at all
    for folder in (CHECKPOINTS, "models", "trials", "proposals"):
        for file in (run / folder).glob(".*.tmp"):
            with suppress(OSError):
                file.unlink()


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
    return finals | {int(f.stem) for f in listed(run / "models", "*") if f.stem.isdigit()}


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

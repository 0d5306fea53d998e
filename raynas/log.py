"""The write-ahead log of a run, RUN/log: what is acknowledged and not yet in Parquet.

In a folder it is a file that is appended to and fsynced. In an object store each commit is an
object, written whole; its name says which log of which writer it belongs to.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Protocol

from raynas.files import remove
from raynas.remote import Remote


class Log(Protocol):
    def append(self, lines: bytes) -> None:
        """Returns when the lines would survive a crash."""

    def begin(self) -> None:
        """Begins a new log, and drops what the earlier ones hold."""

    def close(self) -> None: ...


def log_of(run: Path, owner: str) -> Log:
    """The log of a run, to write; nothing is dropped before `begin`."""
    return ObjectLog(run, owner) if isinstance(run, Remote) else FileLog(run)


def kept(run: Path) -> list[Path]:
    """The files or objects of a run's logs, in order."""
    return sorted((run / "log").glob("*.jsonl"))


class FileLog:
    """One file at a time: `000001.jsonl`."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._number = _last(kept(run))
        self._file: IO[bytes] | None = None

    def append(self, lines: bytes) -> None:
        if self._file is None:
            return
        end = self._file.tell()
        try:
            self._file.write(lines)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(end)  # a torn line must not stand before what comes later
            raise

    def begin(self) -> None:
        self._number += 1
        name = f"{self._number:06d}"
        old, self._file = self._file, (self._run / f"log/{name}.jsonl").open("ab")
        if old:
            old.close()
        remove([stale for stale in kept(self._run) if stale.stem < name])

    def close(self) -> None:
        if self._file:
            self._file.close()


class ObjectLog:
    """One object per commit: `000001-000042-OWNER.jsonl`."""

    def __init__(self, run: Path, owner: str) -> None:
        self._run, self._owner = run, owner
        # Only what was there at the beginning: what somebody who was cut off sends later stays.
        self._stale = kept(run)
        self._number, self._commits = _last(self._stale), 0

    def append(self, lines: bytes) -> None:
        self._commits += 1
        name = f"{self._number:06d}-{self._commits:06d}-{self._owner}.jsonl"
        place = self._run / "log" / name
        self._stale.append(place)
        place.write_bytes(lines)

    def begin(self) -> None:
        remove(self._stale)
        self._stale = []
        self._number, self._commits = self._number + 1, 0

    def close(self) -> None:
        """Nothing is open."""


def _last(paths: list[Path]) -> int:
    return max((int(path.stem.partition("-")[0]) for path in paths), default=0)

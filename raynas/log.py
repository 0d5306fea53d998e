"""The write-ahead log of a run, RUN/log: what is acknowledged and not yet in Parquet.

In a folder it is a file that is appended to and fsynced. In an object store each commit is an
object, written whole; its name says which log of which writer it belongs to.
"""

from __future__ import annotations

import os
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Protocol

from raynas.disk import listed, on_disk
from raynas.files import keep_names, remove
from raynas.remote import Remote


class Log(Protocol):
    def append(self, lines: bytes) -> None:
        """Returns when the lines would survive a crash; may be tried again if it raises.

        Raises:
            StoreError: they are not acknowledged, and no part of them stands before what is.
        """

    def begin(self) -> None:
        """Begins a new log, and drops what the earlier ones hold."""

    def close(self) -> None: ...


def log_of(run: Path, owner: str) -> Log:
    """The log of a run, to write; nothing is dropped before `begin`."""
    return ObjectLog(run, owner) if isinstance(run, Remote) else FileLog(run)


def kept(run: Path) -> list[Path]:
    """The files or objects of a run's logs, in order."""
    return listed(run / "log", "*.jsonl")


class FileLog:
    """One file at a time: `000001.jsonl`."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._place = self._next()
        self._file: FileIO | None = None
        self._end = 0  # of what is acknowledged in it

    def append(self, lines: bytes) -> None:
        with on_disk(self._place, writing=True):
            if self._file is None:
                self._file = self._mended()
            try:
                rest = memoryview(lines)
                while rest:  # unbuffered, as a buffer would be flushed once more later
                    rest = rest[self._file.write(rest) :]
                os.fsync(self._file.fileno())
            except OSError:
                with suppress(OSError):  # else before the next try: a torn line must not stay
                    self._file.truncate(self._end)
                self.close()
                raise
        self._end += len(lines)

    def begin(self) -> None:
        place = self._next()
        with on_disk(place, writing=True):
            file = FileIO(place, "a")
            try:
                keep_names(place.parent)
            except OSError:
                file.close()
                raise
            self.close()
            self._place, self._file, self._end = place, file, 0
            remove([stale for stale in kept(self._run) if stale.stem < place.stem])

    def close(self) -> None:
        file, self._file = self._file, None
        if file:
            with suppress(OSError):
                file.close()

    def _next(self) -> Path:
        return self._run / f"log/{_last(kept(self._run)) + 1:06d}.jsonl"

    def _mended(self) -> FileIO:
        """The file opened anew, as its handle may be of a server that was restarted, without what
        the failed write left. After `fsync` has failed, only writing it all again is sure."""
        file = FileIO(os.open(self._place, os.O_RDWR | os.O_CREAT, 0o666), "r+")
        file.truncate(min(self._end, file.seek(0, os.SEEK_END)))
        self._end = file.seek(0, os.SEEK_END)
        return file


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

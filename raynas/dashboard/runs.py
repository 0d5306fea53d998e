"""The runs of a folder, looked at again only where something has changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from raynas.columns import Columns
from raynas.errors import UserError
from raynas.overview import Overview, overview
from raynas.remote import Remote
from raynas.result import SearchResult, load

FRESH, FRESH_REMOTE = 1.5, 15.0  # seconds for which a look is not repeated: in a folder, a store
KEPT = 200  # explanations kept of one run

T = TypeVar("T")


class NoSuchRun(UserError):
    """A name that the folder does not list."""


@dataclass
class Looked:
    """A run and what was seen of it last. `lock` is held while it is read."""

    path: Path
    lock: threading.Lock = field(default_factory=threading.Lock)
    columns: Columns | None = None
    overview: Overview | None = None
    at: float = 0.0
    kept: dict[Any, Any] = field(default_factory=dict)
    result: tuple[Any, SearchResult] | None = None


class Runs:
    """All runs directly in a folder, or the one that the folder is.

    Args:
        folder: a folder or a place in a store.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, Looked] = {}
        self._lock = threading.Lock()
        self._listed: tuple[float, list[str]] = (0.0, [])
        self._fresh = FRESH_REMOTE if isinstance(folder, Remote) else FRESH

    def names(self) -> list[str]:
        """The names of the runs there are, sorted."""
        with self._lock:
            at, names = self._listed
            if not at or time.monotonic() - at > self._fresh:
                names = self._list()
                self._listed = time.monotonic(), names
            return names

    def run(self, name: str) -> Looked:
        """A run by a name of the listing; nothing else is ever opened.

        Raises:
            NoSuchRun: it is not listed.
        """
        if name not in self.names():
            raise NoSuchRun(f"expected the name of a run in {self.folder}; got {name!r}.")
        with self._lock:
            single = (self.folder / "run.json").exists()
            path = self.folder if single else self.folder / name
            return self._known.setdefault(name, Looked(path))

    def look(self, name: str) -> tuple[Columns, Overview]:
        """How far a run is, at most a moment old."""
        run = self.run(name)
        with run.lock:
            return self._seen(run)

    def read(self, name: str, reader: Callable[[Columns, Overview], T]) -> T:
        """What `reader` makes of a run; one reader at a time."""
        run = self.run(name)
        with run.lock:
            return reader(*self._seen(run))

    def explained(self, name: str, key: object, make: Callable[[SearchResult], T]) -> T:
        """What `make` says of the run, kept until the run has more trials or turns."""
        run = self.run(name)
        with run.lock:
            columns, data = self._seen(run)
            state = (_ended(data), len(data.info.said))
            if run.result is None or run.result[0] != state:
                run.result, run.kept = (state, load(columns.run)), {}
            if key not in run.kept:
                if len(run.kept) >= KEPT:
                    run.kept.clear()
                run.kept[key] = make(run.result[1])
            found: T = run.kept[key]
            return found

    def _seen(self, run: Looked) -> tuple[Columns, Overview]:
        if run.columns is None:
            run.columns = Columns(run.path)
        elif time.monotonic() - run.at > self._fresh:
            run.columns.refresh()
            run.overview = None
        if run.overview is None:
            run.overview, run.at = overview(run.columns), time.monotonic()
        return run.columns, run.overview

    def _list(self) -> list[str]:
        if (self.folder / "run.json").exists():
            return [self.folder.resolve().name or "run"]
        found = (p for p in self.folder.iterdir() if (p / "run.json").exists())
        return sorted(p.name for p in found)


def _ended(data: Overview) -> int:
    return sum(n for group in data.counts.values() for n in group.values())

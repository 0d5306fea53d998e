"""Who may write a run: one process at a time.

In a folder a lock of the operating system says so, which ends with its process. In an object
store it is a lease: an object that its owner renews every RENEW seconds. Who finds it unchanged
for STALE seconds takes it over, by its own clock: clocks of different machines are not compared.
An owner that could not renew looks before it acknowledges anything, and stops if somebody else
took over; so what was acknowledged was there when the next owner began to read. What a process
that was cut off sends late is under names of its own and numbered: it replaces nothing, and a
number is counted once.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
import uuid
import weakref
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Protocol

from raynas.disk import on_disk
from raynas.remote import Remote, StoreError
from raynas.run import ArchiveError

RENEW = 3.0  # seconds between two renewals of a lease
STALE = 15.0  # seconds without one, after which it is taken over
DYING = 20.0  # seconds that a killed writer may take to let go of a run; more than STALE
SETTLED = 1.0  # seconds after which whoever took a lease over at the same moment has written
FILE = "log/lease.json"


class Lock(Protocol):
    """Held from its making to `close`.

    Attributes:
        owner: what tells this writer's objects from those of others; '' in a folder.
    """

    owner: str

    def check(self) -> None:
        """Returns if nobody else can be writing.

        Raises:
            ArchiveError: another process has taken over.
        """

    def close(self) -> None: ...


def take(run: Path, wait: float) -> Lock:
    """Takes the lock of a run.

    Args:
        wait: seconds to wait for another writer to let go.

    Raises:
        ArchiveError: it did not.
    """
    return Lease(run, wait) if isinstance(run, Remote) else FileLock(run, wait)


def held(run: Path) -> bool:
    """Whether a process is writing the run now; in a store: has renewed its lease lately, if
    the clocks of both machines agree."""
    if isinstance(run, Remote):
        lease = _read(run / FILE)
        return lease is not None and time.time() - lease.get("at", 0.0) < STALE
    try:
        with (run / "log/lock").open("rb") as file:  # whoever may only read may ask as well
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


class FileLock:
    """A lock of the operating system on RUN/log/lock."""

    owner = ""

    def __init__(self, run: Path, wait: float) -> None:
        self._run, self._place = run, run / "log/lock"
        self._file: IO[bytes] | None = None
        if not self._taken(wait):
            raise written(run)

    def check(self) -> None:
        """Holds as long as the process lives, unless the folder was away and is another now."""
        if self._file is None:
            raise ArchiveError(
                f"{self._run} was let go of by this process; open it again to write."
            )
        with suppress(OSError):
            if os.path.samestat(os.fstat(self._file.fileno()), self._place.stat()):
                return
        if not self._taken(SETTLED):
            raise ArchiveError(
                f"{self._run} was taken over by another process, as its folder was away for a "
                "while. What was acknowledged is kept; what came later is run again there."
            )

    def close(self) -> None:
        file, self._file = self._file, None
        if file:
            file.close()

    def _taken(self, wait: float) -> bool:
        until = time.monotonic() + wait
        with on_disk(self._place, writing=True):
            file = self._place.open("ab")
            self.close()  # only now, as this needs the folder: it may be the same file after all
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        file.close()
                        return False
                    time.sleep(0.1)
                except OSError:
                    file.close()
                    raise
        self._file = file
        return True


class Lease:
    """An object in a store, renewed by a thread."""

    def __init__(self, run: Remote, wait: float) -> None:
        self.owner = uuid.uuid4().hex[:8]
        self._run, self._place = run, run / FILE
        self._lost = False
        self._one = threading.Lock()  # renewal at a time
        self._ended = threading.Event()
        self._take(wait)
        here = weakref.ref(self)  # a writer that is dropped unclosed lets go, as of a file
        self._thread = threading.Thread(target=_keep, args=(here, self._ended), daemon=True)
        self._thread.start()

    def check(self) -> None:
        if self._lost or self._age() > STALE / 2:
            self.renew()

    def close(self) -> None:
        """Lets go; a store that does not answer finds out by time."""
        self._ended.set()
        self._thread.join()
        try:
            if not self._lost and self._mine():
                self._place.unlink(missing_ok=True)
        except StoreError:
            pass

    def _take(self, wait: float) -> None:
        until, seen, since = time.monotonic() + wait, None, time.monotonic()
        while True:
            found = _read(self._place)
            if found is None and self._place.create(self._content()):
                return
            if found != seen:
                seen, since = found, time.monotonic()
            elif found is not None and time.monotonic() - since > STALE:
                self._place.write_bytes(self._content())
                time.sleep(SETTLED)
                if self._mine():
                    return
            if time.monotonic() > until:
                raise written(self._run)
            time.sleep(0.25)

    def renew(self) -> None:
        """Raises ArchiveError if somebody else has the lease, StoreError if nobody can say."""
        with self._one:
            if self._lost or not (self._mine() or self._place.create(self._content())):
                self._lost = True
                other = _read(self._place) or {}
                raise ArchiveError(
                    f"{self._run} was taken over by another process ({other.get('host')}), as "
                    f"this one could not be heard of for {STALE:g} seconds. What was acknowledged "
                    "is kept; what came later is run again there."
                )
            self._place.write_bytes(self._content())

    def _mine(self) -> bool:
        return (_read(self._place) or {}).get("owner") == self.owner

    def _content(self) -> bytes:
        self._since = time.monotonic(), time.time()
        said = {"owner": self.owner, "at": self._since[1], "pid": os.getpid()}
        return json.dumps({**said, "host": socket.gethostname()}).encode()

    def _age(self) -> float:
        """Seconds since the last renewal; the one clock stands still while a machine sleeps, the
        other may be set."""
        monotonic, wall = self._since
        return max(time.monotonic() - monotonic, time.time() - wall)


def _keep(here: weakref.ref[Lease], ended: threading.Event) -> None:
    while not ended.wait(RENEW):
        if (lease := here()) is None:
            return
        try:
            lease.renew()
        except StoreError:  # `check` says so to whoever writes
            continue
        except ArchiveError:
            return
        finally:
            del lease


def written(run: Path | Remote) -> ArchiveError:
    """The error for a run that somebody else writes."""
    return ArchiveError(
        f"{run} is being written by another process. Wait for it or end it; "
        f"`raynas status {run}` shows how far it is."
    )


def _read(place: Path | Remote) -> dict[str, Any] | None:
    try:
        return dict(json.loads(place.read_bytes()))
    except FileNotFoundError:
        return None
    except ValueError as error:
        if isinstance(error, StoreError):
            raise
        return {}

"""What a search is doing now, for those who look from outside: RUN/log/now.json; and their one
word to it, to stop: RUN/log/stop.

What it shows is written anew every few seconds while a search runs, and removed when it ends in
good order; what a killed search leaves tells by its time (`at`) that it is old.
"""

from __future__ import annotations

import json
import math
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from raynas.errors import UserError
from raynas.files import write_atomically
from raynas.remote import Remote
from raynas.session import Session

NOW = "log/now.json"
STOP = "log/stop"  # whose presence asks the search to finish what runs, and then to end
LOOK = 1.0  # seconds between two looks at the machines
EVERY, SELDOM = 2.0, 15.0  # seconds between two writings, in a folder and in a store
ASKED = 5.0  # seconds at most between two looks for a wish to stop
MOST = 1000  # running trials that are named
RATE = 60.0  # seconds over which trials are counted for the pace
STALE = 60.0  # seconds after which it tells nothing of now


class Shows(Protocol):
    """The archive of a run."""

    @property
    def trouble(self) -> str:
        """Why nothing can be written just now; '' if all is well."""
        ...

    def show(self, now: bytes) -> None:
        """Replaces what is shown, without waiting; it may fail in silence."""
        ...


class Watch:
    """Looks at a search in a thread, from `with` to its end, and keeps the run's now.json.

    Args:
        around: returns what is known of the machines (`nodes`, `slots`, ...); called in the thread.

    Attributes:
        stopping: whether somebody asked the search to stop (`ask_to_stop`).
    """

    def __init__(self, archive: Shows, run: Path, around: Callable[[], Mapping[str, Any]]) -> None:
        self._archive, self._around, self._run = archive, around, run
        self.stopping = False
        self._asked = -math.inf  # when it looked for a wish to stop
        self._every = SELDOM if isinstance(run, Remote) else EVERY
        self._written = -math.inf
        self._ends: deque[tuple[float, int]] = deque()
        self._part: tuple[Session, int, float, str] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def at(self, session: Session, trials: int, deadline: float, title: str) -> None:
        """Looks at another part of the search from now on (see `raynas.sessions.Stage`), and keeps
        its `session.around` up to date."""
        self._ends.clear()
        session.stopping = self.stopping
        self._part = session, done_in(session) + trials, deadline, title

    def _look(self) -> None:
        while not self._stop.wait(LOOK):
            try:
                self._heed()
                trouble = self._archive.trouble  # asked each time: it shows that somebody is here
                if self._part is not None:
                    self._see(*self._part, trouble)
            except Exception:  # a cluster that is just going away; the next look tells
                continue

    def _heed(self) -> None:
        """Tells the session of a wish to stop."""
        clock = time.monotonic()
        if not self.stopping and clock - self._asked >= min(self._every, ASKED):
            self._asked = clock
            self.stopping = (self._run / STOP).exists()
        if self.stopping and self._part is not None:
            self._part[0].stopping = True

    def _see(self, session: Session, all_: int, deadline: float, title: str, trouble: str) -> None:
        clock, done = time.monotonic(), done_in(session)
        self._ends.append((clock, done))
        while self._ends[0][0] < clock - RATE:
            self._ends.popleft()
        began, before = self._ends[0]
        rate = (done - before) / (clock - began) if clock - began > LOOK else None
        session.around = {**self._around(), "trouble": trouble, "rate": rate}
        if clock - self._written >= self._every:
            self._archive.show(json.dumps(_now(session, all_, deadline, title)).encode())
            self._written = clock


def ask_to_stop(run: Path) -> None:
    """Asks whoever searches the run to finish what runs, and then to end."""
    (run / STOP).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(run / STOP, b"")


def ended(run: Path) -> None:
    """Removes what the run shows of a search that is over: also claims and report are written."""
    for name in (NOW, STOP):
        with suppress(OSError, UserError):
            (run / name).unlink(missing_ok=True)


def done_in(session: Session) -> int:
    """How many trials a session was told of, refused designs aside."""
    return sum(n for status, n in dict(session.learned).items() if status != "infeasible")


def _now(session: Session, all_: int, deadline: float, title: str) -> dict[str, Any]:
    numbers = sorted(list(session.running))
    left = deadline - time.monotonic()
    return {
        "at": time.time(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "title": title,
        "done": done_in(session),
        "all": all_,
        "deadline": time.time() + left if math.isfinite(left) else None,
        "running": [[n, session.epochs.get(n, 0)] for n in numbers[:MOST]],
        **session.around,
    }

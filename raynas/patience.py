"""Waiting for a disk or a store that is in trouble, for as long as it takes, and saying so."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from raynas.remote import StoreError

T = TypeVar("T")
_log = logging.getLogger(__name__)

FIRST, LONGEST = 1.0, 30.0  # seconds between two tries
REMIND = 600.0  # seconds between two warnings of the same trouble


class Patience:
    """Does things again and again until they are done.

    There is no limit: a search that ran into a full disk at night goes on in the morning. Ctrl-C
    ends the waiting of the process that it reaches, `end` that of all threads.
    """

    def __init__(self) -> None:
        self._troubles: dict[object, tuple[str, float]] = {}  # sentence, since when
        self._ended = threading.Event()

    @property
    def trouble(self) -> str:
        """One sentence or two while something cannot be written; '' when all is well."""
        for said, since in list(self._troubles.values()):
            seconds = time.monotonic() - since
            return f"{said} Nothing is lost: it is tried again by itself, for {seconds:.0f} s now."
        return ""

    def __call__(self, action: Callable[[], T], limit: float = math.inf) -> T:
        """What the action returns, once it does.

        Raises:
            StoreError: the trouble goes on after `limit` seconds, or somebody called `end`.
        """
        until = time.monotonic() + limit
        mark, pause, warned = object(), FIRST, -REMIND
        try:
            while True:
                try:
                    done = action()
                except StoreError as error:
                    if self._ended.is_set() or time.monotonic() > until:
                        raise
                    self.note(mark, str(error))
                else:
                    self.note(mark, "")
                    return done
                if time.monotonic() - warned >= REMIND:
                    warned = time.monotonic()
                    _log.warning("%s", self.trouble)
                self._ended.wait(pause)
                pause = min(2 * pause, LONGEST)
        finally:
            self._troubles.pop(mark, None)

    def note(self, what: object, said: str) -> None:
        """Notes a trouble that nobody waits for; '' when it is over."""
        if not said:
            if (old := self._troubles.pop(what, None)) is not None:
                _log.warning("It goes on after %.0f s: %s", time.monotonic() - old[1], old[0])
            return
        since = self._troubles.get(what, ("", time.monotonic()))[1]
        self._troubles[what] = said, since

    def end(self) -> None:
        """Lets everything that waits fail, now and from now on."""
        self._ended.set()

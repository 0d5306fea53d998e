"""What an evaluation prints and logs, kept while it runs: the log of a trial that fails."""

from __future__ import annotations

import sys
from collections import deque
from typing import TextIO

MOST = 20_000  # characters that are kept, the last ones


class Output:
    """Stands before the standard output and errors of a process; all still reaches them."""

    def __init__(self) -> None:
        # Of single characters: each call is one step, also when several threads print at once.
        self._kept: deque[str] = deque(maxlen=MOST)
        sys.stdout = _Tee(sys.stdout, self)
        sys.stderr = _Tee(sys.stderr, self)

    def add(self, text: str) -> None:
        self._kept.extend(text[-MOST:])

    def clear(self) -> None:
        self._kept.clear()

    @property
    def tail(self) -> str | None:
        """The last characters; None if there are none."""
        return "".join(self._kept).strip("\n") or None


class _Tee:
    def __init__(self, stream: TextIO, output: Output) -> None:
        self._stream, self._output = stream, output

    def write(self, text: str) -> int:
        self._output.add(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

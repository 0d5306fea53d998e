"""What an evaluation prints and logs, kept while it runs: the log of a trial that fails; and what
Ray says to whoever searches, kept in a file."""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from ray._private import worker

from raynas.remote import Remote

MOST = 20_000  # characters that are kept, the last ones
RAY_LOG = "log/ray.log"  # in a run's folder
# They tell of trials that failed, at length; so does the archive.
TOLD_ELSEWHERE = tuple(
    f"ray.tune.{name}"
    for name in ("tune", "execution.tune_controller", "analysis.experiment_analysis")
)


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


def ray_apart(run: Path) -> Callable[[], None]:
    """Keeps what Ray says in RUN/log/ray.log, of a run in a folder; errors that nobody else tells
    of are shown as before. Returns what undoes that."""
    logger = logging.getLogger("ray")
    shown, level = list(logger.handlers), logger.level
    for handler in shown:
        handler.addFilter(_is_news)
    kept: logging.Handler = logging.NullHandler() if isinstance(run, Remote) else _Kept(run)
    kept.setLevel(logging.WARNING)
    logger.addHandler(kept)
    logger.setLevel(logging.WARNING)
    printing = worker.print_to_stdstream

    def keep(data: dict[str, Any], *rest: Any, **options: Any) -> None:
        if data.get("pid") != "raylet":  # it is what somebody's own `ray.init` wants to see
            printing(data, *rest, **options)
            return
        for line in data["lines"]:  # such as that a process died: the archive tells of its trial
            logging.getLogger("ray.raylet").warning("%s", line)

    worker.print_to_stdstream = keep  # it prints to the standard output, whatever was asked of Ray

    def undo() -> None:
        worker.print_to_stdstream = printing
        for handler in shown:
            handler.removeFilter(_is_news)
        logger.removeHandler(kept)
        logger.setLevel(level)
        kept.close()

    return undo


def _is_news(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR and record.name not in TOLD_ELSEWHERE


class _Kept(logging.FileHandler):
    """A file that is made when there is something to keep; a full disk is no trouble of Ray's."""

    def __init__(self, run: Path) -> None:
        super().__init__(run / RAY_LOG, delay=True, encoding="utf-8")
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def handleError(self, record: logging.LogRecord) -> None:
        """Passes over what cannot be written."""

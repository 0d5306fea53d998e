"""What a search shows to machines: JSON lines; and a display that shows nothing.

Each line on the standard output is one object with a field `event`: `begin` (run, new, notes),
`note` (text), `part` (title, trials, done), `counting` (title, done, all), `trial` (one that has
ended: number, status, purpose, metrics, seconds, epochs, error), `progress` (see `JsonLines`) and,
written by the command line as the last one, `end` (run, report, front, why it ended).
"""

from __future__ import annotations

import argparse
import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from rich.console import Console

from raynas.progress import Display, repeating
from raynas.result import SearchResult
from raynas.session import Session
from raynas.standing import Standing
from raynas.trial import Trial
from raynas.watching import done_in

EVERY = 5.0  # seconds between two lines of progress


class Silent:
    """A display that shows nothing."""

    def begin(self, folder: Path, notes: Sequence[str], new: bool) -> None:
        """Shows nothing."""

    def say(self, text: str) -> None:
        """Shows nothing."""

    @contextmanager
    def showing(
        self, session: Session, trials: int, deadline: float, title: str = ""
    ) -> Iterator[None]:
        """Shows nothing."""
        del session, trials, deadline, title
        yield

    @contextmanager
    def counting(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """Shows nothing."""
        del title
        yield lambda _done, _all: None


class JsonLines:
    """Writes how far a search is as JSON lines.

    A line of `progress` comes every few seconds: done, all, running and how many trials of each
    status this part has; trials per second; seconds left; the best trial and its readings per
    objective; the numbers of the front; hypervolume (`raynas.standing`); failures by cause; nodes.

    Args:
        out: where to.
    """

    def __init__(self, out: IO[str]) -> None:
        self._out, self._lock = out, threading.Lock()
        self._standing = Standing(())

    def begin(self, folder: Path, notes: Sequence[str], new: bool) -> None:
        """Writes where the run is."""
        self.write("begin", run=str(folder), new=new, notes=list(notes) if new else [])

    def say(self, text: str) -> None:
        """Writes a note."""
        self.write("note", text=text)

    @contextmanager
    def counting(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """Writes now and then how far something is."""
        told = -math.inf

        def progress(done: int, every: int) -> None:
            nonlocal told
            if done == every or time.monotonic() - told >= EVERY:
                told = time.monotonic()
                self.write("counting", title=title, done=done, all=every)

        yield progress

    @contextmanager
    def showing(
        self, session: Session, trials: int, deadline: float, title: str = ""
    ) -> Iterator[None]:
        """Writes each trial that ends while a part runs, and every few seconds how far it is."""
        done = done_in(session)
        self.write("part", title=title, trials=trials, done=done)
        if self._standing.objectives != tuple(session.objectives):
            self._standing = Standing(session.objectives, session.constraints)
        for trial in session.past:
            self._standing.tell(trial)
        session.observe = self._learn

        def progress() -> None:
            self.write("progress", **self._progress(session, done + trials, deadline))

        with repeating(progress, EVERY):
            yield
        progress()

    def end(self, result: SearchResult) -> None:
        """Writes what a search came to."""
        names = [o.name for o in result.info.objectives]
        front = [
            {"trial": int(row["number"]), "metrics": {n: float(row[f"m.{n}"]) for n in names}}
            for _, row in result.front().iterrows()
        ]
        self.write(
            "end",
            run=str(result.path),
            report=str(result.path / "report.html"),
            front=front,
            interrupted=result.interrupted,
            ended_because=result.ended_because,
            notes=list(result.notes),
        )

    def write(self, event: str, **fields: Any) -> None:
        """Writes one line."""
        text = json.dumps(_finite({"event": event, "at": time.time(), **fields}), allow_nan=False)
        with self._lock:
            print(text, file=self._out, flush=True)

    def _learn(self, trial: Trial) -> None:
        self._standing.tell(trial)
        self.write(
            "trial",
            number=trial.number,
            status=trial.status,
            purpose=trial.purpose,
            metrics=dict(trial.metrics),
            seconds=trial.seconds,
            epochs=trial.fidelity,
            error=(trial.error or "").partition("\n")[0] or None,
        )

    def _progress(self, session: Session, all_: int, deadline: float) -> dict[str, Any]:
        standing, around = self._standing, session.around
        standing.settle()
        done, rate = done_in(session), around.get("rate")
        left = min(deadline - time.monotonic(), max(all_ - done, 0) / rate if rate else math.inf)
        best = zip(standing.objectives, standing.best, strict=False)
        return {
            "done": done,
            "all": all_,
            "running": len(session.running),
            "stopping": session.stopping,
            "trials": dict(session.learned),
            "trials_per_second": rate,
            "seconds_left": max(left, 0.0),
            "best": {o.name: {"trial": t.number, "metrics": dict(t.metrics)} for o, t in best},
            "front": standing.front,
            "hypervolume": standing.hypervolume,
            "failures": [
                {"text": cause, "count": count, "trial": last}
                for cause, (count, last) in dict(standing.causes).items()
            ],
            "nodes": len(around.get("nodes", ())),
            "nodes_lost": around.get("gone", 0),
        }


def display_of(a: argparse.Namespace, console: Console) -> Any:
    """The display that a command line asks for."""
    if a.progress == "json":
        return JsonLines(console.file)
    return Silent() if a.quiet else Display(console)


def _finite(value: Any) -> Any:
    """A value without numbers that JSON does not know."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value

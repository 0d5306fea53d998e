"""The live display of a search in a terminal; plain lines where there is none."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raynas.explanation.predictions import line
from raynas.explanation.sentences import value
from raynas.explanation.wording import duration
from raynas.session import Session
from raynas.strategies.forecast import surprise
from raynas.trial import Trial
from raynas.watching import done_in

PLACES: Mapping[str, Any] = {"nodes": (), "gone": 0, "waiting": 0}  # of `Session.around`
LINE_SECONDS = 15.0  # between lines where there is no terminal


class Display:
    """Shows how far a search is: trials done and running, the best so far, the time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._best: Trial | None = None
        self._predicted: list[tuple[float, float, bool]] = []  # mean, reading, whether it held

    @contextmanager
    def showing(
        self, session: Session, trials: int, deadline: float, title: str = ""
    ) -> Iterator[None]:
        """Shows a session while it runs.

        Args:
            title: said first, where a search has several sessions.
        """
        if title:
            self.say(title)
        self._session, self._deadline, self._best = session, deadline, None
        self._predicted.clear()
        self._started, self._before = time.monotonic(), done_in(session)
        self._all = self._before + trials
        session.observe = self._learn
        if self._console.is_terminal:
            with Live(
                get_renderable=self._render,
                console=self._console,
                refresh_per_second=4,
                transient=True,
            ):
                yield
        else:
            with _repeating(lambda: print(self._line(), flush=True)):
                yield

    def begin(self, folder: Path, notes: Sequence[str], new: bool) -> None:
        """Says where the run is and, if it is new, what is to be known of it."""
        self.say(f"run {folder}")
        for note in notes if new else ():
            self.say(note)

    def say(self, text: str) -> None:
        """Prints a line that stays."""
        self._console.print(text, style="dim", highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def counting(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """Shows how far something is that calls what it is given with (done, in all)."""
        self.say(title)
        done, total, told = 0, 1, time.monotonic()

        def progress(now: int, every: int) -> None:
            nonlocal done, total, told
            done, total = now, max(every, 1)
            quiet = self._console.is_terminal or time.monotonic() - told < LINE_SECONDS
            if not quiet:
                told = time.monotonic()
                print(f"{done} of {total} measured", flush=True)

        def render() -> Table:
            row = Table.grid(padding=(0, 2))
            bar = ProgressBar(total=1.0, completed=min(done / total, 1.0), width=40)
            row.add_row(bar, Text(f"{done} of {total}"))
            return row

        if not self._console.is_terminal:
            yield progress
            return
        with Live(
            get_renderable=render, console=self._console, refresh_per_second=4, transient=True
        ):
            yield progress

    def _learn(self, trial: Trial) -> None:
        first = self._session.objectives[0]
        if trial.status != "finished":
            return
        if trial.reason and (way := surprise(trial, first)) is not None:
            reading = trial.metrics[first.name]
            self._predicted.append((trial.reason.scores["mean"], reading, way == 0))
        if self._best is None or first.loss(trial.metrics[first.name]) < first.loss(
            self._best.metrics[first.name]
        ):
            self._best = trial

    def _render(self) -> Group:
        share = self._share()
        table = Table.grid(padding=(0, 2))
        table.add_row(
            ProgressBar(total=1.0, completed=share, width=40), Text(f"{100 * share:3.0f} %")
        )
        return Group(table, Text(self._line()))

    def _line(self) -> str:
        counts = self._session.learned
        words = {"stopped_early": "stopped early", "infeasible": "over a limit"}
        parts = [f"{n} {words.get(s, s)}" for s, n in sorted(counts.items()) if n]
        running, places = len(self._session.running), self._places()
        best = ""
        if self._best:
            metrics = self._best.metrics
            readings = [
                f"{o.name} {value(metrics[o.name], o.name)}" for o in self._session.objectives
            ]
            best = f"; best so far: trial {self._best.number} with {', '.join(readings)}"
        done, far = done_in(self._session), ""
        if len(self._session.epochs) == 1 and running == 1:
            far = f" (epoch {next(iter(self._session.epochs.values()))})"
        return (
            f"{done} trial{'s' if done != 1 else ''} done"
            f"{' (' + ', '.join(parts) + ')' if parts else ''}, {running} running{far}{places}"
            f"{best}{self._foreseen()}; {self._left()}"
        )

    def _places(self) -> str:
        """Where trials run, if that is more than this machine, and what they wait for."""
        around = self._session.around
        nodes, gone, waiting = (around.get(n, d) for n, d in PLACES.items())
        parts = []
        if len(nodes) > 1 or gone:
            lost = f", {gone} lost" if gone else ""
            parts.append(f"on {len(nodes)} node{'s' if len(nodes) != 1 else ''}{lost}")
        if waiting and not around.get("slots"):
            parts.append("waiting for a node that has room for a trial")
        if trouble := around.get("trouble"):
            parts.append(trouble)
        return "".join(f", {part}" for part in parts)

    def _foreseen(self) -> str:
        """How predictions of this part of the search did so far."""
        if not self._predicted:
            return ""
        said = line(*np.array(self._predicted, dtype=float).T)
        return f"; {said}" if said else ""

    def _share(self) -> float:
        """Of whichever budget will be used up first."""
        elapsed = time.monotonic() - self._started
        by_time = elapsed / max(self._deadline - self._started, 1e-9)
        by_trials = (done_in(self._session) - self._before) / max(self._all - self._before, 1)
        return min(max(by_time if math.isfinite(by_time) else 0.0, by_trials), 1.0)

    def _left(self) -> str:
        elapsed, share = time.monotonic() - self._started, self._share()
        limit = max(self._deadline - time.monotonic(), 0.0)
        by_rate = elapsed / share * (1 - share) if share > 0.02 else math.inf
        left = min(limit, by_rate)
        if math.isinf(left):
            return "time left not known yet"
        return f"about {duration(left)} left" if left > 0 else "finishing"


@contextmanager
def _repeating(say: Callable[[], None]) -> Iterator[None]:
    stop = threading.Event()

    def repeat() -> None:
        while not stop.wait(LINE_SECONDS):
            say()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()

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
from raynas.standing import Standing, sparkline
from raynas.strategies.forecast import surprise
from raynas.trial import Trial
from raynas.watching import done_in

PLACES: Mapping[str, Any] = {"nodes": (), "gone": 0, "waiting": 0}  # of `Session.around`
LINE_SECONDS = 15.0  # between lines where there is no terminal
CAUSES = 3  # of failures that are shown
WORDS = {"stopped_early": "stopped early", "infeasible": "over a limit"}


class Display:
    """Shows how far a search is: a live table in a terminal, a line now and then elsewhere.

    Trials by how they ended, causes of failures, the best per objective, the front and its
    hypervolume over time (`raynas.standing` says of which box), pace, time left, nodes.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._standing = Standing(())
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
        self._session, self._deadline = session, deadline
        self._predicted.clear()
        if self._standing.objectives != tuple(session.objectives):
            self._standing = Standing(session.objectives, session.constraints)
        for trial in session.past:
            self._standing.tell(trial)
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
            with repeating(lambda: print(self._line(), flush=True), LINE_SECONDS):
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
        self._standing.tell(trial)
        first = self._session.objectives[0]
        if trial.status != "finished":
            return
        if trial.reason and (way := surprise(trial, first)) is not None:
            reading = trial.metrics[first.name]
            self._predicted.append((trial.reason.scores["mean"], reading, way == 0))

    def _render(self) -> Group:
        share, standing = self._share(), self._standing
        standing.settle()
        bar = Table.grid(padding=(0, 2))
        bar.add_row(
            ProgressBar(total=1.0, completed=share, width=40),
            Text(f"{100 * share:3.0f} %"),
            Text(self._left()),
        )
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim")
        table.add_column()
        pace = self._pace()
        table.add_row("trials", Text(", ".join([*self._counts(), *pace])))
        causes = sorted(standing.causes.items(), key=lambda c: c[1], reverse=True)
        for i, (cause, (count, last)) in enumerate(causes[:CAUSES]):
            said = Text(f"{count} x {cause}")
            said.truncate(max(self._console.width - 36, 20), overflow="ellipsis")
            table.add_row("" if i else "failures", said.append(f" (such as trial {last})"))
        for i, text in enumerate(self._bests()):
            table.add_row("" if i else "best", Text(text))
        if front := self._front():
            table.add_row("front", Text(front))
        if places := self._places().removeprefix(", ").removeprefix("on "):
            table.add_row("nodes", Text(places))
        if foreseen := self._foreseen().removeprefix("; "):
            table.add_row("predictions", Text(foreseen))
        return Group(bar, table)

    def _counts(self) -> list[str]:
        counts, running = dict(self._session.learned), len(self._session.running)
        ended = sorted(counts.items(), key=lambda c: (c[0] != "finished", c[0]))
        parts = [f"{n:,} {WORDS.get(s, s)}" for s, n in ended if n]
        far = ""
        if len(self._session.epochs) == 1 and running == 1:
            far = f" (epoch {next(iter(self._session.epochs.values()))})"
        ending = ", which finish: it was asked to stop" if self._session.stopping else ""
        return [*parts, f"{running} running{far}{ending}"]

    def _pace(self) -> list[str]:
        rate = self._session.around.get("rate")
        return [f"{60 * rate:,.3g} a minute"] if rate else []

    def _bests(self) -> list[str]:
        """Per objective the best trial, with all its readings; each trial once."""
        standing, told = self._standing, []
        for objective, trial in zip(standing.objectives, standing.best, strict=False):
            readings = [
                f"{o.name} {value(trial.metrics[o.name], o.name)}" for o in standing.objectives
            ]
            told.append(f"{objective.name}: trial {trial.number} with {', '.join(readings)}")
        return told

    def _front(self) -> str:
        """How many designs stand on the front, and how its hypervolume grew."""
        standing = self._standing
        if not standing.front:
            return ""
        many = len(standing.front)
        said = f"{many} design{'s' if many != 1 else ''}"
        if (now := standing.hypervolume) is not None:
            said += f", hypervolume {sparkline(standing.curve())} {now:.3f}"
        return said

    def _line(self) -> str:
        self._standing.settle()
        done, best = done_in(self._session), ""
        *counts, running = self._counts()
        if bests := self._bests():
            best = f"; best so far: {bests[0].partition(': ')[2]}"
            best += f"; front of {len(self._standing.front)}" if len(bests) > 1 else ""
        pace = "".join(f", {p}" for p in self._pace())
        return (
            f"{done} trial{'s' if done != 1 else ''} done"
            f"{' (' + ', '.join(counts) + ')' if counts else ''}, {running}{pace}{self._places()}"
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
def repeating(say: Callable[[], None], every: float) -> Iterator[None]:
    """Calls something every so many seconds, in a thread."""
    stop = threading.Event()

    def repeat() -> None:
        while not stop.wait(every):
            say()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()

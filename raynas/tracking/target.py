"""What a tool is asked to do with trials, and what all tools are told of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from raynas.errors import UserError
from raynas.front import not_for_front
from raynas.run import RunInfo
from raynas.trial import Trial


class TargetError(UserError):
    """A tool that does not do what it was asked."""


class Target(Protocol):
    """Where trials are copied to.

    Attributes:
        name: of the tool.
        known: the numbers of the trials that it has, each as a whole.
        written: how many of them were written just now.
    """

    name: str
    known: set[int]
    written: int

    def write(self, trial: Trial) -> None:
        """Writes a trial that it does not have, or not as a whole."""

    def settle(self, so_far: SoFar) -> None:
        """Writes what is known of the search as a whole; called between trials, and at the end."""


@dataclass
class SoFar:
    """The search up to a trial: how many there were, and the best reading per objective.

    Attributes:
        ongoing: whether there may be more.
        ended: when the last of them ended, seconds since 1970.
        lately: trials, time and best readings, after each trial since they were last written.
    """

    ongoing: bool = True
    trials: int = 0
    ended: float = 0.0
    best: dict[str, float] = field(default_factory=dict)
    lately: list[tuple[int, float, dict[str, float]]] = field(default_factory=list)

    def learn(self, trial: Trial, info: RunInfo) -> None:
        self.trials += 1
        self.ended = max(self.ended, trial.started_at + trial.seconds)
        self._compare(trial, info)
        self.lately.append((self.trials, self.ended, dict(self.best)))

    def _compare(self, trial: Trial, info: RunInfo) -> None:
        if trial.status != "finished" or trial.purpose in not_for_front(info):
            return
        if not all(c.holds(trial.metrics) for c in info.constraints):
            return
        for o in info.objectives:
            value = trial.metrics.get(o.name, math.nan)
            if math.isfinite(value):
                best = self.best.setdefault(o.name, value)
                self.best[o.name] = min(best, value, key=o.loss)


@contextmanager
def asked(tool: str, *failures: type[Exception]) -> Iterator[None]:
    """Says plainly what a tool answers.

    Raises:
        TargetError: it failed in one of these ways.
    """
    try:
        yield
    except UserError:
        raise
    except failures as error:
        cause = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise TargetError(
            f"{tool} cannot be written: {cause} See to it that the place is right and that it "
            "can be reached and written; what is there already is not written again."
        ) from error


def other_run(tool: str, place: str) -> TargetError:
    """The error for a place that has another run in it."""
    return TargetError(f"{tool}: {place} holds another run. Give this one another name or place.")


def points(trial: Trial) -> Iterator[tuple[str, int, float, float]]:
    """All readings as (metric, epoch from 1, seconds since 1970, value), final ones last.

    A run says when a trial began and how long it took; epochs are spread evenly between.
    """
    count = max(len(trial.curve), 1)
    last: dict[str, tuple[int, float]] = {}
    for epoch, readings in enumerate(trial.curve, 1):
        at = trial.started_at + trial.seconds * epoch / count
        for name, value in readings.items():
            last[name] = (epoch, value)
            yield name, epoch, at, value
    for name, value in trial.metrics.items():
        if last.get(name) != (trial.fidelity, value):
            yield name, trial.fidelity, trial.started_at + trial.seconds, value


def why(trial: Trial) -> str:
    """Why the design was proposed, in one sentence."""
    if trial.reason is None:
        return "not known"
    parents = ", ".join(str(n) for n in trial.reason.parents)
    return f"{trial.reason.note}{f' (from trial {parents})' if parents else ''}"


def about(trial: Trial) -> dict[str, str]:
    """What is known of a trial besides decisions and readings."""
    said = {
        "status": trial.status,
        "purpose": trial.purpose,
        "why": why(trial),
        "architecture": str(trial.architecture),
        "epochs": str(trial.fidelity),
        "seed": str(trial.seed),
        "node": trial.node,
        "device": trial.device,
        "error": trial.error or "",
    }
    return {name: text for name, text in said.items() if text}


def cut(text: str, most: int) -> str:
    """A text of at most so many characters; `...` stands for what was left out."""
    return text if len(text) <= most else f"{text[: most - 3]}..."

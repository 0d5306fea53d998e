"""A run as other tools show it: TensorBoard, MLflow, Optuna's dashboard.

Nothing hooks into a search. What a run holds is copied, also while it grows, and each trial once:
whoever copies asks the tool what it has, and writes what it lacks. So copying may be killed at any
moment and begun again, and a search never waits for a tool.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from raynas.archive import being_written
from raynas.remote import Remote, StoreError
from raynas.tracking.following import Follower
from raynas.tracking.target import SoFar, Target, TargetError
from raynas.trial import Trial

__all__ = ["Target", "TargetError", "going_on", "track"]

NOW = "log/now.json"  # kept by a search while it goes on
FRESH = 60.0  # seconds after which it tells nothing of now
AGAIN = 20.0  # seconds until a tool or a store that did not answer is asked again
EVERY = 3.0  # seconds between two looks at a run; in a store, where each look costs requests,
EVERY_REMOTE = 15.0
AT_ONCE = 10_000  # trials after which the search as a whole is written


def track(
    run: Path,
    targets: Sequence[Callable[[], Target]],
    follow: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Copies what a run holds.

    Args:
        targets: what opens them; again after a failure.
        follow: whether to go on while the search does. A tool or a store that does not answer is
            asked again then.

    Raises:
        TargetError: a tool does not do what it was asked.
        ArchiveError: there is no run.
    """
    pause = EVERY_REMOTE if isinstance(run, Remote) else EVERY
    opened: list[Target] = []
    while True:
        ongoing = going_on(run)  # before reading: what is read after the end is all there is
        try:
            if not opened:
                follower, so_far = Follower(run), SoFar()
                opened = [make() for make in targets]
            so_far.ongoing = True
            for trial in follower.new():
                so_far.learn(trial, follower.info)
                for target in opened:
                    _copy(trial, target)
                if len(so_far.lately) >= AT_ONCE:
                    _settle(so_far, opened)
            so_far.ongoing = ongoing
            _settle(so_far, opened)
        except (TargetError, StoreError) as error:
            if not (follow and ongoing):
                raise
            say(f"{error} Trying again in {AGAIN:.0f} s.")
            opened = []
            time.sleep(AGAIN)
            continue
        if not (follow and ongoing):
            return
        time.sleep(pause)


def _copy(trial: Trial, target: Target) -> None:
    if trial.number not in target.known:
        target.write(trial)
        target.known.add(trial.number)
        target.written += 1


def _settle(so_far: SoFar, targets: Sequence[Target]) -> None:
    for target in targets:
        target.settle(so_far)
    so_far.lately.clear()


def going_on(run: Path) -> bool:
    """Whether a search is at work on the run.

    While a writer that died is replaced nobody writes; its search says that it is there still.
    """
    if being_written(run):
        return True
    try:
        now = json.loads((run / NOW).read_bytes())
        return time.time() - float(now["at"]) < FRESH
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False

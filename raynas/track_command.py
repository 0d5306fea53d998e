"""The command that copies a run to TensorBoard, MLflow or Optuna's dashboard."""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console

from raynas.errors import UserError
from raynas.files import place
from raynas.tracking import EVERY, Target, going_on, track
from raynas.tracking.following import source
from raynas.tracking.to_mlflow import MLflow
from raynas.tracking.to_optuna import Optuna
from raynas.tracking.to_tensorboard import TensorBoard


def follow(a: argparse.Namespace) -> int:
    """`raynas track`: returns the exit code."""
    places = {"tensorboard": a.tensorboard, "mlflow": a.mlflow, "optuna": a.optuna}
    given = {tool: text for tool, text in places.items() if text}
    if not given:
        raise UserError("expected --tensorboard DIR, --mlflow URI, --optuna STORAGE; got none.")
    run = place(a.run_folder)
    while (own := source(run, a.name)) is None:
        if not (a.follow and going_on(run)):
            raise UserError(f"{run} holds no proposals yet: there is nothing to track.")
        time.sleep(EVERY)
    opened: dict[str, Target] = {}
    makers: dict[str, Callable[[], Target]] = {
        "tensorboard": lambda: TensorBoard(place(a.tensorboard), own),
        "mlflow": lambda: MLflow(a.mlflow, own),
        "optuna": lambda: Optuna(a.optuna, own),
    }

    def make(tool: str) -> Callable[[], Target]:
        def open_() -> Target:
            before = opened.get(tool)
            opened[tool] = makers[tool]()
            opened[tool].written = before.written if before else 0
            return opened[tool]

        return open_

    console = Console(markup=False)
    with ExitStack() as stack:
        for tool, text in given.items():
            stack.enter_context(alone(f"{tool} {text} {own.key}"))
        try:
            track(run, [make(tool) for tool in given], a.follow, console.print)
        except KeyboardInterrupt:
            console.print("Interrupted. The same command goes on.")
    for target in opened.values():
        console.print(f"{target.name}: {target.written} trials written, {len(target.known)} in all")
    return 0


@contextmanager
def alone(what: str) -> Iterator[None]:
    """Keeps a second one on this machine from copying the same to the same place: both would ask
    what is there before either writes it.

    Raises:
        UserError: one is at it.
    """
    digest = hashlib.sha256(what.encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"raynas-track-{os.getuid()}-{digest}"
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                "another `raynas track` copies this run to the same place. Wait for it or end it."
            ) from None
        yield

"""`raynas doctor`: why nothing starts, and what to do about it."""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from raynas.status_command import printable

if TYPE_CHECKING:
    from raynas.tune.doctor import Check

MARKS = {"ok": "ok     ", "warning": "warning", "problem": "PROBLEM"}


def doctor(a: argparse.Namespace) -> int:
    console = Console(markup=False)
    bad = 0
    for check in checks(a.address, a.run, a.cpus_per_trial, a.gpus_per_trial):
        bad += check.verdict == "problem"
        said = [f"{MARKS[check.verdict]}  {check.about}: {check.text}."]
        said += [f"{'':9}{check.todo}"] if check.todo else []
        for text in said:
            console.print(printable(text), highlight=False, soft_wrap=not console.is_terminal)
    return 1 if bad else 0


def checks(
    address: str | None, run: str | None, cpus: float, gpus: float | None
) -> Iterator[Check]:
    """All checks, one after the other; few if the cluster cannot be joined."""
    import raynas.tune  # noqa: F401  # before ray, which reads its environment when imported
    from raynas.tune import doctor, findings, machine

    yield from token_file()
    with doctor.joined(address) as joined, doctor.probed(run) as (probe, wrong):
        yield joined
        if wrong:
            yield wrong
        if joined.verdict == "problem":
            return
        ours = machine.look("", "", try_gpu=False)
        nodes = doctor.nodes(probe, bool(gpus), doctor.SECONDS)
        if gpus is None:
            gpus = 1.0 if any(n.have.get("GPU") for n in nodes) else 0.0
        yield from findings.answers(nodes, doctor.SECONDS)
        yield from findings.versions(nodes, ours)
        yield from findings.resources(nodes, cpus, gpus, doctor.pending(), doctor.held_by())
        yield from findings.gpus_known(nodes, gpus)
        yield from findings.memory(nodes, cpus, gpus)
        yield from findings.disks(nodes)
        yield from findings.storage(nodes, probe[0], run or "")
        yield from findings.authentication(nodes, alone=address is None)
        token = all((n.said or {}).get("auth") == "token" for n in nodes)
        yield from findings.ports(nodes, doctor.ports(), token)
        yield from findings.clocks(nodes)


def token_file() -> Iterator[Check]:
    """Whether others on this machine can read the token."""
    from raynas.tune.doctor import Check

    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray/auth_token")
    if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        text = f"others on this machine can read {path}"
        yield Check("authentication", "warning", text, f"chmod 600 {path}")
    elif os.environ.get("RAY_AUTH_MODE") == "token" and not (
        path.exists() or os.environ.get("RAY_AUTH_TOKEN")
    ):
        text = f"RAY_AUTH_MODE=token, but there is no token in {path}"
        yield Check("authentication", "problem", text, "Copy it from the head, with mode 600.")


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {"doctor": doctor}

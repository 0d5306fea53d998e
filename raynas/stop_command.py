"""`raynas stop`: a search ends in good order, asked from any shell."""

from __future__ import annotations

import argparse

from raynas.archive import being_written
from raynas.errors import UserError
from raynas.files import place
from raynas.run import RunInfo
from raynas.watching import ask_to_stop


def stop(a: argparse.Namespace) -> int:
    """Asks the search that writes a run to finish what runs; returns the exit code."""
    run = place(a.run_folder)
    RunInfo.read(run)
    if not being_written(run):
        raise UserError(
            f"expected a run that is being searched; nothing searches {run}, and so there is "
            f"nothing to stop. `raynas status {run}` shows how far it came."
        )
    ask_to_stop(run)
    print(
        f"asked: trials that run are finished, then the search ends; "
        f"`raynas status {run} --watch` shows when"
    )
    return 0


COMMANDS = {"stop": stop}

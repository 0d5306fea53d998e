"""`raynas audit`: puts claims of a run to the test."""

from __future__ import annotations

import argparse

from rich.console import Console

from raynas import api
from raynas.explanation.claims import from_frame
from raynas.explanation.sentences import sentence
from raynas.json_progress import JsonLines, Silent, display_of


def audit(a: argparse.Namespace) -> int:
    """Tests claims and says how many were right, and each; returns the exit code."""
    console = Console(markup=False)
    given = {"space": a.space, "trials": a.trials, "address": a.address}
    display = display_of(a, console)
    result = api.audit(a.run_folder, **given, display=display)
    claims = from_frame(result.claims)
    found = [c for c in claims if c.kind == "audit"]
    tested = [c for c in claims if c.status in ("confirmed", "refuted")]
    if isinstance(display, JsonLines):
        display.end(result)
    if isinstance(display, Silent):
        print(result.path)
    if isinstance(display, JsonLines | Silent):
        return 130 if result.interrupted else 0 if found else 1
    for note in result.notes:
        console.print(f"note: {note}", highlight=False)
    for claim in [*found, *tested]:
        console.print(f"• {sentence(claim)}", highlight=False, soft_wrap=not console.is_terminal)
    if result.interrupted:
        console.print(f"Interrupted. To go on: raynas audit {result.path}", highlight=False)
        return 130
    return 0 if found else 1

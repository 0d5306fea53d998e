"""`raynas trial`: everything that is kept of one trial."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from raynas.columns import Columns
from raynas.errors import UserError
from raynas.explanation.wording import duration, plural, value
from raynas.files import place
from raynas.objective import COUNTS, figure
from raynas.overview import overview
from raynas.status_command import printable

ROWS = 12  # of a curve, at most
Row = Mapping[str, Any]


def trial(a: argparse.Namespace) -> int:
    run = Columns(place(a.run_folder))
    ended = run.rows("trials", [a.number]).to_pylist()
    proposed = run.rows("proposals", [a.number]).to_pylist()
    for note in run.notes:
        print(f"raynas: {note}", file=sys.stderr)
    if not ended and not proposed:
        raise UserError(_unknown(run, a.number))
    console = Console(markup=False)
    if a.log:
        for text in log(a.number, ended[0] if ended else None):
            console.print(printable(text), highlight=False, soft_wrap=True)
        return 0
    said = told(ended[0]) if ended else [_unfinished(run, a.number)]
    said += reasons(proposed[0]) if proposed else []
    said += readings(ended[0], run) if ended else [f"design: {proposed[0]['architecture']}"]
    for text in said:
        console.print(printable(text), highlight=False, soft_wrap=True)
    if ended:
        if (table := curve(ended[0])) is not None:
            console.print(table)
        for text in _errors(ended[0], a.run_folder):
            console.print(printable(text), highlight=False, soft_wrap=True)
    return 0


def told(row: Row) -> list[str]:
    """How a trial ended, when and where."""
    status = str(row["status"]).replace("_", " ")
    how = f"trial {row['number']}: {status} after {plural(int(row['fidelity']), 'epoch')}"
    at: datetime = row["started_at"]
    took = f"{row['seconds']:.1f} s" if row["seconds"] < 60 else duration(row["seconds"])
    device = f" ({row['device']})" if row["device"] else ""
    where = f" on {row['node']}" if row["node"] else ""
    split = f", data split {row['split']}" if row["split"] else ""
    return [
        f"{how}; purpose: {row['purpose']}",
        f"begun {at:%Y-%m-%d %H:%M:%S} UTC, took {took}{where}{device}",
        f"seed {row['seed']}{split}",
    ]


def reasons(row: Row) -> list[str]:
    """Why a design was proposed, and what else was considered."""
    said = [f"why: {row['note']} ({row['kind']})"]
    if row["parents"]:
        said += [f"made from: {', '.join(f'trial {n}' for n in row['parents'])}"]
    for change in row["changed"] or ():
        before, after = (change[k] if change[k] is not None else "–" for k in ("before", "after"))
        said += [f"  {change['decision']}: {before} → {after}"]
    if scores := dict(row["scores"] or ()):
        said += [f"believed: {', '.join(f'{n} {figure(s)}' for n, s in scores.items())}"]
    if rejected := row["candidates"]:
        said += [f"considered instead: {plural(len(rejected), 'design')}"]
    return said


def readings(row: Row, run: Columns) -> list[str]:
    """The design and its metrics, those that were aimed at first."""
    found = {n[2:]: v for n, v in row.items() if n.startswith("m.") and v is not None}
    aims = [o.name for o in (*run.info.objectives, *run.info.searched)]
    names = list(dict.fromkeys([*(n for n in aims if n in found), *sorted(found)]))
    said = [f"design: {row['architecture']}"]
    said += [f"  {n.replace('_', ' ')}: {_reading(found[n], n)}" for n in names]
    return said


def curve(row: Row) -> Table | None:
    """The readings by epoch: some of them, the first and the last among them."""
    columns = {n[2:]: v for n, v in row.items() if n.startswith("c.") and v}
    epochs = max(map(len, columns.values()), default=0)
    if epochs < 2:
        return None
    table = Table("epoch", box=None, padding=(0, 2))
    for name in columns:
        table.add_column(printable(name.replace("_", " ")), justify="right")
    for i in np.unique(np.linspace(0, epochs - 1, min(ROWS, epochs)).round().astype(int)):
        cells = [c[i] if i < len(c) else None for c in columns.values()]
        told = ["–" if v is None else _reading(v, n) for n, v in zip(columns, cells, strict=True)]
        table.add_row(str(i + 1), *told)
    return table


def log(number: int, row: Row | None) -> Sequence[str]:
    """What a trial printed and logged; without it, where to look."""
    if row is None:
        return [f"trial {number} has not ended: what it prints is kept then, if it fails."]
    if row.get("log"):
        return [str(row["log"])]
    if row["status"] not in ("failed", "lost"):
        ended = str(row["status"]).replace("_", " ")
        return [f"trial {number} is {ended}: what a trial prints is kept only if it fails."]
    node = f"the node {row['node']}" if row["node"] else "the node that it ran on"
    return [
        f"nothing is kept of what trial {number} printed. While its cluster is there, {node} has "
        "what its processes printed under /tmp/ray/session_latest/logs (worker-*.out and .err).",
    ]


def _errors(row: Row, run: str) -> list[str]:
    said = [str(row["error"])] if row["error"] else []
    if row.get("log"):
        said += [f"what it printed: raynas trial {run} {row['number']} --log"]
    return said


def _reading(number: float, metric: str) -> str:
    return f"{number:,.0f}" if metric in COUNTS and number % 1 == 0 else value(number, metric)


def _unfinished(run: Columns, number: int) -> str:
    data = overview(run)
    epochs = dict(data.now.get("running", ()))
    if number in epochs:
        epoch = f", {plural(epochs[number], 'epoch')} so far" if epochs[number] else ""
        return f"trial {number}: running{epoch}"
    if data.state == "stopped":
        return f"trial {number}: not ended; run again by raynas resume {run.run}"
    return f"trial {number}: handed out, not ended"


def _unknown(run: Columns, number: int) -> str:
    numbers = run.proposals(["number"])["number"].to_numpy()
    numbers = np.concatenate([numbers, run.trials(["number"])["number"].to_numpy()])
    if not len(numbers):
        return f"{run.run} has no trial {number}: it has no trials yet."
    return f"{run.run} has no trial {number}: its trials are {numbers.min()} to {numbers.max()}."


COMMANDS = {"trial": trial}

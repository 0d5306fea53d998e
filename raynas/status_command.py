"""`raynas status`: how far a search is, once or again and again while it runs."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.live import Live
from rich.text import Text

from raynas.columns import Columns
from raynas.explanation.wording import duration, plural, value
from raynas.files import place
from raynas.overview import SCORED, Cause, Overview, overview, plain
from raynas.remote import Remote
from raynas.run import RunInfo
from raynas.standing import sparkline

EVERY, SELDOM = 2.0, 15.0  # seconds between two looks: at a folder, and at a store or for a file
LISTED = 12  # running trials that are named
CAUSES = 5  # of failures that are said
WORDS = {"stopped_early": "stopped early", "infeasible": "over a limit (not measured)"}


def status(a: argparse.Namespace) -> int:
    run = Columns(place(a.run_folder))
    console = Console(markup=False)
    if a.watch:
        return watch(run, console)
    data = overview(run)
    if a.json:
        print(json.dumps(plain(data, run.run)))
        return 0
    for note in data.notes:
        print(f"raynas: {note}", file=sys.stderr)
    for line in lines(data, run.run):
        console.print(line, highlight=False, soft_wrap=not console.is_terminal)
    return 0


def watch(run: Columns, console: Console) -> int:
    """Shows a run until nothing writes it any more, or until an interrupt."""
    slow = isinstance(run.run, Remote) or not console.is_terminal
    try:
        with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
            while True:
                data = overview(run)
                text = "\n".join(lines(data, run.run))
                if console.is_terminal:
                    live.update(Text(text), refresh=True)
                else:
                    console.print(text, end="\n\n", highlight=False, soft_wrap=True)
                if data.state == "stopped":
                    return 0
                time.sleep(SELDOM if slow else EVERY)
                run.refresh()
    except KeyboardInterrupt:
        return 0


def lines(data: Overview, run: Path) -> list[str]:
    """The overview in words."""
    now, said = data.now, [f"{run}: {_state(data)}, at work for {duration(data.busy)}"]
    if now:
        said += [printable(str(now["title"]))] if now.get("title") else []
        said += [f"{now.get('done', 0):,} of {now.get('all', 0):,} done{_ends(data)}"]
    waiting = f"; {len(data.unfinished):,} {_unfinished(data)}" if data.unfinished else ""
    said += [f"{counted(data.counts, data.overall, data.info)}{waiting}"]
    if now:
        said += [*_running(now), *_machines(now)]
    if paces := _paces(data):
        said += [paces]
    if now.get("restarts"):
        what = plural(int(now["restarts"]), "trial")
        said += [f"run again because a process or a node was lost: {what}"]
    if now.get("trouble"):
        said += [f"trouble: {printable(str(now['trouble']))}"]
    said += _best(data)
    for turn in data.info.now.turns:
        if turn.directives:
            said += [f"holds since turn {turn.number}: {turn.said!r}"]
    if len(data.read) > 1:
        said += [_predicted(data.read)]
    said += failed(data.failures, run)
    if data.state == "stopped" and data.unfinished:
        said += [f"to go on: raynas resume {run}"]
    return said


def counted(counts: Mapping[str, Mapping[str, int]], overall: float | None, info: RunInfo) -> str:
    """How the trials ended: `1 finished, 3 stopped early`."""
    groups = []
    for name, group in counts.items():
        told = [f"{n} {WORDS.get(status, status)}" for status, n in group.items()]
        lead = f"{name}: " if info.screening else ""
        rate = [f"{overall:.3g} designs per second"] if name == SCORED and overall else []
        groups += [f"{lead}{', '.join([*told, *rate])}"] if told else []
    return "; ".join(groups) or "no trials"


def failed(found: Sequence[Cause], run: Path) -> list[str]:
    """What trials failed of, and where to read on."""
    if not found:
        return []
    said = [f"{plural(sum(c.count for c in found), 'trial')} failed:"]
    said += [
        f"  {c.count} x {printable(c.text)[:200]} (such as trial {c.trial})" for c in found[:CAUSES]
    ]
    if more := found[CAUSES:]:
        said += [f"  {sum(c.count for c in more)} of {plural(len(more), 'other cause')}"]
    return [*said, f"  to read on: raynas trial {run} {found[0].trial} --log"]


def printable(text: str) -> str:
    """Text of a run without what a terminal would obey; line ends and tabs stay."""
    return "".join(c if c in "\n\t" or c.isprintable() else "�" for c in text)


def _state(data: Overview) -> str:
    now = data.now
    if data.state == "silent":
        return "running, but its driver has not been heard of for a minute: is it there still?"
    if data.state == "stopped":
        return "not running"
    if not now:
        return "running"
    host = printable(f"{now.get('host', '?')} (process {now.get('pid', '?')})")
    if now.get("driver") == "local" or not now.get("cluster"):
        return f"running on {host}"
    return f"running on the cluster {printable(str(now['cluster']))} from {host}"


def _ends(data: Overview) -> str:
    if data.left is None:
        return "; time left not known yet"
    end = datetime.fromtimestamp(time.time() + data.left, UTC).astimezone()
    return f"; about {duration(data.left)} left, until {end:%H:%M}"


def _unfinished(data: Overview) -> str:
    if data.state == "stopped":
        return "to be run again on resume"
    return "handed out" if data.now.get("waiting") else "running"


def _running(now: Mapping[str, Any]) -> list[str]:
    rows = [(number, epoch) for number, epoch in now.get("running", [])]
    named = [f"{n} (epoch {epoch})" if epoch else str(n) for n, epoch in rows[:LISTED]]
    more = f" and {len(rows) - LISTED} more" if len(rows) > LISTED else ""
    said = [f"handed out: {', '.join(named)}{more}"] if rows else ["handed out: none"]
    if waiting := now.get("waiting"):
        said[0] += f"; {waiting} of them waiting for resources"
    if now.get("slots") is not None and now.get("driver") != "local":
        most = f", at most {now['wanted']} handed out" if now.get("wanted") else ""
        said += [f"places: {now['slots']}{most}"]
    return said


def _machines(now: Mapping[str, Any]) -> list[str]:
    nodes = now.get("nodes") or []
    gone = now.get("gone")
    if not nodes and not gone:
        return []
    told = []
    for node in nodes[:LISTED]:
        have = f"{node.get('cpus', 0):g} CPUs"
        have += f" and {node['gpus']:g} GPUs" if node.get("gpus") else ""
        head = ", head" if node.get("head") else ""
        told.append(f"{printable(str(node.get('name', '?')))} ({have}{head})")
    more = f" and {len(nodes) - LISTED} more" if len(nodes) > LISTED else ""
    lost = f"; {gone} lost since it began" if gone else ""
    return [f"{plural(len(nodes), 'node')}: {', '.join(told)}{more}{lost}"]


def _paces(data: Overview) -> str:
    if data.pace is None:
        said = []
    else:
        many = f"{60 * data.pace:,.3g} a minute"
        said = [f"{data.pace:.3g} trials/s in the last minute ({many})"]
    said += [] if data.overall is None else [f"{data.overall:.3g} overall"]
    return f"pace: {', '.join(said)}" if said else ""


def _best(data: Overview) -> list[str]:
    objectives, said = data.info.objectives, []
    told: set[int] = set()
    for objective, row in zip(objectives, data.best, strict=False):
        readings = ", ".join(
            f"{o.name} {value(float(row[f'm.{o.name}']), o.name)}" for o in objectives
        )
        number = int(row["number"])
        what = "best so far" if not told else f"best {objective.name}"
        said += [f"{what}: trial {number} with {readings}"] if number not in told else []
        told.add(number)
    if not said:
        return []
    front = f"front: {plural(len(data.front), 'design')}"
    if data.hypervolume:
        front += f", hypervolume {sparkline(data.hypervolume)} {data.hypervolume[-1]:.3f}"
    return [*said, front]


def _predicted(read: pd.DataFrame) -> str:
    from raynas.explanation.predictions import line  # scipy: most of a second

    held = (read["low"] <= read["read"]) & (read["read"] <= read["high"])
    mean, found = (read[c].to_numpy(dtype=float) for c in ("mean", "read"))
    return line(mean, found, held.to_numpy().astype(float))


COMMANDS = {"status": status}

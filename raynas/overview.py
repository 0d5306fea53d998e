"""How far a search is, as data: from a run's columns and what it shows of itself meanwhile.

Reading asks for no ray and no torch, and for a run of a million trials it takes about a second.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from raynas import tables
from raynas.archive import being_written
from raynas.columns import Columns, busy_seconds
from raynas.front import allowed, front_of, not_for_front
from raynas.remote import StoreError
from raynas.run import RunInfo
from raynas.standing import blanked, grown
from raynas.watching import NOW, RATE, STALE

SCORED = "designs scored"  # how they are called that were not trained alone
ALONE = "designs trained alone"
BELIEVED = ("mean", "low", "high")  # of `Reason.scores`, in the unit of the first objective
COUNTED = ["number", "status", "purpose", "started_at", "seconds", "error"]


@dataclass(frozen=True)
class Cause:
    """Why trials failed or were refused: those alike together.

    Attributes:
        text: the first line of the error, its numbers left out.
        trial: one of them, the last.
    """

    text: str
    count: int
    trial: int


@dataclass(frozen=True)
class Overview:
    """How far a search is.

    Attributes:
        state: `running`; `silent` (something holds the run, but its driver has not been heard of
            for a minute); `stopped`.
        now: what the search shows of itself (`raynas.watching`); empty if it shows nothing.
        counts: per kind of measuring (one, or two where designs are scored first): status -> count.
        unfinished: numbers that were proposed and have not ended.
        busy: seconds during which at least one trial was running.
        pace: trials that ended in the last minute, per second; None if nothing is known of it.
        overall: trials per second of `busy`; of those scored, where designs are scored.
        left: seconds until it ends, as far as can be told; None if that cannot be told.
        best: one row of the front per objective, in the order of the objectives.
        hypervolume: of the front, after so many shares of the trials (`raynas.standing.grown`); the
            last is now. Empty before ten readings, and with one objective.
        failures, refused: by cause, the most frequent first.
        read: the readings of trials of which something was predicted: number, mean, low, high,
            read (in the searched objective).
    """

    info: RunInfo
    state: str
    now: Mapping[str, Any]
    counts: Mapping[str, Mapping[str, int]]
    unfinished: Sequence[int]
    busy: float
    pace: float | None
    overall: float | None
    left: float | None
    front: pd.DataFrame
    best: Sequence[pd.Series]
    hypervolume: Sequence[float]
    failures: Sequence[Cause]
    refused: Sequence[Cause]
    read: pd.DataFrame
    notes: Sequence[str]


def overview(run: Columns) -> Overview:
    """Looks at a run as it is on disk now; `run.refresh()` first, if it was looked at before."""
    held = being_written(run.run)
    now, stale = _now(run) if held else ({}, False)
    names = [*COUNTED, *run.judged, f"m.{run.info.searched[0].name}"]
    trials = run.trials(list(dict.fromkeys(names)))
    rows = tables.frame(trials)
    proposals = run.proposals(["number", "scores"])
    ended = pc.is_in(proposals["number"], value_set=trials["number"].combine_chunks())
    front = front_of(rows, run.info)
    shown = [front.iloc[int(_loss(front, o).argmin())] for o in run.info.objectives if len(front)]
    told, overall = counts(rows, run.info)
    pace = now.get("rate") if now else _recent(rows) if held else None
    return Overview(
        info=run.info,
        state=("silent" if stale else "running") if held else "stopped",
        now=now,
        counts=told,
        unfinished=proposals["number"].filter(pc.invert(ended)).to_pylist(),
        busy=busy_seconds(rows),
        pace=pace,
        overall=overall,
        left=_left(now, pace),
        front=front,
        best=shown,
        hypervolume=_hypervolume(rows, run.info),
        failures=causes(rows[rows["status"].isin(["failed", "lost"])]),
        refused=causes(rows[rows["status"] == "infeasible"]),
        read=_predicted(proposals, trials, run.info),
        notes=run.notes,
    )


def counts(rows: pd.DataFrame, info: RunInfo) -> tuple[dict[str, dict[str, int]], float | None]:
    """How many trials ended how, and how many were measured per second of work.

    Where designs are scored, those and the ones trained alone are apart, and the pace is that of
    scoring. Shared weights themselves are no trial; designs over a limit are not measured.
    """
    rows = rows[rows["purpose"] != "supernet"]
    groups = {"trials": rows}
    if info.screening is not None:
        scored = rows["purpose"] == "search"
        groups = {SCORED: rows[scored], ALONE: rows[~scored]}
    told = {
        name: {str(s): int(n) for s, n in group["status"].value_counts().items() if n}
        for name, group in groups.items()
    }
    first = next(iter(groups.values()))
    ended = first[first["status"].isin(["finished", "stopped_early"])]
    seconds = busy_seconds(ended)
    return told, len(ended) / seconds if seconds else None


def causes(rows: pd.DataFrame) -> list[Cause]:
    """The errors of trials, those together that differ in numbers only; most frequent first."""
    if not len(rows):
        return []
    lines = rows["error"].fillna("no message").str.strip().str.split("\n", n=1).str[0]
    alike = {line: blanked(line) for line in lines.unique()}
    grouped = rows["number"].groupby(lines.map(alike)).agg(["size", "max"])
    grouped = grouped.sort_values(["size", "max"], ascending=False)
    return [Cause(str(t), int(n), int(last)) for t, n, last in grouped.itertuples()]


def plain(data: Overview, run: object) -> dict[str, Any]:
    """The overview for machines: what JSON can hold."""
    objectives = data.info.objectives

    def design(row: pd.Series) -> dict[str, Any]:
        metrics = {o.name: float(row[f"m.{o.name}"]) for o in objectives}
        return {"trial": int(row["number"]), "metrics": metrics}

    best = zip(objectives, data.best, strict=False)
    return {
        "run": str(run),
        "state": data.state,
        "trials": {name: dict(group) for name, group in data.counts.items()},
        "unfinished": len(data.unfinished),
        "busy_seconds": data.busy,
        "trials_per_second": {"last_minute": data.pace, "overall": data.overall},
        "seconds_left": data.left,
        "best": {o.name: design(row) for o, row in best},
        "front": [int(n) for n in data.front["number"]],
        "hypervolume": data.hypervolume[-1] if data.hypervolume else None,
        "failures": [vars(c) for c in data.failures],
        "refused": [vars(c) for c in data.refused],
        "now": dict(data.now) or None,
        "said": [t.said for t in data.info.now.turns if t.directives],
        "notes": list(data.notes),
    }


def _now(run: Columns) -> tuple[dict[str, Any], bool]:
    """What the search shows of itself, and whether what there is is too old to tell anything."""
    try:
        data = json.loads((run.run / NOW).read_bytes())
        stale = time.time() - float(data["at"]) > STALE
    except FileNotFoundError:
        return {}, False
    except StoreError:
        raise
    except (OSError, ValueError, KeyError, TypeError):
        run.notes.append(f"{run.run / NOW} cannot be read and was passed over.")
        return {}, False
    found = {name: value for name, value in data.items() if _sound(name, value)}
    return ({}, True) if stale else (found, False)


def _sound(name: str, value: Any) -> bool:
    """Whether a field of now.json is what `raynas.watching` writes there: others may write it."""
    if name in ("done", "all", "waiting", "slots", "wanted", "gone", "restarts", "pid"):
        return isinstance(value, int)
    if name in ("at", "deadline", "rate"):
        return value is None or isinstance(value, (int, float))
    if name == "running":
        return isinstance(value, list) and all(
            isinstance(row, list) and [type(n) for n in row] == [int, int] for row in value
        )
    if name == "nodes":
        return isinstance(value, list) and all(
            isinstance(node, dict) and isinstance(node.get(what, 0), (int, float))
            for node in value
            for what in ("cpus", "gpus")
        )
    return isinstance(value, str)


def _hypervolume(rows: pd.DataFrame, info: RunInfo) -> list[float]:
    names = [f"m.{o.name}" for o in info.objectives]
    if not set(names) <= set(rows.columns):
        return []
    rows = rows[(rows["status"] == "finished") & ~rows["purpose"].isin(not_for_front(info))]
    rows = allowed(rows, info).dropna(subset=names).sort_values("started_at")
    return grown(np.column_stack([_loss(rows, o).to_numpy() for o in info.objectives]))


def _recent(rows: pd.DataFrame) -> float:
    """Trials that ended in the last minute, per second, by this machine's clock."""
    rows = rows[rows["status"].isin(["finished", "stopped_early", "failed"])]
    ends = rows["started_at"].astype("int64").to_numpy() / 1e6 + rows["seconds"].to_numpy()
    return float(np.sum(ends > time.time() - RATE)) / RATE


def _left(now: Mapping[str, Any], pace: float | None) -> float | None:
    limit = math.inf if now.get("deadline") is None else max(now["deadline"] - time.time(), 0.0)
    waiting = max(now.get("all", 0) - now.get("done", 0), 0)
    by_pace = waiting / pace if now and pace else math.inf
    left = min(limit, by_pace)
    return left if now and math.isfinite(left) else None


def _predicted(proposals: pa.Table, trials: pa.Table, info: RunInfo) -> pd.DataFrame:
    """The finished trials of the search that something was predicted of, with their readings."""
    scores = proposals["scores"].combine_chunks()
    ends = scores.offsets.to_numpy()
    owner = np.repeat(np.arange(len(proposals)), np.diff(ends))
    keys, items = scores.keys[ends[0] : ends[-1]], scores.items[ends[0] : ends[-1]]
    told = pd.DataFrame(index=pd.RangeIndex(len(proposals)))
    for name in BELIEVED:
        here = pc.equal(keys, name).to_numpy(zero_copy_only=False)
        values = items.to_numpy(zero_copy_only=False)[here]
        told[name] = pd.Series(values, index=owner[here], dtype=float)
    told = told.assign(number=proposals["number"].to_numpy()).dropna()
    if not len(told):
        return told.assign(read=pd.Series(dtype=float))
    done = pc.and_(pc.equal(trials["status"], "finished"), pc.equal(trials["purpose"], "search"))
    ended = trials.filter(done)
    reading = f"m.{info.searched[0].name}"
    read = pd.DataFrame({"number": ended["number"].to_numpy(), "read": ended[reading].to_numpy()})
    return told.merge(read, on="number").dropna()


def _loss(front: pd.DataFrame, objective: Any) -> pd.Series:
    losses: pd.Series = objective.loss(1.0) * front[f"m.{objective.name}"].astype(float)
    return losses

"""What the page asks of a run, as plain data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from raynas import tables
from raynas.architecture import option_text
from raynas.columns import Columns
from raynas.errors import UserError
from raynas.explanation.claims import Claim
from raynas.explanation.sentences import sentence
from raynas.explanation.wording import duration, value
from raynas.front import allowed, not_for_front
from raynas.objective import Array, hypervolume, pareto_front
from raynas.overview import Overview, plain
from raynas.result import SearchResult
from raynas.trial_command import log, readings, reasons, told

POINTS = 1500  # of the chart beside the front
ROWS = 200  # of the table of trials at once
MOMENTS = 24  # of the hypervolume's curve
FIRST = 10  # readings whose worst are the hypervolume's reference, as `raynas.standing` has it
WIDEST = 200  # designs on a front of three objectives beyond which no hypervolume is told
VERDICTS = {"asserts": "asserted", "leans": "likely", "open": "open", "null": "no effect"}


def summary(columns: Columns, data: Overview) -> dict[str, Any]:
    """One line of the list of runs, and the progress of the selected one."""
    found = plain(data, columns.run)
    now = data.now
    done, all_ = now.get("done"), now.get("all")
    if not now:
        done = sum(n for group in data.counts.values() for n in group.values())
        all_ = data.info.settings.get("trials")
    best = [
        {
            "metric": words(o.name),
            "value": value(float(row[f"m.{o.name}"]), o.name),
            "trial": int(row["number"]),
        }
        for o, row in zip(data.info.objectives, data.best, strict=False)
    ]
    return found | {
        "run": str(columns.run),
        "title": str(now.get("title") or ""),
        "done": done,
        "all": all_,
        "running": len(now.get("running", ())),
        "left": None if data.left is None else duration(data.left),
        "busy": duration(data.busy),
        "shown_best": best,
        "report": (columns.run / "report.html").exists(),
        "front_size": len(data.front),
    }


def front(columns: Columns, data: Overview) -> dict[str, Any]:
    """The chart: all of the front, and of the other measured designs an even choice of `POINTS`."""
    names = [o.name for o in data.info.objectives]
    axes = [names[1], names[0]] if len(names) > 1 else ["number", names[0]]
    rows = _measured(columns, data)
    on = set(data.front["number"])
    others = rows[~rows["number"].isin(on)]
    if len(others) > POINTS:
        others = others.iloc[np.linspace(0, len(others) - 1, POINTS).astype(int)]

    def points(frame: pd.DataFrame) -> dict[str, Any]:
        x, y = ("number" if a == "number" else f"m.{a}" for a in axes)
        if x not in frame or y not in frame:
            return {"trial": [], "x": [], "y": []}
        return {
            "trial": [int(n) for n in frame["number"]],
            "x": [float(v) for v in frame[x]],
            "y": [float(v) for v in frame[y]],
        }

    table = [
        {"trial": int(row["number"]), "metrics": [value(float(row[f"m.{n}"]), n) for n in names]}
        for _, row in data.front.head(ROWS).iterrows()
    ]
    return {
        "axes": ["trial" if a == "number" else words(a) for a in axes],
        "objectives": [f"{words(o.name)} ({o.direction})" for o in data.info.objectives],
        "front": points(data.front),
        "others": points(others),
        "left_out": max(len(rows) - len(on) - len(others), 0),
        "table": table,
        "hypervolume": volume(columns, data),
    }


def volume(columns: Columns, data: Overview) -> list[float]:
    """The hypervolume over the measured designs, in order: shares of the box between the worst of
    the first readings and the best of all; empty where that says nothing."""
    objectives = data.info.objectives
    rows = _measured(columns, data)
    if len(objectives) < 2 or len(rows) < FIRST:
        return []
    losses = np.column_stack([o.loss(1.0) * rows[f"m.{o.name}"].to_numpy() for o in objectives])
    reference = losses[:FIRST].max(axis=0)
    box = float(np.prod(reference - losses.min(axis=0)))
    if box <= 0:
        return []
    grown: list[float] = []
    kept: Array = losses[:0]
    for some in np.array_split(losses, min(MOMENTS, len(losses))):
        kept = np.concatenate([kept, some])
        kept = kept[pareto_front(kept)]
        inside = kept[(kept < reference).all(axis=1)]
        if len(objectives) > 2 and len(inside) > WIDEST:
            return []
        grown.append(hypervolume(inside, reference) / box if len(inside) else 0.0)
    return grown


def trials(columns: Columns, data: Overview, before: int | None, status: str) -> dict[str, Any]:
    """A page of the table of trials, the last ones first.

    Args:
        before: only numbers below; None begins at the last.
        status: only these; '' is all.
    """
    names = [o.name for o in data.info.objectives]
    wanted = ["number", "status", "purpose", "fidelity", "seconds", *(f"m.{n}" for n in names)]
    rows = tables.frame(columns.trials(wanted))
    if status:
        kinds = ("failed", "lost") if status == "failed" else (status,)
        rows = rows[rows["status"].isin(kinds)]
    if before is not None:
        rows = rows[rows["number"] < before]
    shown = rows.nlargest(ROWS, "number")
    listed = [
        {
            "trial": int(row["number"]),
            "status": words(str(row["status"])),
            "purpose": words(str(row["purpose"])),
            "epochs": int(row["fidelity"]) if row["fidelity"] == row["fidelity"] else 0,
            "metrics": [
                value(float(row[f"m.{n}"]), n) if row[f"m.{n}"] == row[f"m.{n}"] else "–"
                for n in names
            ],
        }
        for _, row in shown.iterrows()
    ]
    more = int(shown["number"].min()) if len(rows) > len(shown) else None
    return {"objectives": [words(n) for n in names], "trials": listed, "more": more}


def trial(columns: Columns, data: Overview, number: int) -> dict[str, Any]:
    """All that is kept of one trial.

    Raises:
        UserError: there is no such trial.
    """
    ended = columns.rows("trials", [number]).to_pylist()
    proposed = columns.rows("proposals", [number]).to_pylist()
    if not ended and not proposed:
        raise UserError(f"expected a trial of this run; got {number}.")
    row = (ended or proposed)[0]
    found: dict[str, Any] = {"trial": number, "design": str(row["architecture"])}
    options = data.info.space.parse(found["design"]).options
    found["options"] = [[words(n), option_text(o)] for n, o in options.items()]
    found["reasons"] = reasons(proposed[0]) if proposed else []
    found |= {"told": [f"trial {number}: not ended"], "metrics": [], "curve": {}}
    if ended:
        lines = (line.strip().partition(": ") for line in readings(row, columns)[1:])
        found["told"], found["metrics"] = told(row), [[n, text] for n, _, text in lines]
        curves = {n[2:]: v for n, v in row.items() if n.startswith("c.") and v}
        found["curve"] = {words(n): [_number(v) for v in c] for n, c in curves.items()}
        if row["status"] in ("failed", "lost", "infeasible"):
            found["error"] = str(row["error"] or "no message")
        if row["status"] in ("failed", "lost"):
            found["log"] = "\n".join(log(number, row))
    return found


def layers(result: SearchResult, number: int) -> list[dict[str, Any]]:
    """The layers of a design as its network has them; empty if its code is not at hand."""
    return [
        {
            "layer": i,
            "name": str(row["name"]),
            "decisions": [
                f"{d.rpartition('.')[2].replace('_', ' ')} {option_text(o)}"
                for d in row["decisions"]
                if (o := result.architecture(number).options.get(d)) is not None
            ],
        }
        for i, row in enumerate(result.layers(number))
    ]


def claims(result: SearchResult, number: int) -> list[dict[str, Any]]:
    """What is claimed of a design, most telling first."""
    return [_claim(c) for c in result.explain(number) if c.trial == number]


def of_layer(result: SearchResult, number: int, layer: int) -> dict[str, Any]:
    """What is known of one layer of a design."""
    name, found = result.layer_claims(layer, number)
    return {"name": name, "claims": [_claim(c) for c in found]}


def words(name: str) -> str:
    return name.replace("_", " ")


def _claim(c: Claim) -> dict[str, Any]:
    return {
        "sentence": sentence(c),
        "verdict": VERDICTS[c.verdict],
        "kind": c.verdict,
        "tier": c.tier,
        "readings": c.n_trials,
        "direct": c.n_direct,
        "audit": c.status if c.status != "open" else None,
    }


def _measured(columns: Columns, data: Overview) -> pd.DataFrame:
    """The designs that may stand on the front."""
    names = [f"m.{o.name}" for o in data.info.objectives]
    rows = tables.frame(columns.trials(columns.judged))
    rows = rows[(rows["status"] == "finished") & ~rows["purpose"].isin(not_for_front(data.info))]
    return allowed(rows, data.info).dropna(subset=names)


def _number(number: Any) -> float | None:
    return float(number) if number is not None and math.isfinite(number) else None

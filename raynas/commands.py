"""What each command does: the calls of `raynas.api`, tables and words back."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from raynas import api, measured, tables
from raynas.architecture import Architecture, option_text
from raynas.auditing import audit
from raynas.benchmark_command import benchmark
from raynas.catalogue import spaces, strategies, wide_console
from raynas.choices import as_space
from raynas.columns import Columns
from raynas.design_command import continued, feedback_of, talk, undo
from raynas.design_session import CollaborativeDesignSession
from raynas.errors import UserError
from raynas.explain_command import explain
from raynas.explanation.sentences import value
from raynas.files import place
from raynas.json_progress import JsonLines, Silent, display_of
from raynas.latency_commands import latency
from raynas.objective import COSTS
from raynas.overview import causes, counts
from raynas.progress import Display
from raynas.report import write_report
from raynas.result import SearchResult, load
from raynas.run import RunInfo
from raynas.space import Space
from raynas.status_command import counted, failed
from raynas.track_command import follow

PART = 16  # designs of each part of a design session when neither trials nor a time are given
DEFAULT_BUDGET = 90.0  # seconds of a search when neither trials nor a time are given


def search(a: argparse.Namespace) -> int:
    console = Console(markup=False)
    display = display_of(a, console)
    return _close(console, _searched(a, display), display)


def _searched(a: argparse.Namespace, display: Any) -> SearchResult:
    problem: dict[str, Any] = {"dataset": a.dataset, **_limits(a)}
    if a.objective:
        problem["objectives"] = a.objective
    seconds = a.time_budget
    if seconds is None and a.trials is None:
        seconds = DEFAULT_BUDGET
    return api.search(
        problem,
        space=a.space,
        strategy=a.strategy,
        evaluation=a.evaluation,
        screen=a.screen,
        scheduler=a.scheduler,
        trials=a.trials or 100_000,
        time_budget_hours=None if seconds is None else seconds / 3600,
        epochs=a.epochs,
        batch_size=a.batch_size,
        optimizer=a.optimizer,
        learning_rate=a.learning_rate,
        search_training=a.search_training,
        search_compression=a.search_compression,
        start_from=a.start_from,
        warm_start=a.warm_start,
        feedback=feedback_of(a) if a.say is not None or a.feedback is not None else None,
        explanation_level=a.explanation,
        seed=a.seed,
        run=a.run,
        latency_table=a.latency_table,
        data_root=a.data_root,
        download=a.download,
        image_size=a.image_size,
        subset=a.subset,
        cpus_per_trial=a.cpus_per_trial,
        gpus_per_trial=a.gpus_per_trial,
        trial_timeout=a.trial_timeout,
        max_failures=a.max_failures,
        max_concurrent=a.max_concurrent,
        address=a.address,
        display=display,
    )


def go_on(a: argparse.Namespace) -> int:
    console = Console(markup=False)
    display = display_of(a, console)
    words = console if isinstance(display, Display) else Console(markup=False, stderr=True)
    result = continued(a, words, display)
    return 0 if result is None else _close(console, result, display)


def design(a: argparse.Namespace) -> int:
    console = Console(markup=False)
    trials = a.trials or (None if a.time_budget else PART)
    if a.run is None or not place(a.run).exists():
        given = argparse.Namespace(**{**vars(a), "trials": trials})
        found = _searched(given, Display(console))
        a.run = found.path
    session = CollaborativeDesignSession.open(
        a.run,
        trials=trials or PART,
        time_budget_hours=None if a.time_budget is None else a.time_budget / 3600,
        space=a.space if ".py" in a.space else None,
        address=a.address,
        display=Display(console),
    )
    return talk(session, console)


def resume(a: argparse.Namespace) -> int:
    console = Console(markup=False)
    display = display_of(a, console)
    result = api.resume(
        a.run_folder,
        **(a.trials or {}),
        time_budget_hours=None if a.time_budget is None else a.time_budget / 3600,
        max_concurrent=a.max_concurrent,
        address=a.address,
        display=display,
    )
    return _close(console, result, display)


def _close(console: Console, result: SearchResult, display: Any) -> int:
    """What a search ends with: the front, the claims, the places. Returns the exit code."""
    _print_notes(result)
    front = result.front()
    if isinstance(display, JsonLines | Silent):
        if isinstance(display, JsonLines):
            display.end(result)
        else:
            print(result.path)
        if not len(front):
            print(f"raynas: {result.why_no_front()}", file=sys.stderr)
        return 130 if result.interrupted else 0 if len(front) else 1
    if result.ended_because:
        console.print(f"The search ended early: {result.ended_because}\n", highlight=False)
    trials = result.trials
    console.print(counted(*counts(trials, result.info), result.info), highlight=False)
    if len(front):
        wide_console().print(_front_table(result.info, front))
        _say_measured(console, result.measured, result.info)
        for text in result.sentences():
            console.print(f"• {text}", highlight=False, soft_wrap=not console.is_terminal)
    else:
        bad = causes(trials[trials["status"].isin(["failed", "lost"])])
        for text in (result.why_no_front(), *failed(bad, result.path)):
            console.print(text, highlight=False, soft_wrap=True)
    console.print(f"\nrun    {result.path}", highlight=False, soft_wrap=True)
    console.print(f"report {result.path / 'report.html'}", highlight=False, soft_wrap=True)
    if result.interrupted:
        console.print(f"Interrupted. To go on: raynas resume {result.path}", highlight=False)
        return 130
    if not result.ended_because:
        more = f"raynas resume {result.path} --trials +50"
        console.print(f"more   {more}", highlight=False, soft_wrap=True)
    return 0 if len(front) else 1


def front(a: argparse.Namespace) -> int:
    run = Columns(place(a.run_folder))
    best = run.front()
    for note in run.notes:
        print(f"raynas: {note}", file=sys.stderr)
    if not len(best):
        raise UserError(f"{a.run_folder}: {load(a.run_folder).why_no_front()}")
    rows = tables.frame(run.rows("trials", [int(n) for n in best["number"]]))
    rows = rows.set_index("number", drop=False).loc[best["number"]]
    console = Console(markup=False)
    wide_console().print(_front_table(run.info, rows))
    found = measured.read(run.run)
    _say_measured(console, found[found["number"].isin(best["number"])], run.info)
    for _, row in rows.iterrows():
        print(f"{row['number']}: {row['architecture']}")
    return 0


def preview(a: argparse.Namespace) -> int:
    from raynas.feasibility import preview

    console = Console(markup=False)
    problem = {**_limits(a), "input_shape": a.input, "num_classes": a.classes}
    with Display(console).counting(f"{a.samples} random designs of {a.space}") as progress:
        found = preview(
            {**problem, "dataset": a.dataset},
            space=a.space,
            latency_table=a.latency_table,
            samples=a.samples,
            seed=a.seed,
            data_root=a.data_root,
            progress=progress,
        )
    table = Table("", box=None, padding=(0, 2))
    for title in ("smallest", "median", "largest", "limit", "keep it"):
        table.add_column(title, justify="right")
    for name, row in found.costs.iterrows():
        limit = "" if pd.isna(row["limit"]) else value(row["limit"], str(name))
        kept = "" if pd.isna(row["limit"]) else f"{100 * row['kept']:.1f} %"
        costs = [value(row[key], str(name)) for key in ("smallest", "median", "largest")]
        table.add_row(str(name).replace("_", " "), *costs, limit, kept)
    console.print(table)
    for text in found.sentences():
        console.print(text, highlight=False, soft_wrap=not console.is_terminal)
    return 0 if found.feasible or found.found else 1


def report(a: argparse.Namespace) -> int:
    result = load(a.run_folder, a.space)
    _print_notes(result)
    result.write_claims()
    print(write_report(result))
    return 0


def draw(a: argparse.Namespace) -> int:
    from raynas import drawing

    design, space, rows = _shown(a)
    graphs = space.graphs(design) if space.graphs else {}
    drawing.save(drawing.draw(design, rows, graphs), Path(a.out))
    print(a.out)
    return 0


def layers(a: argparse.Namespace) -> int:
    design, _, rows = _shown(a)
    table = Table(box=None, padding=(0, 1))
    for title in ("", "layer", "kind", "in", "out", "params", "FLOPs"):
        table.add_column(
            title, justify="right" if title in ("params", "FLOPs") else "left", no_wrap=True
        )
    table.add_column("decided")
    told: dict[tuple[str, ...], str] = {}
    for i, row in enumerate(rows):
        first = told.setdefault(tuple(row["decisions"]), row["name"])
        shapes = ["x".join(str(n) for n in row[key]) for key in ("shape_in", "shape")]
        leaves = {name: name.rpartition(".")[2] for name in row["decisions"]}
        apart = len(set(leaves.values())) == len(leaves)
        made = [f"{leaf if apart else n}={option_text(design[n])}" for n, leaf in leaves.items()]
        counts = [f"{row[key]:,}" for key in ("params", "flops")]
        said = " ".join(made) if first == row["name"] or not made else f"as {first}"
        table.add_row(str(i), row["name"], row["kind"], *shapes, *counts, said)
    total = [f"{sum(row[key] for row in rows):,}" for key in ("params", "flops")]
    table.add_section()
    table.add_row("", "all", "", "", "", *total, "")
    wide_console().print(table)
    return 0


def _shown(a: argparse.Namespace) -> tuple[Architecture, Space, list[dict[str, Any]]]:
    """The design that a command was asked to show, its space and its layers."""
    from raynas.costs import layers

    shape, classes = a.input, a.classes
    if "{" in a.design:
        text = a.space or Architecture.parse(a.design).space
        space = as_space(text, shape, classes)
        design = space.parse(a.design)
    else:
        result = load(a.design, a.space)
        if result.code is None or not result.info.data:
            raise UserError(result.why_no_code())
        space, design = result.code, result.architecture(a.trial)
        shape, classes = tuple(result.info.data["input_shape"]), result.info.data["num_classes"]
    if space.build is None:
        raise UserError(f"the space {space.name!r} says nothing of networks.")
    return design, space, layers(space, design, shape, classes)


def diff(a: argparse.Namespace) -> int:
    result = load(a.run_folder)
    rows = result.diff(a.first, a.second)
    if not rows:
        print(f"trials {a.first} and {a.second} are the same design")
        return 0
    table = Table("", f"trial {a.first}", f"trial {a.second}", box=None, padding=(0, 2))
    extra: dict[tuple[str, bool], list[str]] = {}  # layers that only one of the two has
    for name, left, right in rows:
        if left is None or right is None:
            layer, _, leaf = name.rpartition(".")
            option = option_text(right if left is None else left)
            extra.setdefault((layer, left is None), []).append(f"{leaf}={option}")
        else:
            table.add_row(name, option_text(left), option_text(right))
    for (layer, second), options in extra.items():
        table.add_row(layer, *(("–", " ".join(options)) if second else (" ".join(options), "–")))
    pair = result.trials.set_index("number").loc[[a.first, a.second]]
    table.add_section()
    for name in ("status", "fidelity", "seconds"):
        shown = [f"{v:.1f}" if isinstance(v, float) else str(v) for v in pair[name]]
        table.add_row({"fidelity": "epochs"}.get(name, name), *shown)
    for name in sorted(n for n in pair.columns if n.startswith("m.")):
        shown = ["–" if pd.isna(v) else value(float(v), name[2:]) for v in pair[name]]
        table.add_row(name[2:].replace("_", " "), *shown)
    Console(markup=False).print(table)
    return 0


def export(a: argparse.Namespace) -> int:
    from raynas.export import exported

    done = exported(load(a.run_folder, a.space), a.trial, a.format, a.out)
    for file in done.files:
        print(file)
    for check in done.checks:
        print(f"{check[0].upper()}{check[1:]}.")
    return 0


def _front_table(info: RunInfo, front: pd.DataFrame) -> Any:
    names = [o.name for o in info.objectives]
    names += [n for n in (f"test_{names[0]}", *COSTS) if f"m.{n}" in front]
    names = list(dict.fromkeys(names))
    table = Table("trial", title="Pareto front", title_justify="left", box=None, padding=(0, 2))
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    table.add_column("seconds", justify="right")
    for _, row in front.iterrows():
        table.add_row(
            str(row["number"]),
            *(value(float(row[f"m.{name}"]), name) for name in names),
            f"{row['seconds']:.1f}",
        )
    return table


def _say_measured(console: Console, found: pd.DataFrame, info: RunInfo) -> None:
    """Prints the costs of the front's designs, the estimates beside the measurements."""
    if found["measured"].notna().any():
        table = Table("trial", title="Measured end to end", title_justify="left", box=None)
        names = list(dict.fromkeys(found["metric"]))
        for name in names:
            table.add_column(name.replace("_", " "), justify="right")
            table.add_column("measured", justify="right")
        for number, rows in found.groupby("number", sort=False):
            both = rows.set_index("metric")[["estimate", "measured"]].loc[names].to_numpy()
            cells = zip(names, both, strict=True)
            said = [("–" if pd.isna(v) else value(v, n)) for n, pair in cells for v in pair]
            table.add_row(str(number), *said)
        console.print(table)
    for text in measured.sentences(found, info):
        console.print(f"• {text}", highlight=False, soft_wrap=not console.is_terminal)


def _print_notes(result: SearchResult) -> None:
    for note in result.notes:
        print(f"raynas: {note}", file=sys.stderr)


def _limits(a: argparse.Namespace) -> dict[str, Any]:
    """Constraints and target device, as a problem has them."""
    constraints = dict(_constraint(text) for text in a.constraint)
    constraints |= {f"max_{n}": v for n in COSTS if (v := vars(a)[f"max_{n}"])}
    return {"constraints": constraints, "target_device": a.target_device}


def _constraint(text: str) -> tuple[str, float]:
    name, _, bound = text.partition("=")
    try:
        return name, float(bound)
    except ValueError:
        raise UserError(f"--constraint: expected such as min_accuracy=0.9; got {text!r}.") from None


COMMANDS = {
    "search": search,
    "resume": resume,
    "continue": go_on,
    "undo": undo,
    "design": design,
    "audit": audit,
    "front": front,
    "explain": explain,
    "report": report,
    "diff": diff,
    "export": export,
    "draw": draw,
    "layers": layers,
    "latency": latency,
    "preview": preview,
    "spaces": spaces,
    "strategies": strategies,
    "benchmark": benchmark,
    "track": follow,
}

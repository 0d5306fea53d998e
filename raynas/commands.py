"""What each command does: the calls of `raynas.api`, tables and words back."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from raynas import api
from raynas.architecture import Architecture, option_text
from raynas.archive import being_written
from raynas.catalogue import spaces, strategies, wide_console
from raynas.choices import as_space
from raynas.errors import UserError
from raynas.explanation.sentences import chosen, plural, sentence, summary, value
from raynas.progress import Display, duration
from raynas.report import write_report
from raynas.report.sections import counted
from raynas.report.words import named
from raynas.result import LEVELS, SearchResult, busy_seconds, load
from raynas.space import Space

DEFAULT_BUDGET = 90.0  # seconds of a search when neither trials nor a time are given


def search(a: argparse.Namespace) -> int:
    console = Console(markup=False)
    constraints = dict(_constraint(text) for text in a.constraint)
    constraints |= {f"max_{n}": v for n in ("params", "flops") if (v := vars(a)[f"max_{n}"])}
    problem: dict[str, Any] = {"dataset": a.dataset, "constraints": constraints}
    if a.objective:
        problem["objectives"] = a.objective
    seconds = a.time_budget
    if seconds is None and a.trials is None:
        seconds = DEFAULT_BUDGET
    result = api.search(
        problem,
        space=a.space,
        strategy=a.strategy,
        evaluation=a.evaluation,
        scheduler=a.scheduler,
        trials=a.trials or 100_000,
        time_budget_hours=None if seconds is None else seconds / 3600,
        epochs=a.epochs,
        batch_size=a.batch_size,
        optimizer=a.optimizer,
        learning_rate=a.learning_rate,
        search_training=a.search_training,
        start_from=a.start_from,
        warm_start=a.warm_start,
        explanation_level=a.explanation,
        seed=a.seed,
        run=a.run,
        data_root=a.data_root,
        download=a.download,
        image_size=a.image_size,
        subset=a.subset,
        cpus_per_trial=a.cpus_per_trial,
        gpus_per_trial=a.gpus_per_trial,
        trial_timeout=a.trial_timeout,
        address=a.address,
        display=Display(console),
    )
    return _close(console, result)


def resume(a: argparse.Namespace) -> int:
    console = Console(markup=False)
    result = api.resume(
        a.run_folder,
        trials=a.trials,
        time_budget_hours=None if a.time_budget is None else a.time_budget / 3600,
        address=a.address,
        display=Display(console),
    )
    return _close(console, result)


def _close(console: Console, result: SearchResult) -> int:
    """What a search ends with: the front, the claims, the places. Returns the exit code."""
    _print_notes(result)
    if result.ended_because:
        console.print(f"The search ended early: {result.ended_because}\n", highlight=False)
    front = result.front()
    console.print(_counts(result), highlight=False)
    if len(front):
        console.print(_front_table(result, front))
        for text in result.sentences():
            console.print(f"• {text}", highlight=False, soft_wrap=not console.is_terminal)
    else:
        console.print(f"{result.why_no_front()} {_failures(result)}", highlight=False)
    console.print(f"\nrun    {result.path}", highlight=False, soft_wrap=True)
    console.print(f"report {result.path / 'report.html'}", highlight=False, soft_wrap=True)
    if result.interrupted:
        console.print(f"Interrupted. To go on: raynas resume {result.path}", highlight=False)
        return 130
    return 0 if len(front) else 1


def status(a: argparse.Namespace) -> int:
    result = load(a.run_folder)
    open_ = len(result.proposals) - len(result.trials)
    running = being_written(Path(a.run_folder))
    console = Console(markup=False)
    _print_notes(result)
    console.print(
        f"{result.path}: {'running' if running else 'not running'}, at work for "
        f"{duration(busy_seconds(result.trials))}",
        highlight=False,
    )
    waiting = "running" if running else "to be run again on resume"
    console.print(f"{_counts(result)}{f'; {open_} {waiting}' if open_ else ''}", highlight=False)
    front = result.front()
    if len(front):
        best, objectives = front.iloc[0], result.info.objectives
        readings = [f"{o.name} {value(best[f'm.{o.name}'], o.name)}" for o in objectives]
        console.print(f"best so far: trial {best['number']} with {', '.join(readings)}")
        console.print(f"front: {len(front)} designs")
    if text := _failures(result):
        console.print(text, highlight=False)
    return 0


def front(a: argparse.Namespace) -> int:
    result = load(a.run_folder)
    _print_notes(result)
    front = result.front()
    if not len(front):
        raise UserError(f"{a.run_folder}: {result.why_no_front()}")
    console = Console(markup=False)
    console.print(_front_table(result, front))
    for _, row in front.iterrows():
        print(f"{row['number']}: {row['architecture']}")
    return 0


def explain(a: argparse.Namespace) -> int:
    result = load(a.run_folder, a.space)
    _print_notes(result)
    print(result.architecture(a.trial), end="\n\n")
    if a.layer is not None:
        print(result.get_explanation_for_layer(a.layer, a.trial))
        return 0
    claims = result.explain(a.trial)
    if a.trial is not None:
        row = result.trials.set_index("number").loc[a.trial]
        wanted = dict.fromkeys([*result.info.objectives, *result.info.searched])
        names = [o.name for o in wanted if not pd.isna(row.get(f"m.{o.name}"))]
        read = [f"{named(n)} {value(float(row[f'm.{n}']), n)}" for n in names]
        ended = str(row["status"]).replace("_", " ")
        length = plural(row["fidelity"], "epoch")
        print(f"• Trial {a.trial}: {ended} after {length}; {', '.join(read)}")
        claims = [c for c in claims if c.trial in (a.trial, None) or c.kind == "effect"]
    for claim in chosen(claims, LEVELS[a.level]):
        print(f"• {sentence(claim)}")
    print(f"• {summary(claims)}")
    return 0


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


def _front_table(result: SearchResult, front: pd.DataFrame) -> Any:
    names = [o.name for o in result.info.objectives]
    names += [n for n in (f"test_{names[0]}", "params", "flops") if f"m.{n}" in front]
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


def _counts(result: SearchResult) -> str:
    """How the trials ended: `1 finished, 3 stopped early`."""
    words = {"stopped_early": "stopped early", "infeasible": "over a limit (not measured)"}
    groups = []
    for name, rows in counted(result):
        counts = rows["status"].value_counts()
        told = [f"{n} {words.get(str(status), status)}" for status, n in counts.items() if n]
        lead = f"{name}: " if result.info.screening else ""
        groups += [f"{lead}{', '.join(told)}"] if told else []
    return "; ".join(groups) or "no trials"


def _failures(result: SearchResult) -> str:
    failed = result.trials[result.trials["status"] == "failed"]
    if not len(failed):
        return ""
    causes = failed["error"].str.split("\n").str[0].value_counts()
    listed = "; ".join(f"{n} x {cause}" for cause, n in causes.head(5).items())
    return f"{len(failed)} trials failed: {listed}"


def _print_notes(result: SearchResult) -> None:
    for note in result.notes:
        print(f"raynas: {note}", file=sys.stderr)


def _constraint(text: str) -> tuple[str, float]:
    name, _, bound = text.partition("=")
    try:
        return name, float(bound)
    except ValueError:
        raise UserError(f"--constraint: expected such as min_accuracy=0.9; got {text!r}.") from None


COMMANDS = {
    "search": search,
    "resume": resume,
    "status": status,
    "front": front,
    "explain": explain,
    "report": report,
    "diff": diff,
    "draw": draw,
    "layers": layers,
    "spaces": spaces,
    "strategies": strategies,
}

"""The command line: arguments -> the calls of `raynas.api`, tables and words back.

Exit codes: 0 done, 1 it could not be done as asked, 2 the command line is wrong, 130 interrupted.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas import __version__
from raynas.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from raynas.result import SearchResult

SCHEDULERS = {
    "asha": "stops designs that are behind the others after the same number of epochs",
    "none": "trains every design to the end",
}
DEFAULT_BUDGET = 90.0  # seconds of `raynas search` when neither --trials nor --time-budget is given


def main(argv: list[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run_command(arguments))
    except UserError as error:
        print(f"raynas: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("raynas: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stderr.close()
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="raynas", description="Neural architecture search that explains itself with evidence."
    )
    parser.add_argument("--version", action="version", version=f"raynas {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.set_defaults(run_command=run)
        return command

    _add_search(add("search", _search, "search designs, train them, explain the best"))
    resume = add("resume", _resume, "go on with a search that was interrupted or killed")
    resume.add_argument("run_folder", metavar="RUN")
    _add_budget(resume, resumed=True)
    resume.add_argument("--address", help="of a Ray cluster to join")
    status = add("status", _status, "how far a search is, also while it runs")
    status.add_argument("run_folder", metavar="RUN")
    front = add("front", _front, "the Pareto front of a run, as a table")
    front.add_argument("run_folder", metavar="RUN")
    explain = add("explain", _explain, "why the designs are as they are, with the evidence")
    explain.add_argument("run_folder", metavar="RUN")
    explain.add_argument("--layer", type=int, help="only this layer of the design (from 0)")
    explain.add_argument("--trial", type=int, help="the design to explain; default: the best")
    explain.add_argument("--level", choices=("brief", "standard", "detailed"), default="detailed")
    report = add("report", _report, "write the run's HTML report anew")
    report.add_argument("run_folder", metavar="RUN")
    diff = add("diff", _diff, "two designs side by side")
    diff.add_argument("run_folder", metavar="RUN")
    diff.add_argument("first", type=int, metavar="TRIAL")
    diff.add_argument("second", type=int, metavar="TRIAL")
    add("spaces", _spaces, "the search spaces there are")
    add("strategies", _strategies, "the search strategies there are")
    return parser


def _add_search(command: argparse.ArgumentParser) -> None:
    data = command.add_argument_group("data")
    data.add_argument(
        "--dataset",
        default="digits",
        metavar="NAME|PATH",
        help="a torchvision set by name, a folder of class folders, Parquet files of the Hugging "
        "Face hub (file, folder or pattern); default: scikit-learn's digits",
    )
    data.add_argument("--data-root", metavar="DIR", help="where named sets lie or are put")
    data.add_argument("--download", action="store_true", help="fetch a named set if absent")
    data.add_argument("--image-size", type=_positive, metavar="PIXELS", help="resize images to")
    data.add_argument("--subset", type=_positive, metavar="N", help="at most N training images")

    goal = command.add_argument_group("what to find")
    goal.add_argument(
        "--objective",
        action="append",
        metavar="METRIC:max|min",
        help="repeat for several; metrics: accuracy, loss, params, flops "
        "(default: accuracy:max and params:min)",
    )
    goal.add_argument("--max-params", type=_positive, metavar="N", help="refuse larger designs")
    goal.add_argument(
        "--max-flops",
        type=_positive,
        metavar="N",
        help="refuse costlier designs (2 per multiply-add)",
    )
    goal.add_argument(
        "--constraint",
        action="append",
        default=[],
        metavar="max_METRIC=N",
        help="any other bound, such as min_accuracy=0.9; repeat for several",
    )

    how = command.add_argument_group("how to search")
    how.add_argument("--space", default="layered", help="see `raynas spaces`")
    how.add_argument("--strategy", default="evolution", help="see `raynas strategies`")
    how.add_argument(
        "--scheduler",
        default="asha",
        choices=SCHEDULERS,
        help="; ".join(f"{name}: {text}" for name, text in SCHEDULERS.items()),
    )
    how.add_argument("--seed", type=int, default=0, help="of search, splits and trainings")
    _add_budget(command, resumed=False)

    training = command.add_argument_group("training of each design")
    training.add_argument("--epochs", type=_positive, default=18, help="default: 18")
    training.add_argument("--batch-size", type=_positive, metavar="N", help="default: 32 to 128")
    training.add_argument("--optimizer", choices=("adamw", "sgd"), default="adamw")
    training.add_argument("--learning-rate", type=_rate, metavar="RATE")

    where = command.add_argument_group("where it runs")
    where.add_argument("--cpus-per-trial", type=_positive, default=1, metavar="N")
    where.add_argument(
        "--gpus-per-trial", type=float, metavar="SHARE", help="default: 1 where there is a GPU"
    )
    where.add_argument(
        "--trial-timeout", type=_seconds, metavar="TIME", help="give a trial up after this long"
    )
    where.add_argument("--address", metavar="auto|HOST:PORT", help="of a Ray cluster to join")

    out = command.add_argument_group("what comes out")
    out.add_argument("--run", metavar="DIR", help="the run's folder; default: one under runs/")
    out.add_argument("--explanation", choices=("brief", "standard", "detailed"), default="standard")


def _add_budget(command: argparse.ArgumentParser, resumed: bool) -> None:
    budget = command.add_argument_group("budget")
    budget.add_argument(
        "--trials",
        type=_positive,
        metavar="N",
        help="designs in all, those that are done included" if resumed else "designs to evaluate",
    )
    budget.add_argument(
        "--time-budget",
        type=_seconds,
        metavar="TIME",
        help="such as 90s, 10m or 2h"
        + (", from now" if resumed else f"; default: {DEFAULT_BUDGET:.0f}s without --trials"),
    )


def _search(a: argparse.Namespace) -> int:
    console = _console()
    from raynas.api import search  # heavy, and only needed from here on
    from raynas.progress import Display

    constraints = dict(_constraint(text) for text in a.constraint)
    constraints |= {f"max_{n}": v for n in ("params", "flops") if (v := vars(a)[f"max_{n}"])}
    problem: dict[str, Any] = {"dataset": a.dataset, "constraints": constraints}
    if a.objective:
        problem["objectives"] = a.objective
    seconds = a.time_budget
    if seconds is None and a.trials is None:
        seconds = DEFAULT_BUDGET
    result = search(
        problem,
        space=a.space,
        strategy=a.strategy,
        scheduler=a.scheduler,
        trials=a.trials or 100_000,
        time_budget_hours=None if seconds is None else seconds / 3600,
        epochs=a.epochs,
        batch_size=a.batch_size,
        optimizer=a.optimizer,
        learning_rate=a.learning_rate,
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


def _resume(a: argparse.Namespace) -> int:
    console = _console()
    from raynas.api import resume
    from raynas.progress import Display

    result = resume(
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
    if len(front):
        console.print(_front_table(result, front))
        for text in result.sentences():
            console.print(f"• {text}", highlight=False, soft_wrap=not console.is_terminal)
    else:
        console.print(f"No design was trained to the end. {_failures(result)}", highlight=False)
    console.print(f"\n[bold]run[/bold]    {result.path}", highlight=False)
    console.print(f"[bold]report[/bold] {result.path / 'report.html'}", highlight=False)
    if result.interrupted:
        console.print(f"Interrupted. To go on: raynas resume {result.path}", highlight=False)
        return 130
    return 0 if len(front) else 1


def _status(a: argparse.Namespace) -> int:
    from raynas.archive import being_written
    from raynas.explanation.sentences import value
    from raynas.progress import duration
    from raynas.result import busy_seconds, load

    result = load(a.run_folder)
    counts = result.trials["status"].value_counts()
    open_ = len(result.proposals) - len(result.trials)
    running = being_written(Path(a.run_folder))
    console = _console()
    _print_notes(result)
    console.print(
        f"{result.path}: {'running' if running else 'not running'}, at work for "
        f"{duration(busy_seconds(result.trials))}",
        highlight=False,
    )
    told = (
        ", ".join(f"{n} {str(s).replace('_', ' ')}" for s, n in counts.items() if n) or "no trials"
    )
    waiting = "running" if running else "to be run again on resume"
    console.print(
        f"{told or 'no trials'}{f'; {open_} {waiting}' if open_ else ''}", highlight=False
    )
    front = result.front()
    if len(front):
        best, objectives = front.iloc[0], result.info.objectives
        readings = [f"{o.name} {value(best[f'm.{o.name}'], o.name)}" for o in objectives]
        console.print(f"best so far: trial {best['number']} with {', '.join(readings)}")
        console.print(f"front: {len(front)} designs")
    if text := _failures(result):
        console.print(text, highlight=False)
    return 0


def _front(a: argparse.Namespace) -> int:
    from raynas.result import load

    result = load(a.run_folder)
    _print_notes(result)
    front = result.front()
    if not len(front):
        raise UserError(f"{a.run_folder}: no design was trained to the end yet.")
    console = _console()
    console.print(_front_table(result, front))
    for _, row in front.iterrows():
        print(f"{row['number']}: {row['architecture']}")
    return 0


def _explain(a: argparse.Namespace) -> int:
    from raynas.explanation.sentences import chosen, sentence, summary
    from raynas.result import LEVELS, load

    result = load(a.run_folder)
    _print_notes(result)
    print(result.architecture(a.trial), end="\n\n")
    if a.layer is not None:
        print(result.get_explanation_for_layer(a.layer, a.trial))
        return 0
    claims = result.explain(a.trial)
    for claim in chosen(claims, LEVELS[a.level]):
        print(f"• {sentence(claim)}")
    print(f"• {summary(claims)}")
    return 0


def _report(a: argparse.Namespace) -> int:
    from raynas.report import write_report
    from raynas.result import load

    result = load(a.run_folder)
    _print_notes(result)
    result.write_claims()
    print(write_report(result))
    return 0


def _diff(a: argparse.Namespace) -> int:
    from rich.table import Table

    from raynas.architecture import option_text
    from raynas.result import load

    result = load(a.run_folder)
    rows = result.diff(a.first, a.second)
    if not rows:
        print(f"trials {a.first} and {a.second} are the same design")
        return 0
    table = Table("decision", f"trial {a.first}", f"trial {a.second}", box=None)
    for name, left, right in rows:
        table.add_row(name, *("–" if o is None else option_text(o) for o in (left, right)))
    for name in sorted(n for n in result.trials.columns if n.startswith("m.")):
        pair = result.trials.set_index("number").loc[[a.first, a.second], name]
        table.add_row(f"[dim]{name[2:]}[/dim]", *("–" if v != v else f"{v:,.5g}" for v in pair))
    _console().print(table)
    return 0


def _spaces(_: argparse.Namespace) -> int:
    import search_spaces

    for name in search_spaces.names():
        module = search_spaces.find(name)
        first = " ".join((module.__doc__ or "").split("\n\n")[0].split())
        size = module.SPACE.size
        digits = f"{size:,}" if size < 10**9 else f"about 10^{len(str(size)) - 1}"
        print(f"{name}: {digits} designs, {len(module.SPACE.decisions)} decisions. {first}")
    return 0


def _strategies(_: argparse.Namespace) -> int:
    from raynas.strategies import STRATEGIES

    for name, strategy in STRATEGIES.items():
        first = (strategy.__doc__ or "").strip().splitlines()[0]
        print(f"{name}: {first}")
    return 0


def _front_table(result: SearchResult, front: pd.DataFrame) -> Any:
    from rich.table import Table

    from raynas.explanation.sentences import value

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


def _console() -> Console:
    from rich.console import Console

    return Console()


def _constraint(text: str) -> tuple[str, float]:
    name, _, bound = text.partition("=")
    try:
        return name, float(bound)
    except ValueError:
        raise UserError(f"--constraint: expected such as min_accuracy=0.9; got {text!r}.") from None


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)?", text)
    if not match or not float(match[1]):
        raise argparse.ArgumentTypeError(f"expected a time such as 90s, 10m or 2h; got {text!r}")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2] or "s"]


def _positive(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0; got {text!r}")
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < 100:
        raise argparse.ArgumentTypeError(f"expected a number above 0; got {text!r}")
    return rate

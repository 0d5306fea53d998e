"""The command line: what can be typed, and how it ends (`raynas.commands` does the work).

Exit codes: 0 done, 1 it could not be done as asked, 2 the command line is wrong, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import sys

from raynas import __version__, arguments
from raynas.arguments import positive
from raynas.errors import UserError

HOMES = {  # commands that answer at once, as they do without most of what others load
    "status": "raynas.status_command",
    "trial": "raynas.trial_command",
    "doctor": "raynas.doctor_command",
    "dashboard": "raynas.dashboard_command",
    "stop": "raynas.stop_command",
}


def main(argv: list[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    typed = _parser().parse_args(argv)
    try:
        home = importlib.import_module(HOMES.get(typed.command, "raynas.commands"))
        return int(home.COMMANDS[typed.command](typed))
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

    def add(name: str, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.set_defaults(command=name)
        return command

    search = add("search", "search designs, train them, explain the best")
    arguments.search(search)
    resume = add("resume", "go on with a search that was interrupted or killed, or is done")
    resume.add_argument("run_folder", metavar="RUN")
    arguments.budget(resume, resumed=True)
    arguments.concurrent(resume)
    resume.add_argument("--address", help="of a Ray cluster to join")
    more = add("continue", "go on with a search, changed by what you say of it")
    more.add_argument("run_folder", metavar="RUN")
    arguments.said(more.add_mutually_exclusive_group(required=True))
    arguments.budget(more, resumed=False)
    more.add_argument("--dry-run", action="store_true", help="only say what it would change")
    more.add_argument("--yes", action="store_true", help="do not ask before going on")
    more.add_argument("--address", help="of a Ray cluster to join")
    undo = add("undo", "take back what was said last of a run")
    undo.add_argument("run_folder", metavar="RUN")
    arguments.search(
        add("design", "a design session: proposals, and what you say of them, by turns")
    )
    stop = add("stop", "ask a search to finish what runs and then to end, from any shell")
    stop.add_argument("run_folder", metavar="RUN")
    status = add("status", "how far a search is, also while it runs")
    status.add_argument("run_folder", metavar="RUN")
    form = status.add_mutually_exclusive_group()
    form.add_argument("--watch", action="store_true", help="again and again, until it ends")
    form.add_argument("--json", action="store_true", help="one JSON object, for machines")
    trial = add("trial", "everything that is kept of one trial of a run")
    trial.add_argument("run_folder", metavar="RUN")
    trial.add_argument("number", type=int, metavar="TRIAL")
    trial.add_argument("--log", action="store_true", help="what a failed trial printed and logged")
    arguments.doctor(
        add("doctor", "why nothing starts: looks at this machine or a cluster, node by node")
    )
    board = add("dashboard", "a local page over all runs of a folder, live while they run")
    board.add_argument("runs_folder", metavar="RUNS_DIR")
    board.add_argument("--host", default="127.0.0.1", help="where to serve; default: this machine")
    board.add_argument("--port", type=int, default=8642, help="0 takes a free one; default: 8642")
    front = add("front", "the Pareto front of a run, as a table")
    front.add_argument("run_folder", metavar="RUN")
    explain = add("explain", "why the designs are as they are, with the evidence")
    explain.add_argument("run_folder", metavar="RUN")
    what = explain.add_mutually_exclusive_group()
    what.add_argument("--layer", type=int, help="only this layer of the design (from 0)")
    what.add_argument("--decision", metavar="NAME", help="all of one, such as layer3.kernel_size")
    what.add_argument("--versus", type=int, metavar="TRIAL", help="why not that trial's design")
    what.add_argument(
        "--why-not", metavar="EDITS", help="such as layer3.kernel_size=5; several apart by commas"
    )
    explain.add_argument("--trial", type=int, help="the design to explain; default: the best")
    explain.add_argument("--level", choices=("brief", "standard", "detailed"), default="detailed")
    audit = add("audit", "put claims of a run to the test: train what they are about")
    audit.add_argument("run_folder", metavar="RUN")
    audit.add_argument("--trials", type=positive, default=10, help="claims to test; default: 10")
    audit.add_argument("--address", help="of a Ray cluster to join")
    for command in (search, resume, more, audit):
        arguments.shown(command)
    report = add("report", "write the run's HTML report anew")
    report.add_argument("run_folder", metavar="RUN")
    for command in (explain, audit, report, more):
        command.add_argument(
            "--space", metavar="FILE.py:NAME", help="of a run in a space of your own: where it is"
        )
    for name, text in (
        ("draw", "a picture of a design: its layers and cells"),
        ("layers", "a design layer by layer: shapes, parameters, FLOPs, decisions"),
    ):
        show = add(name, text)
        show.add_argument(
            "design",
            metavar="ARCHITECTURE|RUN",
            help="an architecture's text, or a run, for its best design",
        )
        show.add_argument("--trial", type=int, help="of the run; default: the best")
        show.add_argument(
            "--space", metavar="NAME|FILE.py:NAME", help="default: what the design names"
        )
        show.add_argument(
            "--input",
            type=arguments.shape,
            default=(3, 32, 32),
            metavar="CxHxW",
            help="an image's channels, height and width; default: the run's, or 3x32x32",
        )
        show.add_argument("--classes", type=positive, default=10, help="default: the run's, or 10")
        if name == "draw":
            show.add_argument(
                "--out",
                default="design.svg",
                metavar="FILE",
                help=".svg or .png; default: design.svg",
            )
    arguments.preview(add("preview", "what share of a space keeps limits, before any search"))
    diff = add("diff", "two designs side by side")
    diff.add_argument("run_folder", metavar="RUN")
    diff.add_argument("first", type=int, metavar="TRIAL")
    diff.add_argument("second", type=int, metavar="TRIAL")
    arguments.latency(add("latency", "how long designs take here: measure a table, or check one"))
    arguments.track(add("track", "show a run in TensorBoard, MLflow or Optuna's dashboard"))
    export = add("export", "write a trained network for use without RayNAS")
    export.add_argument("run_folder", metavar="RUN")
    export.add_argument("--trial", type=int, help="of the front; default: the best")
    export.add_argument(
        "--format",
        choices=("python", "onnx", "torch-export", "safetensors"),
        default="python",
        help="python: one file of plain PyTorch code, its weights beside it; default: python",
    )
    export.add_argument("--out", metavar="PATH", help="default: under exports in the run's folder")
    export.add_argument(
        "--space", metavar="FILE.py:NAME", help="of a run in a space of your own: where it is"
    )
    spaces = add("spaces", "the search spaces there are, or what one of them asks")
    spaces.add_argument(
        "space", metavar="SPACE", nargs="?", help="one of them, or my_space.py:NAME"
    )
    spaces.add_argument("--known", action="store_true", help="its published designs, with sizes")
    add("strategies", "the search strategies there are")
    arguments.benchmark(
        add("benchmark", "score strategies or explanations where the truth is known")
    )
    return parser

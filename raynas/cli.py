"""The command line: what can be typed, and how it ends (`raynas.commands` does the work).

Exit codes: 0 done, 1 it could not be done as asked, 2 the command line is wrong, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys

from raynas import __version__
from raynas.errors import UserError

SCHEDULERS = {
    "asha": "compares designs at two rungs, a ninth and a third of the epochs (2 and 6 of 18), and "
    "lets the best third go on (several objectives: by rank, then by the hypervolume that each "
    "adds, and all that nothing dominates)",
    "bohb": "as asha, in HyperBand's brackets: 55 in 100 designs, drawn from the seed, meet both "
    "rungs, 27 only the second, 18 none; no design waits for others",
    "median": "stops, at each ninth of the epochs, what is worse than the median of the others "
    "(several objectives: what most of them dominate)",
    "none": "trains every design to the end",
}

HOMES = {  # commands that answer at once, as they do without most of what others load
    "status": "raynas.status_command",
    "trial": "raynas.trial_command",
    "doctor": "raynas.doctor_command",
}


def main(argv: list[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        home = importlib.import_module(HOMES.get(arguments.command, "raynas.commands"))
        return int(home.COMMANDS[arguments.command](arguments))
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

    _add_search(add("search", "search designs, train them, explain the best"))
    resume = add("resume", "go on with a search that was interrupted or killed")
    resume.add_argument("run_folder", metavar="RUN")
    _add_budget(resume, resumed=True)
    _add_concurrent(resume)
    resume.add_argument("--address", help="of a Ray cluster to join")
    more = add("continue", "go on with a search, changed by what you say of it")
    more.add_argument("run_folder", metavar="RUN")
    _add_said(more.add_mutually_exclusive_group(required=True))
    _add_budget(more, resumed=False)
    more.add_argument("--dry-run", action="store_true", help="only say what it would change")
    more.add_argument("--yes", action="store_true", help="do not ask before going on")
    more.add_argument("--address", help="of a Ray cluster to join")
    undo = add("undo", "take back what was said last of a run")
    undo.add_argument("run_folder", metavar="RUN")
    _add_search(add("design", "a design session: proposals, and what you say of them, by turns"))
    status = add("status", "how far a search is, also while it runs")
    status.add_argument("run_folder", metavar="RUN")
    form = status.add_mutually_exclusive_group()
    form.add_argument("--watch", action="store_true", help="again and again, until it ends")
    form.add_argument("--json", action="store_true", help="one JSON object, for machines")
    trial = add("trial", "everything that is kept of one trial of a run")
    trial.add_argument("run_folder", metavar="RUN")
    trial.add_argument("number", type=int, metavar="TRIAL")
    trial.add_argument("--log", action="store_true", help="what a failed trial printed and logged")
    _add_doctor(
        add("doctor", "why nothing starts: looks at this machine or a cluster, node by node")
    )
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
    audit.add_argument("--trials", type=_positive, default=10, help="claims to test; default: 10")
    audit.add_argument("--address", help="of a Ray cluster to join")
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
            type=_shape,
            default=(3, 32, 32),
            metavar="CxHxW",
            help="an image's channels, height and width; default: the run's, or 3x32x32",
        )
        show.add_argument("--classes", type=_positive, default=10, help="default: the run's, or 10")
        if name == "draw":
            show.add_argument(
                "--out",
                default="design.svg",
                metavar="FILE",
                help=".svg or .png; default: design.svg",
            )
    _add_preview(add("preview", "what share of a space keeps limits, before any search"))
    diff = add("diff", "two designs side by side")
    diff.add_argument("run_folder", metavar="RUN")
    diff.add_argument("first", type=int, metavar="TRIAL")
    diff.add_argument("second", type=int, metavar="TRIAL")
    _add_latency(add("latency", "how long designs take here: measure a table, or check one"))
    _add_track(add("track", "show a run in TensorBoard, MLflow or Optuna's dashboard"))
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
    _add_benchmark(add("benchmark", "score strategies or explanations where the truth is known"))
    return parser


def _add_track(command: argparse.ArgumentParser) -> None:
    command.add_argument("run_folder", metavar="RUN")
    command.add_argument("--tensorboard", metavar="DIR", help="a log folder, of this run alone")
    command.add_argument(
        "--mlflow", metavar="URI", help="such as http://HOST:5000 or sqlite:///mlflow.db"
    )
    command.add_argument(
        "--optuna",
        metavar="STORAGE",
        help="such as sqlite:///optuna.db, or a file for Optuna's journal",
    )
    command.add_argument(
        "--name", help="of the study, and of MLflow's parent run; default: the run's folder"
    )
    command.add_argument(
        "--follow", action="store_true", help="go on while the search does, and end with it"
    )


def _add_doctor(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--address",
        metavar="auto|HOST:PORT",
        help="of a Ray cluster; default: this machine, on which Ray is started to see",
    )
    command.add_argument("--run", metavar="DIR|URL", help="where a run is or will be")
    command.add_argument("--cpus-per-trial", type=_positive, default=1, metavar="N")
    command.add_argument(
        "--gpus-per-trial", type=float, metavar="SHARE", help="default: 1 where there is a GPU"
    )


def _add_preview(command: argparse.ArgumentParser) -> None:
    command.add_argument("--space", default="layered", metavar="NAME|FILE.py:NAME")
    _add_limits(command.add_argument_group("limits"))
    data = command.add_argument_group("data")
    data.add_argument("--input", type=_shape, metavar="CxHxW", help="of an image, such as 3x32x32")
    data.add_argument("--classes", type=_positive, metavar="N")
    data.add_argument(
        "--dataset",
        default="digits",
        metavar="NAME|PATH",
        help="where input and classes are not given; default: scikit-learn's digits",
    )
    data.add_argument("--data-root", metavar="DIR", help="where named sets lie")
    command.add_argument("--samples", type=_positive, default=1000, help="default: 1000")
    command.add_argument("--seed", type=int, default=0, help="of the samples")


def _add_benchmark(command: argparse.ArgumentParser) -> None:
    command.add_argument("--explanations", action="store_true", help="default: strategies")
    command.add_argument(
        "--strategy", action="append", metavar="NAME", help="repeat it; default: most, or two"
    )
    for name, usual in (("seeds", "10, or 5 to explain"), ("evaluations", "100")):
        command.add_argument(f"--{name}", type=_positive, metavar="N", help=f"default: {usual}")
    command.add_argument("--table", metavar="FILE", help="default: a small space on digits")


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
        help="repeat for several; metrics: accuracy, loss, params, flops, model_size_kb, "
        "peak_memory_mb, latency_ms (default: accuracy:max and params:min)",
    )
    _add_limits(goal)

    how = command.add_argument_group("how to search")
    how.add_argument(
        "--space",
        default="layered",
        metavar="NAME|FILE.py:NAME",
        help="see `raynas spaces`; settings follow a colon (nasbench201:channels=8,cells=1); "
        "a file of your own: my_space.py:Small; default: layered",
    )
    how.add_argument(
        "--start-from",
        action="append",
        default=[],
        metavar="DESIGN|FILE|RUN",
        help="try this design first: a name from `raynas spaces NAME --known` or an "
        "architecture's text; a file of such (.yaml: a list, .txt: a line each, .parquet: a column "
        "`architecture`) or a run, whose front is tried; repeat for several",
    )
    how.add_argument(
        "--warm-start",
        nargs="+",
        default=[],
        metavar="RUN",
        help="runs of the same space on other data, to learn from: their best designs are tried "
        "first",
    )
    _add_said(how.add_mutually_exclusive_group())
    how.add_argument(
        "--search-training",
        action="store_true",
        help="search optimizer, learning rate and weight decay together with the design",
    )
    how.add_argument(
        "--search-compression",
        action="store_true",
        help="search bits and pruning of the weights together with the design, to make it small "
        "(model_size_kb:min)",
    )
    how.add_argument(
        "--strategy",
        default="auto",
        metavar="NAME",
        help="see `raynas strategies`; settings follow a colon (evolution:population=50); "
        "default: auto, which picks one",
    )
    how.add_argument(
        "--evaluation",
        default="auto",
        metavar="KIND",
        help="train: each design; shared: by weights that all designs share, trained once, then "
        "the best few alone (shared:rule=fair,epochs=60,finalists=5,probes=5,inherit=true); "
        "proxy: by a score that needs no training, then the best few alone "
        "(proxy:name=az,finalists=5,probes=5); "
        "table:path=FILE.parquet: what others have measured; default: auto, as the strategy needs",
    )
    how.add_argument(
        "--screen",
        default="",
        metavar="PROXY:N",
        help="train the best of every N proposals by a score that needs no training (az:10); "
        "with --evaluation train",
    )
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
        "--gpus-per-trial",
        type=_share,
        metavar="SHARE",
        help="such as 0.25 for four trials at once, each with a quarter of the memory (one that "
        "needs more is tried again with a whole GPU); default: 1 where there is a GPU",
    )
    where.add_argument(
        "--trial-timeout", type=_seconds, metavar="TIME", help="give a trial up after this long"
    )
    where.add_argument(
        "--max-failures",
        type=_count,
        default=3,
        metavar="N",
        help="run a trial whose node was lost again up to N times, from its last checkpoint; "
        "default: 3",
    )
    _add_concurrent(where)
    where.add_argument("--address", metavar="auto|HOST:PORT", help="of a Ray cluster to join")

    out = command.add_argument_group("what comes out")
    out.add_argument(
        "--run",
        metavar="DIR|URL",
        help="the run's folder, or where in a store (s3://BUCKET/RUN); default: one under runs/",
    )
    out.add_argument("--explanation", choices=("brief", "standard", "detailed"), default="standard")


def _add_concurrent(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--max-concurrent",
        type=_positive,
        metavar="N",
        help="trials at once at most; those without room yet make an autoscaler start nodes; "
        "default: as the nodes that are there have room for",
    )


def _add_said(group: argparse._MutuallyExclusiveGroup) -> None:
    """What a person wants beyond objectives and limits."""
    group.add_argument(
        "--say",
        metavar="WORDS",
        help='such as "no separable convolutions after layer 4" or "under 2 ms"; shown back first',
    )
    group.add_argument(
        "--feedback", metavar="FILE.yaml", help="likewise, as directives; see docs/feedback.md"
    )


def _add_limits(group: argparse._ArgumentGroup) -> None:
    """What designs may cost, and where; designs beyond a limit are refused before training."""
    for name, kind, metavar, text in (
        ("params", _positive, "N", "refuse larger designs"),
        ("flops", _positive, "N", "refuse costlier designs (2 per multiply-add)"),
        ("model-size-kb", _amount, "KB", "refuse those whose weights take more to store"),
        ("peak-memory-mb", _amount, "MB", "refuse those that need more to classify one image"),
        ("latency-ms", _amount, "MS", "refuse those that take longer to classify one image"),
    ):
        group.add_argument(f"--max-{name}", type=kind, metavar=metavar, help=text)
    group.add_argument(
        "--constraint",
        action="append",
        default=[],
        metavar="max_METRIC=N",
        help="any other bound, such as min_accuracy=0.9; repeat for several",
    )
    group.add_argument(
        "--target-device",
        choices=("cpu", "cuda", "mobile"),
        help="where the model will run, for latency_ms: mobile is estimated from operation "
        "counts, the others are measured; default: cpu, or the device of the table",
    )
    group.add_argument(
        "--latency-table",
        metavar="FILE",
        help="how long operations take there (`raynas latency measure`); default: measured first",
    )


def _add_latency(command: argparse.ArgumentParser) -> None:
    what = command.add_subparsers(title="what to do", dest="what", metavar="WHAT", required=True)
    text = "time the operations that a space's designs can need; goes on where it was interrupted"
    measure = what.add_parser("measure", help=text, description=text[0].upper() + text[1:] + ".")
    measure.add_argument("--space", required=True, metavar="NAME|FILE.py:NAME")
    measure.add_argument("--out", required=True, metavar="FILE.parquet")
    measure.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    measure.add_argument(
        "--input", type=_shape, default=(3, 32, 32), metavar="CxHxW", help="default: 3x32x32"
    )
    measure.add_argument("--classes", type=_positive, default=10, metavar="N", help="default: 10")
    measure.add_argument(
        "--threads", type=_positive, default=1, metavar="N", help="on the processor; default: 1"
    )
    measure.add_argument(
        "--samples",
        type=_positive,
        default=1000,
        metavar="N",
        help="random designs to look for operations in, at most; default: 1000",
    )
    text = "compare a table's estimates with random designs, measured whole"
    check = what.add_parser("check", help=text, description=text[0].upper() + text[1:] + ".")
    check.add_argument("table", metavar="FILE.parquet")
    check.add_argument("--space", required=True, metavar="NAME|FILE.py:NAME")
    check.add_argument("--designs", type=_positive, default=50, metavar="N", help="default: 50")
    for command in (measure, check):
        command.add_argument("--seed", type=int, default=0, help="of the random designs")


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
        + (", from now" if resumed else "; default: 90s without --trials"),
    )


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)?", text)
    if not match or not float(match[1]):
        raise argparse.ArgumentTypeError(f"expected a time such as 90s, 10m or 2h; got {text!r}")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2] or "s"]


def _shape(text: str) -> tuple[int, int, int]:
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected such as 3x32x32; got {text!r}")
    return int(match[1]), int(match[2]), int(match[3])


def _positive(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0; got {text!r}")
    return int(text)


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0; got {text!r}")
    return int(text)


def _amount(text: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        amount = 0.0
    if not 0 < amount < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0; got {text!r}")
    return amount


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not (0 <= share <= 1 or (share > 1 and share.is_integer())):
        raise argparse.ArgumentTypeError(
            f"expected a share of a GPU such as 0.25, or a whole number of them; got {text!r}"
        )
    return share


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < 100:
        raise argparse.ArgumentTypeError(f"expected a number above 0; got {text!r}")
    return rate

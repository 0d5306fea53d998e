"""The arguments of the commands that take many, and how they are read."""

from __future__ import annotations

import argparse
import re

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


def track(command: argparse.ArgumentParser) -> None:
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


def doctor(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--address",
        metavar="auto|HOST:PORT",
        help="of a Ray cluster; default: this machine, on which Ray is started to see",
    )
    command.add_argument("--run", metavar="DIR|URL", help="where a run is or will be")
    command.add_argument("--cpus-per-trial", type=positive, default=1, metavar="N")
    command.add_argument(
        "--gpus-per-trial", type=float, metavar="SHARE", help="default: 1 where there is a GPU"
    )


def preview(command: argparse.ArgumentParser) -> None:
    command.add_argument("--space", default="layered", metavar="NAME|FILE.py:NAME")
    _limits(command.add_argument_group("limits"))
    data = command.add_argument_group("data")
    data.add_argument("--input", type=shape, metavar="CxHxW", help="of an image, such as 3x32x32")
    data.add_argument("--classes", type=positive, metavar="N")
    data.add_argument(
        "--dataset",
        default="digits",
        metavar="NAME|PATH",
        help="where input and classes are not given; default: scikit-learn's digits",
    )
    data.add_argument("--data-root", metavar="DIR", help="where named sets lie")
    command.add_argument("--samples", type=positive, default=1000, help="default: 1000")
    command.add_argument("--seed", type=int, default=0, help="of the samples")


def benchmark(command: argparse.ArgumentParser) -> None:
    command.add_argument("--explanations", action="store_true", help="default: strategies")
    command.add_argument(
        "--strategy", action="append", metavar="NAME", help="repeat it; default: most, or two"
    )
    for name, usual in (("seeds", "10, or 5 to explain"), ("evaluations", "100")):
        command.add_argument(f"--{name}", type=positive, metavar="N", help=f"default: {usual}")
    command.add_argument("--table", metavar="FILE", help="default: a small space on digits")


def search(command: argparse.ArgumentParser) -> None:
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
    data.add_argument("--image-size", type=positive, metavar="PIXELS", help="resize images to")
    data.add_argument("--subset", type=positive, metavar="N", help="at most N training images")

    goal = command.add_argument_group("what to find")
    goal.add_argument(
        "--objective",
        action="append",
        metavar="METRIC:max|min",
        help="repeat for several; metrics: accuracy, loss, params, flops, model_size_kb, "
        "peak_memory_mb, latency_ms (default: accuracy:max and params:min)",
    )
    _limits(goal)

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
    said(how.add_mutually_exclusive_group())
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
    budget(command, resumed=False)

    training = command.add_argument_group("training of each design")
    training.add_argument("--epochs", type=positive, default=18, help="default: 18")
    training.add_argument("--batch-size", type=positive, metavar="N", help="default: 32 to 128")
    training.add_argument("--optimizer", choices=("adamw", "sgd"), default="adamw")
    training.add_argument("--learning-rate", type=_rate, metavar="RATE")

    where = command.add_argument_group("where it runs")
    where.add_argument("--cpus-per-trial", type=positive, default=1, metavar="N")
    where.add_argument(
        "--gpus-per-trial",
        type=_share,
        metavar="SHARE",
        help="such as 0.25 for four trials at once, each with a quarter of the memory (one that "
        "needs more is tried again with a whole GPU); default: 1 where there is a GPU",
    )
    where.add_argument(
        "--trial-timeout", type=seconds, metavar="TIME", help="give a trial up after this long"
    )
    where.add_argument(
        "--max-failures",
        type=_count,
        default=3,
        metavar="N",
        help="run a trial whose node was lost again up to N times, from its last checkpoint; "
        "default: 3",
    )
    concurrent(where)
    where.add_argument("--address", metavar="auto|HOST:PORT", help="of a Ray cluster to join")

    out = command.add_argument_group("what comes out")
    out.add_argument(
        "--run",
        metavar="DIR|URL",
        help="the run's folder, or where in a store (s3://BUCKET/RUN); default: one under runs/",
    )
    out.add_argument("--explanation", choices=("brief", "standard", "detailed"), default="standard")


def concurrent(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--max-concurrent",
        type=positive,
        metavar="N",
        help="trials at once at most; those without room yet make an autoscaler start nodes; "
        "default: as the nodes that are there have room for",
    )


def said(group: argparse._MutuallyExclusiveGroup) -> None:
    """What a person wants beyond objectives and limits."""
    group.add_argument(
        "--say",
        metavar="WORDS",
        help='such as "no separable convolutions after layer 4" or "under 2 ms"; shown back first',
    )
    group.add_argument(
        "--feedback", metavar="FILE.yaml", help="likewise, as directives; see docs/feedback.md"
    )


def _limits(group: argparse._ArgumentGroup) -> None:
    """What designs may cost, and where; designs beyond a limit are refused before training."""
    for name, kind, metavar, text in (
        ("params", positive, "N", "refuse larger designs"),
        ("flops", positive, "N", "refuse costlier designs (2 per multiply-add)"),
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


def latency(command: argparse.ArgumentParser) -> None:
    what = command.add_subparsers(title="what to do", dest="what", metavar="WHAT", required=True)
    text = "time the operations that a space's designs can need; goes on where it was interrupted"
    measure = what.add_parser("measure", help=text, description=text[0].upper() + text[1:] + ".")
    measure.add_argument("--space", required=True, metavar="NAME|FILE.py:NAME")
    measure.add_argument("--out", required=True, metavar="FILE.parquet")
    measure.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    measure.add_argument(
        "--input", type=shape, default=(3, 32, 32), metavar="CxHxW", help="default: 3x32x32"
    )
    measure.add_argument("--classes", type=positive, default=10, metavar="N", help="default: 10")
    measure.add_argument(
        "--threads", type=positive, default=1, metavar="N", help="on the processor; default: 1"
    )
    measure.add_argument(
        "--samples",
        type=positive,
        default=1000,
        metavar="N",
        help="random designs to look for operations in, at most; default: 1000",
    )
    text = "compare a table's estimates with random designs, measured whole"
    check = what.add_parser("check", help=text, description=text[0].upper() + text[1:] + ".")
    check.add_argument("table", metavar="FILE.parquet")
    check.add_argument("--space", required=True, metavar="NAME|FILE.py:NAME")
    check.add_argument("--designs", type=positive, default=50, metavar="N", help="default: 50")
    for command in (measure, check):
        command.add_argument("--seed", type=int, default=0, help="of the random designs")


def budget(command: argparse.ArgumentParser, resumed: bool) -> None:
    group = command.add_argument_group("budget")
    group.add_argument(
        "--trials",
        type=_extent if resumed else positive,
        metavar="N|+N" if resumed else "N",
        help="designs in all, those that are done included; +N: so many more than those"
        if resumed
        else "designs to evaluate",
    )
    group.add_argument(
        "--time-budget",
        type=seconds,
        metavar="TIME",
        help="such as 90s, 10m or 2h"
        + (", from now" if resumed else "; default: 90s without --trials"),
    )


def shown(command: argparse.ArgumentParser) -> None:
    """How a command that searches shows how far it is."""
    group = command.add_argument_group("what is shown").add_mutually_exclusive_group()
    group.add_argument(
        "--progress",
        choices=("table", "json"),
        default="table",
        help="table: live in a terminal, a line every 15 s elsewhere; json: one JSON object a "
        "line, for machines, and nothing else on the standard output; default: table",
    )
    group.add_argument(
        "--quiet",
        action="store_true",
        help="print the run's folder at the end, and nothing else but errors and warnings",
    )


def _extent(text: str) -> dict[str, int]:
    """How far a search is to go: arguments of `raynas.api.resume`."""
    return {"more" if text.startswith("+") else "trials": positive(text.removeprefix("+"))}


def seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)?", text)
    if not match or not float(match[1]):
        raise argparse.ArgumentTypeError(f"expected a time such as 90s, 10m or 2h; got {text!r}")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2] or "s"]


def shape(text: str) -> tuple[int, int, int]:
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected such as 3x32x32; got {text!r}")
    return int(match[1]), int(match[2]), int(match[3])


def positive(text: str) -> int:
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

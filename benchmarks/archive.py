"""Does an archive of a million trials stay usable?

    python benchmarks/archive.py --trials 1000000 --resume 100000

A run with made-up trials (space nasbench201; three objectives, one curve of 12 epochs) is written
in parts of 10,000, without training anything. Measured, each in a process of its own, imports
included where a person would wait for them:

- `columns`: all objectives, status and purpose as a pandas frame (`pandas.read_parquet` on the
  folder), imports excluded;
- `front`: of three objectives, from that frame;
- `status`: the command `raynas status`;
- `load`: `raynas.load(RUN)` and all its trials as a frame;
- `resume`: from a run of `--resume` trials, until the strategy (random, evolution, nsga2) has been
  told all of them and has proposed the next design, in this process.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from machine import header

import search_spaces
from raynas import tables
from raynas.architecture import Architecture, option_text
from raynas.files import write_table
from raynas.objective import pareto_front
from raynas.problem import Problem
from raynas.run import RunInfo, read
from raynas.session import Session
from raynas.strategies import make

PART = 10_000
EPOCHS = 12
OBJECTIVES = ["accuracy:max", "params:min", "flops:min"]
STATUS = "import sys; from raynas.cli import main; sys.exit(main(['status', sys.argv[1]]))"
STRATEGIES = ("random", "evolution", "nsga2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1_000_000)
    parser.add_argument("--resume", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    header()
    with tempfile.TemporaryDirectory(prefix="raynas-archive-") as folder:
        large, small = Path(folder, "large"), Path(folder, "small")
        seconds = make_up(large, given.trials, given.seed)
        size = sum(f.stat().st_size for f in large.rglob("*.parquet")) / 2**20
        print(f"\n{given.trials:,} trials made up in {seconds:.0f} s, {size:,.0f} MiB on disk\n")
        make_up(small, given.resume, given.seed + 1)
        print(f"{'what':<28}{'seconds':>9}{'goal':>7}")
        for name, (measure, goal) in MEASURES.items():
            print(f"{name:<28}{measure(large):>9.2f}{goal:>7}", flush=True)
        for strategy in STRATEGIES:
            what = f"resume {given.resume:,}, {strategy}"
            print(f"{what:<28}{resumed(small, strategy):>9.2f}{'60':>7}", flush=True)


def make_up(run: Path, count: int, seed: int) -> float:
    """Writes a run of random designs; returns the seconds that it took."""
    started, space = time.monotonic(), search_spaces.find("nasbench201")
    settings = {"space": "nasbench201", "strategy": "random", "seed": seed, "trials": count}
    settings |= {"explanation_level": "brief", "search_training": False, "seconds": None}
    problem = Problem.of({"objectives": OBJECTIVES})
    info = RunInfo(problem, space, settings, {}, {}, "benchmarks/archive.py")
    info.write(run)
    rng = np.random.default_rng(seed)
    schema = tables.trial_schema(space, ["accuracy", "params", "flops"], ["accuracy"])
    for i, first in enumerate(range(0, count, PART)):
        rows = min(PART, count - first)
        write_table(run / f"trials/part-{i + 1:06d}.parquet", part(space, schema, rng, first, rows))
    return time.monotonic() - started


def part(space, schema: pa.Schema, rng: np.random.Generator, first: int, rows: int) -> pa.Table:
    """Made-up trials, column by column."""
    picks = {d.name: rng.integers(len(d.options), size=rows) for d in space.decisions}
    named = {d.name: np.array(d.options)[picks[d.name]] for d in space.decisions}
    texts = [
        str(Architecture(space.name, tuple(zip(named, options, strict=True))))
        for options in zip(*(map(str, column) for column in named.values()), strict=True)
    ]
    ends = rng.random((rows, 3)) ** [0.3, 1, 1]
    curves = np.sort(rng.random((rows, EPOCHS)), axis=1).ravel()
    offsets = np.arange(0, rows * EPOCHS + 1, EPOCHS, dtype=np.int32)
    stopped = np.where(rng.random(rows) < 0.4, "stopped_early", "finished")
    columns = {
        "number": np.arange(first, first + rows),
        "architecture": texts,
        "status": stopped,
        **{
            f"d.{name}": [option_text(o) for o in column.tolist()] for name, column in named.items()
        },
        **{f"m.{n}": ends[:, i] for i, n in enumerate(("accuracy", "params", "flops"))},
        "c.accuracy": pa.ListArray.from_arrays(offsets, curves),
        "fidelity": np.full(rows, EPOCHS),
        "seed": rng.integers(2**31, size=rows),
        "started_at": pd.to_datetime(np.arange(first, first + rows), unit="s", utc=True),
        "seconds": rng.random(rows),
        "purpose": np.full(rows, "search"),
        "split": np.full(rows, "made up"),
        "device": np.full(rows, "cpu"),
        "node": np.full(rows, "here"),
        "error": pa.nulls(rows, pa.string()),
    }
    return pa.table({f.name: pa.array(columns[f.name], f.type) for f in schema}, schema=schema)


def columns(run: Path) -> float:
    started = time.monotonic()
    frame(run)
    return time.monotonic() - started


def frame(run: Path) -> pd.DataFrame:
    names = [f"m.{text.partition(':')[0]}" for text in OBJECTIVES]
    return pd.read_parquet(run / "trials", columns=["number", "status", "purpose", *names])


def front(run: Path) -> float:
    rows = frame(run)
    rows = rows[rows["status"] == "finished"]
    points = rows[["m.accuracy", "m.params", "m.flops"]].to_numpy() * [-1, 1, 1]
    started = time.monotonic()
    pareto_front(points)
    return time.monotonic() - started


def status(run: Path) -> float:
    started = time.monotonic()
    command = [sys.executable, "-c", STATUS, str(run)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def loaded(run: Path) -> float:
    code = (
        "import sys, time, raynas; t = time.monotonic(); r = raynas.load(sys.argv[1]); "
        "len(r.trials); r.front(); print(time.monotonic() - t)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run)], check=True, capture_output=True)
    return float(done.stdout)


def resumed(run: Path, name: str) -> float:
    started = time.monotonic()
    info = RunInfo.read(run)
    strategy = make(name, info.space, info.objectives)
    session = Session(info.space, strategy, info.objectives, _Nowhere(), lambda _: {})
    contents = read(run, info.space)
    session.resume((), tables.trials_from(contents.trials))
    session.ask()
    return time.monotonic() - started


class _Nowhere:
    """An archive that keeps nothing."""

    def propose(self, job) -> None: ...

    def record(self, trial, weights=None) -> None: ...

    def wants_weights(self, _) -> bool:
        return False


MEASURES = {
    "columns into pandas": (columns, "2"),
    "front of three objectives": (front, "2"),
    "raynas status": (status, "3"),
    "raynas.load, trials, front": (loaded, "-"),
}

if __name__ == "__main__":
    main()

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
- `resume`: a run of `--resume` trials of a space that is too large to be gone through (`layered`,
  81 decisions), each with its proposal. Per strategy: until what the run holds is read and
  replayed, and the next design is proposed, in this process. What learns by gradients would take
  too long that way; on a cluster it begins with the state that its controller left in the run every
  50 trials, and so it does here (`from its state`).
- `resume, whole`: `raynas.resume` of that run on Ray, from the call until the first new trial
  begins, the start of Ray included.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from machine import header

import search_spaces
from raynas import tables
from raynas.api import resume, search
from raynas.architecture import Architecture, changes, option_text
from raynas.files import write_table
from raynas.objective import pareto_front
from raynas.problem import Problem
from raynas.run import RunInfo, read
from raynas.session import Session
from raynas.space import Space
from raynas.strategies import ANYWHERE, STRATEGIES, make
from raynas.trial import Job, Proposal, Reason, Trial
from raynas.tune.controller_actor import ControllerActor

PART = 10_000
EPOCHS = 12
OBJECTIVES = ["accuracy:max", "params:min", "flops:min"]
STATUS = "import sys; from raynas.cli import main; sys.exit(main(['status', sys.argv[1]]))"
PROBLEM = {"objectives": OBJECTIVES}
FIRST = 8  # real trials of a run that is resumed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1_000_000)
    parser.add_argument("--resume", type=int, default=100_000)
    parser.add_argument("--strategies", nargs="+", default=ANYWHERE, choices=ANYWHERE)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    header()
    with tempfile.TemporaryDirectory(prefix="raynas-archive-") as folder:
        large, small = Path(folder, "large"), Path(folder, "small")
        seconds = make_up(large, given.trials, given.seed)
        size = sum(f.stat().st_size for f in large.rglob("*.parquet")) / 2**20
        print(f"\n{given.trials:,} trials made up in {seconds:.0f} s, {size:,.0f} MiB on disk\n")
        print(f"{'what':<42}{'seconds':>9}{'goal':>7}")
        for name, (measure, goal) in MEASURES.items():
            print(f"{name:<42}{measure(large):>9.2f}{goal:>7}", flush=True)
        searched(small, given.resume, given.seed + 1)
        for name in given.strategies:
            how = ", from its state" if STRATEGIES[name].controller else ""
            what = f"resume {given.resume:,}, {name}{how}"
            wall, processor = resumed(small, name)
            print(f"{what:<42}{wall:>9.2f}{'60':>7}  ({processor:.1f} of a processor)", flush=True)
        what = f"resume {given.resume:,}, whole"
        print(f"{what:<42}{whole(small):>9.2f}{'60':>7}", flush=True)


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
        "log": pa.nulls(rows, pa.string()),
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


def searched(run: Path, count: int, seed: int) -> None:
    """Makes a run that began with a few real trials and went on with made-up ones."""
    search(PROBLEM, space="layered", evaluator=worth, strategy="evolution", trials=FIRST, run=run,
           driver="local", explanation_level="brief", seed=seed)  # fmt: skip
    info, rng = RunInfo.read(run), np.random.default_rng(seed)
    schema = tables.trial_schema(info.space, ["accuracy", "params", "flops"], ["accuracy"])
    designs = [info.space.sample(rng) for _ in range(100)]
    for i, first in enumerate(range(FIRST, count, PART)):
        jobs = [
            proposed(info.space, designs, n, rng) for n in range(first, min(first + PART, count))
        ]
        trials = [tried(job, rng) for job in jobs]
        write_table(run / f"trials/part-{i + 2:06d}.parquet", tables.trials_table(trials, schema))
        write_table(run / f"proposals/part-{i + 2:06d}.parquet", tables.proposals_table(jobs))


def proposed(
    space: Space, designs: list[Architecture], number: int, rng: np.random.Generator
) -> Job:
    """A mutation of one of the latest designs."""
    parent = int(rng.integers(len(designs)))
    design = space.mutate(designs[parent], rng)
    reason = Reason(
        "mutation",
        f"mutates trial {parent}, the best of 3 drawn from the latest 10 (front 0)",
        (parent,),
        changes(designs[parent], design),
    )
    designs[parent] = design
    return Job(
        number, Proposal(design, reason), int(rng.integers(2**31)), worth(design), 1e9 + number
    )


def tried(job: Job, rng: np.random.Generator) -> Trial:
    """What became of it: three in five are stopped after one epoch or three of nine."""
    epochs = int(rng.choice([1, 3, 9], p=[0.4, 0.2, 0.4]))
    curve = [{"accuracy": float(a)} for a in np.sort(rng.random(epochs))]
    status = "finished" if epochs == 9 else "stopped_early"
    metrics = {**job.costs, **curve[-1]}
    rest = {"fidelity": epochs, "curve": curve, "seed": job.seed, "started_at": job.at}
    return Trial(job.number, job.architecture, status, metrics, **rest)


def worth(architecture: Architecture) -> dict[str, float]:
    """Made-up readings of a design."""
    shares = np.random.default_rng(zlib.crc32(str(architecture).encode())).random(3)
    return dict(zip(("accuracy", "params", "flops"), shares.tolist(), strict=True))


def resumed(run: Path, name: str) -> tuple[float, float]:
    """Seconds until a strategy has been told all and has proposed the next design.

    Those of the processor as well, which other programs do not lengthen by much.
    """
    controls = STRATEGIES[name].controller
    state = controller_state(run, name) if controls else b""
    started, spent = time.monotonic(), time.process_time()
    info = RunInfo.read(run)
    given = partial(make, name, info.space, info.objectives)
    strategy: Any = ControllerActor(given, _Kept(run, state)) if controls else given()
    session = Session(
        info.space,
        make("random", info.space, info.objectives) if controls else strategy,
        info.objectives,
        _Nowhere(),
        worth,
    )
    contents = read(run, info.space)
    session.resume(tables.jobs_from(contents.proposals), tables.trials_from(contents.trials))
    session.ask()
    strategy.ask(np.random.default_rng(0), [])
    return time.monotonic() - started, time.process_time() - spent


def controller_state(run: Path, name: str) -> bytes:
    """What a controller would have left in the run 20 trials ago, but for what it has learned."""
    info = RunInfo.read(run)
    trials = list(tables.trials_from(read(run, info.space).trials))
    strategy: Any = make(name, info.space, info.objectives)
    for trial in trials[:100]:
        strategy.tell(trial.for_strategy())
    strategy.policy.told = [trial.number for trial in trials[:-20]]
    return strategy.policy.dump()


def whole(run: Path) -> float:
    """Seconds from `raynas.resume` to the first new trial, on Ray."""
    known = len(list(numbers_in(run)))
    started = time.time()
    result = resume(run, evaluator=worth, trials=known + 20)
    new = result.trials[result.trials["number"] >= known]
    return float(new["started_at"].min().timestamp() - started)


def numbers_in(run: Path) -> list[int]:
    return pd.read_parquet(run / "trials", columns=["number"])["number"].tolist()


class _Nowhere:
    """An archive that keeps nothing."""

    def propose(self, job) -> None: ...

    def record(self, trial, weights=None) -> None: ...

    def wants_weights(self, _) -> bool:
        return False


@dataclass
class _Kept(_Nowhere):
    """A run that holds a controller's state."""

    run: Path
    state: bytes

    def contents(self):
        return read(self.run, RunInfo.read(self.run).space)

    def cached(self, _name: str) -> bytes:
        return self.state

    def cache(self, _name: str, _data: bytes) -> None: ...


MEASURES = {
    "columns into pandas": (columns, "2"),
    "front of three objectives": (front, "2"),
    "raynas status": (status, "3"),
    "raynas.load, trials, front": (loaded, "-"),
}

if __name__ == "__main__":
    main()

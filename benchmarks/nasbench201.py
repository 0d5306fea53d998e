"""How good are the strategies on NAS-Bench-201, replayed from its table?

    python benchmarks/nasbench201.py --table nasbench201-cifar10.parquet paper --seeds 500
    python benchmarks/nasbench201.py --table nasbench201-cifar10.parquet evaluations --seeds 20

Every design was trained by others (Dong & Yang 2020); a strategy is asked and told through the
same Session as in a search, and a table answers. Questions:

- `paper`: the paper's protocol. The signal is the validation accuracy after 12 epochs; a trial
  costs 12 epochs and one validation pass of simulated time; 20,000 seconds; the answer is the
  design with the best signal. Printed: its accuracies after 200 epochs, mean and deviation.
- `evaluations`: 150 evaluations of the mean validation accuracy after 200 epochs. Printed: best so
  far, regret of the best's test accuracy against the best of all (points), the strategy's seconds.
- `noise`: the same, but every call answers with one of the recorded runs, drawn at random.
- `optimum`: distinct networks until the best of all is found.
- `two`: accuracy up and FLOPs down in 150 evaluations: the share of the box between the worst and
  the best values that the whole table's front dominates and the found front does not.
- `latency`: the same with the measured latency on a Pixel 3 (Li et al. 2021) for FLOPs.
- `three`: the same with accuracy, FLOPs and that latency: a share of a cube.

A strategy is named as on the command line; `NAME@raw` takes each of the 15,625 texts for a network
of its own, as the published runs did. Other tools' searches (peers.py) are named in the same way
and always see the texts; `--peers` adds them all.

`--driver tune` searches with `raynas.search` through Ray Tune, trials in parallel and the archive
on disk; the seconds are then those of the whole search, an evaluation taking 0.15 of them, so that
none is handed out in batches. `local` needs no Ray.

Published rows and those of other tools stand in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import peers
from machine import header

import raynas
from raynas.architecture import Architecture
from raynas.objective import Array, Metrics, Objective, hypervolume, losses
from raynas.session import Context, NoFeasibleDesign, Session, carry_out
from raynas.space import Space
from raynas.strategies import ANYWHERE, SpaceExhausted, Strategy, make
from raynas.trial import Job, Trial
from search_spaces.nasbench201 import SPACE, from_arch_str

BUDGET = 20_000.0  # simulated seconds of the paper's protocol
EVALUATIONS = 150
PAUSE = 0.15  # seconds; Tune is handed shorter evaluations in batches, told of after each
MOST = 2000  # networks after which the search for the best of all is given up
Row = dict[str, Any]


@dataclass
class Memory:
    """An archive that keeps nothing."""

    def propose(self, job: Job) -> None: ...

    def record(self, trial: Trial, weights: bytes | None = None) -> None: ...

    def wants_weights(self, trial: Trial) -> bool:
        del trial
        return False


@dataclass
class Table:
    """The benchmark as an evaluator.

    Attributes:
        signal: what an evaluation answers, from a row and a generator.
        pause: seconds that an evaluation takes.
    """

    rows: dict[str, Row]
    signal: Callable[[Row, np.random.Generator], Metrics]
    metrics: frozenset[str] | None = None
    epochs: int = 1
    split: str = ""
    pause: float = 0.0

    def costs(self, architecture: Architecture) -> Metrics:
        del architecture
        return {}

    def evaluate(
        self, architecture: Architecture, context: Context
    ) -> Generator[Metrics, None, None]:
        time.sleep(self.pause)
        yield self.signal(self.rows[str(architecture)], np.random.default_rng(context.seed))


def read(path: Path) -> dict[str, Row]:
    """Architecture text -> its row of the table."""
    table = pd.read_parquet(path)
    return {str(from_arch_str(row["arch_str"])): row for row in table.to_dict(orient="records")}


def after_12(row: Row, _: np.random.Generator) -> Metrics:
    return {"accuracy": row["cifar10_val_12ep"]}


def after_200(row: Row, _: np.random.Generator) -> Metrics:
    return {
        "accuracy": row["cifar10_val_200ep"],
        "flops": row["flops_cifar10"],
        "latency": row["pixel3_latency_ms"],
    }


def one_run(row: Row, rng: np.random.Generator) -> Metrics:
    return {"accuracy": float(rng.choice(row["cifar10_val_200ep_runs"]))}


def simulated(row: Row) -> float:
    """Seconds of a trial of 12 epochs."""
    return float(12 * row["train_s_per_epoch_cifar10valid_est"] + row["eval_s_per_25k_images_est"])


@dataclass
class Replay:
    """One search, trial after trial.

    Attributes:
        seconds: that the strategy took itself.
    """

    strategy: str
    seed: int
    table: Table
    objectives: tuple[Objective, ...]
    seconds: float = field(default=0.0, init=False)

    @property
    def space(self) -> Space:
        raw = self.strategy.endswith("@raw") or peers.row(self.strategy)
        return replace(SPACE, canonical=None, simplify=None) if raw else SPACE

    @property
    def name(self) -> str:
        return self.strategy.removesuffix("@raw")

    def __iter__(self) -> Iterator[tuple[Row, Metrics]]:
        session = Session(
            self.space, self._made(), self.objectives, Memory(), self.table.costs, seed=self.seed
        )
        while True:
            began = time.perf_counter()
            try:
                job = session.ask()
            except (SpaceExhausted, NoFeasibleDesign):
                return
            self.seconds += time.perf_counter() - began
            *_, (trial, _) = carry_out(job, self.table, self.objectives, Context(job.seed))
            began = time.perf_counter()
            session.tell(trial)
            self.seconds += time.perf_counter() - began
            yield self.table.rows[str(trial.architecture)], trial.metrics

    def _made(self) -> Strategy:
        if peers.row(self.name):
            return peers.make(self.name, self.space, self.objectives, self.seed, EVALUATIONS)
        return make(self.name, self.space, self.objectives, trials=EVALUATIONS)


class TuneReplay(Replay):
    """The same through Ray Tune: `EVALUATIONS` trials in the order in which they were recorded.

    Attributes:
        seconds: of the whole search, Ray's start and the report included.
    """

    def __iter__(self) -> Iterator[tuple[Row, Metrics]]:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            result = raynas.search(
                {"objectives": [str(o) for o in self.objectives]},
                space=self.space,
                strategy=self.name,
                evaluator=replace(self.table, pause=PAUSE),
                explanation_level="brief",  # the search alone is compared
                trials=EVALUATIONS,
                seed=self.seed,
                run=Path(folder, "run"),
            )
            trials = result.trials
        self.seconds = time.perf_counter() - began
        for _, trial in trials.iterrows():
            metrics = {o.name: trial[f"m.{o.name}"] for o in self.objectives}
            yield self.table.rows[trial["architecture"]], metrics


Start = Callable[[Table, tuple[Objective, ...]], Replay]
ACCURACY = Objective("accuracy", "max")
FLOPS = Objective("flops", "min")
LATENCY = Objective("latency", "min", "ms")
ROWS: dict[str, Row] = {}  # of this process


def load(path: Path) -> None:
    """Reads the table once per process."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    ROWS.update(read(path))


def paper(start: Start) -> Row:
    replay = start(Table(ROWS, after_12), (ACCURACY,))
    spent, best, count = 0.0, None, 0
    for row, metrics in replay:
        spent += simulated(row)
        if spent > BUDGET:
            break
        count += 1
        if best is None or metrics["accuracy"] > best[0]:
            best = metrics["accuracy"], row
    assert best is not None
    answer = best[1]
    found = {"validation": answer["cifar10_val_200ep"], "test": answer["cifar10_test_200ep"]}
    return {**found, "designs": count, "seconds": replay.seconds}


def evaluations(start: Start, noisy: bool = False) -> Row:
    replay = start(Table(ROWS, one_run if noisy else after_200), (ACCURACY,))
    top = max(row["cifar10_test_200ep"] for row in ROWS.values())
    best: tuple[float, Row] | None = None
    found: Row = {}
    for count, (row, metrics) in enumerate(replay, start=1):
        if best is None or metrics["accuracy"] > best[0]:
            best = metrics["accuracy"], row
        if count in (25, 50, 100, EVALUATIONS):
            found[f"at {count}"] = best[1]["cifar10_val_200ep"]
        if count == EVALUATIONS:
            break
    assert best is not None
    return {**found, "regret": top - best[1]["cifar10_test_200ep"], "seconds": replay.seconds}


def optimum(start: Start) -> Row:
    replay = start(Table(ROWS, after_200), (ACCURACY,))
    top = max(row["cifar10_val_200ep"] for row in ROWS.values())
    for count, (row, _) in enumerate(replay, start=1):
        if row["cifar10_val_200ep"] == top:
            return {"networks": count, "seconds": replay.seconds}
        if count == MOST:
            break
    return {"networks": np.inf, "seconds": replay.seconds}


def front(start: Start, objectives: tuple[Objective, ...]) -> Row:
    replay = start(Table(ROWS, after_200), objectives)
    low, high, whole = box(objectives)
    points = []
    for count, (_, metrics) in enumerate(replay, start=1):
        points.append(losses(objectives, metrics))
        if count == EVALUATIONS:
            break
    found = hypervolume((np.array(points) - low) / (high - low), np.ones(len(objectives)))
    return {"not covered x1000": 1000 * (whole - found), "seconds": replay.seconds}


@cache
def box(objectives: tuple[Objective, ...]) -> tuple[Array, Array, float]:
    """The best and the worst values of the table, and the share that it dominates itself."""
    unused = np.random.default_rng()
    every = np.array([losses(objectives, after_200(row, unused)) for row in ROWS.values()])
    low, high = every.min(axis=0), every.max(axis=0)
    return low, high, hypervolume((every - low) / (high - low), np.ones(len(objectives)))


QUESTIONS: dict[str, Callable[[Start], Row]] = {
    "paper": paper,
    "evaluations": evaluations,
    "noise": partial(evaluations, noisy=True),
    "optimum": optimum,
    "two": partial(front, objectives=(ACCURACY, FLOPS)),
    "latency": partial(front, objectives=(ACCURACY, LATENCY)),
    "three": partial(front, objectives=(ACCURACY, FLOPS, LATENCY)),
}
SEVERAL = ("two", "latency", "three")
UNBOUNDED = ("paper", "optimum")  # they end by themselves, not after `EVALUATIONS`
DRIVERS = {"local": Replay, "tune": TuneReplay}


def answer(question: str, driver: str, strategy: str, seed: int) -> Row:
    return QUESTIONS[question](partial(DRIVERS[driver], strategy, seed))


def hindrance(strategy: str, question: str, driver: str) -> str:
    """Why a strategy cannot answer; '' if it can."""
    if not (row := peers.row(strategy)):
        return ""
    if not row.installed:
        return "not installed (pip install raynas[bench])"
    if question in SEVERAL and not row.several:
        return "takes one objective"
    return "not a strategy of RayNAS: --driver local only" if driver == "tune" else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("question", choices=QUESTIONS)
    parser.add_argument("--table", type=Path, required=True, help="the benchmark as Parquet")
    parser.add_argument("--strategies", nargs="*", default=ANYWHERE, metavar="NAME")
    parser.add_argument("--peers", action="store_true", help="other tools' searches as well")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--driver", choices=DRIVERS, default="local")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    question, driver = arguments.question, arguments.driver
    if driver == "tune" and question in UNBOUNDED:
        parser.error(f"{question} ends by itself: --driver local only")
    others = (*peers.PEERS, *peers.BETTER) if arguments.peers else ()
    header()
    print(f"{question}, {arguments.seeds} seeds; mean and deviation over seeds")
    columns: list[str] = []
    with ProcessPoolExecutor(
        arguments.processes, initializer=load, initargs=(arguments.table,)
    ) as pool:
        for strategy in [*arguments.strategies, *others]:
            if why := hindrance(strategy, question, driver):
                print(f"{strategy}: {why}")
                continue
            ask = partial(answer, question, driver, strategy)
            found = pd.DataFrame(pool.map(ask, range(arguments.seeds), chunksize=4))
            if not columns:
                columns = list(found)
                print(f"{'':38}", *(f"{name:>18}" for name in columns), sep="")
            if question == "optimum":
                column = found["networks"]
                shares = (
                    f"median {column.median():.0f}, at most 150 in {(column <= 150).mean():.1%}"
                )
                print(f"{'':38}{shares:>36}")
            told = (f"{c.mean():.3f} ± {c.std():.3f}" for _, c in found.items())
            print(f"{strategy:38}", *(f"{text:>18}" for text in told), sep="", flush=True)


if __name__ == "__main__":
    main()

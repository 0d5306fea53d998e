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

A strategy is named as on the command line; `NAME@raw` takes each of the 15,625 texts for a network
of its own, as the published runs did.

Published rows and those of other tools stand in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from machine import header

from raynas.architecture import Architecture
from raynas.objective import Metrics, Objective, pareto_front
from raynas.session import Context, NoFeasibleDesign, Session, carry_out
from raynas.strategies import STRATEGIES, SpaceExhausted, make
from raynas.trial import Job, Trial
from search_spaces.nasbench201 import SPACE, from_arch_str

BUDGET = 20_000.0  # simulated seconds of the paper's protocol
EVALUATIONS = 150
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
    """

    rows: dict[str, Row]
    signal: Callable[[Row, np.random.Generator], Metrics]
    metrics: frozenset[str] | None = None
    epochs: int = 1
    split: str = ""

    def costs(self, architecture: Architecture) -> Metrics:
        del architecture
        return {}

    def evaluate(
        self, architecture: Architecture, context: Context
    ) -> Generator[Metrics, None, None]:
        yield self.signal(self.rows[str(architecture)], np.random.default_rng(context.seed))


def read(path: Path) -> dict[str, Row]:
    """Architecture text -> its row of the table."""
    table = pd.read_parquet(path)
    return {str(from_arch_str(row["arch_str"])): row for row in table.to_dict(orient="records")}


def after_12(row: Row, _: np.random.Generator) -> Metrics:
    return {"accuracy": row["cifar10_val_12ep"]}


def after_200(row: Row, _: np.random.Generator) -> Metrics:
    return {"accuracy": row["cifar10_val_200ep"], "flops": row["flops_cifar10"]}


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
    table: Table
    objectives: tuple[Objective, ...]
    seed: int
    seconds: float = field(default=0.0, init=False)

    def __iter__(self) -> Iterator[tuple[Row, Metrics]]:
        name, raw, _ = self.strategy.partition("@raw")
        space = replace(SPACE, canonical=None, simplify=None) if raw else SPACE
        strategy = make(name, space, self.objectives, trials=EVALUATIONS)
        session = Session(
            space, strategy, self.objectives, Memory(), self.table.costs, seed=self.seed
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


ACCURACY = Objective("accuracy", "max")
FLOPS = Objective("flops", "min")
ROWS: dict[str, Row] = {}  # of this process


def load(path: Path) -> None:
    """Reads the table once per process."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    ROWS.update(read(path))


def paper(strategy: str, seed: int) -> Row:
    replay = Replay(strategy, Table(ROWS, after_12), (ACCURACY,), seed)
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


def evaluations(strategy: str, seed: int, noisy: bool = False) -> Row:
    replay = Replay(strategy, Table(ROWS, one_run if noisy else after_200), (ACCURACY,), seed)
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


def optimum(strategy: str, seed: int) -> Row:
    replay = Replay(strategy, Table(ROWS, after_200), (ACCURACY,), seed)
    top = max(row["cifar10_val_200ep"] for row in ROWS.values())
    for count, (row, _) in enumerate(replay, start=1):
        if row["cifar10_val_200ep"] == top:
            return {"networks": count, "seconds": replay.seconds}
        if count == MOST:
            break
    return {"networks": np.inf, "seconds": replay.seconds}


def two(strategy: str, seed: int) -> Row:
    replay = Replay(strategy, Table(ROWS, after_200), (ACCURACY, FLOPS), seed)
    every = np.array([_losses(row) for row in ROWS.values()])
    low, high = every.min(axis=0), every.max(axis=0)
    points = []
    for count, (row, _) in enumerate(replay, start=1):
        points.append(_losses(row))
        if count == EVALUATIONS:
            break
    missing = covered((every - low) / (high - low)) - covered(
        (np.array(points) - low) / (high - low)
    )
    return {"not covered x1000": 1000 * missing, "seconds": replay.seconds}


def _losses(row: Row) -> tuple[float, float]:
    return -row["cifar10_val_200ep"], row["flops_cifar10"]


def covered(points: np.ndarray[Any, Any]) -> float:
    """The share of the unit square that losses `[N, 2]` in it dominate."""
    front = points[pareto_front(points)]
    front = front[np.argsort(front[:, 0])]
    right = np.append(front[1:, 0], 1.0)
    return float(np.sum((right - front[:, 0]) * (1.0 - front[:, 1])))


QUESTIONS: dict[str, Callable[[str, int], Row]] = {
    "paper": paper,
    "evaluations": evaluations,
    "noise": partial(evaluations, noisy=True),
    "optimum": optimum,
    "two": two,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("question", choices=QUESTIONS)
    parser.add_argument("--table", type=Path, required=True, help="the benchmark as Parquet")
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    header()
    print(f"{arguments.question}, {arguments.seeds} seeds; mean and deviation over seeds")
    with ProcessPoolExecutor(
        arguments.processes, initializer=load, initargs=(arguments.table,)
    ) as pool:
        for i, strategy in enumerate(arguments.strategies):
            question = partial(QUESTIONS[arguments.question], strategy)
            found = pd.DataFrame(pool.map(question, range(arguments.seeds), chunksize=4))
            if not i:
                print(f"{'':38}", *(f"{name:>18}" for name in found), sep="")
            if arguments.question == "optimum":
                column = found["networks"]
                shares = (
                    f"median {column.median():.0f}, at most 150 in {(column <= 150).mean():.1%}"
                )
                print(f"{'':38}{shares:>36}")
            told = (f"{c.mean():.3f} ± {c.std():.3f}" for _, c in found.items())
            print(f"{strategy:38}", *(f"{text:>18}" for text in told), sep="", flush=True)


if __name__ == "__main__":
    main()

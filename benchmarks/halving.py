"""What does early stopping under two objectives gain, for the epochs that are spent?

    python benchmarks/halving.py --table spikenas-curves.parquet
    uv run --no-sync --with syne-tune python benchmarks/halving.py --table ...   # with its MOASHA

Replays 14,935 published learning curves of 100 epochs: random designs, the same for each row of
one seed, are trained by simulated workers, one epoch after another, each design at its own pace.
After each epoch the scheduler is told the accuracy there and the parameters, as Tune would tell
it, and says whether the design goes on. No Ray cluster is started.

Figures are the hypervolume of accuracy and parameters when so many epochs had been spent by all
workers together, up to 80 % accuracy (one design in twenty has less) and the largest design, as
a share of what the front of the whole table has: mean and standard error over seeds. The first
table counts designs that were trained to their end. The second also counts those that were stopped
or still run, at their last reading: an archive keeps them, but nobody trained them to the end.

`raynas` rows are what `--scheduler` offers. The others are what it was chosen from: `crowding` and
`volume` say how designs of a rank are ordered, `front may stop` that one that nothing dominates
can be stopped too. MOASHA (Salinas et al. 2021) of Syne Tune 0.16 takes the order of the designs
for their places in it; `places corrected` repairs that and nothing else.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
import pandas as pd
from machine import header

import raynas.tune  # before ray, which reads its environment when imported  # noqa: F401
from raynas.objective import Array, Objective, contributions, crowding, hypervolume, ranks
from raynas.tune.schedulers import (
    REDUCTION,
    ParetoStopping,
    rungs,
    scheduler,
)

EPOCHS = 100
WORST = 80.0  # percent accuracy, of the reference point
BOTH = (Objective("accuracy", "max"), Objective("params", "min"))
Rule = Callable[[Array], bool]


@dataclass(frozen=True)
class Running:
    """What schedulers look at in a Tune trial."""

    trial_id: str
    config: Any = field(compare=False)

    @classmethod
    def of(cls, seed: int, number: int) -> Running:
        jobs = json.dumps([{"seed": seed * 100_000 + number}])
        return cls(str(number), {"jobs": jobs})


@dataclass(frozen=True)
class Table:
    """Accuracy per epoch `[N, 100]` in percent, parameters `[N]`, seconds per epoch `[N]`."""

    accuracy: Array
    params: Array
    seconds: Array

    @classmethod
    def read(cls, path: str) -> Table:
        rows = pd.read_parquet(path)
        rows = rows[(rows["dataset"] == "cifar10") & (rows["n_epochs"] == EPOCHS)]
        return cls(
            np.stack(rows["val_acc"].to_list()),
            rows["params"].to_numpy(float),
            rows["train_seconds"].to_numpy(float) / EPOCHS,
        )

    def share(self, points: Sequence[tuple[float, float]]) -> float:
        """The hypervolume of losses, as a share of what the whole table has."""
        reference = np.array([-WORST, self.params.max()])
        whole = np.column_stack([-self.accuracy[:, -1], self.params])
        return hypervolume(np.array(points).reshape(-1, 2), reference) / hypervolume(
            whole, reference
        )


def simulate(
    stopping: Any, table: Table, seed: int, workers: int, budgets: Sequence[int]
) -> tuple[list[float], list[float], int, int]:
    """Shares of the finished and of all at each budget; how many were begun and finished."""
    order = iter(np.random.default_rng(seed).permutation(len(table.params)).tolist())
    running: list[tuple[float, int, int, Running]] = []  # when an epoch ends, design, epoch, trial
    numbers = count()

    def begin(now: float) -> None:
        design, trial = next(order), Running.of(seed, next(numbers))
        stopping.on_trial_add(None, trial)
        heapq.heappush(running, (now + table.seconds[design], design, 1, trial))

    for _ in range(workers):
        begin(0.0)
    finished: list[tuple[float, float]] = []
    last: dict[int, tuple[float, float]] = {}
    ended: list[float] = []
    anyhow: list[float] = []
    for spent in range(1, budgets[-1] + 1):
        now, design, epoch, trial = heapq.heappop(running)
        accuracy, params = float(table.accuracy[design, epoch - 1]), float(table.params[design])
        last[design] = (-accuracy, params)
        result = {"accuracy": accuracy, "params": params, "epoch": epoch}
        if epoch == EPOCHS:
            stopping.on_trial_complete(None, trial, result)
            finished.append((-accuracy, params))
            begin(now)
        elif stopping.on_trial_result(None, trial, result) == "CONTINUE":
            heapq.heappush(running, (now + table.seconds[design], design, epoch + 1, trial))
        else:
            stopping.on_trial_complete(None, trial, result)
            begin(now)
        if spent in budgets:
            ended.append(table.share(finished))
            anyhow.append(table.share(list(last.values())))
    return ended, anyhow, len(last), len(finished)


def third(worth: Callable[[Array, Array], Array], spare: bool) -> Rule:
    """Whether the last is in the best third by rank, then worth; always on the front if `spare`."""

    def rule(points: Array) -> bool:
        rank = ranks(points)
        peers = worth(points[rank == rank[-1]], points.max(axis=0))
        before = (rank < rank[-1]).sum() + (peers[:-1] >= peers[-1]).sum()
        return bool(spare and rank[-1] == 0) or bool(before < math.ceil(len(points) / REDUCTION))

    return rule


def by_rule(rule: Rule) -> Callable[[], ParetoStopping]:
    return lambda: ParetoStopping(BOTH, [rungs("asha", EPOCHS)], rule)


def by_crowding(points: Array, _reference: Array) -> Array:
    return crowding(points)


ROWS: dict[str, Callable[[], Any]] = {
    "raynas none": lambda: scheduler("none", BOTH, EPOCHS),
    "raynas asha, accuracy alone": lambda: scheduler("asha", BOTH[:1], EPOCHS),
    "raynas bohb, accuracy alone": lambda: scheduler("bohb", BOTH[:1], EPOCHS),
    "raynas median, accuracy alone": lambda: scheduler("median", BOTH[:1], EPOCHS),
    "raynas asha": lambda: scheduler("asha", BOTH, EPOCHS),
    "raynas bohb": lambda: scheduler("bohb", BOTH, EPOCHS),
    "raynas median": lambda: scheduler("median", BOTH, EPOCHS),
    "volume, front may stop": by_rule(third(contributions, spare=False)),
    "crowding": by_rule(third(by_crowding, spare=True)),
    "crowding, front may stop": by_rule(third(by_crowding, spare=False)),
}


def moasha_rows() -> dict[str, Callable[[], Any]]:
    """Syne Tune's MOASHA as it is and corrected; nothing where it is not installed."""
    try:
        from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA
        from syne_tune.optimizer.schedulers.multiobjective.multiobjective_priority import (
            NonDominatedPriority,
        )
    except ImportError:
        print("Syne Tune is not installed: no rows for its MOASHA (`uv run --with syne-tune`)")
        return {}

    class Corrected(NonDominatedPriority):  # type: ignore[misc]  # no types here
        def priority_unsafe(self, objectives: Array) -> Array:
            return np.argsort(super().priority_unsafe(objectives))  # places, from the order

    class Moasha:
        """Behind the calls of a Tune scheduler."""

        def __init__(self, priority: Any) -> None:
            self._inner = MOASHA(
                {},
                ["loss", "params"],
                time_attr="epoch",
                multiobjective_priority=priority,
                max_t=EPOCHS + 1,
                grace_period=rungs("asha", EPOCHS)[0],
                reduction_factor=REDUCTION,
            )

        def on_trial_add(self, _controller: Any, trial: Any) -> None:
            self._inner.on_trial_add(trial)

        def on_trial_result(self, _controller: Any, trial: Any, result: dict[str, float]) -> str:
            told = {"epoch": result["epoch"], "loss": -result["accuracy"]}
            told["params"] = result["params"] / 1e6  # it compares distances: a like range
            return str(self._inner.on_trial_result(trial, told))

        def on_trial_complete(self, _controller: Any, trial: Any, result: Any) -> None:
            """It learns nothing more from an end."""

    return {
        "MOASHA": lambda: Moasha(NonDominatedPriority()),
        "MOASHA, places corrected": lambda: Moasha(Corrected()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--table", required=True, help="spikenas-curves.parquet")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, nargs="+", default=[4, 16])
    parser.add_argument(
        "--epochs", type=int, nargs="+", default=[1000, 2000, 5000, 10_000], help="spent in all"
    )
    arguments = parser.parse_args()
    budgets = sorted(arguments.epochs)
    header()
    table = Table.read(arguments.table)
    rows = {**ROWS, **moasha_rows()}
    print(f"{len(table.params):,} curves, rungs at epochs {rungs('asha', EPOCHS)}", flush=True)
    for workers in arguments.workers:
        print(f"\n{workers} workers, {arguments.seeds} seeds")
        results = {}
        for name, make in rows.items():
            runs = [simulate(make(), table, s, workers, budgets) for s in range(arguments.seeds)]
            results[name] = runs
        for which, title in enumerate(("trained to the end", "at the last reading")):
            columns = "".join(f"{budget:>16,}" for budget in budgets)
            print(f"\n{title + ', at epochs':32s}{columns}   begun  finished")
            for name, runs in results.items():
                shares = np.array([run[which] for run in runs])
                error = shares.std(axis=0, ddof=1) / math.sqrt(len(runs))
                cells = "".join(
                    f"   {m:.3f} ± {e:.3f}" for m, e in zip(shares.mean(axis=0), error, strict=True)
                )
                begun, ended = (np.mean([run[i] for run in runs]) for i in (2, 3))
                print(f"{name:32s}{cells}{begun:8.0f}{ended:10.0f}", flush=True)


if __name__ == "__main__":
    main()

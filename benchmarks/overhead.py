"""What does RayNAS add to a trial, compared with a bare Ray actor pool?

    python benchmarks/overhead.py --trials 200 --sleep 0.05

The same function, which only sleeps, is called as often through `raynas.search` (proposals, Tune,
archive actor, fsync) and through `ray.util.ActorPool` with an actor per CPU, in one process and
one cluster, in turns. Throughput is taken steady: from the first finished trial to the last, so
that starting the cluster and the first actor is left out. `ms per trial` is that time divided by
the trials after the first, so the ideal is the sleep divided by the CPUs. `ratio` is RayNAS over
the pool of the same repeat; the goal is a median of 1.3 or less. `call` is the whole
`raynas.search` with actor starts, claims and report.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from machine import header

import raynas.tune  # noqa: F401  # sets what ray reads when it is imported

import ray  # isort: skip
from ray.util import ActorPool  # isort: skip

from raynas.api import search
from raynas.architecture import Architecture, Decision
from raynas.space import Space
from raynas.tune.driver import TuneDriver

SPACE = Space(
    "sleepy",
    tuple(Decision(f"d{i}", tuple(range(10)), "changes nothing", ordered=True) for i in range(5)),
)
GOAL = 1.3


class Sleeper:
    """The bare actor: calls the function, says when it had finished."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def evaluate(self, _number: int) -> float:
        time.sleep(self._seconds)
        return time.time()


def pool_ends(trials: int, seconds: float) -> list[float]:
    """When each call on an actor pool ended."""
    workers = int(ray.cluster_resources()["CPU"])
    actors = [ray.remote(num_cpus=1)(Sleeper).remote(seconds) for _ in range(workers)]
    ray.get([actor.evaluate.remote(-1) for actor in actors])  # they run from here on
    pool = ActorPool(actors)
    ends = list(pool.map_unordered(lambda actor, i: actor.evaluate.remote(i), range(trials)))
    for actor in actors:
        ray.kill(actor)
    return ends


def raynas_ends(trials: int, seconds: float, seed: int) -> list[float]:
    """When each trial of a search ended, from its archive."""

    def evaluate(architecture: Architecture) -> dict[str, float]:
        time.sleep(seconds)
        return {"accuracy": sum(map(float, architecture.options.values())) / 45}

    with tempfile.TemporaryDirectory(prefix="raynas-benchmark-") as folder:
        result = search(
            {"objectives": ["accuracy:max"]},
            space=SPACE,
            evaluator=evaluate,
            explanation_level="brief",  # the search alone is compared
            trials=trials,
            gpus_per_trial=0,
            seed=seed,
            run=Path(folder) / "run",
        )
        rows = result.trials
    if list(rows["status"]) != ["finished"] * trials:
        raise SystemExit(f"expected {trials} finished trials; got {list(rows['status'])}")
    started = [stamp.timestamp() for stamp in rows["started_at"]]
    return [start + took for start, took in zip(started, rows["seconds"], strict=True)]


def steady(ends: Sequence[float]) -> float:
    """Milliseconds per trial between the first end and the last."""
    return 1000 * (max(ends) - min(ends)) / (len(ends) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trials", type=int, default=200, help="evaluations per repeat")
    parser.add_argument("--sleep", type=float, default=0.05, help="seconds per evaluation")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    header()
    driver = TuneDriver(None)  # one cluster for all of it
    workers = int(ray.cluster_resources()["CPU"])
    ideal = 1000 * arguments.sleep / workers
    print(f"{arguments.trials} evaluations of {arguments.sleep:g} s on {workers} CPUs")
    print(
        f"\nrepeat   pool ms per trial   raynas ms per trial   ratio   call s   (ideal {ideal:.1f})"
    )
    ratios = []
    for repeat in range(arguments.repeats):
        pool = steady(pool_ends(arguments.trials, arguments.sleep))
        began = time.monotonic()
        ours = steady(raynas_ends(arguments.trials, arguments.sleep, repeat))
        call = time.monotonic() - began
        ratios.append(ours / pool)
        print(
            f"{repeat + 1:6d}   {pool:17.1f}   {ours:19.1f}   {ratios[-1]:5.2f}   {call:6.1f}",
            flush=True,
        )
    driver.disconnect()
    print(f"\nmedian ratio {statistics.median(ratios):.2f}; goal: at most {GOAL}")


if __name__ == "__main__":
    main()

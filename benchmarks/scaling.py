"""How far does one search go: many nodes, many trials?

    python benchmarks/scaling.py nodes --nodes 1 2 4 8 --sleep 2 0.5
    python benchmarks/scaling.py trials --trials 10000
    python benchmarks/scaling.py trials --trials 2000 --trace

`nodes`: trials per second on logical nodes of two CPUs each, all of them on this machine
(`ray.cluster_utils.Cluster`), with trials that sleep and compute nothing, so that no more than the
scheduler's own work is measured. Each trial is a Tune trial of its own. `ideal` is CPUs over sleep;
throughput is taken steady, from the end of the first wave to the last end that was followed by a
full house.

`trials`: a long search with trivial trials, on this machine alone. Milliseconds per trial in the
first and the last tenth (the first hundred trials, in which processes start, left out), and by how
much the driver's memory (RSS) grew per trial between. Each is a Tune trial of its own, which is the
worst case, or (`--batched`) an evaluation without epochs, of which up to 50 share a Tune trial.
With `--trace` the growth of Python's own memory is told by owner (tracemalloc; slower).
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from resource import getpagesize
from typing import Any

from machine import header

import raynas.tune  # noqa: F401  # sets what ray reads when it is imported

import ray  # isort: skip
from ray.cluster_utils import Cluster  # isort: skip

from raynas.api import search
from raynas.architecture import Architecture, Decision
from raynas.session import Context, Session
from raynas.space import Space
from raynas.trial import Trial
from raynas.tune.driver import TuneDriver

SPACE = Space(
    "sleepy",
    tuple(Decision(f"d{i}", tuple(range(10)), "changes nothing", ordered=True) for i in range(8)),
)
CPUS = 2  # of a logical node
WARM = 100  # trials in which processes start


def worth(architecture: Architecture) -> dict[str, float]:
    """A made-up reading."""
    return {"accuracy": sum(map(float, architecture.options.values())) / 72}


@dataclass(frozen=True)
class Sleeper:
    """An evaluator of two epochs that sleeps: a Tune trial each."""

    seconds: float

    @property
    def metrics(self) -> frozenset[str]:
        return frozenset({"accuracy"})

    @property
    def epochs(self) -> int:
        return 2

    @property
    def split(self) -> str:
        return "made up"

    def costs(self, _architecture: Architecture) -> dict[str, float]:
        return {}

    def evaluate(
        self, architecture: Architecture, _context: Context
    ) -> Generator[dict[str, float], None, None]:
        for _ in range(2):
            time.sleep(self.seconds / 2)
            yield worth(architecture)


@dataclass
class Meter:
    """Stands in for a display: notes when the driver learned of each trial, and its memory then.

    Attributes:
        trace: at which trials to look who holds Python's memory.
    """

    trace: tuple[int, ...] = ()
    told: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    snapshots: list[tracemalloc.Snapshot] = field(default_factory=list)

    def begin(self, folder: Path, notes: Any, new: bool) -> None: ...

    def say(self, text: str) -> None: ...

    @contextmanager
    def showing(self, session: Session, *_: Any) -> Iterator[None]:
        session.observe = self._note
        yield

    def _note(self, trial: Trial) -> None:
        self.told.append(time.monotonic())
        self.ends.append(trial.started_at + trial.seconds)
        self.memory.append(resident())
        if len(self.told) in self.trace:
            gc.collect()
            self.snapshots.append(tracemalloc.take_snapshot())


def resident() -> int:
    """Bytes of memory that this process holds (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()


def searched(evaluator: Any, trials: int, meter: Meter, strategy: str = "random") -> None:
    """Runs a search whose trials the meter sees."""
    with tempfile.TemporaryDirectory(prefix="raynas-scaling-") as folder:
        search(
            {"objectives": ["accuracy:max"]},
            space=SPACE,
            strategy=strategy,
            scheduler="none",
            evaluator=evaluator,
            explanation_level="brief",
            trials=trials,
            gpus_per_trial=0,
            run=Path(folder) / "run",
            display=meter,  # type: ignore[arg-type]
        )


def nodes(counts: list[int], sleeps: list[float], waves: int, repeats: int) -> None:
    """Throughput by number of logical nodes."""
    print(
        f"\n{'nodes':>5} {'CPUs':>5} {'sleep s':>8} {'ideal':>7} {'trials/s':>9} {'share':>6} load"
    )
    for count in counts:
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": CPUS})
        for _ in range(count - 1):
            cluster.add_node(num_cpus=CPUS)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
        for seconds in sleeps:
            places, rates = CPUS * count, []
            for _ in range(repeats):
                meter = Meter()
                searched(Sleeper(seconds), waves * places, meter)
                rates.append(steady(meter.ends, places))
            ideal, rate = places / seconds, statistics.median(rates)
            print(
                f"{count:5d} {places:5d} {seconds:8g} {ideal:7.2f} {rate:9.2f} "
                f"{rate / ideal:6.0%} {os.getloadavg()[0]:.1f}",
                flush=True,
            )
        ray.shutdown()
        cluster.shutdown()


def steady(ends: list[float], places: int) -> float:
    """Trials per second while all places are taken: from the second wave on, until the last but
    one."""
    ordered = sorted(ends)[2 * places : -places]
    return (len(ordered) - 1) / (ordered[-1] - ordered[0])


def many(count: int, batched: bool, trace: bool, strategy: str) -> None:
    """Time and memory per trial of a long search."""
    TuneDriver(None)  # before memory is looked at
    meter = Meter((count // 4, count - 1) if trace else ())
    if trace:
        tracemalloc.start(8)
    stop = threading.Event()
    threading.Thread(target=_lines, args=(meter, stop), daemon=True).start()
    searched(worth if batched else Sleeper(0.0), count, meter, strategy)
    stop.set()
    tenth = count // 10
    first, last = (
        1000 * (meter.told[b] - meter.told[a]) / (b - a)
        for a, b in ((WARM, WARM + tenth), (count - 1 - tenth, count - 1))
    )
    print(
        f"\nms per trial: {first:.1f} in the first tenth, {last:.1f} in the last, "
        f"{last / first:.2f} times as much"
    )
    grown = (meter.memory[-1] - meter.memory[WARM + tenth]) / (count - 1 - WARM - tenth)
    print(
        f"the driver grew by {grown / 1024:.1f} KiB per trial, "
        f"to {meter.memory[-1] / 2**20:.0f} MiB"
    )
    if trace:
        _owners(*meter.snapshots, count - 1 - count // 4)
    ray.shutdown()


def _lines(meter: Meter, stop: threading.Event) -> None:
    while not stop.wait(30):
        if meter.memory:
            size = meter.memory[-1] / 2**20
            print(
                f"{len(meter.told):>7,} trials, {size:.0f} MiB, load {os.getloadavg()[0]:.1f}",
                flush=True,
            )


def _owners(before: tracemalloc.Snapshot, after: tracemalloc.Snapshot, trials: int) -> None:
    """Who holds what was taken between two moments, by the innermost frame that says something."""
    print(f"\n{'Python memory by where it was taken':<70} bytes per trial")
    differences = after.compare_to(before, "traceback")
    grown: dict[str, int] = {}
    for difference in differences:
        frames = [
            f"{f.filename.split('site-packages/')[-1]}:{f.lineno}" for f in difference.traceback
        ]
        frames = [f.removeprefix(f"{Path.cwd()}/") for f in frames]
        where = next((f for f in reversed(frames) if "ray" in f), frames[-1])
        grown[where] = grown.get(where, 0) + difference.size_diff
    for where, size in sorted(grown.items(), key=lambda item: -item[1])[:25]:
        print(f"{where:<70} {size / trials:8.0f}")
    print(f"{'all':<70} {sum(grown.values()) / trials:8.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("nodes", "trials"))
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--sleep", type=float, nargs="+", default=[2.0, 0.5])
    parser.add_argument("--waves", type=int, default=12, help="trials per CPU")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--strategy", default="random")
    parser.add_argument("--batched", action="store_true")
    parser.add_argument("--trace", action="store_true")
    given = parser.parse_args()
    header()
    if given.what == "nodes":
        nodes(given.nodes, given.sleep, given.waves, given.repeats)
    else:
        many(given.trials, given.batched, given.trace, given.strategy)


if __name__ == "__main__":
    main()

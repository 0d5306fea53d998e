"""What does asking a strategy cost, and how does it grow with the trials it was told?

    python benchmarks/strategies.py --trials 100 1000 10000

Each row of `STRATEGIES` searches the layered space under two made-up objectives, without any
training. It is told random designs up to a number of trials; then `--window` trials are asked and
told, and `ms per trial` is the median time of one ask and one tell there, with four designs
pending. A trial that trains takes seconds, so milliseconds here are spent well; they must not
grow into seconds.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from machine import header

from raynas.architecture import Architecture
from raynas.objective import Objective
from raynas.strategies import STRATEGIES, Strategy, make
from raynas.trial import Reason, Trial
from search_spaces.layered import SPACE

OBJECTIVES = (Objective("accuracy", "max"), Objective("params", "min"))
WORTH = np.random.default_rng(0).normal(size=len(SPACE.columns)) / len(SPACE.columns)


def trial(number: int, architecture: Architecture, reason: Reason | None = None) -> Trial:
    """A trial whose accuracy is a sum over its options, and its size that of its layers."""
    widths = [int(o) for name, o in architecture.choices if name.endswith("filter_size")]
    accuracy = float(1 / (1 + np.exp(-SPACE.encode(architecture) @ WORTH)))
    metrics = {"accuracy": accuracy, "params": float(sum(widths))}
    return Trial(number, architecture, "finished", metrics, fidelity=1, reason=reason)


def fill(strategy: Strategy, start: int, stop: int) -> None:
    """Tells random designs numbered from `start` up to `stop`."""
    for number in range(start, stop):
        design = SPACE.sample(np.random.default_rng((1, number)))
        strategy.tell(trial(number, design, Reason("random", "drawn at random")))


def milliseconds(strategy: Strategy, start: int, stop: int) -> float:
    """The median time of one ask and one tell."""
    pending = [SPACE.sample(np.random.default_rng((2, i))) for i in range(4)]
    times = []
    for number in range(start, stop):
        rng = np.random.default_rng((0, number))
        began = time.perf_counter()
        proposal = strategy.ask(rng, pending)
        asked = time.perf_counter() - began
        done = trial(number, proposal.architecture, proposal.reason)
        began = time.perf_counter()
        strategy.tell(done)
        times.append(asked + time.perf_counter() - began)
    return 1000 * statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--trials", type=int, nargs="+", default=[100, 1000, 10_000], help="at how many trials"
    )
    parser.add_argument("--window", type=int, default=40, help="trials that are timed there")
    arguments = parser.parse_args()
    counts = sorted(arguments.trials)
    if counts[0] < arguments.window:
        parser.error(f"--trials: expected {arguments.window} (the window) or more")
    header()
    print(f"layered space, {len(SPACE.decisions)} decisions, 2 objectives\n")
    print(f"{'ms per trial at':20s}", *(f"{count:>10,}" for count in counts), " trials")
    for name in STRATEGIES:
        strategy, told = make(name, SPACE, OBJECTIVES), 0
        print(f"{name:20s}", end="", flush=True)
        for count in counts:
            start = max(count - arguments.window, told)
            fill(strategy, told, start)
            print(f" {milliseconds(strategy, start, count):10.2f}", end="", flush=True)
            told = count
        print(flush=True)


if __name__ == "__main__":
    main()

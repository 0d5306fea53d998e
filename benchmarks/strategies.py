"""What does asking a strategy cost, and how does it grow with the trials it was told?

    OMP_NUM_THREADS=1 python benchmarks/strategies.py
    OMP_NUM_THREADS=1 python benchmarks/strategies.py --trials 1000 10000 100000 \\
        --strategies evolution random nsga2 local_search reinforce generator

Each row of `STRATEGIES` searches two spaces for one and for two made-up objectives, without any
training: the layered space, which is too large to be gone through, and NAS-Bench-201 with each of
its 15,625 texts as a network of its own, which is small enough for that. It is told random designs
up to four fifths of a number of trials; the last fifth it proposes itself, with four designs
pending. `ms per trial` is the mean over that fifth of one ask and one tell, in processor time, so
that other programs do not count. A fifth holds every fit of a model at least twice: the rarest,
of weights and noise in `predictor`, comes with each tenth of the trials at the latest.

`KiB` is by how much the process grew per trial told. It includes the trials themselves, which
have one reading and no curve. Every line is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from resource import getpagesize

import numpy as np
from machine import header

from raynas.architecture import Architecture
from raynas.objective import Objective
from raynas.space import Space
from raynas.strategies import ANYWHERE, make
from raynas.trial import Reason, Trial
from search_spaces import layered, nasbench201

SPACES = {
    "layered": layered.SPACE,
    "nasbench201": replace(nasbench201.SPACE, canonical=None, simplify=None),
}
OBJECTIVES = (Objective("accuracy", "max"), Objective("params", "min"))
RANDOM = Reason("random", "drawn at random")
IMAGE, CLASSES = (3, 32, 32), 10


def trial(space: Space, number: int, architecture: Architecture, reason: Reason) -> Trial:
    """A trial whose accuracy is a sum over its options; its size is that of its layers."""
    worth = np.random.default_rng(0).normal(size=len(space.columns)) / len(space.columns) ** 0.5
    accuracy = float(1 / (1 + np.exp(-space.encode(architecture) @ worth)))
    if space.costs:
        params = space.costs(architecture, IMAGE, CLASSES)["params"]
    else:
        params = sum(float(o) for n, o in architecture.choices if n.endswith("filter_size"))
    metrics = {"accuracy": accuracy, "params": params}
    return Trial(number, architecture, "finished", metrics, fidelity=1, reason=reason)


def designs(space: Space) -> Iterator[Architecture]:
    """Random designs; of a small space, each once."""
    rng = np.random.default_rng(1)
    if space.size < 10**6:
        every = list(space.enumerate())
        yield from (every[i] for i in rng.permutation(len(every)))
    while True:
        yield space.sample(rng)


def measure(name: str, title: str, objectives: int, counts: list[int]) -> tuple[list[float], float]:
    """Mean milliseconds per trial at each number of trials, and KiB per trial."""
    space = SPACES[title]
    random, told = designs(space), set[Architecture]()
    strategy = make(name, space, OBJECTIVES[:objectives])
    pending = [space.sample(np.random.default_rng((2, i))) for i in range(4)]
    before, means = resident(), []
    for count in counts:
        while len(told) < count - count // 5:
            if (design := next(random)) not in told:
                strategy.tell(trial(space, len(told), design, RANDOM))
                told.add(design)
        spent, start = 0.0, len(told)
        while len(told) < count:
            rng = np.random.default_rng((0, len(told)))
            began = time.process_time()
            proposal = strategy.ask(rng, pending)
            spent += time.process_time() - began
            done = trial(space, len(told), proposal.architecture, proposal.reason)
            began = time.process_time()
            strategy.tell(done)
            spent += time.process_time() - began
            told.add(proposal.architecture)
        means.append(1000 * spent / (count - start))
    return means, (resident() - before) / 1024 / counts[-1]


def resident() -> int:
    """Bytes of memory that this process holds (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--trials", type=int, nargs="+", default=[100, 1000, 10_000], help="at how many trials"
    )
    parser.add_argument("--strategies", nargs="+", default=ANYWHERE, metavar="NAME")
    parser.add_argument("--spaces", nargs="+", default=list(SPACES), choices=SPACES)
    parser.add_argument("--objectives", type=int, nargs="+", default=[2, 1], choices=(1, 2))
    arguments = parser.parse_args()
    header()
    alone = get_context("spawn")
    for title in arguments.spaces:
        most = 0.9 * SPACES[title].size
        counts = sorted(count for count in arguments.trials if count <= most)
        for objectives in arguments.objectives:
            print(f"\n{title}, {objectives} objective{'s' * (objectives > 1)}; ms per trial at")
            print(f"{'':20s}", *(f"{count:>10,}" for count in counts), f"{'KiB':>8}")
            for name in arguments.strategies:
                with ProcessPoolExecutor(1, mp_context=alone) as process:
                    means, size = process.submit(measure, name, title, objectives, counts).result()
                print(f"{name:20s}", *(f"{m:10.2f}" for m in means), f"{size:8.2f}", flush=True)


if __name__ == "__main__":
    main()

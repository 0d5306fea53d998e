"""What do shared weights cost: a training step, an evaluation in a search, memory?

    python benchmarks/shared_weights.py                              # all three questions
    python benchmarks/shared_weights.py steps --steps 12
    python benchmarks/shared_weights.py throughput --images 32 --trials 200
    python benchmarks/shared_weights.py memory --workers 1 2 4

- `steps`: a step is forward, backward and an AdamW update (fused) on random images: of a path of
  the supernet, and of the same network built by its space, in turns. Every step of the supernet
  takes another path, and its time includes building and filling that path's network. `ratio` is
  the median over the paths of supernet over alone; the goal is at most 1.10.
- `throughput`: `raynas.search` scores random designs by given weights through Ray Tune, from the
  start of its first scoring trial to the end of the last (so with what workers load at their
  beginning, and without Ray's start); then a bare loop in this process, one thread, scores the same
  designs with the same weights on the same images. `ratio` is the search over the loop; the goal
  is at least 0.7 in all. The search has `--workers` workers of one thread, and beside them the
  process that proposes and the one that writes; the loop has one processor. `per worker` is the
  ratio divided by the workers. A design is scored on 200 images, after its batch norms' statistics
  were measured on 600 others.
- `memory` (Linux): how much memory of its own (private pages) a worker process has gained when it
  has scored designs with weights of 100 MB, as a share of them; the goal is below 10 %. Workers
  are Ray actors on one node, all at once, that are given the evaluator of a search as Tune gives
  it: by reference, from Ray's object store. Before, each has scored designs of the same space with
  few channels, so that libraries are loaded; what wide layers leave behind in the allocator still
  counts. It does no longer when the same is done again with other weights of the same shapes: that
  second growth is of the weights alone. `copied` has the weights copied into each worker: what
  sharing saves, and that such a copy would be seen.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import header
from torch.nn import functional as F

import raynas.tune  # before ray, which reads its environment when imported  # noqa: F401

import ray  # isort: skip
import search_spaces
from raynas import search
from raynas.architecture import Architecture
from raynas.data import ImageData, load
from raynas.evaluation import TrainingEvaluator
from raynas.one_shot import SharedEvaluator
from raynas.recipe import Recipe
from raynas.session import Context
from raynas.space import Space
from raynas.supernet import Supernet
from raynas.supernet.training import score
from raynas.training import DeviceData

STEP, RATE, OWN = 1.10, 0.7, 0.1  # the goals
QUIET = {"log_to_driver": False, "logging_level": logging.ERROR}
SPACES = ("nasbench201", "darts", "mobile")
SHAPE, CLASSES = (3, 32, 32), 10
HEAVY = "nasbench201:channels=64,cells=5"  # 108 MB of weights
LIGHT = "nasbench201:channels=8,cells=5"  # the same layers
SCORED = 12  # designs after which the memory of a worker is read


def steps(given: argparse.Namespace) -> None:
    device = torch.device(given.device)
    print(f"\none step on {device}, batch of {given.batch}, {given.steps} paths")
    for name in given.spaces:
        supernet_ms, alone_ms, ratio = compared(name, given.batch, given.steps, device)
        print(f"{name}: supernet {supernet_ms:.1f} ms, alone {alone_ms:.1f} ms, ", end="")
        print(f"ratio {ratio:.3f} ({'met' if ratio <= STEP else 'missed'})", flush=True)


def compared(name: str, batch: int, steps: int, device: torch.device) -> tuple[float, float, float]:
    """Median milliseconds of a step of the supernet and alone, and the median of their ratios."""
    space = search_spaces.find(name)
    supernet = Supernet(space, SHAPE, CLASSES).to(device)
    images = torch.randn(batch, *SHAPE, device=device)
    labels = torch.randint(CLASSES, (batch,), device=device)
    shared = torch.optim.AdamW(supernet.parameters(), fused=True)
    rng = np.random.default_rng(0)

    def step(forward: Callable[[], torch.Tensor], optimizer: torch.optim.Optimizer) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        begun = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(forward(), labels).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - begun) * 1000

    together, apart = [], []
    for _ in range(steps + 2):
        design = space.plainest(space.sample(rng))
        network = supernet.network(design)
        own = torch.optim.AdamW(network.parameters(), fused=True)
        step(lambda network=network: network(images), own)  # the first step makes its state
        together.append(step(lambda design=design: supernet(images, design), shared))
        apart.append(step(lambda network=network: network(images), own))
    pairs = list(zip(together, apart, strict=True))[2:]  # the first ones warm the machine up
    return (
        statistics.median(t for t, _ in pairs),
        statistics.median(a for _, a in pairs),
        statistics.median(t / a for t, a in pairs),
    )


def throughput(given: argparse.Namespace) -> None:
    space, pictures = search_spaces.find(given.space), noise(given.images)
    data = load(pictures)
    weights = Supernet(space, data.input_shape, data.num_classes).dump({}, {})
    what = f"{given.trials} designs of {given.space}, {given.images}x{given.images} pixels"
    print(f"\nevaluations by shared weights: {what}; median of {given.repeats} repeats")
    for workers in given.workers:
        runs = [rates(given, workers, pictures, data, weights) for _ in range(given.repeats)]
        tune, bare, busy = (statistics.median(column) for column in zip(*runs, strict=True))
        ratio = statistics.median(t / b for t, b, _ in runs)
        met = "met" if ratio >= RATE else "missed"
        print(f"{workers} workers: {tune:.1f} per second, bare loop on one processor {bare:.1f}")
        print(f"  ratio {ratio:.2f} ({met}), per worker {ratio / workers:.2f}; ", end="")
        print(f"workers were scoring in {busy:.0%} of the time", flush=True)


def rates(
    given: argparse.Namespace, workers: int, pictures: Any, data: ImageData, weights: bytes
) -> tuple[float, float, float]:
    """Evaluations per second of a search and of a loop; the workers' share of time in scoring."""
    with tempfile.TemporaryDirectory() as folder, cluster(workers):
        file = Path(folder, "weights.safetensors")
        file.write_bytes(weights)
        trials = search(
            {"dataset": pictures, "objectives": ["accuracy:max"]},
            space=given.space,
            strategy="random",
            scheduler="none",
            evaluation=f"shared:weights={file},finalists=1,probes=0",
            trials=given.trials,
            epochs=1,
            run=Path(folder, "run"),
        ).trials
    scored = trials[(trials["purpose"] == "search") & (trials["status"] == "finished")]
    starts = (scored["started_at"] - scored["started_at"].min()).dt.total_seconds()
    wall = (starts + scored["seconds"]).max()
    space = search_spaces.find(given.space)
    supernet = Supernet(space, data.input_shape, data.num_classes)
    supernet.restore(weights)
    torch.set_num_threads(1)
    images = DeviceData.of(data, torch.device("cpu"))
    begun = time.perf_counter()
    for text in scored["architecture"]:
        score(supernet, Architecture.parse(text), images)
    alone = time.perf_counter() - begun
    return len(scored) / wall, len(scored) / alone, scored["seconds"].sum() / (workers * wall)


def memory(given: argparse.Namespace) -> None:
    images = load(noise(8, train=64, others=32))
    heavy, light = (evaluator(search_spaces.find(name), images) for name in (HEAVY, LIGHT))
    size = sum(array.nbytes for array in heavy.weights.values()) / 1e6
    print(f"\nmemory of workers that score by {size:.0f} MB of weights ({HEAVY})")
    for workers in given.workers:
        for copies in (False, True):
            first, second = gained(workers, light, heavy, copies)
            told = (f"{', '.join(f'{mb:.1f}' for mb in part)} MB" for part in (first, second))
            print(f"{workers} workers, {'copied' if copies else 'shared'}: {next(told)}", end="")
            print(f"; for others of like shapes {next(told)} more", end="")
            share = max(first) / size
            verdict = f"; at most {share:.1%} ({'met' if share < OWN else 'missed'})"
            print("" if copies else verdict, flush=True)


def evaluator(space: Space, images: ImageData) -> SharedEvaluator:
    """As a search has it."""
    supernet = Supernet(space, images.input_shape, images.num_classes)
    weights = {key: value.detach().numpy() for key, value in supernet.shared.items()}
    return SharedEvaluator(TrainingEvaluator(space, images, Recipe()), weights)


def gained(
    workers: int, light: SharedEvaluator, heavy: SharedEvaluator, copies: bool
) -> list[list[float]]:
    """The growth of each worker's own memory by heavy weights, and by as many more, in MB."""
    rng, space = np.random.default_rng(0), light.full.space
    designs = [space.plainest(space.sample(rng)) for _ in range(SCORED)]
    read = []
    with cluster(workers):
        actors = [ray.remote(Worker).options(num_cpus=0).remote() for _ in range(workers)]
        for given in (light, heavy, heavy):
            kept = ray.put(given)  # each time anew, at another place of the store
            ray.get([a.score.remote(kept, designs, copies and given is heavy) for a in actors])
            read.append(ray.get([actor.own.remote() for actor in actors]))
    return [((np.array(b) - a) / 1e6).tolist() for a, b in pairwise(read)]


class Worker:
    """A process that scores designs and goes on holding what it was given."""

    def __init__(self) -> None:
        self.held: list[SharedEvaluator] = []

    def score(self, given: SharedEvaluator, designs: Sequence[Architecture], copies: bool) -> None:
        if copies:
            weights: Mapping[str, Any] = {k: array.copy() for k, array in given.weights.items()}
            given = replace(given, weights=weights)
        self.held.append(given)
        for design in designs:
            for _ in given.evaluate(design, Context(0, 1, "cpu")):
                pass

    def own(self) -> int:
        """Bytes of pages that no other process has."""
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def noise(side: int, train: int = 600, others: int = 200) -> dict[str, Any]:
    """Random images and labels, in the splits that a search has."""
    rng = np.random.default_rng(0)
    sizes = {"train": train, "validation": others, "test": others}
    return {
        split: (
            rng.integers(256, size=(number, 3, side, side), dtype=np.uint8),
            np.arange(number) % CLASSES,
        )
        for split, number in sizes.items()
    }


@contextmanager
def cluster(workers: int) -> Iterator[None]:
    """Ray in this machine, with so many processors whatever it has."""
    ray.init(address="local", num_cpus=workers, include_dashboard=False, **QUIET)
    try:
        yield
    finally:
        ray.shutdown()


QUESTIONS = {"steps": steps, "throughput": throughput, "memory": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=", ".join(QUESTIONS))
    parser.add_argument("--spaces", nargs="+", default=SPACES, help="for steps")
    parser.add_argument("--batch", type=int, default=64, help="for steps")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--device", default="cpu", help="for steps")
    parser.add_argument("--space", default="nasbench201:channels=8,cells=1", help="for throughput")
    parser.add_argument("--images", type=int, default=16, help="side in pixels, for throughput")
    parser.add_argument("--trials", type=int, default=100, help="for throughput")
    parser.add_argument("--repeats", type=int, default=3, help="for throughput")
    parser.add_argument("--workers", type=int, nargs="+", help="at once; as many as processors")
    given = parser.parse_args()
    if unknown := [name for name in given.questions if name not in QUESTIONS]:
        parser.error(f"expected some of {', '.join(QUESTIONS)}; got {unknown[0]}")
    header()
    asked = given.questions or list(QUESTIONS)
    cores = len(os.sched_getaffinity(0))
    for name in asked:
        usual = [1, 2, 4] if name == "memory" else [cores]
        QUESTIONS[name](argparse.Namespace(**{**vars(given), "workers": given.workers or usual}))


if __name__ == "__main__":
    main()

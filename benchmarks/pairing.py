"""Does training a design and its edit with the same seed tell their difference better?

    python benchmarks/pairing.py --pairs 30 --seeds 6 --epochs 4

Pairs of designs of `layered` (two or four layers of up to 32 filters) that differ in one decision
are trained on digits, each with the same seeds. If equal seeds made equal luck (the same order of
examples, the same weights where layers agree), the difference of a pair would vary less between
seeds than the readings of both apart: the ratio of the two variances would be below 1. Printed with
its 90 % interval (bootstrap over pairs), for accuracy and loss on the validation split.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np
from machine import header

import raynas.data
from raynas.architecture import Architecture
from raynas.evaluation import TrainingEvaluator
from raynas.objective import Array
from raynas.recipe import Recipe
from raynas.session import Context
from search_spaces.layered import SPACE

WIDE = {f"layer{i}.filter_size": (64, 128) for i in range(4)}
SMALL = SPACE.narrow(forbidden={"num_layers": (8, 16), **WIDE})  # trained in under a second
METRICS = ("accuracy", "loss")


def pairs(evaluator: TrainingEvaluator, count: int) -> Iterator[tuple[Architecture, Architecture]]:
    """Small designs with one of their edits."""
    rng, space = np.random.default_rng(0), evaluator.space
    while count:
        design = space.sample(rng)
        edit = space.mutate(design, rng)
        if space.identity(design) != space.identity(edit):
            count -= 1
            yield design, edit


def reading(evaluator: TrainingEvaluator, design: Architecture, seed: int) -> list[float]:
    """What a training ends with."""
    *_, last = evaluator.evaluate(design, Context(seed))
    return [last[name] for name in METRICS]


def ratio(read: Array) -> float:
    """Variance of paired differences over that of unpaired ones, of readings `[P, 2, S]`."""
    paired = (read[:, 0] - read[:, 1]).var(axis=1, ddof=1)
    return float(paired.mean() / read.var(axis=2, ddof=1).sum(axis=1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=4)
    a = parser.parse_args()
    header()
    data = raynas.data.load("digits")
    evaluator = TrainingEvaluator(SMALL, data, Recipe(epochs=a.epochs))
    began, found = time.perf_counter(), []
    for both in pairs(evaluator, a.pairs):
        found.append([[reading(evaluator, d, s) for s in range(a.seeds)] for d in both])
    read = np.array(found)  # [pairs, 2, seeds, metrics]
    rng = np.random.default_rng(0)
    seconds = time.perf_counter() - began
    print(f"{a.pairs} pairs, {a.seeds} seeds, {a.epochs} epochs: {seconds:.0f} s")
    print("\nmetric     deviation of a reading   paired / unpaired variance   90 % interval")
    for i, name in enumerate(METRICS):
        values = read[..., i]
        again = [ratio(values[rng.integers(a.pairs, size=a.pairs)]) for _ in range(2000)]
        low, high = np.quantile(again, [0.05, 0.95])
        deviation = np.sqrt(values.var(axis=2, ddof=1).mean())
        print(f"{name:9} {deviation:23.4f} {ratio(values):28.2f} {low:12.2f} to {high:.2f}")


if __name__ == "__main__":
    main()

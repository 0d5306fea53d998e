"""What does a step of shared weights cost over the same network alone?

    python benchmarks/shared_weights.py --steps 12

A step is forward, backward and an AdamW update (fused) on random images: of a path of the
supernet, and of the same network built by its space, in turns. Every step of the supernet takes
another path, and its time includes building and filling that path's network. `ratio` is the
median over the paths of supernet over alone; the goal is at most 1.10.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from machine import header
from torch.nn import functional as F

import search_spaces
from raynas.supernet import Supernet

GOAL = 1.10
SPACES = ("nasbench201", "darts", "mobile")
SHAPE, CLASSES = (3, 32, 32), 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--spaces", nargs="+", default=SPACES)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    header()
    device = torch.device(given.device)
    print(f"one step on {device}, batch of {given.batch}, {given.steps} paths")
    for name in given.spaces:
        supernet_ms, alone_ms, ratio = compared(name, given.batch, given.steps, device)
        print(f"{name}: supernet {supernet_ms:.1f} ms, alone {alone_ms:.1f} ms, ", end="")
        print(f"ratio {ratio:.3f} ({'met' if ratio <= GOAL else 'missed'})", flush=True)


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


if __name__ == "__main__":
    main()

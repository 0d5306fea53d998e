"""What does it cost to draw, identify and count a design, in each ready-made space?

    python benchmarks/spaces.py --designs 200

Designs are drawn at random (`Space.sample`); `identity` is the text by which equal networks are
known, `params and FLOPs` what is counted before training (by a formula, or on the meta device),
for images of 3x32x32 and 10 classes. Figures are designs per second in one process.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from machine import header

import search_spaces
from raynas.costs import costs_of
from raynas.report.words import size_text


def rate(function: Callable[[Any], Any], values: Sequence[Any]) -> float:
    """Calls per second."""
    began = time.perf_counter()
    for value in values:
        function(value)
    return len(values) / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--designs", type=int, default=200)
    arguments = parser.parse_args()
    header()
    print(f"{'space':18}{'designs':>14}{'decisions':>11}{'sample':>10}{'identity':>10}{'costs':>8}")
    for name in search_spaces.names():
        space = search_spaces.find(name)
        seeds = [np.random.default_rng(i) for i in range(arguments.designs)]
        sampling = rate(space.sample, seeds)
        designs = [space.sample(np.random.default_rng(i)) for i in range(arguments.designs)]
        identifying = rate(lambda d, s=space: s.identity(s.plainest(d)), designs)
        costs_of(space, designs[0], (3, 32, 32), 10)  # the first call starts torch
        few = designs[: max(arguments.designs // 10, 10)] if space.costs is None else designs
        counting = rate(lambda d, s=space: costs_of(s, d, (3, 32, 32), 10), few)
        print(
            f"{name:18}{size_text(space.size):>14}{len(space.decisions):>11}"
            f"{sampling:>10,.0f}{identifying:>10,.0f}{counting:>8,.0f}"
        )


if __name__ == "__main__":
    main()

"""What are the latencies worth that a table tells: against 50 random designs, measured whole?

    python benchmarks/latency.py --spaces nasbench201 layered mobile darts --out FOLDER

For each space a table is measured (or gone on with) in FOLDER, for one image of 3x32x32 on one
thread; then 50 designs that it was not fitted to are measured. `rank` is Spearman's correlation of
estimate and measurement, `error` the median of |estimate / measurement - 1|, `90 %` the error that
nine in ten keep. `FLOPs` is the rank correlation of FLOPs with the measurement, the baseline, and
`sum` the median error of the plain sum of the operations' times. `wall` is what the clock on the
wall says over what the thread's own says, for single passes during which the core was never taken
away (so many of them); where nobody else uses the machine, they agree. `missing` counts designs,
beside the 50, that need an operation which the table lacks.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from machine import header
from scipy.stats import spearmanr

import search_spaces
from raynas.costs import costs_of
from raynas.latency.measuring import check, measure
from raynas.space import Space

SHAPE, CLASSES = (3, 32, 32), 10


@torch.inference_mode()
def wall_over_thread(space: Space) -> tuple[float, int]:
    """The ratio of the clocks for undisturbed passes, and how many there were."""
    assert space.build is not None
    ratios = []
    torch.set_num_threads(1)
    images = torch.zeros(1, *SHAPE)
    for seed in range(10):
        network = space.build(space.sample(np.random.default_rng(seed)), SHAPE, CLASSES).eval()
        for _ in range(50):
            taken = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
            wall, own = time.perf_counter(), time.thread_time()
            network(images)
            wall, own = time.perf_counter() - wall, time.thread_time() - own
            if resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw == taken:
                ratios.append(wall / own)
    return (float(np.median(ratios)) if ratios else float("nan")), len(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--spaces", nargs="+", default=["nasbench201", "layered", "mobile"])
    parser.add_argument("--out", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--samples", type=int, default=1000)
    arguments = parser.parse_args()
    header()
    print(
        f"{'space':18}{'entries':>8}{'ms':>16}{'rank':>7}{'error':>8}{'90 %':>8}{'FLOPs':>7}"
        f"{'sum':>8}{'wall':>14}{'missing':>9}"
    )
    for name in arguments.spaces:
        space = search_spaces.find(name)
        file = arguments.out / f"{name}.parquet"
        table = measure(space, SHAPE, CLASSES, file, samples=arguments.samples)
        found, missing = check(table, space, SHAPE, CLASSES)
        designs = [space.parse(text) for text in found["architecture"]]
        flops = [costs_of(space, design, SHAPE, CLASSES)["flops"] for design in designs]
        assert space.build is not None
        plain = replace(table, fit=None)
        sums = [
            plain.estimate(partial(space.build, design, SHAPE, CLASSES), SHAPE)
            for design in designs
        ]
        measured = found["measured_ms"]
        error, summed = (found["estimate_ms"] / measured - 1).abs(), abs(sums / measured - 1)
        ratio, passes = wall_over_thread(space)
        print(
            f"{name:18}{len(table.times):8}{measured.min():8.2f}-{measured.max():<7.2f}"
            f"{spearmanr(found['estimate_ms'], measured).statistic:7.3f}"
            f"{100 * error.median():6.1f} %{100 * error.quantile(0.9):6.1f} %"
            f"{spearmanr(flops, measured).statistic:7.3f}{100 * summed.median():6.1f} %"
            f"{ratio:7.3f} ({passes}){missing:9}",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""The table of `raynas benchmark`: every design of a small space, trained on digits, three seeds.

    nice -n 15 python benchmarks/digits_table.py train --parts PARTS --workers 2
    python benchmarks/digits_table.py pack --parts PARTS --out raynas/benchmark/digits.parquet

`train` may be interrupted and repeated: every training is one line of PARTS/trainings.jsonl, and
those that are there are not done again. `pack` writes the table, and prints what it holds.

The space is `layered` (2 or 4 layers; the first two answer type, width, kernel and skip, the last
two their type only), 1,280 designs; the data are scikit-learn's 1,797 images of handwritten
digits as `raynas.data.load("digits")` splits them; the recipe is RayNAS's own, short (three
epochs, no shifted images), so that designs differ by far more than the seeds of one do. A seed
decides the initial weights and the order of the images, never the split. Every design has the
same seeds, so that it can be measured what comparing designs under equal seeds is worth.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from machine import header

from raynas.recipe import Recipe
from raynas.space import Space
from search_spaces.layered import SPACE

SEEDS = 3
RECIPE = Recipe(epochs=3, augment=False)
LOG = "trainings.jsonl"
Row = dict[str, Any]


def narrowed() -> Space:
    """The 1,280 designs: 256 of two layers, 1,024 of four."""
    pins: dict[str, Any] = {}
    forbidden: dict[str, Any] = {"num_layers": (8, 16)}
    for i in range(4):
        pins[f"layer{i}.activation"] = "relu"
        forbidden[f"layer{i}.type"] = ("dilated_conv",)
        if i < 2:
            forbidden[f"layer{i}.filter_size"] = (64, 128)
            forbidden[f"layer{i}.kernel_size"] = (7,)
        else:
            pins |= {f"layer{i}.filter_size": 32, f"layer{i}.kernel_size": 3}
            pins[f"layer{i}.skip_connection"] = i == 3
    return SPACE.narrow(pins, forbidden)


@cache
def evaluator() -> Any:
    """Trains designs of the space; once per process."""
    import torch

    from raynas.data import load
    from raynas.evaluation import TrainingEvaluator

    torch.set_num_threads(1)
    return TrainingEvaluator(narrowed(), load("digits"), RECIPE)


def trained(task: tuple[int, str]) -> Row:
    """One training, as a line of the log."""
    from raynas.session import Context

    seed, text = task
    design = narrowed().parse(text)
    began = time.perf_counter()
    readings = [*evaluator().evaluate(design, Context(seed, device="cpu"))]
    seconds = time.perf_counter() - began
    return {
        "architecture": text,
        "seed": seed,
        "curve": [r["accuracy"] for r in readings],
        "loss_curve": [r["loss"] for r in readings],
        "test_accuracy": readings[-1]["test_accuracy"],
        "test_loss": readings[-1]["test_loss"],
        **evaluator().costs(design),
        "seconds": seconds,
    }


def done(parts: Path) -> Iterator[Row]:
    """The trainings of the log; a line that was torn when a process was killed is left out."""
    log = parts / LOG
    for line in log.read_text().splitlines() if log.exists() else []:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def train(parts: Path, workers: int) -> None:
    """Trains what is not in the log yet: all designs with seed 0, then 1, then 2."""
    parts.mkdir(parents=True, exist_ok=True)
    texts = [str(a) for a in narrowed().enumerate()]
    order = np.random.default_rng(0).permutation(len(texts))  # the pace stays the same throughout
    known = {(row["seed"], row["architecture"]) for row in done(parts)}
    tasks = [(seed, texts[i]) for seed in range(SEEDS) for i in order]
    tasks = [task for task in tasks if task not in known]
    header()
    print(f"{len(texts)} designs, {len(tasks)} of {SEEDS * len(texts)} trainings to do", flush=True)
    began = time.time()
    with (
        ProcessPoolExecutor(workers) as pool,
        (parts / LOG).open("a") as log,
    ):
        log.write("\n" if known else "")  # ends a torn line
        for count, row in enumerate(pool.map(trained, tasks, chunksize=4), start=1):
            print(json.dumps(row), file=log, flush=True)
            if count % 50 == 0 or count == len(tasks):
                left = (time.time() - began) / count * (len(tasks) - count) / 60
                print(f"{count} done, about {left:.0f} minutes to go", flush=True)


def pack(parts: Path, out: Path) -> None:
    """Writes the table: one row per design and seed, the space and the recipe as metadata."""
    space = narrowed()
    rows = pd.DataFrame(done(parts)).drop_duplicates(["architecture", "seed"])
    place = {str(a): i for i, a in enumerate(space.enumerate())}
    rows = rows.assign(place=rows["architecture"].map(place)).sort_values(["place", "seed"])
    if len(rows) != SEEDS * space.size:
        raise SystemExit(f"expected {SEEDS * space.size} trainings; got {len(rows)}: train more.")
    counted = {name: rows[name].to_numpy().astype("int64") for name in ("params", "flops")}
    table = pa.table(
        {
            "architecture": pa.array(rows["architecture"]).dictionary_encode(),
            "seed": pa.array(rows["seed"], pa.int8()),
            "accuracy": pa.array([c[-1] for c in rows["curve"]], pa.float32()),
            "test_accuracy": pa.array(rows["test_accuracy"], pa.float32()),
            "loss": pa.array([c[-1] for c in rows["loss_curve"]], pa.float32()),
            "test_loss": pa.array(rows["test_loss"], pa.float32()),
            "curve": pa.array(rows["curve"].tolist(), pa.list_(pa.float32())),
            "loss_curve": pa.array(rows["loss_curve"].tolist(), pa.list_(pa.float32())),
            **{name: pa.array(values) for name, values in counted.items()},
            "seconds": pa.array(rows["seconds"], pa.float32()),
        }
    )
    about = {
        "space": space.to_dict(),
        "data": "scikit-learn's digits, split by raynas.data.load with seed 0: 1,150 images to "
        "train, 288 to validate, 359 to test",
        "recipe": vars(RECIPE),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    named = table.replace_schema_metadata({"raynas": json.dumps(about)})
    pq.write_table(named, out, compression="zstd", compression_level=19)
    describe(table.to_pandas(), out)


def describe(rows: pd.DataFrame, out: Path) -> None:
    """Prints how far designs differ, and how far the seeds of one do."""
    print(f"{out}: {out.stat().st_size / 1000:.0f} kB, {len(rows)} trainings")
    print(
        f"{rows['seconds'].sum() / 3600:.2f} hours of training, {rows['seconds'].mean():.2f} s each"
    )
    for name in ("accuracy", "test_accuracy"):
        readings = rows.pivot(index="architecture", columns="seed", values=name).astype(float)
        means, noise = readings.mean(axis=1), np.sqrt(readings.var(axis=1).mean())
        spread = np.sqrt(max(means.var() - noise**2 / SEEDS, 0.0))
        levels = ", ".join(f"{100 * q:.1f}" for q in means.quantile([0, 0.1, 0.5, 0.9, 1]))
        print(f"{name}: designs {100 * spread:.2f} pp, seeds {100 * noise:.2f} pp ", end="")
        print(f"(ratio {spread / noise:.1f}); worst, 10 %, median, 90 %, best: {levels}")
        left, right = one_edit_apart(readings)
        apart = left.var(axis=1, ddof=1) + right.var(axis=1, ddof=1)  # under unequal seeds
        paired = (left - right).var(axis=1, ddof=1).mean() / apart.mean()
        print(f"  equal seeds: {paired:.2f} of the variance of a one-edit difference")


def one_edit_apart(readings: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The readings of all pairs of designs that differ in one decision `[pairs, seeds]` each."""
    space, place = narrowed(), {text: i for i, text in enumerate(readings.index)}
    pairs = [
        (place[text], place[str(other)])
        for text in readings.index
        for other in space.neighbours(space.parse(text))
    ]
    values = readings.to_numpy()
    return values[[a for a, _ in pairs]], values[[b for _, b in pairs]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("train", "pack"))
    parser.add_argument("--parts", type=Path, required=True, help="the folder of the log")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path("raynas/benchmark/digits.parquet"))
    arguments = parser.parse_args()
    if arguments.what == "train":
        os.environ["OMP_NUM_THREADS"] = "1"  # of the workers
        train(arguments.parts, arguments.workers)
    else:
        pack(arguments.parts, arguments.out)


if __name__ == "__main__":
    main()

"""Exports of random designs of every space: does each come back the same, and how does it read?

    python benchmarks/export.py [--designs 20] [--spaces vit,darts] [--formats python,onnx] --out F

Each design has random weights and statistics, for 10 classes of images 3x32x32. Per space: how
many of the exports compute what the network does (python: to the bit; torch-export: to 1e-6;
onnx by onnxruntime and torch: to 1e-4), lines of the Python file, and seconds. Designs that cost
more than 1 GFLOPs are drawn again.
"""

import argparse
import csv
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

import search_spaces
from raynas.costs import costs_of
from raynas.errors import UserError
from raynas.export.interchange import onnx, torch_export
from raynas.export.plain import plain
from raynas.export.source import Origin, write

SHAPE = (3, 32, 32)
MOST = 1e9  # FLOPs
FORMATS = ("python", "torch-export", "onnx")


def network(space, seed):
    """A design's network with statistics as after a training."""
    rng = np.random.default_rng(seed)
    while True:
        design = space.sample(rng)
        if costs_of(space, design, SHAPE, 10)["flops"] <= MOST:
            break
    torch.manual_seed(seed)
    model = space.build(design, SHAPE, 10)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    return design, plain(model)


def export(model, design, kind, folder):
    """Writes and compares one design; returns the lines of a Python file, or 0."""
    if kind == "python":
        classes = [str(i) for i in range(10)]
        origin = Origin("A random design.", str(design), SHAPE, classes, [0.0] * 3, [1.0] * 3)
        text, _ = write(model, origin, "design")
        return len(text.splitlines())
    if kind == "onnx":
        onnx(model, SHAPE, {}, Path(folder) / "design.onnx")
    else:
        torch_export(model, SHAPE, {}, Path(folder) / "design.pt2")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--designs", type=int, default=20)
    parser.add_argument("--spaces", default=",".join(search_spaces.names()))
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--out", type=Path, required=True, help="CSV, one row per space and format")
    a = parser.parse_args()
    with a.out.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["space", "format", "designs", "same", "median_lines", "median_seconds"])
        for name in a.spaces.split(","):
            made = [network(search_spaces.find(name), seed) for seed in range(a.designs)]
            for kind in a.formats.split(","):
                same, lines, seconds = 0, [], []
                for design, model in made:
                    start = time.perf_counter()
                    with tempfile.TemporaryDirectory() as folder:
                        try:
                            lines.append(export(model, design, kind, folder))
                            same += 1
                        except UserError as error:
                            print(f"{name} {kind} {design}: {error}", flush=True)
                    seconds.append(time.perf_counter() - start)
                row = [name, kind, len(made), same]
                row += [statistics.median(lines or [0]), f"{statistics.median(seconds):.2f}"]
                rows.writerow(row)
                file.flush()
                print(*row, flush=True)


if __name__ == "__main__":
    main()

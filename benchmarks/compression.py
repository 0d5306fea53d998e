"""What bits and pruning do to accuracy, to the file, and to the time of one image.

    python benchmarks/compression.py --seeds 3 --epochs 18

One network, trained on scikit-learn's digits with all its layers at the same bits and pruning, for
each of several seeds: test accuracy, bytes of the file, and how long the network takes where it is
used (float32 weights, rounded and pruned: `raynas.compression.deployed`).

    python benchmarks/compression.py --kernels layered mobile nasbench201

What kernels for 8-bit numbers would gain instead: onnxruntime with weights and activations in 8
bits, beside the same networks in float32, three random designs of each space, 32x32, one thread.
Needs the extra `export`.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import torch
from machine import header
from torch import nn
from torch.utils.benchmark import Timer

from raynas.compressing import with_compression
from raynas.compression import deployed, stored_bytes
from raynas.data import load
from raynas.evaluation import TrainingEvaluator
from raynas.recipe import USUAL, Recipe
from raynas.session import Context
from search_spaces import find

KEPT = list(itertools.product((32, 8, 4), (0.0, 0.5, 0.75)))
SHAPE = (3, 32, 32)


def compressed(seeds: int, epochs: int) -> None:
    """One row per bits and pruning."""
    data = load("digits")
    space = with_compression(find("layered"))
    layer = "type=conv filter_size=32 kernel_size=3 activation=relu skip_connection=false"
    layers = " ".join(f"layer{i}{{{layer}}}" for i in range(4))
    network = find("layered").parse(f"layered{{num_layers=4}} {layers}")
    plain = {**network.options, **{n: o for n, o in USUAL.items() if n in space.by_name}}
    print(f"# {network}")
    print("bits,pruning,test_accuracy,deviation,seeds,file_kb,latency_ms")
    judge = TrainingEvaluator(space, data, Recipe(epochs=epochs))
    networks: list[nn.Module] = []
    rows = []
    for bits, pruning in KEPT:
        chosen = {n: bits if n.endswith("bits") else pruning for n in plain if "compress." in n}
        design = space.architecture({**plain, **chosen})
        right = []
        for seed in range(seeds):
            *_, last = judge.evaluate(design, Context(seed, 1, "cpu"))
            right.append(last["test_accuracy"])
            print(f"{bits} bits, {pruning} pruned, seed {seed}: {right[-1]:.4f}", file=sys.stderr)
        model = judge.network(design, 0, torch.device("cpu")).eval()
        networks.append(deployed(model))
        spread = stdev(right) if len(right) > 1 else 0.0
        rows.append((bits, pruning, fmean(right), spread, stored_bytes(model) / 1000))
    images = torch.zeros(1, *data.input_shape)
    times = interleaved([lambda n=n: n(images) for n in networks])
    for (bits, pruning, right_, spread, size), took in zip(rows, times, strict=True):
        print(f"{bits},{pruning},{right_:.4f},{spread:.4f},{seeds},{size:.1f},{took:.3f}")


def interleaved(runs: list[Callable[[], object]], rounds: int = 15) -> list[float]:
    """Milliseconds of each: the least of so many medians, taken in turns."""
    took: list[list[float]] = [[] for _ in runs]
    with torch.inference_mode():
        for _ in range(rounds):
            for each, run in zip(took, runs, strict=True):
                timer = Timer("run()", globals={"run": run}, num_threads=1)
                each.append(timer.blocked_autorange(min_run_time=0.02).median * 1000)
    return [min(each) for each in took]


def kernels(space_names: list[str]) -> None:
    """One row per design: torch, onnxruntime in float32, in 8 bits; milliseconds."""
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            generator = torch.Generator().manual_seed(0)
            self.left = [torch.randn(1, *SHAPE, generator=generator).numpy() for _ in range(16)]

        def get_next(self) -> dict[str, object] | None:
            return {"images": self.left.pop()} if self.left else None

    def session(file: Path) -> Callable[[], object]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        found = onnxruntime.InferenceSession(str(file), options)
        images = {"images": np.zeros((1, *SHAPE), np.float32)}
        return lambda: found.run(None, images)

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print("space,design,torch_ms,onnx_float_ms,onnx_int8_ms")
    for name in space_names:
        space = find(name)
        assert space.build is not None
        for seed in range(3):
            torch.manual_seed(seed)
            model = space.build(space.sample(np.random.default_rng(seed)), SHAPE, 10).eval()
            with tempfile.TemporaryDirectory() as folder:
                plain, ready, coarse = (Path(folder) / f"{n}.onnx" for n in ("a", "b", "c"))
                images = torch.zeros(1, *SHAPE)
                torch.onnx.export(model, (images,), plain, dynamo=False, input_names=["images"])
                quant_pre_process(plain, ready, skip_symbolic_shape=True)
                quantize_static(
                    ready, coarse, Reader(), per_channel=True, weight_type=QuantType.QInt8
                )
                runs = [lambda m=model, i=images: m(i), session(plain), session(coarse)]
                print(name, seed, *(f"{t:.3f}" for t in interleaved(runs)), sep=",", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=18)
    parser.add_argument("--kernels", nargs="+", metavar="SPACE", help="instead")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    header()
    if asked.kernels:
        kernels(asked.kernels)
    else:
        compressed(asked.seeds, asked.epochs)

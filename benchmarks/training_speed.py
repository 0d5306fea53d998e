"""Is a candidate trained inside a trial as fast as by the plainest PyTorch loop?

    python benchmarks/training_speed.py --epochs 3
    python benchmarks/training_speed.py --dataset cifar10 --subset 5000 --device cuda

Both train the same networks of the layered space at the same batch size on the same images in
memory and measure the validation split after each epoch. RayNAS is the code inside a trial
(`carry_out` with a `TrainingEvaluator`: schedule, clipping, weights to keep, and the test split at
the end), here without augmentation; plain is AdamW as torch ships it on float32 images that were
normalized beforehand. On CUDA, where RayNAS computes in bf16 and channels_last, the plain loop is
also run that way. `images per s` counts trained images over the whole call, building the network
included; the median of the repeats, taken in turns. `ratio` is RayNAS over plain; the goal is at
least 0.95 for every design.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from machine import header
from torch.nn import functional as F

from raynas.architecture import Architecture
from raynas.data import load
from raynas.evaluation import TrainingEvaluator, resolve_device
from raynas.objective import Objective
from raynas.recipe import Recipe
from raynas.session import Context, carry_out
from raynas.training import DeviceData, DeviceSplit
from raynas.trial import Job, Proposal, Reason
from search_spaces.layered import SPACE, build

GOAL = 0.95
Make = Callable[[], torch.nn.Module]
Splits = tuple[DeviceSplit, DeviceSplit]  # training and validation, normalized


def design(depth: int, kind: str, width: int, skip: bool) -> Architecture:
    """A network of equal layers."""
    options: dict[str, bool | int | str] = {"num_layers": depth}
    for i in range(depth):
        layer = {"type": kind, "filter_size": width, "kernel_size": 3, "activation": "relu"}
        options |= {f"layer{i}.{name}": option for name, option in layer.items()}
        options[f"layer{i}.skip_connection"] = skip
    return SPACE.architecture(options)


DESIGNS = {
    "2 conv 16": design(2, "conv", 16, skip=False),
    "4 conv 32, skip": design(4, "conv", 32, skip=True),
    "4 conv 64": design(4, "conv", 64, skip=False),
    "8 separable 32, skip": design(8, "separable_conv", 32, skip=True),
}


def plain(make: Make, splits: Splits, recipe: Recipe, fast: bool) -> None:
    """The plainest loop over normalized images. Fast: bf16 and channels_last."""
    (train, validation), size = splits, recipe.batch_size or 0
    device = train.labels.device
    model = make().to(device)
    if fast:
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate or 0.0)
    for _ in range(recipe.epochs):
        model.train()
        order = torch.randperm(len(train.labels), device=device)
        for start in range(0, len(order) - size + 1, size):
            rows = order[start : start + size]
            with torch.autocast(device.type, torch.bfloat16, enabled=fast):
                loss = F.cross_entropy(model(train.images[rows]), train.labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=fast):
            parts = validation.images.split(500), validation.labels.split(500)
            for images, labels in zip(*parts, strict=True):
                float((model(images).argmax(1) == labels).sum())


def in_trial(architecture: Architecture, evaluator: TrainingEvaluator, context: Context) -> None:
    """What a trial does."""
    job = Job(0, Proposal(architecture, Reason("engineer", "a benchmark")), 0, {}, 0.0)
    objectives = (Objective("accuracy", "max"),)
    *_, (trial, _) = carry_out(job, evaluator, objectives, context)
    if trial.status != "finished":
        raise SystemExit(trial.error)


def seconds(run: Callable[[], None], device: torch.device) -> float:
    wait = partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto (default)")
    parser.add_argument("--epochs", type=int, default=18)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cpus", type=int, default=1, help="threads, as a trial's CPUs")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--dataset", default="digits", help="a name or path for raynas.data.load")
    parser.add_argument("--subset", type=int, help="at most so many training images")
    a = parser.parse_args()
    header()
    device = resolve_device(a.device)
    images = load(a.dataset, subset=a.subset)
    stored = DeviceData.of(images, device)
    size = min(a.batch_size, len(stored.train.labels))
    train, validation = (
        DeviceSplit(stored.normalized(split.images), split.labels)
        for split in (stored.train, stored.validation)
    )
    recipe = Recipe(a.epochs, size, learning_rate=0.003, augment=False, label_smoothing=0.0)
    evaluator = TrainingEvaluator(SPACE, images, recipe)
    context = Context(0, a.cpus, device.type)
    torch.set_num_threads(a.cpus)  # as the evaluator does
    loops = {"plain": False, "plain bf16": True} if device.type == "cuda" else {"plain": False}
    trained = a.epochs * (len(train.labels) // size) * size
    print(f"{images.name}: {len(train.labels)} images {images.input_shape}, batches of {size}")
    print(f"{a.epochs} epochs, {device}, {a.cpus} threads\n")
    print(f"{'images per s':24s}{'raynas':>10s}", *(f"{n:>12s}   ratio" for n in loops))
    worst = {name: float("inf") for name in loops}
    for label, architecture in DESIGNS.items():
        runs = {"raynas": partial(in_trial, architecture, evaluator, context)}
        for name, fast in loops.items():
            make = partial(build, architecture, images.input_shape, images.num_classes)
            runs[name] = partial(plain, make, (train, validation), recipe, fast)
        times: dict[str, list[float]] = {name: [] for name in runs}
        for repeat in range(a.repeats + 1):
            for name, run in runs.items():
                took = seconds(run, device)
                if repeat:  # the first is a warm-up
                    times[name].append(took)
        rates = {name: trained / statistics.median(t) for name, t in times.items()}
        ratios = {name: rates["raynas"] / rates[name] for name in loops}
        worst = {name: min(worst[name], ratios[name]) for name in loops}
        told = (f"{rates[n]:12,.0f}   {ratios[n]:5.2f}" for n in loops)
        print(f"{label:24s}{rates['raynas']:10,.0f}", *told, flush=True)
    told = ", ".join(f"{ratio:.2f} of {name}" for name, ratio in worst.items())
    print(f"\nlowest ratio: {told}; goal: at least {GOAL}")


if __name__ == "__main__":
    main()

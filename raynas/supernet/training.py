"""Training shared weights: which paths a step trains, and how a path is scored afterwards."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raynas.architecture import Architecture, Decision, Option
from raynas.errors import UserError, unknown
from raynas.recipe import Recipe
from raynas.supernet import Supernet
from raynas.supernet.cover import parents
from raynas.training import DeviceData, Diverged, _optimizer, _schedule, augmented, measure

Rule = Callable[[Supernet, np.random.Generator, float], list[Architecture]]


def uniform(supernet: Supernet, rng: np.random.Generator, done: float) -> list[Architecture]:
    """One path, each decision drawn uniformly. Guo et al. 2020, arXiv:1904.00420."""
    del done
    return [supernet.space.sample(rng)]


def fair(supernet: Supernet, rng: np.random.Generator, done: float) -> list[Architecture]:
    """As many paths as the most options, with every option of a decision in turn.

    Once each where a decision has the most options; otherwise as equally often as it can be; less
    often where a decision is not always active. Chu et al. 2021, arXiv:1907.01845.
    """
    del done
    decisions = supernet.space.decisions
    most = max(len(d.options) for d in decisions)
    turns: dict[str, list[Option]] = {}
    for d in decisions:
        rounds = [rng.permutation(len(d.options)) for _ in range(-(-most // len(d.options)))]
        turns[d.name] = [d.options[i] for i in np.concatenate(rounds)]
    return [supernet.space.answer(lambda d, k=k: turns[d.name][k]) for k in range(most)]  # type: ignore[misc]


def sandwich(supernet: Supernet, rng: np.random.Generator, done: float) -> list[Architecture]:
    """The largest, which teaches the others; the smallest; two at random.

    Yu et al. 2020 (BigNAS), arXiv:2003.11142.
    """
    del done
    space = supernet.space
    if not any(d.ordered for d in space.decisions):
        raise UserError(
            f"sandwich: expected a space with ordered decisions; {space.name} has none, so that no "
            "design of it contains another. Use uniform or fair."
        )
    return [supernet.largest, supernet.smallest, space.sample(rng), space.sample(rng)]


def progressive(supernet: Supernet, rng: np.random.Generator, done: float) -> list[Architecture]:
    """One path; ordered decisions begin at their largest and open up one kind after the other.

    In the first quarter of the training none is open, then kernels, then those on which others
    depend (depths), at last all (widths, expansions). Decisions without an order are open from the
    start. Cai et al. 2020, arXiv:1908.09791, without its distillation.
    """
    space, largest = supernet.space, supernet.largest
    structural, opened = parents(space), int(4 * done)

    def pick(d: Decision) -> Option:
        turn = 1 if d.leaf.startswith("kernel") else 2 if d.name in structural else 3
        if d.ordered and turn > opened and d.name in largest:
            return largest[d.name]
        return d.options[rng.integers(len(d.options))]

    return [space.answer(pick)]


RULES: dict[str, Rule] = {
    "uniform": uniform,
    "fair": fair,
    "sandwich": sandwich,
    "progressive": progressive,
}


def train_supernet(
    supernet: Supernet, data: DeviceData, recipe: Recipe, seed: int, rule: str, first: int = 0
) -> Iterator[dict[str, float]]:
    """Trains the shared weights in place, a few paths per step.

    The gradients of a step's paths are added up. Under `sandwich` the first path learns from the
    labels, and the others from what it says of the same images.

    Args:
        rule: of RULES, which paths a step trains.
        first: the epoch to begin with; what is drawn in an epoch depends on it and `seed` alone.

    Yields:
        `train_loss` after each epoch: the mean over its paths.

    Raises:
        Diverged: the training loss is not finite.
    """
    if rule not in RULES:
        raise unknown("rule", rule, list(RULES))
    device, total = data.train.labels.device, len(data.train.labels)
    supernet.to(device).train()
    cuda = device.type == "cuda"
    size = min(recipe.batch_size or min(max(total // 100, 32), 128), total)
    steps = max(total // size, 1)
    optimizer = _optimizer(supernet, recipe)
    peak, factor = optimizer.param_groups[0]["lr"], _schedule(recipe.epochs * steps)
    for epoch in range(first, recipe.epochs):
        rng = np.random.default_rng((seed, epoch))
        generator = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
        order = torch.randperm(total, generator=generator, device=device)
        losses, trained = torch.zeros((), device=device), 0
        for step in range(steps):
            rows = order[step * size : (step + 1) * size]
            images, labels = data.normalized(data.train.images[rows]), data.train.labels[rows]
            if recipe.augment:
                images = augmented(images, data.flips, generator)
            images = images.contiguous(memory_format=torch.channels_last)
            for group in optimizer.param_groups:
                group["lr"] = peak * factor(epoch * steps + step)
            optimizer.zero_grad(set_to_none=True)
            taught: Tensor | None = None
            for path in RULES[rule](supernet, rng, epoch / recipe.epochs):
                with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
                    logits = supernet(images, path).float()
                smoothing = recipe.label_smoothing if taught is None else 0.0
                loss = F.cross_entropy(
                    logits, labels if taught is None else taught, label_smoothing=smoothing
                )
                loss.backward()  # type: ignore[no-untyped-call]
                if rule == "sandwich" and taught is None:
                    taught = logits.detach().softmax(1)
                losses, trained = losses + loss.detach(), trained + 1
            nn.utils.clip_grad_norm_(supernet.parameters(), recipe.clip, foreach=True)
            optimizer.step()
        train_loss = float(losses) / trained
        if not math.isfinite(train_loss):
            raise Diverged(f"the training loss is {train_loss} after epoch {epoch + 1}")
        yield {"train_loss": train_loss}


def score(
    supernet: Supernet, architecture: Architecture, data: DeviceData, batches: int = 4
) -> dict[str, float]:
    """`loss` and `accuracy` of a design on the validation split, with the shared weights.

    Its batch norms' statistics are first measured on so many batches of 250 training images.
    """
    some = data.train.images[: 250 * batches].split(250)  # type: ignore[no-untyped-call]
    network = supernet.network(architecture, (data.normalized(images) for images in some))
    return measure(network, data, data.validation)

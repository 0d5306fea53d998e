"""What AZ-NAS looks at: the features between a network's blocks (Lee & Ham 2024).

As in the paper, weights are drawn anew (normal, by the fan-in, for ReLU) and the images are normal
noise; both are the same for every network. A block is a part of the network that gives a map or
tokens: a direct child, or one of a plain container of blocks; normalizations and what pools and
classifies at the end are none. Networks without maps are taken by all their parts but the last.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from raynas.proxies.copies import SEED, alike, copied, finite, noise_like, redraw

CONTAINERS = (nn.ModuleList, nn.ModuleDict)


def expressivity(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """How many directions a network's features fill.

    The entropy of the eigenvalues (which sum to one) of the channels' covariance over images and
    places, summed over the blocks; `-inf` where all images are answered alike or a feature is
    constant. Lee & Ham 2024, arXiv:2403.19232.

    Args:
        images: only their shape is read.
    """
    del labels
    with torch.no_grad():
        return finite(sum(_entropies(features(model, images))))


def progressivity(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Whether features fill more directions from block to block: the least gain of entropy.

    Entropies as for `expressivity`; `-inf` in the same cases, and of a single block. Lee & Ham
    2024, arXiv:2403.19232.

    Args:
        images: only their shape is read.
    """
    del labels
    with torch.no_grad():
        return _least_gain(_entropies(features(model, images)))


def trainability(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Whether gradients neither vanish nor explode from block to block.

    Random signs are sent back through each block; with s the largest singular value of the
    channels' covariance of what entered and what came out, the score is the mean of
    2 - s - 1 / s: 0 where all blocks keep the size. `-inf` where all images are answered alike or
    a block does nothing. Lee & Ham 2024, arXiv:2403.19232.

    Args:
        images: only their shape is read.
    """
    del labels
    with torch.enable_grad():
        return _sizes_kept(features(model, images))


def all_three(model: nn.Module, images: Tensor) -> dict[str, float]:
    """`expressivity`, `progressivity` and `trainability` by one pass."""
    with torch.enable_grad():
        found = features(model, images)
    entropies = _entropies(found)
    return {
        "expressivity": finite(sum(entropies)),
        "progressivity": _least_gain(entropies),
        "trainability": _sizes_kept(found),
    }


def _least_gain(entropies: list[float]) -> float:
    gains = [after - before for before, after in pairwise(entropies)]
    return finite(min(gains)) if gains and all(map(math.isfinite, entropies)) else -math.inf


def _sizes_kept(found: list[Tensor]) -> float:
    generator = torch.Generator().manual_seed(SEED)
    scores = []
    for before, after in zip(found[-2::-1], found[:0:-1], strict=True):
        signs = torch.empty(after.shape).bernoulli_(0.5, generator=generator) * 2 - 1
        signs = signs.to(after.device)
        if before.requires_grad and before.dim() == after.dim():
            (back,) = torch.autograd.grad(
                after, before, signs, retain_graph=True, allow_unused=True
            )
            if back is not None:
                scores.append(_kept(signs, back))
    return finite(sum(scores) / len(scores)) if scores else -math.inf


def _kept(signs: Tensor, back: Tensor) -> float:
    """How close to one a block keeps the size of gradients, 0 at best."""
    if signs.shape == back.shape and torch.equal(signs, back):
        return -math.inf  # the block passes all on as it is
    one, other = _rows(*_same_places(signs, back))
    together = one.T @ other / len(one)
    if not bool(together.isfinite().all()):
        return -math.inf
    largest = float(torch.linalg.svdvals(together).max())
    return 2 - largest - 1 / (largest + 1e-6)


def _same_places(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """The places of the larger map that fall on one of the smaller become its channels."""
    if one.dim() != 4:
        places = min(one.shape[1], other.shape[1]) if one.dim() == 3 else None
        return one[:, :places], other[:, :places]
    if one.shape[2] < other.shape[2]:
        return _same_places(other, one)[::-1]
    ratio = -(-one.shape[2] // other.shape[2])
    height, width = (ratio * side for side in other.shape[2:])
    filled = functional.pad(one, (0, width - one.shape[3], 0, height - one.shape[2]))
    return functional.pixel_unshuffle(filled, ratio), other


def _rows(*maps: Tensor) -> tuple[Tensor, ...]:
    """One row for each image and place, one column per channel."""
    return tuple(
        (m.movedim(1, -1) if m.dim() == 4 else m).reshape(-1, m.shape[1 if m.dim() == 4 else -1])
        for m in maps
    )


def _entropies(found: list[Tensor]) -> list[float]:
    """Of each block's features; `-inf` for what is constant."""
    entropies = []
    for feature in found:
        (rows,) = _rows(feature.detach())
        centred = rows - rows.mean(0)
        covariance = (centred.T @ centred / len(rows)).cpu()
        if not bool(covariance.isfinite().all()):
            return [-math.inf]
        values = torch.linalg.eigvalsh(covariance).clamp(min=0)
        shares = values / values.sum()
        entropies.append(finite(-(shares * (shares + 1e-8).log()).sum()))
    return entropies or [-math.inf]


def features(model: nn.Module, images: Tensor) -> list[Tensor]:
    """What each block gives, in order; nothing where all images are answered alike."""
    scored = copied(model)
    redraw(scored, _by_fan_in)
    given: list[Tensor] = []

    def keep(module: Any, inputs: Any, output: Any) -> None:
        del module, inputs
        while isinstance(output, tuple | list):  # cells may pass on two
            output = output[-1]
        given.append(output)

    for block in _blocks(scored):
        block.register_forward_hook(keep)
    if alike(scored(noise_like(images)).detach()):
        return []
    maps = [g for g in given if g.dim() == 3 or (g.dim() == 4 and g.shape[2] * g.shape[3] > 1)]
    return maps or given[:-1]


def _blocks(model: nn.Module) -> Iterator[nn.Module]:
    for part in model.children():
        of_blocks = [any(p.children()) for p in part.children()]
        plain = isinstance(part, nn.Sequential) and of_blocks and all(of_blocks)
        if isinstance(part, CONTAINERS) or plain:
            yield from _blocks(part)
            continue
        sizes = [p.dim() for p in part.parameters()]
        if max(sizes) > 1 if sizes else any(True for _ in part.children()):
            yield part


def _by_fan_in(weight: Tensor, generator: torch.Generator) -> Tensor:
    return nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)

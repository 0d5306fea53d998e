"""What is scored: a copy of the network, in the state that a proxy is defined for."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

BY_CHANNEL = (_BatchNorm, _InstanceNorm, nn.GroupNorm)  # normalizations with a weight per channel
NORMS = (*BY_CHANNEL, nn.LayerNorm, nn.RMSNorm)
SEED = 0  # of what a proxy draws itself: the same for every network


def copied(model: nn.Module) -> nn.Module:
    """A copy whose batch norms use the batch's statistics while all else is in eval mode.

    Nothing happens in place, so that what a layer gave can still be looked at afterwards.
    """
    scored = copy.deepcopy(model).eval().requires_grad_()
    for module in scored.modules():
        if isinstance(module, _BatchNorm):
            module.train()
        if hasattr(module, "inplace"):
            module.inplace = False  # type: ignore[assignment]
    return scored


def weights_of(model: nn.Module) -> list[nn.Parameter]:
    """The kernels and matrices, without biases and what normalizations multiply by."""
    return [p for p in model.parameters() if p.dim() > 1]


def redraw(model: nn.Module, draw: Callable[[Tensor, torch.Generator], Tensor]) -> None:
    """Draws the weights anew, by a generator of its own; biases are 0, normalizations neutral."""
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for parameter in weights_of(model):
            parameter.copy_(draw(torch.empty(parameter.shape), generator))
        for module in model.modules():
            if isinstance(bias := getattr(module, "bias", None), Tensor):
                bias.zero_()
            if isinstance(module, NORMS) and module.weight is not None:
                module.weight.fill_(1)


def noise_like(images: Tensor, index: int = 0) -> Tensor:
    """Normal noise of the images' shape, the same for every network; another for each index."""
    generator = torch.Generator().manual_seed(SEED + 1 + index)
    noise = torch.randn(images.shape, generator=generator)
    if noise.dim() == 4:
        noise = noise.contiguous(memory_format=torch.channels_last)  # several times faster
    return noise.to(images.device)


def loss_of(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(model(images), labels)


def alike(logits: Tensor) -> bool:
    """Whether all images get the same answer, or one that is not a number."""
    return not bool((logits - logits[:1]).abs().sum() > 0) or not bool(logits.isfinite().all())


def log(value: Any) -> float:
    """`-inf` for what is not a positive number."""
    number = float(value)
    return math.log(number) if 0 < number < math.inf else -math.inf


def finite(value: Any) -> float:
    """`-inf` for what is no number."""
    number = float(value)
    return number if math.isfinite(number) else -math.inf

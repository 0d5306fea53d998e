"""A trained network with the weights that act: nothing left that was there for the search."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils import parametrize, prune

from raynas.blocks import Convolution
from raynas.compression import deployed, settle


def plain(model: nn.Module) -> nn.Module:
    """A copy on the CPU, in eval mode, that computes the same with ordinary layers.

    Weights that act rounded or pruned are kept as they act.
    """
    settled = deployed(model)
    found = (copy.deepcopy(model) if settled is model else settled).cpu().eval()
    for module in [*found.modules()]:
        if parametrize.is_parametrized(module):
            settle(module)
        elif prune.is_pruned(module) and hasattr(module, "weight_mask"):
            prune.remove(module, "weight")  # type: ignore[no-untyped-call]
    return _ordinary(found)


def _ordinary(module: nn.Module) -> nn.Module:
    """Replaces convolutions that could round as they act by torch's own."""
    if isinstance(module, Convolution):
        return _convolution(module)
    for name, child in module._modules.items():
        if child is not None:
            module._modules[name] = _ordinary(child)
    return module


def _convolution(module: Convolution) -> nn.Conv2d:
    made = nn.Conv2d(
        module.in_channels,
        module.out_channels,
        module.kernel_size,  # type: ignore[arg-type]
        module.stride,  # type: ignore[arg-type]
        module.padding,  # type: ignore[arg-type]
        groups=module.groups,
        bias=module.bias is not None,
        device="meta",
    )
    made.weight = nn.Parameter(module.weight.detach().clone())
    if module.bias is not None:
        made.bias = nn.Parameter(module.bias.detach().clone())
    return made.to(memory_format=torch.contiguous_format).eval()

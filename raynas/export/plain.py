"""A trained network with the weights that act: nothing left that was there for the search."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils import parametrize, prune

from raynas.blocks import Convolution, quantized


def plain(model: nn.Module) -> nn.Module:
    """A copy on the CPU, in eval mode, that computes the same with ordinary layers.

    Weights that act rounded or pruned are kept as they act.
    """
    found = copy.deepcopy(model).cpu().eval()
    for module in [*found.modules()]:
        if parametrize.is_parametrized(module):
            _settle(module)
        elif prune.is_pruned(module) and hasattr(module, "weight_mask"):
            prune.remove(module, "weight")  # type: ignore[no-untyped-call]
    return _ordinary(found)


def _settle(module: nn.Module) -> None:
    """Makes ordinary parameters of parametrized ones.

    By hand: `remove_parametrizations` changes a class that a network's copies have in common.
    """
    names = [*module.get_submodule("parametrizations")._modules]
    values = {name: getattr(module, name).detach().clone() for name in names}
    del module.parametrizations
    module.__class__ = type(module).__bases__[0]
    for name, value in values.items():
        setattr(module, name, nn.Parameter(value))


def _ordinary(module: nn.Module) -> nn.Module:
    """Replaces convolutions that round as they act by convolutions of rounded weights."""
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
    made.weight = nn.Parameter(quantized(module.weight.detach(), module.bits).clone())
    if module.bias is not None:
        made.bias = nn.Parameter(module.bias.detach().clone())
    return made.to(memory_format=torch.contiguous_format).eval()

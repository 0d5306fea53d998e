"""Synaptic flow, which looks at weights alone."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from raynas.proxies.copies import BY_CHANNEL, NORMS, log


def synflow(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Synaptic flow: how much signal the network's paths could carry together.

    With R the summed output for an image of ones after every weight w is replaced by its
    magnitude, the score is the logarithm of the sum of |w dR/dw| over all weights; `-inf` where no
    path connects the input to the output. Tanaka et al. 2020, arXiv:2006.05467; the logarithm is
    ours, for range.

    Where we depart: the theorems are for networks of ReLU without biases. Here biases are zero, so
    that all signal comes from the input; normalizations only multiply by their own weights, as one
    image has no statistics to speak of; attention takes the mean of all it looks at, so that its
    queries and keys carry nothing. 64-bit numbers hold some hundred layers; where they do not, the
    score is `-inf`.

    Args:
        images: only their shape is read.
    """
    del labels
    scored = copy.deepcopy(model).double().eval().requires_grad_()
    for module in scored.modules():
        if isinstance(module, NORMS):
            module.register_forward_hook(_scaled)
    with torch.no_grad():
        for name, parameter in scored.named_parameters():
            parameter.abs_().mul_(0 if name.endswith("bias") else 1)
    weights = list(scored.parameters())
    with torch.enable_grad(), _MeanAttention():
        out = scored(images.new_ones(1, *images.shape[1:], dtype=torch.float64)).sum()
    slopes = torch.autograd.grad(out, weights, allow_unused=True)
    pairs = [(w.detach(), s) for w, s in zip(weights, slopes, strict=True) if s is not None]
    total = float(sum((w * s).abs().sum() for w, s in pairs))
    return log(total)


class _MeanAttention(TorchFunctionMode):
    """Attention to all alike. Magnitudes of queries and keys would multiply each other, layer by
    layer, beyond every number."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        if func is functional.scaled_dot_product_attention:
            queries, keys, *rest = args
            args = (torch.zeros_like(queries), torch.zeros_like(keys), *rest)
        return func(*args, **(kwargs or {}))


def _scaled(module: Any, inputs: tuple[Tensor, ...], normalized: Tensor) -> Tensor:
    """What a normalization gives instead: its input times its weights."""
    del normalized
    x, weight = inputs[0], module.weight
    if weight is None:
        return x
    if isinstance(module, BY_CHANNEL):
        weight = weight.view(-1, *[1] * (x.dim() - 2))
    scaled: Tensor = x * weight
    return scaled

"""Zero-cost proxies: scores of networks that nobody has trained.

Every proxy is a function `(model, images, labels) -> float`, a row of PROXIES. Higher is better;
the score has no unit and is finite or `-inf`, the same for the same network and batch; the model
with its gradients, buffers and mode is left as it was. What a score is worth, a search finds out:
it trains some of the designs that it scored. The honest baselines are `params` and `flops`, which
cost less and often rank as well (White et al. 2022, "A Deeper Look at Zero-Cost Proxies").
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
BENT = frozenset(  # the nonlinearities that bend at zero, and those that are steepest there
    {aten.relu, aten.relu_, aten.gelu, aten.gelu_, aten.silu, aten.silu_, aten.mish, aten.mish_}
    | {aten.hardtanh, aten.hardtanh_, aten.hardswish, aten.hardswish_, aten._prelu_kernel}
    | {aten.leaky_relu, aten.leaky_relu_, aten.elu, aten.elu_, aten.softplus, aten.threshold}
    | {aten.sigmoid, aten.sigmoid_, aten.hardsigmoid, aten.hardsigmoid_, aten.tanh, aten.tanh_}
)
BY_CHANNEL = (_BatchNorm, _InstanceNorm, nn.GroupNorm)  # normalizations with a weight per channel
NORMS = (*BY_CHANNEL, nn.LayerNorm, nn.RMSNorm)


def naswot(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """How differently a network responds to different images.

    Each activation says one bit of an image: whether what enters it is above zero. The score is
    the logarithm of the determinant of the images' kernel, which counts the bits that two images
    have in common; `-inf` where some images are told apart by none, or there are no activations.
    Mellor et al. 2021, arXiv:2006.04647.

    Where we depart: the paper's networks have ReLU only. Here every nonlinearity of BENT counts,
    by the same question; for GELU, swish and hard swish the output has the sign of what enters,
    as for ReLU. Batch norms use the batch's statistics, and all else is in eval mode.

    Args:
        images: `[N, C, H, W]`, normalized; scores of different N cannot be compared.
    """
    del labels
    scored = copy.deepcopy(model).eval()
    for module in scored.modules():
        if isinstance(module, _BatchNorm):
            module.train()
    with torch.no_grad(), _Agreement(images) as found:
        scored(images)
    eigenvalues = torch.linalg.eigvalsh(found.kernel().cpu())
    rounding = torch.finfo(eigenvalues.dtype).eps * len(images) * float(eigenvalues[-1])
    if float(eigenvalues[0]) <= rounding:
        return -math.inf
    return float(eigenvalues.log().sum())


class _Agreement(TorchDispatchMode):
    """Counts the bits that each pair of images has in common, wherever a nonlinearity is called."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._bits = 0
        self._products = images.new_zeros(len(images), len(images), dtype=torch.float64)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        if func.overloadpacket in BENT:  # before the call, which may be in place
            signs = (args[0].reshape(len(self._products), -1) > 0).float().mul_(2).sub_(1)
            self._products += signs @ signs.T  # exact: whole numbers
            self._bits += signs.shape[1]
        return func(*args, **(kwargs or {}))

    def kernel(self) -> Tensor:
        """Of two images the bits that agree: each adds one to the product, the others take it."""
        return (self._products + self._bits) / 2


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
    return math.log(total) if 0 < total < math.inf else -math.inf


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


@dataclass(frozen=True)
class Row:
    """A proxy in the table.

    Attributes:
        score: the function.
        reference, good_for: what a person reads before choosing.
    """

    score: Callable[[nn.Module, Tensor, Tensor], float]
    reference: str
    good_for: str


PROXIES: dict[str, Row] = {
    "naswot": Row(
        naswot,
        "Mellor et al. 2021, arXiv:2006.04647",
        "cells and networks with many nonlinearities; sees images but no labels",
    ),
    "synflow": Row(
        synflow,
        "Tanaka et al. 2020, arXiv:2006.05467",
        "cells whose parts may be cut off; sees no images",
    ),
}

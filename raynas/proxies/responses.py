"""Proxies that look at how a network answers to images."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from raynas.proxies.copies import BY_CHANNEL, NORMS, copied, finite, log, noise_like, redraw

aten = torch.ops.aten
BENT = frozenset(  # the nonlinearities that bend at zero, and those that are steepest there
    {aten.relu, aten.relu_, aten.gelu, aten.gelu_, aten.silu, aten.silu_, aten.mish, aten.mish_}
    | {aten.hardtanh, aten.hardtanh_, aten.hardswish, aten.hardswish_, aten._prelu_kernel}
    | {aten.leaky_relu, aten.leaky_relu_, aten.elu, aten.elu_, aten.softplus, aten.threshold}
    | {aten.sigmoid, aten.sigmoid_, aten.hardsigmoid, aten.hardsigmoid_, aten.tanh, aten.tanh_}
)
MIXED = 0.01  # how much of the other noise `zen` adds
NUDGE = 1e-5  # added to the eigenvalues of `jacob_cov`, as in the paper's code


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
    scored = copied(model)
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


def jacob_cov(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """How differently a network's slopes point for different images.

    With the gradient of the summed logits for each image, and v the eigenvalues of these
    gradients' correlations, the score is minus the sum of log(v + k) + 1 / (v + k), k = 1e-5;
    `-inf` where an image makes no difference to the logits. Mellor et al. 2020, the first version
    of arXiv:2006.04647.

    Args:
        images: `[N, C, H, W]`, normalized; scores of different N cannot be compared.
    """
    del labels
    scored = copied(model)
    reached = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        total = scored(reached).sum()
    (slopes,) = torch.autograd.grad(total, reached)
    if not bool(slopes.isfinite().all()):
        return -math.inf
    correlations = torch.corrcoef(slopes.reshape(len(images), -1).double().cpu())
    if not bool(correlations.isfinite().all()):
        return -math.inf
    nudged = torch.linalg.eigvalsh(correlations).clamp(min=0) + NUDGE
    return -float((nudged.log() + 1 / nudged).sum())


def zen(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """How much a network of normal weights answers to a small change of its input.

    For noise and the same with a hundredth of another noise added, what enters the last pooling
    (or, where nothing pools, the last linear layer) is compared: the logarithm of the summed
    differences, and of the deviation that each normalization divided by, so that what they scale
    away counts. `-inf` where nothing changes. Lin et al. 2021, arXiv:2102.01063.

    Where we depart: the deviations are the batch's own (there, running averages) and of all kinds
    of normalizations; weights and noise are drawn once and alike for every network.

    Args:
        images: only their shape is read.
    """
    del labels
    scored = copied(model)
    redraw(scored, lambda weight, generator: weight.normal_(generator=generator))
    ends: list[Tensor] = []
    scales: list[float] = []

    def end(module: Any, inputs: tuple[Tensor, ...]) -> None:
        del module
        ends.append(inputs[0].detach())

    def scale(module: Any, inputs: tuple[Tensor, ...]) -> None:
        others = [d for d in range(inputs[0].dim()) if d != 1]
        spread = inputs[0].var(others) if isinstance(module, BY_CHANNEL) else inputs[0].var()
        scales.append(log(spread.mean()) / 2)

    modules = list(scored.modules())
    pools = [m for m in modules if isinstance(m, nn.AdaptiveAvgPool2d)]
    for last in pools or (m for m in modules if isinstance(m, nn.Linear)):
        last.register_forward_pre_hook(end)
    noise = noise_like(images)
    with torch.no_grad():
        scored(noise)
        first = ends.pop()
        for module in modules:
            if isinstance(module, NORMS):
                module.register_forward_pre_hook(scale)
        scored(noise + MIXED * noise_like(images, 1))
    change = (ends.pop() - first).abs().flatten(1).sum(1).mean()
    return finite(log(change) + sum(scales))

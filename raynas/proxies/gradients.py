"""Proxies that look at the gradients of the loss with respect to the weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from raynas.proxies.copies import copied, finite, log, loss_of, weights_of


def grad_norm(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """How steep the loss is: the norm of each layer's gradient, summed over the layers.

    The score is the logarithm of the sum; `-inf` where the images make no difference to the loss.
    Abdelfattah et al. 2021, arXiv:2101.08134; the logarithm, here and below, is ours, for range.

    Args:
        images: `[N, C, H, W]`, normalized.
        labels: `[N]`, the classes.
    """
    scored = copied(model)
    slopes = _slopes(scored, weights_of(scored), images, labels)
    return log(sum(float(s.norm()) for s in slopes))


def snip(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """How much the loss would change if single weights were cut: the sum of |w dL/dw|.

    The score is its logarithm; `-inf` where the images make no difference to the loss. Lee et al.
    2019, arXiv:1810.02340; as a score of networks Abdelfattah et al. 2021, arXiv:2101.08134.

    Args:
        images, labels: as for `grad_norm`.
    """
    scored = copied(model)
    weights = weights_of(scored)
    slopes = _slopes(scored, weights, images, labels)
    pairs = zip(weights, slopes, strict=False)
    return log(sum(float((w.detach() * s).abs().sum()) for w, s in pairs))


def grasp(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """How much the flow of gradients depends on the weights: minus the sum of w (H g).

    H g is the Hessian of the loss times its gradient. The score is the inverse hyperbolic sine of
    the sum, a logarithm that keeps the sign; `-inf` where the images make no difference to the
    loss. Wang et al. 2020, arXiv:2002.07376; with this sign Abdelfattah et al. 2021,
    arXiv:2101.08134.

    Args:
        images, labels: as for `grad_norm`.
    """
    scored = copied(model)
    weights = weights_of(scored)
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), _Twice():
        slopes = _slopes(scored, weights, images, labels, twice=True)
        if not slopes:
            return -torch.inf
        length = sum((s * s.detach()).sum() for s in slopes)
        bends = torch.autograd.grad(length, weights, allow_unused=True)  # type: ignore[arg-type]
    pairs = zip(weights, bends, strict=True)
    total = -sum((w.detach() * b).sum() for w, b in pairs if b is not None)
    return finite(torch.as_tensor(total).asinh())


def fisher(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """How much the loss would change if single channels were cut.

    Summed over the channels of all layers: half the mean over images of the square of (activation
    times its gradient, summed over places). The score is the logarithm; `-inf` where the images
    make no difference to the loss. Theis et al. 2018, arXiv:1801.05787; as a score of networks
    Abdelfattah et al. 2021, arXiv:2101.08134.

    Args:
        images, labels: as for `grad_norm`.
    """
    scored = copied(model)
    with _masked(scored, len(images)) as masks:
        loss, reached = _loss(scored, images, labels)
        first, *slopes = torch.autograd.grad(loss, [reached, *masks], allow_unused=True)
    if not _connected(first):
        return -torch.inf
    return log(sum(float(s.square().mean(0).sum()) / 2 for s in slopes if s is not None))


def zico(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """How alike the gradients of different batches are: their mean size over their deviation.

    The batch is halved. For each layer the ratio is summed over its weights, and the score is the
    sum of the layers' logarithms, without layers that get no gradient; `-inf` where the images
    make no difference to the loss. Li et al. 2023, arXiv:2301.11300.

    Args:
        images: as for `grad_norm`, four or more.
        labels: as for `grad_norm`.
    """
    scored = copied(model)
    weights = weights_of(scored)
    halves = [
        _slopes(scored, weights, some, theirs)
        for some, theirs in zip(images.chunk(2), labels.chunk(2), strict=True)
    ]
    if not all(halves):
        return -torch.inf
    total = 0.0
    for first, second in zip(*halves, strict=True):
        size, deviation = (first.abs() + second.abs()) / 2, (first - second).abs() / 2
        ratio = float((size / deviation)[deviation > 0].sum())
        if ratio != 0:
            total += log(ratio)
    return finite(total)


class _Twice(TorchFunctionMode):
    """What torch cannot differentiate twice, said otherwise; of attention, the plain kernel can."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        if func is functional.hardsigmoid:
            return (args[0] / 6 + 0.5).clamp(0, 1)
        return func(*args, **(kwargs or {}))


def _loss(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The loss and the images that it can be differentiated by."""
    reached = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        return loss_of(model, reached, labels), reached


def _slopes(
    model: nn.Module,
    weights: Sequence[Tensor],
    images: Tensor,
    labels: Tensor,
    twice: bool = False,
) -> list[Tensor]:
    """The loss's gradient for each of the weights; none at all where no image reaches the loss."""
    loss, reached = _loss(model, images, labels)
    if not loss.requires_grad:
        return []
    found = torch.autograd.grad(loss, [reached, *weights], create_graph=twice, allow_unused=True)
    if not _connected(found[0]):
        return []
    return [
        torch.zeros_like(w) if s is None else s for w, s in zip(weights, found[1:], strict=True)
    ]


def _connected(slope: Tensor | None) -> bool:
    return slope is not None and bool(slope.isfinite().all()) and bool((slope != 0).any())


@contextmanager
def _masked(model: nn.Module, images: int) -> Iterator[list[Tensor]]:
    """Multiplies what layers give by ones, whose gradients are the sums that `fisher` asks for.

    Yields:
        For each call of a layer, the ones for each image and channel.
    """
    masks: list[Tensor] = []

    def mask(layer: Any, inputs: Any, output: Tensor) -> Tensor:
        del inputs
        shape = [images] + [1] * (output.dim() - 1)
        place = -1 if isinstance(layer, nn.Linear) else 1
        shape[place] = output.shape[place]
        masks.append(output.new_ones(shape).requires_grad_())
        return output * masks[-1]

    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)]
    hooks = [layer.register_forward_hook(mask) for layer in layers]
    yield masks
    for hook in hooks:
        hook.remove()

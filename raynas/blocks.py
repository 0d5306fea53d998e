"""Blocks that several spaces are built from: inverted residuals, squeeze-excite, resizing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from raynas.operations import ACTIVATIONS

NONLINEARITIES: dict[str, Callable[[], nn.Module]] = {
    **ACTIVATIONS,
    "hard_swish": lambda: nn.Hardswish(inplace=True),  # MobileNetV3's cheap swish
}
GATES: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "hard_sigmoid": nn.Hardsigmoid,  # MobileNetV3's
}


def rounded(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor`, one more where that is under 90 % of `channels`.

    How MobileNet and EfficientNet round every number of channels; at least `divisor`.
    """
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest


class Convolution(nn.Conv2d):
    """A padded k x k convolution whose weights act rounded to a grid of `bits` bits.

    Each output channel's weights lie on a symmetric grid from minus to plus their largest
    magnitude; the gradient passes the rounding as if it were not there (straight-through). The
    parameters stay in full precision. 32 bits: an ordinary convolution. Jacob et al. 2018,
    arXiv:1712.05877; activations are not rounded.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        bits: int = 32,
        bias: bool = False,
    ) -> None:
        super().__init__(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self.bits = bits

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[N, C_in, H, W]` to `[N, C_out, ceil(H / stride), ceil(W / stride)]`."""
        y: Tensor = self._conv_forward(x, quantized(self.weight, self.bits), self.bias)
        return y

    def extra_repr(self) -> str:
        """Adds the bits to what PyTorch prints, where they differ from the usual."""
        said: str = super().extra_repr()  # type: ignore[no-untyped-call]
        return said if self.bits == 32 else f"{said}, bits={self.bits}"


def quantized(weight: Tensor, bits: int) -> Tensor:
    """Weights `[C_out, ...]` rounded per output channel to 2^bits - 1 values around zero.

    Rounding what is rounded already changes nothing, to the bit.
    """
    if bits == 32:
        return weight
    top, fixed = 2 ** (bits - 1) - 1, weight.detach()
    step = step_of(fixed, bits)
    on_grid: Tensor = torch.round(fixed / step).clamp(-top, top) * step
    return on_grid + (weight - fixed)  # which adds zero, and the gradient


def step_of(weight: Tensor, bits: int) -> Tensor:
    """The distance of neighbouring values on each channel's grid, `[C_out, 1, ...]`.

    A multiple of few bits (bfloat16), so that a whole number times the step is exact.
    """
    largest = weight.abs().amax(dim=tuple(range(1, weight.dim())), keepdim=True)
    step: Tensor = (largest / (2 ** (bits - 1) - 1)).to(torch.bfloat16).to(weight.dtype)
    step = step.clamp_min(torch.finfo(weight.dtype).tiny)  # a channel of zeros stays zero
    return step


def normalized(
    c_in: int,
    c_out: int,
    kernel: int,
    stride: int = 1,
    activation: str | None = None,
    groups: int = 1,
    bits: int = 32,
) -> nn.Sequential:
    """A convolution, batch norm and, if named, an activation."""
    layers: list[nn.Module] = [
        Convolution(c_in, c_out, kernel, stride, groups, bits),
        nn.BatchNorm2d(c_out),
    ]
    return nn.Sequential(*layers, *([NONLINEARITIES[activation]()] if activation else []))


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate that sees the mean of all channels. Hu et al. 2018."""

    def __init__(
        self,
        channels: int,
        squeezed: int,
        activation: str = "relu",
        gate: str = "sigmoid",
        bits: int = 32,
    ) -> None:
        super().__init__()
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            Convolution(channels, squeezed, 1, bits=bits, bias=True),
            NONLINEARITIES[activation](),
            Convolution(squeezed, channels, 1, bits=bits, bias=True),
            GATES[gate](),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape `[N, C, H, W]`."""
        gate: Tensor = self.scale(x)
        return x * gate


class MBConv(nn.Module):
    """An inverted residual: widen, filter each channel, squeeze-excite, narrow, add the input.

    Sandler et al. 2018 (MobileNetV2). Nothing widens where `hidden` is `c_in`, and the input is
    added only where it has the output's shape.

    Args:
        c_in, c_out: channels of the input and of the output.
        kernel: of the depthwise convolution, odd.
        stride: of the depthwise convolution.
        hidden: channels between, usually `rounded(c_in * expansion)`.
        activation: of NONLINEARITIES; the narrowing convolution has none.
        squeezed: channels inside the squeeze-excite; 0 leaves it out.
        squeeze_activation, gate: of the squeeze-excite (EfficientNet: swish, sigmoid; MobileNetV3:
            relu, hard_sigmoid).
        bits: to which the weights of all convolutions are rounded as they act; 32 for none.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        stride: int,
        hidden: int,
        activation: str = "relu",
        squeezed: int = 0,
        squeeze_activation: str = "relu",
        gate: str = "sigmoid",
        bits: int = 32,
    ) -> None:
        super().__init__()
        parts: dict[str, nn.Module] = {}  # named by what they do: a supernet shares by names
        if hidden != c_in:
            parts["expand"] = normalized(c_in, hidden, 1, 1, activation, bits=bits)
        parts["filter"] = normalized(hidden, hidden, kernel, stride, activation, hidden, bits)
        if squeezed:
            parts["scale"] = SqueezeExcite(hidden, squeezed, squeeze_activation, gate, bits)
        parts["project"] = normalized(hidden, c_out, 1, bits=bits)
        self.branch = nn.Sequential(OrderedDict(parts))
        self.adds_input = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[N, C_in, H, W]` to `[N, C_out, ceil(H / stride), ceil(W / stride)]`."""
        y: Tensor = self.branch(x)
        return x + y if self.adds_input else y


def resized(side: int, share: float) -> int:
    """A side of an image after `Resize(share)`, in pixels."""
    return max(round(side * share), 1)


class Resize(nn.Module):
    """Images `[N, C, H, W]` at a share of their height and width, by bilinear interpolation."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Shrinks without aliasing (each new pixel averages all it covers), or enlarges."""
        size = [resized(side, self.share) for side in x.shape[-2:]]
        return functional.interpolate(x, size, mode="bilinear", antialias=True)

    def extra_repr(self) -> str:
        """The share, as PyTorch prints it."""
        return f"share={self.share}"

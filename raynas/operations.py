"""The operation vocabulary: what an option's name means as a layer and as words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from raynas.errors import UserError
from raynas.space import Shape


@dataclass(frozen=True)
class Operation:
    """One row of the vocabulary.

    Attributes:
        build: (channels in, channels out, kernel size, stride) -> a module that maps
            `[N, C_in, H, W]` to `[N, C_out, ceil(H / stride), ceil(W / stride)]`.
        meaning: how an explanation names the operation.
    """

    build: Callable[[int, int, int, int], nn.Module]
    meaning: str


def require_side(space: str, smallest: int, input_shape: Shape) -> None:
    """Refuses images that a space's networks would shrink to nothing.

    Raises:
        UserError: the images' shorter side has fewer than `smallest` pixels.
    """
    _, height, width = input_shape
    if min(height, width) < smallest:
        raise UserError(
            f"{space}: expected images of at least {smallest}x{smallest}; got {height}x{width}. "
            f"Enlarge them with --image-size {smallest}."
        )


def kept_strides(wanted: Sequence[int], side: int, smallest: int = 4) -> list[int]:
    """The strides a network of published strides takes on small images.

    Halvings are left out from the front until the last feature map has `smallest` pixels on a
    side, as is usual where a design for large images is trained on small ones; parameters do not
    depend on it. Strides are 1 or 2.
    """
    room = max(int(math.log2(side / smallest)), 0) if side >= smallest else 0
    total = sum(stride == 2 for stride in wanted)
    dropped, strides = max(total - room, 0), []
    for stride in wanted:
        drop = stride == 2 and dropped > 0
        dropped -= drop
        strides.append(1 if drop else stride)
    return strides


def convolution(
    c_in: int, c_out: int, kernel: int, stride: int, dilation: int = 1, groups: int = 1
) -> nn.Conv2d:
    """A k x k convolution without bias, padded so that stride 1 keeps the size."""
    padding = dilation * (kernel // 2)
    return nn.Conv2d(c_in, c_out, kernel, stride, padding, dilation, groups, bias=False)


def separable(c_in: int, c_out: int, kernel: int, stride: int) -> nn.Module:
    """A k x k convolution of each channel alone, then a 1 x 1 convolution that mixes them."""
    return nn.Sequential(
        convolution(c_in, c_in, kernel, stride, groups=c_in),
        nn.BatchNorm2d(c_in),
        convolution(c_in, c_out, 1, 1),
    )


OPERATIONS: dict[str, Operation] = {
    "conv": Operation(convolution, "a convolution"),
    "separable_conv": Operation(separable, "a depthwise separable convolution"),
    "dilated_conv": Operation(
        lambda c_in, c_out, kernel, stride: convolution(c_in, c_out, kernel, stride, dilation=2),
        "a convolution with gaps of one pixel (dilation 2)",
    ),
}

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "swish": lambda: nn.SiLU(inplace=True),
    "gelu": nn.GELU,
}

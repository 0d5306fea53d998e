"""Layered networks: a chain of 2 to 16 layers, each with its own type, width, kernel,
activation and skip connection.

The space of the explainable-NAS article. Where it is silent: every convolution is followed by
batch norm and the activation; a skip connection adds the layer's input after the activation
(through a 1x1 convolution with batch norm where shapes differ, He et al. 2016, option B); the
image is halved at layers spread evenly over the depth until its short side is 4 pixels or fewer
than 8; global average pooling and one linear layer follow. Takes images of 8x8 and up.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING

from raynas.architecture import Architecture, Decision
from raynas.space import Space

if TYPE_CHECKING:
    from torch import Tensor, nn

DEPTHS = (2, 4, 8, 16)
SMALLEST = 8  # pixels on a side


def _layer(i: int) -> tuple[Decision, ...]:
    deeper = frozenset(depth for depth in DEPTHS if depth > i)
    when = None if len(deeper) == len(DEPTHS) else ("num_layers", deeper)
    types = ("conv", "separable_conv", "dilated_conv")
    return (
        Decision(f"layer{i}.type", types, "how the layer looks at its surroundings", when=when),
        Decision(f"layer{i}.filter_size", (16, 32, 64, 128), "output channels", True, when),
        Decision(f"layer{i}.kernel_size", (3, 5, 7), "pixels that a filter spans", True, when),
        Decision(f"layer{i}.activation", ("relu", "swish", "gelu"), "the nonlinearity", when=when),
        Decision(
            f"layer{i}.skip_connection", (False, True), "adds the input to the output", when=when
        ),
    )


def strides(depth: int, side: int) -> list[int]:
    """The stride of each layer: halvings spread evenly, several on one layer if it must be."""
    halvings = int(math.log2(side / 4)) if side >= 8 else 0
    at = [int((k + 0.5) * depth / halvings) for k in range(halvings)]
    return [2 ** at.count(i) for i in range(depth)]


def build(
    architecture: Architecture, input_shape: tuple[int, int, int], num_classes: int
) -> nn.Module:
    """Builds the network: images `[N, C, H, W]` -> logits `[N, num_classes]`.

    Raises:
        UserError: the images are smaller than 8x8.
    """
    from torch import nn

    from raynas.operations import ACTIVATIONS, OPERATIONS, convolution, require_side

    require_side(SPACE.name, SMALLEST, input_shape)
    channels, height, width = input_shape

    class Layer(nn.Module):
        def __init__(self, i: int, c_in: int, stride: int) -> None:
            super().__init__()
            pick = {d.leaf: architecture[d.name] for d in _layer(i)}
            c_out = int(pick["filter_size"])
            kind, kernel = str(pick["type"]), int(pick["kernel_size"])
            parts = {  # named by what they do: a supernet shares by names
                kind: OPERATIONS[kind].build(c_in, c_out, kernel, stride),
                f"{kind}_norm": nn.BatchNorm2d(c_out),
                "activation": ACTIVATIONS[str(pick["activation"])](),
            }
            self.operation = nn.Sequential(OrderedDict(parts))
            self.shortcut: nn.Module | None = None
            if pick["skip_connection"]:
                same = c_in == c_out and stride == 1
                projection = (convolution(c_in, c_out, 1, stride), nn.BatchNorm2d(c_out))
                self.shortcut = nn.Identity() if same else nn.Sequential(*projection)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.operation(x)
            return y if self.shortcut is None else y + self.shortcut(x)

    parts: dict[str, nn.Module] = {}
    for i, stride in enumerate(strides(int(architecture["num_layers"]), min(height, width))):
        parts[f"layer{i}"] = Layer(i, channels, stride)
        channels = int(architecture[f"layer{i}.filter_size"])
    parts |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    parts["classifier"] = nn.Linear(channels, num_classes)
    return nn.Sequential(OrderedDict(parts))


SPACE = Space(
    "layered",
    (
        Decision("num_layers", DEPTHS, "how many layers follow each other", ordered=True),
        *(decision for i in range(max(DEPTHS)) for decision in _layer(i)),
    ),
    build=build,
)

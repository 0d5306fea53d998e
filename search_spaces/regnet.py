"""RegNet: a whole network from six numbers, its widths quantized from a straight line over depth.

Radosavovic et al. 2020, arXiv:2003.13678: block j is wanted `initial_width + slope * j` channels
wide (eq. 2), its logarithm to the base `quantization` is rounded (eq. 3), so that neighbours agree
and form stages (eq. 4); widths are multiples of 8. Group widths are cut to the width of the
bottleneck, which is then rounded to a multiple of the group width (halves upwards, as torchvision
does; the paper's RegNetX-400MF ends 16 channels narrower). Departures: any number of stages that
the line gives, not only four; each number has its published values for small networks and a few
round ones beside them, where the paper draws from ranges. A network halves the image in the stem
and in each stage; on small images halvings are left out from the front until 4 pixels remain on
the shorter side, so parameters do not depend on the image. Takes images of 8x8 and up.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from raynas.architecture import Architecture, Decision
from raynas.space import Known, Space

if TYPE_CHECKING:
    from torch import Tensor, nn

SMALLEST = 8  # pixels on a side
STEM_WIDTH = 32
SQUEEZED = 0.25  # channels inside the squeeze-excite, as a share of those that enter the block


@dataclass(frozen=True)
class Stage:
    """Equal blocks: channels that leave them and inside them, how many share a group, how many."""

    width: int
    inside: int
    group: int
    depth: int


def widths(initial: int, slope: float, base: float, depth: int) -> list[int]:
    """The width of each block, from eq. 2 to 4 of the paper: w_0, w_a, w_m and d."""
    steps = [round(math.log((initial + slope * j) / initial, base)) for j in range(depth)]
    return [8 * round(initial * base**step / 8) for step in steps]


def stages(architecture: Architecture) -> list[Stage]:
    """What the numbers of a design amount to."""
    pick = architecture.options
    line = widths(
        int(pick["initial_width"]),
        float(pick["slope"]),
        float(pick["quantization"]),
        int(pick["depth"]),
    )
    found, narrower = [], int(pick["bottleneck"])
    for width, blocks in groupby(line):
        wanted = width // narrower
        group = min(int(pick["group_width"]), wanted)
        inside = max((wanted + group // 2) // group, 1) * group
        found.append(Stage(inside * narrower, inside, group, len(list(blocks))))
    return found


def canonical(architecture: Architecture) -> str:
    """The stages: several lines round to the same ones."""
    said = " ".join(f"{s.depth}x{s.width}/{s.inside}/{s.group}" for s in stages(architecture))
    return f"regnet {said} {architecture['squeeze_excite']}"


def build(
    architecture: Architecture, input_shape: tuple[int, int, int], num_classes: int
) -> nn.Module:
    """Builds the network: images `[N, C, H, W]` -> logits `[N, num_classes]`.

    Raises:
        UserError: the images are smaller than 8x8.
    """
    from torch import nn

    from raynas.blocks import SqueezeExcite, normalized
    from raynas.operations import kept_strides, require_side

    require_side(SPACE.name, SMALLEST, input_shape)

    class Block(nn.Module):
        """1x1, grouped 3x3 and 1x1 convolutions, added to a shortcut; `[N, C, H, W]`.

        A stage's first block has a 1x1 convolution in its shortcut, halving or not.
        """

        def __init__(self, c_in: int, stage: Stage, stride: int, first: bool) -> None:
            super().__init__()
            inside, groups = stage.inside, stage.inside // stage.group
            parts: list[nn.Module] = [
                normalized(c_in, inside, 1, 1, "relu"),
                normalized(inside, inside, 3, stride, "relu", groups),
            ]
            if architecture["squeeze_excite"]:
                parts.append(SqueezeExcite(inside, max(round(SQUEEZED * c_in), 1)))
            self.branch = nn.Sequential(*parts, normalized(inside, stage.width, 1))
            self.shortcut = normalized(c_in, stage.width, 1, stride) if first else nn.Identity()
            self.activation = nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.activation(self.branch(x) + self.shortcut(x))
            return y

    found = stages(architecture)
    strides = kept_strides([2] * (1 + len(found)), min(input_shape[1:]))
    stem = normalized(input_shape[0], STEM_WIDTH, 3, strides[0], "relu")
    parts, width = {"stem": stem}, STEM_WIDTH
    blocks: dict[str, nn.Module] = {}
    for s, (stage, stride) in enumerate(zip(found, strides[1:], strict=True)):
        for i in range(stage.depth):
            blocks[f"stage{s}_{i}"] = Block(width, stage, 1 if i else stride, i == 0)
            width = stage.width
    head = {"head": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())}
    classifier = {"classifier": nn.Linear(width, num_classes)}
    return nn.Sequential(OrderedDict({**parts, **blocks, **head, **classifier}))


def _known(
    depth: int,
    line: tuple[int, float, float],
    group_width: int,
    params: float,
    flops: float,
    squeeze_excite: bool = False,
    source: str = "",
) -> Known:
    options = {
        "initial_width": line[0],
        "slope": line[1],
        "quantization": line[2],
        "depth": depth,
        "group_width": group_width,
        "bottleneck": 1,
        "squeeze_excite": squeeze_excite,
    }
    published = "Radosavovic et al. 2020, arXiv:2003.13678"
    return Known(options, f"{published}{source}", params=params, flops=2 * flops)


TORCHVISION = "; sizes as torchvision has them"
WIDER = f"{TORCHVISION}, which ends 16 channels wider than the paper (5.2 M parameters)"
KNOWN = {
    "regnet_x_200mf": _known(13, (24, 36.44, 2.49), 8, 2.7e6, 0.2e9),
    "regnet_x_400mf": _known(22, (24, 24.48, 2.54), 16, 5_495_976, 0.414e9, source=WIDER),
    "regnet_x_800mf": _known(16, (56, 35.73, 2.28), 16, 7_259_656, 0.8e9, source=TORCHVISION),
    "regnet_x_1_6gf": _known(18, (80, 34.01, 2.25), 24, 9_190_136, 1.603e9, source=TORCHVISION),
    "regnet_y_200mf": _known(13, (24, 36.44, 2.49), 8, 3.2e6, 0.2e9, True),
    "regnet_y_400mf": _known(16, (48, 27.89, 2.09), 8, 4_344_144, 0.402e9, True, TORCHVISION),
    "regnet_y_800mf": _known(14, (56, 38.84, 2.4), 16, 6_432_512, 0.834e9, True, TORCHVISION),
    "regnet_y_1_6gf": _known(27, (48, 20.71, 2.65), 24, 11_202_430, 1.612e9, True, TORCHVISION),
}

SPACE = Space(
    "regnet",
    (
        Decision("initial_width", (8, 16, 24, 48, 56, 80), "channels the line starts with", True),
        Decision(
            "slope",
            (8.0, 16.0, 20.71, 24.48, 27.89, 34.01, 35.73, 36.44, 38.84, 48.0),
            "channels by which the line widens from block to block",
            ordered=True,
        ),
        Decision(
            "quantization",
            (2.0, 2.09, 2.25, 2.28, 2.4, 2.49, 2.54, 2.65, 3.0),
            "how many times wider a stage is than the one before",
            ordered=True,
        ),
        Decision(
            "depth", (4, 6, 8, 10, 13, 14, 16, 18, 22, 27), "blocks in the network", ordered=True
        ),
        Decision("group_width", (1, 2, 4, 8, 16, 24, 32), "channels that a 3x3 filter sees", True),
        Decision("bottleneck", (1, 2, 4), "how many times narrower blocks are inside", True),
        Decision("squeeze_excite", (False, True), "scales channels by a gate (RegNetY)"),
    ),
    canonical=canonical,
    build=build,
    known=KNOWN,
)

"""Compound scaling: depth, width and resolution of EfficientNet-B0 grow together under a budget of
FLOPs; decided are how far, and which part of it goes to depth, to width and to resolution.

Tan & Le 2019 (arXiv:1905.11946). Per step of `scale` (the paper's phi) the depth grows by
`depth_growth` (alpha), the width by `width_growth` (beta) and the resolution by gamma, which is
not decided: it is what alpha * beta^2 * gamma^2 = 1.95 leaves (the paper asks for about 2; its own
values make 1.92), so that every design keeps the budget, but for rounding. That follows the
published networks: depth and width multipliers to one decimal, the resolution to steps of 4 pixels
of 224 (1/56), channels to multiples of 8, blocks upwards; FLOPs at 224 pixels come to 0.9 to 2
times the budget, those of B1 to B3 to 1.2 to 1.3 times. The largest growth of depth (1.95) and of
width (1.4) is what grows it alone, for comparison: the first leaves nothing to decide, beside the
second more depth comes at the cost of pixels. Where rounding gives one network several names,
`canonical` takes the one nearest to the paper's growth. EfficientNet-B0 to B3 are members:
scales 0, 0.5, 1 and 2 with alpha 1.2 and beta 1.1; B4 to B7 do not follow the rule and are not.
Departures: negative scales shrink B0; the resolution is relative to the image's side, by
interpolation, and the strides stay those of the image itself; no dropout or stochastic depth. On
small images halvings are left out from the front until 4 pixels remain on the shorter side. Takes
images of 8x8 and up; `compound_scaling:width=0.25` has a quarter of the channels, for small ones.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

from raynas.architecture import Architecture, Decision, Option
from raynas.errors import UserError
from raynas.space import Known, Space

if TYPE_CHECKING:
    from torch import nn

SMALLEST = 8  # pixels on a side
BUDGET = 1.95  # times the FLOPs per step of scale
SCALES = (-2.0, -1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
GROWTH = {"depth_growth": 1.2, "width_growth": 1.1}  # the paper's
STEM = 32  # channels


@dataclass(frozen=True)
class Stage:
    """Blocks of EfficientNet-B0: all of a stage are alike, but the first takes the stride."""

    blocks: int
    channels: int
    kernel: int
    stride: int
    expansion: int = 6


STAGES = (
    Stage(1, 16, 3, 1, expansion=1),
    Stage(2, 24, 3, 2),
    Stage(2, 40, 5, 2),
    Stage(3, 80, 3, 2),
    Stage(3, 112, 5, 1),
    Stage(4, 192, 5, 2),
    Stage(1, 320, 3, 1),
)


@dataclass(frozen=True)
class Multipliers:
    """How many times those of B0 the blocks, the channels and the image's side are."""

    depth: float
    width: float
    resolution: float


def multipliers(architecture: Architecture) -> Multipliers:
    """What the decisions come to."""
    scale = float(architecture["scale"])
    if scale == 0:
        return Multipliers(1.0, 1.0, 1.0)
    alpha = float(architecture["depth_growth"])
    beta = float(architecture.options.get("width_growth", 1.0))
    gamma = math.sqrt(BUDGET / (alpha * beta**2))
    resolution = round(gamma**scale * 56) / 56
    return Multipliers(round(alpha**scale, 1), round(beta**scale, 1), resolution)


def blocks(times: Multipliers) -> tuple[int, ...]:
    """How many blocks each stage has."""
    return tuple(math.ceil(stage.blocks * times.depth) for stage in STAGES)


def network(architecture: Architecture) -> tuple[tuple[int, ...], float, float]:
    """All that the network depends on: blocks per stage, width and resolution."""
    times = multipliers(architecture)
    return blocks(times), times.width, times.resolution


@cache
def names() -> Mapping[tuple[tuple[int, ...], float, float], Architecture]:
    """Each network's name; of several, that whose growth is nearest to the paper's."""

    def distance(architecture: Architecture) -> float:
        growth = (architecture.options.get(name, paper) for name, paper in GROWTH.items())
        return sum(abs(float(g) - p) for g, p in zip(growth, GROWTH.values(), strict=True))

    chosen: dict[tuple[tuple[int, ...], float, float], Architecture] = {}
    for architecture in sorted(SPACE.enumerate(), key=distance):
        chosen.setdefault(network(architecture), architecture)
    return chosen


def canonical(architecture: Architecture) -> str:
    """The name of the network, where rounding gives it several."""
    return str(names()[network(architecture)])


def build(
    architecture: Architecture,
    input_shape: tuple[int, int, int],
    num_classes: int,
    width: float = 1.0,
) -> nn.Module:
    """Builds the network: images `[N, C, H, W]` -> logits `[N, num_classes]`.

    Args:
        architecture: what is scaled how far.
        input_shape: channels, height and width of the images.
        num_classes: of the images.
        width: channels of the base design, as a share of those of EfficientNet-B0.

    Raises:
        UserError: the images are smaller than 8x8.
    """
    from torch import nn

    from raynas.blocks import MBConv, Resize, normalized, rounded
    from raynas.operations import kept_strides, require_side

    require_side(SPACE.name, SMALLEST, input_shape)
    times = multipliers(architecture)
    firsts = kept_strides([2, *(stage.stride for stage in STAGES)], min(input_shape[1:]))

    c_in = rounded(STEM * width * times.width)
    parts: dict[str, nn.Module] = {}
    if times.resolution != 1.0:
        parts["resize"] = Resize(times.resolution)
    parts["stem"] = normalized(input_shape[0], c_in, 3, firsts[0], "swish")
    for s, (stage, depth) in enumerate(zip(STAGES, blocks(times), strict=True)):
        c_out = rounded(stage.channels * width * times.width)
        for i in range(depth):
            parts[f"stage{s}_block{i}"] = MBConv(
                c_in,
                c_out,
                stage.kernel,
                firsts[s + 1] if i == 0 else 1,
                hidden=c_in * stage.expansion,
                activation="swish",
                squeezed=c_in // 4,  # of the block's input, unlike MobileNetV3
                squeeze_activation="swish",
            )
            c_in = c_out
    parts["head"] = nn.Sequential(
        normalized(c_in, 4 * c_in, 1, 1, "swish"), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    parts["classifier"] = nn.Linear(4 * c_in, num_classes)
    return nn.Sequential(OrderedDict(parts))


def member(scale: float) -> Mapping[str, Option]:
    """Options by decision of B0, scaled as the paper does."""
    return {"scale": scale, **(GROWTH if scale else {})}


PAPER = "Tan & Le 2019, arXiv:1905.11946, table 2"
KNOWN = {
    "efficientnet_b0": Known(member(0.0), PAPER, params=5.3e6, flops=2 * 0.39e9),
    "efficientnet_b1": Known(
        member(0.5), f"{PAPER}; 224 pixels become the 240 of B1", params=7.8e6, flops=2 * 0.70e9
    ),
    "efficientnet_b2": Known(
        member(1.0), f"{PAPER}; 224 pixels become the 260 of B2", params=9.2e6, flops=2 * 1.0e9
    ),
    "efficientnet_b3": Known(
        member(2.0), f"{PAPER}; 224 pixels become the 300 of B3", params=12e6, flops=2 * 1.8e9
    ),
}

DEPTHS = (1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3, 1.35, BUDGET)
SCALED = ("scale", frozenset(scale for scale in SCALES if scale != 0))
DECISIONS = (
    Decision(
        "scale", SCALES, "how many times the FLOPs of the base design nearly double (phi)", True
    ),
    Decision(
        "depth_growth",
        DEPTHS,
        "how much the blocks grow per step of scale (alpha), at the cost of the resolution",
        True,
        SCALED,
    ),
    Decision(
        "width_growth",
        (1.0, 1.05, 1.1, 1.15, 1.2, 1.4),
        "how much the channels grow per step of scale (beta), at the cost of the resolution",
        True,
        ("depth_growth", frozenset(DEPTHS[:-1])),
    ),
)


def space(width: float = 1.0) -> Space:
    """The space over a narrower or wider base design: its channels as a share of B0's."""
    if width <= 0:
        raise UserError(f"compound_scaling: expected a width above 0; got {width}. B0 has 1.0.")
    return Space(
        "compound_scaling",
        DECISIONS,
        canonical=canonical,
        build=partial(build, width=width),
        known=KNOWN,
    )


SPACE = space()

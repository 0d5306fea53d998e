"""Mobile networks: a chain of inverted residuals (MBConv), each with its own kernel and
expansion, in stages that differ in depth, width, squeeze-excite and activation.

ProxylessNAS (Cai et al. 2019, arXiv:1812.00332) and MobileNetV3 (Howard et al. 2019,
arXiv:1905.02244), with MobileNetV3 Small and Large and two ProxylessNAS networks as exact members.
Departures: kernels of 7 stand beside MobileNetV3's 3 and 5; expansions 3, 4 and 6 have values
between and below, so that the sizes NetAdapt found for MobileNetV3 can be expressed (channels
between are rounded to multiples of 8); ProxylessNAS' cut at 6 (ReLU6) is left out; no dropout.
A network halves the image five times; a stage that is left out hands its halving to the first
one. On small images halvings are left out from the front until 4 pixels remain on the shorter
side, so parameters do not depend on the image. Takes images of 8x8 and up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raynas.architecture import Architecture, Decision, Option
from raynas.space import Known, Space

if TYPE_CHECKING:
    from torch import nn

SMALLEST = 8  # pixels on a side
ACTIVATIONS = ("relu", "hard_swish", "swish")
EXPANSIONS = (2.5, 3.0, 3.5, 4.0, 4.5, 6.0)


@dataclass(frozen=True)
class Stage:
    """What a stage can be; a depth of 0 leaves it out."""

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    stride: int
    expansions: tuple[float, ...] = (2.25, *EXPANSIONS)


STAGES = (
    Stage((1,), (16, 24), 1, (1.0,)),
    Stage((1, 2, 3, 4), (24, 32, 40), 2, EXPANSIONS),  # 2.25 and 2.5 times 16 are both 40
    Stage((1, 2, 3, 4), (32, 40, 48, 56), 2),
    Stage((0, 1, 2, 3, 4), (80, 112), 2),
    Stage((1, 2, 3, 4), (48, 96, 112, 128), 1),
    Stage((1, 2, 3, 4), (96, 160, 192, 256), 2),
    Stage((0, 1), (320, 432), 1),
)
SPARE = 3  # the stage that halves, and may be left out


def _stage(s: int) -> tuple[Decision, ...]:
    stage, name, choices = STAGES[s], f"stage{s}", []
    shallow, when = min(stage.depths), None
    if len(stage.depths) > 1:
        choices.append(Decision(f"{name}.depth", stage.depths, "blocks in the stage", True))
        when = None if shallow else (f"{name}.depth", frozenset(stage.depths[1:]))
    choices += [
        Decision(f"{name}.width", stage.widths, "channels that leave each block", True, when),
        Decision(
            f"{name}.squeeze_excite",
            (False, True),
            "scales channels by a gate that sees the whole image",
            when=when,
        ),
        Decision(f"{name}.activation", ACTIVATIONS, "the nonlinearity of the stage", when=when),
    ]
    for i in range(max(stage.depths) if s else 0):  # the first stage's block is fixed
        deeper = frozenset(depth for depth in stage.depths if depth > i)
        when = None if deeper == set(stage.depths) else (f"{name}.depth", deeper)
        choices += [
            Decision(
                f"{name}.block{i}.kernel", (3, 5, 7), "pixels that a filter spans", True, when
            ),
            Decision(
                f"{name}.block{i}.expansion",
                stage.expansions,
                "how many times more channels the block has inside than at its entry",
                True,
                when,
            ),
        ]
    return tuple(choices)


def _layer(s: int, i: int) -> str:
    """A block's name in the network; the first stage is one block."""
    return f"stage{s}_block{i}" if s else "stage0"


def wanted_strides(architecture: Architecture) -> dict[str, int]:
    """Layer name -> stride on large images, for the stem and each block, in order."""
    left_out = architecture[f"stage{SPARE}.depth"] == 0
    strides = {"stem": 2}
    for s, stage in enumerate(STAGES):
        first = 2 if s == 0 and left_out else stage.stride
        for i in range(int(architecture.options.get(f"stage{s}.depth", 1))):
            strides[_layer(s, i)] = first if i == 0 else 1
    return strides


def build(
    architecture: Architecture, input_shape: tuple[int, int, int], num_classes: int
) -> nn.Module:
    """Builds the network: images `[N, C, H, W]` -> logits `[N, num_classes]`.

    Raises:
        UserError: the images are smaller than 8x8.
    """
    from torch import nn

    from raynas.blocks import NONLINEARITIES, MBConv, normalized, rounded
    from raynas.operations import kept_strides, require_side

    require_side(SPACE.name, SMALLEST, input_shape)
    pick, wanted = architecture.options, wanted_strides(architecture)
    kept = kept_strides(list(wanted.values()), min(input_shape[1:]))
    strides = dict(zip(wanted, kept, strict=True))

    width, activation = int(pick["stem.width"]), str(pick["stem.activation"])
    parts: dict[str, nn.Module] = {
        "stem": normalized(input_shape[0], width, 3, strides["stem"], activation)
    }
    for s in range(len(STAGES)):
        depth = int(pick.get(f"stage{s}.depth", 1))
        if depth == 0:
            parts[f"stage{s}"] = nn.Identity()  # so that reports have a layer to show
        for i in range(depth):
            hidden = rounded(width * float(pick.get(f"stage{s}.block{i}.expansion", 1.0)))
            parts[_layer(s, i)] = MBConv(
                width,
                int(pick[f"stage{s}.width"]),
                int(pick.get(f"stage{s}.block{i}.kernel", 3)),
                strides[_layer(s, i)],
                hidden,
                str(pick[f"stage{s}.activation"]),
                rounded(hidden / 4) if pick[f"stage{s}.squeeze_excite"] else 0,
                gate="hard_sigmoid",
            )
            width = int(pick[f"stage{s}.width"])

    features, hidden = int(pick["head.width"]), int(pick["head.hidden"])
    activation = str(pick["head.activation"])
    head = [normalized(width, features, 1, 1, activation), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if hidden:
        head += [nn.Linear(features, hidden), NONLINEARITIES[activation]()]
    parts["head"] = nn.Sequential(*head)
    parts["classifier"] = nn.Linear(hidden or features, num_classes)
    return nn.Sequential(OrderedDict(parts))


def member(
    stem: tuple[int, str],
    stages: Sequence[tuple[int, bool, str, Sequence[tuple[int, float]]]],
    head: tuple[int, int, str],
) -> Mapping[str, Option]:
    """A network's options by decision, from its table.

    Args:
        stem: width and activation.
        stages: width, squeeze-excite, activation and (kernel, expansion) per block, for each
            stage; a stage without blocks is left out.
        head: width, hidden units and activation.
    """
    options: dict[str, Option] = {"stem.width": stem[0], "stem.activation": stem[1]}
    for s, (width, squeeze_excite, activation, blocks) in enumerate(stages):
        if s > 0:
            options[f"stage{s}.depth"] = len(blocks)
            for i, (kernel, expansion) in enumerate(blocks):
                options[f"stage{s}.block{i}.kernel"] = kernel
                options[f"stage{s}.block{i}.expansion"] = expansion
        if s == 0 or blocks:
            options[f"stage{s}.width"] = width
            options[f"stage{s}.squeeze_excite"] = squeeze_excite
            options[f"stage{s}.activation"] = activation
    options["head.width"], options["head.hidden"], options["head.activation"] = head
    return options


LEFT_OUT = (0, False, "", ())
KNOWN = {
    "mobilenet_v3_large": Known(
        member(
            (16, "hard_swish"),
            (
                (16, False, "relu", ((3, 1.0),)),
                (24, False, "relu", ((3, 4.0), (3, 3.0))),
                (40, True, "relu", ((5, 3.0), (5, 3.0), (5, 3.0))),
                (80, False, "hard_swish", ((3, 6.0), (3, 2.5), (3, 2.25), (3, 2.25))),
                (112, True, "hard_swish", ((3, 6.0), (3, 6.0))),
                (160, True, "hard_swish", ((5, 6.0), (5, 6.0), (5, 6.0))),
                LEFT_OUT,
            ),
            (960, 1280, "hard_swish"),
        ),
        "Howard et al. 2019, arXiv:1905.02244, table 1; the same network, without dropout",
        params=5.4e6,
        flops=2 * 219e6,
    ),
    "mobilenet_v3_small": Known(
        member(
            (16, "hard_swish"),
            (
                (16, True, "relu", ((3, 1.0),)),
                (24, False, "relu", ((3, 4.5), (3, 3.5))),
                (40, True, "hard_swish", ((5, 4.0), (5, 6.0), (5, 6.0))),
                LEFT_OUT,
                (48, True, "hard_swish", ((5, 3.0), (5, 3.0))),
                (96, True, "hard_swish", ((5, 6.0), (5, 6.0), (5, 6.0))),
                LEFT_OUT,
            ),
            (576, 1024, "hard_swish"),
        ),
        "Howard et al. 2019, arXiv:1905.02244, table 2; without the squeeze-excite in the last "
        "1x1 convolution (as torchvision) and without dropout",
        params=2.5e6,
        flops=2 * 56e6,
    ),
    "proxylessnas_mobile": Known(
        member(
            (32, "relu"),
            (
                (16, False, "relu", ((3, 1.0),)),
                (32, False, "relu", ((5, 3.0), (3, 3.0))),
                (40, False, "relu", ((7, 3.0), (3, 3.0), (5, 3.0), (5, 3.0))),
                (80, False, "relu", ((7, 6.0), (5, 3.0), (5, 3.0), (5, 3.0))),
                (96, False, "relu", ((5, 6.0), (5, 3.0), (5, 3.0), (5, 3.0))),
                (192, False, "relu", ((7, 6.0), (7, 6.0), (7, 3.0), (7, 3.0))),
                (320, False, "relu", ((7, 6.0),)),
            ),
            (1280, 0, "relu"),
        ),
        "Cai et al. 2019, arXiv:1812.00332, and its published configuration; ReLU for ReLU6",
        params=4_080_512,
        flops=2 * 320e6,
    ),
    "proxylessnas_gpu": Known(
        member(
            (40, "relu"),
            (
                (24, False, "relu", ((3, 1.0),)),
                (32, False, "relu", ((5, 3.0),)),
                (56, False, "relu", ((7, 3.0), (3, 3.0))),
                (112, False, "relu", ((7, 6.0), (5, 3.0))),
                (128, False, "relu", ((5, 6.0), (3, 3.0), (5, 3.0))),
                (256, False, "relu", ((7, 6.0), (7, 6.0), (7, 6.0), (5, 6.0))),
                (432, False, "relu", ((7, 6.0),)),
            ),
            (1728, 0, "relu"),
        ),
        "Cai et al. 2019, arXiv:1812.00332, and its published configuration; ReLU for ReLU6",
        params=7_119_848,
    ),
}

SPACE = Space(
    "mobile",
    (
        Decision("stem.width", (16, 32, 40), "channels of the first convolution", ordered=True),
        Decision("stem.activation", ACTIVATIONS, "the nonlinearity of the first convolution"),
        *(decision for s in range(len(STAGES)) for decision in _stage(s)),
        Decision(
            "head.width", (576, 960, 1280, 1728), "channels that are averaged at the end", True
        ),
        Decision("head.hidden", (0, 1024, 1280), "units between the average and the classes", True),
        Decision("head.activation", ACTIVATIONS, "the nonlinearity after the last stage"),
    ),
    build=build,
    known=KNOWN,
)

"""Once-for-all networks: elastic kernels, expansions, depths, width and resolution, and per stage
the bits of the weights and the share of channels that is pruned.

Once-for-all (Cai et al. 2020, arXiv:1908.09791) in the shape of MobileNetV3; AttentiveNAS (Wang et
al. 2021, arXiv:2011.09011) searches a space of the same kind. Each design is a network of its own,
without shared weights. Beyond the papers: widths below 1, and per stage `bits`, to which the
weights of its convolutions are rounded as they act (activations are not: the file gets smaller,
`raynas.compression`, the network no faster), and `pruning`, the share of the channels inside its
blocks that is taken out. Pruning 0.25 of four times the channels leaves three times: `canonical`
knows such designs for one. Departures: the resolution is a share of the image's side, and the
strides stay those of the full image, so that a lower resolution costs less; no dropout. On small
images halvings are left out from the front until 4 pixels remain on the shorter side. Takes images
of 8x8 and up.
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
DEPTHS = (2, 3, 4)
EXPANSIONS = (3, 4, 6)
PRUNING = (0.0, 0.25, 0.5)
STEM, HEAD, HIDDEN = 16, 960, 1280  # channels at width 1


@dataclass(frozen=True)
class Stage:
    """What MobileNetV3-Large fixes of a stage."""

    channels: int
    stride: int
    activation: str
    squeeze_excite: bool


STAGES = (
    Stage(24, 2, "relu", False),
    Stage(40, 2, "relu", True),
    Stage(80, 2, "hard_swish", False),
    Stage(112, 1, "hard_swish", True),
    Stage(160, 2, "hard_swish", True),
)


def _stage(name: str) -> tuple[Decision, ...]:
    choices = [
        Decision(f"{name}.depth", DEPTHS, "blocks in the stage", ordered=True),
        Decision(
            f"{name}.bits", (4, 8, 32), "bits of each weight in the stage's convolutions", True
        ),
        Decision(f"{name}.pruning", PRUNING, "share of the channels inside blocks taken out", True),
    ]
    for i in range(max(DEPTHS)):
        deeper = frozenset(depth for depth in DEPTHS if depth > i)
        when = None if len(deeper) == len(DEPTHS) else (f"{name}.depth", deeper)
        block = f"{name}.block{i}"
        inside = "how many times more channels the block has inside, before pruning"
        choices += [
            Decision(f"{block}.kernel", (3, 5, 7), "pixels that a filter spans", True, when),
            Decision(f"{block}.expansion", EXPANSIONS, inside, True, when),
        ]
    return tuple(choices)


def canonical(architecture: Architecture) -> str:
    """The text of the design that prunes least of all that leave the same channels."""
    options = dict(architecture.options)
    for s in range(1, len(STAGES) + 1):
        pruned = float(options[f"stage{s}.pruning"])
        names = [n for n in options if n.startswith(f"stage{s}.") and n.endswith(".expansion")]
        for less in (share for share in PRUNING if share < pruned):
            plain = {n: int(options[n]) * (1 - pruned) / (1 - less) for n in names}
            if set(plain.values()) <= set(EXPANSIONS):
                options |= {n: int(expansion) for n, expansion in plain.items()}
                options[f"stage{s}.pruning"] = less
                break
    return str(Architecture(architecture.space, tuple(options.items())))


def build(
    architecture: Architecture, input_shape: tuple[int, int, int], num_classes: int
) -> nn.Module:
    """Builds the network: images `[N, C, H, W]` -> logits `[N, num_classes]`.

    Raises:
        UserError: the images are smaller than 8x8.
    """
    from torch import nn

    from raynas.blocks import MBConv, Resize, normalized, rounded
    from raynas.operations import kept_strides, require_side

    require_side(SPACE.name, SMALLEST, input_shape)
    pick, times = architecture.options, float(architecture["width"])
    firsts = kept_strides([2, *(stage.stride for stage in STAGES)], min(input_shape[1:]))

    width = rounded(STEM * times)
    parts: dict[str, nn.Module] = {}
    if pick["resolution"] != 1.0:
        parts["resize"] = Resize(float(pick["resolution"]))
    parts["stem"] = normalized(input_shape[0], width, 3, firsts[0], "hard_swish")
    parts["first"] = MBConv(width, width, 3, 1, hidden=width, activation="relu")
    for s, stage in enumerate(STAGES, start=1):
        kept, c_out = 1 - float(pick[f"stage{s}.pruning"]), rounded(stage.channels * times)
        for i in range(int(pick[f"stage{s}.depth"])):
            hidden = round(width * int(pick[f"stage{s}.block{i}.expansion"]) * kept)
            parts[f"stage{s}_block{i}"] = MBConv(
                width,
                c_out,
                int(pick[f"stage{s}.block{i}.kernel"]),
                firsts[s] if i == 0 else 1,
                hidden,
                stage.activation,
                rounded(hidden / 4) if stage.squeeze_excite else 0,
                gate="hard_sigmoid",
                bits=int(pick[f"stage{s}.bits"]),
            )
            width = c_out

    features, hidden = rounded(HEAD * times), rounded(HIDDEN * times)
    parts["head"] = nn.Sequential(
        normalized(width, features, 1, 1, "hard_swish"),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(features, hidden, bias=False),
        nn.Hardswish(inplace=True),
    )
    parts["classifier"] = nn.Linear(hidden, num_classes)
    return nn.Sequential(OrderedDict(parts))


def member(
    width: float, stages: Sequence[Sequence[tuple[int, int]]], bits: int = 32
) -> Mapping[str, Option]:
    """Options by decision of an unpruned network: (kernel, expansion) per block, for each stage."""
    options: dict[str, Option] = {"resolution": 1.0, "width": width}
    for s, blocks in enumerate(stages, start=1):
        options |= {f"stage{s}.depth": len(blocks), f"stage{s}.bits": bits}
        options[f"stage{s}.pruning"] = 0.0
        for i, (kernel, expansion) in enumerate(blocks):
            options[f"stage{s}.block{i}.kernel"] = kernel
            options[f"stage{s}.block{i}.expansion"] = expansion
    return options


PUBLISHED = (
    "Cai et al. 2020, arXiv:1908.09791, and the table of once-for-all's specialized networks"
)
KNOWN = {
    "ofa_flops_595m": Known(
        member(
            1.2,
            (
                ((3, 3), (5, 4), (3, 3)),
                ((5, 4), (5, 4), (3, 6), (5, 3)),
                ((7, 6), (5, 6), (3, 3), (5, 4)),
                ((3, 6), (5, 6), (7, 6), (3, 4)),
                ((3, 6), (3, 6), (5, 6), (3, 3)),
            ),
        ),
        f"{PUBLISHED} (80.0 % on ImageNet, 236 pixels)",
        params=9.1e6,
        flops=2 * 595e6,
        input_shape=(3, 236, 236),
    ),
    "ofa_note8_31ms": Known(
        member(
            1.0,
            (
                ((5, 3), (3, 3)),
                ((5, 4), (5, 3)),
                ((3, 4), (3, 4), (5, 4)),
                ((3, 4), (5, 3), (7, 4)),
                ((3, 6), (3, 3), (5, 3), (5, 3)),
            ),
        ),
        f"{PUBLISHED} (72.8 %, 152 pixels)",
        params=4.6e6,
        flops=2 * 101e6,
        input_shape=(3, 152, 152),
    ),
    "ofa_note8_22ms": Known(
        member(
            1.0,
            (
                ((3, 3), (3, 3)),
                ((5, 3), (5, 3)),
                ((7, 4), (3, 3)),
                ((5, 3), (3, 4)),
                ((3, 6), (7, 6)),
            ),
        ),
        f"{PUBLISHED} (70.4 %, 140 pixels)",
        params=4.3e6,
        flops=2 * 67e6,
        input_shape=(3, 140, 140),
    ),
    "ofa_largest": Known(
        member(1.0, [[(7, 6)] * 4] * 5),
        "Cai et al. 2020, arXiv:1908.09791: the largest network at width 1; size as MMRazor's "
        "once-for-all page states it",
        params=7.6e6,
    ),
}

SPACE = Space(
    "elastic",
    (
        Decision("resolution", (0.5, 0.75, 1.0), "the image's side, as a share of what came", True),
        Decision("width", (0.5, 0.75, 1.0, 1.2), "multiplies the channels of all layers", True),
        *(decision for s in range(1, len(STAGES) + 1) for decision in _stage(f"stage{s}")),
    ),
    canonical=canonical,
    build=build,
    known=KNOWN,
)

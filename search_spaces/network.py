"""Whole networks: 3 to 6 stages, each of convolutions, bottlenecks, inverted residuals (MBConv) or
transformer blocks, with its own depth, width, kernel, expansion and stride.

The space of a general guide to architecture search, with ResNet-18, 34 and 50 (He et al. 2016,
arXiv:1512.03385) as exact members. Blocks: two convolutions with a shortcut (ResNet-18); a
bottleneck, whose `width` is that of its inner convolution and whose output is `expansion` times
wider (ResNet-50); an inverted residual without squeeze-excite (MobileNetV2, Sandler et al. 2018,
with swish); attention with heads of 32 numbers and an MLP (`raynas.attention.MapTransformer`,
which averages keys to at most 14x14, so that stages on large maps fit into memory), after a 3x3
convolution that enters the stage. In a transformer `kernel` is that of the convolution that tells
positions apart. The stem halves large images twice, as ResNet's: by its stride and by max-pooling.
On small images halvings are left out from the front until 4 pixels remain on the shorter side, so
parameters do not depend on the image. Takes images of 8x8 and up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from raynas.architecture import Architecture, Decision, Option
from raynas.errors import UserError
from raynas.space import Known, Space

if TYPE_CHECKING:
    from torch import Tensor, nn

SMALLEST = 8  # pixels on a side
STAGES, DEPTHS = (3, 4, 5, 6), tuple(range(1, 11))
WIDTHS = (16, 32, 64, 96, 128, 192, 256, 384, 512)
HEAD_WIDTH = 32


def _stage(
    s: int,
    stages: tuple[int, ...] = STAGES,
    depths: tuple[int, ...] = DEPTHS,
    widths: tuple[int, ...] = WIDTHS,
) -> tuple[Decision, ...]:
    more, name = frozenset(n for n in stages if n > s), f"stage{s}"
    when = None if len(more) == len(stages) else ("num_stages", more)
    types = ("conv", "bottleneck", "mbconv", "transformer")
    return (
        Decision(f"{name}.type", types, "what the stage's blocks are made of", when=when),
        Decision(f"{name}.depth", depths, "blocks in the stage", True, when),
        Decision(
            f"{name}.width",
            widths,
            "channels of the stage; of a bottleneck, before they are expanded",
            True,
            when,
        ),
        Decision(f"{name}.kernel", (3, 5, 7), "pixels that a filter spans", True, when),
        Decision(f"{name}.stride", (1, 2), "2 halves the map at the entry", True, when),
        Decision(
            f"{name}.expansion",
            (2, 4, 6),
            "how many times wider than the rest the widest part of a block is",
            True,
            (f"{name}.type", frozenset(types[1:])),
        ),
    )


def wanted_strides(architecture: Architecture) -> list[int]:
    """What large images are divided by: by the stem, its max-pooling, and each stage."""
    number = int(architecture["num_stages"])
    return [2, 2, *(int(architecture[f"stage{s}.stride"]) for s in range(number))]


def build(
    architecture: Architecture, input_shape: tuple[int, int, int], num_classes: int
) -> nn.Module:
    """Builds the network: images `[N, C, H, W]` -> logits `[N, num_classes]`.

    Raises:
        UserError: the images are smaller than 8x8.
    """
    from torch import nn

    from raynas.blocks import normalized
    from raynas.operations import kept_strides, require_side

    require_side(SPACE.name, SMALLEST, input_shape)
    wanted = wanted_strides(architecture)
    strides = kept_strides(wanted, min(input_shape[1:]))

    class Network(nn.Sequential):
        def extra_repr(self) -> str:
            return f"strides={strides[2:]}, on large images {wanted[2:]}"

    width, kernel = int(architecture["stem.width"]), int(architecture["stem.kernel"])
    stem = normalized(input_shape[0], width, kernel, strides[0], "relu")
    if strides[1] == 2:
        stem.append(nn.MaxPool2d(3, 2, 1))
    parts: dict[str, nn.Module] = {"stem": stem}
    for s in range(int(architecture["num_stages"])):
        blocks, width = _blocks(architecture, s, width, strides[2 + s])
        parts |= {f"stage{s}_{i}": block for i, block in enumerate(blocks)}
    parts["head"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    parts["classifier"] = nn.Linear(width, num_classes)
    return Network(OrderedDict(parts))


def _blocks(
    architecture: Architecture, s: int, c_in: int, stride: int
) -> tuple[list[nn.Module], int]:
    """The blocks of a stage, and the channels that leave it.

    Args:
        c_in: channels that enter the stage.
        stride: that the stage takes, which on small images may not be the one decided.
    """
    pick = {d.leaf: architecture.options.get(d.name, 1) for d in _stage(s)}
    depth, width, kernel = int(pick["depth"]), int(pick["width"]), int(pick["kernel"])
    expansion, blocks = int(pick["expansion"]), []
    for i in range(depth):
        if pick["type"] == "mbconv":
            block, c_out = _mbconv(c_in, width, kernel, stride, expansion), width
        elif pick["type"] == "transformer":
            entered = None if i else c_in
            block = _transformer(entered, width, kernel, stride, expansion, last=i + 1 == depth)
            c_out = width
        else:
            bottleneck = pick["type"] == "bottleneck"
            c_out = width * expansion if bottleneck else width
            same = c_in == c_out and (i > 0 or pick["stride"] == 1)
            make = (c_in, width, c_out) if bottleneck else (c_in, width)
            block = _residual(make, kernel, stride, same)
        blocks.append(block)
        c_in, stride = c_out, 1
    return blocks, c_in


def _mbconv(c_in: int, width: int, kernel: int, stride: int, expansion: int) -> nn.Module:
    from raynas.blocks import MBConv

    return MBConv(c_in, width, kernel, stride, c_in * expansion, "swish")


def _transformer(
    c_in: int | None, width: int, kernel: int, stride: int, expansion: int, last: bool
) -> nn.Module:
    """A transformer block; one that is entered (`c_in`) begins, the last one ends the stage."""
    from torch import nn

    from raynas.attention import MapTransformer
    from raynas.blocks import normalized

    class Transformer(nn.Sequential):
        """With the convolution that enters its stage, or the batch norm that ends it."""

    heads = max(width // HEAD_WIDTH, 1)
    parts: dict[str, nn.Module] = {"enter": normalized(c_in, width, 3, stride)} if c_in else {}
    parts["block"] = MapTransformer(width, heads, width // heads, expansion * width, kernel)
    parts |= {"norm": nn.BatchNorm2d(width)} if last else {}
    return Transformer(OrderedDict(parts))


def _residual(widths: tuple[int, ...], kernel: int, stride: int, same: bool) -> nn.Module:
    """Two convolutions, or 1x1, k x k and 1x1, added to what enters them; ReLU.

    Args:
        widths: channels that enter, and that leave the first convolution and, if given, the last.
        same: nothing changes shape, also on large images; else a 1x1 convolution stands in the
            shortcut, so that small images do not change the parameters.
    """
    from torch import nn

    from raynas.blocks import normalized

    c_in, inside, c_out = widths[0], widths[1], widths[-1]
    # Parts are named by what they do: a supernet shares by names.
    if len(widths) == 3:
        branch = {
            "narrow": normalized(c_in, inside, 1, 1, "relu"),
            "filter": normalized(inside, inside, kernel, stride, "relu"),
            "widen": normalized(inside, c_out, 1),
        }
    else:
        branch = {
            "conv0": normalized(c_in, inside, kernel, stride, "relu"),
            "conv1": normalized(inside, c_out, kernel),
        }
    shortcut = {} if same else {f"past_{'_'.join(branch)}": normalized(c_in, c_out, 1, stride)}

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch = nn.Sequential(OrderedDict(branch))
            self.shortcut = nn.Sequential(OrderedDict(shortcut))
            self.activation = nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.activation(self.branch(x) + self.shortcut(x))
            return y

    return Residual()


def resnet(kind: str, depths: tuple[int, ...]) -> Mapping[str, Option]:
    """The options of a ResNet of four stages."""
    options: dict[str, Option] = {"num_stages": 4, "stem.kernel": 7, "stem.width": 64}
    for s, depth in enumerate(depths):
        options |= {f"stage{s}.type": kind, f"stage{s}.depth": depth, f"stage{s}.kernel": 3}
        options |= {f"stage{s}.width": 64 * 2**s, f"stage{s}.stride": 2 if s else 1}
        if kind == "bottleneck":
            options[f"stage{s}.expansion"] = 4
    return options


HE = "He et al. 2016, arXiv:1512.03385; sizes as torchvision has them"
LATE = f"{HE}, whose 3x3 convolutions halve (the paper's first 1x1: 3.8 G multiply-adds)"
KNOWN = {
    "resnet18": Known(resnet("conv", (2, 2, 2, 2)), HE, 11_689_512, 2 * 1.814e9),
    "resnet34": Known(resnet("conv", (3, 4, 6, 3)), HE, 21_797_672, 2 * 3.664e9),
    "resnet50": Known(resnet("bottleneck", (3, 4, 6, 3)), LATE, 25_557_032, 2 * 4.089e9),
}


def space(stages: int = 6, depth: int = 10, width: int = 512) -> Space:
    """The space up to so many stages, blocks in a stage, and channels of a stage."""
    if stages < STAGES[0] or depth < DEPTHS[0] or width < WIDTHS[0]:
        raise UserError(
            "network: expected stages of 3 or more, a depth of 1 or more and a width of 16 or "
            f"more; got {stages}, {depth} and {width}. All of the space is "
            "stages=6,depth=10,width=512."
        )
    numbers = tuple(n for n in STAGES if n <= stages)
    depths = tuple(d for d in DEPTHS if d <= depth)
    widths = tuple(w for w in WIDTHS if w <= width)
    decisions = (
        Decision("num_stages", numbers, "how many stages follow each other", ordered=True),
        Decision("stem.kernel", (3, 7), "pixels that a filter of the stem spans", ordered=True),
        Decision("stem.width", (16, 32, 64), "channels of the stem", ordered=True),
        *(decision for s in range(max(numbers)) for decision in _stage(s, numbers, depths, widths)),
    )
    offered = {d.name: d.options for d in decisions}
    members = {
        title: known
        for title, known in KNOWN.items()
        if all(option in offered.get(name, ()) for name, option in known.options.items())
    }
    return Space("network", decisions, build=build, known=members, notes=NOTES)


NOTES = (
    "Designs have 0.01 M to over 1000 M parameters. --max-params, or a smaller part of the space "
    "such as network:depth=3,width=64, keeps the search to what fits your machine.",
)
SPACE = space()

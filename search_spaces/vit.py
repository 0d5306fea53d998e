"""Vision transformers: patch size, stem, embedding and depth, and for each block its heads and
the width of its MLP.

The space of AutoFormer (Chen et al. 2021, arXiv:2107.00651): heads compare 64 numbers each,
whatever the embedding. The stem cuts the image into patches (ViT, Dosovitskiy et al. 2021), or is
a stack of 3x3 convolutions of stride 2 (Xiao et al. 2021, arXiv:2106.14881) that doubles the
channels up to the embedding. DeiT-Ti and DeiT-S (Touvron et al. 2021, arXiv:2012.12877), without
distillation, are members. Departures: one decision per block rather than relative positions and
separate query widths; no dropout or stochastic depth. Images are padded with zeros at the right
and bottom to whole patches; the learned positions make the number of parameters depend on the
size of the images. Takes images of 16x16 and up, which the largest patch covers;
`vit:patch_size=8` takes images of 8x8.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING

from raynas.architecture import Architecture, Decision
from raynas.errors import UserError
from raynas.space import Known, Space

if TYPE_CHECKING:
    from torch import Tensor, nn

HEAD_WIDTH = 64
PATCH_SIZES = (4, 8, 16)
EMBEDDINGS = (64, 128, 192, 256, 320, 384)
DEPTHS = (2, 4, 6, 8, 10, 11, 12, 13, 14)


def _block(i: int, depths: tuple[int, ...]) -> tuple[Decision, ...]:
    deeper = frozenset(depth for depth in depths if depth > i)
    when = None if len(deeper) == len(depths) else ("depth", deeper)
    return (
        Decision(
            f"block{i}.heads",
            (1, 2, 3, 4, 6),
            f"attentions of {HEAD_WIDTH} numbers side by side",
            True,
            when,
        ),
        Decision(
            f"block{i}.mlp_ratio",
            (1.0, 2.0, 3.0, 3.5, 4.0),
            "how many times wider than the embedding the MLP is inside",
            True,
            when,
        ),
    )


def build(
    architecture: Architecture,
    input_shape: tuple[int, int, int],
    num_classes: int,
    patch_size: int = 16,
) -> nn.Module:
    """Builds the network: images `[N, C, H, W]` -> logits `[N, num_classes]`.

    Args:
        patch_size: the largest of the space; what is refused does not depend on the design.

    Raises:
        UserError: the images are smaller than the largest patch.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    from raynas.attention import TransformerBlock, linear
    from raynas.blocks import normalized
    from raynas.operations import require_side

    require_side("vit", patch_size, input_shape)
    channels, height, width = input_shape
    patch, embedding = int(architecture["stem.patch_size"]), int(architecture["embedding"])

    class Stem(nn.Module):
        """Whole patches of `[N, C, H, W]` -> `[N, embedding, H / patch, W / patch]`."""

        def __init__(self) -> None:
            super().__init__()
            if not architecture["stem.convolutions"]:
                self.embed: nn.Module = nn.Conv2d(channels, embedding, patch, patch)
                return
            halvings = int(math.log2(patch))
            widths = [embedding >> (halvings - 1 - k) for k in range(halvings)]
            pairs = zip([channels, *widths], widths, strict=False)
            convolutions = [normalized(c_in, c_out, 3, 2, "relu") for c_in, c_out in pairs]
            self.embed = nn.Sequential(*convolutions, nn.Conv2d(embedding, embedding, 1))

        def forward(self, x: Tensor) -> Tensor:
            rest = [-side % patch for side in x.shape[-2:]]
            embedded: Tensor = self.embed(functional.pad(x, (0, rest[1], 0, rest[0])))
            return embedded

    class Tokens(nn.Module):
        """A map `[N, embedding, h, w]` -> tokens `[N, 1 + h w, embedding]` that know their place.

        The first token belongs to no patch; it gathers what the classifier reads.
        """

        def __init__(self) -> None:
            super().__init__()
            number = 1 + math.ceil(height / patch) * math.ceil(width / patch)
            self.class_token = nn.Parameter(torch.empty(1, 1, embedding))
            self.position = nn.Parameter(torch.empty(1, number, embedding))
            nn.init.trunc_normal_(self.class_token, std=0.02)
            nn.init.trunc_normal_(self.position, std=0.02)

        def forward(self, x: Tensor) -> Tensor:
            patches = x.flatten(2).transpose(1, 2)
            first = self.class_token.expand(x.shape[0], -1, -1)
            return torch.cat([first, patches], dim=1) + self.position

        def extra_repr(self) -> str:
            return f"number={self.position.shape[1]}"

    class ClassToken(nn.Module):
        """Tokens `[N, L, embedding]` -> the first one, normalized."""

        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(embedding, eps=1e-6)

        def forward(self, tokens: Tensor) -> Tensor:
            first: Tensor = self.norm(tokens[:, 0])
            return first

    parts: dict[str, nn.Module] = {"stem": Stem(), "tokens": Tokens()}
    for i in range(int(architecture["depth"])):
        heads = int(architecture[f"block{i}.heads"])
        hidden = int(embedding * float(architecture[f"block{i}.mlp_ratio"]))
        parts[f"block{i}"] = TransformerBlock(embedding, heads, HEAD_WIDTH, hidden)
    parts |= {"head": ClassToken(), "classifier": linear(embedding, num_classes)}
    return nn.Sequential(OrderedDict(parts))


def _member(
    embedding: int, heads: int, ratio: float = 4.0, depth: int = 12, convolutions: bool = False
) -> dict[str, bool | int | float]:
    blocks = {f"block{i}.heads": heads for i in range(depth)}
    ratios = {f"block{i}.mlp_ratio": ratio for i in range(depth)}
    stem = {"stem.patch_size": 16, "stem.convolutions": convolutions}
    return {**stem, "embedding": embedding, "depth": depth, **blocks, **ratios}


DEIT = "Touvron et al. 2021, arXiv:2012.12877, without distillation"
XIAO = "Xiao et al. 2021, arXiv:2106.14881; one block fewer than with patches"
KNOWN = {
    "deit_tiny": Known(_member(192, 3), DEIT, params=5_717_416, flops=2 * 1.3e9),
    "deit_small": Known(_member(384, 6), DEIT, params=22_050_664, flops=2 * 4.6e9),
    "vit_c_1gf": Known(_member(192, 3, 3.0, 11, True), XIAO, params=4.6e6, flops=2 * 1.1e9),
}


def space(patch_size: int = 16, embedding: int = 384, depth: int = 14) -> Space:
    """The space up to patches, embeddings and a depth of this size."""
    if patch_size < PATCH_SIZES[0] or embedding < EMBEDDINGS[0] or depth < DEPTHS[0]:
        raise UserError(
            "vit: expected a patch size of 4 or more, an embedding of 64 or more and a depth of 2 "
            f"or more; got {patch_size}, {embedding} and {depth}. All of the space is "
            "patch_size=16,embedding=384,depth=14."
        )
    patch_sizes = tuple(p for p in PATCH_SIZES if p <= patch_size)
    embeddings = tuple(e for e in EMBEDDINGS if e <= embedding)
    depths = tuple(d for d in DEPTHS if d <= depth)
    decisions = (
        Decision("stem.patch_size", patch_sizes, "pixels on a side of what becomes a token", True),
        Decision(
            "stem.convolutions",
            (False, True),
            "finds the tokens by stacked 3x3 convolutions instead of cutting the image up",
        ),
        Decision("embedding", embeddings, "numbers in a token", ordered=True),
        Decision("depth", depths, "how many transformer blocks follow each other", ordered=True),
        *(decision for i in range(max(depths)) for decision in _block(i, depths)),
    )
    offered = {d.name: d.options for d in decisions}
    members = {
        title: known
        for title, known in KNOWN.items()
        if all(option in offered.get(name, ()) for name, option in known.options.items())
    }
    return Space("vit", decisions, build=partial(build, patch_size=max(patch_sizes)), known=members)


SPACE = space()

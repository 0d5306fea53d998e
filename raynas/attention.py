"""Transformer blocks: over tokens, as in ViT, and over the positions of a feature map."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

from raynas.operations import convolution

MOST_KEYS = 14  # a feature map's positions look at a grid of at most 14x14 others


def linear(features_in: int, features_out: int) -> nn.Linear:
    """A linear layer that starts small: normal with deviation 0.02, cut at two; biases zero."""
    layer = nn.Linear(features_in, features_out)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer


class Attention(nn.Module):
    """Multi-head self-attention. Vaswani et al. 2017, arXiv:1706.03762.

    Args:
        width: of a token.
        heads, head_width: how many attend side by side, and how many numbers each compares; their
            product need not be `width`.
    """

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries = linear(width, heads * head_width)
        self.keys_values = linear(width, 2 * heads * head_width)
        self.merge = linear(heads * head_width, width)

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """Tokens `[N, L, width]` that look at `[N, S, width]` -> `[N, L, width]`."""
        queries = self.queries(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2)
        both = self.keys_values(seen).unflatten(2, (2, self.heads, -1))
        keys, values = both.permute(2, 0, 3, 1, 4).unbind(0)  # each [N, heads, S, head width]
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        merged: Tensor = self.merge(mixed.transpose(1, 2).flatten(2))
        return merged

    def extra_repr(self) -> str:
        """The heads, which the layers' sizes do not tell."""
        return f"heads={self.heads}"


class TransformerBlock(nn.Module):
    """Attention, then two linear layers per token, each added to what they read normalized.

    Dosovitskiy et al. 2021, arXiv:2010.11929.

    Args:
        width: of a token.
        heads, head_width: of the attention.
        hidden: features between the two linear layers.
    """

    def __init__(self, width: int, heads: int, head_width: int, hidden: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, heads, head_width)
        self.mlp_norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(linear(width, hidden), nn.GELU(), linear(hidden, width))

    def forward(self, tokens: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Keeps the shape `[N, L, width]`.

        Args:
            tokens: each looks at all.
            grid: height and width of the map whose rows the tokens are; given, each looks at the
                averages of `pooled` instead.
        """
        x = self.attention_norm(tokens)
        tokens = tokens + self.attention(x, pooled(x, grid) if grid else x)
        changed: Tensor = self.mlp(self.mlp_norm(tokens))
        return tokens + changed


def pooled(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Averages neighbouring tokens until their grid has at most MOST_KEYS rows and columns."""
    windows = [math.ceil(side / MOST_KEYS) for side in grid]
    if windows == [1, 1]:
        return tokens
    image = tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *grid)
    small = functional.avg_pool2d(image, windows, ceil_mode=True)
    return small.flatten(2).transpose(1, 2)


class MapTransformer(nn.Module):
    """A transformer block over the positions of a feature map.

    Positions are told apart by a depthwise convolution that is added first (Li et al. 2022,
    UniFormer, arXiv:2201.09450). Large maps stay affordable because their positions look at
    averages over windows (Wang et al. 2022, PVTv2, arXiv:2106.13797), at 14x14 at most.
    """

    def __init__(self, width: int, heads: int, head_width: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.position = convolution(width, width, kernel, 1, groups=width)
        self.block = TransformerBlock(width, heads, head_width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape `[N, width, H, W]`."""
        x = x + self.position(x)
        grid = (x.shape[2], x.shape[3])
        tokens: Tensor = self.block(x.flatten(2).transpose(1, 2), grid)
        return tokens.transpose(1, 2).reshape(x.shape)

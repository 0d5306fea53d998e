"""By option decisions about how a network's weights are kept: their bits, and which are zero.

What they do to a network, and what it is good for: `raynas.compression`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from raynas.architecture import Architecture, Decision
from raynas.errors import UserError
from raynas.recipe import extended
from raynas.space import Build, Shape, Space

if TYPE_CHECKING:
    from torch import nn

PARTS = {"early": "first", "middle": "second", "late": "last"}
DECISIONS = tuple(
    decision
    for part, third in PARTS.items()
    for decision in (
        Decision(
            f"compress.{part}.bits",
            (4, 8, 32),
            f"bits of each weight in the {third} third of the layers",
            ordered=True,
        ),
        Decision(
            f"compress.{part}.pruning",
            (0.0, 0.5, 0.75),
            f"share of the weights in the {third} third of the layers that are set to zero",
            ordered=True,
        ),
    )
)
NOTE = (
    "Bits and pruning of weights make a network's file small, not the network fast: it runs in "
    "floats, and so its latency is measured."
)


def with_compression(space: Space) -> Space:
    """The space of designs together with how the weights of each of them are kept.

    The six decisions under `compress` are searched like any other: bits and pruning of each third
    of the convolutions and linear layers, counted in the order in which the network has them. Two
    compressions of one network are two designs.

    Raises:
        UserError: the space decides bits itself.
    """
    if any(d.leaf == "bits" for d in space.decisions):
        raise UserError(
            f"expected a space without bits and pruning of its own to search compression in; got "
            f"{space.name}, which decides them itself. Leave --search-compression away."
        )
    build = _Compressing(space.build) if space.build else None
    return replace(extended(space, DECISIONS), build=build, notes=(*space.notes, NOTE))


@dataclass(frozen=True)
class _Compressing:
    """Builds a design's network, then compresses it."""

    plain: Build

    def __call__(
        self, architecture: Architecture, input_shape: Shape, num_classes: int
    ) -> nn.Module:
        from raynas.compression import compress

        thirds = [
            (
                int(architecture[f"compress.{part}.bits"]),
                float(architecture[f"compress.{part}.pruning"]),
            )
            for part in PARTS
        ]
        return compress(self.plain(architecture, input_shape, num_classes), thirds)

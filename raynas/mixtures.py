"""Networks with all options of every edge side by side, each with a weight.

What an edge carries is the sum of what its options make of a value, times their weights (Liu et
al. 2019, arXiv:1806.09055). Options whose weight is zero are not computed, so that with a single
one on each edge a mixture costs no more than that design alone, and computes the same. What gets
nothing is nothing, as in the designs' own networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raynas.architecture import Architecture
from raynas.cells import Cell, CellNetwork, layer_name
from raynas.errors import UserError
from raynas.graphs import Edge

NOTHING = "none"  # the option that carries nothing, in all spaces

Edges = Mapping[str, tuple[str, ...]]  # edge -> its options
Paths = Mapping[str, Sequence[int]]  # edge -> the numbers of some of its options


@dataclass(frozen=True)
class Share:
    """What is computed on an edge.

    Attributes:
        options: those that are computed, each with its weight (a tensor without dimensions).
        factor: of the sum; None is 1.
    """

    options: tuple[tuple[str, Tensor], ...]
    factor: Tensor | None = None


Run = Callable[["Mixture", Tensor, Mapping[str, Share]], Tensor]


class Mixture(nn.Module):
    """A network of weighted options, whose layers are named as in the designs' networks.

    Args:
        layers: its children by name.
        edges: its edges with their options. What stands before the last dot of an edge's name is
            the node that it enters.
        taken: the edges that a design has, with the option of each.
        run: (the mixture, images, what to compute on each edge) -> logits.
    """

    def __init__(
        self,
        layers: Iterable[tuple[str, nn.Module]],
        edges: Edges,
        taken: Callable[[Architecture], Mapping[str, str]],
        run: Run,
    ) -> None:
        super().__init__()
        self.edges, self.taken, self._run = edges, taken, run
        for name, layer in layers:
            self.add_module(name, layer)

    @cached_property
    def every(self) -> Paths:
        """All options of all edges."""
        return {edge: range(len(options)) for edge, options in self.edges.items()}

    def forward(
        self,
        images: Tensor,
        weights: Mapping[str, Tensor],
        paths: Paths | None = None,
        factors: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Images `[N, C, H, W]` -> logits `[N, num_classes]`.

        Args:
            weights: per edge one number for each of its options, `[options]`.
            paths: what is computed on each edge: also a weight of zero has a gradient there. None
                means what has another weight than zero, for which the device is waited for.
            factors: per edge of what is summed up on it, `[]`; None means 1.
        """
        shares: dict[str, Share] = {}
        for edge, chosen in (paths or _weighty(weights)).items():
            options, each = self.edges[edge], weights[edge].unbind()
            kept = tuple((options[i], each[i]) for i in chosen if options[i] != NOTHING)
            shares[edge] = Share(kept, factors[edge] if factors else None)
        return self._run(self, images, shares)


def _weighty(weights: Mapping[str, Tensor]) -> Paths:
    numbers = iter(torch.cat([w.detach() for w in weights.values()]).tolist())
    every = {edge: [next(numbers) for _ in range(len(w))] for edge, w in weights.items()}
    return {edge: [i for i, w in enumerate(row) if w] for edge, row in every.items()}


def blended(
    x: Tensor, share: Share, operation: Callable[[str], nn.Module], part: int = 1, stride: int = 1
) -> Tensor | None:
    """What an edge carries; None if that is nothing.

    Args:
        x: the value that it reads, `[N, C, H, W]`.
        operation: the layer of an option, for `C / part` channels.
        part: with more than 1, operations see the first `C / part` channels; the others pass as
            they are (halved by max pooling), and then channels are shuffled so that others come
            first on the next edge. Xu et al. 2020, arXiv:1907.05737.
    """
    total: Tensor | None = None
    front = x if part == 1 else x[:, : x.shape[1] // part]
    for option, weight in share.options:
        y = weight * operation(option)(front)
        total = y if total is None else total + y
    if total is not None and part > 1:
        rest = x[:, x.shape[1] // part :]
        rest = rest if stride == 1 else F.max_pool2d(rest, stride, ceil_mode=True)
        joined = torch.cat((total, rest), 1)
        n, channels, height, width = joined.shape
        parts = joined.reshape(n, part, channels // part, height, width)
        total = parts.transpose(1, 2).reshape(n, channels, height, width)
    return total if total is None or share.factor is None else share.factor * total


def require_parts(space: str, width: int, part: int, smallest: int = 1) -> None:
    """Refuses to cut channels that cannot be cut into `part` equal groups.

    Raises:
        UserError: the groups would not be equal, or narrower than `smallest`.
    """
    if width % part or (part > 1 and width // part < smallest):
        raise UserError(
            f"{space}: expected channels that are a multiple of {part * smallest} for operations "
            f"on one of {part} parts of them; got {width}. Take channels={part * smallest} or more."
        )


def mixed_cells(
    network: CellNetwork,
    edges: Edges,
    layer: Callable[[str, str], Edge],
    taken: Callable[[Architecture], Mapping[str, str]],
    part: int = 1,
) -> Mixture:
    """The mixture of networks of searched cells.

    Args:
        network: whose cells have an edge for each option of each of `edges`; its layers are taken
            over.
        edges: named `KIND.NODE.from_VALUE`, those of a node after those of the nodes before it.
        layer: (edge, option) -> what a cell of that kind has there.
    """

    def run(mixture: Mixture, images: Tensor, shares: Mapping[str, Share]) -> Tensor:
        x: Tensor | None = mixture.get_submodule("stem")(images)
        values = {-2: x, -1: x}
        for index, name, sources in network.reads:
            kind, cell = name.removesuffix(str(index)), mixture.get_submodule(name)
            own = {e: share for e, share in shares.items() if e.startswith(f"{kind}.")}
            assert isinstance(cell, Cell)
            x = values[index] = _mixed_cell(cell, kind, [values[i] for i in sources], own)
        if x is None or not network.reads:  # nothing passes: the classifier has only its bias
            features = mixture.get_submodule("classifier").in_features
            x = images.new_zeros(len(images), int(features), 1, 1)  # type: ignore[arg-type]
        for name in network.head:
            x = mixture.get_submodule(name)(x)
        return x

    def _mixed_cell(
        cell: Cell, kind: str, inputs: Sequence[Tensor | None], shares: Mapping[str, Share]
    ) -> Tensor | None:
        named = zip(cell.graph.inputs, inputs, strict=True)
        values = {name: cell.enter[name](x) for name, x in named if x is not None}
        for edge, share in shares.items():
            _, target, source = edge.replace(".from_", ".").split(".")
            if source in values:
                stride = 2 if kind == "reduction" and source in cell.graph.inputs else 1

                def operation(option: str, edge: str = edge) -> nn.Module:
                    return cell.operations[layer_name(layer(edge, option))]

                y = blended(values[source], share, operation, part, stride)
                if y is not None:
                    values[target] = values[target] + y if target in values else y
        ends = [e.source for e in cell.graph.edges if e.target == cell.graph.output]
        some = next((values[end] for end in ends if end in values), None)
        if some is None:
            return None
        return torch.cat([values.get(end, torch.zeros_like(some)) for end in ends], 1)

    return Mixture(network.named_children(), edges, taken, run)

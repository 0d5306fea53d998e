"""Networks of searched cells, each of which reads the two before it: what DARTS and NASNet share.

A cell brings both of its inputs to its width and resolution by a 1x1 convolution each, computes
its graph, and concatenates. Two cells are reduction cells: they halve the image and double the
width. Zoph et al. 2018 (arXiv:1707.07012), Liu et al. 2019 (arXiv:1806.09055).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from raynas.costs import count
from raynas.graphs import Edge, Graph, reductions
from raynas.operations import convolution
from raynas.space import Shape

LARGE = 64  # pixels on a side from which on the stem halves the image
STEM = 3  # times the first cells' width: the stem's channels, in both papers


def relu_convolution(
    c_in: int, c_out: int, kernel: int, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    """ReLU, convolution, batch norm: the order of all searched cells."""
    return nn.Sequential(
        nn.ReLU(), convolution(c_in, c_out, kernel, stride, dilation), nn.BatchNorm2d(c_out)
    )


class FactorizedReduction(nn.Module):
    """Halves the image: a 1x1 convolution of the even pixels beside one of the odd pixels.

    Maps `[N, C_in, H, W]` to `[N, C_out, ceil(H / 2), ceil(W / 2)]`.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.even = convolution(c_in, c_out // 2, 1, 2)
        self.odd = convolution(c_in, c_out - c_out // 2, 1, 2)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu()
        shifted = nn.functional.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        both: Tensor = self.norm(torch.cat((self.even(x), self.odd(shifted)), 1))
        return both


def separable(channels: int, kernel: int, stride: int, dilation: int = 1) -> nn.Sequential:
    """ReLU, depthwise convolution, pointwise convolution, batch norm."""
    return nn.Sequential(
        nn.ReLU(),
        convolution(channels, channels, kernel, stride, dilation, groups=channels),
        convolution(channels, channels, 1, 1),
        nn.BatchNorm2d(channels),
    )


def _project(c_in: int, c_out: int) -> nn.Module:
    return relu_convolution(c_in, c_out, 1)


def _separable_twice(kernel: int) -> Callable[[int, int], nn.Module]:
    return lambda c, s: nn.Sequential(separable(c, kernel, s), separable(c, kernel, 1))


def _reduction(channels: int, stride: int) -> nn.Module:
    assert stride == 2, "an identity of stride 1 is an edge without an operation"
    return FactorizedReduction(channels, channels)


OPERATIONS: dict[str, Callable[[int, int], nn.Module]] = {  # (channels, stride) -> layer
    "": lambda _, __: nn.Identity(),
    "identity": _reduction,
    "skip_connect": _reduction,
    "skip": lambda c, s: relu_convolution(c, c, 1, s),
    "conv_3x3": lambda c, s: relu_convolution(c, c, 3, s),
    "conv_5x5": lambda c, s: relu_convolution(c, c, 5, s),
    "dilated_3x3": lambda c, s: relu_convolution(c, c, 3, s, dilation=2),
    "sep_conv_3x3": _separable_twice(3),
    "sep_conv_5x5": _separable_twice(5),
    "dil_conv_3x3": lambda c, s: separable(c, 3, s, dilation=2),
    "dil_conv_5x5": lambda c, s: separable(c, 5, s, dilation=2),
    "max_pool_3x3": lambda _, s: nn.MaxPool2d(3, s, 1),
    "avg_pool_3x3": lambda _, s: nn.AvgPool2d(3, s, 1, count_include_pad=False),
}


def layer_name(edge: Edge) -> str:
    """The name of an edge's operation in its cell."""
    return f"{edge.target}_from_{edge.source}_{edge.operation or 'as_it_is'}"


class Cell(nn.Module):
    """One cell: the values of the cells that it reads -> its own, `[N, C * parts, H, W]`."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.graph, width = place.graph, place.width
        self.enter = nn.ModuleDict()
        for name, (make, c_in), parts in zip(
            place.graph.inputs, place.enter, place.parts, strict=True
        ):
            self.enter[name] = make(c_in, width)
            _mark(self.enter[name], parts)
        self.operations = nn.ModuleDict()
        for e in place.graph.edges:  # named by what they do where: a supernet shares by names
            name = layer_name(e)
            name += "_again" if name in self.operations else ""  # NASNet may add up two alike
            stride = place.stride if e.source in place.graph.inputs else 1
            self.operations[name] = OPERATIONS[e.operation](width // place.part, stride)

    def forward(self, *inputs: Tensor) -> Tensor:
        values = {n: self.enter[n](x) for n, x in zip(self.graph.inputs, inputs, strict=True)}
        joined: list[Tensor] = []
        for edge, operation in zip(self.graph.edges, self.operations.values(), strict=True):
            y = operation(values[edge.source])
            if edge.target == self.graph.output:
                joined.append(y)
            else:
                values[edge.target] = values[edge.target] + y if edge.target in values else y
        return torch.cat(joined, 1)

    def extra_repr(self) -> str:
        return ", ".join(f"{edge.source}->{edge.target}" for edge in self.graph.edges)


@dataclass(frozen=True)
class Place:
    """Where a cell stands in its network.

    Attributes:
        index: of the cell, from 0; -1 and -2 are the stem, before the first cell.
        graph: what the cell does.
        width: of its nodes.
        stride: 2 for a reduction cell, else 1.
        sources: for each input of the graph the index of the cell that it comes from.
        enter: for each input the layer that brings it to width and resolution, with its channels.
        parts: for each input the numbers of the nodes that it concatenates; none for the stem.
        part: its operations work on one so many-th of the channels, in a mixture of all of them.
    """

    index: int
    graph: Graph
    width: int
    stride: int
    sources: tuple[int, ...]
    enter: tuple[tuple[Callable[[int, int], nn.Module], int], ...]
    parts: tuple[tuple[int, ...], ...]
    part: int = 1

    @property
    def name(self) -> str:
        return f"{'reduction' if self.stride == 2 else 'normal'}{self.index}"

    @property
    def channels(self) -> int:
        """Of its value: those of all nodes that it concatenates."""
        return self.width * len(self.nodes)

    @property
    def nodes(self) -> tuple[int, ...]:
        """The numbers of the nodes that it concatenates, which are called node0, node1, ..."""
        edges = (edge for edge in self.graph.edges if edge.target == self.graph.output)
        return tuple(int(edge.source.removeprefix("node")) for edge in edges)


def _mark(layers: nn.Module, parts: tuple[int, ...]) -> None:
    """Leaves word with the layers that read a concatenation which parts of the whole they read.

    A supernet shares their weights by part: what reads node 3 stays with node 3, whatever other
    nodes are concatenated.
    """
    for layer in layers.modules():
        if parts and isinstance(layer, nn.Conv2d | nn.Linear):
            layer.input_parts = parts  # type: ignore[assignment]  # plain data on a module


def places(stack: Sequence[Graph | None], channels: int, part: int = 1) -> list[Place]:
    """The cells that matter, see `raynas.graphs.stacked`; `channels` is the first ones' width."""
    halving = reductions(len(stack))
    found: list[Place] = []
    widths = {-2: STEM * channels, -1: STEM * channels}
    nodes: dict[int, tuple[int, ...]] = {-2: (), -1: ()}
    for k, graph in enumerate(stack):
        channels *= 2 if k in halving else 1
        if graph is not None:
            sources = tuple(k - 2 + (name == "input1") for name in graph.inputs)
            enter = tuple(
                (FactorizedReduction if i == k - 2 and k - 1 in halving else _project, widths[i])
                for i in sources
            )
            parts = tuple(nodes[i] for i in sources)
            stride = 1 + (k in halving)
            found.append(Place(k, graph, channels, stride, sources, enter, parts, part))
            widths[k], nodes[k] = found[-1].channels, found[-1].nodes
    return found


class CellNetwork(nn.Module):
    """Stem, cells, classifier.

    Args:
        stack: what each cell does, see `raynas.graphs.stacked`.
        channels: width of the first cells.
        relu: whether the last value passes a ReLU before it is pooled (NASNet).
        part: see `Place`.
    """

    def __init__(
        self,
        stack: Sequence[Graph | None],
        channels: int,
        input_shape: Shape,
        num_classes: int,
        relu: bool = False,
        part: int = 1,
    ) -> None:
        super().__init__()
        self.stem = stem(input_shape, STEM * channels)
        cells = places(stack, channels, part)
        self.reads = tuple((cell.index, cell.name, cell.sources) for cell in cells)
        for cell in cells:
            self.add_module(cell.name, Cell(cell))
        last = cells[-1].channels if cells else STEM * channels
        head: dict[str, nn.Module] = {"relu": nn.ReLU()} if relu else {}
        head |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
        head["classifier"] = nn.Linear(last, num_classes)
        _mark(head["classifier"], cells[-1].nodes if cells else ())
        self.head = tuple(head)
        for name, layer in head.items():
            self.add_module(name, layer)

    def forward(self, images: Tensor) -> Tensor:
        """Images `[N, C, H, W]` -> logits `[N, num_classes]`."""
        x: Tensor = self.stem(images)
        values = {-2: x, -1: x}
        for index, name, sources in self.reads:
            x = values[index] = self.get_submodule(name)(*(values[i] for i in sources))
        x = x if self.reads else 0 * x  # nothing passes: the classifier has only its bias
        for name in self.head:
            x = self.get_submodule(name)(x)
        return x


def stem(input_shape: Shape, width: int) -> nn.Sequential:
    """3x3 convolutions with batch norm: one, or, for large images, as many as halve them."""
    c_in = input_shape[0]
    parts: list[nn.Module] = []
    for stride in [2] * _halvings(input_shape) or [1]:
        parts += [nn.ReLU()] if parts else []
        parts += [convolution(c_in, width, 3, stride), nn.BatchNorm2d(width)]
        c_in = width
    return nn.Sequential(*parts)


def _halvings(input_shape: Shape) -> int:
    side, times = min(input_shape[1:]), 0
    while side >= LARGE:
        side, times = -(-side // 2), times + 1
    return times


def network_costs(
    stack: Sequence[Graph | None], channels: int, input_shape: Shape, num_classes: int
) -> dict[str, float]:
    """`params` and `flops` of a `CellNetwork`: the sum of its layers, each counted once ever."""
    cells, halving = places(stack, channels), reductions(len(stack))

    def size(index: int) -> tuple[int, int]:
        shrink = 2 ** (_halvings(input_shape) + sum(i <= index for i in halving))
        return -(-input_shape[1] // shrink), -(-input_shape[2] // shrink)

    last = cells[-1].channels if cells else STEM * channels
    found = [_counted(stem, (input_shape, STEM * channels), input_shape)]
    found.append({"params": (last + 1.0) * num_classes, "flops": 2.0 * last * num_classes})
    for cell in cells:
        inside = {name: (cell.width, *size(cell.index - 1)) for name in cell.graph.inputs}
        for (make, c_in), source in zip(cell.enter, cell.sources, strict=True):
            found.append(_counted(make, (c_in, cell.width), (c_in, *size(source))))
        for edge in cell.graph.edges:
            stride = cell.stride if edge.source in inside else 1
            shape = inside.get(edge.source, (cell.width, *size(cell.index)))
            found.append(_counted(OPERATIONS[edge.operation], (cell.width, stride), shape))
    return {name: sum(part[name] for part in found) for name in ("params", "flops")}


@cache
def _counted(
    make: Callable[..., nn.Module], arguments: tuple[Any, ...], shape: Shape
) -> dict[str, float]:
    return count(lambda: make(*arguments), shape)

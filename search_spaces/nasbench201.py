"""NAS-Bench-201: one cell of four nodes, with one of five operations on each of its six edges,
repeated in a fixed skeleton (15,625 designs).

Dong & Yang 2020 (arXiv:2001.00326): stem, N cells, a residual block that halves the image and
doubles the channels, N cells, another such block, N cells, classifier; C = 16 and N = 5 by
default. Parameters and FLOPs are those of the benchmark's table for every design (its FLOPs
count a multiply-add once, here it is two, and add 10 for the classifier's bias), so operations
that lead nowhere are built too; `simplify` takes them out. Where we depart: what receives
nothing but `none` is nothing (there, the batch norm of a convolution adds a learned constant);
feature maps of odd sides are rounded up when they are halved. Takes images of 8x8 and up; as
nothing is halved before the first cells, large images are costly.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from raynas.architecture import Architecture, Decision, InvalidArchitecture, Option
from raynas.errors import UserError
from raynas.graphs import Edge, Graph, identity, live
from raynas.space import Chances, Known, Shape, Space

if TYPE_CHECKING:
    from torch import Tensor, nn

    from raynas.mixtures import Mixture, Share

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
KERNEL = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}  # of the operations with weights
EDGES = tuple((source, target) for target in (1, 2, 3) for source in range(target))
NODES = ("input", "node1", "node2", "node3")
SMALLEST = 8  # pixels on a side: two are left in the last stage


def _name(source: int, target: int) -> str:
    return f"cell.node{target}.from_{source}"


def graph(architecture: Architecture) -> Graph:
    """The cell, without the edges that carry nothing; `node3` is its output."""
    chosen = [(s, t, str(architecture[_name(s, t)])) for s, t in EDGES]
    edges = (
        Edge(NODES[s], NODES[t], "" if operation == "skip_connect" else operation)
        for s, t, operation in chosen
        if operation != "none"
    )
    return Graph(("input",), tuple(edges), "node3")


def _alive(architecture: Architecture) -> set[tuple[str, str]]:
    return {(edge.source, edge.target) for edge in live(graph(architecture))}


def canonical(architecture: Architecture) -> str:
    """The text that all names of one network share."""
    return identity(graph(architecture), linear=("avg_pool_3x3",))


def simplify(architecture: Architecture) -> Architecture:
    """The design without operations that nothing reaches or that lead nowhere."""
    alive = _alive(architecture)
    dead = {_name(s, t) for s, t in EDGES if (NODES[s], NODES[t]) not in alive}
    choices = tuple((n, "none" if n in dead else option) for n, option in architecture.choices)
    return Architecture(architecture.space, choices)


def costs(
    architecture: Architecture,
    input_shape: Shape,
    num_classes: int,
    channels: int = 16,
    cells: int = 5,
) -> dict[str, float]:
    """`params` and `flops` of what `build` makes, by formula."""
    depth, height, width = input_shape
    kernels = [KERNEL[o] for s, t in EDGES if (o := str(architecture[_name(s, t)])) in KERNEL]
    square = cells * sum(k * k for k in kernels)  # weights of a stage per C * C
    norms = cells * len(kernels)
    pixels = height * width
    params, adds = 9 * depth * channels + 2 * channels, 9 * depth * channels * pixels
    for stage in range(3):
        if stage:  # a residual block: 3x3 from C, 3x3 and 1x1 from C, for twice the channels
            height, width = -(-height // 2), -(-width // 2)
            pixels, channels = height * width, 2 * channels
            block = (9 + 1) * channels * channels // 2 + 9 * channels * channels
            params, adds = params + block + 4 * channels, adds + block * pixels
        weights = square * channels * channels
        params, adds = params + weights + norms * 2 * channels, adds + weights * pixels
    params += 2 * channels + (channels + 1) * num_classes
    return {"params": float(params), "flops": 2.0 * (adds + channels * num_classes)}


def build(
    architecture: Architecture,
    input_shape: Shape,
    num_classes: int,
    channels: int = 16,
    cells: int = 5,
) -> nn.Module:
    """Builds the network: images `[N, C, H, W]` -> logits `[N, num_classes]`.

    Args:
        channels: of the first stage (the paper's C).
        cells: per stage (the paper's N).

    Raises:
        UserError: the images are smaller than 8x8.
    """
    from torch import nn

    alive = _alive(architecture)

    class Cell(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.alive, self.dead = nn.ModuleDict(), nn.ModuleDict()
            for s, t in EDGES:
                operation = str(architecture[_name(s, t)])
                if (NODES[s], NODES[t]) in alive:
                    self.alive[_layer_name(s, t, operation)] = _layer(operation, width)
                elif operation in KERNEL:
                    self.dead[_layer_name(s, t, operation)] = _layer(operation, width)

        def forward(self, x: Tensor) -> Tensor:
            values: dict[int, Tensor] = {0: x}
            for s, t in EDGES:
                name = _layer_name(s, t, str(architecture[_name(s, t)]))
                if name in self.alive:
                    y = self.alive[name](values[s])
                    values[t] = values[t] + y if t in values else y
            output: Tensor = values.get(3, 0 * x)
            for operation in self.dead.values():  # built and run, for nothing, as in the benchmark
                output = output + 0 * operation(x)
            return output

    return nn.Sequential(_layers(Cell, input_shape, num_classes, channels, cells))


def _layer_name(source: int, target: int, operation: str) -> str:
    return f"node{target}_from_{source}_{operation}"  # a supernet shares by names


def _layer(operation: str, width: int) -> nn.Module:
    from torch import nn

    from raynas.cells import relu_convolution

    if operation in KERNEL:
        return relu_convolution(width, width, KERNEL[operation])
    if operation == "avg_pool_3x3":
        return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    assert operation == "skip_connect", f"no such operation: {operation}"
    return nn.Identity()


def _layers(
    cell: Callable[[int], nn.Module],
    input_shape: Shape,
    num_classes: int,
    channels: int,
    cells: int,
) -> OrderedDict[str, nn.Module]:
    """The skeleton, with what `cell` makes for a width in its places."""
    from torch import nn

    from raynas.cells import relu_convolution
    from raynas.operations import convolution, require_side

    require_side(SPACE.name, SMALLEST, input_shape)

    class Residual(nn.Module):
        def __init__(self, c_in: int, c_out: int) -> None:
            super().__init__()
            self.operation = nn.Sequential(
                relu_convolution(c_in, c_out, 3, 2), relu_convolution(c_out, c_out, 3)
            )
            halve = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
            self.shortcut = nn.Sequential(halve, convolution(c_in, c_out, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            total: Tensor = self.shortcut(x) + self.operation(x)
            return total

    stem = (convolution(input_shape[0], channels, 3, 1), nn.BatchNorm2d(channels))
    parts: OrderedDict[str, nn.Module] = OrderedDict(stem=nn.Sequential(*stem))
    for stage in range(3):
        if stage:
            parts[f"residual{stage}"] = Residual(channels, 2 * channels)
            channels *= 2
        for i in range(cells):
            parts[f"cell{stage * cells + i}"] = cell(channels)
    parts["norm"] = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())
    parts |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    parts["classifier"] = nn.Linear(channels, num_classes)
    return parts


def mixture(
    space: Space,
    input_shape: Shape,
    num_classes: int,
    part: int = 1,
    channels: int = 16,
    cells: int = 5,
) -> Mixture:
    """All operations of every edge side by side; an edge is called as its decision is."""
    from torch import nn

    from raynas.mixtures import NOTHING, Mixture, blended, require_parts

    require_parts(SPACE.name, channels, part)
    edges = {_name(s, t): tuple(map(str, space.by_name[_name(s, t)].options)) for s, t in EDGES}

    class Cell(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.alive = nn.ModuleDict()
            for s, t in EDGES:
                for operation in edges[_name(s, t)]:
                    if operation != NOTHING:
                        name = _layer_name(s, t, operation)
                        self.alive[name] = _layer(operation, width // part)

        def forward(self, x: Tensor, shares: Mapping[str, Share]) -> Tensor:
            values: dict[int, Tensor] = {0: x}
            for s, t in EDGES:
                if s in values:
                    y = blended(values[s], shares[_name(s, t)], self.at(s, t), part)
                    if y is not None:
                        values[t] = values[t] + y if t in values else y
            return values.get(3, 0 * x)

        def at(self, s: int, t: int) -> Callable[[str], nn.Module]:
            return lambda operation: self.alive[_layer_name(s, t, operation)]

    def run(network: Mixture, x: Tensor, shares: Mapping[str, Share]) -> Tensor:
        for layer in network.children():
            x = layer(x, shares) if isinstance(layer, Cell) else layer(x)
        return x

    def taken(architecture: Architecture) -> dict[str, str]:
        return {edge: str(architecture[edge]) for edge in edges}

    layers = _layers(Cell, input_shape, num_classes, channels, cells)
    return Mixture(layers.items(), edges, taken, run)


def discretize(space: Space, strengths: Chances) -> Architecture:
    """The strongest operation of every edge; but `none` only if something reaches the output."""

    def strongest(refused: str) -> Architecture:
        def pick(d: Decision) -> Option:
            strong = {**strengths.get(d.name, {}), refused: -1.0}
            return max(d.options, key=lambda option: strong.get(str(option), 0.0))

        return space.answer(pick)

    design = strongest(refused="")
    return design if live(graph(design)) else strongest(refused="none")


def arch_str(architecture: Architecture) -> str:
    """The benchmark's text of a design: `|nor_conv_3x3~0|+|none~0|skip_connect~1|+|...|`."""
    nodes = (
        "|".join(f"{architecture[_name(s, t)]}~{s}" for s in range(t)) for t in range(1, len(NODES))
    )
    return "+".join(f"|{node}|" for node in nodes)


def from_arch_str(text: str) -> Architecture:
    """Reads the benchmark's text.

    Raises:
        InvalidArchitecture: the text is not of that form, or names another operation.
    """
    options: dict[str, Option] = {}
    for target, node in enumerate(text.split("+"), start=1):
        for edge in node.strip("|").split("|"):
            operation, _, source = edge.partition("~")
            options[f"cell.node{target}.from_{source}"] = operation
    try:
        architecture = SPACE.architecture(options)
    except InvalidArchitecture as error:
        raise InvalidArchitecture(
            f"expected a text such as {arch_str(next(SPACE.enumerate()))!r}; got {text!r} ({error})"
        ) from None
    if arch_str(architecture) != text:
        raise InvalidArchitecture(f"expected {arch_str(architecture)!r}; got {text!r}.")
    return architecture


def isomorphism_class(architecture: Architecture) -> str:
    """The literature's relation between cells, with 6,466 classes: a feature, not an identity.

    The benchmark writes a cell as one expression of its input and calls cells isomorphic whose
    expressions are equal. That merges a cell which reads one convolution twice with a cell that
    has two (parameters differ in 578 classes), and separates some cells that compute the same
    (sums in another grouping). For predictors and explanations only; see `canonical`.
    """
    texts = ["0"]
    for target in (1, 2, 3):
        terms = []
        for source in range(target):
            operation = architecture[_name(source, target)]
            if operation == "none" or texts[source] == "#":
                terms.append("#")
            elif operation == "skip_connect":
                terms.append(texts[source])
            else:
                terms.append(f"({texts[source]})@{operation}")
        texts.append("+".join(sorted(terms)))
    return texts[3]


def _graphs(architecture: Architecture) -> dict[str, Graph]:
    return {"cell": graph(architecture)}


def _decision(source: int, target: int) -> Decision:
    into = "the cell's output" if target == 3 else f"node {target}"
    out_of = f"node {source}" if source else "the cell's input"
    return Decision(_name(source, target), OPERATIONS, f"what carries {out_of} to {into}")


def _known(operations: str, source: str, params: float, multiply_adds: float) -> Known:
    options = {_name(s, t): o for (s, t), o in zip(EDGES, operations.split(), strict=True)}
    return Known(options, source, params, 2 * multiply_adds, (3, 32, 32), 10)


KNOWN = {
    "resnet": _known(
        "nor_conv_3x3 none nor_conv_3x3 skip_connect none skip_connect",
        "The cell closest to a residual network; sizes of the benchmark's table (index 11472)",
        559_386,
        78_561_930,
    ),
    "best": _known(
        "nor_conv_3x3 nor_conv_3x3 nor_conv_3x3 skip_connect nor_conv_3x3 nor_conv_1x1",
        "The benchmark's best on CIFAR-10 (94.37 % test accuracy, index 6111), sizes of its table",
        1_073_466,
        153_272_970,
    ),
}


def space(channels: int = 16, cells: int = 5) -> Space:
    """The space with another width (the first stage's channels) or depth (cells per stage)."""
    if channels < 1 or cells < 1:
        raise UserError(
            f"nasbench201: expected channels and cells of 1 or more; got {channels} and {cells}. "
            "The benchmark's own are channels=16,cells=5."
        )
    return Space(
        "nasbench201",
        tuple(_decision(s, t) for s, t in EDGES),
        canonical=canonical,
        simplify=simplify,
        build=partial(build, channels=channels, cells=cells),
        mixture=partial(mixture, channels=channels, cells=cells),
        discretize=discretize,
        costs=partial(costs, channels=channels, cells=cells),
        graphs=_graphs,
        known=KNOWN,
    )


SPACE = space()

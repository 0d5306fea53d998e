"""One network that holds the weights of all designs of a space, and runs any of them.

A design is run by the space's own code: its network is built without numbers and its parameters
are put in from the shared ones, so that a path computes what the network alone would. Two designs
share a parameter that has the same name in both networks, in layers of the same kind. Where it is
smaller in one of them, that one has the first output channels, the first input channels and the
centre of the kernel (Cai et al. 2020, arXiv:1908.09791); a layer that reads a concatenation has the
channels of the parts that it reads; attention has its first heads (Chen et al. 2021,
arXiv:2107.00651). Other parameters are shared among equal shapes only.

Batch norm always sees the statistics of its batch: those that a stand-alone network keeps depend on
the path, so that they are measured anew for each design that is taken out (`Supernet.network`).
"""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from raynas.architecture import Architecture, Decision, Option
from raynas.attention import Attention
from raynas.costs import costs_of
from raynas.errors import UserError, unknown
from raynas.recipe import Recipe
from raynas.space import Shape, Space
from raynas.training import DeviceData, Diverged, _optimizer, _schedule, augmented, measure

CONTAINERS = (nn.Sequential, nn.ModuleDict, nn.ModuleList)
KEPT = 8  # networks without numbers that a supernet remembers
PASSES = 8  # over a space in search of weights, at most; usually the third brings none
MAKING = frozenset({torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn})
Axis = str | tuple[int, ...]  # "first", "centre", or the numbers of the parts that are there


@dataclass(frozen=True)
class Slot:
    """Where a network's parameter lies among the shared ones.

    Attributes:
        key: the shared parameter: its place in the network, and what its layer is.
        path: its name in the network.
        holder: of the network's layer, where the parameter is put; a layer's own dict.
        shape: of the parameter, with the first axis split in two if `folded`.
        axes: how each axis is cut out of the shared parameter's.
        start: what it begins with: "ones", "zeros", "own" (what the layer begins with), or the key
            of the weight by whose inputs its uniform start is scaled.
        folded: the first axis holds two equal parts one after the other (keys, then values).
    """

    key: str
    path: str
    holder: dict[str, Any]
    shape: tuple[int, ...]
    axes: tuple[Axis, ...]
    start: str
    folded: bool

    @cached_property
    def reach(self) -> tuple[int, ...]:
        """How large the shared parameter must be, at least."""
        return tuple(
            n if isinstance(axis, str) else n // len(axis) * (max(axis) + 1)
            for n, axis in zip(self.shape, self.axes, strict=True)
        )

    def of(self, stored: Tensor) -> Tensor:
        """This parameter as a part of the shared one: itself where it is all of it."""
        part = stored
        for dim, (n, axis) in enumerate(zip(self.shape, self.axes, strict=True)):
            if not isinstance(axis, str):
                part = _parts(part, dim, n // len(axis), axis)
            elif n < part.shape[dim]:
                part = part.narrow(dim, (part.shape[dim] - n) // 2 * (axis == "centre"), n)
        return part.flatten(0, 1) if self.folded else part


def _parts(whole: Tensor, dim: int, size: int, numbers: Sequence[int]) -> Tensor:
    if len(numbers) * size == whole.shape[dim]:
        return whole
    runs: list[list[int]] = []  # neighbours, as [first, after the last]
    for number in numbers:
        if runs and runs[-1][1] == number:
            runs[-1][1] += 1
        else:
            runs.append([number, number + 1])
    cut = [whole.narrow(dim, first * size, (end - first) * size) for first, end in runs]
    return cut[0] if len(cut) == 1 else torch.cat(cut, dim)


def slots(network: nn.Module) -> Iterator[Slot]:
    """All parameters of a network; one that has several places, at the first of them."""
    kinds: dict[str, tuple[str, ...]] = {"": ()}
    folded: set[nn.Module] = set()
    seen: set[int] = set()
    for path, layer in network.named_modules():
        if path:
            above = kinds[path.rpartition(".")[0]]
            named = () if isinstance(layer, CONTAINERS) else (type(layer).__name__,)
            kinds[path] = above + named
        if isinstance(layer, Attention):
            folded.add(layer.keys_values)
        for name, parameter in layer.named_parameters(recurse=False):
            if id(parameter) in seen:
                raise UserError(
                    f"expected every parameter at one place of the network; got {path}.{name} at "
                    "several. A supernet cannot share tied weights."
                )
            seen.add(id(parameter))
            yield _slot(path, kinds[path], layer, name, parameter, layer in folded)


def _slot(
    path: str,
    kinds: Sequence[str],
    layer: nn.Module,
    name: str,
    parameter: Tensor,
    folded: bool,
) -> Slot:
    shape = tuple(parameter.shape)
    kind, axes = _kind(layer, shape)
    shape = (2, shape[0] // 2, *shape[1:]) if folded else shape
    axes = ("first", *axes) if folded else axes
    place = path.replace(".", "/")
    where, what = f"{place}/" if place else "", f"{'>'.join(kinds)}{kind}"
    start = "own"
    if isinstance(layer, nn.Conv2d | nn.Linear):
        start = f"{where}weight:{what}"
    elif isinstance(layer, _BatchNorm | nn.LayerNorm):
        start = "ones" if name == "weight" else "zeros"
    full = f"{path}.{name}" if path else name
    holder = layer._parameters
    return Slot(f"{where}{name}:{what}", full, holder, shape, axes, start, folded)


def _kind(layer: nn.Module, shape: Sequence[int]) -> tuple[str, tuple[Axis, ...]]:
    """What beside its class tells a layer from another at the same place, and how it is cut."""
    parts: tuple[int, ...] = getattr(layer, "input_parts", ())
    axes: tuple[Axis, ...] = ("first", parts or "first", "centre", "centre")[: len(shape)]
    if isinstance(layer, nn.Conv2d | nn.Linear):
        said = f" parts of {layer.weight.shape[1] // len(parts)}" if parts else ""
        if isinstance(layer, nn.Conv2d):
            groups = layer.groups
            if groups > 1 and groups == layer.in_channels == layer.out_channels:
                said += " depthwise"
            elif groups > 1:
                said += f" {groups} groups {'x'.join(map(str, layer.weight.shape))}"
            said += f" dilated {layer.dilation}" if max(layer.dilation) > 1 else ""
        return said, axes
    if isinstance(layer, _BatchNorm | nn.LayerNorm):
        return "", ("first",) * len(shape)
    return f" {'x'.join(map(str, shape))}", ("first",) * len(shape)


class Bare(TorchFunctionMode):
    """Modules made under it have shapes and no numbers: the meta device, in half the time."""

    FILLING = frozenset(
        {
            *(f for name, f in vars(nn.init).items() if name.endswith("_") and callable(f)),
            *(getattr(Tensor, name) for name in ("uniform_", "fill_", "zero_")),
        }
    )

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Makes tensors on the meta device, and leaves out what fills them."""
        del types
        kwargs = kwargs or {}
        if func in self.FILLING:
            return args[0] if args else kwargs["tensor"]
        if func in MAKING and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


class Supernet(nn.Module):
    """The shared weights of a space's designs.

    A design is run as its plainest one (`Space.plainest`): without parts that count for nothing.

    Args:
        space: must build networks whose layers are named by their place and what they do.
        input_shape: (channels, height, width) of the images.
        seed: of the weights that it begins with, which are PyTorch's usual ones.

    Raises:
        UserError: every design has weights of its own, or weights at several places.
    """

    def __init__(self, space: Space, input_shape: Shape, num_classes: int, seed: int = 0) -> None:
        super().__init__()
        self.space, self.input_shape, self.num_classes = space, input_shape, num_classes
        self._built: OrderedDict[Architecture, tuple[nn.Module, list[Slot]]] = OrderedDict()
        self.largest, self.smallest = extremes(space, input_shape, num_classes)
        sizes, met = self._survey()
        self.shared = nn.ParameterDict()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for key, (slot, architecture) in met.items():
                start = self._start(slot, sizes, architecture)
                self.shared[key] = nn.Parameter(start)
        self._places: dict[str, Tensor] = dict(self.shared.items())

    def _survey(self) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[Slot, Architecture]]]:
        """The size of each shared parameter, and a design that has it."""
        sizes: dict[str, tuple[int, ...]] = {}
        met: dict[str, tuple[Slot, Architecture]] = {}
        seen: dict[Architecture, int] = {}  # how many layers it has
        rng, layers, grown = np.random.default_rng(0), 0, ""

        def visit(architecture: Architecture) -> bool:
            nonlocal layers, grown
            plain = self.space.plainest(architecture)
            if plain in seen:
                return seen[plain] == layers or self.space.simplify is None
            network = self._bare(plain)
            for slot in slots(network):
                met.setdefault(slot.key, (slot, plain))
                size = tuple(map(max, sizes.get(slot.key, slot.reach), slot.reach))
                if sizes.get(slot.key) != size:
                    sizes[slot.key], grown = size, slot.key
            seen[plain] = len(list(network.children()))
            layers = max(layers, seen[plain])
            return seen[plain] == layers or self.space.simplify is None

        for _ in range(PASSES):
            grown = ""
            cover(self.space, self.largest, self.smallest, rng, visit)
            if not grown:
                return sizes, met
        raise UserError(
            f"{self.space.name}: expected designs to share their weights; got new ones in every "
            f"new design, such as {grown}. Name the layers of its networks by their place and what "
            "they do, or forbid options (`Space.narrow`)."
        )

    def _start(
        self, slot: Slot, sizes: Mapping[str, tuple[int, ...]], architecture: Architecture
    ) -> Tensor:
        size = sizes[slot.key]
        if slot.start == "own":
            assert self.space.build is not None
            network = self.space.build(architecture, self.input_shape, self.num_classes)
            return network.get_parameter(slot.path).detach().clone()
        if slot.start in ("ones", "zeros"):
            return torch.full(size, float(slot.start == "ones"))
        inputs = math.prod(sizes[slot.start][1 + slot.folded :])
        return torch.empty(size).uniform_(-(inputs**-0.5), inputs**-0.5)

    def forward(self, images: Tensor, architecture: Architecture) -> Tensor:
        """Images `[N, C, H, W]` -> logits `[N, num_classes]` of one design, computed alone."""
        network = self._filled(architecture)
        logits: Tensor = network(images)
        return logits

    def network(self, architecture: Architecture, batches: Iterable[Tensor] = ()) -> nn.Module:
        """The plainest design's network on its own, with copies of its weights.

        Args:
            architecture: the design.
            batches: images, normalized, by which the statistics of its batch norms are measured:
                the average over the batches. Without them they are those of a new network.
        """
        assert self.space.build is not None
        plain = self.space.plainest(architecture)
        with torch.random.fork_rng(devices=[]):
            network = self.space.build(plain, self.input_shape, self.num_classes)
        device = next(iter(self._places.values())).device
        network.to(device)
        with torch.no_grad():
            for slot, part in self._cut(list(slots(network)), plain):
                network.get_parameter(slot.path).copy_(part)
        recalibrate(network, batches)
        return network

    def weights(
        self, architecture: Architecture, batches: Iterable[Tensor] = ()
    ) -> dict[str, Tensor]:
        """The state dict of `network`, for `space.build(space.plainest(architecture), ...)`."""
        return dict(self.network(architecture, batches).state_dict())

    def save(self, file: Path) -> None:
        """Writes the shared weights, with what they are for, as safetensors."""
        from safetensors.torch import save_file

        tensors = {key: value.detach().cpu().contiguous() for key, value in self.shared.items()}
        save_file(tensors, file, {"supernet": json.dumps(self._header())})

    def load(self, file: Path) -> None:
        """Reads what `save` wrote.

        Raises:
            UserError: it is not a supernet, or one of another space, data shape or width.
        """
        from safetensors import safe_open

        with safe_open(file, "pt") as kept:
            header = json.loads((kept.metadata() or {}).get("supernet", "{}"))
            for name, expected in self._header().items():
                if header.get(name) != expected:
                    raise UserError(
                        f"{file}: expected a supernet with {name} {_short(expected)}; got "
                        f"{_short(header.get(name))}. Make the supernet as it was saved."
                    )
            with torch.no_grad():
                for key, value in self.shared.items():
                    value.copy_(kept.get_tensor(key))

    def _header(self) -> dict[str, object]:
        """What must agree for weights to fit, the plainest first."""
        header = {
            "space": self.space.name,
            "input_shape": list(self.input_shape),
            "num_classes": self.num_classes,
            "decisions": self.space.to_dict()["decisions"],
            "shapes": {key: list(value.shape) for key, value in self.shared.items()},
        }
        plain: dict[str, object] = json.loads(json.dumps(header))  # as it is read back
        return plain

    def _bare(self, architecture: Architecture) -> nn.Module:
        assert self.space.build is not None, "only a space that builds networks has weights"
        with Bare():
            network = self.space.build(architecture, self.input_shape, self.num_classes)
        for path, layer in network.named_modules():
            if isinstance(layer, _BatchNorm):
                layer.track_running_stats = False
                layer._buffers.update(running_mean=None, running_var=None)
                layer._buffers["num_batches_tracked"] = None
            elif any(buffer is not None for buffer in layer._buffers.values()):
                raise UserError(
                    f"{self.space.name}: expected layers without buffers, batch norm aside; got "
                    f"{type(layer).__name__} at {path}. A supernet cannot share it."
                )
        return network

    def _known(self, plain: Architecture) -> tuple[nn.Module, list[Slot]]:
        if plain not in self._built:
            network = self._bare(plain)
            self._built[plain] = network, list(slots(network))
            if len(self._built) > KEPT:
                self._built.popitem(last=False)
        return self._built[plain]

    def _filled(self, architecture: Architecture) -> nn.Module:
        """The design's network, with its parts of the shared weights in place."""
        plain = self.space.plainest(architecture)
        network, places = self._known(plain)
        for slot, part in self._cut(places, plain):
            slot.holder[slot.path.rpartition(".")[2]] = part
        if network.training != self.training:
            network.train(self.training)
        return network

    def parts(
        self, architecture: Architecture, gradients: bool = False
    ) -> Iterator[tuple[Slot, Tensor]]:
        """Each parameter of the plainest design's network as a part of the shared ones.

        Args:
            architecture: the design.
            gradients: the same parts of the shared weights' gradients instead.
        """
        plain = self.space.plainest(architecture)
        return self._cut(self._known(plain)[1], plain, gradients)

    def _cut(
        self, places: Iterable[Slot], architecture: Architecture, gradients: bool = False
    ) -> Iterator[tuple[Slot, Tensor]]:
        for slot in places:
            stored = self._places.get(slot.key)
            if stored is None or any(n > m for n, m in zip(slot.reach, stored.shape, strict=True)):
                raise UserError(
                    f"{architecture}: expected {slot.path} {list(slot.shape)} among the shared "
                    f"weights ({slot.key}); got {'none' if stored is None else [*stored.shape]}. "
                    "Name the layers of the space by their place and what they do."
                )
            if gradients:
                stored = torch.zeros_like(stored) if stored.grad is None else stored.grad
            yield slot, slot.of(stored)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) < 80 else f"{text[:77]}..."


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Sets the statistics of all batch norms to their average over `batches` of images."""
    norms = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the cumulative average
    network.train()
    for images in batches:
        network(images)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum


def extremes(
    space: Space, input_shape: Shape, num_classes: int
) -> tuple[Architecture, Architecture]:
    """The costliest and the cheapest options together, by parameters, then FLOPs.

    Decisions of the same name in different layers are judged by one of them.
    """
    largest: dict[str, Option] = {d.name: d.options[-1] for d in space.decisions}
    ranked: dict[tuple[str, tuple[Option, ...]], list[Option]] = {}

    def design(d: Decision, option: Option) -> Architecture:
        fixed = {**largest, **_enabling(space, d), d.name: option}
        return space.answer(lambda d: fixed[d.name])

    def params(d: Decision, option: Option) -> float:
        assert space.build is not None, "only a space that builds networks has weights"
        with Bare():
            network = space.build(design(d, option), input_shape, num_classes)
        return sum(p.numel() for p in network.parameters())

    def flops(d: Decision, option: Option) -> float:
        return costs_of(space, design(d, option), input_shape, num_classes)["flops"]

    for d in space.decisions:
        if (d.leaf, d.options) not in ranked:
            ends = [d.options[0], d.options[-1]] if d.ordered else list(d.options)
            costs = {option: (params(d, option), 0.0) for option in ends}
            if len(set(costs.values())) < len(ends):
                costs = {o: (known, flops(d, o)) for o, (known, _) in costs.items()}
            ranked[d.leaf, d.options] = sorted(ends, key=lambda o: costs[o])
        largest[d.name] = ranked[d.leaf, d.options][-1]
    return (
        space.answer(lambda d: ranked[d.leaf, d.options][-1]),
        space.answer(lambda d: ranked[d.leaf, d.options][0]),
    )


def _enabling(space: Space, d: Decision) -> dict[str, Option]:
    """Options of other decisions by which this one is active."""
    found: dict[str, Option] = {}
    while d.when is not None:
        parent, options = d.when
        d = space.by_name[parent]
        found[d.name] = next(o for o in reversed(d.options) if o in options)
    return found


def cover(
    space: Space,
    largest: Architecture,
    smallest: Architecture,
    rng: np.random.Generator,
    visit: Callable[[Architecture], bool],
) -> None:
    """Visits designs that together have all parts of the space's networks.

    Any two options of one layer's decisions meet in one of them, in each layer, with the largest
    options of ordered decisions elsewhere and other ones at random; so do options of decisions
    that others depend on, in different layers. Where decisions of a layer have the same options,
    they are also answered alike, as equal parts may stand side by side. Each design is visited a
    second time with the largest options of all ordered decisions on which no other depends.

    Args:
        visit: whether the design counts: one with parts left out may not show what it should.
    """
    wanted = [fixed for fixed in _combinations(space) if fixed]
    wanted = [wanted[i] for i in rng.permutation(len(wanted))]
    biggest = {d.name: largest.options.get(d.name, d.options[-1]) for d in space.decisions}
    inner = {d.name for d in space.decisions if d.ordered} - _parents(space)
    visit(largest)
    visit(smallest)
    spare = len(wanted)
    while wanted:
        chosen: dict[str, Option] = {}
        left: list[dict[str, Option]] = []
        used: list[dict[str, Option]] = []
        for fixed in wanted:
            fits = all(chosen.get(name, option) == option for name, option in fixed.items())
            (used if fits else left).append(fixed)
            if fits:
                chosen |= fixed
        for d in space.decisions:
            free = biggest[d.name] if d.ordered else d.options[rng.integers(len(d.options))]
            chosen.setdefault(d.name, free)
        design = space.answer(lambda d, chosen=chosen: chosen[d.name])  # type: ignore[misc]
        counts = visit(design)
        swelled = chosen | {name: biggest[name] for name in inner}
        if inner:
            visit(space.answer(lambda d, swelled=swelled: swelled[d.name]))  # type: ignore[misc]
        wanted = left
        if not counts and spare:
            wanted, spare = left + used, spare - 1


def _parents(space: Space) -> set[str]:
    return {d.when[0] for d in space.decisions if d.when}


def _combinations(space: Space) -> Iterator[dict[str, Option]]:
    parents = _parents(space)
    together: dict[str, list[Decision]] = {}
    for d in space.decisions:
        together.setdefault(d.layer, []).append(d)
    pairs = [pair for layer in together.values() for pair in combinations(layer, 2)]
    pairs += combinations([d for d in space.decisions if d.name in parents], 2)
    alone = [(d,) for d in space.decisions]
    for group in (*alone, *pairs):
        for options in product(*(d.options for d in group)):
            yield _active(space, dict(zip((d.name for d in group), options, strict=True)))
    for layer in together.values():
        alike: dict[tuple[Option, ...], list[str]] = {}
        for d in layer:
            alike.setdefault(d.options, []).append(d.name)
        for one, other in combinations((names for names in alike.values() if names[1:]), 2):
            first, second = (space.by_name[names[0]].options for names in (one, other))
            for a, b in product(first, second):
                yield _active(space, dict.fromkeys(one, a) | dict.fromkeys(other, b))


def _active(space: Space, fixed: dict[str, Option]) -> dict[str, Option]:
    """The options, with those that make them active; empty if they exclude each other."""
    whole = dict(fixed)
    for name in fixed:
        d = space.by_name[name]
        while d.when is not None:
            parent, options = d.when
            d = space.by_name[parent]
            if parent not in whole:
                whole[parent] = next(o for o in reversed(d.options) if o in options)
            elif whole[parent] not in options:
                return {}
    return whole


Rule = Callable[[Supernet, np.random.Generator, float], list[Architecture]]


def uniform(supernet: Supernet, rng: np.random.Generator, done: float) -> list[Architecture]:
    """One path, each decision drawn uniformly. Guo et al. 2020, arXiv:1904.00420."""
    del done
    return [supernet.space.sample(rng)]


def fair(supernet: Supernet, rng: np.random.Generator, done: float) -> list[Architecture]:
    """As many paths as the most options, with every option of a decision in turn.

    Once each where a decision has the most options; otherwise as equally often as it can be; less
    often where a decision is not always active. Chu et al. 2021, arXiv:1907.01845.
    """
    del done
    decisions = supernet.space.decisions
    most = max(len(d.options) for d in decisions)
    turns: dict[str, list[Option]] = {}
    for d in decisions:
        rounds = [rng.permutation(len(d.options)) for _ in range(-(-most // len(d.options)))]
        turns[d.name] = [d.options[i] for i in np.concatenate(rounds)]
    return [supernet.space.answer(lambda d, k=k: turns[d.name][k]) for k in range(most)]  # type: ignore[misc]


def sandwich(supernet: Supernet, rng: np.random.Generator, done: float) -> list[Architecture]:
    """The largest, which teaches the others; the smallest; two at random.

    Yu et al. 2020 (BigNAS), arXiv:2003.11142.
    """
    del done
    space = supernet.space
    if not any(d.ordered for d in space.decisions):
        raise UserError(
            f"sandwich: expected a space with ordered decisions; {space.name} has none, so that no "
            "design of it contains another. Use uniform or fair."
        )
    return [supernet.largest, supernet.smallest, space.sample(rng), space.sample(rng)]


def progressive(supernet: Supernet, rng: np.random.Generator, done: float) -> list[Architecture]:
    """One path; ordered decisions begin at their largest and open up one kind after the other.

    In the first quarter of the training none is open, then kernels, then those on which others
    depend (depths), at last all (widths, expansions). Decisions without an order are open from the
    start. Cai et al. 2020, arXiv:1908.09791, without its distillation.
    """
    space, largest = supernet.space, supernet.largest
    parents, opened = _parents(space), int(4 * done)

    def pick(d: Decision) -> Option:
        turn = 1 if d.leaf.startswith("kernel") else 2 if d.name in parents else 3
        if d.ordered and turn > opened and d.name in largest:
            return largest[d.name]
        return d.options[rng.integers(len(d.options))]

    return [space.answer(pick)]


RULES: dict[str, Rule] = {
    "uniform": uniform,
    "fair": fair,
    "sandwich": sandwich,
    "progressive": progressive,
}


def train_supernet(
    supernet: Supernet, data: DeviceData, recipe: Recipe, seed: int, rule: str, first: int = 0
) -> Iterator[dict[str, float]]:
    """Trains the shared weights in place, a few paths per step.

    The gradients of a step's paths are added up. Under `sandwich` the first path learns from the
    labels, and the others from what it says of the same images.

    Args:
        rule: of RULES, which paths a step trains.
        first: the epoch to begin with; what is drawn in an epoch depends on it and `seed` alone.

    Yields:
        `train_loss` after each epoch: the mean over its paths.

    Raises:
        Diverged: the training loss is not finite.
    """
    if rule not in RULES:
        raise unknown("rule", rule, list(RULES))
    device, total = data.train.labels.device, len(data.train.labels)
    supernet.to(device).train()
    cuda = device.type == "cuda"
    size = min(recipe.batch_size or min(max(total // 100, 32), 128), total)
    steps = max(total // size, 1)
    optimizer = _optimizer(supernet, recipe)
    peak, factor = optimizer.param_groups[0]["lr"], _schedule(recipe.epochs * steps)
    for epoch in range(first, recipe.epochs):
        rng = np.random.default_rng((seed, epoch))
        generator = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
        order = torch.randperm(total, generator=generator, device=device)
        losses, trained = torch.zeros((), device=device), 0
        for step in range(steps):
            rows = order[step * size : (step + 1) * size]
            images, labels = data.normalized(data.train.images[rows]), data.train.labels[rows]
            if recipe.augment:
                images = augmented(images, data.flips, generator)
            images = images.contiguous(memory_format=torch.channels_last)
            for group in optimizer.param_groups:
                group["lr"] = peak * factor(epoch * steps + step)
            optimizer.zero_grad(set_to_none=True)
            taught: Tensor | None = None
            for path in RULES[rule](supernet, rng, epoch / recipe.epochs):
                with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
                    logits = supernet(images, path).float()
                smoothing = recipe.label_smoothing if taught is None else 0.0
                loss = F.cross_entropy(
                    logits, labels if taught is None else taught, label_smoothing=smoothing
                )
                loss.backward()  # type: ignore[no-untyped-call]
                if rule == "sandwich" and taught is None:
                    taught = logits.detach().softmax(1)
                losses, trained = losses + loss.detach(), trained + 1
            nn.utils.clip_grad_norm_(supernet.parameters(), recipe.clip, foreach=True)
            optimizer.step()
        train_loss = float(losses) / trained
        if not math.isfinite(train_loss):
            raise Diverged(f"the training loss is {train_loss} after epoch {epoch + 1}")
        yield {"train_loss": train_loss}


def score(
    supernet: Supernet, architecture: Architecture, data: DeviceData, batches: int = 4
) -> dict[str, float]:
    """`loss` and `accuracy` of a design on the validation split, with the shared weights.

    Its batch norms' statistics are first measured on so many batches of 250 training images.
    """
    some = data.train.images[: 250 * batches].split(250)  # type: ignore[no-untyped-call]
    network = supernet.network(architecture, (data.normalized(images) for images in some))
    return measure(network, data, data.validation)

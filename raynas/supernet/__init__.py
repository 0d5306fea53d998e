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
import warnings
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from raynas.architecture import Architecture
from raynas.errors import UserError
from raynas.mixtures import Mixture
from raynas.space import Shape, Space
from raynas.supernet.cover import cover, extremes
from raynas.supernet.slots import Bare, Slot, slots

KEPT = 8  # networks without numbers that a supernet remembers
PASSES = 8  # over a space in search of weights, at most; usually the third brings none
PATIENCE = 300  # designs after which few may bring new weights, or they are not shared at all
SHARING = (  # the ready-made spaces whose designs share weights
    "compound_scaling",
    "darts",
    "elastic",
    "layered",
    "mobile",
    "nasbench201",
    "nasnet_cell",
    "network",
    "vit",
)


class Supernet(nn.Module):
    """The shared weights of a space's designs.

    A design is run as its plainest one (`Space.plainest`): without parts that count for nothing.

    Args:
        space: must build networks whose layers are named by their place and what they do.
        input_shape: (channels, height, width) of the images.
        seed: of the weights that it begins with, which are PyTorch's usual ones.
        weights: shared ones by key, to be looked at and not trained; they are not copied, and the
            space is not gone through.

    Raises:
        UserError: every design has weights of its own, or weights at several places.
    """

    def __init__(
        self,
        space: Space,
        input_shape: Shape,
        num_classes: int,
        seed: int = 0,
        weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.space, self.input_shape, self.num_classes = space, input_shape, num_classes
        self._built: OrderedDict[Architecture, tuple[nn.Module, list[Slot]]] = OrderedDict()
        self._mixtures: dict[int, tuple[Mixture, list[Slot]]] = {}
        self.shared = nn.ParameterDict()
        if weights is None:
            self._begin(seed)
        else:
            for key, value in weights.items():
                self.shared[key] = nn.Parameter(value, requires_grad=False)
        self._places: dict[str, Tensor] = dict(self.shared.items())

    @property
    def largest(self) -> Architecture:
        """The costliest options together."""
        return self._extremes[0]

    @property
    def smallest(self) -> Architecture:
        """The cheapest options together."""
        return self._extremes[1]

    @cached_property
    def _extremes(self) -> tuple[Architecture, Architecture]:
        return extremes(self.space, self.input_shape, self.num_classes)

    def _begin(self, seed: int) -> None:
        sizes, met = self._survey()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for key, (slot, architecture) in met.items():
                self.shared[key] = nn.Parameter(self._start(slot, sizes, architecture))

    def _survey(self) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[Slot, Architecture]]]:
        """The size of each shared parameter, and a design that has it."""
        sizes: dict[str, tuple[int, ...]] = {}
        met: dict[str, tuple[Slot, Architecture]] = {}
        seen: dict[Architecture, int] = {}  # how many layers it has
        rng, layers, grown = np.random.default_rng(0), 0, ""
        fresh: deque[bool] = deque(maxlen=50)

        def visit(architecture: Architecture) -> bool:
            nonlocal layers, grown
            plain = self.space.plainest(architecture)
            if plain in seen:
                return seen[plain] == layers or self.space.simplify is None
            network, known = self._bare(plain), len(met)
            for slot in slots(network):
                met.setdefault(slot.key, (slot, plain))
                size = tuple(map(max, sizes.get(slot.key, slot.reach), slot.reach))
                if sizes.get(slot.key) != size:
                    sizes[slot.key], grown = size, slot.key
            fresh.append(len(met) > known)
            if len(seen) > PATIENCE and sum(fresh) > 10:
                raise self._apart(grown)
            seen[plain] = len(list(network.children()))
            layers = max(layers, seen[plain])
            return seen[plain] == layers or self.space.simplify is None

        for _ in range(PASSES):
            grown = ""
            cover(self.space, self.largest, self.smallest, rng, visit)
            if not grown:
                return sizes, met
        raise self._apart(grown)

    def _apart(self, example: str) -> UserError:
        return UserError(
            f"{self.space.name}: expected designs to share their weights; got new ones in every "
            f"new design, such as {example}. Name the layers of its networks by their place and "
            "what they do, or forbid options (`Space.narrow`). Ready-made spaces whose designs "
            f"share weights: {', '.join(SHARING)}."
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

    def view(self, architecture: Architecture, batches: Iterable[Tensor]) -> nn.Module:
        """The plainest design's network over the shared weights themselves, to be measured.

        Args:
            batches: see `network`.
        """
        plain = self.space.plainest(architecture)
        network = self._bare(plain)
        with torch.no_grad():
            for slot, part in self._cut(list(slots(network)), plain):
                slot.holder[slot.path.rpartition(".")[2]] = part
        device = next(iter(self._places.values())).device
        for layer in network.modules():
            if isinstance(layer, _BatchNorm):
                layer.track_running_stats = True
                size = layer.num_features
                layer.running_mean = torch.zeros(size, device=device)
                layer.running_var = torch.ones(size, device=device)
                layer.num_batches_tracked = torch.zeros((), dtype=torch.long, device=device)
        recalibrate(network, batches)
        return network

    def dump(self, extra: Mapping[str, Tensor], notes: Mapping[str, Any]) -> bytes:
        """The shared weights as safetensors, with what they are for and what else is to be kept."""
        from safetensors.torch import save

        tensors = {f"weights/{key}": value for key, value in self.shared.items()} | dict(extra)
        plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
        kept = {"supernet": json.dumps(self._header()), "notes": json.dumps(notes)}
        return bytes(save(plain, kept))

    def restore(self, data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Takes over the weights that `dump` wrote; returns what else it kept.

        Raises:
            UserError: they are no shared weights, or of another space, data shape or width.
        """
        tensors, kept = read(data)
        for name, expected in self._header().items():
            if kept["supernet"].get(name) != expected:
                raise UserError(
                    f"expected shared weights with {name} {_short(expected)}; got "
                    f"{_short(kept['supernet'].get(name))}. Train them for this search, or search "
                    "the space, data and classes that they are of."
                )
        with torch.no_grad():
            for key, value in self.shared.items():
                value.copy_(tensors.pop(f"weights/{key}"))
        return tensors, kept["notes"]

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
        return self._of_batches(network)

    def _of_batches(self, network: nn.Module) -> nn.Module:
        """The network with batch norms that know no statistics but those of their batch."""
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

    def mixture(self, part: int = 1) -> Mixture:
        """All options of every edge of the space side by side, over the shared weights.

        Where it has whole parameters, they are the shared ones themselves; slices of them are cut
        anew by each call, one of which every step must begin with.

        Args:
            part: operations work on one so many-th of the channels.

        Raises:
            UserError: the space has no mixture.
        """
        if self.space.mixture is None:
            raise UserError(
                f"{self.space.name}: expected a space whose options can be weighed side by side "
                "(nasbench201, darts); this one has no mixture. Search it with another strategy."
            )
        if part not in self._mixtures:
            with Bare():
                made = self.space.mixture(self.space, self.input_shape, self.num_classes, part)
            self._of_batches(made)
            self._mixtures[part] = made, list(slots(made))
        network, places = self._mixtures[part]
        sliced = []
        for slot, value in self._cut(places, f"the mixture of {self.space.name}"):
            slot.holder[slot.path.rpartition(".")[2]] = value
            if value is not self._places[slot.key]:
                sliced.append(slot)
        self._mixtures[part] = network, sliced  # what is whole lies there from now on
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
        self, places: Iterable[Slot], architecture: Architecture | str, gradients: bool = False
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


def read(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the notes of `Supernet.dump`; the weights' names begin with `weights/`.

    Raises:
        UserError: it is something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(data)
        size = int.from_bytes(data[:8], "little")
        kept = json.loads(data[8 : 8 + size])["__metadata__"]
        return tensors, {name: json.loads(kept[name]) for name in ("supernet", "notes")}
    except (SafetensorError, ValueError, KeyError) as error:
        raise UserError(f"expected shared weights of a search; got others: {error}.") from None


def views(arrays: Mapping[str, Any]) -> dict[str, Tensor]:
    """NumPy arrays as tensors over the same memory, which may be read-only: for looking only."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return {key: torch.from_numpy(array) for key, array in arrays.items()}


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

"""Where the parameters of a network lie among the shared ones of a supernet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from raynas.attention import Attention
from raynas.errors import UserError

CONTAINERS = (nn.Sequential, nn.ModuleDict, nn.ModuleList)
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

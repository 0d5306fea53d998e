"""Layers as what would be typed to make them: `nn.Conv2d(16, 32, 3, padding=1)`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

SKIPPED = ("device", "dtype")
ELSEWHERE = {"bias": ("bias", "in_proj_bias"), "num_parameters": ("num_parameters",)}


@dataclass(frozen=True)
class Value:
    """A tensor that a forward pass takes or makes, by number."""

    number: int


@dataclass(frozen=True)
class Own:
    """What a layer holds itself: a parameter, a buffer or a layer, by its path in it."""

    path: str


@dataclass(frozen=True)
class Batch:
    """So many times the number of images."""

    factor: int


@dataclass(frozen=True)
class Made:
    """A layer without parameters that a forward pass makes on the way."""

    module: nn.Module


@dataclass(frozen=True)
class Slot:
    """A parameter of the class or function that is written, or an expression of one."""

    text: str


@dataclass(frozen=True)
class Term:
    """A call: of a class of torch, or of a class or function that the file defines.

    Attributes:
        args: name (None where it goes without one) and value: a number, word, truth value, None, a
            tuple of them, another call, or a `Slot`.
        keys: of the layers that a sequence, list or dictionary holds.
    """

    head: str
    args: tuple[tuple[str | None, Any], ...] = ()
    keys: tuple[str, ...] | None = None


def children(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Names and layers inside, a layer that stands in two places included twice."""
    return ((name, child) for name, child in module._modules.items() if child is not None)


def class_of(module: nn.Module) -> str:
    """A class by where it is written: a function that defines one makes a new one each time."""
    return f"{type(module).__module__}.{type(module).__qualname__}"


def kind_of(module: nn.Module) -> str:
    """`sequence`, `list` or `dict`, `leaf` for a layer of torch's, `own` for any other class."""
    forward = type(module).forward
    if isinstance(module, nn.Sequential) and forward is nn.Sequential.forward:
        return "sequence"
    if isinstance(module, nn.ModuleList | nn.ModuleDict):
        return "list" if isinstance(module, nn.ModuleList) else "dict"
    return "own" if leaf(module) is None else "leaf"


def leaf(module: nn.Module) -> Term | None:
    """The call that makes a layer of torch's; None if there is none that makes the same layer."""
    bases = (c for c in type(module).__mro__ if c.__module__.startswith("torch.nn.modules."))
    base = next(bases, nn.Module)
    if base is nn.Module or type(module).forward is not base.forward:  # type: ignore[attr-defined]
        return None
    held: dict[str, Any] = {}
    for p in inspect.signature(base).parameters.values():
        if p.name in SKIPPED or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            continue
        if (value := _held(module, p.name)) is not _NOTHING:
            held[p.name] = value
    for given in ({n: _plain(v) for n, v in held.items()}, held):
        try:
            with torch.device("meta"):
                again = base(**given)
        except (TypeError, ValueError, RuntimeError, AssertionError):
            continue
        if _face(again, base) == _face(module, base):
            return Term(f"nn.{base.__name__}", tuple(given.items()))
    return None


def parameter(tensor: Tensor) -> Term:
    """What makes room for a parameter or buffer of this shape and type."""
    shape: tuple[tuple[str | None, Any], ...] = tuple((None, n) for n in tensor.shape)
    shape = shape or ((None, ()),)
    if tensor.dtype != torch.float32:
        shape = (*shape, ("dtype", tensor.dtype))
    return Term("torch.empty", shape)


@cache
def defaults(head: str) -> dict[str, Any]:
    """The arguments of a layer of torch's that need not be said, with their values."""
    kind = getattr(nn, head.removeprefix("nn."), None) if head.startswith("nn.") else None
    if kind is None:
        return {}
    known = inspect.signature(kind.__init__).parameters.values()
    return {p.name: p.default for p in known if p.default is not p.empty}


_NOTHING = object()


def _held(module: nn.Module, name: str) -> Any:
    """The value that a layer keeps of an argument; parameters stand for whether they are there."""
    for attribute in ELSEWHERE.get(name, (name,)):
        if hasattr(module, attribute):
            value = getattr(module, attribute)
            return value is not None if name == "bias" and not isinstance(value, bool) else value
    return _NOTHING


def _plain(value: Any) -> Any:
    """`3` for `(3, 3)`."""
    if isinstance(value, list):
        value = tuple(value)
    if isinstance(value, tuple) and value and all(v == value[0] for v in value):
        return value[0] if isinstance(value[0], int) else value
    return value


def _face(module: nn.Module, base: type[nn.Module]) -> tuple[Any, ...]:
    """What must be the same for two layers to act alike, but for the values of their weights."""
    state = [(n, tuple(t.shape), t.dtype) for n, t in module.state_dict().items()]
    constants = [(n, getattr(module, n, None)) for n in base.__dict__.get("__constants__", ())]
    known = [n for n in inspect.signature(base).parameters if hasattr(module, n)]
    said = [(n, getattr(module, n)) for n in known if not isinstance(getattr(module, n), Tensor)]
    return state, constants, said, base.extra_repr(module)

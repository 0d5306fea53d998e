"""What a network does to one image, as the calls of torch's functions that it makes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from raynas.space import Shape


@dataclass(frozen=True)
class Sketch:
    """A tensor without its numbers: shape, dtype, and strides where they are not the usual."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    strides: tuple[int, ...] | None = None

    @classmethod
    def of(cls, tensor: Tensor) -> Sketch:
        """What is kept of a tensor."""
        strides = None if tensor.is_contiguous() else tuple(tensor.stride())
        return cls(tuple(tensor.shape), tensor.dtype, strides)

    def empty(self, device: str) -> Tensor:
        """A tensor like it, of no particular numbers."""
        if self.strides is None:
            return torch.empty(self.shape, dtype=self.dtype, device=device)
        return torch.empty_strided(self.shape, self.strides, dtype=self.dtype, device=device)

    def filled(self, device: str) -> Tensor:
        """A tensor like it, of numbers from 0 to 1 (a variance must not be negative)."""
        tensor = self.empty(device)
        return tensor.uniform_() if tensor.is_floating_point() else tensor.zero_()

    @property
    def bytes(self) -> int:
        """Of its numbers."""
        return _product(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        text = "x".join(map(str, self.shape)) or "scalar"
        text += "" if self.dtype == torch.float32 else f":{str(self.dtype).removeprefix('torch.')}"
        return text + ("" if self.strides is None else f"@{'x'.join(map(str, self.strides))}")


@dataclass(frozen=True)
class Call:
    """One call of a function of torch, which computes something.

    Attributes:
        operation: the function's name: `conv2d`, `batch_norm`, `add`.
        text: what tells it from others: `conv2d(1x16x32x32, 16x16x3x3, none, 1x1, ...)`.
        tensors: those among the arguments, in order.
        output: the first tensor that comes out.
        weights: how many of the tensors' bytes are parameters or buffers.
    """

    operation: str
    text: str
    tensors: tuple[Sketch, ...]
    output: Sketch
    weights: int
    function: Callable[..., Any] = field(compare=False, repr=False)
    given: tuple[tuple[Any, ...], Mapping[str, Any]] = field(compare=False, repr=False)

    def on(self, device: str) -> Callable[[], Any]:
        """The call with tensors of its own, ready to be made again and again."""

        def real(value: Any) -> Any:
            if isinstance(value, torch.device):
                return torch.device(device)
            return value.filled(device) if isinstance(value, Sketch) else value

        positional, named = _mapped(real, self.given)
        return lambda: self.function(*positional, **named)

    def options(self) -> dict[str, str | int]:
        """`kernel`, `stride` and `groups` of a convolution; `kernel` and `stride` of a pooling."""
        positional, named = self.given
        found: dict[str, str | int] = {"kernel": "", "stride": "", "groups": 1}
        if "conv" in self.operation and len(self.tensors) > 1:
            names = ["input", "weight", "bias", "stride", "padding", "dilation", "groups"]
            found["kernel"] = _sides(self.tensors[1].shape[2:])
        elif "pool" in self.operation:
            names = ["input", "kernel", "stride"]
        else:
            return found
        said = dict(zip(names, positional, strict=False)) | dict(named)
        found |= {k: _sides(v) for k, v in said.items() if k in ("kernel", "stride")}
        return found | ({"groups": int(said["groups"])} if "groups" in said else {})


def calls_of(build: Callable[[], nn.Module], input_shape: Shape) -> list[Call]:
    """The calls that one image makes in a network, in order.

    The network is built on the meta device, which holds shapes and no numbers. What only looks at
    a tensor in another way (a reshape, a slice) is no call.
    """
    with torch.device("meta"):
        network = build().eval()
        images = torch.empty(1, *input_shape)
    stored = {id(t) for t in (*network.parameters(), *network.buffers())}
    with _Listening(stored) as heard, torch.no_grad():
        network(images)
    calls: list[Call] = heard.calls
    return calls


class _Listening(TorchFunctionMode):
    """Writes calls down; what is known to give a new tensor of some shape is not run again."""

    def __init__(self, stored: set[int]) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self._stored = stored

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        given = list(_tensors((args, kwargs)))
        if not given:
            return func(*args, **kwargs)
        before = _mapped(lambda v: Sketch.of(v) if isinstance(v, Tensor) else v, (args, kwargs))
        operation = _name(func)
        text = f"{operation}({_text(before)})"
        output = _NEW.get(text)
        if output is None:
            result = func(*args, **kwargs)
            made = next(_tensors(result), None)
            inside = made is not None and any(made is t for t in given)
            if made is None or (not inside and _is_view(made, given)):
                return result
            output = Sketch.of(made)
            if made is result and not inside:
                _NEW[text] = output
        else:
            result = output.empty("meta")
        sketches = tuple(Sketch.of(t) for t in given)
        weights = sum(t.nbytes for t in given if id(t) in self._stored)
        self.calls.append(Call(operation, text, sketches, output, weights, func, before))
        return result


_NEW: dict[str, Sketch] = {}  # by a call's text, which says all that shapes depend on


def _is_view(made: Tensor, given: Iterable[Tensor]) -> bool:
    storage = made.untyped_storage()._cdata
    return any(t.untyped_storage()._cdata == storage for t in given)


@lru_cache
def _name(function: Any) -> str:
    name: str = (resolve_name(function) or getattr(function, "__name__", "call")).rpartition(".")[2]
    return name if name.strip("_") == "" else name.strip("_")


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _mapped(change, v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        changed = [_mapped(change, v) for v in value]
        return changed if isinstance(value, list) else tuple(changed)
    return change(value)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _tensors(inner)
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from _tensors(inner)


def _text(given: tuple[tuple[Any, ...], Mapping[str, Any]]) -> str:
    positional, named = given
    return ", ".join([*map(_word, positional), *(f"{k}={_word(v)}" for k, v in named.items())])


def _word(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"[{' '.join(map(_word, value))}]"
    return "none" if value is None else str(value)


def _sides(value: Any) -> str:
    if isinstance(value, tuple | list):
        return "x".join(map(str, value))
    return "" if value is None else f"{value}x{value}"


def _product(numbers: Iterable[int]) -> int:
    total = 1
    for n in numbers:
        total *= n
    return total

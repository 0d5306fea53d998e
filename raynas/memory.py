"""What one pass through a network takes: operations and memory, told without any numbers."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from raynas.space import Shape

MB = 1e6
MOST = 20_000  # shapes of operations that are remembered
_SHAPES: dict[Any, Any] = {}


def peak_memory_mb(model: nn.Module, input_shape: Shape) -> float:
    """The most memory that a pass of one image holds at once, in 10^6 bytes.

    The weights as they are run, the image, and the results of operations from where they are made
    until Python lets go of the last that uses them, as eager PyTorch frees them. Without what
    kernels take for themselves while they run.

    Args:
        model: in eval mode, on the meta device or a real one; it is run once.
        input_shape: (channels, height, width) of one image.
    """
    return passed(model, input_shape).peak_bytes / MB


def passed(model: nn.Module, input_shape: Shape) -> Tally:
    """Runs a network once on one image, and returns what that took and gave."""
    weights = [*model.parameters(), *model.buffers()]
    device = weights[0].device if weights else torch.device("meta")
    images = torch.zeros(1, *input_shape, device=device)
    tally = Tally([*weights, images])
    with torch.no_grad(), tally:
        tally.output = model(images)
    return tally


class Tally(TorchDispatchMode):  # type: ignore[no-untyped-call]  # of its base
    """Counts operations and bytes while it is entered.

    Attributes:
        flops: floating point operations so far, two per multiply-add, of convolutions, matrix
            products and attention, by the formulas of torch's own counter.
        peak_bytes: the most that lived at once.
        output: for whoever runs a network under it.

    The shapes that come out of operations on the meta device are remembered, as working them out
    anew takes most of the time of a pass.
    """

    def __init__(self, given: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0
        self.peak_bytes = self._bytes = 0
        self.output: Any = None
        self._live: dict[int, Any] = {}
        for tensor in given:
            self._keep(tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        out = _shaped(func, args, kwargs) if _remembered(func) else func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=out)
        for tensor in _tensors(out):
            self._keep(tensor)
        return out

    def _keep(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._live:
            return
        size = storage.nbytes()

        def freed(_: Any) -> None:
            if self._live.pop(key, None) is not None:
                self._bytes -= size

        self._live[key] = weakref.ref(storage, freed)
        self._bytes += size
        self.peak_bytes = max(self.peak_bytes, self._bytes)


@cache
def _remembered(func: Any) -> bool:
    """Whether an operation makes new tensors whose shapes depend on those of its arguments."""
    schema = func._schema
    aliased = any(value.alias_info for value in (*schema.arguments, *schema.returns))
    return not aliased and func is not torch.ops.aten._unsafe_view.default  # which does share


def _shaped(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    key = (func, _key(args), _key(tuple(sorted(kwargs.items()))))
    try:
        made = _SHAPES.get(key)
    except TypeError:  # something that cannot be looked up
        return func(*args, **kwargs)
    if made is None:
        out = func(*args, **kwargs)
        found = _tensors(out)
        inputs = _tensors((*args, *kwargs.values()))
        if found and all(t.device.type == "meta" for t in (*found, *inputs)):
            if len(_SHAPES) >= MOST:
                _SHAPES.clear()
            _SHAPES[key] = _description(out)
        return out
    return _again(made)


def _key(value: Any) -> Any:
    if isinstance(value, Tensor):
        return (value.shape, value.stride(), value.dtype, value.device)
    if isinstance(value, list | tuple):
        return tuple(map(_key, value))
    return (type(value), value)  # 1, 1.0 and True are three values


def _description(out: Any) -> Any:
    if isinstance(out, Tensor):
        return (out.shape, out.stride(), out.dtype)
    return [None if part is None else _description(part) for part in out]


def _again(made: Any) -> Any:
    if isinstance(made, tuple):
        size, stride, dtype = made
        return torch.empty_strided(size, stride, dtype=dtype, device="meta")
    return tuple(None if part is None else _again(part) for part in made)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for part in value for tensor in _tensors(part)]
    return []

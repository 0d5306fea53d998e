"""What the forward passes of a network's own classes do, step by step.

A network is run on images while every call of a torch function and of a layer is written down with
the class in whose `forward` it happens. Loops over layers, conditions on shapes and helper
functions come out as the steps that they amount to for images of this shape; two batch sizes tell
which numbers stand for the number of images.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from raynas.errors import UserError
from raynas.export.terms import Batch, Made, Own, Value, children, class_of, kind_of

BATCHES = (3, 5)  # prime: a multiple of both is a multiple of the number of images
READERS = ("__bool__", "__float__", "__int__", "__index__", "item", "tolist", "__array__", "numpy")


@dataclass(frozen=True)
class Step:
    """One line of a forward pass.

    Attributes:
        does: a call of a function (`torch.cat`), of a method (`.permute`), of an operator or of a
            layer (`Own` of its path).
        results: the values that it makes; none where it changes one in place.
        several: whether it gives a tuple, of one value or of many.
    """

    does: str | Own | Made
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]
    results: tuple[int, ...]
    several: bool = False


@dataclass
class Forward:
    """A forward pass: the names of what it takes and of some values, its steps, what it returns.

    Attributes:
        constants: tensors that are no parameters or buffers, by the names that they get.
    """

    inputs: tuple[str, ...] = ()
    steps: list[Step] = field(default_factory=list)
    output: Any = None
    names: dict[int, str] = field(default_factory=dict)
    constants: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Recording:
    """Of a whole network: the forward pass of each layer of a class of its own, by identity.

    Attributes:
        shapes: what each layer returns for one image.
        output: what the network returns.
    """

    forwards: dict[int, Forward] = field(default_factory=dict)
    shapes: dict[int, tuple[int, ...]] = field(default_factory=dict)
    output: Any = None


def record(model: nn.Module, shape: tuple[int, ...]) -> Recording:
    """Runs a network in eval mode on random images of a shape `[C, H, W]`, on the CPU.

    Raises:
        UserError: a forward pass decides by what is in its tensors, or is otherwise one that no
            fixed steps stand for.
    """
    found = []
    for size in BATCHES:
        images = torch.randn(size, *shape, generator=torch.Generator().manual_seed(size))
        found.append(_Recorder(model, images).recording)
    first, second = found
    for key, forward in first.forwards.items():
        _join_batches(forward, second.forwards[key])
    return first


class _Frame:
    """A forward pass that is going on."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.forward = module, Forward()
        self.values: dict[int, int] = {}  # identity of a tensor -> number of the value
        self.kept: list[Any] = []  # so that no identity is given away again
        self.count = 0
        inside = module.named_modules(remove_duplicate=False)
        self.paths = {id(m): name for name, m in inside}
        self.own: dict[int, str] = {}
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            self.own[id(tensor)] = name

    def new(self, tensor: Tensor) -> int:
        number, self.count = self.count, self.count + 1
        self.values[id(tensor)] = number
        self.kept.append(tensor)
        return number

    def term(self, value: Any) -> Any:
        """An argument with its tensors as values of this forward pass."""
        if isinstance(value, Tensor):
            if id(value) in self.values:
                return Value(self.values[id(value)])
            if id(value) in self.own:
                return Own(self.own[id(value)])
            return self.constant(value)
        if isinstance(value, torch.Size):
            return tuple(value)
        if isinstance(value, slice):
            return slice(*(self.term(v) for v in (value.start, value.stop, value.step)))
        if isinstance(value, tuple | list):
            return type(value)(self.term(v) for v in value)
        if isinstance(value, bool | int | float | str | torch.dtype | type(None) | type(...)):
            return value
        if isinstance(value, torch.device):
            return str(value)
        raise UserError(
            f"{type(self.module).__name__}: its forward pass gives a torch function something that "
            f"cannot be written down ({type(value).__name__}). Export onnx or torch-export instead."
        )

    def constant(self, tensor: Tensor) -> Own:
        held = (name for name, v in vars(self.module).items() if v is tensor)
        name = next(held, f"constant{len(self.forward.constants)}")
        self.forward.constants[name] = tensor.detach().clone()
        self.own[id(tensor)] = name
        self.kept.append(tensor)
        return Own(name)

    def listen(self) -> None:
        """Learns how the forward pass itself calls its values."""
        code = inspect.unwrap(type(self.module).forward).__code__
        frame = sys._getframe(2)
        while frame is not None and frame.f_code is not code:
            frame = frame.f_back  # type: ignore[assignment]
        if frame is None:
            return
        for name, held in frame.f_locals.items():
            pairs = held.items() if isinstance(held, dict) else [(name, held)]
            for key, value in pairs:
                number = self.values.get(id(value))
                if number is not None and isinstance(key, str) and key.isidentifier():
                    self.forward.names.setdefault(number, key)


class _Recorder(TorchFunctionMode):
    def __init__(self, model: nn.Module, images: Tensor) -> None:
        super().__init__()
        self.recording, self.stack = Recording(), list[_Frame | None]([None])
        self.dropped = _plain_identities(model)
        self.own = {id(m) for m in model.modules() if kind_of(m) == "own"}
        original = nn.Module.__call__

        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            return self.call(original, module, args, kwargs)

        with torch.no_grad(), patch.object(nn.Module, "__call__", call), self:
            self.recording.output = model(images)

    def call(self, original: Any, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Stands in for `nn.Module.__call__`."""
        parent = self.stack[-1]
        frame = _Frame(module) if id(module) in self.own else None
        if parent is not None:
            parent.listen()
        given = (args, kwargs)
        if frame is not None:
            args, kwargs = _fresh(given)
            _bind(frame, args, kwargs)
        self.stack.append(frame)  # None: a layer of torch's or a sequence has no steps of its own
        try:
            out = original(module, *args, **kwargs)
        finally:
            self.stack.pop()
        if frame is not None:
            frame.forward.output = _map_tensors(frame.term, out)
            self.recording.forwards.setdefault(id(module), _needed(frame.forward))
        if isinstance(out, Tensor):
            self.recording.shapes[id(module)] = tuple(out.shape[1:])
        out = _fresh(out)
        if parent is not None:
            self.told(parent, module, given, out)
        return out

    def told(self, parent: _Frame, module: nn.Module, given: Any, out: Any) -> None:
        """Writes a layer's call down in the forward pass that it happens in."""
        tensors = tuple(parent.term(t) for t in _tensors(given))
        if id(module) in self.dropped and isinstance(tensors[0], Value):
            parent.values[id(out)] = tensors[0].number
            parent.kept.append(out)
            return
        path = parent.paths.get(id(module))
        several = not isinstance(out, Tensor)
        if several and not (isinstance(out, tuple | list) and all(map(_is_tensor, out))):
            raise UserError(
                f"{type(module).__name__} returns neither a tensor nor a tuple of tensors, which "
                "cannot be written as plain code. Export onnx or torch-export instead."
            )
        does = Made(module) if path is None else Own(path)  # made on the way: nn.ReLU()(x)
        results = tuple(parent.new(t) for t in _tensors(out))
        parent.forward.steps.append(Step(does, tensors, (), results, several))

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        out, frame = func(*args, **kwargs), self.stack[-1]
        if not isinstance(frame, _Frame):
            return out
        name = getattr(func, "__name__", "")
        if name in READERS:
            raise UserError(
                f"{type(frame.module).__name__}: its forward pass decides by what is in its "
                "tensors, which cannot be written as fixed steps. Export safetensors instead."
            )
        changes = name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))
        if not changes and not any(True for _ in _tensors(out)):
            return out  # a shape or the like, which is a number from here on
        frame.listen()
        does, kwargs = _name_of(func), _spoken(func, kwargs)
        terms = tuple(frame.term(a) for a in args)
        named = tuple((k, frame.term(v)) for k, v in kwargs.items())
        results: tuple[int, ...] = ()
        if not changes:
            out = _fresh(out)
            results = tuple(frame.new(t) for t in _tensors(out))
        several = not changes and not isinstance(out, Tensor)
        frame.forward.steps.append(Step(does, terms, named, results, several))
        return out


def _name_of(func: Callable[..., Any]) -> str:
    """`torch.cat`, `functional.pad`, `.permute` for a method, `.T` for what is read."""
    name = str(resolve_name(func) or func.__name__)
    if name.endswith(".__get__"):
        return f"@{name.split('.')[-2]}"
    for full, short in (
        ("torch.Tensor.", "."),
        ("torch.nn.functional.", "functional."),
        ("torch._C._nn.", "functional."),
        ("torch.functional.", "torch."),
    ):
        if name.startswith(full):
            return short + name.removeprefix(full)
    return name


def _spoken(func: Callable[..., Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The named arguments that say something: neither defaults nor for torch's own use."""
    try:
        known = inspect.signature(func).parameters
    except (TypeError, ValueError):
        return kwargs
    default = {n: p.default for n, p in known.items()}
    return {
        name: value
        for name, value in kwargs.items()
        if not name.startswith("_")
        and (isinstance(value, Tensor) or name not in default or default[name] != value)
    }


def _bind(frame: _Frame, args: Any, kwargs: Any) -> None:
    """Names what a forward pass takes as its signature does; what is no tensor is fixed."""
    bound = inspect.signature(frame.module.forward).bind(*args, **kwargs)
    names: list[str] = []
    for name, value in bound.arguments.items():
        found = [*_tensors(value)]
        for i, tensor in enumerate(found):
            several = len(found) > 1 or not isinstance(value, Tensor)
            names.append(f"{name.removesuffix('s')}{i}" if several else name)
            frame.forward.names[frame.new(tensor)] = names[-1]
    frame.forward.inputs = tuple(names)


def _needed(forward: Forward) -> Forward:
    """Without the steps whose results nobody uses (in-place changes are all kept)."""
    used = {v.number for v in _values(forward.output)}
    kept: list[Step] = []
    for step in reversed(forward.steps):
        if not step.results or used & {*step.results}:
            kept.append(step)
            used |= {v.number for v in _values((step.args, [v for _, v in step.kwargs]))}
    forward.steps = kept[::-1]
    return forward


def _join_batches(first: Forward, second: Forward) -> None:
    """Marks the numbers that stand for the number of images, which differ between two records."""
    if len(first.steps) != len(second.steps):
        raise _varies()
    first.steps = [
        Step(
            a.does,
            tuple(_joined(x, y) for x, y in zip(a.args, b.args, strict=True)),
            tuple((n, _joined(x, y)) for (n, x), (_, y) in zip(a.kwargs, b.kwargs, strict=True)),
            a.results,
            a.several,
        )
        for a, b in zip(first.steps, second.steps, strict=True)
        if a.does == b.does or isinstance(a.does, Made) or _refuse()
    ]


def _joined(a: Any, b: Any) -> Any:
    if isinstance(a, tuple | list):
        if len(a) != len(b):
            raise _varies()
        return type(a)(_joined(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, slice):
        parts = zip((a.start, a.stop, a.step), (b.start, b.stop, b.step), strict=True)
        return slice(*(_joined(x, y) for x, y in parts))
    if a == b:
        return a
    factor, rest = divmod(a, BATCHES[0]) if isinstance(a, int) else (0, 1)
    if rest or b != factor * BATCHES[1]:
        raise _varies()
    return Batch(factor)


def _varies() -> UserError:
    return UserError(
        "the network's forward pass does something else for another number of images, which cannot "
        "be written as fixed steps. Export safetensors instead."
    )


def _refuse() -> bool:
    raise _varies()


def _plain_identities(model: nn.Module) -> set[int]:
    """Layers that do nothing wherever a class has them, which nobody would write."""
    kinds: dict[tuple[str, str], set[bool]] = {}
    places: list[tuple[tuple[str, str], nn.Module]] = []
    for module in model.modules():
        if kind_of(module) != "own":
            continue
        direct = [(n, m) for n, m in children(module)]
        while direct:
            name, child = direct.pop()
            if isinstance(child, nn.ModuleDict):
                direct += [(f"{name}.{n}", m) for n, m in children(child)]
                continue
            key = (class_of(module), name)
            kinds.setdefault(key, set()).add(type(child) is nn.Identity)
            places.append((key, child))
    return {id(m) for key, m in places if kinds[key] == {True}}


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors([*value.values()])


def _values(value: Any) -> Iterator[Value]:
    if isinstance(value, Value):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _values(part)
    elif isinstance(value, dict):
        yield from _values([*value.values()])


def _map_tensors(change: Callable[[Tensor], Any], value: Any) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple | list):
        parts = [_map_tensors(change, v) for v in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, dict):
        return {k: _map_tensors(change, v) for k, v in value.items()}
    return value


def _fresh(value: Any) -> Any:
    """The same tensors as new Python objects over the same memory: an identity for each place."""
    with torch._C.DisableTorchFunction():
        return _map_tensors(lambda t: t.detach(), value)

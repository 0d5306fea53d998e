"""A network without its weights: copied, resized in place, and given new weights."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from raynas.errors import UserError
from raynas.resizing.flow import Convolution, Norm, reset_of, understood
from raynas.resizing.wording import brief, listed


def blueprint(module: nn.Module) -> tuple[nn.Module, list[str]]:
    """A copy without hooks, where what `initialised` draws anew has a shape but no numbers.

    Returns:
        The copy, and what a user should be told of it.

    Raises:
        UserError: a part is lazy or parametrized, or the module cannot be copied.
    """
    memo: dict[int, Any] = {}  # what copy.deepcopy takes in place of copying it
    hooked, kept = [], []
    for path, part in module.named_modules():
        if is_parametrized(part) or isinstance(part, nn.modules.lazy.LazyModuleMixin):
            raise UserError(
                f"{path}: expected a plain layer; got {type(part).__name__}. Remove its "
                "parametrization (torch.nn.utils.parametrize); run a lazy layer once before."
            )
        for kind in ("forward", "forward_pre", "backward", "backward_pre"):
            hooks = getattr(part, f"_{kind}_hooks")
            memo[id(hooks)] = OrderedDict()
            hooked += [path or "the network"] if hooks else []
        drawn = set(_drawn(part))
        for name, tensor in (*part._parameters.items(), *part._buffers.items()):
            if tensor is not None:
                if tensor.is_meta and name not in drawn:
                    raise UserError(
                        f"{path}.{name}: expected numbers, because no reset_parameters draws them; "
                        "got a tensor on torch's meta device. Make the network on the CPU."
                    )
                memo.setdefault(id(tensor), _twin(tensor, "meta" if name in drawn else "cpu"))
                if name in part._parameters and reset_of(part) is None:
                    kept.append(f"{path}.{name}".lstrip("."))
    try:
        copied = copy.deepcopy(module, memo).train()
    except Exception as error:
        raise UserError(
            f"{type(module).__name__}: expected a module that copy.deepcopy can copy; got "
            f"{brief(error)}."
        ) from error
    notes = [f"{listed(hooked)}: the hooks are not copied."] if hooked else []
    if kept:
        notes.append(f"{listed(kept)}: no reset_parameters, so all designs start from its values.")
    return copied, notes


def _drawn(part: nn.Module) -> Iterator[str]:
    """Parameters and buffers that `reset_parameters` is known to set."""
    if type(part).__module__.startswith("torch.nn.") and reset_of(part) is not None:
        yield from part._parameters
        yield from part._buffers if isinstance(part, Norm) else ()
    elif understood(part):
        yield from ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def _twin(tensor: Tensor, device: str | torch.device) -> Tensor:
    """A tensor of the same kind on a device; one without numbers gets none."""
    empty = tensor.device.type == "meta" or torch.device(device).type == "meta"
    copied = None if empty else tensor.detach().to(device, copy=True)
    made = torch.empty_like(tensor, device=device) if copied is None else copied
    return nn.Parameter(made, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else made


def initialised(model: nn.Module) -> nn.Module:
    """Puts a copy of a blueprint on the default device and draws its weights, in place.

    A part's own parts come first, as when it was constructed; shared weights stay shared.
    """
    device = torch.empty(0).device
    moved: dict[int, tuple[Tensor, Tensor]] = {}  # the old one is kept, or its id could come again
    for part in reversed(list(model.modules())):
        for name, old in (*part._parameters.items(), *part._buffers.items()):
            if old is not None:
                if id(old) not in moved:
                    moved[id(old)] = old, _twin(old, device)
                setattr(part, name, moved[id(old)][1])
        reset = reset_of(part)
        if reset is not None and device.type != "meta":
            reset()
    return model


def resize(part: Any, inputs: int | None, outputs: int | None, kernel: Any = None) -> None:
    """Changes what a layer takes and makes, in place; its weights lose their numbers.

    Args:
        part: one of `raynas.resizing.flow.LAYERS`.
        inputs, outputs: entries of the dimension that the layer acts on; None: as before.
        kernel: side of a Conv2d's kernel, whose padding follows; None: as before.
    """
    if isinstance(part, Convolution):
        _resize_convolution(part, inputs or part.in_channels, outputs or part.out_channels, kernel)
    elif isinstance(part, nn.Linear):
        part.in_features, part.out_features = (
            inputs or part.in_features,
            outputs or part.out_features,
        )
        _reshape(part, "weight", (part.out_features, part.in_features))
        _reshape(part, "bias", (part.out_features,))
    elif outputs:
        _resize_norm(part, outputs)


def _resize_convolution(part: Any, inputs: int, outputs: int, kernel: Any) -> None:
    if 1 < part.groups == part.in_channels:
        part.groups = inputs
    part.in_channels, part.out_channels = inputs, outputs
    if kernel is not None:
        part.kernel_size = (kernel, kernel)
        if part.padding != "same":
            part.padding = tuple(d * (kernel - 1) // 2 for d in part.dilation)
    first, second = (inputs, outputs) if part.transposed else (outputs, inputs)
    _reshape(part, "weight", (first, second // part.groups, *part.kernel_size))
    _reshape(part, "bias", (outputs,))


def _resize_norm(part: Any, count: int) -> None:
    shape: tuple[int, ...] = (count,)
    if isinstance(part, nn.LayerNorm):
        shape = part.normalized_shape = (count, *part.normalized_shape[1:])
    elif isinstance(part, nn.GroupNorm):
        part.num_channels = count
    elif isinstance(part, nn.PReLU):
        part.num_parameters = count
    else:
        part.num_features = count
    for name in ("weight", "bias", "running_mean", "running_var"):
        _reshape(part, name, shape)


def _reshape(part: nn.Module, name: str, shape: tuple[int, ...]) -> None:
    old = getattr(part, name, None)
    if old is not None and tuple(old.shape) != shape:
        new = torch.empty(shape, device="meta", dtype=old.dtype)
        parameter = isinstance(old, nn.Parameter)
        setattr(part, name, nn.Parameter(new, old.requires_grad) if parameter else new)

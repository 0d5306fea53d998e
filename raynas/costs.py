"""What a design costs before it is trained: parameters and FLOPs, without real memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from raynas.architecture import Architecture
from raynas.space import Shape, Space


def costs_of(
    space: Space, architecture: Architecture, input_shape: Shape, num_classes: int
) -> dict[str, float]:
    """`params` and `flops` of a design: by the space's formula, or by counting its network."""
    if space.costs is not None:
        return space.costs(architecture, input_shape, num_classes)
    assert space.build is not None, "only a space that builds networks has costs"
    build = space.build
    return count(lambda: build(architecture, input_shape, num_classes), input_shape)


def count(build: Callable[[], nn.Module], input_shape: Shape) -> dict[str, float]:
    """Counts a network that is built on the meta device, which holds shapes but no numbers.

    Args:
        build: makes the network.
        input_shape: (channels, height, width) of one image.

    Returns:
        `params`: trainable numbers. `flops`: floating point operations to classify one image,
        two per multiply-add, of convolutions, matrix products and attention (what torch's
        counter counts; on CPU tensors it would miss attention).
    """
    with torch.device("meta"):
        model = build().eval()
        images = torch.empty(1, *input_shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(images)
    params = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {"params": float(params), "flops": float(counter.get_total_flops())}


def layers(
    space: Space, architecture: Architecture, input_shape: Shape, num_classes: int
) -> list[dict[str, Any]]:
    """The design as numbered layers, in the order in which an image passes them.

    A layer is a direct child of the network; of a child that is a plain container, its children.

    Returns:
        One row per layer: `name`, `kind` (its class), `shape_in` and `shape` of what enters and
        leaves for one image, `params`, `flops`, and `decisions` (the names of those that made it).
    """
    assert space.build is not None, "only a space that builds networks has layers"
    with torch.device("meta"):
        model = space.build(architecture, input_shape, num_classes).eval()
        images = torch.empty(1, *input_shape)
    rows: list[dict[str, Any]] = []
    with FlopCounterMode(display=False) as counter:
        for name, part in _parts(model):
            part.register_forward_pre_hook(_opener(rows, name, part, counter, architecture))
            part.register_forward_hook(_closer(rows, name, counter))
        with torch.no_grad():
            model(images)
    return rows


def _parts(model: nn.Module, prefix: str = "") -> Iterable[tuple[str, nn.Module]]:
    for name, part in model.named_children():
        if isinstance(part, nn.ModuleList | nn.ModuleDict):
            yield from _parts(part, f"{prefix}{name}.")
        else:
            yield prefix + name, part


def _opener(
    rows: list[dict[str, Any]],
    name: str,
    part: nn.Module,
    counter: FlopCounterMode,
    architecture: Architecture,
) -> Callable[[nn.Module, Any], None]:
    def opened(_: nn.Module, inputs: Any) -> None:
        again = any(row["name"] == name for row in rows)
        params = sum(p.numel() for p in part.parameters() if p.requires_grad)
        rows.append(
            {
                "name": name,
                "kind": type(part).__name__,
                "shape_in": _shape(inputs),
                "shape": (),
                "params": 0 if again else params,  # a part used twice has its weights once
                "flops": -counter.get_total_flops(),
                "decisions": decisions_of(name, architecture),
            }
        )

    return opened


def _closer(
    rows: list[dict[str, Any]], name: str, counter: FlopCounterMode
) -> Callable[[nn.Module, Any, Any], None]:
    def closed(_: nn.Module, inputs: Any, output: Any) -> None:
        del inputs
        row = next(row for row in reversed(rows) if row["name"] == name)
        row["shape"] = _shape(output)
        row["flops"] += counter.get_total_flops()

    return closed


def _shape(value: Any) -> tuple[int, ...]:
    """Of a tensor, or of the last tensor in what was passed: cells pass two."""
    while isinstance(value, tuple | list):
        value = value[-1]
    return tuple(value.shape[1:]) if isinstance(value, Tensor) else ()


def decisions_of(name: str, architecture: Architecture) -> list[str]:
    """The active decisions that a layer of this name goes back to.

    Those of the layer `name` and within it (`stage1`: `stage1.depth`, `stage1.block0.kernel`);
    if there are none, of the layer whose repetition it is (`normal3`, `stage1_2`: `normal`,
    `stage1`).
    """
    for layer in (name, re.sub(r"_?\d+\Z", "", name)):
        found = [n for n in architecture.options if n.startswith(f"{layer}.")]
        if found:
            return found
    return []

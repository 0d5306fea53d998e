"""An existing network as a space: its widths, depths and kernel sizes, without an edit.

    space = raynas.elastic(torchvision.models.resnet18(num_classes=10), (1, 3, 32, 32))

A design is the network itself with layers resized in place and blocks that are left out replaced by
`nn.Identity`, so that its forward pass and the names of its parameters stay the user's. `tracing`
finds which channels belong together, `decisions` what may change, `blueprint` makes the network.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raynas.architecture import Architecture, Decision
from raynas.errors import UserError
from raynas.resizing.blueprint import blueprint, initialised, resize
from raynas.resizing.channels import Layer, Parts
from raynas.resizing.decisions import (
    Row,
    depths,
    in_order,
    kernels,
    notes,
    originals,
    rows_of,
    widths,
    word,
)
from raynas.resizing.tracing import Channels, channels_of
from raynas.resizing.wording import DOOR, brief
from raynas.space import Build, Known, Shape, Space

CHECKS = 3  # designs drawn at random that must run, besides the smallest and the largest


def elastic(
    module: nn.Module,
    example_input: Tensor | Sequence[int],
    *,
    shares: Sequence[float] = (0.5, 0.75, 1.0),
) -> Space:
    """The space of the networks that `module` becomes when its layers are resized.

    Every group of channels that must change together is one decision (`layer1_0_conv1.width`),
    every odd, square, padded kernel another (`.kernel_size`: two smaller, as it is, two larger,
    never below 3), and of every row of blocks that return what they take in shape the last may
    be left out (`layer1.depth`). `Space.narrow` takes away what should not be searched.

    Args:
        module: a network from images to logits `[N, classes]` whose forward pass torch.fx can
            record. It is copied without its hooks and stays untouched.
        example_input: images `[N, C, H, W]`, or their shape; only the shape is read.
        shares: of the channels of each group that are offered, rounded to multiples of 8 where
            that leaves as many options. The network's own number is always offered.

    Returns:
        A space whose `notes` say what stays as it is and why, and whose known design `original`
        is the network as given. The weights of its designs are drawn by each layer's
        `reset_parameters`; parameters of classes without one, and buffers other than the
        statistics of norms, have the values that they have in `module`.

    Raises:
        UserError: the forward pass cannot be recorded, or nothing in it can be resized.
    """
    if not isinstance(module, nn.Module):
        raise UserError(f"expected a network (an instance, not its class); got {module!r}.")
    name, shape = type(module).__name__, _image_shape(example_input)
    if not isinstance(shares, Sequence) or not all(share > 0 for share in shares):
        raise UserError(f"expected shares of channels above 0, such as (0.5, 1.0); got {shares}.")
    template, said = blueprint(module)
    with torch.device("meta"):
        model, images = initialised(copy.deepcopy(template)), torch.empty(2, *shape)
    channels = channels_of(model, images)
    rows = rows_of(model, channels)
    found = [*depths(rows), *widths(channels, rows, shares), *kernels(model, channels, rows)]
    build = _builder(name, template, channels, rows, shape)
    kept, broken = _working(name, in_order(found, rows, channels), build, images, channels.output)
    said += [*notes(model, channels), *broken]
    if not kept:
        raise UserError(
            f"{name}: expected layers that can be resized; found none. {' '.join(said)} {DOOR}"
        )
    space, sizes = Space(name, tuple(kept)), originals(model, channels)
    original = space.answer(lambda d: sizes.get(d.name, d.options[-1])).options
    known = Known(original, "the network as given", None, None, shape, channels.output[1])
    return replace(space, build=build, known={"original": known}, notes=tuple(said))


def _image_shape(example: Tensor | Sequence[int]) -> Shape:
    shape = tuple(getattr(example, "shape", example if isinstance(example, Sequence) else ()))
    if len(shape) not in (3, 4) or not all(isinstance(n, int) and n > 0 for n in shape):
        raise UserError(
            f"expected images [N, C, H, W] or their shape as example_input; got {shape}."
        )
    return shape[-3], shape[-2], shape[-1]


def _builder(
    name: str, template: nn.Module, channels: Channels, rows: Sequence[Row], shape: Shape
) -> Build:
    """The function `Space.build`; it holds shapes, not weights."""
    layers, order, classes = dict(channels.layers), channels.order, channels.output[1]
    decided = {n: f"{word(g.makers[0])}.width" for n, g in channels.groups.items() if g.makers}
    fitting = {shape}

    def build(architecture: Architecture, input_shape: Shape, num_classes: int) -> nn.Module:
        if (input_shape[0], num_classes) != (shape[0], classes):
            raise UserError(
                f"{name}: expected {shape[0]} input channels and {classes} classes, as in the "
                f"network given to raynas.elastic; got {input_shape[0]} and {num_classes}. Give "
                "it a network made for this data."
            )
        if input_shape not in fitting:
            _check_size(name, template, input_shape, shape)
            fitting.add(input_shape)
        options, model = architecture.options, copy.deepcopy(template)
        for path in order:
            layer, kernel = layers.get(path, Layer()), options.get(f"{word(path)}.kernel_size")
            inputs = _total(layer.inputs, decided, options)
            outputs = _total(layer.outputs, decided, options)
            if inputs or outputs or kernel:
                resize(model.get_submodule(path), inputs, outputs, kernel)
        for row in rows:
            for path in row.paths[int(options.get(row.decision, len(row.paths))) :]:
                _leave_out(model, path)
        return initialised(model)

    return build


def _total(parts: Parts, decided: Mapping[int, str], options: Mapping[str, Any]) -> int | None:
    """How many entries the parts have in a design; None without parts."""
    counts = (options.get(decided.get(p.group, ""), p.count) * p.repeat for p in parts)
    return sum(counts) if parts else None


def _leave_out(model: nn.Module, path: str) -> None:
    block = model.get_submodule(path)
    for owner in list(model.modules()):
        for child, part in list(owner._modules.items()):
            if part is block:
                owner.add_module(child, nn.Identity())


def _check_size(name: str, template: nn.Module, got: Shape, expected: Shape) -> None:
    try:
        with torch.device("meta"), torch.no_grad():
            initialised(copy.deepcopy(template))(torch.empty(2, *got))
    except Exception as error:
        raise UserError(
            f"{name}: expected images {list(expected)}, as given to raynas.elastic; got "
            f"{list(got)}, for which the network does not run ({brief(error)})."
        ) from error


def _working(
    name: str, decisions: list[Decision], build: Build, images: Tensor, output: tuple[int, ...]
) -> tuple[list[Decision], list[str]]:
    """The decisions under which the network runs, tried without numbers, and notes on others."""
    shape, rng = (images.shape[1], images.shape[2], images.shape[3]), np.random.default_rng(0)

    def fault(architecture: Architecture) -> str:
        try:
            with torch.device("meta"), torch.no_grad():
                model = build(architecture, shape, output[1])
                got = [tuple(model.train(mode)(images).shape) for mode in (True, False)]
        except Exception as error:
            return brief(error)
        return "" if got == [output, output] else f"its output becomes {list(got[0])}"

    def first_fault(kept: list[Decision]) -> str:
        space = Space(name, tuple(kept))
        tried = [space.answer(lambda d: d.options[0]), space.answer(lambda d: d.options[-1])]
        tried += [space.sample(rng) for _ in range(CHECKS)]
        return next(filter(None, map(fault, tried)), "")

    if not first_fault(decisions):
        return decisions, []
    alone = {
        d: next(filter(None, (fault(Architecture(name, ((d.name, o),))) for o in d.options)), "")
        for d in decisions
    }
    said = [f"{d.meaning}: stays, because otherwise {why}." for d, why in alone.items() if why]
    names = {d.name for d, why in alone.items() if not why}
    kept = [d for d in decisions if d.name in names]
    kept = [d if d.when is None or d.when[0] in names else replace(d, when=None) for d in kept]
    if left := first_fault(kept):
        raise UserError(f"{name}: some of the resized networks do not run: {left}. {DOOR}")
    return kept, said

"""A trained network as one file of plain PyTorch, which a person can read, change and run."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from raynas.errors import UserError
from raynas.export.layout import INDENT, brackets, definition, fold, items, text
from raynas.export.recording import Recording, record
from raynas.export.sharing import Written, share
from raynas.export.template import FILE, MAIN, NORMALIZED, USAGE

COLOURS = {1: "L", 3: "RGB"}  # channels -> how Pillow calls such pictures


@dataclass(frozen=True)
class Origin:
    """What a file says of where the network is from.

    Attributes:
        title: what was found where.
        architecture: the design's text.
        shape: of an image, `[C, H, W]`.
        classes: the names of the classes.
        mean, std: of each channel, which images are normalized with.
        highest: of the values in the images that it was trained on; None if not known.
    """

    title: str
    architecture: str
    shape: tuple[int, int, int]
    classes: Sequence[str]
    mean: Sequence[float]
    std: Sequence[float]
    highest: float | None = None


def write(model: nn.Module, origin: Origin, name: str) -> tuple[str, dict[str, Tensor]]:
    """The file's text, and the weights that it loads from `NAME.safetensors` beside it.

    Args:
        model: a plain network on the CPU, in eval mode.
        name: of the file, without `.py`.

    Raises:
        UserError: the network's forward passes cannot be written down, or what was written does
            not compute what the network does.
    """
    recording = record(model, origin.shape)
    written = share(model, recording)
    said = _file(written, recording, model, origin, name)
    weights = _checked(said, model, recording, origin)
    return said, weights


def _file(
    written: Written, recording: Recording, model: nn.Module, origin: Origin, name: str
) -> str:
    channels, height, width = origin.shape
    readable, scale = channels in COLOURS, _scale(origin)
    definitions = "\n\n\n".join(definition(d) for d in written.definitions)
    classes = fold("", f"CLASSES = {text(tuple(origin.classes))}")
    parts = {
        "title": origin.title,
        "name": name,
        "architecture": _wrapped(origin.architecture),
        "classes": "\n".join(classes),
        "mean": repr(tuple(_number(v) for v in origin.mean)),
        "std": repr(tuple(_number(v) for v in origin.std)),
        "channels": channels,
        "height": height,
        "width": width,
        "number": len(origin.classes),
        "range": f"0 to {_number(origin.highest)}" if origin.highest else "in their own unit",
        "pixels": "pixels" if scale == 1 else f"pixels * {_number(scale)}",
        "colours": COLOURS.get(channels, ""),
    }
    parts["usage"] = USAGE.format(**parts) if readable else ""
    network = _network(written, recording, model, origin)
    body = "\n\n\n".join(part for part in (definitions, network, NORMALIZED) if part)
    head = FILE.format(**parts, imports=_imports(body, readable)).replace("@BODY@", body)
    return head + (MAIN.format(**parts) if readable else "")


def _network(written: Written, recording: Recording, model: nn.Module, origin: Origin) -> str:
    channels, height, width = origin.shape
    lines = [
        "def network() -> nn.Module:",
        f'{INDENT}"""Normalized images `[N, {channels}, {height}, {width}]` -> logits '
        f'`[N, {len(origin.classes)}]`; its weights are still random."""',
    ]
    term = written.network
    if term.keys is None:
        return "\n".join([*lines, *fold(INDENT, f"return {text(term)}")])
    opening, closing = brackets(term)
    lines.append(f"{INDENT}return {opening}")
    inside = dict(model.named_children())
    for key, said in items(term):
        shape = recording.shapes.get(id(inside[key]))
        comment = f"  # {list(shape)}" if shape else ""
        lines += fold(INDENT * 2, said, ",", len(comment))
        lines[-1] += comment
    return "\n".join([*lines, f"{INDENT}{closing}"])


def _imports(body: str, readable: bool) -> str:
    lines = ["import sys"] if readable else []
    lines += ["from collections import OrderedDict"] if "OrderedDict(" in body else []
    lines += ["from pathlib import Path", ""]
    lines += [
        "import torch",
        "from safetensors.torch import load_file",
        "from torch import Tensor, nn",
    ]
    lines += ["from torch.nn import functional"] if "functional." in body else []
    return "\n".join(lines)


def _wrapped(said: str) -> str:
    lines = said.replace("} ", "}\n").splitlines()
    fit = (textwrap.wrap(x, 96, initial_indent="    ", subsequent_indent="      ") for x in lines)
    return "\n".join(line for part in fit for line in part)


def _number(value: float) -> float | int:
    return int(value) if float(value).is_integer() else float(f"{value:.9g}")


def _scale(origin: Origin) -> float:
    """What brings a picture's pixels, 0 to 255, to the values that the network has seen."""
    if origin.highest is None or origin.highest >= 128:
        return 1.0
    return origin.highest / 255


def _checked(
    said: str, model: nn.Module, recording: Recording, origin: Origin
) -> dict[str, Tensor]:
    """Runs the file, gives its network the weights, and compares what the two compute."""
    module: dict[str, Any] = {"__name__": "exported", "__file__": "exported.py"}
    try:
        exec(compile(said, "exported.py", "exec"), module)
        with torch.random.fork_rng(devices=[]):
            network = module["network"]()
    except Exception as error:  # a network that nobody has thought of: the others can have it
        raise UserError(f"what was written cannot be run ({error}). {OTHERWISE}") from error
    state = _state(model, recording)
    missing = [key for key in network.state_dict() if key not in state]
    if missing:
        raise UserError(f"the network's {missing[0]} cannot be written down. {OTHERWISE}")
    weights = {key: state[key].detach().clone().contiguous() for key in network.state_dict()}
    network.load_state_dict(weights)
    network.eval()
    images = torch.randn(4, *origin.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        same = torch.equal(network(images), model(images))
    if not same:
        raise UserError(f"what was written computes something else than the network. {OTHERWISE}")
    return weights


OTHERWISE = "Export onnx, torch-export or safetensors instead."


def _state(model: nn.Module, recording: Recording) -> Mapping[str, Tensor]:
    """All that is kept of a network, buffers that are usually not saved and constants included."""
    found = dict(model.named_buffers(remove_duplicate=False)) | model.state_dict()
    for path, module in model.named_modules(remove_duplicate=False):
        forward = recording.forwards.get(id(module))
        for name, tensor in (forward.constants if forward else {}).items():
            found[f"{path}.{name}".removeprefix(".")] = tensor
    return found

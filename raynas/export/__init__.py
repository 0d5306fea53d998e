"""Networks of a finished search for use elsewhere: ONNX, torch.export, safetensors, a Python file.

What is written is read again and must do what the network of the search does; where the data can
be loaded, it must reach the accuracy that the search reported.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from raynas.errors import UserError, unknown
from raynas.export.interchange import onnx, onnx_session, torch_export
from raynas.export.plain import plain
from raynas.export.source import Origin, write
from raynas.remote import Remote

if TYPE_CHECKING:
    from raynas.result import SearchResult
    from raynas.training import DeviceData

__all__ = ["FORMATS", "Exported", "export", "exported"]

FORMATS = {  # name -> ending of the file
    "onnx": ".onnx",
    "torch-export": ".pt2",
    "safetensors": ".safetensors",
    "python": ".py",
}
ONNX_SLACK = 1e-4  # of the images that an ONNX network may class otherwise: one in 10,000


@dataclass(frozen=True)
class Exported:
    """What was written, and how it was checked.

    Attributes:
        path: the file; a Python file has its weights beside it.
        files: all of them.
        checks: what was compared, in words.
    """

    path: Path
    files: tuple[Path, ...]
    checks: tuple[str, ...]


def export(
    result: SearchResult, trial: int | None, format: str, out: str | Path | None = None
) -> Path:
    """Writes a trained network of the front; returns the file.

    Args:
        trial: None is the best in the first objective.
        format: of FORMATS.
        out: the file; None is one under `exports`, in the run's folder if it is one of this
            machine.

    Raises:
        UserError: the weights were not kept, the format cannot hold the network, or what was
            written does something else than the network of the search.
    """
    return exported(result, trial, format, out).path


def exported(
    result: SearchResult, trial: int | None, format: str, out: str | Path | None = None
) -> Exported:
    """See `export`; also says what was checked."""
    if format not in FORMATS:
        raise unknown("format", format, [*FORMATS])
    number = int(result._row(trial)["number"])
    model = plain(result.get_model(number))
    path = _place(result, number, format, out)
    data, why_not = _data(result)
    origin = _origin(result, number, data)
    said = _metadata(origin)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        draft = Path(folder) / path.name
        classify = _written(model, origin, said, format, draft)
        checks = [CHECKED[format]]
        if data is None:
            checks.append(f"the accuracy was not measured again: {why_not}")
        else:
            checks.append(_accuracy(result, number, classify, data, format))
        files = tuple(path.parent / file.name for file in sorted(Path(folder).iterdir()))
        for file in files:
            os.replace(Path(folder) / file.name, file)
    return Exported(path, files, tuple(checks))


CHECKED = {
    "onnx": "onnxruntime gives the network's logits to 1e-4 on random images",
    "torch-export": "read again, it gives the network's logits on random images",
    "safetensors": "read again, it has the network's weights to the bit",
    "python": "run, it gives the network's logits to the bit on random images",
}


def _written(
    model: nn.Module, origin: Origin, said: dict[str, str], format: str, out: Path
) -> Callable[[Tensor], Tensor]:
    """Writes a file; returns the network as it is read from it again."""
    if format == "onnx":
        onnx(model, origin.shape, said, out)
        run: Callable[[Tensor], Tensor] = onnx_session(out)
        return run
    if format == "torch-export":
        return torch_export(model, origin.shape, said, out)
    if format == "safetensors":
        state = {n: t.detach().clone().contiguous() for n, t in model.state_dict().items()}
        out.write_bytes(save(state, metadata=said))
        again = load_file(out)
        if not all(torch.equal(again[name], tensor) for name, tensor in state.items()):
            raise UserError(f"{out}: what was written is not what is read. Try another folder.")
        model.load_state_dict(again)
        return model
    text, weights = write(model, origin, out.stem)
    out.write_text(text, encoding="utf-8")
    out.with_suffix(".safetensors").write_bytes(save(weights, metadata=said))
    network: nn.Module = _imported(out).load()
    return network


def _imported(file: Path) -> Any:
    """The module that a Python file is, as nobody else has imported it."""
    spec = importlib.util.spec_from_file_location(f"_exported_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


def _place(result: SearchResult, number: int, format: str, out: str | Path | None) -> Path:
    ending = FORMATS[format]
    # A Python file has weights of its own beside it: those alone must not take their place.
    usual = f"trial{number}{'_weights' if format == 'safetensors' else ''}{ending}"
    if out is None:
        here = Path() if isinstance(result.path, Remote) else result.path
        return here / "exports" / usual
    path = Path(out)
    if path.is_dir():
        return path / usual
    if path.suffix != ending:
        raise UserError(f"--out: expected a file that ends in {ending}; got {path.name!r}.")
    if format == "python" and not path.stem.isidentifier():
        raise UserError(
            f"--out: expected a name that Python can import, such as trial{number}.py; got "
            f"{path.name!r}."
        )
    return path


def _data(result: SearchResult) -> tuple[DeviceData | None, str]:
    """The images of the search on the CPU, or None and why not."""
    from raynas.data import load
    from raynas.training import DeviceData

    info = result.info
    if info.problem.dataset == "(own data)":
        return None, "the search was on data of your own"
    try:
        data = load(info.problem.dataset, seed=info.settings["seed"], **info.settings["loading"])
    except UserError as error:
        return None, str(error)
    return DeviceData.of(data, torch.device("cpu")), ""


def _origin(result: SearchResult, number: int, data: DeviceData | None) -> Origin:
    info = result.info.data
    row = result._row(number)
    accuracy = row.get("m.test_accuracy", math.nan)
    reached = "" if math.isnan(accuracy) else f", {accuracy:.2%} right on its test images"
    channels, height, width = info["input_shape"]
    return Origin(
        f"Trial {number} of a search on {info['name']}{reached}.",
        str(result.architecture(number)),
        (channels, height, width),
        info["class_names"],
        info["mean"],
        info["std"],
        float(data.train.images.max()) if data is not None else None,
    )


def _metadata(origin: Origin) -> dict[str, str]:
    """Texts; lists and numbers as JSON."""
    return {
        "title": origin.title,
        "architecture": origin.architecture,
        "input_shape": json.dumps(list(origin.shape)),
        "classes": json.dumps(list(origin.classes)),
        "mean": json.dumps([*map(float, origin.mean)]),
        "std": json.dumps([*map(float, origin.std)]),
    }


def _accuracy(
    result: SearchResult,
    number: int,
    classify: Callable[[Tensor], Tensor],
    data: DeviceData,
    format: str,
) -> str:
    """Measures what was written on the test images; raises UserError if it is not the network."""
    from raynas.training import measure

    reported = float(result._row(number).get("m.test_accuracy", math.nan))
    found = measure(_Callable(classify), data, data.test)["accuracy"]
    total = len(data.test.labels)
    here = f"{found:.2%} of {total} test images are classed right"
    if math.isnan(reported):
        return f"{here}; the search did not measure it"
    slack = max(1.0, ONNX_SLACK * total) / total if format == "onnx" else 0.0
    if abs(found - reported) <= slack + 1e-9:
        return f"{here}, as in the search"
    model = result.get_model(number)
    searched = measure(model.to(memory_format=torch.channels_last), data, data.test)["accuracy"]
    if abs(found - searched) <= slack + 1e-9:
        # Trained elsewhere: a GPU's bfloat16 rounds otherwise than what runs here.
        return f"{here}, as by the search's own network here; {reported:.2%} where it was trained"
    raise UserError(
        f"the {format} export classes {found:.4%} of the test images right; the search reported "
        f"{reported:.4%}. Nothing was written. Export another format, and report this."
    )


class _Callable(nn.Module):
    """What was read again as a network, which may not be one, or not know of eval mode."""

    def __init__(self, classify: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.classify = classify

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(images)

    def eval(self) -> _Callable:
        return self

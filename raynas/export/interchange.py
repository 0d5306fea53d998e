"""Networks for other programs: ONNX and torch.export, each read again and compared."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from raynas.blocks import Resize, resized
from raynas.errors import UserError

TOLERANCE = 1e-4  # of an ONNX network's logits, as a share of the largest, or of 1
OPSET = 20


def onnx(model: nn.Module, shape: tuple[int, ...], said: Mapping[str, str], out: Path) -> None:
    """Writes ONNX: `images` `[N, C, H, W]`, normalized, any N -> `logits` `[N, classes]`.

    Args:
        said: what stands in the file's metadata.

    Raises:
        UserError: onnx is not installed, or what was written computes something else.
    """
    try:
        import onnx as library
        import onnxruntime  # noqa: F401  # onnx_session needs it afterwards
        import onnxscript  # noqa: F401  # torch.onnx needs it
    except ImportError as error:
        raise UserError(
            f"expected onnx, onnxruntime and onnxscript; {error.name} is not installed. Install "
            "them: pip install 'raynas[export]'."
        ) from None
    plain, images = _without_resizing(model, shape), _images(2, shape)
    with _quiet():
        program = torch.onnx.export(
            plain,
            (images,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    for key, value in said.items():
        proto.metadata_props.add(key=key, value=value)
    library.save(proto, str(out))
    run = onnx_session(out)
    for batch in (1, 5):
        images = _images(batch, shape)
        with torch.no_grad():
            expected = model(images)
        _compare(run(images), expected, out, TOLERANCE)


def onnx_session(path: Path) -> Any:
    """A function that runs an ONNX file on the CPU: normalized images -> logits."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])

    return run


def torch_export(
    model: nn.Module, shape: tuple[int, ...], said: Mapping[str, str], out: Path
) -> nn.Module:
    """Writes a program of `torch.export` for any number of images; returns it as read again.

    Raises:
        UserError: what was written computes something else.
    """
    with _quiet(), torch.no_grad():
        dynamic = ({0: torch.export.Dim("batch")},)
        program = torch.export.export(model, (_images(2, shape),), dynamic_shapes=dynamic)
        torch.export.save(program, out, extra_files={"raynas.json": json.dumps(said)})
        again = torch.export.load(out).module()
    for batch in (1, 5):
        images = _images(batch, shape)
        with torch.no_grad():
            _compare(again(images), model(images), out, 1e-6)
    return again


def _images(batch: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(batch))


def _compare(found: Tensor, expected: Tensor, out: Path, tolerance: float) -> None:
    apart = float((found - expected).abs().max() / expected.abs().max().clamp_min(1.0))
    if not apart <= tolerance:
        raise UserError(
            f"{out}: expected the network's logits to {tolerance:g} on random images; they are "
            f"{apart:.2g} apart. Export safetensors or python instead."
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters print and warn of, which is about their own inside."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            torch.random.fork_rng(devices=[]),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


class _Interpolation(nn.Module):
    """`Resize` as two matrix products, which every ONNX runtime has."""

    rows: Tensor
    columns: Tensor

    def __init__(self, height: int, width: int, share: float) -> None:
        super().__init__()
        self.register_buffer("rows", _weights(height, share))
        self.register_buffer("columns", _weights(width, share).T.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, H, W]` at a share of its height and width."""
        return self.rows @ x @ self.columns


def _weights(side: int, share: float) -> Tensor:
    """How much each of the old pixels is in each new one, `[new, old]`."""
    each = torch.eye(side)[None, None]  # a row for each old pixel
    size = (side, resized(side, share))
    return functional.interpolate(each, size, mode="bilinear", antialias=True)[0, 0].T.contiguous()


def _without_resizing(model: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """The network with matrix products for `Resize` at its front, where the spaces have it."""
    first = next(iter(model.children()), None)
    if not isinstance(model, nn.Sequential) or not isinstance(first, Resize):
        return model
    made = _Interpolation(shape[1], shape[2], first.share)
    return nn.Sequential(made, *[*model.children()][1:]).eval()

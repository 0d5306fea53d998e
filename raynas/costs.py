"""What a design costs before it is trained: parameters and FLOPs, without real memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

Shape = tuple[int, int, int]


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


def layers(build: Callable[[], nn.Module], input_shape: Shape) -> list[dict[str, object]]:
    """The network's direct parts in order: name, kind, shape out, parameters, FLOPs."""
    rows: list[dict[str, object]] = []
    with torch.device("meta"):
        model = build().eval()
        x = torch.empty(1, *input_shape)
    for name, part in model.named_children():
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            x = part(x)
        rows.append(
            {
                "name": name,
                "kind": type(part).__name__,
                "shape": tuple(x.shape[1:]),
                "params": sum(p.numel() for p in part.parameters() if p.requires_grad),
                "flops": counter.get_total_flops(),
            }
        )
    return rows

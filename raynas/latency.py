"""How long a network takes to classify, measured here."""

from __future__ import annotations

import torch
from torch import nn

from raynas.space import Shape


@torch.inference_mode()
def latency_ms(
    network: nn.Module, input_shape: Shape, batch: int = 1, seconds: float = 0.1
) -> float:
    """The median time of one pass of `batch` images, in milliseconds, on the network's device.

    With the threads that torch uses now; the network is left in eval mode.
    """
    from torch.utils.benchmark import Timer  # looks for compilers when it is imported

    network.eval()
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    images = torch.zeros(batch, *input_shape, device=device)
    network(images)  # warms up
    timer = Timer(
        "network(images)",
        globals={"network": network, "images": images},
        num_threads=torch.get_num_threads(),
    )
    return float(timer.blocked_autorange(min_run_time=seconds).median) * 1000

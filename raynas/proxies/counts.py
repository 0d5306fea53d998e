"""The baselines that every proxy is to be compared with."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from raynas.costs import count


def params(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """How many trainable numbers there are. White et al. 2022, "A Deeper Look at Zero-Cost
    Proxies", found that few proxies rank better."""
    del images, labels
    return float(sum(p.numel() for p in model.parameters() if p.requires_grad))


def flops(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Floating point operations to classify one image, two per multiply-add (`raynas.costs`).
    White et al. 2022, "A Deeper Look at Zero-Cost Proxies", found that few proxies rank better.

    Args:
        images: only their shape is read.
    """
    del labels
    shape = (int(images.shape[1]), *images.shape[2:])
    return count(lambda: copy.deepcopy(model).to("meta"), shape)["flops"]

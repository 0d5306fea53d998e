"""Choices as numbers that gradients move: a softmax per decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from raynas.mixtures import Edges

INPUTS = "inputs"  # the last word of a decision between the edges that enter a node


@dataclass
class Choices:
    """One number per option of every decision, whose softmax is its chance; learned by Adam.

    All are equally likely at first.

    Attributes:
        values: of all decisions one after the other, `[all options]`.
        rate, betas, decay: of Adam.
    """

    decisions: Mapping[str, tuple[str, ...]]
    device: torch.device
    rate: float
    betas: tuple[float, float] = (0.5, 0.999)
    decay: float = 0.0
    values: Tensor = field(init=False)
    _adam: torch.optim.Adam = field(init=False)

    def __post_init__(self) -> None:
        total = sum(map(len, self.decisions.values()))
        self.values = torch.zeros(total, device=self.device, requires_grad=True)
        self._adam = torch.optim.Adam([self.values], self.rate, self.betas, weight_decay=self.decay)

    def each(self, flat: Tensor) -> dict[str, Tensor]:
        """What stands for all options, cut by decision."""
        sizes = [len(options) for options in self.decisions.values()]
        return dict(zip(self.decisions, flat.split(sizes), strict=True))  # type: ignore[no-untyped-call]

    def weights(self, values: Tensor | None = None) -> dict[str, Tensor]:
        """The chances, through which gradients flow."""
        given = self.values if values is None else values
        return {name: F.softmax(part, 0) for name, part in self.each(given).items()}

    def step(self, gradient: Tensor) -> None:
        """Moves against a gradient `[all options]`; not where that is no number."""
        self.values.grad = gradient.nan_to_num(0.0, 0.0, 0.0)
        self._adam.step()
        self.values.grad = None

    def pace(self, rate: float) -> None:
        """Sets Adam's rate."""
        self.rate = rate
        for group in self._adam.param_groups:
            group["lr"] = rate

    def put(self, values: Tensor) -> None:
        """Sets all numbers."""
        with torch.no_grad():
            self.values.copy_(values)

    def chances(self) -> dict[str, dict[str, float]]:
        """Decision -> option -> chance."""
        rows = self.weights(self.values.detach().cpu().double())
        return {
            n: dict(zip(self.decisions[n], row.tolist(), strict=True)) for n, row in rows.items()
        }

    def tensors(self) -> dict[str, Tensor]:
        """Everything, for a checkpoint."""
        moments = self._adam.state.get(self.values, {})
        return {"values": self.values.detach(), **{f"adam.{n}": t for n, t in moments.items()}}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes over what `tensors` returned."""
        self.put(tensors["values"])
        for name, tensor in tensors.items():
            if name.startswith("adam."):
                place = "cpu" if name == "adam.step" else self.device  # where Adam keeps them
                self._adam.state[self.values][name.removeprefix("adam.")] = tensor.clone().to(place)


def inputs(edges: Edges) -> dict[str, tuple[str, ...]]:
    """For each node a decision between the edges that enter it."""
    found: dict[str, tuple[str, ...]] = {}
    for edge in edges:
        node, _, source = edge.rpartition(".")
        name = f"{node}.{INPUTS}"
        found[name] = (*found.get(name, ()), source)
    return found


def factors(edges: Edges, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each edge's chance among those of its node; empty where nothing decides between them."""
    return {
        f"{name.removesuffix(INPUTS)}{source}": weight
        for name, sources in inputs(edges).items()
        if name in weights
        for source, weight in zip(sources, weights[name].unbind(), strict=True)
    }

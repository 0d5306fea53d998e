"""What a design costs on average while chances decide what it is: a function with gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raynas.architecture import Architecture
from raynas.costs import costs_of
from raynas.errors import unknown
from raynas.latency import latency_ms
from raynas.supernet import Supernet

DESIGNS = 200  # random ones whose costs are looked at, and at least three per option
LEAST = 0.01  # of the mean cost: what a design is taken to cost at least


@dataclass(frozen=True)
class ExpectedCost:
    """Costs added up over edges: each option's, times its chance.

    Attributes:
        base: what every design costs.
        each: what an edge's options add, `[options]`, times how often designs have that edge.
        reference: the mean cost of random designs.
    """

    base: float
    each: Mapping[str, Tensor]
    reference: float

    @classmethod
    def fitted(cls, supernet: Supernet, cost: str, seed: int) -> ExpectedCost:
        """By least squares, to the costs of random designs.

        Exact for `flops` and `params` where each operation has its cost on its own, such as in
        nasbench201; `latency_ms` is measured here, one image at a time.

        Raises:
            UserError: designs have no such cost.
        """
        space, mixture = supernet.space, supernet.mixture()
        columns = [(edge, option) for edge, options in mixture.edges.items() for option in options]
        place, rng = {column: i for i, column in enumerate(columns)}, np.random.default_rng(seed)
        rows, costs = np.zeros((max(DESIGNS, 3 * len(columns)), len(columns))), []
        for row in rows:
            design = space.sample(rng)
            row[[place[taken] for taken in mixture.taken(design).items()]] = 1.0
            costs.append(_cost(supernet, design, cost))
        mean = float(np.mean(costs))
        padded = np.column_stack((rows, np.ones(len(rows))))
        fitted = np.linalg.lstsq(padded, np.array(costs) / mean, rcond=None)[0] * mean
        each, first = {}, 0
        for edge, options in mixture.edges.items():
            own = slice(first, first := first + len(options))
            each[edge] = torch.from_numpy(fitted[own] * rows[:, own].sum(1).mean()).float()
        return cls(float(fitted[-1]), each, mean)

    def of(self, chances: Mapping[str, Tensor]) -> Tensor:
        """The expected cost under chances per edge, `[options]`."""
        added = [(chances[edge] * costs).sum() for edge, costs in self.each.items()]
        return (self.base + torch.stack(added).sum()).clamp(min=LEAST * self.reference)

    def slopes(self, chances: Mapping[str, Tensor], weight: float) -> dict[str, Tensor]:
        """The gradient by the chances of weight * log(expected cost / reference)."""
        at = {edge: row.detach().requires_grad_() for edge, row in chances.items()}
        penalty = weight * torch.log(self.of(at) / self.reference)
        found = torch.autograd.grad(penalty, list(at.values()))
        return dict(zip(at, found, strict=True))


def _cost(supernet: Supernet, design: Architecture, cost: str) -> float:
    space, shape, classes = supernet.space, supernet.input_shape, supernet.num_classes
    if cost == "latency_ms":
        return latency_ms(supernet.network(design), shape, seconds=0.03)
    found = costs_of(space, design, shape, classes)
    if cost not in found:
        raise unknown("proxyless: cost", cost, [*sorted(found), "latency_ms"])
    return found[cost]

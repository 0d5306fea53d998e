"""The mathematics of differentiable search, on functions of tensors: nothing here knows networks.

Choices are learned on one loss while weights are learned on another: the best choices are those
under which the weights that the training loss leads to have the least validation loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Sequence[Tensor], Tensor], Tensor]  # (weights, choices) -> a number

WINDOW, DROP = 5, 0.75  # of early stopping, as in the paper


def slope(loss: Tensor, at: Tensor) -> Tensor:
    """The gradient of a loss, zero where nothing leads to it."""
    return torch.autograd.grad(loss, at, allow_unused=True, materialize_grads=True)[0]


def unrolled_gradient(
    training: Loss, validation: Loss, weights: Sequence[Tensor], choices: Tensor, step: float
) -> Tensor:
    """The gradient by the choices of the validation loss after one step of the weights.

    With w' = w - step * dT(w, a)/dw, of V(w', a) by a: that of V itself, less `step` times the
    mixed second derivative of T times dV/dw' (Liu et al. 2019, arXiv:1806.09055, eq. 7). Where we
    depart from the paper: the product is exact, by differentiating twice, and not a difference of
    two gradients (eq. 8), which bfloat16 would drown in rounding.
    """
    slopes = torch.autograd.grad(
        training(weights, choices), weights, create_graph=True, allow_unused=True
    )
    ahead = [w if d is None else w - step * d for w, d in zip(weights, slopes, strict=True)]
    return slope(validation(ahead, choices), choices)


def dominant_eigenvalue(
    loss: Callable[[Tensor], Tensor], at: Tensor, start: Tensor, iterations: int = 10
) -> float:
    """The size of the Hessian's largest eigenvalue, by power iteration from `start`."""
    at = at.detach().requires_grad_()
    slopes = torch.autograd.grad(loss(at), at, create_graph=True)[0]
    direction, size = start, torch.zeros(())
    for _ in range(iterations):
        direction = direction / direction.norm().clamp(min=1e-30)
        direction = torch.autograd.grad(slopes, at, direction, retain_graph=True)[0]
        size = direction.norm()
    return float(size)


def turned_sharp(eigenvalues: Sequence[float]) -> int | None:
    """The epoch (from 0) to go back to when validation loss has become sharp; None if it has not.

    Zela et al. 2020, arXiv:1909.09656: eigenvalues are averaged over the last five epochs; when
    five epochs ago that was less than 0.75 of what it is now, the choices of then generalize
    better. Before the tenth epoch there are no two such averages.
    """
    last = len(eigenvalues) - 1
    if last < 2 * WINDOW - 1:
        return None
    now, before = (sum(eigenvalues[i - WINDOW + 1 : i + 1]) / WINDOW for i in (last, last - WINDOW))
    return last - WINDOW if before < DROP * now else None


def straight_through(logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """One option drawn by Gumbel noise: 1 for it and 0 otherwise, `[options]`.

    Its gradient is that of the softmax of (log chances + noise) / temperature. Dong & Yang 2019,
    arXiv:1910.04465, eq. 3-5. The zeros are exact; the one may be off by rounding.
    """
    soft = F.softmax((F.log_softmax(logits, 0) + noise) / temperature, 0)
    hard = F.one_hot(soft.argmax(), len(logits)).to(soft.dtype)
    return hard - soft.detach() + soft


def gumbel(size: int, generator: torch.Generator) -> Tensor:
    """Gumbel noise: the largest of (log chances + noise) is drawn by these chances."""
    return -torch.empty(size, device=generator.device).exponential_(generator=generator).log()


def gate_gradient(logits: Tensor, slopes: Tensor) -> Tensor:
    """The gradient by the logits of paths of which one, drawn by their softmax, is open.

    The sum over j of slopes[j] * p[j] * ((i == j) - p[i]). Cai et al. 2019, arXiv:1812.00332,
    eq. 4.

    Args:
        slopes: of the loss by each path's gate (1 for the open one, 0 for the others).
    """
    p = F.softmax(logits, 0)
    return p * (slopes - (p * slopes).sum())


def rescaled(before: Tensor, after: Tensor, moved: Sequence[int]) -> Tensor:
    """The logits after a step that moved some, so that all others keep their probability."""
    at = list(moved)
    excess = after[at].logsumexp(0) - before[at].logsumexp(0)
    result = before.clone()
    result[at] = after[at] - excess
    return result

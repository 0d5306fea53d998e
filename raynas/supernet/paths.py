"""Training shared weights path by path: which designs a step trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from raynas.architecture import Architecture, Decision, Option
from raynas.errors import UserError, unknown
from raynas.supernet import Supernet
from raynas.supernet.cover import parents
from raynas.supernet.training import Trainer
from raynas.trial import Proposal

Rule = Callable[[Supernet, np.random.Generator, float], list[Architecture]]


def uniform(supernet: Supernet, rng: np.random.Generator, done: float) -> list[Architecture]:
    """One path, each decision drawn uniformly. Guo et al. 2020, arXiv:1904.00420."""
    del done
    return [supernet.space.sample(rng)]


def fair(supernet: Supernet, rng: np.random.Generator, done: float) -> list[Architecture]:
    """As many paths as the most options, with every option of a decision in turn.

    Once each where a decision has the most options; otherwise as equally often as it can be; less
    often where a decision is not always active. Chu et al. 2021, arXiv:1907.01845.
    """
    del done
    decisions = supernet.space.decisions
    most = max(len(d.options) for d in decisions)
    turns: dict[str, list[Option]] = {}
    for d in decisions:
        rounds = [rng.permutation(len(d.options)) for _ in range(-(-most // len(d.options)))]
        turns[d.name] = [d.options[i] for i in np.concatenate(rounds)]
    return [supernet.space.answer(lambda d, k=k: turns[d.name][k]) for k in range(most)]  # type: ignore[misc]


def sandwich(supernet: Supernet, rng: np.random.Generator, done: float) -> list[Architecture]:
    """The largest, which teaches the others; the smallest; two at random.

    Yu et al. 2020 (BigNAS), arXiv:2003.11142.
    """
    del done
    space = supernet.space
    if not any(d.ordered for d in space.decisions):
        raise UserError(
            f"sandwich: expected a space with ordered decisions; {space.name} has none, so that no "
            "design of it contains another. Use uniform or fair."
        )
    return [supernet.largest, supernet.smallest, space.sample(rng), space.sample(rng)]


def progressive(supernet: Supernet, rng: np.random.Generator, done: float) -> list[Architecture]:
    """One path; ordered decisions begin at their largest and open up one kind after the other.

    In the first quarter of the training none is open, then kernels, then those on which others
    depend (depths), at last all (widths, expansions). Decisions without an order are open from the
    start. Once one is open, the largest design teaches. Cai et al. 2020, arXiv:1908.09791; there
    the teacher was trained to the end before, here it goes on learning within the others.
    """
    space, largest = supernet.space, supernet.largest
    structural, opened = parents(space), int(4 * done)

    def pick(d: Decision) -> Option:
        turn = 1 if d.leaf.startswith("kernel") else 2 if d.name in structural else 3
        if d.ordered and turn > opened and d.name in largest:
            return largest[d.name]
        return d.options[rng.integers(len(d.options))]

    return [space.answer(pick)]


RULES: dict[str, Rule] = {
    "uniform": uniform,
    "fair": fair,
    "sandwich": sandwich,
    "progressive": progressive,
}


@dataclass
class Paths:
    """Trains a few paths per step, whose gradients are added up; nothing decides between them.

    Attributes:
        rule: of RULES, which paths a step trains.
    """

    rule: str = "uniform"
    scores = True

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise unknown("rule", self.rule, list(RULES))

    def start(self, trainer: Trainer) -> None:
        RULES[self.rule](trainer.supernet, np.random.default_rng(0), 0.0)  # raises if it cannot

    def epoch(self, trainer: Trainer) -> dict[str, float]:
        draw, done = RULES[self.rule], trainer.epoch / max(trainer.epochs, 1)
        losses, trained = torch.zeros((), device=trainer.device), 0
        for images, labels in trainer.batches():
            paths = draw(trainer.supernet, trainer.rng, done)
            taught: Tensor | None = None
            if self.rule == "progressive" and done >= 0.25:
                with torch.no_grad(), trainer.autocast():
                    taught = trainer.supernet(images, trainer.supernet.largest).float().softmax(1)
            for k, path in enumerate(paths):
                with trainer.autocast():
                    logits = trainer.supernet(images, path).float()
                loss = self._loss(trainer, logits, labels, taught)
                loss.backward()  # type: ignore[no-untyped-call]
                if self.rule == "sandwich" and k == 0:
                    taught = logits.detach().softmax(1)
                losses, trained = losses + loss.detach(), trained + 1
            trainer.step()
        return {"train_loss": float(losses) / trained}

    def _loss(
        self, trainer: Trainer, logits: Tensor, labels: Tensor, taught: Tensor | None
    ) -> Tensor:
        """From the labels, from what the largest design says (sandwich), or both (progressive)."""
        smoothing = trainer.recipe.label_smoothing
        if taught is None:
            return F.cross_entropy(logits, labels, label_smoothing=smoothing)
        loss = F.cross_entropy(logits, taught)
        if self.rule == "progressive":
            loss = (loss + F.cross_entropy(logits, labels, label_smoothing=smoothing)) / 2
        return loss

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        del tensors

    def chances(self) -> dict[str, dict[str, float]]:
        return {}

    def designs(self, trainer: Trainer, number: int) -> list[Proposal]:
        del trainer, number
        return []

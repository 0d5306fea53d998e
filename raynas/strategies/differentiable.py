"""Strategies that learn weights and choices together, by gradients on the space's mixture.

All of them learn choices on the validation split and shared weights on the training split, in
turns, and end with the design that stands out and others by their probability.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from raynas.errors import UserError
from raynas.strategies.bilevel import (
    Loss,
    gate_gradient,
    gumbel,
    rescaled,
    slope,
    straight_through,
    unrolled_gradient,
)
from raynas.strategies.chances import Choices, inputs
from raynas.strategies.expected_cost import ExpectedCost
from raynas.strategies.relaxation import Batch, Relaxation
from raynas.supernet.training import Trainer
from raynas.trial import Proposal


@dataclass
class Differentiable(ABC):
    """What the methods have in common: how they keep and tell what they learned."""

    _search: Relaxation = field(init=False, repr=False)

    @abstractmethod
    def start(self, trainer: Trainer) -> None: ...

    @abstractmethod
    def epoch(self, trainer: Trainer) -> dict[str, float]: ...

    def _begin(self, trainer: Trainer, rate: float, decay: float, stop: bool) -> None:
        """Starts with all options of an edge alike."""
        edges = trainer.supernet.mixture().edges
        choices = Choices(edges, trainer.device, rate, decay=decay)
        self._search = Relaxation(trainer.supernet, choices, stop=stop)
        self._search.begin(trainer)

    @property
    def scores(self) -> bool:
        return self._search.part == 1

    def tensors(self) -> dict[str, Tensor]:
        return self._search.tensors()

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self._search.restore(tensors)

    def chances(self) -> dict[str, dict[str, float]]:
        return self._search.chances()

    def designs(self, trainer: Trainer, number: int) -> list[Proposal]:
        return self._search.designs(trainer, number, type(self).__name__)


@dataclass
class Darts(Differentiable):
    """All options at once, weighed by a softmax that gradients learn (DARTS).

    Liu et al. 2019, arXiv:1806.09055. With `stop`, it ends before the validation loss turns sharp
    (Zela et al. 2020, arXiv:1909.09656), but not in the first two fifths of its epochs.

    Attributes:
        order: 1, or 2 for choices that look one step of the weights ahead, at about four times
            the cost.
        learning_rate, decay: of the choices' Adam. A rate of 0 takes the paper's, 3e-4 for its
            19,500 steps, and with fewer steps one by which choices can move as far, at most 0.03.
        stop: whether sharpness ends the training.
    """

    order: int = 1
    learning_rate: float = 0.0
    decay: float = 1e-3
    stop: bool = True

    def __post_init__(self) -> None:
        if self.order not in (1, 2):
            raise UserError(f"darts: expected order=1 or order=2; got {self.order}.")

    def start(self, trainer: Trainer) -> None:
        self._begin(trainer, self.learning_rate, self.decay, self.stop)

    def epoch(self, trainer: Trainer) -> dict[str, float]:
        search, held, losses = self._search, trainer.held_out(), []
        every = search.mixture.every
        for batch in trainer.batches():
            search.choices.step(self._gradient(trainer, batch, next(held)))
            losses.append(search.train(trainer, batch, search.choices.weights(), every))
        return search.close(trainer, losses)

    def _gradient(self, trainer: Trainer, batch: Batch, held: Batch) -> Tensor:
        search, choices = self._search, self._search.choices
        mixture = search.mixture
        if self.order == 1:
            loss = search.loss(trainer, held, choices.weights(), mixture.every)
            return slope(loss, choices.values)
        names, weights = zip(*mixture.named_parameters(), strict=True)

        def on(batch: Batch, smoothing: float) -> Loss:
            def loss(weights: Sequence[Tensor], values: Tensor) -> Tensor:
                given = (batch[0], choices.weights(values), mixture.every)
                with trainer.autocast():
                    logits = functional_call(mixture, dict(zip(names, weights, strict=True)), given)
                return F.cross_entropy(logits.float(), batch[1], label_smoothing=smoothing)

            return loss

        training, step = on(batch, trainer.recipe.label_smoothing), trainer.optimizer.param_groups
        return unrolled_gradient(training, on(held, 0.0), weights, choices.values, step[0]["lr"])


@dataclass
class Gdas(Differentiable):
    """One option per edge and step, drawn by Gumbel noise that cools down (GDAS).

    Only what is drawn is computed: a step costs what one design costs, twice (weights, choices).
    Dong & Yang 2019, arXiv:1910.04465.

    Attributes:
        learning_rate, decay: of the choices' Adam, see `Darts`.
        hottest, coldest: the softmax's temperature in the first and the last epoch, falling
            linearly.
        stop: whether sharpness ends the training, see `Darts`.
    """

    learning_rate: float = 0.0
    decay: float = 1e-3
    hottest: float = 10.0
    coldest: float = 0.1
    stop: bool = False

    def __post_init__(self) -> None:
        if not self.hottest >= self.coldest > 0:
            raise UserError(
                "gdas: expected temperatures above 0, the hottest not below the coldest; got "
                f"hottest={self.hottest} and coldest={self.coldest}."
            )

    def start(self, trainer: Trainer) -> None:
        self._begin(trainer, self.learning_rate, self.decay, self.stop)

    def epoch(self, trainer: Trainer) -> dict[str, float]:
        search, held, losses = self._search, trainer.held_out(), []
        done = trainer.epoch / max(trainer.epochs - 1, 1)
        temperature = self.hottest + (self.coldest - self.hottest) * min(done, 1.0)
        for batch in trainer.batches():
            loss = search.loss(trainer, next(held), self._drawn(trainer, temperature))
            search.choices.step(slope(loss, search.choices.values))
            losses.append(search.train(trainer, batch, self._drawn(trainer, temperature)))
        return {**search.close(trainer, losses), "temperature": temperature}

    def _drawn(self, trainer: Trainer, temperature: float) -> dict[str, Tensor]:
        choices = self._search.choices
        noise = choices.each(gumbel(len(choices.values), trainer.generator))
        logits = choices.each(choices.values)
        return {e: straight_through(logits[e], noise[e], temperature) for e in logits}


@dataclass
class PCDarts(Differentiable):
    """DARTS on some of the channels, in less memory and time (PC-DARTS).

    Operations work on the first channels and the others pass by; what an edge carries is weighed
    among the edges of its node as well. Xu et al. 2020, arXiv:1907.05737. The weights that it
    trains are parts of those of whole designs, which cannot be judged by them: take those that
    it derives.

    Attributes:
        part: operations work on one so many-th of the channels.
        warmup: share of the epochs, at the beginning, in which only weights are trained.
        learning_rate, decay: of the choices' Adam, see `Darts`.
        stop: whether sharpness ends the training, see `Darts`.
    """

    part: int = 4
    warmup: float = 0.3
    learning_rate: float = 0.0
    decay: float = 1e-3
    stop: bool = False

    def __post_init__(self) -> None:
        if self.part < 2 or not 0 <= self.warmup < 1:
            raise UserError(
                "pc_darts: expected part of 2 or more and warmup from 0 to below 1; got "
                f"part={self.part} and warmup={self.warmup}."
            )

    def start(self, trainer: Trainer) -> None:
        edges = trainer.supernet.mixture(self.part).edges
        decisions = {**edges, **inputs(edges)}
        choices = Choices(decisions, trainer.device, self.learning_rate, decay=self.decay)
        self._search = Relaxation(trainer.supernet, choices, self.part, self.stop)
        self._search.begin(trainer)

    def epoch(self, trainer: Trainer) -> dict[str, float]:
        search, held, losses = self._search, trainer.held_out(), []
        choices, every = search.choices, search.mixture.every
        for batch in trainer.batches():
            if trainer.epoch >= self.warmup * trainer.epochs:
                loss = search.loss(trainer, next(held), choices.weights(), every)
                choices.step(slope(loss, choices.values))
            losses.append(search.train(trainer, batch, choices.weights(), every))
        return search.close(trainer, losses)


@dataclass
class Proxyless(Differentiable):
    """Two sampled paths compete on each edge, and what designs cost counts (ProxylessNAS).

    Weights are trained on one sampled path; then two paths per edge are sampled, one of them is
    open, and their chances move by what their gates say, while all others keep theirs. Cai et al.
    2019, arXiv:1812.00332. Of the loss that choices minimize, the second part is the paper's
    additive one (eq. 6) with a logarithm, so that its weight has no unit: cross-entropy + weight *
    log(expected cost / mean cost of random designs).

    Attributes:
        cost: flops, params or latency_ms (measured where the training runs).
        weight: of the expected cost; 0 leaves it out.
        learning_rate: of the choices' Adam, the paper's.
        stop: whether sharpness ends the training, see `Darts`.
    """

    cost: str = "flops"
    weight: float = 0.1
    learning_rate: float = 0.006
    stop: bool = False
    _expected: ExpectedCost = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise UserError(f"proxyless: expected a weight of 0 or more; got {self.weight}.")

    def start(self, trainer: Trainer) -> None:
        edges = trainer.supernet.mixture().edges
        cpu = torch.device("cpu")  # choices are drawn and moved there; networks see gates only
        choices = Choices(edges, cpu, self.learning_rate, betas=(0.0, 0.999))
        self._search = Relaxation(trainer.supernet, choices, stop=self.stop)
        self._search.begin(trainer)
        self._expected = ExpectedCost.fitted(trainer.supernet, self.cost, trainer.seed)

    def epoch(self, trainer: Trainer) -> dict[str, float]:
        search, held, losses = self._search, trainer.held_out(), []
        for batch in trainer.batches():
            paths = self._drawn(trainer.rng, 1)
            open_ = self._gates(trainer, {edge: path[0] for edge, path in paths.items()})
            losses.append(search.train(trainer, batch, search.choices.each(open_), paths))
            self._compete(trainer, next(held))
        expected = self._expected.of(search.choices.weights()).item()
        return {**search.close(trainer, losses), f"expected_{self.cost}": expected}

    def _drawn(self, rng: np.random.Generator, number: int) -> dict[str, list[int]]:
        """So many different options of each edge (or all there are), by their chances."""
        chances = self._search.choices.chances()
        rows = {edge: np.array([*row.values()]) for edge, row in chances.items()}
        late = {edge: rng.exponential(size=len(row)) / row for edge, row in rows.items()}
        return {edge: np.argsort(row)[:number].tolist() for edge, row in late.items()}

    def _gates(self, trainer: Trainer, opened: Mapping[str, int]) -> Tensor:
        choices = self._search.choices
        gates = torch.zeros(len(choices.values))
        for edge, part in choices.each(gates).items():
            part[opened[edge]] = 1.0
        return gates.to(trainer.device)

    def _compete(self, trainer: Trainer, held: Batch) -> None:
        """Moves the choices, by two paths on each edge."""
        search, choices = self._search, self._search.choices
        pairs, before = self._drawn(trainer.rng, 2), choices.values.detach().clone()
        opened = {}
        for edge, logits in choices.each(before).items():
            p = F.softmax(logits[pairs[edge]].double(), 0).numpy()
            opened[edge] = int(trainer.rng.choice(pairs[edge], p=p))
        gates = self._gates(trainer, opened).requires_grad_()
        loss = search.loss(trainer, held, choices.each(gates), pairs)
        slopes = choices.each(slope(loss, gates).cpu())
        dear = self._expected.slopes(choices.weights(before), self.weight)
        gradient = torch.zeros_like(before)
        for edge, part in choices.each(gradient).items():
            pair, logits = pairs[edge], choices.each(before)[edge]
            both = F.softmax(logits, 0)[pair].sum()  # others keep the rest
            part[pair] = gate_gradient(logits[pair], slopes[edge][pair] + both * dear[edge][pair])
        choices.step(gradient)
        after = choices.each(choices.values.detach())
        kept = [rescaled(row, after[e], pairs[e]) for e, row in choices.each(before).items()]
        choices.put(torch.cat(kept))

"""Networks that answer a space's decisions one after another, and learn from rewards.

A controller is a distribution over designs: the probability of each option given all earlier
answers. `Recurrent` is the LSTM of Zoph & Le 2017 (arXiv:1611.01578) and ENAS (Pham et al. 2018,
arXiv:1802.03268); `Attention` a small Transformer decoder. Nothing here draws from a global
generator: weights start from a fixed seed, designs are drawn with the caller's `rng`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raynas.architecture import Architecture, Option
from raynas.space import Space

Floats = np.ndarray[Any, np.dtype[np.float64]]
Answers = np.ndarray[Any, np.dtype[np.int64]]  # [N, D]: rank of the option; -1 where inactive
KNOTS = torch.linspace(-2.5, 2.5, 11)  # where a budget is looked at, in standard deviations


class Body(Protocol):
    """Turns a sequence into states that each know what stands before them, and themselves."""

    def __call__(self, x: Tensor) -> Tensor:
        """`[N, L, W]` -> `[N, L, W]`."""
        ...

    def step(self, x: Tensor, memory: Any, active: Tensor) -> tuple[Tensor, Any]:
        """The next state `[N, W]` from `x` `[N, W]`; rows that are not `active` forget it."""
        ...


class Recurrent(nn.Module):
    """One LSTM layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        states: Tensor = self.lstm(x)[0]
        return states

    def step(self, x: Tensor, memory: Any, active: Tensor) -> tuple[Tensor, Any]:
        before = memory or (x.new_zeros(x.shape), x.new_zeros(x.shape))
        # The cell alone: a layer called for one step takes several times as long.
        after = torch.lstm_cell(x, before, *self.lstm.all_weights[0])
        if not active.all():
            keep = active[:, None]
            after = (
                torch.where(keep, after[0], before[0]),
                torch.where(keep, after[1], before[1]),
            )
        return after[0], after


class Block(nn.Module):
    """A Transformer block: attention, then a small perceptron, each after a norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor, kept: Any, mask: Tensor | None) -> tuple[Tensor, Any]:
        """States, and the keys and values so far `[N, heads, L, W / heads]`; no mask: causal."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).chunk(3, dim=-1)
        )
        if kept is not None:
            k, v = torch.cat([kept[0], k], 2), torch.cat([kept[1], v], 2)
        if mask is None:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:  # of one step: plain products take a third of the time
            scores = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5
            y = torch.softmax(scores + mask, -1) @ v
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.down(F.relu(self.up(self.norm2(x)))), (k, v)


class Attention(nn.Module):
    """Causal Transformer blocks, with a cache of keys and values for `step`."""

    def __init__(self, width: int, layers: int = 1, heads: int = 4) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x, _ = block(x, None, None)
        states: Tensor = self.norm(x)
        return states

    def step(self, x: Tensor, memory: Any, active: Tensor) -> tuple[Tensor, Any]:
        seen, kept = memory or (active.new_zeros(len(x), 0), [None] * len(self.blocks))
        # Of an inactive row, itself only.
        mask = F.pad(torch.where(seen, 0.0, -torch.inf), (0, 1))[:, None, None]
        x, new = x[:, None], []
        for block, before in zip(self.blocks, kept, strict=True):
            x, after = block(x, before, mask)
            new.append(after)
        return self.norm(x)[:, 0], (torch.cat([seen, active[:, None]], 1), new)


@dataclass(frozen=True)
class Draws:
    """Designs drawn by a controller.

    Attributes:
        log_probability: of each design; entropy: of its answers, summed (nats).
        chances: `[N, D, options]`, of each option given the answers before it; 0 beyond a
            decision's last option and where it is inactive.
    """

    answers: Answers
    log_probability: Floats
    entropy: Floats
    chances: Floats


class Controller(nn.Module):
    """A body with inputs and outputs for one space.

    At a decision it is told the option chosen last, which decision it is and, if it was trained
    for budgets, the budget (standardized). Outputs start at zero: all options equally likely.
    """

    def __init__(self, space: Space, attention: bool = False, width: int = 32) -> None:
        super().__init__()
        self.space = space
        self.sizes = sizes = [len(d.options) for d in space.decisions]
        index = {d.name: i for i, d in enumerate(space.decisions)}
        self.parents = [index[d.when[0]] if d.when else -1 for d in space.decisions]
        self.wanted = [
            np.array([o in d.when[1] for o in space.by_name[d.when[0]].options])
            if d.when
            else np.ones(1, dtype=bool)
            for d in space.decisions
        ]
        first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        self.first = torch.from_numpy(first + 1)  # the token of a decision's first option
        exists = torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]
        self.absent = torch.where(exists, 0.0, -torch.inf)
        with torch.random.fork_rng(devices=[]):  # layers draw weights that are replaced below
            self.body: Body = Attention(width) if attention else Recurrent(width)
            self.token = nn.Embedding(sum(sizes) + 1, width)
            self.decision = nn.Embedding(len(sizes), width)
            self.budget = nn.Linear(len(KNOTS), width, bias=False)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                bound = 1 / parameter.shape[1] ** 0.5
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
            elif not parameter.eq(1).all():  # all but the scales of norms
                nn.init.zeros_(parameter)
        self.output = nn.Parameter(torch.zeros(len(sizes), max(sizes), width))
        self.bias = nn.Parameter(torch.zeros(len(sizes), max(sizes)))

    def write(self, architectures: Sequence[Architecture]) -> Answers:
        """Designs as ranks of options `[N, D]`, -1 where a decision is inactive."""
        decisions = self.space.decisions
        return np.array(
            [[d.options.index(a[d.name]) if d.name in a else -1 for d in decisions]
             for a in architectures]
        )  # fmt: skip

    def read(self, answers: Answers) -> Architecture:
        """One row of answers as a design."""
        chosen: list[tuple[str, Option]] = [
            (d.name, d.options[i]) for d, i in zip(self.space.decisions, answers, strict=True)
            if i >= 0
        ]  # fmt: skip
        return Architecture(self.space.name, tuple(chosen))

    def chances(self, draws: Draws, row: int) -> dict[str, tuple[float, ...]]:
        """Decision -> probability of each option, where it was active when a row was drawn."""
        return {
            d.name: tuple(draws.chances[row, i, : self.sizes[i]].tolist())
            for i, d in enumerate(self.space.decisions)
            if draws.answers[row, i] >= 0
        }

    @torch.inference_mode()
    def draw(
        self,
        rng: np.random.Generator,
        number: int,
        budget: float | None = None,
        temperatures: Sequence[float] = (1.0,),
    ) -> Draws:
        """Draws designs, each (or all) at its temperature: above 1, options are more alike."""
        answers = np.full((number, len(self.parents)), -1)
        log_probability, entropy = np.zeros(number), np.zeros(number)
        chances = np.zeros((number, len(self.parents), max(self.sizes)))
        lots = rng.random((number, len(self.parents)))
        heat = np.array(temperatures)[:, None]
        rows, memory = np.arange(number), None
        before = torch.zeros(number, dtype=torch.long)
        asked = self.decision.weight + self._about(
            None if budget is None else torch.tensor([budget])
        )
        outputs, outside = self.output.transpose(1, 2).unbind(), (self.bias + self.absent).unbind()
        for d, (parent, wanted) in enumerate(zip(self.parents, self.wanted, strict=True)):
            above = answers[:, parent] if parent >= 0 else np.zeros(number, dtype=np.int64)
            active = wanted[above] & (above >= 0)
            if not active.any():
                continue
            going = torch.from_numpy(active)
            x = self.token.weight[before] + asked[d]
            state, memory = self.body.step(x, memory, going)
            logits = torch.addmm(outside[d], state, outputs[d]).numpy().astype(np.float64)
            p = np.exp((logits - logits.max(1, keepdims=True)) / heat)
            p /= p.sum(1, keepdims=True)  # `absent` options have none
            chosen = (lots[:, d, None] > p.cumsum(1)).sum(1).clip(max=self.sizes[d] - 1)
            answers[active, d] = chosen[active]
            log_probability += np.where(active, np.log(p[rows, chosen]), 0.0)
            entropy -= np.where(active, (p * np.log(np.maximum(p, 1e-12))).sum(1), 0.0)
            chances[active, d] = p[active]
            before = torch.where(going, self.first[d] + torch.from_numpy(chosen), before)
        return Draws(answers, log_probability, entropy, chances)

    def score(self, answers: Tensor, budget: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Log-probability and summed entropy `[N]` of designs `[N, D]`."""
        active = answers >= 0
        order = torch.argsort((~active).int(), dim=1, stable=True)  # the active ones first
        order = order[:, : int(active.sum(1).max())]
        tokens = (self.first + answers.clamp(min=0)).gather(1, order)
        before = F.pad(tokens[:, :-1], (1, 0))
        x = self.token(before) + self.decision(order) + self._about(budget).unsqueeze(-2)
        states = self.body(x)
        place = (active.cumsum(1) - 1).clamp(min=0)
        states = states.gather(1, place[..., None].expand(-1, -1, states.shape[-1]))
        logits = torch.einsum("ndw,dow->ndo", states, self.output) + self.bias + self.absent
        log_p = torch.log_softmax(logits, -1)
        chosen = log_p.gather(2, answers.clamp(min=0)[..., None])[..., 0]
        entropy = -(log_p.exp() * log_p.clamp(min=-1e9)).sum(-1)
        zero = torch.zeros(())
        return torch.where(active, chosen, zero).sum(1), torch.where(active, entropy, zero).sum(1)

    def _about(self, budget: Tensor | None) -> Tensor:
        """What a budget adds to each input `[N, W]`; nothing if there is none."""
        if budget is None:
            return torch.zeros(1, self.decision.embedding_dim)
        shown: Tensor = self.budget(torch.sigmoid((budget[:, None].float() - KNOTS) * 3))
        return shown

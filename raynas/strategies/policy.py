"""What strategies with a controller share: proposing from it, and teaching it with trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from raynas.architecture import Architecture, Option
from raynas.objective import Constraint, Objective
from raynas.space import Space
from raynas.strategies.base import Seen
from raynas.strategies.controllers import Answers, Controller, Floats
from raynas.strategies.standing import standings
from raynas.trial import Proposal, Reason, Trial

# How many designs are drawn at once, and how hot, until one is new. A controller that has
# settled draws what has been tried; heat makes it look around what it likes.
ROUNDS = ((4, 1.0), (16, 1.0), (16, 1.5), (16, 2.5))
STARTUP = 10  # trials before the first update: ranks of fewer mislead
FADING = 0.95  # of the moving-average baseline, per trial


@dataclass
class Lesson:
    """A trial as a controller learns from it.

    Attributes:
        answers: its design, int64 `[D]`.
        proposed: log-probability under the policy that proposed it; uniform if that was none.
    """

    trial: Trial
    answers: Answers
    proposed: float


@dataclass
class Policy:
    """A controller, its optimizer and the trials it learns from; knows nothing of Ray.

    Attributes:
        memory: how many trials it learns from: the `elite` best and the latest others.
        batch: trials told between updates; a strategy then makes `steps` steps.
        learning_rate: of Adam.
        curiosity: weight of the entropy bonus (nats per decision, for rewards from 0 to 1).
        clip: the most that an importance weight may be.
    """

    space: Space
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    memory: int
    elite: int
    batch: int
    steps: int
    learning_rate: float
    curiosity: float
    clip: float
    attention: bool = False
    updates: int = field(default=0, init=False)
    lessons: list[Lesson] = field(default_factory=list, init=False)
    controller: Controller = field(init=False)
    seen: Seen = field(init=False)
    _fresh: int = field(default=0, init=False)
    _optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        self.controller = Controller(self.space, self.attention)
        self._optimizer = torch.optim.Adam(self.controller.parameters(), self.learning_rate)
        self.seen = Seen(self.space)

    def propose(
        self,
        rng: np.random.Generator,
        pending: Sequence[Architecture],
        budget: float | None = None,
        wish: str = "",
    ) -> Proposal:
        """A new design from the controller, or at random where it has nothing new.

        Args:
            wish: what the note says of the budget.
        """
        for number, heat in ROUNDS:
            draws = self.controller.draw(rng, number, budget, heat)
            rows = iter(designs := [self.controller.read(row) for row in draws.answers])
            taken, rejected = self.seen.first_new(rows.__next__, pending, number)
            if taken is not None:
                row = designs.index(taken)
                scores = {
                    "log_probability": float(draws.log_probability[row]),
                    "entropy": float(draws.entropy[row]),
                }
                hot = f" at temperature {heat}" if heat != 1 else ""
                note = f"drawn by the controller after {self.updates} updates{hot}{wish}"
                return Proposal(taken, Reason("policy", note, scores=scores), rejected)
        drawn, rejected = self.seen.first_new(lambda: self.space.sample(rng), pending)
        reason = Reason("random", "drawn at random: all that the controller drew has been tried")
        return Proposal(drawn or self.seen.any_new(pending), reason, rejected)

    def keep(self, trial: Trial) -> Floats | None:
        """Remembers a trial; at the end of a batch, tells how the memory's trials stand."""
        self.seen.add(trial)
        if trial.status == "lost":
            return None
        answers = self.controller.write([trial.architecture])
        scores: Mapping[str, float] = trial.reason.scores if trial.reason else {}
        sizes = np.array(self.controller.sizes)
        uniform = -float(np.log(sizes[answers[0] >= 0]).sum())
        proposed = scores.get("log_probability", uniform)
        self.lessons.append(Lesson(trial, answers[0], proposed))
        self._fresh += 1
        if self._fresh < self.batch or len(self.lessons) < STARTUP:
            return None
        self._fresh = 0
        self.updates += 1
        trials = [lesson.trial for lesson in self.lessons]
        places = standings(trials, self.objectives, self.constraints)
        if len(trials) > self.memory:
            best = np.argsort(-places, kind="stable")[: self.elite].tolist()
            others = sorted(set(range(len(trials))) - set(best))
            kept = sorted([*best, *others[len(best) - self.memory :]])
            self.lessons, places = [self.lessons[i] for i in kept], places[kept]
        return places

    def learn(self, advantage: Floats, budgets: Floats | None = None) -> None:
        """Makes one step on all lessons, each for its budget if there are budgets."""
        improve(
            self.controller,
            self._optimizer,
            np.array([lesson.answers for lesson in self.lessons]),
            np.array([lesson.proposed for lesson in self.lessons]),
            advantage,
            self.clip,
            self.curiosity,
            budgets,
        )

    def option_probabilities(
        self, rng: np.random.Generator, number: int = 64, budget: float | None = None
    ) -> dict[str, dict[Option, float]]:
        """Decision -> option -> how often it is chosen, among `number` designs where it is open."""
        answers = self.controller.draw(rng, number, budget).answers
        table = {}
        for d, column in zip(self.space.decisions, answers.T, strict=True):
            counts = np.bincount(column[column >= 0], minlength=len(d.options))
            shares = counts / max(counts.sum(), 1)
            table[d.name] = dict(zip(d.options, shares.tolist(), strict=True))
        return table


def baseline(rewards: Floats) -> Floats:
    """The moving average at the last of `[..., N]` rewards, in the order of their trials."""
    return np.asarray(
        np.average(rewards, axis=-1, weights=FADING ** np.arange(rewards.shape[-1])[::-1])
    )


def utilities(places: Floats) -> Floats:
    """Rewards from 0 to 1 for places from 0 (the worst) to 1 (the best)."""
    return reward((1 - places) * (len(places) - 1) + 1, np.full(len(places), len(places)))


def reward(rank: Floats, among: Floats) -> Floats:
    """1 for the first of so many, 0 for the worse half, by the logarithm of the rank between.

    The weights of CMA-ES (Hansen & Ostermeier 2001): the good are told apart, and neither the
    scale of a metric nor its outliers matter.
    """
    top = np.log(among / 2 + 1)
    return np.asarray(np.maximum(top - np.log(rank), 0.0) / top)


def improve(
    controller: Controller,
    optimizer: torch.optim.Optimizer,
    answers: Answers,
    proposed: Floats,
    advantage: Floats,
    clip: float,
    curiosity: float,
    budget: Floats | None = None,
) -> None:
    """One step of REINFORCE (Williams 1992) with importance weights, upwards in reward.

    Args:
        proposed: log-probability `[N]` under the policies that proposed the designs, which may
            be older or others; the weight of a design is the ratio of its present probability to
            that one, at most `clip` (Espeholt et al. 2018, arXiv:1802.01561).
        advantage: reward less baseline `[N]`.
        curiosity: weight of the entropy bonus (nats per decision).
    """
    told = torch.from_numpy(answers)
    log_p, entropy = controller.score(
        told, None if budget is None else torch.from_numpy(budget).float()
    )
    weight = (log_p.detach() - torch.from_numpy(proposed)).exp().clamp(max=clip)
    gain = (weight * torch.from_numpy(advantage) * log_p).mean()
    gain = gain + curiosity * (entropy / (told >= 0).sum(1)).mean()
    optimizer.zero_grad()
    (-gain).backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(controller.parameters(), 1.0)
    optimizer.step()

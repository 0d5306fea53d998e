"""An LSTM controller trained by REINFORCE (Zoph & Le 2017, arXiv:1611.01578)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from raynas.architecture import Architecture
from raynas.objective import Constraint, Objective
from raynas.space import Space
from raynas.strategies.policy import Policy, baseline, utilities
from raynas.trial import Proposal, Trial


@dataclass
class Reinforce:
    """Draws designs from an LSTM that learns which answers were rewarded.

    The reward goes by a trial's place among those remembered (`standings`: with several
    objectives by front and crowding, stopped trials at the epoch they reached, failures last),
    from 1 for the first to 0 for the worse half. The baseline is a moving average. A trial
    is learned from more than once and may come late: it is weighted by how much more probable
    the controller finds its design now than when it proposed it (`Reason.scores`).

    Where we depart from the paper: rewards by rank, importance weights instead of one use of each
    trial, and the best `elite` trials are never forgotten, as a search has hundreds of trials and
    not the paper's 12,800.

    Attributes:
        memory, elite, batch, steps, learning_rate, curiosity, clip, earlier: see `Policy`.
    """

    space: Space
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    memory: int = 64
    elite: int = 16
    batch: int = 8
    steps: int = 6
    learning_rate: float = 0.01
    curiosity: float = 0.01
    clip: float = 1.0
    earlier: tuple[Trial, ...] = ()
    policy: Policy = field(init=False)

    def __post_init__(self) -> None:
        self.policy = Policy(
            self.space,
            self.objectives,
            self.constraints,
            self.memory,
            self.elite,
            self.batch,
            self.steps,
            self.learning_rate,
            self.curiosity,
            self.clip,
            earlier=self.earlier,
        )

    def ask(self, rng: np.random.Generator, pending: Sequence[Architecture]) -> Proposal:
        return self.policy.propose(rng, pending)

    def restore(self, data: bytes, trials: Mapping[int, Trial]) -> None:
        """See `Policy.restore`."""
        self.policy.restore(data, trials)

    def tell(self, trial: Trial) -> None:
        places = self.policy.keep(trial)
        if places is not None:
            rewards = utilities(places)
            for _ in range(self.steps):
                self.policy.learn(rewards - baseline(rewards))

"""Random search without repeats: the baseline that every other strategy must beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from raynas.architecture import Architecture
from raynas.objective import Objective
from raynas.space import Space
from raynas.strategies.base import Seen
from raynas.trial import Proposal, Reason, Trial


@dataclass
class RandomSearch:
    """Draws designs at random (`Space.sample`) and never the same one twice."""

    space: Space
    objectives: tuple[Objective, ...]
    _seen: Seen = field(init=False)

    def __post_init__(self) -> None:
        self._seen = Seen(self.space)

    def ask(self, rng: np.random.Generator, pending: Sequence[Architecture]) -> Proposal:
        drawn, rejected = self._seen.first_new(lambda: self.space.sample(rng), pending)
        architecture = drawn or self._seen.any_new(pending)
        return Proposal(architecture, Reason("random", "drawn at random from the space"), rejected)

    def tell(self, trial: Trial) -> None:
        self._seen.add(trial)

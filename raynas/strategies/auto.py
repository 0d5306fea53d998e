"""Chooses a strategy for a person who does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from raynas.architecture import Architecture
from raynas.objective import Constraint, Objective
from raynas.space import Space
from raynas.strategies.base import Strategy
from raynas.trial import Proposal, Trial

MANY = 3000  # trials; beyond, evolution has seen enough and asks for less computing


@dataclass
class Auto:
    """Picks by size of the space, budget and number of objectives, and says so in the log.

    A space no larger than the budget is searched through in random order. Up to a few thousand
    trials, or where only the time is limited, `predictor` needs the fewest. Beyond, `evolution`
    for one objective and `nsga2` for several.

    Attributes:
        trials: how many there may be; None if only the time is limited.
        earlier: trials of searches on other data, for whatever is picked.
        wide: see `make`; what is picked is told of trials outside `space` only if it takes them.
    """

    space: Space
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    trials: int | None = None
    earlier: tuple[Trial, ...] = ()
    wide: Space | None = None
    _choice: str = field(init=False)
    _strategy: Strategy = field(init=False)
    _takes_all: bool = field(init=False)

    def __post_init__(self) -> None:
        from raynas.strategies import make, takes_all

        name, why = self._chosen()
        self._choice = f"auto takes {name}, for {why}"
        given = (self.objectives, self.constraints, self.trials, self.earlier)
        self._strategy = make(name, self.space, *given, wide=self.wide)
        self._takes_all = self.wide is None or takes_all(name)

    def ask(self, rng: np.random.Generator, pending: Sequence[Architecture]) -> Proposal:
        proposal = self._strategy.ask(rng, pending)
        reason = replace(proposal.reason, note=f"{proposal.reason.note} ({self._choice})")
        return replace(proposal, reason=reason)

    def tell(self, trial: Trial) -> None:
        if self._takes_all or self.space.holds(trial.architecture):
            self._strategy.tell(trial)

    def _chosen(self) -> tuple[str, str]:
        if self.trials is not None and self.space.size <= self.trials:
            return "random", f"all {self.space.size:,} designs can be tried"
        if self.trials is not None and self.trials > MANY:
            several = len(self.objectives) > 1
            name = "nsga2" if several else "evolution"
            return name, f"{self.trials:,} trials are enough to learn from without a model"
        return "predictor", "few trials must find good designs"

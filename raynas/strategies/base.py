"""What a strategy is, and what strategies share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from raynas.architecture import Architecture
from raynas.errors import UserError
from raynas.space import Space
from raynas.trial import Candidate, Proposal, Trial


class SpaceExhausted(UserError):
    """Every design of the space has been tried."""


class Strategy(Protocol):
    """Proposes architectures and learns from trials.

    Every strategy keeps these promises (tests/test_strategy_contract.py): `ask` changes nothing
    that a replay would not rebuild; all randomness comes from `rng`; what is proposed is in the
    space, not yet told and not pending; telling the same trials in the same order restores the
    same strategy, so that a search resumes from its archive alone.
    """

    def ask(self, rng: np.random.Generator, pending: Sequence[Architecture]) -> Proposal:
        """Proposes a design and says why.

        Raises:
            SpaceExhausted: nothing is left to propose.
        """
        ...

    def tell(self, trial: Trial) -> None:
        """Learns from a trial, of any status."""
        ...


@dataclass
class Seen:
    """The designs that a strategy has been told of, by identity of their networks."""

    space: Space
    _numbers: dict[str, int] = field(default_factory=dict)

    def add(self, trial: Trial) -> None:
        self._numbers.setdefault(self.space.identity(trial.architecture), trial.number)

    def number(self, architecture: Architecture) -> int | None:
        """The first trial of this design's network; None if there was none."""
        return self._numbers.get(self.space.identity(architecture))

    def first_new(
        self,
        draw: Callable[[], Architecture],
        pending: Sequence[Architecture],
        tries: int = 100,
    ) -> tuple[Architecture | None, tuple[Candidate, ...]]:
        """Draws until a design is new.

        Returns:
            The design (None after `tries` duplicates) and the first few that were turned away.
        """
        running = {self.space.identity(a) for a in pending}
        rejected: dict[str, Candidate] = {}
        for _ in range(tries):
            architecture = draw()
            identity = self.space.identity(architecture)
            if identity in self._numbers:
                cause = f"duplicate of trial {self._numbers[identity]}"
            elif identity in running:
                cause = "duplicate of a running trial"
            else:
                return architecture, tuple(rejected.values())[:5]
            rejected.setdefault(identity, Candidate(str(architecture), None, cause))
        return None, tuple(rejected.values())[:5]

    def any_new(self, pending: Sequence[Architecture]) -> Architecture:
        """The first design of the space that is new, by going through all of them.

        Only sensible where most of the space has been seen.

        Raises:
            SpaceExhausted: there is none.
        """
        running = {self.space.identity(a) for a in pending}
        for architecture in self.space.enumerate():
            identity = self.space.identity(architecture)
            if identity not in self._numbers and identity not in running:
                return architecture
        raise SpaceExhausted(f"all designs of the space {self.space.name!r} have been tried.")

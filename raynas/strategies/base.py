"""What a strategy is, and what strategies share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from raynas.architecture import Architecture
from raynas.errors import UserError
from raynas.space import Space
from raynas.trial import Candidate, Proposal, Reason, Trial


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
    """The designs that a strategy has been told of, by identity of their networks.

    `any_new` remembers how far it went: what was told by then need not be looked at again.
    """

    space: Space
    _numbers: dict[str, int] = field(default_factory=dict, init=False)
    _rest: Iterator[Architecture] = field(init=False)
    _passed: list[Architecture] = field(default_factory=list, init=False)  # not told by then

    def __post_init__(self) -> None:
        self._rest = self.space.enumerate()

    def add(self, trial: Trial) -> str:
        """Returns the identity of the trial's network."""
        identity = self.space.identity(trial.architecture)
        self._numbers.setdefault(identity, trial.number)
        return identity

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

    def random(
        self, rng: np.random.Generator, pending: Sequence[Architecture], note: str
    ) -> Proposal:
        """A new design drawn at random."""
        drawn, rejected = self.first_new(lambda: self.space.sample(rng), pending)
        return Proposal(drawn or self.any_new(pending), Reason("random", note), rejected)

    def any_new(self, pending: Sequence[Architecture]) -> Architecture:
        """The first design of the space that is new, by going through all of them.

        Only sensible where most of the space has been seen.

        Raises:
            SpaceExhausted: there is none.
        """
        running = {self.space.identity(a) for a in pending}
        self._passed = [a for a in self._passed if self.number(a) is None]
        for architecture in self._passed:
            if self.space.identity(architecture) not in running:
                return architecture
        for architecture in self._rest:
            identity = self.space.identity(architecture)
            if identity not in self._numbers:
                self._passed.append(architecture)
                if identity not in running:
                    return architecture
        raise SpaceExhausted(f"all designs of the space {self.space.name!r} have been tried.")

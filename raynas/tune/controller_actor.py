"""The controller of a search by reinforcement learning as an actor of its own.

Its process may die: Ray starts it again, and it replays the archive. What it dumps into the run
now and then only shortens that replay.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import ray

from raynas import tables
from raynas.architecture import Architecture
from raynas.objective import Constraint, Objective
from raynas.space import Space
from raynas.strategies import Strategy
from raynas.trial import Proposal, Purpose, Trial
from raynas.tune.archive_actor import RemoteArchive

DUMP = "controller.safetensors"  # in the run's folder, see `dump_of`
EVERY = 50  # trials from one dump to the next

_log = logging.getLogger(__name__)


class Dumps(Protocol):
    """The state of a policy (`raynas.strategies.policy`)."""

    told: list[int]

    def dump(self) -> bytes: ...


class Controlled(Strategy, Protocol):
    """A strategy with a controller: what `reinforce` and `generator` have in common."""

    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]

    @property
    def policy(self) -> Dumps: ...

    def restore(self, data: bytes, trials: Mapping[int, Trial]) -> None: ...


class ControllerActor:
    """Serves one strategy; begins by learning what the archive holds of its trials.

    Args:
        purposes, space: see `RemoteStrategy.start`.
    """

    def __init__(
        self,
        make: Callable[[], Controlled],
        archive: RemoteArchive,
        purposes: frozenset[Purpose] = frozenset({"search"}),
        space: Space | None = None,
    ) -> None:
        self._archive = archive
        self._told: set[int] = set()
        contents = archive.contents()
        reasons = {job.number: job.proposal.reason for job in tables.jobs_from(contents.proposals)}
        trials = [
            replace(trial.for_strategy(), reason=reasons.get(trial.number))
            for trial in tables.trials_from(contents.trials)
            if trial.purpose in purposes and (space is None or space.holds(trial.architecture))
        ]
        strategy = make()
        self._dump = dump_of(strategy, space)
        known = {trial.number: trial for trial in trials}
        self._strategy = self._restored(strategy, make, known)
        for trial in trials:
            self.tell(trial)

    def ask(self, rng: np.random.Generator, pending: Sequence[Architecture]) -> Proposal:
        return self._strategy.ask(rng, pending)

    def tell(self, trial: Trial) -> None:
        """Learns from a trial, once: after a restart, what the archive held may come again."""
        if trial.number in self._told:
            return
        self._told.add(trial.number)
        self._strategy.tell(trial)
        if len(self._told) % EVERY == 0:
            self._archive.cache(self._dump, self._strategy.policy.dump())

    def told(self) -> set[int]:
        return self._told

    def _restored(
        self, strategy: Controlled, make: Callable[[], Controlled], trials: Mapping[int, Trial]
    ) -> Controlled:
        """The strategy as it was dumped; a new one if it was not, or something else was."""
        data = self._archive.cached(self._dump)
        if data is None:
            return strategy
        try:
            strategy.restore(data, trials)
        except Exception as error:  # a cache: whatever is wrong with it, it can be done without
            _log.warning("%s is not used: %s", self._dump, error)
            return make()
        self._told.update(strategy.policy.told)
        return strategy


@dataclass
class RemoteStrategy:
    """The actor behind the same calls as the strategy itself."""

    actor: Any
    _told: set[int]
    _sent: list[Any] = field(default_factory=list)

    @classmethod
    def start(
        cls,
        make: Callable[[], Strategy],
        archive: RemoteArchive,
        purposes: frozenset[Purpose] = frozenset({"search"}),
        space: Space | None = None,
    ) -> RemoteStrategy:
        """Starts the actor on the head, which spot nodes come and go around; it ends with the
        process that started it.

        Args:
            purposes: of the trials in the archive that the strategy learns from.
            space: where these must lie, once people have changed what may be proposed.
        """
        head = {"node:__internal_head__": 0.001}
        options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "resources": head}
        actor = ray.remote(**options)(ControllerActor).remote(make, archive, purposes, space)
        return cls(actor, ray.get(actor.told.remote()))

    def ask(self, rng: np.random.Generator, pending: Sequence[Architecture]) -> Proposal:
        self.settle()
        proposal: Proposal = ray.get(self.actor.ask.remote(rng, list(pending)))
        return proposal

    def tell(self, trial: Trial) -> None:
        """Sends a trial without waiting: it arrives before what is asked later."""
        if trial.number not in self._told:  # else the actor has read it in the archive
            self._sent.append(self.actor.tell.remote(trial))

    def settle(self) -> None:
        """Returns when all that was told is learned, and dumped where that was due.

        Whoever closes the archive must wait for this: a dump goes there.
        """
        sent, self._sent = self._sent, []
        ray.get(sent)  # raises what a strategy raised when it was told


def settle(strategy: Strategy) -> None:
    """Waits for a strategy that learns on another node, whatever it is wrapped in."""
    inner: Any = strategy
    while inner is not None:
        if isinstance(inner, RemoteStrategy):
            inner.settle()
        inner = getattr(inner, "strategy", None)


def dump_of(strategy: Controlled, space: Space | None) -> str:
    """The file for a controller's state: one for all that it was told to want and to choose from.

    Args:
        space: None as long as nobody has changed that since the search began.
    """
    if space is None:
        return DUMP
    goals = [str(goal) for goal in (*strategy.objectives, *strategy.constraints)]
    text = json.dumps([space.to_dict(), goals])
    return f"controller-{zlib.crc32(text.encode()):08x}.safetensors"

"""Drives a session through Ray Tune."""

from __future__ import annotations

import logging
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle, tune

from raynas.choices import FROM_FILES
from raynas.errors import UserError
from raynas.session import Evaluator, Session
from raynas.space import Space
from raynas.strategies import STRATEGIES, Strategy
from raynas.trial import Purpose
from raynas.tune import archive_actor
from raynas.tune.archive_actor import RemoteArchive
from raynas.tune.cluster import Cluster
from raynas.tune.controller_actor import RemoteStrategy, settle
from raynas.tune.forgetting import Forgetting
from raynas.tune.output import ray_apart
from raynas.tune.schedulers import rungs, scheduler
from raynas.tune.searcher import Places, SessionSearcher
from raynas.tune.trainable import DesignTrial, Work

JOINING = 60.0  # seconds that the workers of a cluster may take to join it
MAX_FAILURES = 3  # of runs that were begun before there was a setting for it


class TuneDriver:
    """Runs sessions on a Ray cluster.

    Args:
        address: of a cluster to join (`auto`, `HOST:PORT`); None starts Ray in this machine.

    Attributes:
        starting: seconds that the first process of each part took to start, in all: budgets of
            time leave them out.

    Raises:
        UserError: the cluster cannot be joined.
    """

    def __init__(self, address: str | None) -> None:
        for module in FROM_FILES:  # they travel as a whole
            if sys.modules.get(module.__name__) is module:
                cloudpickle.register_pickle_by_value(module)
        self._ours = not ray.is_initialized()
        if self._ours:
            _connect(address)
        self._cluster = Cluster()
        self._searcher: SessionSearcher | None = None
        self.starting = 0.0
        self._undo: Callable[[], None] = lambda: None

    def open(self, folder: Path) -> RemoteArchive:
        """Starts the archive actor of a run, or finds the one that serves it."""
        self._undo = ray_apart(folder)
        return archive_actor.start(folder)

    def strategy(
        self,
        make: Callable[[], Strategy],
        name: str,
        archive: RemoteArchive,
        purposes: frozenset[Purpose],
        space: Space | None = None,
    ) -> Strategy:
        """The strategy that `make` returns; one with a controller as an actor of its own.

        Args:
            purposes: of the trials in the archive that it learns from.
            space: where these must lie, once people have changed what may be proposed.
        """
        if STRATEGIES[name.partition(":")[0]].controller:
            return RemoteStrategy.start(make, archive, purposes, space)
        return make()

    def run(
        self,
        session: Session,
        evaluator: Evaluator,
        archive: RemoteArchive,
        settings: Mapping[str, Any],
        trials: int,
        deadline: float,
    ) -> str:
        """Runs up to `trials` jobs, or until `deadline` (time.monotonic), which the start of the
        first process puts off.

        At the deadline running trials are stopped and kept with what they have. An interrupt
        stops Tune in good order; what was running is run again on resume.

        Returns:
            Why it ended before all trials were handed out; '' if it did not.

        Raises:
            KeyboardInterrupt: it was interrupted.
            UserError: no node has what one trial asks for.
            Exception: what a strategy or the archive raised; finished trials are kept.
        """
        cpus, gpus = self._asked(settings)
        slots = partial(self._cluster.slots, cpus, gpus)
        self._cluster.look()
        most = settings.get("max_concurrent")
        if not most:
            self._wait_for_workers()
        if not most and not self._cluster.had_room(cpus, gpus):
            raise UserError(self._cluster.why_none(cpus, gpus))
        self._searcher = searcher = SessionSearcher(
            session,
            archive,
            trials,
            slots,
            deadline,
            evaluator.epochs == 1,
            gpus,
            settings.get("max_failures", MAX_FAILURES),
            most,
        )
        given = (settings["scheduler"], session.objectives, evaluator.epochs)
        stopping = scheduler(*given, session.past, searcher.time_is_up)
        stops = frozenset(rungs(settings["scheduler"], evaluator.epochs))
        device, timeout = "cuda" if gpus else "cpu", settings["trial_timeout"]
        work = Work(evaluator, session.objectives, archive, stops, cpus, device, timeout)
        trainable = tune.with_resources(
            tune.with_parameters(DesignTrial, work=work),
            lambda config: tune.PlacementGroupFactory([{"CPU": cpus, "GPU": config["gpus"]}]),
        )
        with tempfile.TemporaryDirectory(prefix="raynas-tune-") as scratch:
            tune.Tuner(
                trainable,
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    scheduler=stopping,
                    num_samples=-1,
                    reuse_actors=True,  # how many there are at once is for the searcher to say
                ),
                run_config=tune.RunConfig(
                    name="search",
                    storage_path=scratch,
                    verbose=0,
                    stop=_Deadline(searcher.time_is_up),
                    callbacks=[Places(searcher), Forgetting()],
                    failure_config=tune.FailureConfig(max_failures=0),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                ),
            ).fit()
        self.starting += searcher.starting
        if searcher.error:
            raise searcher.error
        settle(session.strategy)
        if not searcher.done:
            raise KeyboardInterrupt
        return searcher.ended_because

    def around(self) -> Mapping[str, Any]:
        """What is known of the cluster now (`raynas.watching`); looks at its nodes."""
        self._cluster.look()
        if (searcher := self._searcher) is None:
            return {}
        return {
            "driver": "tune",
            "cluster": ray.get_runtime_context().gcs_address,
            "nodes": self._cluster.nodes,
            "gone": self._cluster.gone,
            "slots": searcher.slots(),
            "wanted": searcher.wanted,
            "waiting": searcher.waiting,
            "restarts": searcher.restarts,
        }

    def whole_node(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a trial asks for that is alone: all processors of a node, and a whole GPU."""
        self._cluster.look()
        gpus = self._asked(settings)[1]
        fit = [n for n in self._cluster.nodes if not gpus or n["gpus"] >= 1]
        most = max((int(node["cpus"]) for node in fit), default=1)
        return {
            "cpus_per_trial": max(most, settings["cpus_per_trial"]),
            "gpus_per_trial": max(gpus, 1.0) if gpus else gpus,
        }

    def scoring(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a trial asks for that trains nothing: no GPU, where there are nodes without."""
        del settings
        self._cluster.look()
        return {"gpus_per_trial": 0.0} if self._cluster.has_nodes_without_gpu else {}

    def _wait_for_workers(self) -> None:
        """Gives those of a cluster that was started just now some time to join it."""
        until = time.monotonic() + JOINING
        while not any(node["cpus"] for node in self._cluster.nodes) and time.monotonic() < until:
            time.sleep(1)
            self._cluster.look()

    def _asked(self, settings: Mapping[str, Any]) -> tuple[int, float]:
        """The processors and the share of a GPU that a trial is given."""
        gpus = settings["gpus_per_trial"]
        if gpus is None:
            gpus = 1.0 if self._cluster.has_gpus else 0.0
        return settings["cpus_per_trial"], gpus

    def disconnect(self) -> None:
        """Leaves the cluster, or ends the one that was started here."""
        self._undo()
        if self._ours:
            ray.shutdown()


def _connect(address: str | None) -> None:
    if address and ":" in address:
        _knock(address)
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is None:
            ray.init(address="local", include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(
            f"no Ray cluster could be joined at {address!r}: {error}. Start one with "
            "`ray start --head`, or leave --address away."
        ) from None


def _knock(address: str) -> None:
    """Raises unless somebody listens there: Ray itself would go on trying for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise UserError(
            f"no Ray cluster answers at {address!r}: {error}. Start one with `ray start --head`, "
            "or leave --address away."
        ) from None


class _Deadline(tune.Stopper):  # type: ignore[misc]  # ray has no types here
    """Stops each trial at its next report after the deadline; it is kept as stopped early."""

    def __init__(self, is_over: Callable[[], bool]) -> None:
        self._is_over = is_over

    def __call__(self, *_: Any) -> bool:
        return self._is_over()

    def stop_all(self) -> bool:
        return False

"""Drives a session through Ray Tune."""

from __future__ import annotations

import logging
import math
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
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
from raynas.tune.controller_actor import RemoteStrategy, settle
from raynas.tune.schedulers import rungs, scheduler
from raynas.tune.searcher import SessionSearcher
from raynas.tune.trainable import DesignTrial, Work


class TuneDriver:
    """Runs sessions on a Ray cluster.

    Args:
        address: of a cluster to join (`auto`, `HOST:PORT`); None starts Ray in this machine.

    Raises:
        UserError: the cluster cannot be joined.
    """

    def __init__(self, address: str | None) -> None:
        for name in ("tune", "execution.tune_controller", "analysis.experiment_analysis"):
            logging.getLogger(f"ray.tune.{name}").setLevel(logging.CRITICAL)  # the archive tells
        for module in FROM_FILES:  # they travel as a whole
            if sys.modules.get(module.__name__) is module:
                cloudpickle.register_pickle_by_value(module)
        self._ours = not ray.is_initialized()
        if self._ours:
            _connect(address)

    def open(self, folder: Path) -> RemoteArchive:
        """Starts the archive actor of a run, or finds the one that serves it."""
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
        """Runs up to `trials` jobs, or until `deadline` (time.monotonic).

        At the deadline running trials are stopped and kept with what they have. An interrupt
        stops Tune in good order; what was running is run again on resume.

        Returns:
            Why it ended before all trials were handed out; '' if it did not.

        Raises:
            KeyboardInterrupt: it was interrupted.
            UserError: no node has what one trial asks for.
            Exception: what a strategy or the archive raised; finished trials are kept.
        """
        cpus, gpus = settings["cpus_per_trial"], settings["gpus_per_trial"]
        if gpus is None:
            gpus = 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0
        places = _slots(cpus, gpus)
        batches = evaluator.epochs == 1
        searcher = SessionSearcher(session, archive, trials, places, deadline, batches)
        stops = rungs(settings["scheduler"], evaluator.epochs)
        device = "cuda" if gpus else "cpu"
        timeout = settings["trial_timeout"]
        work = Work(
            evaluator, session.objectives, archive, frozenset(stops), cpus, device, timeout, gpus
        )
        trainable = tune.with_resources(
            tune.with_parameters(DesignTrial, work=work), {"cpu": cpus, "gpu": gpus}
        )
        with tempfile.TemporaryDirectory(prefix="raynas-tune-") as scratch:
            tune.Tuner(
                trainable,
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    scheduler=scheduler(
                        settings["scheduler"], session.objectives, evaluator.epochs, session.past
                    ),
                    num_samples=-1,
                    max_concurrent_trials=2 * places,
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(
                    name="search",
                    storage_path=scratch,
                    verbose=0,
                    stop=_Deadline(deadline),
                    failure_config=tune.FailureConfig(max_failures=0),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                ),
            ).fit()
        if searcher.error:
            raise searcher.error
        settle(session.strategy)
        if not searcher.done:
            raise KeyboardInterrupt
        return searcher.ended_because

    def whole_node(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a trial asks for that is alone: all processors of a node, and a whole GPU."""
        most = max((node["Resources"].get("CPU", 1) for node in ray.nodes()), default=1)
        gpus = settings["gpus_per_trial"]
        return {
            "cpus_per_trial": max(int(most), settings["cpus_per_trial"]),
            "gpus_per_trial": max(gpus, 1.0) if gpus else gpus,
        }

    def disconnect(self) -> None:
        """Leaves the cluster, or ends the one that was started here."""
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


def _slots(cpus: int, gpus: float) -> int:
    have = ray.cluster_resources()
    fits = have.get("CPU", 0) / cpus if cpus else math.inf
    if gpus:
        fits = min(fits, have.get("GPU", 0) / gpus)
    if fits < 1:
        raise UserError(
            f"a trial asks for {cpus} CPUs and {gpus:g} GPUs; the cluster has "
            f"{have.get('CPU', 0):g} and {have.get('GPU', 0):g}. Lower --cpus-per-trial or "
            "--gpus-per-trial."
        )
    return int(fits)


class _Deadline(tune.Stopper):  # type: ignore[misc]  # ray has no types here
    """Stops each trial at its next report after the deadline; it is kept as stopped early."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline

    def __call__(self, *_: Any) -> bool:
        return time.monotonic() >= self._deadline

    def stop_all(self) -> bool:
        return False

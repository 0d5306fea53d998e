"""A trial on the cluster: one reused actor carries out one job after another."""

from __future__ import annotations

import gc
import json
import os
import platform
import threading
import time
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

from ray import tune

from raynas.objective import Objective
from raynas.session import Context, Evaluator, carry_out
from raynas.trial import Job, Trial, job_from_dict
from raynas.tune.archive_actor import RemoteArchive
from raynas.tune.output import Output

REPORT_SECONDS = 2.0  # between reports of a trial that crosses no rung


@dataclass(frozen=True)
class Work:
    """What every trial of a search shares; Ray keeps it once per node.

    Attributes:
        rungs: epochs at which the scheduler decides; a trial always reports there.
        timeout: seconds after which a trial is given up, hanging or not.
    """

    evaluator: Evaluator
    objectives: tuple[Objective, ...]
    archive: RemoteArchive
    rungs: frozenset[int]
    cpus: int
    device: str
    timeout: float | None


class DesignTrial(tune.Trainable):  # type: ignore[misc]  # ray has no types here
    """Carries out the jobs of its config; reports at rungs and now and then between."""

    def setup(self, config: dict[str, Any], work: Work) -> None:
        self._work = work
        self._output = Output()
        self._out_of_memory = self._crowded = False
        self._gpus: float = config["gpus"]  # of all trials of this process
        if self._gpus:
            import torch

            if torch.cuda.is_available():
                torch.cuda.set_per_process_memory_fraction(min(self._gpus, 1.0))
        self._begin(config)

    def reset_config(self, config: dict[str, Any]) -> bool:
        """Takes the next job. Never False: Tune takes that for a failed trial, and tells nobody."""
        self._end()
        self._begin(config)
        return True

    def step(self) -> dict[str, Any]:
        """Carries out jobs until all are done, or one has something to report before its end."""
        done: list[Trial] = []
        while True:
            trial, recorded = self._advance()
            if self._crowded:
                return {**_result(done, recorded=True), "crowded": True}
            if not recorded:
                return _result([trial], recorded=False)
            done.append(trial)
            if not self._jobs:
                return _result(done, recorded=True)
            self._begin_job()

    def _advance(self) -> tuple[Trial, bool]:
        """The next trial worth telling of, and whether it is finished and kept."""
        if self._job.number in self._again:
            self._again.remove(self._job.number)
            kept = self._work.archive.find(self._job.number)
            if kept is not None:  # finished before its process, or the driver, died
                return kept, True
        began = time.monotonic()
        for trial, weights in self._progress:
            if trial.status != "stopped_early":
                self._out_of_memory |= (trial.error or "").startswith("OutOfMemoryError")
                self._crowded = self._out_of_memory and 0 < self._gpus < 1
                return (trial, False) if self._crowded else (self._finish(trial, weights), True)
            if self._worth_reporting(trial.fidelity, time.monotonic() - began):
                return trial, False
        raise RuntimeError("an evaluation ended without a last trial")

    def _worth_reporting(self, epoch: int, seconds: float) -> bool:
        if epoch >= self._work.evaluator.epochs:
            return False  # the finished trial follows at once
        return epoch in self._work.rungs or seconds >= REPORT_SECONDS

    def ping(self) -> None:
        """Answers, as long as the process lives."""

    def cleanup(self) -> None:
        self._end()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to save: evaluations keep checkpoints in the run's folder (`Context`)."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """See `save_checkpoint`."""

    def _begin(self, config: dict[str, Any]) -> None:
        self._jobs = deque(job_from_dict(data) for data in json.loads(config["jobs"]))
        self._again = set(json.loads(config["again"]))
        self._out_of_memory = self._crowded = False
        self._begin_job()

    def _begin_job(self) -> None:
        work = self._work
        self._job = self._jobs.popleft()
        self._output.clear()
        context = Context(0, work.cpus, work.device, work.archive).of(self._job)
        self._progress: Generator[tuple[Trial, Any], None, None] = carry_out(
            self._job, work.evaluator, work.objectives, context, work.timeout
        )
        self._watchdog: threading.Timer | None = None
        if work.timeout is not None:
            self._watchdog = threading.Timer(work.timeout * 1.1 + 1, self._give_up, [self._job])
            self._watchdog.daemon = True
            self._watchdog.start()

    def _finish(self, trial: Trial, weights: bytes | None) -> Trial:
        self._stop_watchdog()
        log = self._output.tail if trial.status == "failed" else None
        trial = replace(trial, node=platform.node(), log=log)
        archive = self._work.archive
        keep = weights if weights is not None and archive.wants_weights(trial) else None
        archive.record(trial, keep)  # acknowledged before Tune hears of it
        return trial

    def _give_up(self, job: Job) -> None:
        """Ends a process whose evaluation hangs; the trial is kept as failed first."""
        error = f"hung past the limit of {self._work.timeout:g} s per trial; its process was ended"
        trial = Trial(
            job.number,
            job.architecture,
            "failed",
            dict(job.costs),
            purpose=job.purpose,
            seed=job.seed,
            split=self._work.evaluator.split,
            seconds=self._work.timeout or 0.0,
            started_at=time.time() - (self._work.timeout or 0.0),
            node=platform.node(),
            error=error,
            log=self._output.tail,
        )
        self._work.archive.record(trial)
        os._exit(1)

    def _end(self) -> None:
        self._stop_watchdog()
        self._progress.close()  # frees what the evaluation holds
        if self._out_of_memory:
            gc.collect()  # what failed stands in a cycle of traces
        if self._gpus:
            import torch

            torch.cuda.empty_cache()

    def _stop_watchdog(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()


def _result(trials: list[Trial], recorded: bool) -> dict[str, Any]:
    """What Tune is told: the trials as one string (nested values would come back flattened)."""
    last = trials[-1] if trials else None
    return {
        **(last.metrics if last else {}),
        "trials": json.dumps([trial.to_dict() for trial in trials]),
        "recorded": recorded,
        "done": recorded,
        "epoch": last.fidelity if last else 0,
    }

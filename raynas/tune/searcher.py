"""A session behind Tune's Searcher interface."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from typing import Any

from ray.tune.search import Searcher

from raynas.session import NoFeasibleDesign, Session, describe
from raynas.strategies import SpaceExhausted
from raynas.trial import Job, Trial, job_to_dict
from raynas.tune.archive_actor import RemoteArchive

LONG = 1.0  # seconds; longer trials are not queued beyond one, as queued proposals grow stale
BATCH = 0.25  # seconds; evaluations without epochs are handed out in batches of about so long
MOST = 50  # evaluations in a batch
ATTEMPTS = 2  # before a job whose process dies counts as failed

_log = logging.getLogger(__name__)


class SessionSearcher(Searcher):  # type: ignore[misc]  # ray has no types here
    """Hands a session's jobs to Tune and its trials back.

    Any exception in here would abort the whole experiment, so every hook catches what it meets
    and keeps it in `error`; the driver raises it when Tune has stopped.

    Args:
        session: the search to run.
        archive: asked for trials whose process died after it had handed them in.
        trials: how many jobs to hand out.
        slots: how many trials can run at once.
        deadline: time.monotonic() after which no new job is handed out.
        batches: whether several jobs may be carried out in one Tune trial when they are short.
    """

    def __init__(
        self,
        session: Session,
        archive: RemoteArchive,
        trials: int,
        slots: int,
        deadline: float,
        batches: bool,
    ) -> None:
        super().__init__()  # metric and mode stay unset: objectives live in the session
        self.error: Exception | None = None
        self.ended_because = ""
        self._session = session
        self._archive = archive
        self._left = trials
        self._slots = slots
        self._deadline = deadline
        self._batches = batches
        self._running: dict[str, list[Job]] = {}
        self._attempts: Counter[int] = Counter()
        self._seconds: float | None = None  # moving average of a job's duration

    @property
    def done(self) -> bool:
        """Whether it ended by itself: the trials are handed out, or the time is up."""
        return self._left <= 0 or time.monotonic() >= self._deadline

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self.error or time.monotonic() >= self._deadline:
            return str(Searcher.FINISHED)
        if self._left <= 0:  # a process may still die and its job come back
            return None if self._running else str(Searcher.FINISHED)
        if len(self._running) > self._slots and (self._seconds is None or self._seconds > LONG):
            return None
        jobs: list[Job] = []
        try:
            while len(jobs) < self._batch():
                jobs.append(self._session.ask())
        except (SpaceExhausted, NoFeasibleDesign) as error:
            if not self._session.usable and not self._running and not jobs:
                self.error = error
            self.ended_because, self._left = str(error), 0
        except Exception as error:
            self.error = error
        if not jobs:
            return None if self._running and not self.error else str(Searcher.FINISHED)
        self._left -= len(jobs)
        self._running[trial_id] = jobs
        again = [job.number for job in jobs if self._session.was_handed_out(job)]
        return {"jobs": json.dumps([job_to_dict(job) for job in jobs]), "again": json.dumps(again)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Notes how far a trial is; strategies are told of whole trials."""
        if jobs := self._running.get(trial_id):
            self._session.epochs[jobs[0].number] = int(result.get("epoch", 0))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        jobs = self._running.pop(trial_id, None)
        if jobs is None:  # told already: Tune calls again when this hook raised
            return
        try:
            told = [] if error else json.loads((result or {}).get("trials", "[]"))
            for data in told:
                trial = Trial.from_dict(data)
                self._session.tell(trial, recorded=bool(result and result["recorded"]))
                seconds = trial.seconds
                self._seconds = 0.8 * (self._seconds or seconds) + 0.2 * seconds
            if error:
                self._process_died(jobs)
            elif not told:  # cut off before its first reading: run again on resume
                self._session.running.pop(jobs[0].number, None)
        except Exception as caught:
            _log.error("%s", describe(caught))
            self.error = caught

    def _batch(self) -> int:
        """How many jobs the next Tune trial carries out."""
        if not self._batches or self._seconds is None or self._seconds > BATCH / 2:
            return 1
        fair = self._left // (2 * self._slots)  # near the end, all slots share what is left
        return max(1, min(MOST, fair, int(BATCH / max(self._seconds, BATCH / MOST))))

    def _process_died(self, jobs: list[Job]) -> None:
        """Tells what the process handed in; the next job in order is what it died of."""
        missing = []
        for job in jobs:
            if (trial := self._archive.find(job.number)) is not None:
                self._session.tell(trial, recorded=True)
            else:
                missing.append(job)
        if missing:
            self._attempts[missing[0].number] += 1
            if self._attempts[missing[0].number] >= ATTEMPTS:
                self._session.tell(_died(missing.pop(0)))
        for job in reversed(missing):
            self._session.retry(job)
        self._left += len(missing)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher; this one resumes from its archive instead

    def save(self, checkpoint_path: str) -> None:
        """See `__getstate__`."""

    def restore(self, checkpoint_path: str) -> None:
        """See `__getstate__`."""


def _died(job: Job) -> Trial:
    return Trial(
        job.number,
        job.architecture,
        "failed",
        dict(job.costs),
        purpose=job.purpose,
        seed=job.seed,
        started_at=time.time(),
        error="the trial's process died (out of memory, killed, or its node was lost), twice",
    )

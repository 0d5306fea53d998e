"""A session behind Tune's Searcher interface."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from ray.tune.search import Searcher

from raynas.session import NoFeasibleDesign, Session, describe
from raynas.strategies import SpaceExhausted
from raynas.trial import Job, Trial, job_to_dict
from raynas.tune.archive_actor import RemoteArchive

LONG = 1.0  # seconds; longer trials are not queued beyond one, as queued proposals grow stale

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
    """

    def __init__(
        self, session: Session, archive: RemoteArchive, trials: int, slots: int, deadline: float
    ) -> None:
        super().__init__()  # metric and mode stay unset: objectives live in the session
        self.error: Exception | None = None
        self.ended_because = ""
        self._session = session
        self._archive = archive
        self._left = trials
        self._slots = slots
        self._deadline = deadline
        self._running: dict[str, Job] = {}
        self._seconds: float | None = None  # moving average of a trial's duration

    @property
    def done(self) -> bool:
        """Whether it ended by itself: the trials are handed out, or the time is up."""
        return self._left <= 0 or time.monotonic() >= self._deadline

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self.error or self.done:
            return str(Searcher.FINISHED)
        if len(self._running) > self._slots and (self._seconds is None or self._seconds > LONG):
            return None
        try:
            job = self._session.ask()
        except (SpaceExhausted, NoFeasibleDesign) as error:
            if not self._session.usable:
                self.error = error
            self.ended_because, self._left = str(error), 0
            return str(Searcher.FINISHED)
        except Exception as error:
            self.error = error
            return str(Searcher.FINISHED)
        self._left -= 1
        self._running[trial_id] = job
        return {"job": json.dumps(job_to_dict(job))}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing to learn yet: strategies are told of whole trials."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        job = self._running.pop(trial_id, None)
        if job is None:  # told already: Tune calls again when this hook raised
            return
        try:
            if result and result.get("trial") and not error:
                trial = Trial.from_dict(json.loads(result["trial"]))
                self._session.tell(trial, recorded=bool(result["recorded"]))
            elif error:
                self._session.tell(self._archive.find(job.number) or _died(job))
            else:  # cut off before its first reading: it will be run again on resume
                self._session.running.pop(job.number, None)
                return
            seconds = (result or {}).get("time_total_s", LONG)
            self._seconds = 0.7 * (self._seconds or seconds) + 0.3 * seconds
        except Exception as caught:
            _log.error("%s", describe(caught))
            self.error = caught

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

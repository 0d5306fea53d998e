"""A session behind Tune's Searcher interface."""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.tune import Callback
from ray.tune.search import Searcher

from raynas.errors import UserError
from raynas.session import NoFeasibleDesign, Session, describe
from raynas.strategies import SpaceExhausted
from raynas.trial import Job, Status, Trial, job_to_dict
from raynas.tune.archive_actor import RemoteArchive

LONG = 1.0  # seconds; longer trials are not queued beyond one, as queued proposals grow stale
BATCH = 0.25  # seconds; evaluations without epochs are handed out in batches of about so long
MOST = 50  # evaluations in a batch
OWN_DEATH = "worker process has died"  # says Ray of an actor whose node lives
ANSWER = 5.0  # seconds that Ray may take to say what an actor died of
ATTEMPTS = 2  # before a job whose process dies, on a node that lives, counts as failed
HOPELESS = 5  # jobs that came to nothing in a row, before any had readings: the search is ended

_log = logging.getLogger(__name__)


class SessionSearcher(Searcher):  # type: ignore[misc]  # ray has no types here
    """Hands a session's jobs to Tune and its trials back.

    Any exception in here would abort the whole experiment, so every hook catches what it meets
    and keeps it in `error`; the driver raises it when Tune has stopped.

    Args:
        session: the search to run.
        archive: asked for trials whose process died after it had handed them in.
        trials: how many jobs to hand out.
        slots: says how many trials can run at once now.
        deadline: time.monotonic() after which no new job is handed out; it is put off by as long as
            the first process takes to start, at most by the time that there is.
        batches: whether several jobs may be carried out in one Tune trial when they are short.
        gpus: that a trial is given.
        max_failures: how often a job is run again whose node, or the way to it, was lost.
        max_concurrent: how many trials there are at once, with and without a place; None lets that
            follow what has room.

    Attributes:
        error: what made it end, which is to be raised.
        restarts: how often a job was handed out again.
        started: the actors of Tune trials that have a place, by their id.
    """

    def __init__(
        self,
        session: Session,
        archive: RemoteArchive,
        trials: int,
        slots: Callable[[], int],
        deadline: float,
        batches: bool,
        gpus: float,
        max_failures: int,
        max_concurrent: int | None = None,
    ) -> None:
        super().__init__()  # metric and mode stay unset: objectives live in the session
        self.error: Exception | None = None
        self.ended_because = ""
        self.restarts = 0
        self.error_of: Callable[[str], str] = lambda _: ""  # see `Places`
        self.started: dict[str, Any] = {}
        self._session = session
        self._archive = archive
        self._left = trials
        self.slots = slots
        self._deadline = deadline
        self._made = time.monotonic()
        self._began: float | None = None  # when the first process was there
        self._batches = batches
        self._gpus = gpus
        self._max_failures = max_failures
        self._max_concurrent = max_concurrent
        self._running: dict[str, list[Job]] = {}
        self._deaths: dict[int, list[Any]] = {}  # by job: what tells how each process ended
        self._alone: deque[Job] = deque()  # they did not fit beside others on a GPU
        self._given_up = 0  # in a row
        self._seconds: float | None = None  # moving average of a job's duration

    @property
    def done(self) -> bool:
        """Whether it ended as it should: all trials are over, those that ran when it was asked to
        stop, or the time is up."""
        none_left = self._session.stopping or (self._left <= 0 and not self._alone)
        return (none_left and not self._running) or self.time_is_up()

    @property
    def starting(self) -> float:
        """Seconds until the first process was there, which the time that there is leaves out."""
        began = time.monotonic() if self._began is None else self._began
        return min(began - self._made, max(self._deadline - self._made, 0.0))

    def time_is_up(self) -> bool:
        """Whether no new job is handed out, and what runs is stopped."""
        return time.monotonic() >= self._deadline + self.starting

    def has_place(self, trial_id: str, actor: Any) -> None:
        """Notes that a process was started for a Tune trial."""
        self._began = self._began or time.monotonic()
        self.started[trial_id] = actor

    @property
    def waiting(self) -> int:
        """How many jobs were handed out and have no place yet."""
        return sum(len(jobs) for id_, jobs in self._held() if id_ not in self.started)

    @property
    def wanted(self) -> int:
        """How many trials there should be, with and without a place.

        Short trials are queued, so that no place is ever free; of long ones a single one is, as
        proposals grow stale in a queue. Where somebody says how many there are to be, those that
        find no place are what makes an autoscaler start nodes.
        """
        if self._max_concurrent is not None:
            return self._max_concurrent
        slots = self.slots()
        short = self._seconds is not None and self._seconds <= LONG
        return 2 * max(slots, 1) if short else slots + 1

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self.error or self.time_is_up() or self._session.stopping:
            return str(Searcher.FINISHED)
        if self._alone:
            return self._handed_out(trial_id, [self._alone.popleft()], 1.0)
        if self._left <= 0:  # a process may still die and its job come back
            return None if self._running else str(Searcher.FINISHED)
        if len(self._running) >= self.wanted:
            return None
        jobs: list[Job] = []
        try:
            while len(jobs) < self._batch():
                jobs.append(self._session.ask())
        except (SpaceExhausted, NoFeasibleDesign) as error:
            if not self._session.usable and not self._running and not jobs:
                self.error = error
            self.ended_because, self._left = str(error), len(jobs)
        except Exception as error:
            self.error = error
        if not jobs:
            return None if self._running and not self.error else str(Searcher.FINISHED)
        self._left -= len(jobs)
        return self._handed_out(trial_id, jobs, self._gpus)

    def _handed_out(self, trial_id: str, jobs: list[Job], gpus: float) -> dict[str, Any]:
        self._running[trial_id] = jobs
        again = [job.number for job in jobs if self._session.was_handed_out(job)]
        texts = [json.dumps(data) for data in ([job_to_dict(job) for job in jobs], again)]
        return {"jobs": texts[0], "again": texts[1], "gpus": gpus}

    def _held(self) -> list[tuple[str, list[Job]]]:
        return list(self._running.items())  # at once: the one who looks is another thread

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Notes how far a trial is; strategies are told of whole trials."""
        if jobs := self._running.get(trial_id):
            self._session.epochs[jobs[0].number] = int(result.get("epoch", 0))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        jobs = self._running.pop(trial_id, None)
        actor = self.started.pop(trial_id, None)
        if jobs is None:  # told already: Tune calls again when this hook raised
            return
        try:
            result = {} if error else result or {}
            told = [Trial.from_dict(data) for data in json.loads(result.get("trials", "[]"))]
            for trial in told:
                self._tell(trial, bool(result["recorded"]))
                self._seconds = 0.8 * (self._seconds or trial.seconds) + 0.2 * trial.seconds
            if error:
                self._failed(jobs, actor, self.error_of(trial_id))
            elif result.get("crowded"):
                done = {trial.number for trial in told}
                self._again([job for job in jobs if job.number not in done], alone=True)
            elif not told:  # cut off before its first reading: run again on resume
                for job in jobs:
                    self._session.running.pop(job.number, None)
        except Exception as caught:
            _log.error("%s", describe(caught))
            self.error = caught

    def _tell(self, trial: Trial, recorded: bool) -> None:
        self._given_up = 0
        self._deaths.pop(trial.number, None)
        self._session.tell(trial, recorded)

    def _batch(self) -> int:
        """How many jobs the next Tune trial carries out."""
        if not self._batches or self._seconds is None or self._seconds > BATCH / 2:
            return 1
        fair = self._left // (2 * max(self.slots(), 1))  # near the end all share what is left
        return max(1, min(MOST, fair, int(BATCH / max(self._seconds, BATCH / MOST))))

    def _failed(self, jobs: list[Job], actor: Any, error: str) -> None:
        """Tells what the process handed in; the next job in order is what it died of, if it was
        not lost with its node."""
        missing = []
        for job in jobs:
            if (trial := self._archive.find(job.number)) is not None:
                self._tell(trial, recorded=True)
            else:
                missing.append(job)
        if not missing:
            return
        deaths = self._deaths.setdefault(missing[0].number, [])
        deaths.append(error if error or actor is None else actor.ping.remote())
        if len(deaths) > 1 or not self._max_failures:
            causes = [_cause(how, ANSWER if how is deaths[-1] else 0.0) for how in deaths]
            own = sum(OWN_DEATH in cause for cause in causes)
            broken = sum(isinstance(how, str) for how in deaths)
            if own >= ATTEMPTS:
                self._give_up(missing.pop(0), "failed", "died, while its node lived", causes)
            elif broken >= ATTEMPTS:
                self._give_up(missing.pop(0), "lost", "could not begin or go on", causes)
            elif len(causes) - own > self._max_failures:
                how = "was lost, as was its node or the way to it"
                self._give_up(missing.pop(0), "lost", how, causes)
        self._again(missing, alone=False)

    def _give_up(self, job: Job, status: Status, how: str, causes: list[str]) -> None:
        last = _told(causes[-1])
        trial = Trial(
            job.number,
            job.architecture,
            status,
            dict(job.costs),
            purpose=job.purpose,
            seed=job.seed,
            started_at=time.time(),
            error=f"the trial's process {how}, {len(causes)} times: {last}",
            log=causes[-1],
        )
        self._session.tell(trial)
        del self._deaths[job.number]
        self._given_up += 1
        if self._given_up >= HOPELESS and not self._session.usable:
            raise UserError(
                f"{HOPELESS} trials in a row came to nothing, and none had any reading. What was "
                f"heard last: {last} -- `raynas doctor` looks at every node."
            )

    def _again(self, jobs: list[Job], alone: bool) -> None:
        """Hands jobs out once more; the first of them with a whole GPU, if it needs one alone."""
        self.restarts += len(jobs)
        if alone and jobs:
            self._alone.append(jobs.pop(0))
        for job in reversed(jobs):
            self._session.retry(job)
        self._left += len(jobs)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher; this one resumes from its archive instead

    def save(self, checkpoint_path: str) -> None:
        """See `__getstate__`."""

    def restore(self, checkpoint_path: str) -> None:
        """See `__getstate__`."""


class Places(Callback):  # type: ignore[misc]  # ray has no types here
    """Tells the searcher which of its trials have a place on a node, and why one broke."""

    def __init__(self, searcher: SessionSearcher) -> None:
        self._searcher = searcher
        self._trials: Sequence[Any] = ()
        searcher.error_of = self._error_of

    def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
        del iteration, info
        self._trials = trials

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        del iteration, trials, info
        self._searcher.has_place(trial.trial_id, trial.temporary_state.ray_actor)

    def _error_of(self, trial_id: str) -> str:
        """What a trial's process raised outside of an evaluation, or as it began; '' if it died."""
        trial = next((t for t in reversed(self._trials) if t.trial_id == trial_id), None)
        if trial is None:
            return ""
        try:
            text = Path(trial.error_file).read_text().partition("\n")[2]
        except OSError:
            return ""
        died = "The actor" in text.partition("\n")[0]
        return "" if died and "creation task" not in text else text

    def __getstate__(self) -> dict[str, Any]:
        return {}  # as the searcher


def _cause(how: Any, wait: float) -> str:
    """A text itself; of a call to an actor, what Ray says of its end, if it knows by now."""
    if isinstance(how, str):
        return how or "it ended before it had begun"
    try:
        ray.get(how, timeout=wait)
    except GetTimeoutError:
        return "its node does not answer"
    except RayError as error:
        return str(error)
    return "the way to its node was cut off for a while"


def _told(cause: str) -> str:
    """The line of what Ray says that tells the cause, without its guesses."""
    return cause.strip().splitlines()[-1].partition(" Some common causes")[0].strip()

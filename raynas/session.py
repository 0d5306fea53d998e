"""The data flow of a search, in one place: ask -> evaluate -> tell -> record.

Both drivers use it: `run_local` below in one process, `raynas.tune` on a cluster.
"""

from __future__ import annotations

import math
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from raynas.architecture import Architecture, changes
from raynas.errors import UserError
from raynas.objective import Constraint, Metrics, Objective, figure
from raynas.space import Space
from raynas.strategies.base import SpaceExhausted, Strategy
from raynas.trial import Candidate, Job, Proposal, Reason, Trial, problem_with

ASKS = 200  # designs that a strategy may propose in a row that no constraint lets pass
PAST = 1000  # trials of an earlier part of a search that are remembered with their curves
CHECKPOINTS = "checkpoints"  # in a run's folder: of trials that are not recorded yet
STEPS = 300  # mutations of the least bad of them towards the bounds, after that


class NoFeasibleDesign(UserError):
    """No design that keeps the constraints was found in a bounded number of tries."""


class Files(Protocol):
    """Files in a run's folder that an evaluation keeps beside its readings, such as checkpoints."""

    def cached(self, name: str) -> bytes | None:
        """Returns a file; None if there is none."""
        ...

    def cache(self, name: str, data: bytes) -> None:
        """Replaces a file."""
        ...


@dataclass(frozen=True)
class Context:
    """What an evaluation may use.

    Attributes:
        seed: of everything random in it.
        cpus: processors it was given (threads to use).
        device: `cpu`, `cuda`, or `auto`: CUDA where there is some.
        files: of the run; None outside of a search.
        checkpoint: the file in which an evaluation may keep how far it is: it is given again to
            the next attempt, if this one is lost, and removed when the trial is recorded.
    """

    seed: int
    cpus: int = 1
    device: str = "auto"
    files: Files | None = None
    checkpoint: str = ""

    def of(self, job: Job) -> Context:
        """For this job."""
        return replace(self, seed=job.seed, checkpoint=checkpoint_of(job.number))


class Evaluator(Protocol):
    """Measures architectures."""

    @property
    def metrics(self) -> frozenset[str] | None:
        """The names it reports; None if only running it can tell."""
        ...

    @property
    def epochs(self) -> int:
        """How many readings a full evaluation has."""
        ...

    @property
    def split(self) -> str:
        """A short hash of the training, validation and test examples."""
        ...

    def costs(self, architecture: Architecture) -> Metrics:
        """What is known of a design before training it (`params`, `flops`)."""
        ...

    def evaluate(
        self, architecture: Architecture, context: Context
    ) -> Generator[Metrics, None, Any]:
        """Yields readings, one mapping per epoch; returns safetensors bytes or None."""
        ...


class Archive(Protocol):
    """Where a session records. Both calls return only when the record would survive a crash."""

    def propose(self, job: Job) -> None: ...

    def record(self, trial: Trial, weights: bytes | None = None) -> None:
        """Keeps a trial; a number that is already kept is left as it was."""
        ...

    def wants_weights(self, trial: Trial) -> bool:
        """Whether the trial would stand on the Pareto front, so that its weights are kept."""
        ...


@dataclass
class Session:
    """A search: hands out numbered jobs and learns from their trials.

    Attributes:
        costs: measures what constraints may speak about before a design is trained.
        observe: is shown every trial that the session learns from.
        starts: what to try before the strategy is asked.
        past: the latest trials of an earlier part of this search, by which a scheduler judges.
        learned: how many trials of each status it has been told.
        epochs: how far running trials are, by number, as far as they have reported.
        narrowed: whether trials may lie outside of the space, since people have narrowed it: the
            strategy is not told of those, and such jobs are not handed out again.
        tell_all: whether the strategy is told of those as well, because it can learn from them.
        around: what is known of the machines that it runs on now (`raynas.watching`).
        stopping: whether somebody asked it to end: no further job is handed out, what runs ends.
    """

    space: Space
    strategy: Strategy
    objectives: tuple[Objective, ...]
    archive: Archive
    costs: Callable[[Architecture], Metrics]
    constraints: tuple[Constraint, ...] = ()
    seed: int = 0
    observe: Callable[[Trial], None] | None = None
    starts: Sequence[Proposal] = ()
    narrowed: bool = False
    tell_all: bool = False
    learned: dict[str, int] = field(default_factory=dict)
    past: deque[Trial] = field(default_factory=lambda: deque(maxlen=PAST))
    running: dict[int, Job] = field(default_factory=dict)
    epochs: dict[int, int] = field(default_factory=dict)
    around: Mapping[str, Any] = field(default_factory=dict)
    stopping: bool = False
    _next: int = 0
    _unfinished: deque[Job] = field(default_factory=deque)
    _again: set[int] = field(default_factory=set)  # numbers that were handed out before
    _reasons: dict[int, Reason] = field(default_factory=dict)
    _known: set[str] = field(default_factory=set)  # identities of what was proposed

    @property
    def usable(self) -> int:
        """How many trials have readings."""
        return self.learned.get("finished", 0) + self.learned.get("stopped_early", 0)

    def ask(self) -> Job:
        """Returns the next job; designs that break a constraint are recorded and passed over.

        Raises:
            SpaceExhausted: the strategy has nothing left to propose.
            NoFeasibleDesign: every try broke a constraint.
        """
        refused: list[Job] = []
        broken = ""
        for _ in range(ASKS):
            job, broken = (self._unfinished.popleft(), "") if self._unfinished else self._propose()
            if not broken and not self._broken(job.costs):
                self.running[job.number] = job
                return job
            refused += [job] if not broken else []
            self.tell(
                Trial(
                    job.number,
                    job.architecture,
                    "failed" if broken else "infeasible",
                    job.costs,
                    purpose=job.purpose,
                    seed=job.seed,
                    started_at=job.at,
                    error=broken or _breaches(self, job.costs),
                )
            )
        if not refused:
            raise NoFeasibleDesign(
                f"{ASKS} designs in a row of the space {self.space.name!r} could not be built; "
                f"the last: {broken.splitlines()[0]}"
            )
        job = self._descend(min(refused, key=lambda j: self._excess(j.costs)))
        self.running[job.number] = job
        return job

    def tell(self, trial: Trial, recorded: bool = False) -> None:
        """Records a trial (unless that is done), then lets the strategy learn from it."""
        if not recorded:
            self.archive.record(trial)
        self._learn(trial)

    def resume(self, jobs: Iterable[Job], trials: Iterable[Trial], first: int = 0) -> None:
        """Replays an archive; jobs without a trial will be handed out again first.

        Args:
            first: the least number of what is proposed from now on.
        """
        by_number = {job.number: job for job in jobs}
        for job in by_number.values():
            self._reasons[job.number] = job.proposal.reason
            self._known.add(self.space.identity(job.architecture))
        for trial in trials:
            self._learn(trial)
            self.past.append(trial)
            by_number.pop(trial.number, None)
        self._next = max([first, self._next, *(number + 1 for number in by_number)])
        for job in by_number.values():
            if self.narrowed and not self.space.holds(job.architecture):
                self.withdraw(job)
                continue
            self._unfinished.append(self._counted(job))
            self._again.add(job.number)

    def retry(self, job: Job) -> None:
        """Hands a job out once more, because what carried it out was lost."""
        self.running.pop(job.number, None)
        self._again.add(job.number)
        self._unfinished.appendleft(job)

    def was_handed_out(self, job: Job) -> bool:
        """Whether somebody may have finished this job already."""
        return job.number in self._again

    def _learn(self, trial: Trial) -> None:
        self.running.pop(trial.number, None)
        self.epochs.pop(trial.number, None)
        self.learned[trial.status] = self.learned.get(trial.status, 0) + 1
        self._next = max(self._next, trial.number + 1)
        reason = self._reasons.pop(trial.number, None)
        if not self.narrowed or self.tell_all or self.space.holds(trial.architecture):
            self.strategy.tell(replace(trial.for_strategy(), reason=reason))
        if self.observe:
            self.observe(replace(trial, reason=reason))

    def _counted(self, job: Job) -> Job:
        """The job with the costs that limits speak of by now."""
        if all(c.metric in job.costs for c in self.constraints):
            return job
        try:
            return replace(job, costs={**self.costs(job.architecture), **job.costs})
        except Exception:  # it cannot be built: so its trial will say
            return job

    def withdraw(self, job: Job) -> None:
        """Records that a design is not tried after all."""
        why = "not begun: what was said since leaves no such design"
        given = (job.number, job.architecture, "infeasible", job.costs)
        self.tell(Trial(*given, purpose=job.purpose, seed=job.seed, started_at=job.at, error=why))  # type: ignore[arg-type]

    def _propose(self) -> tuple[Job, str]:
        """The next job, and what went wrong if the design cannot even be built."""
        rng = np.random.default_rng((self.seed, self._next))
        proposal = self._start() or self.strategy.ask(
            rng, [job.architecture for job in self.running.values()]
        )
        proposal = plain(self.space, proposal)
        self.space.check(proposal.architecture)
        costs: Metrics = {}
        error = ""
        try:
            costs = self.costs(proposal.architecture)
        except Exception as reason:  # of somebody's own network, say
            error = describe(reason)
        return self._number(proposal, costs), error

    def _start(self) -> Proposal | None:
        """The first of `starts` that is not known yet."""
        for proposal in self.starts:
            if self.space.identity(proposal.architecture) not in self._known:
                return proposal
        return None

    def _number(self, proposal: Proposal, costs: Metrics) -> Job:
        seed = int(np.random.default_rng((self.seed, self._next, 1)).integers(2**31))
        job = Job(self._next, proposal, seed, costs, at=time.time())
        self.archive.propose(job)
        self._next += 1
        self._reasons[job.number] = proposal.reason
        self._known.add(self.space.identity(proposal.architecture))
        return job

    def _broken(self, costs: Metrics) -> list[Constraint]:
        return [c for c in self.constraints if not c.holds(costs)]

    def _excess(self, costs: Metrics) -> float:
        return sum(c.excess(costs) / max(abs(c.bound), 1e-9) for c in self._broken(costs))

    def _descend(self, start: Job) -> Job:
        """Walks from a refused design towards the bounds, or says how near one can come."""
        rng = np.random.default_rng((self.seed, self._next, 2))
        best, costs = start.architecture, start.costs
        for _ in range(STEPS):
            other = self.space.mutate(best, rng)
            measured = self.costs(other)
            if self._excess(measured) <= self._excess(costs):
                best, costs = other, measured
            if not self._broken(costs) and self.space.identity(best) not in self._known:
                note = (
                    f"{ASKS} designs in a row broke a constraint: "
                    f"changed trial {start.number} until it kept them"
                )
                refused = Candidate(str(start.architecture), None, _breaches(self, start.costs))
                reason = Reason("derived", note, (start.number,))
                return self._number(Proposal(best, reason, (refused,)), costs)
        bounds = ", ".join(str(c) for c in self.constraints)
        nearest = _breaches(self, costs) or "been tried already"
        raise NoFeasibleDesign(
            f"no further design of the space {self.space.name!r} that keeps {bounds} was found in "
            f"{ASKS + STEPS} tries. The nearest has {nearest}: {best}. "
            "Loosen the bound at least that far, or search another space."
        )


def checkpoint_of(number: int) -> str:
    """The file in a run's folder for how far a trial is."""
    return f"{CHECKPOINTS}/{number}.safetensors"


def plain(space: Space, proposal: Proposal) -> Proposal:
    """The proposal with its dead parts taken out, its reason's edits told accordingly."""
    given, kept = proposal.architecture, space.plainest(proposal.architecture)
    if kept == given:
        return proposal
    edits = {name: before for name, before, _ in proposal.reason.changed}
    before = {**given.options, **edits} if proposal.reason.parents else dict(kept.options)
    changed = changes(
        Architecture(given.space, tuple((n, o) for n, o in before.items() if o is not None)), kept
    )
    return replace(proposal, architecture=kept, reason=replace(proposal.reason, changed=changed))


def carry_out(
    job: Job,
    evaluator: Evaluator,
    objectives: Sequence[Objective],
    context: Context,
    timeout: float | None = None,
) -> Generator[tuple[Trial, Any], None, None]:
    """Evaluates a job, epoch by epoch; never raises for what the evaluation does wrong.

    Yields:
        (the trial as it would be if it were stopped now, None) after each epoch, and at last
        (the finished or failed trial, the trained weights or None).
    """
    started, clock = time.time(), time.monotonic()
    curve: list[Metrics] = []
    metrics: dict[str, float] = dict(job.costs)

    def trial(status: Any, error: str | None = None) -> Trial:
        return Trial(
            job.number,
            job.architecture,
            status,
            dict(metrics),
            fidelity=len(curve),
            curve=tuple(curve),
            purpose=job.purpose,
            seed=job.seed,
            split=evaluator.split,
            started_at=started,
            seconds=time.monotonic() - clock,
            device=context.device,
            error=error,
        )

    readings = evaluator.evaluate(job.architecture, context)
    try:
        while True:
            reading = next(readings)
            curve.append(reading)
            metrics.update(reading)
            if error := problem_with(objectives, metrics):
                yield trial("failed", error), None
                return
            if timeout is not None and time.monotonic() - clock > timeout:
                yield trial("failed", f"ran past the limit of {timeout:g} s per trial"), None
                return
            yield trial("stopped_early"), None
    except StopIteration as end:
        error = problem_with(objectives, metrics)
        yield (trial("failed", error), None) if error else (trial("finished"), end.value)
    except Exception as error:
        yield trial("failed", describe(error)), None


def describe(error: BaseException) -> str:
    """An exception as text: its type and message first, then where it arose."""
    where = traceback.format_tb(error.__traceback__)
    return f"{type(error).__name__}: {error}"[:2000] + "\n" + "".join(where[-4:])[-2000:]


def run_local(
    session: Session,
    evaluator: Evaluator,
    trials: int,
    context: Context,
    deadline: float = math.inf,
    timeout: float | None = None,
) -> str:
    """Carries out up to `trials` jobs one after another in this process.

    An interrupt loses only the job that is running; `deadline` (time.monotonic) stops it early;
    `session.stopping` lets it finish.

    Returns:
        Why it ended before all trials were handed out; '' if it did not.

    Raises:
        NoFeasibleDesign, SpaceExhausted: before there was any trial with readings.
    """
    for _ in range(trials):
        if time.monotonic() >= deadline or session.stopping:
            break
        try:
            job = session.ask()
        except (SpaceExhausted, NoFeasibleDesign) as error:
            if not session.usable:
                raise
            return str(error)
        own = context.of(job)
        for trial, weights in carry_out(job, evaluator, session.objectives, own, timeout):
            if trial.status != "stopped_early" or time.monotonic() >= deadline:
                keep = weights if session.archive.wants_weights(trial) else None
                session.archive.record(trial, keep)
                session.tell(trial, recorded=True)
                break
    return ""


def _breaches(session: Session, costs: Metrics) -> str:
    """Says which constraints a design breaks, and by how much."""
    return "; ".join(
        f"{c.metric} {figure(costs[c.metric])} {'>' if c.sense == 'max' else '<'} {figure(c.bound)}"
        for c in session.constraints
        if not c.holds(costs)
    )

"""Early stopping: Tune's own schedulers for one objective, the same rules on fronts for several.

Nothing is ever paused: a trial cannot be saved in the middle of an epoch's generator, so what Tune
would pause it would train anew. HyperBand's brackets are therefore run asynchronously.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from raynas.objective import (
    Array,
    Metrics,
    Objective,
    contributions,
    crowding,
    losses,
    ranks,
)
from raynas.trial import Trial as Past

REDUCTION = 3  # a third of the trials goes on at each rung
FEWEST = 3  # other trials that the median rule needs: Tune's default
EXACT = 3  # objectives up to which volumes are computed: with five it can take 15 seconds
MEMORY = 300  # trials that are compared with; more would cost time and compare with old times


def rungs(name: str, epochs: int) -> list[int]:
    """The epochs at which a scheduler compares trials, the last epoch left out.

    For halving a ninth and a third of them all, rounded up; for the median rule every ninth.
    """
    if name == "none":
        return []
    first = -(-epochs // REDUCTION**2)
    if name == "median":
        return list(range(first, epochs, first))
    return [epoch for epoch in (first, first * REDUCTION) if epoch < epochs]


def scheduler(
    name: str,
    objectives: Sequence[Objective],
    epochs: int,
    past: Iterable[Past] = (),
    is_over: Callable[[], bool] = lambda: False,
) -> TrialScheduler:
    """The scheduler of this name; what cannot stop anything early trains all to the end.

    Args:
        name: `asha`, `bohb`, `median` or `none`.
        past: trials of an earlier part of the search: those that follow are compared with them.
        is_over: whether the time is up, so that no trial is begun that still waits for a place.
    """
    made = _scheduler(name, objectives, epochs, past)
    made.is_over = is_over
    return made


def _scheduler(
    name: str, objectives: Sequence[Objective], epochs: int, past: Iterable[Past]
) -> InOrder | Halving | Median:
    stops = rungs(name, epochs)
    if not stops:
        return InOrder()
    # Of HyperBand's brackets each leaves out one rung more, the last all of them.
    brackets = [stops[skipped:] for skipped in range(len(stops) + 1)] if name == "bohb" else [stops]
    if len(objectives) > 1:
        rule = not_behind_most if name == "median" else in_best_third
        return ParetoStopping(objectives, brackets, rule, past)
    if name == "median":
        return Median(objectives[0], stops, past)
    return Halving(objectives[0], brackets, epochs, past)


class InOrder(FIFOScheduler):  # type: ignore[misc]  # ray has no types here
    """Runs trials in order, to the end."""

    is_over: Callable[[], bool] = staticmethod(lambda: False)

    def choose_trial_to_run(self, controller: Any) -> Any:
        return _waiting(controller, self.is_over)


class Halving(AsyncHyperBandScheduler):  # type: ignore[misc]  # ray has no types here
    """Tune's own ASHA (Li et al. 2020, arXiv:1810.05934), in one bracket or several."""

    is_over: Callable[[], bool] = staticmethod(lambda: False)

    def __init__(
        self,
        objective: Objective,
        brackets: Sequence[Sequence[int]],
        epochs: int,
        past: Iterable[Past] = (),
    ) -> None:
        super().__init__(
            time_attr="epoch",
            metric=objective.name,
            mode=objective.direction,
            grace_period=brackets[0][0],
            reduction_factor=REDUCTION,
            brackets=len(brackets),
            max_t=epochs + 1,  # one more, so that it never ends a trial that ends by itself
        )
        self._lengths = [len(bracket) for bracket in brackets]
        for trial in past:  # Tune keeps what reached its rungs in private
            for stop, recorded in self._brackets[drawn(trial.seed, self._lengths)]._rungs:
                if reading := _reading(trial, stop, [objective.name]):
                    value = self._metric_op * reading[objective.name]
                    recorded[f"past {trial.number}"] = value

    def on_trial_add(self, controller: Any, trial: Any) -> None:
        """Places a trial in its bracket; Tune would draw one from the global generator."""
        del controller
        self._trial_info[trial.trial_id] = self._brackets[drawn(_job(trial)["seed"], self._lengths)]

    def on_trial_error(self, controller: Any, trial: Any) -> None:
        """Forgets a trial that is run again: it is not to compete with itself."""
        del controller
        bracket = self._trial_info.pop(trial.trial_id)
        for _, recorded in bracket._rungs:
            recorded.pop(trial.trial_id, None)

    def choose_trial_to_run(self, controller: Any) -> Any:
        return _waiting(controller, self.is_over)


class Median(MedianStoppingRule):  # type: ignore[misc]  # ray has no types here
    """Tune's own median rule (Golovin et al. 2017).

    A trial is stopped if its best reading so far is worse than the median of what the others had
    on average up to the same epoch.
    """

    is_over: Callable[[], bool] = staticmethod(lambda: False)

    def __init__(
        self, objective: Objective, stops: Sequence[int], past: Iterable[Past] = ()
    ) -> None:
        # Where there is little to compare with, Tune would pause a trial for each that waits, and
        # nothing ever goes on with those: the search would hang. No slice is longer than infinite.
        super().__init__(
            time_attr="epoch",
            metric=objective.name,
            mode=objective.direction,
            grace_period=stops[0],
            min_samples_required=FEWEST,
            min_time_slice=math.inf,
        )
        self._stops = frozenset(stops)
        for trial in past:
            readings = [(stop, _reading(trial, stop, [objective.name])) for stop in stops]
            if told := [{**reading, "epoch": stop} for stop, reading in readings if reading]:
                self._results[f"past {trial.number}"] = told

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Compares at the same epochs of all trials: a mean over others would not be like it."""
        if result.get("epoch") not in self._stops or self._metric not in result:
            return str(TrialScheduler.CONTINUE)
        slim = {name: result[name] for name in ("epoch", self._metric)}  # it is kept
        return str(super().on_trial_result(controller, trial, slim))

    def on_trial_complete(self, controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Forgets the oldest; Tune would keep the last result, which a failed trial has not."""
        del controller, trial, result
        while len(self._results) > MEMORY:
            del self._results[next(iter(self._results))]

    def on_trial_error(self, controller: Any, trial: Any) -> None:
        """As in `Halving`."""
        del controller
        self._results.pop(trial, None)

    def choose_trial_to_run(self, controller: Any) -> Any:
        return _waiting(controller, self.is_over)


class ParetoStopping(InOrder):
    """Stops trials by what all objectives say at a rung, among those of the same bracket.

    Args:
        brackets: the rungs of each bracket.
        rule: whether the last of losses `[N, M]` goes on; the others reached the rung before it.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        brackets: Sequence[Sequence[int]],
        rule: Callable[[Array], bool],
        past: Iterable[Past] = (),
    ) -> None:
        super().__init__()
        self._objectives = objectives
        self._rule = rule
        self._lengths = [len(bracket) for bracket in brackets]
        # By the number of the job: of one that is run again the last reading counts.
        self._brackets: list[dict[int, dict[int, tuple[float, ...]]]] = [
            {stop: {} for stop in bracket} for bracket in brackets
        ]
        for trial in past:
            for stop, reached in self._brackets[drawn(trial.seed, self._lengths)].items():
                if reading := _reading(trial, stop, [o.name for o in objectives]):
                    reached[trial.number] = losses(objectives, reading)

    def on_trial_result(self, _controller: Any, trial: Any, result: dict[str, Any]) -> str:
        job = _job(trial)
        bracket = self._brackets[drawn(job["seed"], self._lengths)]
        reached = bracket.get(result.get("epoch", 0))
        if reached is None or not all(o.name in result for o in self._objectives):
            return str(TrialScheduler.CONTINUE)
        reached.pop(job["number"], None)
        reached[job["number"]] = losses(self._objectives, result)
        if len(reached) > MEMORY:
            del reached[next(iter(reached))]
        goes_on = self._rule(np.array([*reached.values()]))
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)


def in_best_third(points: Array) -> bool:
    """Whether the last of `[N, M]` losses is on their front, or in the best third of them.

    They are ordered by non-dominated rank and, within a rank, by hypervolume contribution: what
    only this one of its rank dominates, up to the reference point, which has the worst loss of
    all N in each objective. Beyond three objectives, where volumes are costly, by crowding
    distance (Deb et al. 2002). Of equals, the earlier is better.
    """
    rank = ranks(points)
    if rank[-1] == 0:
        return True
    places = math.ceil(len(points) / REDUCTION) - int((rank < rank[-1]).sum())
    peers = points[rank == rank[-1]]
    if places <= 0 or places >= len(peers):
        return places > 0
    few = points.shape[1] <= EXACT
    worth = contributions(peers, points.max(axis=0)) if few else crowding(peers)
    return int((worth[:-1] >= worth[-1]).sum()) < places


def not_behind_most(points: Array) -> bool:
    """Whether at most half of the others dominate the last of `[N, M]` losses."""
    others, last = points[:-1], points[-1]
    better = (others <= last).all(axis=1) & (others < last).any(axis=1)
    return len(others) < FEWEST or bool(better.mean() <= 0.5)


def drawn(seed: int, lengths: Sequence[int]) -> int:
    """The bracket of a trial, drawn from its seed; brackets are given by their number of rungs.

    The shares are HyperBand's (Li et al. 2018, Algorithm 1): 55, 27 and 18 % of the trials in
    brackets of two, one and no rungs, so that each is given about as many epochs.
    """
    weights = np.array([REDUCTION**length / (length + 1) for length in lengths])
    rng = np.random.default_rng((seed, len(lengths)))
    return int(rng.choice(len(lengths), p=weights / weights.sum()))


def _job(trial: Trial) -> dict[str, Any]:
    """What a Tune trial carries out; where there are rungs, it is one job."""
    return dict(json.loads(trial.config["jobs"])[0])


def _reading(trial: Past, stop: int, names: Sequence[str]) -> Metrics | None:
    """What a trial had reported at an epoch, its costs included; None if not all of `names`."""
    if len(trial.curve) < stop:
        return None
    reading = {**trial.metrics, **trial.curve[stop - 1]}
    return reading if all(name in reading for name in names) else None


def _waiting(controller: Any, is_over: Callable[[], bool]) -> Any:
    """The first pending trial whose process is not starting already.

    Tune's own choice includes those that are: it then gives the trial to a process that just
    became free and ends the one that was starting, so that with short trials most processes never
    come up (3 times slower when measured). It also walks over all trials of the search each time.
    """
    inner = controller._tune_controller
    if is_over():
        for trial in list(inner._pending_trials):
            trial.init_local_path()  # Tune's results ask for it, also of what never began
            inner.stop_trial(trial)  # it is run when the search is resumed
        return None
    for trial in inner._pending_trials_list:
        actor = inner._trial_to_actor.get(trial)
        starting = actor is not None and inner._actor_manager.is_actor_started(actor)
        if trial.status == Trial.PENDING and not starting:
            return trial
    return None

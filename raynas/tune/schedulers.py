"""Early stopping: ASHA for one objective (Tune's own), and for several."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from raynas.objective import Metrics, Objective, crowding, losses, ranks
from raynas.trial import Trial as Past

REDUCTION = 3  # a third of the trials goes on at each rung
MEMORY = 300  # trials that a rung remembers; more would cost time and compare with old times


def rungs(epochs: int) -> list[int]:
    """The epochs at which trials are compared: a ninth and a third of them all, rounded up."""
    first = -(-epochs // REDUCTION**2)
    return [epoch for epoch in (first, first * REDUCTION) if epoch < epochs]


def scheduler(
    name: str, objectives: Sequence[Objective], epochs: int, past: Iterable[Past] = ()
) -> TrialScheduler:
    """The scheduler of this name; what cannot stop anything early trains all to the end.

    Args:
        past: trials of an earlier part of the search: those at a rung are compared with them.
    """
    stops = rungs(epochs)
    if name == "none" or not stops:
        return InOrder()
    if len(objectives) > 1:
        return ParetoHalving(objectives, stops, past)
    return Halving(
        past,
        time_attr="epoch",
        metric=objectives[0].name,
        mode=objectives[0].direction,
        grace_period=stops[0],
        reduction_factor=REDUCTION,
        max_t=epochs + 1,  # one more, so that it never ends a trial that ends by itself
    )


class InOrder(FIFOScheduler):  # type: ignore[misc]  # ray has no types here
    """Runs trials in order, to the end."""

    def choose_trial_to_run(self, controller: Any) -> Any:
        return _waiting(controller)


class Halving(AsyncHyperBandScheduler):  # type: ignore[misc]  # ray has no types here
    """Tune's own ASHA (Li et al. 2020, arXiv:1810.05934)."""

    def __init__(self, past: Iterable[Past], **options: Any) -> None:
        super().__init__(**options)
        # One bracket: nothing is drawn. Tune keeps what reached its rungs in private.
        for stop, recorded in self._brackets[0]._rungs:
            for trial in past:
                if reading := _reading(trial, stop, [options["metric"]]):
                    recorded[f"past {trial.number}"] = self._metric_op * reading[options["metric"]]

    def choose_trial_to_run(self, controller: Any) -> Any:
        return _waiting(controller)


class ParetoHalving(InOrder):
    """Asynchronous successive halving (ASHA, Li et al. 2020) under several objectives.

    A trial that reaches a rung goes on if none of the latest that reached it dominates it, or if
    it is among the best third of them, ordered by non-dominated rank and, within a rank, by
    crowding distance (Deb et al. 2002): so the small and the accurate both survive.
    """

    def __init__(
        self, objectives: Sequence[Objective], stops: Sequence[int], past: Iterable[Past] = ()
    ) -> None:
        super().__init__()
        self._objectives = objectives
        names = [o.name for o in objectives]
        self._reached: dict[int, deque[tuple[float, ...]]] = {}
        for stop in stops:
            readings = (_reading(trial, stop, names) for trial in past)
            points = (losses(objectives, reading) for reading in readings if reading)
            self._reached[stop] = deque(points, maxlen=MEMORY)

    def on_trial_result(self, _controller: Any, _trial: Any, result: dict[str, Any]) -> str:
        reached = self._reached.get(result.get("epoch", 0))
        if reached is None or not all(o.name in result for o in self._objectives):
            return str(TrialScheduler.CONTINUE)
        reached.append(losses(self._objectives, result))
        points = np.array(reached)
        rank = ranks(points)
        order = np.lexsort((-crowding(points), rank))
        place = int(np.flatnonzero(order == len(points) - 1)[0])
        goes_on = rank[-1] == 0 or place < math.ceil(len(points) / REDUCTION)
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)


def _reading(trial: Past, stop: int, names: Sequence[str]) -> Metrics | None:
    """What a trial had reported at an epoch, its costs included; None if not all of `names`."""
    if len(trial.curve) < stop:
        return None
    reading = {**trial.metrics, **trial.curve[stop - 1]}
    return reading if all(name in reading for name in names) else None


def _waiting(controller: Any) -> Any:
    """The first pending trial whose process is not starting already.

    Tune's own choice includes those that are: it then gives the trial to a process that just
    became free and ends the one that was starting, so that with short trials most processes never
    come up (3 times slower when measured). It also walks over all trials of the search each time.
    """
    inner = controller._tune_controller
    for trial in inner._pending_trials_list:
        actor = inner._trial_to_actor.get(trial)
        starting = actor is not None and inner._actor_manager.is_actor_started(actor)
        if trial.status == Trial.PENDING and not starting:
            return trial
    return None

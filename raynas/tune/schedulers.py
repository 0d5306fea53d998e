"""Early stopping: ASHA for one objective (Tune's own), and for several."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from raynas.objective import Objective, crowding, losses, ranks

REDUCTION = 3  # a third of the trials goes on at each rung
MEMORY = 300  # trials that a rung remembers; more would cost time and compare with old times


def rungs(epochs: int) -> list[int]:
    """The epochs at which trials are compared: a ninth and a third of them all, rounded up."""
    first = -(-epochs // REDUCTION**2)
    return [epoch for epoch in (first, first * REDUCTION) if epoch < epochs]


def scheduler(objectives: Sequence[Objective], stops: Sequence[int], epochs: int) -> TrialScheduler:
    """Asynchronous successive halving at the epochs `stops`; none of them, no stopping."""
    if not stops:
        return InOrder()
    if len(objectives) > 1:
        return ParetoHalving(objectives, stops)
    return Halving(
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
    """Tune's own ASHA."""

    def choose_trial_to_run(self, controller: Any) -> Any:
        return _waiting(controller)


class ParetoHalving(InOrder):
    """Asynchronous successive halving (ASHA, Li et al. 2020) under several objectives.

    A trial that reaches a rung goes on if none of the latest that reached it dominates it, or if
    it is among the best third of them, ordered by non-dominated rank and, within a rank, by
    crowding distance (Deb et al. 2002): so the small and the accurate both survive.
    """

    def __init__(self, objectives: Sequence[Objective], stops: Sequence[int]) -> None:
        super().__init__()
        self._objectives = objectives
        self._reached: dict[int, deque[tuple[float, ...]]] = {
            stop: deque(maxlen=MEMORY) for stop in stops
        }

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

"""What Tune remembers of trials that are over, thrown away: the archive has it all."""

from __future__ import annotations

from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

OVER = "{}"  # what a snapshot of Tune's says of such a trial; nobody reads it


class Forgetting(Callback):  # type: ignore[misc]  # ray has no types here
    """Empties Tune's trials once they are over.

    Tune keeps every trial of an experiment with its configuration, its last result and statistics
    of each number in it, and at the end writes them all down: some tens of kilobytes per trial,
    and nothing here reads them again. The empty trials stay, because Tune counts them.
    """

    def __init__(self) -> None:
        self._over: list[Trial] = []
        self._resources: dict[Any, Any] = {}  # what trials ask for: equal to itself, kept once

    def on_trial_complete(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        """Notes a trial that ended; Tune has not done with it yet."""
        del iteration, trials, info
        self._over.append(trial)

    def on_trial_error(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        """See `on_trial_complete`."""
        self.on_trial_complete(iteration, trials, trial, **info)

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        """Empties those that Tune has done with."""
        del iteration, trials, info
        over, self._over = self._over, []
        for trial in over:
            if trial.is_finished():
                self._empty(trial)
            else:
                self._over.append(trial)

    def _empty(self, trial: Trial) -> None:
        trial.config.clear()
        trial.evaluated_params.clear()
        trial.experiment_tag = ""
        asked = trial.placement_group_factory
        trial.placement_group_factory = self._resources.setdefault(asked, asked)
        kept = trial.run_metadata
        kept.metric_analysis.clear()
        kept.metric_n_steps.clear()
        kept.last_result = {}
        kept._cached_json = trial._state_json = OVER

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks; this one begins anew

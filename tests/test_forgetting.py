"""Tune's trials are emptied once they are over, and not before."""

import pytest

import raynas.tune  # before ray, which reads its environment when imported  # noqa: F401

from ray import tune  # isort: skip
from ray.tune.experiment import Trial  # isort: skip

from raynas.tune.forgetting import Forgetting

pytestmark = pytest.mark.slow


def running(number=0):
    """A trial of Tune's that has reported."""
    asked = tune.PlacementGroupFactory([{"CPU": 1.0, "GPU": 0.0}])
    given = {"config": {"jobs": "x" * 1000}, "evaluated_params": {"jobs": "x" * 1000}}
    trial = Trial("design", stub=True, trial_id=f"t{number}", experiment_tag="x" * 1000, **given)
    trial.placement_group_factory = asked
    trial.set_status(Trial.RUNNING)
    trial.update_last_result({"accuracy": 0.5, "trials": "x" * 1000, "training_iteration": 1})
    return trial


def told(trials, hook="on_trial_complete", status=Trial.TERMINATED):
    callback = Forgetting()
    for trial in trials:
        getattr(callback, hook)(0, trials, trial)
        trial.set_status(status)
    callback.on_step_end(0, trials)
    return callback


def size(trial):
    return len(repr([vars(trial), vars(trial.run_metadata)]))


@pytest.mark.parametrize(
    ("hook", "status"), [("on_trial_complete", "TERMINATED"), ("on_trial_error", "ERROR")]
)
def test_a_trial_that_is_over_is_emptied(hook, status):
    trial = running()
    before, written = size(trial), sum(map(len, trial.get_json_state()))
    told([trial], hook, status)
    assert size(trial) < before - 5000
    assert sum(map(len, trial.get_json_state())) < 10 < written
    assert trial.is_finished()
    assert trial.last_result == {"trial_id": "t0"}


def test_a_trial_that_tune_is_not_done_with_is_left_until_it_is():
    trial = running()
    callback = told([trial], status=Trial.PAUSED)
    assert trial.config
    assert trial.last_result["accuracy"] == 0.5
    trial.set_status(Trial.TERMINATED)
    callback.on_step_end(1, [trial])
    assert not trial.config


def test_what_trials_ask_for_is_kept_once():
    trials = [running(n) for n in range(3)]
    assert trials[0].placement_group_factory is not trials[1].placement_group_factory
    told(trials)
    assert len({id(t.placement_group_factory) for t in trials}) == 1
    assert trials[0].placement_group_factory.required_resources == {"CPU": 1.0}

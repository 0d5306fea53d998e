"""Losses of trials that did not finish, next to those that did."""

import numpy as np
import pytest

from raynas.objective import Constraint, Objective
from raynas.strategies.comparable import comparable_losses
from raynas.trial import Trial
from tests.spaces import CELL

ACCURACY = (Objective.parse("accuracy:max"),)
DESIGN = next(iter(CELL.enumerate()))


def trial(*readings, status="finished", **costs):
    curve = tuple({"accuracy": a} for a in readings)
    return Trial(0, DESIGN, status, {**curve[-1], **costs}, len(curve), curve)


def stopped(*readings, **costs):
    return trial(*readings, status="stopped_early", **costs)


def test_finished_trials_keep_their_losses():
    both = (*ACCURACY, Objective.parse("params:min"))
    trials = [trial(0.5, 0.7, params=3), trial(0.2, 0.9, params=5)]
    assert comparable_losses(trials, both).tolist() == [[-0.7, 3], [-0.9, 5]]
    assert comparable_losses([], both).shape == (0, 2)


def test_a_stopped_one_gets_the_final_loss_of_its_place():
    trials = [trial(0.3, 0.9), trial(0.1, 0.5), stopped(0.2), stopped(0.05), stopped(0.4)]
    losses = comparable_losses(trials, ACCURACY)[:, 0]
    assert losses[[0, 1]].tolist() == [-0.9, -0.5]
    assert losses[4] == pytest.approx(-0.9)  # ahead of all at its epoch
    assert losses[4] > -0.9  # but no better than what is finished
    assert losses[3] == pytest.approx(-0.5)
    assert losses[3] > -0.5
    assert -0.9 < losses[2] < -0.5


def test_what_broke_a_bound_is_behind_what_keeps_it():
    refused = Trial(3, DESIGN, "infeasible", {"params": 9.0})
    trials = [trial(0.3, 0.9), trial(0.1, 0.5), stopped(0.2), refused]
    losses = comparable_losses(trials, ACCURACY, (Constraint("params", "max", 5.0),))[:, 0]
    assert -0.9 < losses[2] < losses[3] <= -0.5


def test_where_nothing_is_finished_places_count():
    longer, shorter = stopped(0.1, 0.8), stopped(0.3)
    losses = comparable_losses([longer, shorter], ACCURACY)[:, 0]
    assert losses[1] <= losses[0]  # 0.3 was ahead after one epoch
    assert np.isfinite(losses).all()

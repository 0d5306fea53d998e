import itertools

import numpy as np
import pytest

from raynas.errors import UserError
from raynas.objective import (
    Constraint,
    Objective,
    contributions,
    crowding,
    hypervolume,
    losses,
    pareto_front,
    ranks,
)


def brute_force(points):
    return [not any((p <= q).all() and (p < q).any() for p in points) for q in points]


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(10))
def test_front_is_what_nothing_dominates(objectives, seed):
    points = np.random.default_rng(seed).integers(0, 6, size=(40, objectives)).astype(float)
    assert pareto_front(points).tolist() == brute_force(points)
    order = np.random.default_rng(seed).permutation(40)
    assert pareto_front(points[order]).tolist() == pareto_front(points)[order].tolist()


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_front_leaves_out_what_was_not_measured(objectives):
    points = np.ones((3, objectives))
    points[1] = np.nan
    assert pareto_front(points).tolist() == [True, False, True]
    assert pareto_front(np.empty((0, objectives))).tolist() == []


def test_ranks_peel_one_front_after_the_other():
    points = np.array([[0, 2], [1, 1], [1, 2], [2, 2], [3, 0]])
    assert ranks(points).tolist() == [0, 0, 1, 2, 0]


def test_crowding_by_hand():
    room = crowding(np.array([[0.0, 4.0], [1.0, 3.0], [2.0, 1.0], [4.0, 0.0]]))
    assert np.isinf(room[[0, 3]]).all()
    assert room[1] == pytest.approx(2 / 4 + 3 / 4)
    assert room[2] == pytest.approx(3 / 4 + 3 / 4)


def test_direction_is_applied_once():
    objectives = (Objective.parse("accuracy"), Objective.parse("latency_ms:min"))
    assert losses(objectives, {"accuracy": 0.9, "latency_ms": 3.0}) == (-0.9, 3.0)


def test_constraints_hold_what_is_not_known_yet():
    small, good = Constraint("params", "max", 100), Constraint("accuracy", "min", 0.9)
    assert small.holds({"params": 100})
    assert not small.holds({"params": 101})
    assert small.excess({"params": 101}) == 1
    assert good.holds({})
    assert good.excess({"accuracy": 0.5}) == pytest.approx(0.4)


@pytest.mark.parametrize("text", ["", "accuracy:up", "speed", ":max"])
def test_objectives_that_say_nothing(text):
    with pytest.raises(UserError, match="expected an objective such as accuracy:max"):
        Objective.parse(text)


def test_hypervolume_by_hand():
    points = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [5.0, -9.0]])
    assert hypervolume(points, np.array([2.0, 2.0])) == 3.0
    assert hypervolume(points[:0], np.array([2.0, 2.0])) == 0.0
    assert contributions(points[:2], np.array([2.0, 2.0])).tolist() == [1.0, 1.0]
    assert contributions(points[[0, 0]], np.array([2.0, 2.0])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("objectives", [2, 3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_hypervolume_is_that_of_the_boxes(seed, objectives):
    points = np.random.default_rng(seed).random((6, objectives))
    expected = 0.0
    for size in range(1, 7):  # inclusion and exclusion
        for some in itertools.combinations(points, size):
            expected -= (-1) ** size * np.prod(1 - np.max(some, axis=0))
    assert hypervolume(points, np.ones(objectives)) == pytest.approx(expected)


def test_what_is_dominated_by_a_last_bit_is_off_the_front():
    points = np.array([[np.nextafter(-0.5, 0), 1000.0, 1000.0], [-0.5, 1000.0, 1000.0]])
    assert points[0].sum() == points[1].sum()  # rounded
    assert pareto_front(points).tolist() == [False, True]


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_few_points_are_ranked_as_many_are(objectives, monkeypatch):
    rng = np.random.default_rng(objectives)
    for digits in (1, 1, 1, 16):
        points = rng.random((40, objectives)).round(digits)
        points[rng.random(len(points)) < 0.1, 0] = np.nan
        few = ranks(points)
        with monkeypatch.context() as patch:
            patch.setattr("raynas.objective.FEW", 0)
            assert few.tolist() == ranks(points).tolist()

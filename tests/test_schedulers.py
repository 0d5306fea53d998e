"""Early stopping: each rule by hand-worked cases, what a resume restores, and each through Tune."""

import itertools
import json
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import raynas
import raynas.tune  # before ray, which reads its environment when imported
from raynas.arguments import SCHEDULERS
from raynas.objective import Objective
from raynas.trial import Trial
from raynas.tune.schedulers import (
    Halving,
    Median,
    ParetoStopping,
    drawn,
    in_best_third,
    not_behind_most,
    rungs,
    scheduler,
)
from tests.spaces import CELL
from tests.test_tune import Slow, cluster  # noqa: F401

BOTH = (Objective.parse("accuracy:max"), Objective.parse("params:min"))
STOPPING = [name for name in SCHEDULERS if name != "none"]
EPOCHS = 9


@dataclass(frozen=True)
class Running:
    """What schedulers look at in a Tune trial."""

    trial_id: str
    config: Any = field(compare=False)

    @classmethod
    def of(cls, number, seed=0):
        return cls(str(number), {"jobs": json.dumps([{"number": number, "seed": seed}])})


def follow(stopping, number, curve, params=100.0, seed=0):
    """Reports a curve as Tune would; returns the epoch at which the trial ended."""
    trial = Running.of(number, seed)
    stopping.on_trial_add(None, trial)
    for epoch, accuracy in enumerate(curve, 1):
        result = {"epoch": epoch, "accuracy": accuracy, "params": params, "trials": "[]"}
        ended = epoch == len(curve)
        # A controller that is None would be missed by whoever wants to pause.
        if not ended and stopping.on_trial_result(None, trial, result) == "CONTINUE":
            continue
        stopping.on_trial_complete(None, trial, result)
        return epoch
    raise AssertionError("an empty curve")


def curves(seed, trials):
    """Rising curves of designs, and their sizes."""
    rng = np.random.default_rng(seed)
    worth, params = rng.random(trials), rng.integers(10, 100, trials).astype(float)
    rise = 1 - 0.8 ** np.arange(1, EPOCHS + 1)
    noisy = worth[:, None] * rise + 0.05 * rng.normal(size=(trials, EPOCHS))
    return list(zip(noisy.tolist(), params.tolist(), strict=True))


def test_rungs():
    assert [rungs("asha", epochs) for epochs in (1, 2, 9, 12, 18)] == [
        [], [1], [1, 3], [2, 6], [2, 6],
    ]  # fmt: skip
    assert rungs("bohb", 18) == [2, 6]
    assert rungs("median", 18) == [2, 4, 6, 8, 10, 12, 14, 16]
    assert rungs("median", 1) == rungs("none", 18) == []


@pytest.mark.parametrize("epochs", [*range(1, 40), 100, 200])
@pytest.mark.parametrize("name", ["asha", "bohb"])
def test_tunes_own_halving_has_its_rungs_there(name, epochs):
    stops = rungs(name, epochs)
    if not stops:
        return
    for skipped, bracket in enumerate(scheduler(name, BOTH[:1], epochs)._brackets):
        assert sorted(stop for stop, _ in bracket._rungs if stop < epochs) == stops[skipped:]


def test_every_name_is_known_everywhere():
    kinds = {name: type(scheduler(name, BOTH[:1], EPOCHS)).__name__ for name in SCHEDULERS}
    assert kinds == {"asha": "Halving", "bohb": "Halving", "median": "Median", "none": "InOrder"}
    for name in STOPPING:
        assert type(scheduler(name, BOTH, EPOCHS)) is ParetoStopping
    with pytest.raises(raynas.UserError, match=f"expected one of {', '.join(sorted(SCHEDULERS))}"):
        raynas.search(scheduler="x")


def test_halving_keeps_the_front_and_the_lonely():
    halving, numbers = scheduler("asha", BOTH, 18), itertools.count()

    def told(accuracy, params, epoch=2):
        result = {"epoch": epoch, "accuracy": accuracy, "params": params}
        return halving.on_trial_result(None, Running.of(next(numbers)), result)

    assert told(0.9, 100) == "CONTINUE"  # the first of a rung always goes on
    assert told(0.8, 200) == "STOP"  # dominated
    assert told(0.7, 300) == "STOP"
    assert told(0.2, 10) == "CONTINUE"  # small: on the front
    assert told(0.1, 400, epoch=1) == "CONTINUE"  # no rung
    assert told(0.1, 400) == "STOP"
    assert halving.on_trial_result(None, Running.of(0), {"epoch": 2}) == "CONTINUE"


def test_of_a_rank_the_largest_contributions_go_on():
    front = [[0.0, 0.0]]
    second = [[1.0, 8.0], [2.0, 4.0], [8.0, 1.0]]
    behind = [[9.0, 9.0]] * 5
    crowded, roomy, twin = [1.5, 7.5], [4.0, 2.0], [8.0, 1.0]
    # Of ten, four places: one for the front, three of the second rank of four.
    assert not in_best_third(np.array(front + second + behind + [crowded]))
    assert in_best_third(np.array(front + second + behind + [roomy]))
    assert not in_best_third(np.array(front + second + behind + [twin]))


def test_many_objectives_are_ordered_in_little_time():
    points = np.random.default_rng(0).random((300, 6))
    assert in_best_third(points) in (True, False)


def test_the_median_rule_on_fronts():
    others = [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [4.0, 4.0]]
    assert not_behind_most(np.array([*others, [2.5, 2.5]]))  # half of them dominate it
    assert not not_behind_most(np.array([*others, [3.5, 3.5]]))
    assert not_behind_most(np.array([*others, [9.0, 0.5]]))  # small
    assert not_behind_most(np.array([*others[:2], [9.0, 9.0]]))  # too few to tell


def test_the_median_rule_stops_what_is_behind_and_never_pauses():
    median = scheduler("median", BOTH[:1], EPOCHS)
    assert isinstance(median, Median)
    rising = [0.1 * epoch for epoch in range(1, EPOCHS + 1)]
    flat = [0.05] * EPOCHS
    assert [follow(median, i, rising) for i in range(3)] == [EPOCHS] * 3
    assert follow(median, 3, flat) == 1
    assert follow(median, 4, rising) == EPOCHS


def test_the_median_rule_lives_with_trials_that_fail():
    median = scheduler("median", BOTH[:1], EPOCHS)
    for number in range(4):
        median.on_trial_complete(None, Running.of(number), {"epoch": 0, "done": True})
        bad = Running.of(10 + number)
        assert median.on_trial_result(None, bad, {"epoch": 1}) == "CONTINUE"
        assert median.on_trial_result(None, bad, {"epoch": 2, "accuracy": math.nan}) != "PAUSE"
    assert follow(median, 5, [0.5] * EPOCHS) == EPOCHS


def test_the_median_rule_forgets():
    median = scheduler("median", BOTH[:1], EPOCHS)
    for number in range(400):
        follow(median, number, [0.5] * 2)
    assert len(median._results) == 300
    assert all(set(r) == {"epoch", "accuracy"} for kept in median._results.values() for r in kept)


def test_brackets_are_drawn_from_the_seed_alone():
    shares = np.bincount([drawn(seed, [2, 1, 0]) for seed in range(3000)]) / 3000
    assert shares == pytest.approx([0.55, 0.27, 0.18], abs=0.02)

    def placed():
        halving = scheduler("bohb", BOTH[:1], EPOCHS)
        for number in range(20):
            halving.on_trial_add(None, Running.of(number, seed=number))
        return [halving._brackets.index(halving._trial_info[str(n)]) for n in range(20)]

    before = np.random.get_state()[1].tolist()  # noqa: NPY002  # that of others
    assert placed() == placed() == [drawn(seed, [2, 1, 0]) for seed in range(20)]
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_designs_of_the_last_bracket_are_trained_to_the_end():
    seeds = {drawn(seed, [2, 1, 0]): seed for seed in range(50)}
    ends = []
    for bracket in range(3):
        halving = scheduler("bohb", BOTH, EPOCHS)
        follow(halving, 0, [0.9] * EPOCHS, params=1.0, seed=seeds[bracket])
        ends.append(follow(halving, 1, [0.1] * EPOCHS, params=9.0, seed=seeds[bracket]))
    assert ends == [1, 3, EPOCHS]


@pytest.mark.parametrize("objectives", [BOTH[:1], BOTH], ids=["one", "two"])
@pytest.mark.parametrize("name", STOPPING)
def test_a_resumed_search_stops_what_the_whole_one_would(name, objectives):
    whole, past = scheduler(name, objectives, EPOCHS), []
    for number, (curve, params) in enumerate(curves(0, 40)):
        ended = follow(whole, number, curve, params, seed=number)
        told = tuple({"accuracy": accuracy} for accuracy in curve[:ended])
        status = "finished" if ended == EPOCHS else "stopped_early"
        architecture = CELL.sample(np.random.default_rng(number))
        past.append(
            Trial(number, architecture, status, {"params": params}, ended, told, seed=number)
        )
    past.append(Trial(40, architecture, "failed", {"params": 1.0}, error="out of memory"))
    resumed, fresh = (scheduler(name, objectives, EPOCHS, trials) for trials in (past, ()))
    ends = [
        [follow(s, 100 + i, c, p, seed=i) for i, (c, p) in enumerate(curves(1, 30))]
        for s in (whole, resumed, fresh)
    ]
    assert ends[0] == ends[1] != ends[2]
    assert min(ends[0]) < EPOCHS == max(ends[0])


def test_one_objective_keeps_what_reached_tunes_rungs():
    curve = tuple({"accuracy": a} for a in (0.5, 0.8, 0.9))
    past = [Trial(0, CELL.sample(np.random.default_rng(0)), "finished", curve=curve)]
    halving = scheduler("asha", BOTH[:1], EPOCHS, past)
    assert isinstance(halving, Halving)
    kept = {stop: set(recorded.values()) for stop, recorded in halving._brackets[0]._rungs}
    assert {1: {0.5}, 3: {0.9}} == {stop: kept[stop] for stop in (1, 3)}


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("name", "objectives"),
    [("asha", ["accuracy", "params"]), ("bohb", ["accuracy"]), ("median", ["accuracy"])],
)
def test_each_ends_and_resumes_through_tune(name, objectives, tmp_path):
    first = raynas.search(
        {"objectives": objectives},
        space=CELL,
        evaluator=Slow(),
        strategy="random",
        scheduler=name,
        trials=12,
        explanation_level="brief",
        run=tmp_path / "run",
    )
    assert sorted(first.trials["number"]) == list(range(12))
    trials = raynas.resume(tmp_path / "run", evaluator=Slow(), trials=18).trials
    assert sorted(trials["number"]) == list(range(18))
    ended = trials.groupby("status")["fidelity"].agg(set)
    assert set(ended.index) == {"finished", "stopped_early"}
    assert ended["finished"] == {EPOCHS}
    assert ended["stopped_early"] <= set(rungs(name, EPOCHS))


@pytest.mark.parametrize("name", STOPPING)
@pytest.mark.parametrize("objectives", [BOTH, BOTH[:1]], ids=["two", "one"])
def test_a_trial_that_is_run_again_does_not_compete_with_itself(name, objectives):
    """It is lost after the first rung, and decided upon as if that had not happened."""
    rng, seed = np.random.default_rng(0), next(i for i in range(9) if not drawn(i, [2, 1, 0]))
    curves = [(0.5 + 0.4 * rng.random() + np.arange(EPOCHS) / 100).tolist() for _ in range(40)]
    ends = []
    for lost in (False, True):
        stopping = scheduler(name, objectives, EPOCHS)
        followed = []
        for number, curve in enumerate(curves):
            costs = 100.0 + number % 7
            if lost:
                first = Running.of(f"{number} first")
                first.config["jobs"] = json.dumps([{"number": number, "seed": seed}])
                stopping.on_trial_add(None, first)
                reading = {"accuracy": curve[0], "params": costs, "trials": "[]"}
                stopping.on_trial_result(None, first, {**reading, "epoch": 1})
                stopping.on_trial_error(None, first)
            followed.append(follow(stopping, number, curve, costs, seed))
        ends.append(followed)
    assert ends[0] == ends[1]
    assert len(set(ends[0])) > 1

"""NSGA-II against its paper, by hand."""

import numpy as np
import pytest

from raynas.objective import Constraint, Objective, pareto_front
from raynas.strategies.nsga2 import NSGA2
from raynas.trial import Reason, Trial
from tests.spaces import CELL, score

ACCURACY = (Objective.parse("accuracy:max"),)
BOTH = (*ACCURACY, Objective.parse("params:min"))
SMALL = (Constraint("params", "max", 100),)


def trial(number, metrics, status="finished", **fields):
    design = list(CELL.enumerate())[3 * number]
    return Trial(number, design, status, metrics, **fields)


def told(trials, objectives=BOTH, **options):
    strategy = NSGA2(CELL, objectives, **{"start": 2, **options})
    for one in trials:
        strategy.tell(one)
    return strategy


def measured(*values):
    return [trial(i, {"accuracy": a, "params": p}) for i, (a, p) in enumerate(values)]


def proposals(strategy, draws=60):
    return [strategy.ask(np.random.default_rng(seed), []) for seed in range(draws)]


def parents(strategy):
    return {n for p in proposals(strategy) for n in p.reason.parents}


def alive(strategy):
    return {t.number for t in strategy._alive}


def test_designs_are_drawn_until_some_have_results():
    strategy = told(measured((0.5, 5)))
    assert strategy.ask(np.random.default_rng(0), []).reason.kind == "random"
    running = [CELL.sample(np.random.default_rng(0))]
    assert strategy.ask(np.random.default_rng(0), running).reason.kind == "mutation"


def test_the_dominated_die_first_then_those_in_a_crowd():
    strategy = told(measured((0.9, 9), (0.1, 1), (0.1, 9)), population=2)
    assert alive(strategy) == {0, 1}
    crowd = measured((0.9, 90), (0.5, 50), (0.49, 49), (0.1, 10))
    assert alive(told(crowd, population=3, front=3)) == {0, 1, 3}


def test_the_population_grows_with_its_front_up_to_a_bound():
    front = measured(*((0.1 * i, 10 * i) for i in range(1, 9)))
    assert len(alive(told(front, population=3, front=100))) == 8
    assert len(alive(told(front, population=3, front=5))) == 5
    beaten = [*front, trial(8, {"accuracy": 1.0, "params": 1})]
    assert len(alive(told(beaten, population=3, front=100))) == 3


def test_one_objective_keeps_the_best():
    values = [{"accuracy": a} for a in (0.3, 0.9, 0.1, 0.8)]
    strategy = told([trial(i, v) for i, v in enumerate(values)], ACCURACY, population=2)
    assert alive(strategy) == parents(strategy) == {1, 3}


def test_children_of_two_name_both_and_differ_from_the_first():
    strategy = told(measured((0.9, 9), (0.5, 5), (0.1, 1)), crossover=1.0, mutation=0.0)
    made = [p for p in proposals(strategy) if p.reason.kind == "crossover"]
    assert made
    designs = {t.number: t.architecture for t in strategy._alive}
    for proposal in made:
        first, second = (designs[n] for n in proposal.reason.parents)
        for name, option in proposal.architecture.choices:
            assert option in (first[name], second[name])
        assert {n for n, _, _ in proposal.reason.changed} == {
            n for n, o in proposal.architecture.choices if first[n] != o
        }


def test_what_keeps_the_constraints_comes_before_what_does_not():
    better_but_large = trial(1, {"accuracy": 0.9, "params": 101})
    refused = trial(2, {"params": 5000}, "infeasible", error="params 5000 > 100")
    larger = trial(3, {"params": 200}, "infeasible")
    trials = [*measured((0.1, 50)), better_but_large, refused, larger]
    for left, kept in ((3, {0, 1, 3}), (2, {0, 1}), (1, {0})):
        assert alive(told(trials, ACCURACY, constraints=SMALL, population=left, front=9)) == kept
    note = told([larger, refused], constraints=SMALL).ask(np.random.default_rng(0), []).reason.note
    assert "breaks a constraint" in note


def test_what_was_refused_has_children_that_come_nearer():
    strategy = NSGA2(CELL, BOTH, constraints=SMALL)
    sizes = []
    for number in range(60):
        proposal = strategy.ask(np.random.default_rng(number), [])
        metrics = score(proposal.architecture)
        small = metrics["params"] <= 100
        sizes.append(metrics["params"])
        metrics = metrics if small else {"params": metrics["params"]}
        status = "finished" if small else "infeasible"
        strategy.tell(Trial(number, proposal.architecture, status, metrics))
    assert np.mean([s <= 100 for s in sizes[30:]]) > np.mean([s <= 100 for s in sizes[:10]])


def test_a_stopped_trial_is_compared_where_it_stopped():
    def learning(number, *readings, status="finished"):
        curve = tuple({"accuracy": a} for a in readings)
        return trial(number, curve[-1], status, fidelity=len(curve), curve=curve)

    fast, slow = learning(0, 0.2, 0.5, 0.6), learning(1, 0.1, 0.5, 0.55)
    stopped = learning(2, 0.15, status="stopped_early")
    assert told([fast, slow, stopped], ACCURACY)._rank.tolist() == [0, 2, 1]


@pytest.mark.parametrize("seed", range(3))
def test_finds_a_front(seed):
    strategy = NSGA2(CELL, BOTH)
    found = []
    for number in range(150):
        design = strategy.ask(np.random.default_rng((seed, number)), []).architecture
        found.append(score(design))
        strategy.tell(Trial(number, design, "finished", found[-1], reason=Reason("random", "")))
    points = {(-m["accuracy"], m["params"]) for m in found}
    every = np.array([(-m["accuracy"], m["params"]) for m in map(score, CELL.enumerate())])
    assert {tuple(p) for p in every[pareto_front(every)]} <= points

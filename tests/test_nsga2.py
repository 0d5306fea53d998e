"""NSGA-II against its paper, by hand."""

import numpy as np
import pytest

from raynas.objective import Constraint, Objective, pareto_front
from raynas.strategies.comparable import fitness, ranked
from raynas.strategies.nsga2 import NSGA2
from raynas.strategies.nsga2_survivors import Survivors
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
    return {t.number for t in strategy._survivors.trials}


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
    designs = {t.number: t.architecture for t in strategy._survivors.trials}
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
    rank, _ = told([fast, slow, stopped], ACCURACY)._survivors.fitness
    assert rank.tolist() == [0, 2, 1]


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


def made_up(rng, number, stops, digits):
    """A trial of any kind; few digits make equals."""

    def draw():
        return round(float(rng.random()), digits)

    metrics = {name: draw() for name in ("accuracy", "params", "flops")}
    kind = rng.choice(["finished", "stopped_early", "infeasible"], p=[0.5, 0.4, 0.1])
    if kind == "infeasible":
        return trial(0, {"params": metrics["params"]}, "infeasible")
    stopped = stops and kind == "stopped_early"
    curve = [{"accuracy": draw()} for _ in range(rng.choice([1, 3]) if stopped else 4)]
    status = "stopped_early" if stopped else "finished"
    given = {"fidelity": len(curve), "curve": curve, "seed": number}
    return trial(0, {**metrics, **curve[-1]}, status, **given)


@pytest.mark.parametrize("digits", [1, 16])
@pytest.mark.parametrize("stops", [False, True])
@pytest.mark.parametrize("constraints", [(), (Constraint("params", "max", 0.5),)])
@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_who_lives_is_who_would_if_all_were_ranked_each_time(
    objectives, constraints, stops, digits
):
    wanted = tuple(map(Objective.parse, ("accuracy:max", "params:min", "flops:min")[:objectives]))
    rng = np.random.default_rng(objectives)
    survivors, alive = Survivors(wanted, constraints, 6, 12), []
    for number in range(100):
        newcomer = made_up(rng, number, stops, digits)
        survivors.add(newcomer)
        alive.append(newcomer)
        rank, room = fitness(alive, wanted, constraints)
        most = min(max(6, int((room[rank == 0] > 0).sum())), 12)
        if len(alive) > most:
            kept = np.sort(np.lexsort((-room, rank))[:most])
            alive, rank, room = [alive[i] for i in kept], rank[kept], room[kept]
        assert [id(t) for t in survivors.trials] == [id(t) for t in alive]
        assert all(
            np.array_equal(a, b) for a, b in zip(survivors.fitness, (rank, room), strict=True)
        )


def test_most_results_of_a_long_search_are_not_ranked(monkeypatch):
    calls = []

    def counted(*given):
        calls.append(given)
        return ranked(*given)

    monkeypatch.setattr("raynas.strategies.compared.ranked", counted)
    rng = np.random.default_rng(0)
    strategy = NSGA2(CELL, BOTH)
    for number in range(1000):
        strategy.tell(trial(0, {"accuracy": rng.random(), "params": rng.random()}, seed=number))
    assert len(calls) < 600

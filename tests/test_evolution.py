"""Regularized evolution against its paper, by hand."""

import numpy as np

from raynas.objective import Objective
from raynas.strategies.evolution import RegularizedEvolution
from raynas.trial import Trial
from tests.spaces import CELL

ACCURACY = (Objective.parse("accuracy:max"),)


def told(values, objectives=ACCURACY, **options):
    strategy = RegularizedEvolution(CELL, objectives, **options)
    designs = list(CELL.enumerate())[: len(values)]
    for number, (design, value) in enumerate(zip(designs, values, strict=True)):
        metrics = value if isinstance(value, dict) else {"accuracy": value}
        strategy.tell(Trial(number, design, "finished", metrics))
    return strategy


def parents(strategy, draws=40):
    proposals = [strategy.ask(np.random.default_rng(s), []) for s in range(draws)]
    return {n for p in proposals for n in p.reason.parents}


def test_the_population_fills_before_anything_is_mutated():
    strategy = told([0.1, 0.2, 0.3], population=4, tournament=2)
    assert strategy.ask(np.random.default_rng(0), []).reason.kind == "random"
    running = [CELL.sample(np.random.default_rng(0))]
    assert strategy.ask(np.random.default_rng(0), running).reason.kind == "mutation"


def test_the_best_of_the_tournament_is_the_parent():
    assert parents(told([0.1, 0.9, 0.2, 0.3], population=4, tournament=4)) == {1}


def test_the_oldest_die_not_the_worst():
    assert 0 not in parents(told([0.9, 0.1, 0.2, 0.3, 0.4], population=4, tournament=4))


def test_several_objectives_share_the_tournament():
    both = (*ACCURACY, Objective.parse("params:min"))
    values = [{"accuracy": a, "params": p} for a, p in ((0.9, 9), (0.1, 1), (0.05, 9), (0.1, 8))]
    assert parents(told(values, both, population=4, tournament=4)) == {0, 1}


def test_the_reason_names_the_edit():
    proposal = told([0.1, 0.9], population=2, tournament=2, edits=1).ask(
        np.random.default_rng(1), []
    )
    (name, before, after), *rest = proposal.reason.changed
    assert not rest
    assert before != after == proposal.architecture[name]

"""Regularized evolution against its paper, by hand."""

import numpy as np

from raynas.objective import Objective
from raynas.strategies.evolution import RegularizedEvolution
from raynas.trial import Trial
from tests.spaces import CELL, score

ACCURACY = (Objective.parse("accuracy:max"),)
LOSS = (Objective.parse("loss:min"),)


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


def test_children_of_two_name_both():
    strategy = told([0.1, 0.9, 0.2, 0.8], population=4, tournament=2, crossover=1.0)
    proposals = [strategy.ask(np.random.default_rng(s), []) for s in range(40)]
    crossed = [p.reason for p in proposals if p.reason.kind == "crossover"]
    assert crossed
    assert all(len(set(r.parents)) == 2 and r.changed for r in crossed)
    assert {p.reason.kind for p in proposals} <= {"crossover", "mutation"}


def test_a_generation_is_replaced_at_once_but_for_the_elite():
    options = {"population": 4, "tournament": 4, "elite": 1, "generational": True}
    assert not parents(told([0.9, 0.1, 0.2], **options))  # still the random first generation
    assert parents(told([0.9, 0.1, 0.2, 0.3, 0.4, 1.0], **options)) == {0}
    assert parents(told([0.9, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6], **options)) == {0}
    assert parents(told([0.9, 0.1, 0.2, 0.3, 0.4, 1.0, 0.6], **options)) == {5}
    no_elite = {**options, "elite": 0}
    assert parents(told([0.9, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.1], **no_elite)) == {6}


def test_a_stopped_trial_is_no_final_score():
    strategy = RegularizedEvolution(CELL, LOSS, population=2, tournament=2)
    designs = list(CELL.enumerate())
    curves = [(3.0, 2.0, 1.0), (2.0, 1.5, 0.5)]
    for number, curve in enumerate(curves):
        readings = tuple({"loss": value} for value in curve)
        strategy.tell(Trial(number, designs[number], "finished", readings[-1], 3, readings))
    assert parents(strategy) == {1}
    young = ({"loss": 2.5},)  # behind trial 1 after an epoch, however little that is
    strategy.tell(Trial(2, designs[2], "stopped_early", young[0], 1, young))
    assert parents(strategy) == {1}


GOLDEN = (  # change this only if the paper says so
    "conv3x3 avgpool3x3 skip 16",
    "conv3x3 none none 16",
    "none avgpool3x3 avgpool3x3 16",
    "conv3x3 none none 32",
    "conv3x3 avgpool3x3 avgpool3x3 16",
    "conv3x3 skip none 32",
)


def test_the_default_is_still_the_same_search():
    strategy = RegularizedEvolution(CELL, ACCURACY)
    made = []
    for number in range(16):
        proposal = strategy.ask(np.random.default_rng(number), [])
        made.append(" ".join(str(o) for o in proposal.architecture.options.values()))
        strategy.tell(
            Trial(number, proposal.architecture, "finished", score(proposal.architecture))
        )
    assert tuple(made[10:]) == GOLDEN

"""The model of BOHB: what Optuna is told, and that it learns."""

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from raynas.objective import Constraint, Objective
from raynas.strategies.bohb import BOHB, BROKEN, GOOD
from raynas.trial import Trial
from tests.spaces import CELL, TREE

ACCURACY = (Objective.parse("accuracy:max"),)
BOTH = (*ACCURACY, Objective.parse("params:min"))


def worth(architecture):
    return sum(o == "conv3x3" for o in architecture.options.values()) / 3


def searched(strategy, trials, seed=0, space=CELL, value=worth):
    for number in range(trials):
        proposal = strategy.ask(np.random.default_rng((seed, number)), [])
        metrics = {"accuracy": value(proposal.architecture), "params": float(number % 7)}
        strategy.tell(Trial(number, proposal.architecture, "finished", metrics, 1))
    return strategy


def told(strategy):
    return [frozen for _, frozen in strategy._told]


@pytest.mark.parametrize("objectives", [ACCURACY, BOTH], ids=["one", "two"])
def test_what_it_draws_is_better_than_chance(objectives):
    strategy = searched(BOHB(CELL, objectives), 40)
    designs = list(CELL.enumerate())
    chance = np.mean([worth(a) for a in designs])
    drawn = [worth(t.architecture) for t, _ in strategy._told][10:]
    assert np.mean(drawn) > chance + 0.1


def test_starts_at_random_and_says_so():
    strategy = searched(BOHB(CELL, ACCURACY, startup=5), 4)
    assert strategy.ask(np.random.default_rng(0), []).reason.kind == "random"
    searched(strategy, 1, seed=1)
    proposal = strategy.ask(np.random.default_rng(0), [CELL.sample(np.random.default_rng(3))])
    assert proposal.reason.kind == "acquisition"
    assert proposal.reason.scores == {"good": 1.0, "others": 4.0, "pending": 1.0}


def test_ordered_decisions_are_told_by_rank_and_inactive_ones_not_at_all():
    strategy = BOHB(TREE, ACCURACY)
    design = TREE.architecture({"depth": 2, "layer0.width": 16, "layer1.kind": "a"})
    strategy.tell(Trial(0, design, "finished", {"accuracy": 0.5}))
    (frozen,) = told(strategy)
    assert frozen.params == {"depth": 1, "layer0.width": 1, "layer1.kind": 0}
    kinds = [type(d).__name__ for d in frozen.distributions.values()]
    assert kinds == ["IntDistribution", "IntDistribution", "CategoricalDistribution"]


def test_a_trial_stopped_early_is_no_final_score():
    strategy = BOHB(CELL, ACCURACY)
    curve = ({"accuracy": 0.2}, {"accuracy": 0.3})
    design = CELL.sample(np.random.default_rng(0))
    strategy.tell(Trial(0, design, "stopped_early", curve[-1], 2, curve))
    (frozen,) = told(strategy)
    assert frozen.state is TrialState.PRUNED
    assert frozen.intermediate_values == {1: 0.2, 2: 0.3}


def test_with_several_objectives_the_stopped_come_after_the_finished_longest_first():
    strategy = BOHB(CELL, BOTH, constraints=(Constraint("params", "max", 5.0),))
    rng = np.random.default_rng(0)
    last = {"accuracy": 0.5, "params": 1.0}
    for number, (status, epochs, params) in enumerate(
        (("finished", 9, 1.0), ("stopped_early", 6, 1.0), ("stopped_early", 3, 1.0),
         ("infeasible", 0, 6.0), ("failed", 0, 1.0), ("lost", 0, 1.0))
    ):  # fmt: skip
        metrics = {**last, "params": params} if status != "infeasible" else {"params": params}
        strategy.tell(Trial(number, CELL.sample(rng), status, metrics, epochs))
    excess = [t.system_attrs[BROKEN][0] for t in told(strategy)]
    assert excess == sorted(set(excess))  # strictly rising
    assert excess[0] == 0.0
    assert len(excess) == 4  # failed and lost ones are not shown


def test_what_it_is_shown_stays_bounded_and_keeps_the_best():
    strategy = BOHB(CELL, ACCURACY, memory=60)
    rng = np.random.default_rng(0)
    for number in range(500):
        value = 1.0 + number if number < GOOD else rng.random()
        strategy.tell(Trial(number, CELL.sample(rng), "finished", {"accuracy": value}))
    numbers = [t.number for t in told(strategy)]
    assert len(numbers) < 60 + 25
    assert numbers[:GOOD] == list(range(GOOD))
    assert numbers[-1] == 499


def test_conditional_decisions_are_answered_only_where_they_are_open():
    strategy = searched(
        BOHB(TREE, ACCURACY, startup=4), TREE.size, space=TREE, value=lambda a: float(a["depth"])
    )
    assert len({str(t.architecture) for t, _ in strategy._told}) == TREE.size
    for trial, _ in strategy._told:
        TREE.check(trial.architecture)


def test_pending_designs_are_not_drawn_again():
    strategy = searched(BOHB(CELL, ACCURACY), 30)
    pending = []
    for number in range(20):
        pending.append(strategy.ask(np.random.default_rng(number), pending).architecture)
    assert len({str(a) for a in pending}) == 20


def test_optuna_is_left_as_it_was(capfd):
    level = optuna.logging.get_verbosity()
    searched(BOHB(CELL, ACCURACY), 15)
    assert optuna.logging.get_verbosity() == level
    assert capfd.readouterr() == ("", "")

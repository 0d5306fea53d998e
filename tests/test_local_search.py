"""Local search against its paper, by hand."""

import numpy as np
import pytest

from raynas.architecture import Decision
from raynas.objective import Objective, pareto_front
from raynas.space import Space
from raynas.strategies.local_search import LocalSearch
from raynas.trial import Trial
from tests.spaces import CELL, score

ACCURACY = (Objective.parse("accuracy:max"),)
BOTH = (*ACCURACY, Objective.parse("params:min"))
LARGE = Space("large", tuple(Decision(f"d{i}", tuple("abcde"), "what") for i in range(81)))


def climbed(strategy, measure, trials, seed=0):
    """Searches one by one; returns the proposals."""
    proposals = []
    for number in range(trials):
        proposal = strategy.ask(np.random.default_rng((seed, number)), [])
        metrics = measure(proposal.architecture)
        tell(strategy, number, proposal, metrics)
        proposals.append(proposal)
    return proposals


def tell(strategy, number, proposal, metrics, status="finished", **fields):
    design = proposal.architecture
    strategy.tell(Trial(number, design, status, metrics, reason=proposal.reason, **fields))


def flat(_):
    return {"accuracy": 0.5}


def test_moves_to_a_better_neighbour_at_once():
    strategy = LocalSearch(CELL, ACCURACY, starts=1)
    values = iter([0.1, 0.05, 0.2, 0.15, 0.3, 0.2])
    proposals = climbed(strategy, lambda _: {"accuracy": next(values)}, 6)
    assert [p.reason.parents for p in proposals] == [(), (0,), (0,), (2,), (2,), (4,)]
    assert {p.reason.kind for p in proposals[1:]} == {"neighbour"}
    assert all(len(p.reason.changed) == 1 for p in proposals[1:])


def test_or_only_after_all_neighbours_were_tried():
    strategy = LocalSearch(CELL, ACCURACY, starts=1, first=False)
    proposals = climbed(strategy, score, 15)
    assert {p.reason.parents for p in proposals[1:14]} == {(0,)}  # 3 edges with 4, a width with 1
    best = max(range(14), key=lambda n: score(proposals[n].architecture)["accuracy"])
    (parent,) = proposals[14].reason.parents
    assert score(proposals[parent].architecture) == score(proposals[best].architecture)
    assert parent != 0


def test_begins_anew_near_the_best_once_all_neighbours_are_known():
    strategy = LocalSearch(CELL, ACCURACY, starts=1, kick=2)
    kinds = [p.reason.kind for p in climbed(strategy, flat, 16)]
    assert kinds == ["random"] + ["neighbour"] * 13 + ["mutation", "neighbour"]


def test_or_at_random_as_in_the_paper():
    strategy = LocalSearch(CELL, ACCURACY, starts=2, kick=0)
    kinds = [p.reason.kind for p in climbed(strategy, flat, 18)]
    assert kinds == ["random"] * 2 + ["neighbour"] * 13 + ["random"] * 2 + ["neighbour"]


def test_workers_share_a_climb_and_then_begin_the_next():
    strategy = LocalSearch(CELL, ACCURACY, starts=1)
    climbed(strategy, flat, 2)
    pending, kinds = [], []
    for number in range(2, 16):
        proposal = strategy.ask(np.random.default_rng(number), pending)
        pending.append(proposal.architecture)
        kinds.append(proposal.reason.kind)
    assert kinds == ["neighbour"] * 12 + ["mutation"] * 2
    assert len({str(a) for a in pending}) == 14


def test_a_late_neighbour_moves_its_own_climb():
    strategy = LocalSearch(CELL, ACCURACY, starts=1)
    proposals = climbed(strategy, flat, 13)
    late = strategy.ask(np.random.default_rng(1), [])
    started = strategy.ask(np.random.default_rng(2), [late.architecture])
    assert (late.reason.parents, started.reason.kind) == ((0,), "mutation")
    tell(strategy, 14, started, {"accuracy": 0.4})
    tell(strategy, 13, late, {"accuracy": 0.9})
    assert strategy.ask(np.random.default_rng(3), []).reason.parents == (13,)
    assert len(proposals) == 13


def test_a_stopped_trial_takes_no_finished_ones_place():
    strategy = LocalSearch(CELL, ACCURACY, starts=1)
    proposal = strategy.ask(np.random.default_rng(0), [])
    curve = ({"accuracy": 0.5}, {"accuracy": 0.6})
    tell(strategy, 0, proposal, curve[-1], fidelity=2, curve=curve)
    for number, early in ((1, 0.55), (2, 0.45)):
        proposal = strategy.ask(np.random.default_rng(number), [])
        readings = {"accuracy": early}
        tell(strategy, number, proposal, readings, "stopped_early", fidelity=1, curve=(readings,))
    assert strategy.ask(np.random.default_rng(3), []).reason.parents == (0,)


@pytest.mark.parametrize("seed", range(3))
def test_several_objectives_search_from_the_front(seed):
    strategy = LocalSearch(CELL, BOTH)
    proposals = climbed(strategy, score, 120, seed)
    found = np.array([(-m["accuracy"], m["params"]) for m in map(measured, proposals)])
    for number, proposal in enumerate(proposals):
        if proposal.reason.kind == "neighbour" and number < 40:
            (parent,) = proposal.reason.parents
            assert pareto_front(found[:number])[parent] or "climb 1" not in proposal.reason.note
    every = np.array([(-m["accuracy"], m["params"]) for m in map(score, CELL.enumerate())])
    wanted = {tuple(p) for p in every[pareto_front(every)]}
    assert wanted <= {tuple(p) for p in found}


def measured(proposal):
    return score(proposal.architecture)


def test_replaying_restores_the_climb_whatever_was_asked_in_between():
    asked, told = LocalSearch(CELL, BOTH), LocalSearch(CELL, BOTH)
    for number in range(60):
        proposal = asked.ask(np.random.default_rng(number), [])
        for seed in range(3):  # fills the memory of what leads nowhere
            asked.ask(np.random.default_rng((number, seed)), [proposal.architecture])
        for strategy in (asked, told):
            tell(strategy, number, proposal, score(proposal.architecture))
    rng = np.random.default_rng
    assert all(asked.ask(rng(s), []) == told.ask(rng(s), []) for s in range(20))


def test_large_spaces_are_climbed_without_listing_neighbours(monkeypatch):
    monkeypatch.delattr(Space, "neighbours")
    strategy = LocalSearch(LARGE, ACCURACY)

    def letters(design):
        return {"accuracy": sum(o == "a" for o in design.options.values()) / 81}

    proposals = climbed(strategy, letters, 150)
    values = [letters(p.architecture)["accuracy"] for p in proposals]
    assert max(values) > max(values[:10]) + 0.1

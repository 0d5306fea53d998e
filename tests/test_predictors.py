"""Predictor-guided strategies: what they see, what they learn, and what they make of it."""

from dataclasses import replace

import numpy as np
import pytest

from raynas.graphs import Edge, Graph
from raynas.objective import Objective
from raynas.strategies.acquisition import (
    Scale,
    expected_improvement,
    expected_volume,
)
from raynas.strategies.bananas import Bananas, ensemble
from raynas.strategies.base import Seen
from raynas.strategies.candidates import beginning
from raynas.strategies.earlier import Informed
from raynas.strategies.features import Features, paths
from raynas.strategies.gaussian import between, fitted
from raynas.strategies.predictor import Predictor
from raynas.strategies.random_search import RandomSearch
from raynas.strategies.standing import normal_scores, representative
from raynas.trial import Trial
from search_spaces import layered, nasbench201
from tests.spaces import CELL, TREE, score

ONE = (Objective.parse("accuracy:max"),)
TWO = (*ONE, Objective.parse("params:min"))
BOTH = pytest.mark.parametrize("make", [Predictor, Bananas])


def search(strategy, evaluate, trials, seed=0):
    """Tells a strategy what its proposals are worth; returns the trials."""
    told = []
    for number in range(trials):
        design = strategy.ask(np.random.default_rng((seed, number)), []).architecture
        told.append(Trial(number, design, "finished", evaluate(design), fidelity=1))
        strategy.tell(told[-1])
    return told


def made_up(space, seed=0):
    """A function of a design with effects of single options and of pairs of them."""
    rng = np.random.default_rng(seed)
    worth = rng.normal(size=len(space.columns))
    pairs = rng.normal(size=(len(space.columns), 4)) / 4

    def evaluate(design):
        code = space.encode(design)
        return {"accuracy": float(worth @ code + ((pairs.T @ code) ** 2).sum()) / code.sum()}

    return evaluate


def test_paths_leave_out_what_passes_or_is_dead():
    edges = (
        Edge("input", "a", "conv"),
        Edge("input", "output", ""),
        Edge("a", "b", "pool"),
        Edge("a", "output", "conv"),
        Edge("input", "dead", "conv"),
        Edge("a", "output", "conv"),
    )
    assert paths(Graph(("input",), edges)) == {(): 1, ("conv", "conv"): 2}


def test_features_are_equal_for_designs_that_compute_the_same():
    space = nasbench201.SPACE
    features = Features(space)
    rng = np.random.default_rng(1)
    for _ in range(20):
        design = space.sample(rng)
        assert np.array_equal(*features([design, space.simplify(design)]))


@pytest.mark.parametrize(
    "space", [CELL, TREE, layered.SPACE, nasbench201.SPACE], ids=lambda space: space.name
)
def test_blocks_are_of_one_size(space):
    features = Features(space)
    rng = np.random.default_rng(2)
    rows = features([space.sample(rng) for _ in range(200)])
    assert np.isfinite(rows).all()
    assert len(features.blocks) == (3 if space.graphs else 2)
    for block in features.blocks:
        assert 0.5 < 2 * rows[:, block].var(axis=0).sum() < 2


def test_a_gaussian_process_meets_what_it_was_told_and_doubts_the_rest():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3)) / 3
    y = np.sin(3 * x[:, 0]) + x[:, 1]
    blocks = (slice(0, 2), slice(2, 3))
    process = fitted(between(x, x, blocks), y)
    mean, deviation = process.predict(process.project(between(x, x, blocks)))
    assert np.abs(mean - y).max() < 0.1
    far = process.predict(process.project(between(x, x + 10, blocks)))[1]
    assert far.min() > 3 * deviation.max()


def test_networks_learn_and_differ():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 4))
    y = x[:, 0] - x[:, 1]
    scores = ensemble(x, y, x, 3, rng)
    assert np.corrcoef(scores.mean(axis=0), y)[0, 1] > 0.98
    assert scores.std(axis=0).min() > 0


def test_expected_improvement_by_hand():
    gain = expected_improvement(np.array([0.0, 5.0, -50.0]), np.ones(3), 0.0)
    assert gain == pytest.approx([0.398942, 5.0, 0.0], abs=1e-6)


def test_expected_volume_prefers_the_gap_in_the_front():
    points = np.array([[0.0, 1.0], [1.0, 0.0], [0.9, 0.9]])
    scales = [Scale.of(c) for c in points.T]
    losses = np.array([[0.3, 0.95, 0.02], [0.3, 0.95, 0.98]])  # a knee, dominated, near an end
    mean = np.array([s(row) for s, row in zip(scales, losses, strict=True)])
    gain = expected_volume(
        mean,
        np.full((2, 3), 1e-3),
        np.array([True, True, True]),
        points,
        points.max(axis=0),
        scales,
        wide=False,
        rng=np.random.default_rng(0),
    )
    assert gain[0] > 10 * gain[2] > 0
    assert gain[1] == pytest.approx(0, abs=1e-9)


def test_a_scale_keeps_the_order():
    column = np.array([3.0, 1.0, 2.0, 100.0])
    values = Scale.of(column)(np.array([-5.0, 1.0, 1.5, 50.0, 100.0]))
    assert (np.diff(values) < 0).all()


def test_normal_scores_share_places():
    assert normal_scores(np.array([0.5, 1.0, 0.0, 0.5])) == pytest.approx(
        [0.0, 1.150349, -1.150349, 0.0], abs=1e-6
    )


def test_the_best_trials_are_always_learned_from():
    places = np.linspace(0, 1, 5000)
    kept = representative(range(5000), places, 300)
    assert len(kept) <= 300
    assert set(range(4850, 5000)) <= set(kept)


@BOTH
def test_finds_the_best_sooner_than_by_chance(make):
    ranks = []
    for seed in range(2):
        evaluate = made_up(nasbench201.SPACE, seed)
        found = [
            max(t.metrics["accuracy"] for t in search(s(nasbench201.SPACE, ONE), evaluate, 40))
            for s in (make, RandomSearch)
        ]
        ranks.append(found[0] > found[1])
    assert all(ranks)


@BOTH
def test_searches_a_space_of_81_decisions(make):
    evaluate = made_up(layered.SPACE)
    found = search(make(layered.SPACE, ONE), evaluate, 40)
    chance = search(RandomSearch(layered.SPACE, ONE), evaluate, 40)
    best = [max(t.metrics["accuracy"] for t in trials) for trials in (found, chance)]
    assert best[0] > best[1]
    assert all(layered.SPACE.check(t.architecture) is None for t in found)


@BOTH
def test_says_what_it_believed_and_what_it_considered(make):
    strategy = make(layered.SPACE, ONE)
    search(strategy, made_up(layered.SPACE), 30)
    proposal = strategy.ask(np.random.default_rng(9), [])
    assert proposal.reason.kind == "acquisition"
    assert set(proposal.reason.scores) == {"mean", "std", "low", "high", "acquisition"}
    assert len(proposal.candidates) == 5
    taken = proposal.reason.scores["acquisition"]
    assert all(c.score <= taken and "lower" in c.rejected_by for c in proposal.candidates)


@BOTH
def test_a_failed_design_is_not_proposed_again(make):
    strategy = make(CELL, TWO)
    rng = np.random.default_rng(0)
    failed = [a for a in CELL.enumerate() if a["width"] == 32]
    for number, design in enumerate(failed):
        strategy.tell(Trial(number, design, "failed", error="out of memory"))
    for number in range(len(failed), len(failed) + 30):
        design = strategy.ask(rng, []).architecture
        assert design["width"] == 16
        strategy.tell(Trial(number, design, "finished", score(design)))


@BOTH
def test_running_designs_are_spread(make):
    strategy = make(nasbench201.SPACE, ONE)
    search(strategy, made_up(nasbench201.SPACE), 30)
    pending = []
    for number in range(12):
        pending.append(strategy.ask(np.random.default_rng(number), pending).architecture)
    assert len({nasbench201.SPACE.identity(a) for a in pending}) == 12


def test_two_objectives_are_searched_as_a_front():
    def evaluate(design):
        return {"accuracy": score(design)["accuracy"], "params": score(design)["params"]}

    trials = search(Predictor(replace(CELL, canonical=None), TWO), evaluate, 90)
    best = {t.metrics["accuracy"]: t.metrics["params"] for t in reversed(trials)}
    assert set(best) == {0.0, 1 / 3, 2 / 3, 1.0}
    assert min(t.metrics["params"] for t in trials if t.metrics["accuracy"] == 1.0) == 316.0


def test_windows_are_as_long_as_they_should_be():
    starts = [beginning(count, 1 / 20, 10) for count in range(5000)]
    assert all(start <= count for count, start in enumerate(starts))
    lengths = np.diff(np.flatnonzero(np.diff(starts)))
    assert lengths.max() <= 5000 / 20
    assert len(lengths) < 120  # each new window is a new fit
    assert starts[15] == 10


def test_going_through_a_space_goes_on_where_it_was():
    seen, order = Seen(TREE), list(TREE.enumerate())
    for number in (0, 1, 3):
        seen.add(Trial(number, order[number], "finished"))
    assert seen.any_new([]) == order[2]
    assert seen.any_new([order[2]]) == order[4]
    assert seen.any_new([]) == order[2]
    seen.add(Trial(4, order[2], "finished"))
    assert seen.any_new([]) == order[4]


def known(space, evaluate, count=60, split="other"):
    """Trials of random designs on other data, numbered as another search may have."""
    rng = np.random.default_rng(5)
    designs = {str(a): a for a in (space.sample(rng) for _ in range(count))}.values()
    return tuple(
        Trial(n, a, "finished", evaluate(a), 1, split=split) for n, a in enumerate(designs)
    )


def test_each_earlier_search_is_judged_by_its_own_values():
    space, evaluate = nasbench201.SPACE, made_up(nasbench201.SPACE)

    def larger(design):
        return {"accuracy": 10 + 3 * evaluate(design)["accuracy"]}

    designs = [space.sample(np.random.default_rng(n)) for n in range(30)]
    worth = [evaluate(a)["accuracy"] for a in designs]
    both = (*known(space, evaluate, split="a")[::2], *known(space, larger, split="b")[1::2])
    promises = Informed(Features(space), ONE, both).promises(designs, np.random.default_rng(0))
    assert np.corrcoef(promises, worth)[0, 1] > 0.6


def test_what_earlier_trials_do_not_say_adds_no_feature():
    space = CELL
    plain, trials = Features(space), known(space, lambda a: {"accuracy": score(a)["accuracy"]})
    design = space.sample(np.random.default_rng(0))
    for objectives, more in ((ONE, 1), (TWO, 1), ((TWO[1],), 0)):
        informed = Informed(plain, objectives, trials)
        assert len(informed.blocks) == len(plain.blocks) + more
        assert informed([design]).shape[1] == plain([design]).shape[1] + more


@BOTH
def test_earlier_trials_help_but_are_not_taken_for_its_own(make):
    evaluate = made_up(nasbench201.SPACE)
    trials = known(nasbench201.SPACE, evaluate, 200)
    best = []
    for earlier in ((), trials):
        strategy = make(nasbench201.SPACE, ONE, earlier=earlier)
        found = search(strategy, evaluate, 12)
        best.append(np.mean([t.metrics["accuracy"] for t in found]))
        assert strategy._told.trials == found
    assert best[1] > best[0]


@BOTH
def test_misleading_earlier_trials_are_overruled(make):
    evaluate = made_up(nasbench201.SPACE)
    trials = known(nasbench201.SPACE, lambda a: {"accuracy": -evaluate(a)["accuracy"]}, 200)
    found = search(make(nasbench201.SPACE, ONE, earlier=trials), evaluate, 60)
    values = [t.metrics["accuracy"] for t in found]
    assert np.mean(values[-20:]) > np.mean(values[:8]) + 0.1


def test_until_something_is_finished_places_are_learned():
    strategy = Predictor(CELL, TWO)
    for number in range(60):
        proposal = strategy.ask(np.random.default_rng(number), [])
        status = "stopped_early" if number < 41 else "finished"
        metrics = score(proposal.architecture)
        strategy.tell(Trial(number, proposal.architecture, status, metrics, 1, (metrics,)))
        if number in (39, 40, 41, 42):
            resumed = Predictor(CELL, TWO)
            for trial in strategy._told.trials:
                resumed.tell(trial)
            assert resumed.ask(np.random.default_rng(1), []) == strategy.ask(
                np.random.default_rng(1), []
            )

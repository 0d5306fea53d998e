"""Controllers, what they are rewarded for, and the two strategies that train them."""

import math

import numpy as np
import pytest
import torch

from raynas.architecture import Decision
from raynas.errors import UserError
from raynas.objective import Constraint, Objective
from raynas.space import Space
from raynas.strategies.controllers import Controller
from raynas.strategies.generator import Generator, within_budgets
from raynas.strategies.policy import improve, utilities
from raynas.strategies.reinforce import Reinforce
from raynas.strategies.standing import standings
from raynas.trial import Reason, Trial
from tests.spaces import CELL, TREE

ACCURACY = (Objective.parse("accuracy:max"),)
BOTH = (*ACCURACY, Objective.parse("params:min"))
WIDE = Space(
    "wide", tuple(Decision(f"layer{i}.width", (1, 2, 3, 4), "width", True) for i in range(6))
)
both_bodies = pytest.mark.parametrize("attention", [False, True], ids=["lstm", "transformer"])


def shaken(space, attention):
    """A controller with opinions."""
    controller = Controller(space, attention)
    generator = torch.Generator().manual_seed(1)
    torch.nn.init.normal_(controller.output, 0, 0.3, generator)
    return controller


def width(architecture):
    return float(sum(o for o in architecture.options.values()))


def trial(number, architecture, accuracy, status="finished", **rest):
    return Trial(number, architecture, status, {"accuracy": accuracy}, **rest)


def searched(strategy, trials, measure, space=WIDE, seed=0):
    designs = []
    for number in range(trials):
        proposal = strategy.ask(np.random.default_rng((seed, number)), [])
        designs.append(proposal.architecture)
        metrics = measure(proposal.architecture)
        strategy.tell(Trial(number, designs[-1], "finished", metrics, 1, reason=proposal.reason))
    return designs


@both_bodies
def test_untrained_all_options_are_equally_likely(attention):
    draws = Controller(CELL, attention).draw(np.random.default_rng(0), 5)
    assert np.allclose(draws.log_probability, -math.log(CELL.size))
    assert np.allclose(draws.entropy, math.log(CELL.size))


@both_bodies
@pytest.mark.parametrize("budget", [None, 0.7])
def test_scoring_agrees_with_drawing(attention, budget):
    controller = shaken(TREE, attention)
    draws = controller.draw(np.random.default_rng(0), 80, budget)
    for row in draws.answers:
        TREE.check(controller.read(row))
    assert len({tuple(row >= 0) for row in draws.answers}) > 2  # skipped decisions differ
    budgets = None if budget is None else torch.full((80,), budget)
    log_p, entropy = controller.score(torch.from_numpy(draws.answers), budgets)
    assert np.allclose(log_p.detach(), draws.log_probability, atol=1e-5)
    assert np.allclose(entropy.detach(), draws.entropy, atol=1e-5)


@both_bodies
def test_probabilities_of_all_designs_sum_to_one(attention):
    controller = shaken(TREE, attention)
    answers = controller.write(list(TREE.enumerate()))
    assert [str(controller.read(row)) for row in answers] == [str(a) for a in TREE.enumerate()]
    log_p, _ = controller.score(torch.from_numpy(answers))
    assert float(log_p.detach().exp().sum()) == pytest.approx(1, abs=1e-5)


@both_bodies
def test_neither_weights_nor_draws_touch_the_global_generator(attention):
    state = torch.random.get_rng_state()
    first = Controller(CELL, attention)
    torch.rand(3)
    again = Controller(CELL, attention)
    first.draw(np.random.default_rng(0), 3)
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    torch.random.set_rng_state(state)
    Controller(CELL, attention).draw(np.random.default_rng(0), 3)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_heat_makes_options_more_alike():
    controller = shaken(CELL, False)
    cool, hot = (controller.draw(np.random.default_rng(0), 50, None, t) for t in ((1.0,), (9.0,)))
    assert hot.entropy.mean() > cool.entropy.mean()


def test_a_step_raises_what_was_rewarded_and_late_results_count_less():
    def gain(proposed):
        controller = Controller(CELL)
        optimizer = torch.optim.SGD(controller.parameters(), 0.1)
        answers = controller.write([next(iter(CELL.enumerate()))])
        told = torch.from_numpy(answers)
        before = controller.score(told)[0].item()
        improve(controller, optimizer, answers, np.array([proposed]), np.array([0.01]), 2.0, 0.0)
        return controller.score(told)[0].item() - before

    on_policy = -math.log(CELL.size)
    assert gain(on_policy) > 0
    assert gain(on_policy + 3) < 0.2 * gain(on_policy)  # it was likelier then than it is now
    assert gain(on_policy - 5) == pytest.approx(2 * gain(on_policy), rel=0.1)  # clipped


def test_the_worst_is_last_and_units_do_not_matter():
    designs = list(CELL.enumerate())
    values = [0.1, 0.9, 0.5, -1e9]
    trials = [trial(i, designs[i], v) for i, v in enumerate(values)]
    trials += [Trial(4, designs[4], "failed"), Trial(5, designs[5], "lost")]
    places = standings(trials, ACCURACY)
    assert np.argsort(-places[:5]).tolist() == [1, 2, 0, 3, 4]
    assert np.isnan(places[5])
    worth = utilities(places[:5])
    assert worth[1] == 1 > worth[2] > worth[0] > worth[3] == worth[4] == 0


def test_the_whole_front_stands_above_the_rest():
    points = [(0.9, 9.0), (0.1, 1.0), (0.5, 4.0), (0.1, 9.0), (0.05, 9.5)]
    trials = [
        Trial(i, a, "finished", {"accuracy": x, "params": y})
        for i, (a, (x, y)) in enumerate(zip(CELL.enumerate(), points, strict=False))
    ]
    places = standings(trials, BOTH)
    assert places[:3].min() > places[3] > places[4] == 0


def test_what_breaks_a_bound_stands_below_by_how_far():
    bound = (Constraint("params", "max", 5.0),)
    metrics = [{"accuracy": 0.1, "params": 4.0}, {"accuracy": 0.9, "params": 6.0}, {"params": 9.0}]
    states = ("finished", "finished", "infeasible")
    designs = CELL.enumerate()
    trials = [Trial(i, next(designs), s, m) for i, (s, m) in enumerate(zip(states, metrics))]  # noqa: B905
    trials.append(Trial(3, next(designs), "failed"))
    assert (np.diff(standings(trials, ACCURACY, bound)) < 0).all()


def test_a_stopped_trial_is_compared_at_the_epoch_it_reached():
    designs = list(CELL.enumerate())
    slow, fast, cut = ([0.1, 0.2, 0.9], [0.4, 0.5, 0.6], [0.3])
    trials = [
        trial(i, designs[i], c[-1], s, fidelity=len(c), curve=[{"accuracy": v} for v in c])
        for i, (c, s) in enumerate(((slow, "finished"), (fast, "finished"), (cut, "stopped_early")))
    ]
    places = standings(trials, ACCURACY)
    assert places[0] == 1  # the best in the end
    assert places[2] == pytest.approx(0.5)  # after one epoch it beats one of two
    assert places[1] == pytest.approx(1 / 3)  # below one of the two that finished
    alone = standings([trials[2], trials[0]], ACCURACY)
    assert alone[0] == 1  # not as if 0.3 were its end


@pytest.mark.parametrize("strategy", [Reinforce, Generator])
def test_learns_what_is_good(strategy):
    designs = searched(strategy(WIDE, ACCURACY), 80, lambda a: {"accuracy": width(a)})
    assert np.mean([width(a) for a in designs[40:]]) > 15 + 2  # 15 is the mean of the space
    assert max(map(width, designs)) >= 22  # of 24


def test_late_results_in_another_order_still_teach():
    strategy = Reinforce(WIDE, ACCURACY)
    waiting, rng = [], np.random.default_rng(0)
    for number in range(150):
        pending = [a for _, a, _ in waiting]
        proposal = strategy.ask(np.random.default_rng(number), pending)
        waiting.append((number, proposal.architecture, proposal.reason))
        if len(waiting) > 16:
            number, design, reason = waiting.pop(rng.integers(len(waiting)))
            metrics = {"accuracy": width(design)}
            strategy.tell(Trial(number, design, "finished", metrics, reason=reason))
    assert np.mean([width(a) for _, a, _ in waiting]) > 15 + 3


def test_the_reason_holds_the_probability_of_the_design():
    strategy = Reinforce(CELL, ACCURACY)
    reason = strategy.ask(np.random.default_rng(0), []).reason
    assert reason.kind == "policy"
    assert reason.scores["log_probability"] == pytest.approx(-math.log(CELL.size))
    assert reason.scores["entropy"] == pytest.approx(math.log(CELL.size))


def test_a_trial_that_the_controller_did_not_propose_counts_as_drawn_uniformly():
    strategy = Reinforce(CELL, ACCURACY)
    design = CELL.sample(np.random.default_rng(0))
    strategy.tell(trial(0, design, 0.5, reason=Reason("engineer", "somebody wanted it")))
    (lesson,) = strategy.policy.lessons
    assert lesson.proposed == pytest.approx(-math.log(CELL.size))


def test_the_chances_of_options_tell_what_was_learned():
    strategy = Reinforce(WIDE, ACCURACY)
    first = strategy.ask(np.random.default_rng(0), []).reason.chances
    assert first == {d.name: pytest.approx((0.25,) * 4) for d in WIDE.decisions}
    searched(strategy, 60, lambda a: {"accuracy": width(a)})
    asked = [strategy.ask(np.random.default_rng(i), []).reason for i in range(20)]
    rows = [row for reason in asked for row in reason.chances.values()]
    assert len(rows) > 6 * 10
    assert all(sum(row) == pytest.approx(1) for row in rows)
    assert np.mean([row[3] for row in rows]) > 0.4


def test_chances_are_of_active_decisions_and_make_up_the_log_probability():
    reason = (proposal := Reinforce(TREE, ACCURACY).ask(np.random.default_rng(0), [])).reason
    chosen = proposal.architecture.options
    assert set(reason.chances) == set(chosen)
    ranks = {name: TREE.by_name[name].options.index(o) for name, o in chosen.items()}
    total = sum(math.log(reason.chances[name][rank]) for name, rank in ranks.items())
    assert total == pytest.approx(reason.scores["log_probability"])


@pytest.mark.parametrize("make", [Reinforce, Generator])
def test_a_dump_is_a_cache_of_the_replay(make):
    trials = []

    def told(strategy, start, stop):
        for number in range(start, stop):
            proposal = strategy.ask(np.random.default_rng((0, number)), [])
            metrics = {"accuracy": width(proposal.architecture), "params": number + 1.0}
            trials.append(
                Trial(number, proposal.architecture, "finished", metrics, reason=proposal.reason)
            )
            strategy.tell(trials[-1])
        return strategy

    whole = told(make(WIDE, ACCURACY), 0, 60)
    data = make(WIDE, ACCURACY)
    for trial_ in trials[:50]:
        data.tell(trial_)
    again = make(WIDE, ACCURACY)
    again.restore(data.policy.dump(), {t.number: t for t in trials})
    assert again.policy.told == list(range(50))
    for trial_ in trials[50:]:
        again.tell(trial_)
    asked = [s.ask(np.random.default_rng(9), []) for s in (whole, again)]
    assert asked[0] == asked[1]


@pytest.mark.parametrize("make", [Reinforce, Generator])
def test_earlier_searches_teach_before_the_first_trial(make):
    rng = np.random.default_rng(0)
    designs = [WIDE.sample(rng) for _ in range(80)]
    earlier = tuple(trial(i, a, width(a)) for i, a in enumerate(designs))
    drawn = {}
    for name, known in (("none", ()), ("some", earlier)):
        strategy = make(WIDE, ACCURACY, earlier=known)
        asked = [strategy.ask(np.random.default_rng(i), []) for i in range(20)]
        drawn[name] = np.mean([width(p.architecture) for p in asked])
    assert drawn["some"] > drawn["none"] + 2


def test_rewards_within_a_budget():
    costs = np.array([1.0, 2.0, 3.0, np.nan])
    quality = np.array([0.1, 0.2, 0.9, 0.0])
    loose, tight = within_budgets(costs, quality, np.array([3.0, 2.0]))
    assert loose.argmax() == 2
    assert tight.tolist() == [0, 1, 0, 0]  # in the worse half, best, beyond it, without a cost


@pytest.mark.parametrize("objectives", [ACCURACY, BOTH], ids=["one", "two"])
def test_one_generator_answers_for_many_budgets(objectives):
    strategy = Generator(WIDE, objectives)
    designs = searched(
        strategy, 200, lambda a: {"accuracy": math.sqrt(width(a)), "params": 100 * width(a)}
    )
    means = {}
    for budget in (1000, 2000):
        drawn = strategy.generate(budget, np.random.default_rng(0), 12)
        assert len({str(a) for a in drawn}) == len(drawn) > 3
        means[budget] = np.mean([100 * width(a) for a in drawn])
    assert means[1000] < 1500 < means[2000]  # 1500 is the mean of the space
    assert means[2000] - means[1000] > 300
    assert len(designs) == 200


def test_a_bound_is_the_budget():
    bound = (Constraint("params", "max", 1200.0),)
    strategy = Generator(WIDE, ACCURACY, bound)
    searched(strategy, 60, lambda a: {"accuracy": width(a), "params": 100 * width(a)})
    asked = [strategy.ask(np.random.default_rng(s), []).reason.scores for s in range(20)]
    budgets = [scores["budget"] for scores in asked]
    assert max(budgets) == pytest.approx(1200)
    assert min(budgets) < 1199


def test_without_costs_there_are_no_budgets():
    strategy = Generator(WIDE, ACCURACY)
    searched(strategy, 30, lambda a: {"accuracy": width(a)})
    assert "budget" not in strategy.ask(np.random.default_rng(0), []).reason.scores
    with pytest.raises(UserError, match=r"expected 10 trials that report a cost .* got 0"):
        strategy.generate(1.0, np.random.default_rng(0))

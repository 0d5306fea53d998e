import time
from dataclasses import replace

import numpy as np
import pytest

from raynas.architecture import changes
from raynas.evaluation import FunctionEvaluator
from raynas.objective import Constraint, Objective
from raynas.session import Context, NoFeasibleDesign, Session, carry_out, run_local
from raynas.strategies import make
from raynas.trial import Job, Proposal, Reason
from tests.spaces import CELL, MERGED, score
from tests.test_strategy_contract import ONE, Memory


def make_session(constraints=(), strategy="random", space=CELL, costs=score, seed=0):
    return Session(
        space, make(strategy, space, ONE), ONE, Memory(), costs, tuple(constraints), seed
    )


def limit(bound):
    return Constraint("params", "max", bound)


def test_a_refused_design_is_recorded_and_never_evaluated():
    session, evaluated = make_session([limit(150)]), []

    def evaluate(architecture):
        evaluated.append(architecture)
        return score(architecture)

    run_local(session, FunctionEvaluator(evaluate), 20, Context(0))
    trials = session.archive.trials
    refused = [t for t in trials if t.status == "infeasible"]
    assert len(evaluated) == 20
    assert refused
    assert all(score(a)["params"] <= 150 for a in evaluated)
    assert refused[0].error == f"params {refused[0].metrics['params']:,.0f} > 150"
    assert not {str(t.architecture) for t in refused} & {str(a) for a in evaluated}


def test_a_tight_limit_is_reached_by_walking_towards_it(monkeypatch):
    monkeypatch.setattr("raynas.session.ASKS", 3)
    session = make_session([limit(16)])  # one design in sixteen has no convolution and width 16
    job = session.ask()
    assert score(job.architecture)["params"] <= 16
    assert job.proposal.reason.kind in ("random", "derived")


def test_an_impossible_limit_names_the_nearest_design():
    with pytest.raises(NoFeasibleDesign, match=r"keeps max_params=10 .*params 16 > 10: tiny_cell"):
        make_session([limit(10)]).ask()


def test_no_network_is_proposed_twice_under_another_name(monkeypatch):
    monkeypatch.setattr("raynas.session.ASKS", 2)
    session = make_session([limit(16)], space=MERGED)
    seen = []

    def ask_on():
        for _ in range(200):
            seen.append(MERGED.identity(session.ask().architecture))

    with pytest.raises(NoFeasibleDesign, match="tried already"):
        ask_on()
    assert len(seen) == len(set(seen)) > 5


def test_what_was_running_is_handed_out_again_first():
    session = make_session()
    first, second = session.ask(), session.ask()
    session.tell(next(iter(trials_of(second))))
    again = make_session()
    again.resume(session.archive.jobs, session.archive.trials)
    assert again.ask() == first
    assert again.ask().number == 2


def trials_of(job, evaluate=score, timeout=None):
    for trial, _ in carry_out(job, FunctionEvaluator(evaluate), ONE, Context(0), timeout):
        yield trial


def job(number=0):
    design = CELL.sample(np.random.default_rng(number))
    return Job(number, Proposal(design, Reason("random", "a test")), 1, {"params": 5.0}, 0.0)


class Curve:
    """An evaluator with three readings and weights."""

    metrics, epochs, split = None, 3, "abc"

    def costs(self, architecture):
        return {}

    def evaluate(self, architecture, context):
        for epoch in range(3):
            yield {"accuracy": epoch / 10}
        return b"weights"


def test_a_trial_grows_with_each_reading_and_ends_with_the_weights():
    seen = list(carry_out(job(), Curve(), ONE, Context(0)))
    assert [t.status for t, _ in seen] == ["stopped_early"] * 3 + ["finished"]
    assert [w for _, w in seen] == [None, None, None, b"weights"]
    last = seen[-1][0]
    assert [r["accuracy"] for r in last.curve] == [0.0, 0.1, 0.2]
    assert last.metrics == {"accuracy": 0.2, "params": 5.0}
    assert (last.fidelity, last.split) == (3, "abc")


@pytest.mark.parametrize(
    ("evaluate", "message"),
    [
        (lambda a: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda a: {"accuracy": float("nan")}, "accuracy is nan: expected a finite number"),
        (lambda a: {"loss": 1.0}, "expected accuracy; missing accuracy; got loss, params"),
        (lambda a: 3.0, "expected metrics such as"),
        (lambda a: {"accuracy": "high"}, "ValueError: could not convert"),
    ],
)
def test_whatever_an_evaluation_does_wrong_is_a_failed_trial(evaluate, message):
    last = list(trials_of(job(), evaluate))[-1]
    assert last.status == "failed"
    assert message in last.error


def test_an_evaluation_past_its_limit_fails():
    def slow(architecture):
        time.sleep(0.05)
        return score(architecture)

    (last,) = trials_of(job(), slow, timeout=0.01)
    assert (last.status, "ran past the limit of 0.01 s" in last.error) == ("failed", True)


def test_the_deadline_keeps_what_there_is():
    session = make_session()
    run_local(session, Curve(), 5, Context(0), deadline=time.monotonic() + 0.2)
    assert session.usable == 5
    run_local(session, Curve(), 5, Context(0), deadline=time.monotonic())
    assert session.usable == 5


def test_an_interrupt_loses_only_what_is_running():
    session, calls = make_session(), []

    def interrupted(architecture):
        calls.append(architecture)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return score(architecture)

    with pytest.raises(KeyboardInterrupt):
        run_local(session, FunctionEvaluator(interrupted), 10, Context(0))
    assert len(session.archive.trials) == 3
    assert len(session.archive.jobs) == 4


def test_objectives_may_come_from_costs():
    params = (Objective.parse("params:min"),)
    (trial, _), *_ = carry_out(job(), FunctionEvaluator(lambda a: {}), params, Context(0))
    assert trial.metrics == {"params": 5.0}


def without_dead_parts(architecture):
    if architecture["a_to_out"] == "none":
        return CELL.architecture({**architecture.options, "input_to_a": "none"})
    return architecture


PRUNED = replace(MERGED, simplify=without_dead_parts)


def test_the_plainest_design_is_the_one_that_is_evaluated():
    session = make_session(space=PRUNED, strategy="evolution")
    run_local(session, FunctionEvaluator(score), 120, Context(0))
    trials = session.archive.trials
    assert len(trials) == 120
    assert all(without_dead_parts(t.architecture) == t.architecture for t in trials)
    assert len({PRUNED.identity(t.architecture) for t in trials}) == 120
    by_number = {job.number: job for job in session.archive.jobs}
    for job in session.archive.jobs:  # the reason tells the edits that were really made
        for parent in job.proposal.reason.parents:
            told = job.proposal.reason.changed
            assert told == changes(by_number[parent].architecture, job.architecture)


def test_a_design_that_cannot_be_built_is_a_failed_trial():
    def costs(architecture):
        if architecture["a_to_out"] == "conv3x3":
            raise TypeError("no such layer")
        return score(architecture)

    session = make_session(costs=costs)
    run_local(session, FunctionEvaluator(score), 30, Context(0))
    failed = [t for t in session.archive.trials if t.status == "failed"]
    assert failed
    assert all(t.error.startswith("TypeError: no such layer") for t in failed)
    assert session.learned["finished"] == 30


def test_a_space_of_which_nothing_can_be_built_is_given_up():
    def costs(architecture):
        raise TypeError("no such layer")

    with pytest.raises(NoFeasibleDesign, match="could not be built; the last: TypeError: no such"):
        make_session(costs=costs).ask()


def test_a_search_begins_where_it_is_told_to():
    wanted = [
        Proposal(CELL.sample(np.random.default_rng(s)), Reason("engineer", f"start {s}"))
        for s in (5, 6)
    ]
    session = make_session()
    session.starts = [*wanted, wanted[0]]
    jobs = [session.ask() for _ in range(3)]
    assert [j.proposal for j in jobs[:2]] == wanted
    assert jobs[2].proposal.reason.kind == "random"

"""What every strategy must do. A new row in STRATEGIES is tested here without a new test."""

from functools import partial

import numpy as np
import pytest

from raynas.evaluation import FunctionEvaluator
from raynas.objective import Objective
from raynas.session import Context, Session, run_local
from raynas.strategies import PROPOSING, SpaceExhausted
from raynas.strategies import make as build
from raynas.trial import KINDS, Trial
from tests.spaces import CELL, MERGED, TREE, home, score

ONE = (Objective.parse("accuracy:max"),)
THREE = (*ONE, Objective.parse("params:min"), Objective.parse("flops:min"))
pytestmark = pytest.mark.parametrize(
    "make", [partial(build, name) for name in PROPOSING], ids=PROPOSING
)


class Memory:
    """An archive that is a list."""

    def __init__(self):
        self.jobs, self.trials = [], []

    def propose(self, job):
        self.jobs.append(job)

    def record(self, trial, weights=None):
        self.trials.append(trial)

    def wants_weights(self, trial):
        return False


def home_of(make, otherwise=MERGED):
    return home(make.args[0], otherwise)


def searched(make, seed=0, trials=80, objectives=ONE, evaluate=score, space=None, after=None):
    archive, space = Memory(), space or home_of(make)
    session = Session(space, make(space, objectives), objectives, archive, lambda a: {}, seed=seed)
    if after:
        session.resume(after.jobs, after.trials)
        archive.jobs, archive.trials = list(after.jobs), list(after.trials)
    run_local(session, FunctionEvaluator(evaluate), trials, Context(seed))
    return session


def told(session):
    """What a search proposed and why; times aside."""
    return [(j.number, j.proposal, j.seed) for j in session.archive.jobs]


@pytest.mark.parametrize("objectives", [ONE, THREE], ids=["one", "three"])
@pytest.mark.parametrize("seed", range(3))
def test_proposals_are_in_the_space_and_new(make, seed, objectives):
    trials = searched(make, seed, objectives=objectives).archive.trials
    space = home_of(make)
    for trial in trials:
        space.check(trial.architecture)
    assert len({space.identity(t.architecture) for t in trials}) == len(trials) == 80


def test_every_proposal_says_why(make):
    jobs = searched(make).archive.jobs
    for job in jobs:
        reason = job.proposal.reason
        assert reason.kind in KINDS
        assert len(reason.note) > 10
        assert all(parent < job.number for parent in reason.parents)
        assert bool(reason.changed) == bool(reason.parents)


def test_same_seed_same_search(make):
    np.random.seed(1)  # noqa: NPY002  # the global generator must not matter
    first = told(searched(make, seed=7))
    np.random.seed(2)  # noqa: NPY002
    assert told(searched(make, seed=7)) == first
    assert told(searched(make, seed=8)) != first


def test_asking_changes_nothing(make):
    strategy = searched(make).strategy
    first, again = (strategy.ask(np.random.default_rng(5), []) for _ in range(2))
    assert first == again


def test_resumes_from_its_archive_alone(make):
    whole = searched(make, seed=3, trials=90)
    part = searched(make, seed=3, trials=60)
    resumed = searched(make, seed=3, trials=30, after=part.archive)
    assert told(resumed) == told(whole)


def test_parallel_proposals_differ(make):
    strategy = searched(make, trials=30).strategy
    pending = []
    for number in range(30, 40):
        pending.append(strategy.ask(np.random.default_rng(number), pending).architecture)
    assert len({home_of(make).identity(a) for a in pending}) == 10


def test_survives_failures(make):
    def flaky(architecture):
        if sum(map(ord, str(architecture))) % 5 == 0:
            raise RuntimeError("out of luck")
        return score(architecture)

    session = searched(make, evaluate=flaky)
    assert session.learned["failed"] > 0
    assert session.learned["finished"] > 0
    assert sum(session.learned.values()) == 80
    assert all(t.status == "finished" or "out of luck" in t.error for t in session.archive.trials)


def test_never_sees_the_test_split(make):
    seen = []

    def watched(space, objectives):
        strategy = make(space, objectives)
        tell = strategy.tell
        strategy.tell = lambda trial: (seen.append(trial), tell(trial))
        return strategy

    tested = {"evaluate": lambda a: {**score(a), "test_accuracy": 1.0}}
    searched(watched, trials=10, space=home_of(make), **tested)
    assert len(seen) == 10
    assert not any(n.startswith("test_") for t in seen for n in (*t.metrics, *t.curve[0]))


def test_says_when_the_space_is_exhausted(make):
    space = home_of(make, TREE)
    session = searched(make, trials=200, space=space, evaluate=lambda a: {"accuracy": 0.5})
    assert len(session.archive.trials) == space.size
    with pytest.raises(SpaceExhausted, match=f"all designs of the space '{space.name}'"):
        session.ask()


def test_learns_from_trials_of_any_status(make):
    space = home_of(make, CELL)
    strategy = make(space, ONE)
    rng = np.random.default_rng(0)
    for number, status in enumerate(("failed", "infeasible", "lost", "stopped_early", "finished")):
        metrics = score(space.sample(rng)) if status in ("stopped_early", "finished") else {}
        strategy.tell(Trial(number, space.sample(rng), status, metrics))
    space.check(strategy.ask(rng, []).architecture)

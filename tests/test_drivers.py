"""The same results in the same order make the same search, whichever driver carries it out."""

import json
import math
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import pytest

import raynas
from raynas.evaluation import FunctionEvaluator
from raynas.session import Context, Session, carry_out, run_local
from raynas.strategies import PROPOSING, make
from raynas.trial import job_from_dict
from tests.spaces import MERGED, home, score
from tests.test_strategy_contract import ONE, Memory, told

TRIALS = 60
JUDGE = FunctionEvaluator(score)
every_strategy = pytest.mark.parametrize("strategy", PROPOSING)


@dataclass
class Watched:
    """A session that notes what it answered and what it was told, in order."""

    session: Session
    events: list = field(default_factory=list)

    def ask(self):
        job = self.session.ask()
        self.events.append(job)
        return job

    def tell(self, trial, recorded=False):
        self.events.append(trial)
        self.session.tell(trial, recorded)

    def __getattr__(self, name):
        return getattr(self.session, name)


def new(strategy):
    """A session without a driver."""
    space = home(strategy, MERGED)
    strategy = make(strategy, space, ONE, trials=TRIALS)
    return Session(space, strategy, ONE, Memory(), JUDGE.costs)


def evaluated(job):
    *_, (trial, _) = carry_out(job, JUDGE, ONE, Context(job.seed))
    return trial


def through_tune(strategy, at_once):
    """A search as Tune drives it, `at_once` trials at a time that end in a random order."""
    from raynas.tune.searcher import SessionSearcher
    from raynas.tune.trainable import _result

    watched, running, rng = Watched(new(strategy)), {}, np.random.default_rng(1)
    given = (watched, None, TRIALS, lambda: at_once, math.inf)
    searcher = SessionSearcher(*given, batches=at_once > 1, gpus=0.0, max_failures=3)
    for number in count():
        config = searcher.suggest(str(number)) if len(running) < at_once else None
        if isinstance(config, dict):
            running[str(number)] = config
            continue
        if not running:
            break
        trial_id = rng.choice(list(running))
        jobs = json.loads(running.pop(trial_id)["jobs"])
        trials = [evaluated(job_from_dict(data)) for data in jobs]
        searcher.on_trial_complete(trial_id, _result(trials, recorded=True))
    assert searcher.error is None
    assert searcher.done
    return watched


def told_of(job):
    return job.number, job.proposal, job.seed


def replayed(watched, session):
    """The same events for another session, which evaluates for itself."""
    jobs = {}
    for event in watched.events:
        if event.number not in jobs:
            jobs[event.number] = job = session.ask()
            assert told_of(job) == told_of(event)
        else:
            session.tell(evaluated(jobs[event.number]))
    assert sorted(jobs) == list(range(TRIALS))


@every_strategy
def test_one_at_a_time_tune_proposes_what_the_local_driver_does(strategy):
    local = new(strategy)
    run_local(local, JUDGE, TRIALS, Context(0))
    assert told(through_tune(strategy, at_once=1)) == told(local)


@every_strategy
def test_results_that_race_make_the_search_that_their_order_makes(strategy):
    watched = through_tune(strategy, at_once=4)
    assert [e.number for e in watched.events[:3]] == [0, 1, 2]  # asked ahead of results
    replayed(watched, new(strategy))


@pytest.fixture(scope="module")
def cluster():
    import raynas.tune  # before ray, which reads its environment when imported  # noqa: F401

    import ray  # isort: skip

    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init(address="local", num_cpus=1, **quiet)
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["random", "evolution:population=8,tournament=3"])
def test_on_a_cluster_too(cluster, tmp_path, monkeypatch, strategy):
    from raynas import sessions as making

    sessions = []

    def watched(*args, **options):
        sessions.append(Watched(Session(*args, **options)))
        return sessions[-1]

    monkeypatch.setattr(making, "Session", watched)
    options = {"space": MERGED, "strategy": strategy, "evaluator": JUDGE, "trials": TRIALS}
    options["explanation_level"] = "brief"  # one session: the search alone
    found = [
        raynas.search({"objectives": ["accuracy"]}, **options, driver=driver, run=tmp_path / driver)
        for driver in ("tune", "local")
    ]
    replayed(sessions[0], new(strategy))
    if strategy == "random":  # asks only what is new: pending or told is the same to it
        texts = [list(r.proposals.sort_values("number")["architecture"]) for r in found]
        assert texts[0] == texts[1]

"""Searches on Ray: parallel, with trials that fail in every way, and processes that die."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import raynas
from raynas.objective import Objective
from raynas.trial import Trial
from tests.spaces import CELL, score

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
BOTH = (Objective.parse("accuracy:max"), Objective.parse("params:min"))


@pytest.fixture(scope="module")
def cluster():
    """One small cluster for the module: starting one takes seconds."""
    import raynas.tune  # before ray, which reads its environment when imported  # noqa: F401

    import ray  # isort: skip

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield ray
    ray.shutdown()


def search(tmp_path, **options):
    options = {"evaluator": score, "run": tmp_path / "run", "trials": 12, **options}
    problem = {"objectives": ["accuracy:max", "params:min"]}
    return raynas.search(problem, space=CELL, **options)


class Slow:
    """Nine readings, the later ones better; good designs are good from the start."""

    metrics, epochs, split = None, 9, ""

    def costs(self, architecture):
        return {"params": score(architecture)["params"]}

    def evaluate(self, architecture, context):
        for epoch in range(9):
            time.sleep(0.02)
            yield {"accuracy": score(architecture)["accuracy"] * 0.9 + epoch / 100}


def misbehave(architecture):
    """Fails in another way for each option of the first edge."""
    way = architecture["input_to_a"]
    if way == "skip":
        raise RuntimeError("a bug in the evaluator")
    if way == "conv1x1":
        return {"accuracy": float("nan"), "params": 1.0}
    if way == "conv3x3":
        os._exit(3)  # as a crash in native code, or the kernel's out-of-memory killer
    if way == "avgpool3x3":
        time.sleep(600)
    return score(architecture)


def test_trials_run_in_parallel_and_all_are_kept(cluster, tmp_path):
    result = search(tmp_path, trials=30)
    assert sorted(result.trials["number"]) == list(range(30))
    assert set(result.trials["status"]) == {"finished"}
    assert len(result.proposals) == 30
    assert result.trials["node"].notna().all()
    assert not list((tmp_path / "run").rglob("*.pkl"))


def test_whatever_a_trial_does_the_search_goes_on(cluster, tmp_path):
    result = search(tmp_path, evaluator=misbehave, strategy="random", trials=16, trial_timeout=2.0)
    causes = result.trials.set_index("d.input_to_a")["error"].fillna("").str.split("\n").str[0]
    expected = {
        "none": "",
        "skip": "RuntimeError: a bug in the evaluator",
        "conv1x1": "accuracy is nan: expected a finite number.",
        "conv3x3": "the trial's process died",
        "avgpool3x3": "hung past the limit of 2 s per trial",
    }
    assert len(result.trials) == 16
    assert set(causes.index) == set(expected)  # the seed meets every way
    for way, cause in causes.items():
        assert cause.startswith(expected[way]), way
        assert bool(cause) == bool(expected[way])


def test_designs_that_are_behind_are_stopped_early(cluster, tmp_path):
    result = search(tmp_path, evaluator=Slow(), trials=24)
    counts = result.trials["status"].value_counts()
    assert counts["stopped_early"] >= 4  # how many depends on which results come first
    assert counts["finished"] >= 2
    stopped = result.trials[result.trials["status"] == "stopped_early"]
    assert set(stopped["fidelity"]) <= {1, 3}
    finished = result.trials[result.trials["status"] == "finished"]
    assert finished["m.params"].min() < finished["m.params"].max()  # not only the large ones


def test_one_objective_uses_rays_own_halving(cluster, tmp_path):
    result = raynas.search(
        {"objectives": ["accuracy"]},
        space=CELL,
        evaluator=Slow(),
        strategy="random",
        trials=16,
        run=tmp_path / "run",
    )
    assert set(result.trials["status"]) == {"finished", "stopped_early"}


def test_no_scheduler_trains_all_to_the_end(cluster, tmp_path):
    result = search(tmp_path, evaluator=Slow(), trials=6, scheduler="none")
    assert set(result.trials["fidelity"]) == {9}


def test_the_time_budget_stops_what_is_running_and_keeps_it(cluster, tmp_path):
    class Long(Slow):
        epochs = 1000

        def evaluate(self, architecture, context):
            for _ in range(1000):
                time.sleep(0.1)
                yield {"accuracy": 0.5}

    result = search(tmp_path, evaluator=Long(), scheduler="none", time_budget_hours=4 / 3600)
    assert set(result.trials["status"]) == {"stopped_early"}
    assert result.trials["seconds"].max() < 30
    assert not result.interrupted


def test_the_archive_actor_may_die(cluster, tmp_path):
    from raynas.tune import archive_actor

    search(tmp_path, trials=4)
    archive = archive_actor.start(tmp_path / "run")
    assert archive.find(0).number == 0
    cluster.kill(archive._actor, no_restart=False)
    assert archive.find(3).number == 3  # restarted by Ray, read back from disk
    archive.close()


def test_a_run_that_somebody_writes_is_left_alone(cluster, tmp_path, monkeypatch):
    from raynas.archive import Archive

    search(tmp_path, trials=4)
    monkeypatch.setattr("raynas.archive.DYING", 0.2)
    writer = Archive(tmp_path / "run")
    with pytest.raises(raynas.UserError, match="is being written by another process"):
        raynas.resume(tmp_path / "run", evaluator=score, trials=8)
    writer.close()
    assert len(raynas.resume(tmp_path / "run", evaluator=score, trials=8).trials) == 8


def test_images_are_trained_with_the_threads_of_the_trial(cluster, tmp_path):
    result = raynas.search(
        {"constraints": {"max_params": 60_000}},
        trials=2,
        epochs=2,
        scheduler="none",
        strategy="random",
        cpus_per_trial=2,
        run=tmp_path / "run",
    )
    finished = result.trials[result.trials["status"] == "finished"]
    assert len(finished) == 2
    assert finished["m.test_accuracy"].between(0, 1).all()
    assert finished["split"].nunique() == 1
    assert result.get_model() is not None
    assert result.layers()[0]["name"] == "layer0"


def test_more_than_the_cluster_has_is_refused(cluster, tmp_path):
    with pytest.raises(raynas.UserError, match="asks for 64 CPUs and 0 GPUs; the cluster has 2"):
        search(tmp_path, cpus_per_trial=64)


def test_an_address_that_nobody_answers():
    from raynas.tune.driver import _connect

    with pytest.raises(raynas.UserError, match="no Ray cluster answers at"):
        _connect("127.0.0.1:1")


SCRIPT = """
import sys, time
import raynas
from tests.spaces import CELL, score

def evaluate(architecture):
    time.sleep(0.3)
    return score(architecture)

if sys.argv[1] == "search":
    raynas.search({"objectives": ["accuracy:max", "params:min"]}, space=CELL, evaluator=evaluate,
                  strategy="random", trials=40, run=sys.argv[2])
else:
    raynas.resume(sys.argv[2], evaluator=evaluate)
"""


def test_a_killed_search_resumes_with_nothing_lost_or_doubled(tmp_path):
    run = tmp_path / "run"
    driver = subprocess.Popen([sys.executable, "-c", SCRIPT, "search", str(run)], cwd=ROOT)
    try:
        until = time.monotonic() + 120
        while time.monotonic() < until and driver.poll() is None:
            if run.exists() and (run / "run.json").exists() and len(raynas.load(run).trials) >= 8:
                break
            time.sleep(0.2)
        assert driver.poll() is None
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    before = raynas.load(run).trials.set_index("number")
    assert 8 <= len(before) < 40
    subprocess.run([sys.executable, "-c", SCRIPT, "resume", str(run)], cwd=ROOT, check=True)
    after = raynas.load(run)
    assert sorted(after.trials["number"]) == list(range(40))
    assert sorted(after.proposals["number"]) == list(range(40))
    kept = after.trials.set_index("number").loc[before.index]
    assert kept["started_at"].equals(before["started_at"])  # read back, not run again
    assert after.trials["architecture"].is_unique


def test_halving_keeps_the_front_and_the_lonely():
    from raynas.tune.schedulers import ParetoHalving, rungs

    assert rungs(12) == [2, 6]
    assert rungs(9) == [1, 3]
    assert rungs(1) == []
    halving = ParetoHalving(BOTH, [2])

    def told(accuracy, params, epoch=2):
        result = {"epoch": epoch, "accuracy": accuracy, "params": params}
        return halving.on_trial_result(None, None, result)

    assert told(0.9, 100) == "CONTINUE"  # the first of a rung always goes on
    assert told(0.8, 200) == "STOP"  # dominated
    assert told(0.7, 300) == "STOP"
    assert told(0.2, 10) == "CONTINUE"  # small: on the front
    assert told(0.1, 400, epoch=1) == "CONTINUE"  # no rung
    assert told(0.1, 400) == "STOP"


def test_a_resumed_search_compares_with_what_came_before():
    from raynas.tune.schedulers import Halving, ParetoHalving, scheduler

    curve = tuple({"accuracy": a} for a in (0.5, 0.8, 0.9))
    past = [Trial(i, CELL.sample(np.random.default_rng(i)), "finished", {"params": 100.0 + i},
                  curve=curve) for i in range(3)]  # fmt: skip
    fresh, resumed = (scheduler("asha", BOTH, 9, p) for p in ((), past))
    assert isinstance(resumed, ParetoHalving)
    behind = {"epoch": 3, "accuracy": 0.4, "params": 900.0}
    assert fresh.on_trial_result(None, None, behind) == "CONTINUE"
    assert resumed.on_trial_result(None, None, behind) == "STOP"
    own = scheduler("asha", BOTH[:1], 9, past)
    assert isinstance(own, Halving)
    kept = {stop: set(recorded.values()) for stop, recorded in own._brackets[0]._rungs}
    assert {1: {0.5}, 3: {0.9}} == {stop: kept[stop] for stop in (1, 3)}

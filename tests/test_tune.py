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
from raynas.supernet import read
from tests.spaces import CELL, TREE, score

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]


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
    """Of one part: each part of a search starts processes of its own, which takes seconds."""
    given = {"evaluator": score, "run": tmp_path / "run", "trials": 12}
    options = given | {"explanation_level": "brief"} | options
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


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


def runs_out_of_memory(architecture):
    if architecture["input_to_a"] == "skip":
        raise OutOfMemoryError("on this design")
    return score(architecture)


class Missing:
    """An evaluator that needs a package that the nodes do not have."""

    metrics, epochs, split = None, 1, ""

    def costs(self, architecture):
        return {}

    def __setstate__(self, state):
        raise ModuleNotFoundError("No module named 'timm'")

    def __getstate__(self):
        return {}


def test_a_process_goes_on_after_a_trial_that_ran_out_of_memory(cluster, tmp_path):
    trials = search(tmp_path, evaluator=runs_out_of_memory, strategy="random", trials=16).trials
    assert sorted(trials["number"]) == list(range(16))
    short = trials["d.input_to_a"] == "skip"
    assert short.any()
    assert set(trials[short]["status"]) == {"failed"}
    assert set(trials[~short]["status"]) == {"finished"}


def test_what_keeps_processes_from_starting_is_said(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("raynas.tune.searcher.HOPELESS", 1)
    with pytest.raises(raynas.UserError, match="No module named 'timm'"):
        search(tmp_path, evaluator=Missing())


def test_what_a_failed_trial_printed_is_kept(cluster, tmp_path):
    def talks(architecture):
        print("about to fail")
        raise RuntimeError("as it said")

    trials = search(tmp_path, evaluator=talks, trials=2).trials
    assert trials["log"].tolist() == ["about to fail"] * 2


def test_trials_run_in_parallel_and_all_are_kept(cluster, tmp_path):
    result = search(tmp_path, trials=30, explanation_level="standard")
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
        explanation_level="brief",
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


def test_the_controller_is_an_actor_that_may_die(cluster, tmp_path):
    from functools import partial

    from raynas.strategies import make
    from raynas.tune import archive_actor
    from raynas.tune.controller_actor import DUMP, RemoteStrategy

    result = search(tmp_path, strategy="reinforce", trials=60)
    assert len(result.trials) == 60
    drawn = result.proposals[result.proposals["kind"] == "policy"]
    assert len(drawn) > 30
    chances = dict(drawn["chances"].iloc[-1])
    assert set(chances) == {d.name for d in CELL.decisions}
    assert (tmp_path / "run" / DUMP).exists()

    archive = archive_actor.start(tmp_path / "run")
    both = (Objective.parse("accuracy:max"), Objective.parse("params:min"))
    started = partial(make, "reinforce", CELL, both)
    strategy = RemoteStrategy.start(started, archive)
    before = strategy.ask(np.random.default_rng(5), [])
    cluster.kill(strategy.actor, no_restart=False)
    assert strategy.ask(np.random.default_rng(5), []) == before  # replayed
    (tmp_path / "run" / DUMP).write_bytes(b"torn")
    again = RemoteStrategy.start(started, archive)
    assert again.ask(np.random.default_rng(5), []).architecture is not None
    archive.close()


def test_what_was_sent_to_a_controller_is_learned_before_its_archive_closes(cluster, tmp_path):
    from functools import partial

    from raynas.strategies import make
    from raynas.strategies.preferring import Preferring
    from raynas.trial import Trial
    from raynas.tune import archive_actor
    from raynas.tune.controller_actor import DUMP, EVERY, RemoteStrategy, dump_of, settle

    search(tmp_path, strategy="random", trials=4, driver="local")
    archive = archive_actor.start(tmp_path / "run")
    narrow = CELL.narrow(pins={"width": 32})
    started = partial(make, "reinforce", narrow, (Objective.parse("accuracy:max"),))
    strategy = RemoteStrategy.start(started, archive, space=narrow)
    tried = raynas.load(tmp_path / "run").trials
    inside = set(tried.loc[tried["d.width"] == 32, "number"])
    assert cluster.get(strategy.actor.told.remote()) == inside  # the others are of no use to it
    rng = np.random.default_rng(0)
    for number in range(4, 4 + EVERY - len(inside)):
        design = narrow.sample(rng)
        strategy.tell(Trial(number, design, "finished", score(design), fidelity=1))
    settle(Preferring(narrow, strategy, ()))
    archive.close()
    kept = [path.name for path in (tmp_path / "run").glob("controller*")]
    assert kept == [dump_of(started(), narrow)] != [DUMP]
    assert dump_of(started(), None) == DUMP
    assert dump_of(started(), CELL) != kept[0]  # never restored into another controller


def test_a_controller_on_its_own_says_when_the_space_is_exhausted(cluster, tmp_path):
    result = raynas.search(
        {"objectives": ["accuracy"]},
        space=TREE,
        evaluator=lambda a: {"accuracy": 0.5},
        strategy="reinforce",
        trials=100,
        run=tmp_path / "run",
    )
    assert len(result.trials) == TREE.size
    assert "all designs of the space 'tree' have been tried" in result.ended_because


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
    with pytest.raises(raynas.UserError, match="asks for 64 CPUs and 0 GPUs on one node"):
        search(tmp_path, cpus_per_trial=64)


def test_an_address_that_nobody_answers():
    from raynas.tune.driver import _connect

    with pytest.raises(raynas.UserError, match="no Ray cluster answers at"):
        _connect("127.0.0.1:1")


SCRIPT = """
import sys, time
import raynas
from raynas.objective import Objective
from raynas.supernet import read
from tests.spaces import CELL, TREE, score

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


SHARED = {
    "space": "nasbench201:channels=4,cells=1",
    "strategy": "random",
    "trials": 40,
    "epochs": 1,
    "batch_size": 200,
}


def test_shared_weights_are_trained_scored_and_confirmed_on_the_cluster(cluster, tmp_path):
    run = tmp_path / "run"
    evaluation = "shared:epochs=2,finalists=2,probes=2"
    result = raynas.search({}, run=run, evaluation=evaluation, **SHARED)
    counts = result.trials["purpose"].value_counts()
    assert {k: int(n) for k, n in counts.items() if n} == {
        "search": 40,
        "confirm": 2,
        "uniform_probe": 2,
        "supernet": 1,
    }
    assert (result.trials["status"] == "finished").all()
    assert len(result.front()) >= 1
    local = raynas.search(
        {},
        run=tmp_path / "local",
        driver="local",
        evaluation=f"shared:weights={run / 'supernet/weights.safetensors'},probes=0",
        **SHARED,
    )
    scores = [
        r.trials[r.trials["purpose"] == "search"].set_index("architecture")["m.shared_loss"]
        for r in (result, local)
    ]
    both = scores[0].index.intersection(scores[1].index)
    assert len(both) == 40
    np.testing.assert_allclose(scores[0][both].astype(float), scores[1][both], rtol=1e-3)


def test_a_killed_training_of_shared_weights_goes_on_from_its_checkpoint(tmp_path):
    run = tmp_path / "run"
    code = f"""
import raynas, raynas.one_shot
raynas.one_shot.SECONDS = 0.0
raynas.search({{}}, run={str(run)!r}, evaluation="shared:epochs=40,finalists=1,probes=0",
              driver="local", **{ {**SHARED, "trials": 2}!r})
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL)
    weights = run / "supernet/weights.safetensors"
    deadline = time.monotonic() + 120
    while not weights.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(read(weights.read_bytes())[1]["notes"]["readings"])
    assert 1 <= done < 40
    result = raynas.resume(run)
    assert len(result.trials["c.train_loss"].iloc[0]) == 40
    assert list(result.trials["purpose"]) == ["supernet", "search", "search", "confirm"]

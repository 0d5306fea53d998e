"""Searches on a cluster whose nodes come and go."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import raynas
from tests.spaces import CELL, score

pytestmark = pytest.mark.slow
OBJECTIVES = {"objectives": ["accuracy:max", "params:min"]}


@pytest.fixture
def cluster(monkeypatch):
    """A head without processors; nodes that die are noticed within seconds."""
    for name, value in (("period_ms", 500), ("timeout_ms", 1000), ("failure_threshold", 3)):
        monkeypatch.setenv(f"RAY_health_check_{name}", str(value))
    import raynas.tune  # before ray, which reads its environment when imported  # noqa: F401

    import ray  # isort: skip
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield made
    ray.shutdown()
    made.shutdown()


class Searching:
    """A search in a thread, and what its run shows of it meanwhile."""

    def __init__(self, run, cluster, **options):
        self.run, self._error = run, None
        options = {"scheduler": "none", "explanation_level": "brief", "gpus_per_trial": 0} | options
        options |= {"space": CELL, "run": run, "address": cluster.address}
        self._thread = threading.Thread(target=self._search, args=[options], daemon=True)
        self._thread.start()

    def _search(self, options):
        try:
            self.result = raynas.search(OBJECTIVES, **options)
        except BaseException as error:
            self._error = error

    def until(self, what, seconds=60):
        """Returns what the run shows as soon as that is so."""
        end = time.monotonic() + seconds
        while True:
            try:
                now = json.loads((self.run / "log/now.json").read_text())
                if what(now):
                    return now
            except (FileNotFoundError, KeyError):
                now = None
            assert self._thread.is_alive(), f"it ended before: {self._error}"
            assert time.monotonic() < end, now
            time.sleep(0.1)

    def ended(self, seconds=120):
        self._thread.join(seconds)
        assert not self._thread.is_alive()
        if self._error:
            raise self._error
        return self.result


def takes_a_second(architecture):
    time.sleep(1.1)
    return score(architecture)


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


def greedy(architecture):
    """Every other design needs more than half a GPU."""
    import ray

    share = ray.get_runtime_context().get_assigned_resources()["GPU"]
    found = score(architecture)
    if share < 1 and found["params"] // 100 % 2:
        raise OutOfMemoryError("CUDA out of memory")
    return found | {"share": share}


def takes_a_while(architecture):
    time.sleep(0.2)
    return {**score(architecture), "accuracy": -1.0}


class Counting:
    """Counts to twelve by a checkpoint in the run, and notes each time where it begins."""

    metrics, epochs, split = None, 12, ""

    def __init__(self, notes):
        self.notes = notes

    def costs(self, architecture):
        return {"params": 1.0}

    def evaluate(self, architecture, context):
        import ray

        kept = context.files.cached(context.checkpoint)
        first = int(kept) if kept else 0
        node = ray.get_runtime_context().get_node_id()
        with self.notes.open("a") as file:
            print(first, node, file=file)
        for epoch in range(12):
            if epoch >= first:
                time.sleep(0.5)
                context.files.cache(context.checkpoint, str(epoch + 1).encode())
            yield {"accuracy": 0.5 + epoch / 100}


def test_as_many_trials_run_as_the_nodes_that_are_there_have_room_for(cluster, tmp_path):
    cluster.add_node(num_cpus=1)
    search = Searching(tmp_path / "run", cluster, evaluator=takes_a_second, trials=45)
    alone = search.until(lambda now: now["done"] >= 2)
    assert (alone["slots"], alone["wanted"]) == (1, 2)
    more = cluster.add_node(num_cpus=3)
    wide = search.until(lambda now: now["slots"] == 4 and len(now["running"]) == 5)
    assert wide["wanted"] == 5
    search.until(lambda now: now["done"] >= wide["done"] + 12)
    cluster.remove_node(more, allow_graceful=False)
    narrow = search.until(lambda now: now["slots"] == 1 and now["gone"] == 1 and now["restarts"])
    assert narrow["waiting"]
    cluster.add_node(num_cpus=2)
    search.until(lambda now: now["slots"] == 3)
    trials = search.ended().trials
    assert set(trials["status"]) == {"finished"}
    assert sorted(trials["number"]) == list(range(45))
    begun = trials["started_at"].astype("int64") / 1e6
    at_once = [((begun <= t) & (t < begun + trials["seconds"])).sum() for t in begun]
    assert max(at_once) == 4
    assert not (tmp_path / "run/log/now.json").exists()


def test_a_trial_goes_on_elsewhere_from_its_last_checkpoint(cluster, tmp_path):
    notes, nodes = tmp_path / "notes", [cluster.add_node(num_cpus=1) for _ in range(2)]
    search = Searching(tmp_path / "run", cluster, evaluator=Counting(notes), trials=1)
    search.until(lambda _: (tmp_path / "run/checkpoints/0.safetensors").exists(), 40)
    time.sleep(1.5)
    where = notes.read_text().split()[1]
    cluster.remove_node(next(n for n in nodes if n.node_id == where), allow_graceful=False)
    trials = search.ended().trials
    (first, _), (again, elsewhere) = (line.split() for line in notes.read_text().splitlines())
    assert (first, elsewhere != where) == ("0", True)
    assert int(again) >= 2
    assert trials["status"].tolist() == ["finished"]
    assert trials["fidelity"].tolist() == [12]
    assert len(trials["c.accuracy"][0]) == 12
    assert not any((tmp_path / "run/checkpoints").iterdir())


def test_a_trial_whose_nodes_all_die_is_lost_and_says_nothing_of_its_design(cluster, tmp_path):
    notes, nodes = tmp_path / "notes", {}
    for _ in range(2):
        node = cluster.add_node(num_cpus=1)
        nodes[node.node_id] = node
    options = {"evaluator": Counting(notes), "trials": 2, "max_failures": 0}
    search = Searching(tmp_path / "run", cluster, **options)
    search.until(lambda _: notes.exists() and len(notes.read_text().splitlines()) == 2, 40)
    cluster.remove_node(nodes[notes.read_text().split()[1]], allow_graceful=False)
    trials = search.ended().trials.set_index("number")
    assert sorted(trials["status"]) == ["finished", "lost"]
    lost = trials[trials["status"] == "lost"].iloc[0]
    assert "node" in lost["error"]


def test_what_needs_more_than_its_share_of_a_gpu_is_tried_with_a_whole_one(cluster, tmp_path):
    cluster.add_node(num_cpus=4, num_gpus=1)
    options = {"evaluator": greedy, "trials": 4, "gpus_per_trial": 0.5}
    trials = Searching(tmp_path / "run", cluster, **options).ended().trials
    assert sorted(trials["number"]) == list(range(4))
    assert set(trials["status"]) == {"finished"}
    assert set(trials["m.share"]) == {0.5, 1.0}


OTHER = """
import sys, time, raynas
from tests.spaces import CELL, score

def evaluate(architecture):
    time.sleep(0.3)
    return score(architecture)

raynas.search(
    {"objectives": ["accuracy:max", "params:min"]}, space=CELL, evaluator=evaluate, trials=40,
    run=sys.argv[1], address=sys.argv[2], explanation_level="brief", gpus_per_trial=0,
    max_concurrent=1,
)
"""


@pytest.mark.cluster
def test_two_searches_share_a_cluster_and_a_disk(cluster, tmp_path):
    cluster.add_node(num_cpus=2)
    command = [sys.executable, "-c", OTHER, str(tmp_path / "two"), cluster.address]
    other = subprocess.Popen(command, cwd=Path(__file__).parents[1])
    while not (tmp_path / "two/log/now.json").exists():
        assert other.poll() is None
        time.sleep(0.1)
    options = {"evaluator": takes_a_while, "trials": 20, "max_concurrent": 1}
    one = Searching(tmp_path / "one", cluster, **options).ended().trials
    assert other.wait(120) == 0
    two = raynas.load(tmp_path / "two").trials
    for trials, number in ((one, 20), (two, 40)):
        assert sorted(trials["number"]) == list(range(number))
        assert set(trials["status"]) == {"finished"}
    assert set(one["m.accuracy"]) == {-1.0}
    assert (two["m.accuracy"] >= 0).all()
    assert one["started_at"].max() > two["started_at"].min()
    assert two["started_at"].max() > one["started_at"].min()


def test_a_time_budget_ends_a_search_that_never_had_room(cluster, tmp_path):
    options = {"evaluator": score, "trials": 5, "max_concurrent": 2, "time_budget_hours": 4 / 3600}
    result = Searching(tmp_path / "run", cluster, **options).ended(40)
    assert not result.interrupted
    assert not len(result.trials)


def test_what_fits_on_no_node_is_said_at_once(cluster, tmp_path):
    cluster.add_node(num_cpus=1)
    with pytest.raises(raynas.UserError, match="asks for 1 CPUs and 1 GPUs on one node"):
        raynas.search(
            OBJECTIVES,
            space=CELL,
            evaluator=score,
            trials=2,
            gpus_per_trial=1,
            run=tmp_path / "run",
            address=cluster.address,
        )

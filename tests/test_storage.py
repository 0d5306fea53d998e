"""Runs in an object store: by a real client against an S3 server of this machine, and in memory."""

import os
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

import raynas
from raynas import archive as archive_module
from raynas import files, lock, patience, tables
from raynas.archive import Archive, being_written
from raynas.cli import main
from raynas.continuing import continue_with_feedback
from raynas.remote import Remote, StoreError
from raynas.result import load
from raynas.run import ArchiveError, RunInfo, grown, read
from raynas.trial import Trial
from tests.spaces import CELL, TREE, score
from tests.test_archive import info, job, trial

ROOT = Path(__file__).parents[1]
TWO = {"objectives": ["accuracy:max", "params:min"]}


def forget_clients():
    """Those of another module's server would be used again."""
    import s3fs

    raynas.remote._system.cache_clear()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def bucket():
    """An S3 server on loopback, in a process of its own, and a bucket in it."""
    code = (
        "import sys, threading\n"
        "from moto.server import ThreadedMotoServer\n"
        "server = ThreadedMotoServer('127.0.0.1', 0, verbose=False); server.start()\n"
        "print(server.get_host_and_port()[1], flush=True); sys.stdin.read()"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    access = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{int(server.stdout.readline())}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "not-a-real-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in access.items():
            patch.setenv(name, value)
        import boto3

        boto3.client("s3").create_bucket(Bucket="runs")
        forget_clients()
        yield "s3://runs"
        forget_clients()
    server.stdin.close()
    server.stdout.close()
    server.wait(10)


@pytest.fixture
def new():
    """A place of its own, in memory."""
    return f"memory://runs/{uuid.uuid4().hex}"


@pytest.fixture
def run(new):
    place = files.place(new)
    info().write(place)
    return place


@pytest.fixture
def hurried(monkeypatch):
    """Leases that are renewed and taken over ten times as fast."""
    for name in ("RENEW", "STALE", "SETTLED"):
        monkeypatch.setattr(lock, name, getattr(lock, name) / 10)


def soon(what, seconds=10.0):
    """Returns when something holds; fails if it does not soon."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.01)


def numbers(run):
    found = read(run, TREE)
    jobs, trials = tables.jobs_from(found.proposals), tables.trials_from(found.trials)
    return sorted(j.number for j in jobs), sorted(t.number for t in trials)


def test_a_place_is_used_like_a_path(new, tmp_path):
    place = files.place(new)
    assert str(place / "a" / "b.txt") == f"{new}/a/b.txt"
    assert (place / "a/b.txt").parent == place / "a"
    assert not place.exists()
    assert list(place.iterdir()) == []
    (place / "a/b.txt").write_bytes(b"one")
    (place / "c.txt").write_bytes(b"two")
    assert [p.name for p in sorted(place.iterdir())] == ["a", "c.txt"]
    assert list((place / "a").glob("*.txt")) == [place / "a/b.txt"]
    assert place.is_dir()
    assert (place / "c.txt").is_file()
    files.move(place / "c.txt", place / "d.txt")
    assert (place / "d.txt").read_text() == "two"
    assert files.read_contents([place / "c.txt", place / "d.txt"]) == [None, b"two"]
    files.remove([place / "c.txt", place / "d.txt"])
    with pytest.raises(FileNotFoundError):
        (place / "d.txt").read_bytes()
    assert files.place(tmp_path) == tmp_path == files.place(f"file://{tmp_path}")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("s4://runs/a", "expected a folder, or a URL such as"),
        ("s3://key:secret@runs/a", "without a name, password or setting in it"),
        ("s3://runs/a?endpoint_url=x", "without a name, password or setting in it"),
        ("s3://runs/../a", "without '..'"),
        ("s3://runs", "expected s3://BUCKET/RUN"),
        (Path("s3://runs/a"), "expected a URL as text"),
    ],
)
def test_what_is_no_place_is_said(url, why):
    with pytest.raises(raynas.UserError, match=why):
        files.place(url)


def test_a_missing_client_is_named(monkeypatch):
    import fsspec

    from raynas import remote as module

    def absent(*_, **__):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "filesystem", absent)
    module._system.cache_clear()
    try:
        with pytest.raises(raynas.UserError, match=r"pip install 'raynas\[s3\]'"):
            files.place("s3://runs/a")
    finally:
        module._system.cache_clear()


def test_all_that_is_kept_is_read_back(run):
    archive = Archive(run)
    failed = Trial(2, job(2).architecture, "failed", error="boom")
    for entry in (trial(0), trial(1, 0.25), failed):
        archive.propose(job(entry.number))
        archive.record(entry, b"weights")
    assert len(list((run / "log").glob("*.jsonl"))) == 6  # an object per acknowledgement
    assert numbers(run) == ([0, 1, 2], [0, 1, 2])
    archive.close()
    found = read(run, TREE)
    assert list(tables.trials_from(found.trials)) == [trial(0), trial(1, 0.25), failed]
    assert not list((run / "log").iterdir())
    assert [p.name for p in sorted((run / "models").iterdir())] == ["0.json", "0.safetensors"]
    assert len(load(str(run)).front()) == 1


def test_one_commit_is_one_object(run):
    archive = Archive(run)
    archive.append([(job(n), None) for n in range(5)])
    assert len(list((run / "log").glob("*.jsonl"))) == 1
    archive.close()


def test_a_second_writer_waits_for_the_first(run):
    first = Archive(run)
    assert being_written(run)
    with pytest.raises(ArchiveError, match="is being written by another process"):
        Archive(run, wait=0.0)
    first.close()
    assert not being_written(run)
    Archive(run, wait=0.0).close()


def test_who_was_cut_off_is_taken_over_and_loses_nothing(run, hurried, monkeypatch):
    first = Archive(run)
    first.record(trial(0))
    with monkeypatch.context() as patch:
        patch.setattr(lock.Lease, "renew", lambda self: None)  # no renewal arrives
        second = Archive(run)
        second.record(trial(1))
        assert numbers(run)[1] == [0, 1]
    with pytest.raises(ArchiveError, match="was taken over by another process"):
        first.record(trial(2, 0.1))
    with pytest.raises(ArchiveError, match="was taken over by another process"):
        first.roll()
    second.record(trial(2, 0.9))  # run again there
    second.close()
    found = list(tables.trials_from(read(run, TREE).trials))
    assert found == [trial(0), trial(1), trial(2, 0.9)]
    Archive(run).close()  # what came late is found, and is a duplicate
    assert list(tables.trials_from(read(run, TREE).trials)) == found


def test_late_rows_of_who_was_cut_off_are_counted_once(run):
    trials = [trial(0, 0.1), trial(5)]
    late = tables.trials_table(trials, grown(None, trials, TREE))
    archive = Archive(run)
    archive.record(trial(0))
    archive.close()
    files.write_table(run / "trials/part-000001-ffffffff.parquet", late)
    assert numbers(run)[1] == [0, 5]


def test_each_writer_has_parts_of_its_own(run, monkeypatch):
    for first in (0, 2):
        archive = Archive(run)
        archive.record(trial(first))
        archive.roll()
        archive.record(trial(first + 1))
        archive.close()
    names = [p.name.split("-") for p in sorted((run / "trials").iterdir())]
    assert [name[1] for name in names] == ["000001", "000002"]
    assert numbers(run)[1] == [0, 1, 2, 3]


@pytest.mark.parametrize("step", ["trials", "front", "drop"])
def test_a_crash_while_rolling_loses_and_doubles_nothing(run, hurried, monkeypatch, step):
    def crash(*_):
        raise KeyboardInterrupt

    archive = Archive(run)
    for number in range(4):
        archive.propose(job(number))
        archive.record(trial(number))
    with monkeypatch.context() as patch:
        if step == "trials":
            patch.setattr(archive_module, "write_table", crash)
        elif step == "drop":
            patch.setattr("raynas.log.remove", crash)
        else:
            patch.setattr(Archive, "_write_front", crash)
        with pytest.raises(KeyboardInterrupt):
            archive.roll()
    archive._lock._ended.set()  # as of a process that died: nobody renews, nobody lets go
    assert numbers(run) == ([0, 1, 2, 3], [0, 1, 2, 3])
    archive = Archive(run)
    archive.record(trial(4))
    archive.close()
    assert numbers(run) == ([0, 1, 2, 3], [0, 1, 2, 3, 4])
    total = sum(len(files.read_table(p)) for p in (run / "trials").glob("part-*"))
    assert total == 5


def test_a_store_that_does_not_answer_acknowledges_nothing(run, monkeypatch):
    archive = Archive(run)
    with monkeypatch.context() as patch:
        patch.setattr(Remote, "_system", property(lambda self: 1 / 0))
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(archive.record, trial(0))
            soon(lambda: archive.trouble)
            archive.stop_waiting()  # as whoever closes it does
            with pytest.raises(StoreError, match="cannot be used: division by zero"):
                waiting.result(10)
        with pytest.raises(StoreError):  # and not "is not a run", or "nobody said anything"
            load(str(run))
    assert archive.trouble == ""
    archive.record(trial(0, 0.7))
    archive.close()
    assert list(tables.trials_from(read(run, TREE).trials)) == [trial(0, 0.7)]


def test_a_writer_waits_for_a_store_that_comes_back(run, monkeypatch, caplog):
    archive = Archive(run)
    real, failures = Remote.write_bytes, iter([1, 1])

    def write(self, content):
        if next(failures, 0):
            raise StoreError(f"{self} cannot be used: no route.")
        real(self, content)

    monkeypatch.setattr(patience, "FIRST", 0.01)
    monkeypatch.setattr(Remote, "write_bytes", write)
    archive.record(trial(0))
    assert "no route. Nothing is lost: it is tried again by itself, for 0 s now." in caplog.text
    assert "It goes on after 0 s" in caplog.text
    archive.propose(job(1))
    failures = iter([0, 1, 0, 1])  # between the parts of trials and proposals
    archive.close()
    assert numbers(run) == ([1], [0])
    assert sum(len(files.read_table(p)) for p in (run / "trials").glob("part-*")) == 1


def test_a_search_in_memory_is_one_in_a_folder(new, tmp_path):
    options = {"space": CELL, "evaluator": score, "trials": 20, "driver": "local"}
    there = raynas.search(TWO, run=new, **options)
    here = raynas.search(TWO, run=tmp_path / "run", **options)
    assert there.trials["architecture"].tolist() == here.trials["architecture"].tolist()
    assert there.claims["kind"].tolist() == here.claims["kind"].tolist()
    assert there.sentences() == here.sentences()
    assert "<html" in (there.path / "report.html").read_text()
    names = {str(p).removeprefix(f"{new}/") for p in there.path.iterdir()}
    assert {"run.json", "trials", "front.parquet", "claims", "report.html"} <= names
    with pytest.raises(ArchiveError, match="exists already"):
        raynas.search(TWO, run=new, **options)


def test_feedback_and_undoing_it_by_url(new):
    options = {"space": CELL, "evaluator": score, "trials": 12, "driver": "local"}
    result = raynas.search(TWO, run=new, **options)
    more = {"space": CELL, "evaluator": score, "trials": 6}
    result = continue_with_feedback(new, {"avoid": {"a_to_out": ["conv3x3"]}}, **more)
    later = result.trials[result.trials["number"] >= 12]
    assert len(later) >= 6
    assert "conv3x3" not in set(later[later["purpose"] == "search"]["d.a_to_out"])
    assert main(["undo", new]) == 0
    assert [t.move for t in RunInfo.read(files.place(new)).said] == ["feedback", "undo"]


def test_networks_and_their_files_come_from_the_store(new, tmp_path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    result = raynas.search(
        {"constraints": {"max_params": 30_000}},
        trials=2,
        epochs=1,
        subset=200,
        strategy="random",
        explanation_level="brief",
        driver="local",
        run=new,
    )
    model = load(new).get_model()
    with torch.no_grad():
        assert model(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    exported = result.export()
    assert exported.parent == Path("exports")
    assert exported.with_suffix(".safetensors").exists()


def test_a_latency_table_is_kept_in_the_store(new):
    from raynas import targets
    from raynas.latency import table

    rows = pd.DataFrame(
        {"call": ["relu(1)"], "operation": ["relu"], "median_ms": [0.1], "spread_ms": [0.0]}
    )
    given = files.place(f"{new}/tables/mine.parquet")
    table.write(given, rows, {"device": "cpu", "threads": 1})
    run = files.place(f"{new}/run")
    targets.keep(run, {"table": str(given), "device": "cpu"})
    assert targets.ready({"table": None, "device": "cpu"}, run).table.times == {"relu(1)": 0.1}


SEARCH = """
import sys, time
from raynas import archive, lock, resume, search
from raynas.files import place
from tests.spaces import CELL, score

url, kept = sys.argv[1:]
lock.RENEW, lock.STALE, lock.SETTLED, archive.ROLL_SECONDS = 0.3, 1.5, 0.1, 0.3

def slow(architecture):
    time.sleep(0.02)
    return score(architecture)

class Told(archive.Archive):
    def record(self, trial, weights=None):
        super().record(trial, weights)
        with open(kept, "a") as file:  # what was acknowledged, as a caller knows it
            print(trial.number, repr(trial.started_at), file=file)

archive.Archive = Told
import raynas.running
raynas.running.Archive = Told
given = {"space": CELL, "evaluator": slow, "trials": 60}
if (place(url) / "run.json").exists():
    resume(url, **given)
else:
    search({"objectives": ["accuracy:max", "params:min"]}, run=url, driver="local", **given)
"""


@pytest.mark.slow
def test_a_search_on_s3_survives_being_killed(bucket, hurried, tmp_path, capsys):
    url, kept = f"{bucket}/killed", tmp_path / "acknowledged"
    files.write_atomically(files.place(f"{bucket}/killed-not/run.json"), b"of another run")
    kept.touch()
    for more in (5, 23):
        before = len(kept.read_text().splitlines())
        process = subprocess.Popen([sys.executable, "-c", SEARCH, url, str(kept)], cwd=ROOT)
        until = time.monotonic() + 60
        while len(kept.read_text().splitlines()) < before + more:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.005)
        process.kill()
        process.wait()
    acknowledged = dict(line.split() for line in kept.read_text().splitlines())
    assert len(acknowledged) == len(kept.read_text().splitlines())  # none was run again
    assert {str(n) for n in load(url).trials["number"]} >= set(acknowledged)
    result = raynas.resume(url, space=CELL, evaluator=score, trials=60)
    assert sorted(result.trials["number"]) == list(range(len(result.trials)))
    started = result.trials.set_index("number")["started_at"]
    for number, at in acknowledged.items():  # and what was acknowledged is what is there
        assert started[int(number)].timestamp() == pytest.approx(float(at), abs=1e-5)
    place = files.place(url)
    assert not list((place / "log").iterdir())
    rows = pd.read_parquet(f"{url}/trials")  # nothing of ours: pandas and the environment
    assert sorted(rows["number"]) == list(range(len(result.trials)))
    assert "not-a-real-secret" not in (place / "run.json").read_text()
    capsys.readouterr()
    assert main(["status", url]) == 0
    assert "not running" in capsys.readouterr().out
    assert main(["front", url]) == 0
    assert main(["report", url, "--space", str(ROOT / "tests/spaces.py:CELL")]) == 0
    assert f"{url}/report.html" in capsys.readouterr().out


@pytest.mark.slow
def test_a_search_on_s3_through_ray(bucket):
    import raynas.tune  # before ray, which reads its environment when imported

    import ray  # isort: skip

    url = f"{bucket}/ray"
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init(address="local", num_cpus=2, **quiet)
    try:
        result = raynas.search(TWO, space=CELL, evaluator=score, trials=16, run=url)
        assert sorted(result.trials["number"]) == list(range(16))
        result = raynas.resume(url, space=CELL, evaluator=score, trials=24)
        assert sorted(result.trials["number"]) == list(range(24))
    finally:
        ray.shutdown()

"""`raynas status` and `raynas trial`: what a person sees of a search, while it runs and after."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from raynas import columns, status_command
from raynas.archive import Archive
from raynas.cli import main
from raynas.columns import Columns
from raynas.files import place
from raynas.overview import causes, overview, plain
from raynas.problem import Problem
from raynas.result import load
from raynas.run import RunInfo, read
from raynas.trial import Job, Proposal, Reason, Trial
from raynas.watching import NOW
from tests.spaces import CELL, score

ROOT = Path(__file__).parents[1]
CLOCK = 1.7e9
ERROR = "RuntimeError: size {n} against {m} at 0x7f{n:010x}\n  File model.py, line {n}\n"


def info(objectives=("accuracy:max", "params:min"), **settings):
    settings = {"space": None, "explanation_level": "standard", "seed": 0, "recipe": {}, **settings}
    settings |= {"search_training": False}
    problem = Problem.of({"objectives": list(objectives)})
    return RunInfo(problem, CELL, settings, {}, {"raynas": "0"}, "raynas search")


def job(number, design, scores=None, **reason):
    reason = {"kind": "random", "note": "drawn from the whole space", **reason}
    proposal = Proposal(design, Reason(scores=scores or {}, **reason))
    return Job(number, proposal, number, {}, CLOCK + number)


def made_up(run, count=40, unfinished=2, logs=True):
    """A run of designs that take a second each; every tenth fails, every ninth is refused."""
    info().write(run)
    archive, rng = Archive(run), np.random.default_rng(0)
    for n in range(count + unfinished):
        design = CELL.sample(rng)
        mean = score(design)["accuracy"]
        reason = {"scores": {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}}
        if n > 2:
            changed = (("width", "16", "32"),)
            reason |= {"kind": "mutation", "note": "a child of the best of ten"}
            reason |= {"parents": (n - 2,), "changed": changed}
        archive.propose(job(n, design, **reason))
        if n < count:
            archive.record(trial(n, design, logs))
    return archive


def trial(n, design, logs=True):
    times = {"started_at": CLOCK + n, "seconds": 1.0, "seed": n, "node": "w1", "device": "cpu"}
    if n % 10 == 9:
        log = "Epoch 1 \x1b[31mred\x1b[0m\nKilled" if logs else None
        error = ERROR.format(n=n, m=2 * n)
        return Trial(n, design, "failed", {}, error=error, log=log, **times)
    if n % 9 == 8:
        return Trial(n, design, "infeasible", {"params": 9.0}, error="params 9,000 > 50", **times)
    metrics = {**score(design), "test_accuracy": 0.5}
    curve = tuple({"accuracy": metrics["accuracy"] * e / 30} for e in range(1, 31))
    return Trial(n, design, "finished", metrics, 30, curve, **times)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = tmp_path_factory.mktemp("status") / "run"
    made_up(run).close()
    return run


@pytest.fixture
def running(tmp_path):
    """A run that is being written."""
    archive = made_up(tmp_path / "run")
    yield tmp_path / "run"
    archive.close()


def show(run, **fields):
    now = {
        "at": time.time(), "host": "laptop", "pid": 7, "driver": "tune", "cluster": "10.0.0.1:6379",
        "title": "2 of 3: the search", "done": 40, "all": 100, "deadline": None,
        "running": [[40, 3], [41, 0]], "waiting": 1, "slots": 2, "wanted": 5,
        "nodes": [{"name": "head", "address": "10.0.0.1", "cpus": 4, "gpus": 0, "head": True},
                  {"name": "w1", "address": "10.0.0.2", "cpus": 8, "gpus": 2, "head": False}],
        "gone": 1, "rate": 0.5, "trouble": "the disk of /nfs is full", "restarts": 4, **fields,
    }  # fmt: skip
    (run / NOW).write_text(json.dumps(now))


def said(capsys, *arguments):
    code = main([str(a) for a in arguments])
    found = capsys.readouterr()
    return code, found.out, found.err


def test_a_search_that_runs(running, capsys):
    show(running)
    code, out, err = said(capsys, "status", running)
    assert (code, err) == (0, "")
    for text in (
        "running on the cluster 10.0.0.1:6379 from laptop (process 7), at work for 40 s",
        "2 of 3: the search",
        "40 of 100 done; about 2 min 0 s left, until ",
        "32 finished, 4 failed, 4 over a limit (not measured); 2 handed out",
        "handed out: 40 (epoch 3), 41; 1 of them waiting for resources",
        "places: 2, at most 5 handed out",
        "2 nodes: head (4 CPUs, head), w1 (8 CPUs and 2 GPUs); 1 lost since it began",
        "pace: 0.5 trials/s in the last minute (30 a minute), 1 overall",
        "run again because a process or a node was lost: 4 trials",
        "trouble: the disk of /nfs is full",
        "best so far: trial ",
        "best params: trial ",
        "32 of 32 within their 90 % intervals",
        "4 trials failed:",
        "  4 x RuntimeError: size N against N at N (such as trial 39)",
        f"to read on: raynas trial {running} 39 --log",
    ):
        assert text in out
    assert "to go on" not in out


def test_a_search_that_was_killed(run, capsys):
    show(run)  # which is left when its process is killed
    _, out, _ = said(capsys, "status", run)
    assert "not running, at work for 40 s" in out
    assert "; 2 to be run again on resume" in out
    assert f"to go on: raynas resume {run}" in out
    for text in ("10.0.0.1", "places", "trouble", "last minute", "left"):
        assert text not in out


def test_a_driver_that_is_not_heard_of(running, capsys):
    assert "running, at work" in said(capsys, "status", running)[1]  # nothing is shown yet
    show(running, at=time.time() - 61)
    assert "its driver has not been heard of for a minute" in said(capsys, "status", running)[1]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"at": "now"}', '{"at": NaN', "\x00\xff"])
def test_what_it_shows_may_be_broken(running, text, capsys):
    (running / NOW).write_text(text)
    code, out, err = said(capsys, "status", running)
    assert code == 0
    assert "running, at work" in out
    assert "now.json cannot be read and was passed over" in err


def test_what_it_shows_may_come_from_anybody(running, capsys):
    nodes = [{"name": "\x1b[2Jw", "cpus": "many"}]
    show(running, nodes=nodes, running=[[1]], done="all", trouble="\x1b]0;gone\x07", waiting=[])
    code, out, _ = said(capsys, "status", running)
    assert code == 0
    assert "\x1b" not in out
    assert "trouble: �]0;gone�" in out


def test_the_deadline_comes_before_the_pace(running):
    run = Columns(running)
    show(running, deadline=time.time() + 30)
    assert overview(run).left == pytest.approx(30, abs=2)
    show(running, rate=None)
    assert overview(run).left is None
    show(running, rate=30.0)
    assert overview(run).left == pytest.approx(2)


def test_one_object_for_machines(running, capsys):
    show(running)
    code, out, _ = said(capsys, "status", running, "--json")
    data = json.loads(out)
    assert code == 0
    assert data["state"] == "running"
    assert data["trials"] == {"trials": {"finished": 32, "failed": 4, "infeasible": 4}}
    assert data["unfinished"] == 2
    assert data["trials_per_second"] == {"last_minute": 0.5, "overall": 1.0}
    best = load(running).front()
    assert data["front"] == list(best["number"])
    assert data["best"]["accuracy"]["trial"] == best["number"].iloc[0]
    assert data["best"]["params"]["metrics"]["params"] == best["m.params"].min()
    assert data["failures"] == [
        {"text": "RuntimeError: size N against N at N", "count": 4, "trial": 39}
    ]
    assert data["refused"] == [{"text": "params N > N", "count": 4, "trial": 35}]
    assert data["now"]["restarts"] == 4


def test_watching_ends_with_the_search(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(status_command, "SELDOM", 0.1)
    archive = made_up(tmp_path / "run")
    show(tmp_path / "run")
    threading.Timer(0.5, archive.close).start()
    code, out, _ = said(capsys, "status", tmp_path / "run", "--watch")
    assert code == 0
    assert out.count("running on the cluster") >= 2
    assert out.count("not running") == 1
    assert out.strip().endswith(f"raynas resume {tmp_path / 'run'}")


def test_watching_ends_with_an_interrupt(running, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    assert main(["status", str(running), "--watch"]) == 0


def test_columns_are_what_reading_all_of_it_gives(running):
    run, whole = Columns(running), read(running, CELL)
    names = whole.trials.column_names
    assert run.trials(names).sort_by("number").equals(whole.trials.sort_by("number"))
    names = whole.proposals.column_names
    assert run.proposals(names).sort_by("number").equals(whole.proposals.sort_by("number"))
    rows = run.rows("trials", [3, 39]).sort_by("number").select(whole.trials.column_names)
    assert rows.to_pylist() == whole.trials.sort_by("number").take([3, 39]).to_pylist()
    assert run.rows("proposals", [41]).to_pylist() == whole.proposals.take([41]).to_pylist()
    assert run.trials(["number", "m.never_met"])["m.never_met"].null_count == 40


def test_the_front_is_that_of_the_whole_run(running):
    front, whole = Columns(running).front(), load(running).front()
    assert list(front["number"]) == list(whole["number"])
    assert len(front) > 1


def test_a_part_is_read_once_until_it_changes(tmp_path, monkeypatch):
    opened = []
    real = columns.pq.ParquetFile

    def counting(source, *rest):
        opened.append(source)
        return real(source, *rest)

    archive = made_up(tmp_path / "run")
    archive.roll()
    run = Columns(tmp_path / "run")
    monkeypatch.setattr(columns.pq, "ParquetFile", counting)
    assert len(run.trials(["number"])) == 40
    assert len(opened) == 1
    run.refresh()
    assert len(run.trials(["number"])) == 40
    assert len(opened) == 1
    archive.record(trial(50, CELL.sample(np.random.default_rng(1))))
    run.refresh()
    assert len(run.trials(["number"])) == 41  # it is in the log
    assert len(opened) == 1
    archive.roll()
    run.refresh()
    assert len(run.trials(["number"])) == 41
    assert len(opened) == 2
    archive.close()


def test_only_columns_that_are_needed_are_read(run, monkeypatch):
    asked = set()
    real = columns.pq.ParquetFile.read

    def recording(self, columns=None, **rest):
        asked.update(columns)
        return real(self, columns=columns, **rest)

    monkeypatch.setattr(columns.pq.ParquetFile, "read", recording)
    overview(Columns(run))
    assert asked == {
        "number", "status", "purpose", "started_at", "seconds", "error", "scores",
        "m.accuracy", "m.params",
    }  # fmt: skip


def test_a_number_counts_once(tmp_path):
    made_up(tmp_path / "run").close()
    first = tmp_path / "run/trials/part-000001.parquet"
    first.with_name("part-000002-late.parquet").write_bytes(first.read_bytes())
    run = Columns(tmp_path / "run")
    assert run.trials(["number"])["number"].to_pylist() == list(range(40))
    assert len(run.rows("trials", [3])) == 1


def test_a_broken_part_is_passed_over_and_said(tmp_path, capsys):
    made_up(tmp_path / "run").close()
    (tmp_path / "run/trials/part-000009.parquet").write_bytes(b"torn")
    code, out, err = said(capsys, "status", tmp_path / "run")
    assert code == 0
    assert "32 finished" in out
    assert err.count("part-000009.parquet is broken") == 1


def test_a_run_in_a_store(capsys):
    url = "memory://bucket/status"
    archive = made_up(place(url))
    try:
        assert "running, at work for 40 s" in said(capsys, "status", url)[1]
        assert "trial 3: finished" in said(capsys, "trial", url, 3)[1]
        run = Columns(place(url))
        before = len(run.trials(["number"]))
        archive.record(trial(60, CELL.sample(np.random.default_rng(1))))
        archive.roll()
        run.refresh()
        assert len(run.trials(["number"])) == before + 1
    finally:
        archive.close()
    assert "not running" in said(capsys, "status", url)[1]


def test_neither_torch_nor_ray_nor_scipy_is_needed(tmp_path):
    info().write(tmp_path / "run")
    for command in (["status", str(tmp_path / "run")], ["trial", str(tmp_path / "run"), "0"]):
        code = f"import sys\nfrom raynas.cli import main\nmain({command!r})\nprint(*sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
        )
        loaded = done.stdout.split()
        assert "raynas.columns" in loaded
        assert not {"torch", "ray", "scipy", "sklearn", "matplotlib"} & set(loaded)


def test_a_run_without_trials(tmp_path, capsys):
    info().write(tmp_path / "run")
    assert "no trials" in said(capsys, "status", tmp_path / "run")[1]
    code, _, err = said(capsys, "trial", tmp_path / "run", 0)
    assert code == 1
    assert "has no trial 0: it has no trials yet" in err


def test_causes_of_failures_are_grouped():
    lines = ["E: 1 of 2", "E: 30 of 4.5e-3", "out of memory", None, "E: 7 of 1,024\nmore"]
    rows = pd.DataFrame({"number": range(5), "error": lines})
    found = [(c.text, c.count, c.trial) for c in causes(rows)]
    assert found == [("E: N of N", 3, 4), ("no message", 1, 3), ("out of memory", 1, 2)]


def test_one_trial(run, capsys):
    code, out, _ = said(capsys, "trial", run, 3)
    row = load(run).trials.set_index("number").loc[3]
    assert code == 0
    for text in (
        "trial 3: finished after 30 epochs; purpose: search",
        "took 1.0 s on w1 (cpu)",
        "seed 3",
        "why: a child of the best of ten (mutation)",
        "made from: trial 1",
        "  width: 16 → 32",
        "believed: mean ",
        f"design: {row['architecture']}",
        f"  accuracy: {100 * row['m.accuracy']:.1f} %",
        "  test accuracy: 50.0 %",
    ):
        assert text in out
    table = out[out.index("epoch  ") :].splitlines()
    epochs = [int(line.split()[0]) for line in table[1:]]
    assert (len(epochs), epochs[0], epochs[-1]) == (12, 1, 30)
    assert table[-1].split()[1] == f"{100 * row['m.accuracy']:.1f}"


def test_a_trial_that_failed(run, capsys):
    out = said(capsys, "trial", run, 39)[1]
    assert "trial 39: failed after 0 epochs" in out
    assert "RuntimeError: size 39 against 78" in out
    assert "File model.py, line 39" in out  # all of the error
    assert f"raynas trial {run} 39 --log" in out
    assert said(capsys, "trial", run, 39, "--log")[1] == "Epoch 1 �[31mred�[0m\nKilled\n"


def test_a_log_that_is_not_there(tmp_path, run, capsys):
    assert "kept only if it fails" in said(capsys, "trial", run, 0, "--log")[1]
    assert "has not ended" in said(capsys, "trial", run, 40, "--log")[1]
    made_up(tmp_path / "run", logs=False).close()
    said_ = said(capsys, "trial", tmp_path / "run", 39, "--log")[1]
    assert "the node w1 has what its processes printed under /tmp/ray" in said_


def test_a_trial_that_has_not_ended(running, run, capsys):
    assert "trial 40: not ended; run again by raynas resume" in said(capsys, "trial", run, 40)[1]
    show(running)
    out = said(capsys, "trial", running, 40)[1]
    assert "trial 40: running, 3 epochs so far" in out
    assert "design: tiny_cell{" in out
    show(running, running=[])
    assert "trial 40: handed out, not ended" in said(capsys, "trial", running, 40)[1]


def test_a_number_that_there_is_not(run, capsys):
    code, out, err = said(capsys, "trial", run, 4000)
    assert (code, out) == (1, "")
    assert err == f"raynas: {run} has no trial 4000: its trials are 0 to 41.\n"


def test_plain_data_is_json(run):
    assert json.loads(json.dumps(plain(overview(Columns(run)), run)))["now"] is None

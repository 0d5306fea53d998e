import json
import multiprocessing
import os

import numpy as np
import pandas as pd
import pytest

from raynas import archive as archive_module
from raynas import tables
from raynas.archive import Archive, being_written
from raynas.problem import Problem
from raynas.result import busy_seconds, load
from raynas.run import ArchiveError, RunInfo, read
from raynas.trial import Candidate, Job, Proposal, Reason, Trial
from tests.spaces import TREE

PROBLEM = Problem.of({"objectives": ["accuracy:max", "params:min"]})


def info(problem=PROBLEM):
    return RunInfo(problem, TREE, {"space": None, "seed": 0}, {}, {"raynas": "0"}, "raynas search")


@pytest.fixture
def run(tmp_path):
    info().write(tmp_path / "run")
    return tmp_path / "run"


def job(number):
    design = TREE.sample(np.random.default_rng(number))
    reason = Reason("mutation", "because", (0,), (("depth", 1, None),), {"mean": 0.5})
    candidates = (Candidate("tree{depth=1}", None, "duplicate of trial 0"),)
    return Job(number, Proposal(design, reason, candidates), number + 7, {"params": 3.0}, 1.5e9)


def trial(number, accuracy=0.5, params=10.0, **fields):
    fields = {"status": "finished", "started_at": 1.5e9 + number, "seconds": 2.0, **fields}
    return Trial(
        number,
        job(number).architecture,
        metrics={"accuracy": accuracy, "params": params},
        fidelity=2,
        curve=({"accuracy": 0.1}, {"accuracy": accuracy, "loss": 1.0}),
        seed=number + 7,
        split="abc",
        device="cpu",
        **fields,
    )


def contents(run):
    found = read(run, TREE)
    return list(tables.jobs_from(found.proposals)), list(tables.trials_from(found.trials))


def test_all_that_is_kept_is_read_back(run):
    archive = Archive(run)
    failed = Trial(2, job(2).architecture, "failed", error="boom\n  at line 3")
    for entry in (trial(0), trial(1, 0.25), failed):
        archive.propose(job(entry.number))
        archive.record(entry)
    before = contents(run)
    archive.close()
    assert contents(run) == before == ([job(0), job(1), job(2)], [trial(0), trial(1, 0.25), failed])
    assert not (run / "log").glob("*.jsonl") or not any(
        p.stat().st_size for p in (run / "log").glob("*.jsonl")
    )


def test_pandas_reads_it_without_us(run):
    archive = Archive(run)
    for number in range(5):
        archive.record(trial(number))
        archive.propose(job(number))
    archive.close()
    table = pd.read_parquet(run / "trials")
    assert table["m.accuracy"].tolist() == [0.5] * 5
    assert {"d.layer0.width", "c.accuracy", "status"} <= set(table.columns)
    assert len(pd.read_parquet(run / "proposals")) == 5
    assert len(pd.read_parquet(run / "front.parquet")) == 5


def test_frames_have_sensible_types(run):
    archive = Archive(run)
    archive.record(trial(0))
    archive.close()
    types = load(run).trials.dtypes.astype(str)
    assert types["d.layer0.width"] == types["m.params"] == "Int64"
    assert types["d.layer1.kind"] == types["status"] == "category"
    assert types["d.layer1.bonus"] == "boolean"
    assert types["m.accuracy"] == "float64"


def test_a_number_is_kept_once(run):
    archive = Archive(run)
    archive.record(trial(0, 0.5))
    archive.record(trial(0, 0.9))
    archive.close()
    archive = Archive(run)
    archive.record(trial(0, 0.9))
    archive.close()
    assert contents(run)[1] == [trial(0, 0.5)]


def test_a_crash_loses_nothing_that_was_acknowledged(run):
    def crash(run):
        archive = Archive(run)
        archive.propose(job(0))
        archive.record(trial(0))
        archive.propose(job(1))

    process = multiprocessing.get_context("fork").Process(target=crash, args=(run,))
    process.start()
    process.join()
    with next((run / "log").glob("*.jsonl")).open("ab") as log:
        log.write(json.dumps(["trials", trial(1).to_dict()]).encode()[:40])  # torn by the crash
    assert contents(run) == ([job(0), job(1)], [trial(0)])
    archive = Archive(run)
    assert "torn entry was ignored" in archive.notes[0]
    archive.record(trial(1))
    archive.close()
    assert contents(run) == ([job(0), job(1)], [trial(0), trial(1)])


def test_a_crash_between_the_parts_and_the_log_doubles_nothing(run):
    archive = Archive(run)
    archive.record(trial(0))
    log = next((run / "log").glob("*.jsonl"))
    lines = log.read_bytes()
    archive.close()
    log.write_bytes(lines)  # as if it had not been removed any more
    assert contents(run)[1] == [trial(0)]
    Archive(run).close()
    assert contents(run)[1] == [trial(0)]


def test_a_broken_part_is_passed_over_and_set_aside(run, monkeypatch):
    monkeypatch.setattr(archive_module, "PART_ROWS", 1)
    archive = Archive(run)
    for number in range(3):
        archive.propose(job(number))
        archive.record(trial(number))
        archive.roll()
    archive.close()
    part = run / "trials/part-000002.parquet"
    part.write_bytes(part.read_bytes()[:100])
    assert "part-000002.parquet is broken and was passed over" in load(run).notes[0]
    archive = Archive(run)
    assert "run again on resume" in archive.notes[0]
    archive.record(trial(1, 0.75))
    archive.close()
    assert sorted(t.number for t in contents(run)[1]) == [0, 1, 2]
    assert (run / "trials/_broken-part-000002.parquet").exists()
    assert len(pd.read_parquet(run / "trials")) == 3


def test_a_failed_write_leaves_no_torn_entry(run, monkeypatch):
    archive = Archive(run)
    real = os.fsync

    def unknown(_):
        raise OSError(22, "Invalid argument")  # nothing that would pass

    monkeypatch.setattr(os, "fsync", unknown)
    with pytest.raises(OSError, match="Invalid argument"):
        archive.record(trial(0, 0.1))
    monkeypatch.setattr(os, "fsync", real)
    archive.record(trial(0, 0.2))
    archive.close()
    assert contents(run)[1] == [trial(0, 0.2)]


def test_parts_share_one_schema_when_a_metric_appears_late(run, monkeypatch):
    monkeypatch.setattr(archive_module, "PART_ROWS", 1)
    archive = Archive(run)
    archive.record(trial(0))
    archive.roll()
    late = Trial(1, job(1).architecture, "finished", {"accuracy": 0.5, "params": 1.0, "f1": 0.7})
    archive.record(late)
    archive.close()
    table = pd.read_parquet(run / "trials")
    assert table["m.f1"].tolist()[1] == 0.7
    assert contents(run)[1] == [trial(0), late]


def test_weights_are_kept_for_the_front_only(run):
    archive = Archive(run)
    for entry in (trial(0, 0.5, 10), trial(1, 0.6, 20), trial(2, 0.6, 10)):
        archive.record(entry, b"w" if archive.wants_weights(entry) else None)
    assert not archive.wants_weights(trial(3, 0.1, 30))
    assert not archive.wants_weights(trial(3, 0.9, 1, status="stopped_early"))
    assert archive.wants_weights(trial(3, 0.1, 5))
    archive.close()
    assert sorted(p.name for p in (run / "models").iterdir()) == ["2.json", "2.safetensors"]
    assert pd.read_parquet(run / "front.parquet")["number"].tolist() == [2]
    card = json.loads((run / "models/2.json").read_text())
    assert TREE.parse(card["architecture"]) == job(2).architecture
    archive = Archive(run)
    assert not archive.wants_weights(trial(4, 0.55, 12))  # it knows the front again
    archive.close()


def test_what_breaks_a_constraint_is_not_on_the_front(tmp_path):
    problem = Problem.of({"constraints": {"min_accuracy": 0.7}})
    info(problem).write(tmp_path / "run")
    archive = Archive(tmp_path / "run")
    archive.record(trial(0, 0.6, 1))
    archive.record(trial(1, 0.8, 10))
    archive.close()
    assert load(tmp_path / "run").front()["number"].tolist() == [1]
    assert pd.read_parquet(tmp_path / "run/front.parquet")["number"].tolist() == [1]


def test_one_process_writes_and_any_may_read(run):
    archive = Archive(run)
    archive.record(trial(0))
    assert being_written(run)
    assert load(run).trials["number"].tolist() == [0]
    with pytest.raises(ArchiveError, match="is being written by another process"):
        Archive(run, wait=0.0)
    archive.close()
    assert not being_written(run)


def test_a_trial_is_found_in_the_log_and_in_the_parts(run):
    archive = Archive(run)
    archive.record(trial(0))
    archive.roll()
    archive.record(trial(1))
    assert [archive.find(n) for n in (0, 1, 2)] == [trial(0), trial(1), None]
    archive.close()


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "is not a run: it has no run.json"), ("{", "cannot be read"), ("{}", "cannot be read")],
)
def test_what_is_no_run(tmp_path, content, message):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(ArchiveError, match=message):
        load(tmp_path)


def test_a_run_folder_that_exists(run):
    with pytest.raises(ArchiveError, match="exists already"):
        info().write(run)


def test_busy_time_counts_overlaps_once():
    start = pd.to_datetime([0, 1, 10], unit="s", utc=True)
    trials = pd.DataFrame({"started_at": start.as_unit("us"), "seconds": [4.0, 1.0, 2.0]})
    assert busy_seconds(trials) == pytest.approx(6.0)
    assert busy_seconds(trials.iloc[:0]) == 0.0

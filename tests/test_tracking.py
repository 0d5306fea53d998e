"""Runs in TensorBoard, MLflow and Optuna, read back with these tools' own readers."""

import json
import sys
import threading
import time
import uuid
from dataclasses import replace

import pytest

from raynas import archive as archive_module
from raynas import tracking
from raynas.architecture import parse_option
from raynas.archive import Archive
from raynas.cli import main
from raynas.errors import UserError
from raynas.files import place
from raynas.problem import Problem
from raynas.result import load
from raynas.tracking.following import Follower, source
from raynas.tracking.target import SoFar, TargetError, points
from raynas.tracking.to_mlflow import MLflow
from raynas.tracking.to_optuna import Optuna
from raynas.tracking.to_tensorboard import FILE, TensorBoard
from raynas.trial import Trial
from tests.test_archive import info, job, trial

PROBLEM = {"objectives": ["accuracy:max", "params:min"], "constraints": {"max_params": 100}}
LONG = "boom `x` | <b>y</b>\n  at line 3\n" + "x" * 9000
TRIALS = {
    0: trial(0, 0.5, 10),
    1: trial(1, 0.75, 50),
    2: trial(2, 0.9, 200),  # beyond the limit: no best
    3: Trial(3, job(3).architecture, "failed", error=LONG, started_at=1.5e9, seconds=1.0),
    4: trial(4, 0.25, 5, status="stopped_early"),
    5: Trial(5, job(5).architecture, "infeasible", {"params": 300.0}, error="too large"),
    6: trial(6, 0.625, 20),
}
FRONT = {0, 1, 6}


def grow(run, numbers):
    archive = Archive(run)
    for number in numbers:
        archive.propose(job(number))
        archive.record(TRIALS.get(number) or trial(number))
    archive.close()


@pytest.fixture
def run(tmp_path):
    info(Problem.of(PROBLEM)).write(tmp_path / "first")
    grow(tmp_path / "first", TRIALS)
    return tmp_path / "first"


def readings(folder):
    """What TensorBoard reads of one of its runs."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    scalars = {
        tag: [(e.step, e.tensor_proto.float_val[0]) for e in found.Tensors(tag)]
        for tag in found.Tags()["tensors"]
        if found.SummaryMetadata(tag).plugin_data.plugin_name == "scalars"
    }
    return found, scalars


def studied(storage, name="first"):
    import optuna

    return optuna.load_study(study_name=name, storage=storage)


def ml_runs(uri):
    """The parent runs that MLflow has, and all others by the number of their trial."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.search_runs([client.get_experiment_by_name("raynas").experiment_id])
    parents = [r for r in found if "mlflow.parentRunId" not in r.data.tags]
    below = [r for r in found if "mlflow.parentRunId" in r.data.tags]
    numbers = [int(r.data.tags["raynas.trial"]) for r in below]
    assert len(set(numbers)) == len(numbers), "a trial is there twice"
    return client, parents, dict(zip(numbers, below, strict=True))


def test_tensorboard_has_each_trial(run, tmp_path):
    from tensorboard.plugins.hparams import metadata

    assert main(["track", str(run), "--tensorboard", str(tmp_path / "logs")]) == 0
    folders = {p.name for p in (tmp_path / "logs").iterdir() if p.is_dir()}
    assert folders == {"search", *(f"trial-{n}" for n in TRIALS)}
    found, scalars = readings(tmp_path / "logs/trial-1")
    assert scalars["accuracy"] == [(1, pytest.approx(0.1)), (2, 0.75)]
    assert scalars["params"] == [(2, 50.0)]
    times = [e.wall_time for e in found.Tensors("accuracy")]
    assert times == [1.5e9 + 2, 1.5e9 + 3]  # spread over two seconds from 1.5e9 + 1
    (text,) = (e.tensor_proto.string_val[0].decode() for e in found.Tensors("trial"))
    assert "**why** `because (from trial 0)`" in text
    data = found.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    start = metadata.parse_session_start_info_plugin_data(data)
    options = dict(job(1).architecture.options)
    assert {n: getattr(v, v.WhichOneof("kind")) for n, v in start.hparams.items()} == options
    _, best = readings(tmp_path / "logs/search")
    assert best["best accuracy"] == [
        (n, v) for n, v in enumerate([0.5, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75], 1)
    ]
    assert best["best params"][-1] == (7, 10.0)


def test_what_failed_is_no_markup(run, tmp_path):
    main(["track", str(run), "--tensorboard", str(tmp_path / "logs")])
    found, scalars = readings(tmp_path / "logs/trial-3")
    assert not scalars
    text = found.Tensors("trial")[0].tensor_proto.string_val[0].decode()
    assert "**status** `failed`" in text
    assert "\n    boom 'x' | <b>y</b>\n      at line 3\n" in text  # indented: as it stands


def test_mlflow_has_a_run_for_each_trial_below_one(run, tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    (run / "report.html").write_text("<p>the report")
    assert main(["track", str(run), "--mlflow", uri, "--name", "digits"]) == 0
    client, (parent,), trials = ml_runs(uri)
    assert (parent.info.run_name, parent.info.status) == ("digits", "FINISHED")
    assert parent.info.start_time == 1_500_000_000_000
    assert parent.data.params["objectives"] == "accuracy:max, params:min"
    best = client.get_metric_history(parent.info.run_id, "best_accuracy")
    assert [(m.step, m.value) for m in best] == [(1, 0.5), (2, 0.75), (7, 0.75)]
    assert parent.info.end_time == 1_500_000_008_000
    assert [a.path for a in client.list_artifacts(parent.info.run_id)] == ["report.html"]
    assert trials.keys() == TRIALS.keys()
    assert {n: t.info.status for n, t in trials.items()} == {
        **dict.fromkeys((0, 1, 2, 4, 6), "FINISHED"),
        3: "FAILED",
        5: "KILLED",
    }
    one = trials[1]
    options = job(1).architecture.options
    assert {n: parse_option(text) for n, text in one.data.params.items()} == dict(options)
    assert one.data.metrics == {"accuracy": 0.75, "loss": 1.0, "params": 50.0}
    history = client.get_metric_history(one.info.run_id, "accuracy")
    assert [(m.step, m.value) for m in history] == [(1, 0.1), (2, 0.75)]
    tags = one.data.tags
    assert (tags["status"], tags["purpose"]) == ("finished", "search")
    assert (tags["architecture"], tags["why"]) == (
        str(job(1).architecture),
        "because (from trial 0)",
    )
    assert len(trials[3].data.tags["error"]) == 5000
    assert trials[3].data.tags["error"].endswith("...")


def test_optuna_has_a_study(run, tmp_path):
    import optuna

    storage = f"sqlite:///{tmp_path}/optuna.db"
    assert main(["track", str(run), "--optuna", storage]) == 0
    study = studied(storage)
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.metric_names == ["accuracy", "params"]
    assert [t.state.name for t in study.trials] == [
        *("COMPLETE", "COMPLETE", "COMPLETE", "FAIL", "PRUNED", "FAIL", "COMPLETE")
    ]
    one = study.trials[1]
    assert one.params == dict(job(1).architecture.options)
    assert one.values == [0.75, 50.0]
    assert one.intermediate_values == {1: 0.1, 2: 0.75}
    assert one.distributions["depth"] == optuna.distributions.CategoricalDistribution((1, 2, 3))
    assert one.user_attrs["why"] == "because (from trial 0)"
    assert (one.duration.total_seconds(), one.datetime_start.timestamp()) == (2.0, 1.5e9 + 1)
    assert {t.user_attrs["trial"] for t in study.best_trials} == FRONT
    assert set(load(run).front()["number"]) == FRONT


@pytest.mark.parametrize("mixed", [False, True], ids=["one by one", "all at once"])
def test_nothing_is_written_twice(run, tmp_path, capsys, mixed):
    uri, journal, logs = f"sqlite:///{tmp_path}/m.db", tmp_path / "j.log", tmp_path / "logs"
    given = [["--mlflow", uri], ["--optuna", str(journal)], ["--tensorboard", str(logs)]]
    calls = [[*given[0], *given[1], *given[2]]] if mixed else given
    for call in calls:
        main(["track", str(run), *call])
    grow(run, (7, 8))
    before = {p: p.read_bytes() for p in logs.glob("trial-*/*")}
    for expected in ("2 trials written, 9 in all", "0 trials written, 9 in all"):
        capsys.readouterr()
        for call in calls:
            main(["track", str(run), *call])
        assert capsys.readouterr().out.count(expected) == 3
    assert all(path.read_bytes() == content for path, content in before.items())
    assert [step for step, _ in readings(logs / "search")[1]["best params"]] == [*range(1, 10)]
    client, (parent,), trials = ml_runs(uri)
    assert trials.keys() == set(range(9))
    counted = client.get_metric_history(parent.info.run_id, "trials")
    assert [(m.step, m.value) for m in counted] == [(7, 7.0), (9, 9.0)]
    import optuna
    from optuna.storages.journal import JournalFileBackend

    storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
    assert [t.user_attrs["trial"] for t in studied(storage).trials] == [*range(9)]


def test_a_trial_that_was_cut_off_is_completed(run, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    uri, logs = f"sqlite:///{tmp_path}/m.db", tmp_path / "logs"
    real = {name: getattr(MlflowClient, name) for name in ("set_terminated", "log_batch")}

    def cut(self, *arguments, **named):  # as if killed after some of it
        raise KeyboardInterrupt

    for name in real:
        with monkeypatch.context() as patch:
            patch.setattr(MlflowClient, name, cut)
            with pytest.raises(KeyboardInterrupt):
                tracking.track(run, [lambda: MLflow(uri, source(run))])
    (logs / "trial-0").mkdir(parents=True)
    (logs / "trial-0/.being-written").write_bytes(b"half")
    main(["track", str(run), "--mlflow", uri, "--tensorboard", str(logs)])
    client, (_,), trials = ml_runs(uri)
    assert trials.keys() == TRIALS.keys()
    history = client.get_metric_history(trials[0].info.run_id, "accuracy")
    assert [(m.step, m.value) for m in history] == [(1, 0.1), (2, 0.5)]
    assert (logs / "trial-0" / FILE).exists()


def test_following_ends_with_the_search(run, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "EVERY", 0.02)
    archive = Archive(run)
    followed = tracking.track
    thread = threading.Thread(
        target=followed, args=(run, [lambda: TensorBoard(tmp_path / "logs", source(run))], True)
    )
    thread.start()
    for number in (7, 8, 9):
        archive.propose(job(number))
        archive.record(trial(number))
        until = time.monotonic() + 5
        while not (tmp_path / f"logs/trial-{number}" / FILE).exists():
            assert time.monotonic() < until, "it is not written while the search goes on"
            time.sleep(0.01)
    archive.propose(job(10))
    archive.record(trial(10))
    assert thread.is_alive()
    archive.close()
    thread.join(5)
    assert not thread.is_alive()
    assert (tmp_path / "logs/trial-10" / FILE).exists()


def test_a_search_whose_writer_died_goes_on(run):
    assert not tracking.going_on(run)
    for at, expected in ((time.time(), True), (time.time() - 100, False)):
        (run / "log/now.json").write_text(json.dumps({"at": at}))
        assert tracking.going_on(run) == expected
    (run / "log/now.json").write_text("torn")
    assert not tracking.going_on(run)


class Fails:
    """A tool that is away for a while."""

    name = "it"

    def __init__(self, times):
        self.times, self.known, self.written, self.got = times, set(), 0, []

    def write(self, trial):
        if trial.number == 2 and self.times:
            self.times -= 1
            raise TargetError("it is away.")
        self.got.append(trial.number)

    def settle(self, so_far):
        pass


def test_a_tool_that_is_away_is_asked_again(run, monkeypatch):
    monkeypatch.setattr(tracking, "AGAIN", 0.0)
    monkeypatch.setattr(tracking, "EVERY", 0.0)
    answers = iter([True, True, True, False])
    monkeypatch.setattr(tracking, "going_on", lambda run: next(answers))
    target, said = Fails(2), []
    tracking.track(run, [lambda: target], True, said.append)
    assert target.got == [*TRIALS]
    assert said == ["it is away. Trying again in 0 s."] * 2
    monkeypatch.setattr(tracking, "going_on", lambda run: False)
    with pytest.raises(TargetError, match="away"):
        tracking.track(run, [lambda: Fails(1)], True)


def test_a_run_is_read_part_by_part(run, monkeypatch):
    read = []
    monkeypatch.setattr(archive_module, "PART_ROWS", 3)
    follower = Follower(run)
    assert [t.number for t in follower.new()] == [*TRIALS]
    for numbers in ((7, 8), (9, 10, 11), (12,)):
        grow(run, numbers)
        found = list(follower.new())
        assert [t.number for t in found] == [*numbers]
        assert {t.reason.note for t in found} == {"because"}
    real = tracking.following.read_tables

    def spy(paths, columns=None):
        read.extend(paths)
        return real(paths, columns)

    monkeypatch.setattr(tracking.following, "read_tables", spy)
    assert not list(follower.new())
    parts = len(list((run / "trials").glob("part-*")))
    assert parts > 2
    assert len(read) == 2  # the last of each
    writer = Archive(run)
    writer.propose(job(13))
    writer.record(trial(13))
    assert [t.number for t in follower.new()] == [13]  # from the log
    writer.close()
    assert not list(follower.new())


def test_a_run_in_a_store(tmp_path):
    run = place(f"memory://{uuid.uuid4().hex}/first")
    info().write(run)
    assert source(run) is None
    grow(run, (0, 1))
    logs = place(f"memory://{uuid.uuid4().hex}/logs")
    assert main(["track", str(run), "--tensorboard", str(logs)]) == 0
    grow(run, (2,))
    target = TensorBoard(logs, source(run))
    assert target.known == {0, 1}
    tracking.track(run, [lambda: target])
    assert target.known == {0, 1, 2}
    assert len(list((logs / "search").iterdir())) == 2


def test_a_place_of_another_run(run, tmp_path, capsys):
    other = tmp_path / "second"
    info().write(other)
    assert main(["track", str(other), "--tensorboard", str(tmp_path / "logs")]) == 1
    assert "no proposals yet" in capsys.readouterr().err
    archive = Archive(other)
    archive.propose(replace(job(0), at=1.6e9 + 1 / 3))
    archive.close()
    journal, logs = str(tmp_path / "j.log"), str(tmp_path / "logs")
    assert main(["track", str(run), "--tensorboard", logs, "--optuna", journal]) == 0
    for option in (["--tensorboard", logs], ["--optuna", journal, "--name", "first"]):
        capsys.readouterr()
        assert main(["track", str(other), *option]) == 1
        assert "holds another run" in capsys.readouterr().err
    assert main(["track", str(other), "--optuna", journal]) == 0  # named after its folder


def test_a_run_is_the_same_wherever_its_first_proposal_lies(tmp_path):
    info().write(tmp_path / "first")
    archive = Archive(tmp_path / "first")
    archive.propose(replace(job(0), at=1.6e9 + 1 / 3))
    in_the_log = source(tmp_path / "first")
    archive.close()
    (tmp_path / "first").rename(tmp_path / "moved")
    assert source(tmp_path / "moved").key == in_the_log.key


def test_other_objectives_are_another_study(run, tmp_path):
    journal = str(tmp_path / "j.log")
    main(["track", str(run), "--optuna", journal])
    data = json.loads((run / "run.json").read_text())
    data["problem"]["objectives"] = ["accuracy:max"]
    (run / "run.json").write_text(json.dumps(data))
    with pytest.raises(TargetError, match="other objectives"):
        Optuna(journal, source(run))


@pytest.mark.parametrize(
    ("module", "option", "hint"),
    [
        ("tensorboard", "--tensorboard", r"pip install 'raynas\[tensorboard\]'"),
        ("mlflow", "--mlflow", r"pip install 'raynas\[mlflow\]'"),
    ],
)
def test_a_package_that_is_missing(run, tmp_path, monkeypatch, module, option, hint):
    for name in [n for n in sys.modules if n.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    from raynas.commands import COMMANDS

    arguments = {"tensorboard": None, "mlflow": None, "optuna": None, "name": None, "follow": False}
    arguments |= {"run_folder": str(run), option[2:]: str(tmp_path / "x")}
    with pytest.raises(UserError, match=hint):
        COMMANDS["track"](type("Arguments", (), arguments))


def test_what_cannot_be_done_is_said(run, tmp_path, capsys):
    assert main(["track", str(run)]) == 1
    assert "expected --tensorboard DIR" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["track", str(run), "--tensorboard", str(tmp_path / "file/logs")]) == 1
    assert "TensorBoard cannot be written" in capsys.readouterr().err
    assert main(["track", str(run), "--optuna", f"sqlite:///{tmp_path}/none/o.db"]) == 1
    assert "Optuna cannot be written" in capsys.readouterr().err


def test_two_at_once_are_refused(run, tmp_path, capsys):
    from raynas.track_command import alone

    with alone(f"tensorboard {tmp_path} {source(run).key}"):
        assert main(["track", str(run), "--tensorboard", str(tmp_path)]) == 1
    assert "another `raynas track`" in capsys.readouterr().err


def test_final_readings_are_points_unless_the_curve_ends_with_them():
    assert list(points(trial(0, 0.5, 10))) == [
        ("accuracy", 1, 1.5e9 + 1, 0.1),
        ("accuracy", 2, 1.5e9 + 2, 0.5),
        ("loss", 2, 1.5e9 + 2, 1.0),
        ("params", 2, 1.5e9 + 2, 10),
    ]


def test_the_best_so_far_keeps_the_limits():
    so_far, about = SoFar(), info(Problem.of(PROBLEM))
    for each in TRIALS.values():
        so_far.learn(each, about)
    assert so_far.best == {"accuracy": 0.75, "params": 10}
    assert so_far.trials == 7

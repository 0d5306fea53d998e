"""What a search shows while it runs, to people and to machines, and how it is asked to stop."""

import io
import json
import logging
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

import raynas
from raynas import json_progress, watching
from raynas.api import search as api_search
from raynas.cli import main
from raynas.errors import UserError
from raynas.json_progress import JsonLines
from raynas.objective import Objective, hypervolume, pareto_front
from raynas.progress import Display
from raynas.session import Session
from raynas.standing import FIRST, Standing, sparkline
from raynas.trial import Trial
from raynas.watching import NOW, STOP
from tests.spaces import CELL as SPACE

BOTH = (Objective("accuracy", "max"), Objective("params", "min"))
NUMBERS = {"accuracy": 7, "params": 31}
DESIGN = SPACE.sample(np.random.default_rng(0))


def trial(number, accuracy=0.5, params=10.0, status="finished", **fields):
    return Trial(number, DESIGN, status, {"accuracy": accuracy, "params": params}, **fields)


def told(trials, objectives=BOTH):
    standing = Standing(objectives)
    for one in trials:
        standing.tell(one)
        standing.settle()
    return standing


def random_trials(count):
    rng = np.random.default_rng(1)
    return [trial(i, *map(float, rng.random(2))) for i in range(count)]


def test_the_front_told_trial_by_trial_is_that_of_all():
    trials = random_trials(200)
    standing = told(trials)
    points = np.array([[-t.metrics["accuracy"], t.metrics["params"]] for t in trials])
    assert standing.front == list(np.flatnonzero(pareto_front(points)))
    worst, best = points[:FIRST].max(axis=0), points.min(axis=0)
    share = hypervolume(points, worst) / np.prod(worst - best)
    assert standing.hypervolume == pytest.approx(share)
    curve = standing.curve()
    assert curve == sorted(curve)
    assert curve[-1] == pytest.approx(share)
    best = [max(trials, key=lambda t: t.metrics["accuracy"])]
    best += [min(trials, key=lambda t: t.metrics["params"])]
    assert standing.best == best


def test_trials_are_told_once_and_tests_stand_on_no_front():
    standing = told([trial(0), trial(0, 0.9), trial(1, 0.9, purpose="confirm")])
    assert standing.front == [0]
    standing = told([trial(1, 0.9, purpose="confirm")])  # of designs that were scored before
    assert standing.front == [1]


def test_one_objective_has_no_hypervolume():
    standing = told(random_trials(20), BOTH[:1])
    assert standing.hypervolume is None
    assert standing.curve() == []
    assert len(standing.front) == 1


def test_causes_are_grouped_by_what_differs_in_numbers_only():
    errors = ["RuntimeError: 3 of 4", "RuntimeError: 5 of 6\nat line 7", None]
    failed = [trial(i, status="failed", error=error) for i, error in enumerate(errors)]
    assert told(failed).causes == {"RuntimeError: N of N": (2, 1), "no message": (1, 2)}


def test_a_sparkline():
    assert sparkline([0, 1, 2, 7]) == "▁▂▃█"
    assert sparkline([3, 3]) == "▁▁"
    assert sparkline([]) == ""


def session_of(trials):
    session = Session(SPACE, None, BOTH, None, lambda _: {})
    session.around = {"nodes": [{}, {}], "gone": 1, "rate": 0.5, "slots": 2}
    session.running = dict.fromkeys(range(3))
    return session, trials


def learn(session, trials):
    for one in trials:
        session.learned[one.status] = session.learned.get(one.status, 0) + 1
        session.observe(one)


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_in_a_terminal(width):
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True)
    display = Display(console)
    session, trials = session_of(random_trials(20))
    failed = [trial(20 + i, status="failed", error="RuntimeError: no " * 20) for i in range(2)]
    with display.showing(session, 100, float("inf")):
        learn(session, [*trials, *failed])
        with console.capture() as capture:
            console.print(display._render())
    text = capture.get()
    assert max(map(len, Console(width=width).render_str(text).plain.splitlines())) < 2 * width
    for part in (
        "20 finished, 2 failed, 3 running, 30 a minute",
        "2 x RuntimeError: no",
        "(such as trial 21)",
        "accuracy: trial ",
        "params: trial ",
        "hypervolume ",
        "2 nodes, 1 lost",
        "22 %",
    ):
        assert part in text


def test_lines_where_there_is_no_terminal():
    display = Display(Console(file=io.StringIO()))
    session, trials = session_of(random_trials(20))
    with display.showing(session, 100, float("inf")):
        learn(session, trials)
        session.stopping = True
        line = display._line()
    assert "20 trials done (20 finished), 3 running, which finish: it was asked to stop" in line
    assert "best so far: trial " in line
    assert f"front of {len(display._standing.front)}" in line


def searched(folder, display=None, **fields):
    given = {"driver": "local", "explanation_level": "brief", "strategy": "random", **fields}
    given = {"trials": 20, "run": folder, **given}
    return api_search(
        {"objectives": ["accuracy:max", "params:min"]}, space=SPACE,
        evaluator=given.pop("evaluator", measured), display=display, **given,
    )  # fmt: skip


def measured(design):
    return {name: float(sum(map(ord, str(design))) * n % 97) for name, n in NUMBERS.items()}


def test_json_lines(tmp_path):
    out = io.StringIO()
    display = JsonLines(out)
    result = searched(tmp_path / "run", display)
    display.end(result)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["event"] for line in lines if line["event"] != "trial"] == [
        "begin", "part", "progress", "end",
    ]  # fmt: skip
    assert lines[0]["run"] == str(tmp_path / "run")
    assert sorted(line["number"] for line in lines if line["event"] == "trial") == list(range(20))
    best = [int(n) for n in result.front()["number"]]
    assert sorted(lines[-2]["front"]) == sorted(best)
    assert lines[-2]["done"] == lines[-2]["all"] == 20
    assert [row["trial"] for row in lines[-1]["front"]] == best
    assert lines[-1]["report"].endswith("report.html")


def test_json_has_no_number_that_json_does_not_know():
    out = io.StringIO()
    JsonLines(out).write("trial", metrics={"loss": float("nan")}, rest=(float("inf"), 1))
    line = json.loads(out.getvalue())
    assert (line["metrics"], line["rest"]) == ({"loss": None}, [None, 1])


def test_what_a_command_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "raynas.api.search", lambda *_, display, **__: searched(tmp_path / "run", display)
    )
    assert main(["search", "--quiet"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'run'}\n"
    monkeypatch.setattr(
        "raynas.api.search", lambda *_, display, **__: searched(tmp_path / "other", display)
    )
    assert main(["search", "--progress", "json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (lines[0]["event"], lines[-1]["event"]) == ("begin", "end")


def test_both_ways_to_show_are_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["search", "--quiet", "--progress", "json"])
    assert "not allowed with" in capsys.readouterr().err


def test_a_search_that_is_asked_to_stop_finishes_what_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(watching, "LOOK", 0.01)
    monkeypatch.setattr(watching, "ASKED", 0.0)
    folder, stopped = tmp_path / "run", threading.Event()

    def evaluator(design):
        if not stopped.is_set():  # in the first trial
            stopped.set()
            assert main(["stop", str(folder)]) == 0
            while not sessions[0].stopping:
                stopped.wait(0.01)
                threading.Event().wait(0.01)
        return measured(design)

    sessions = []
    at = watching.Watch.at
    monkeypatch.setattr(
        watching.Watch, "at", lambda self, *part: (sessions.append(part[0]), at(self, *part))
    )
    result = searched(folder, evaluator=evaluator)
    assert list(result.trials["status"]) == ["finished"]
    assert not result.interrupted
    assert "it was asked to stop. To go on: raynas resume" in result.ended_because
    assert (folder / "report.html").exists()
    assert not (folder / STOP).exists()
    assert not (folder / NOW).exists()
    result = raynas.resume(folder, space=SPACE, evaluator=measured)
    assert len(result.trials) == 20
    assert "asked: trials that run are finished" in capsys.readouterr().out


def test_an_old_wish_to_stop_is_none(tmp_path):
    searched(tmp_path / "run", trials=5)
    watching.ask_to_stop(tmp_path / "run")
    result = raynas.resume(tmp_path / "run", space=SPACE, evaluator=measured, more=5)
    assert len(result.trials) == 10
    assert not result.ended_because


def test_nothing_to_stop(tmp_path, capsys):
    searched(tmp_path / "run", trials=5)
    assert main(["stop", str(tmp_path / "run")]) == 1
    assert "nothing searches" in capsys.readouterr().err
    assert not (tmp_path / "run" / STOP).exists()
    assert main(["stop", str(tmp_path / "none")]) == 1


@pytest.mark.parametrize("level", ["brief", "detailed"])
def test_a_finished_search_goes_further_with_all_its_parts(level, tmp_path):
    given = {"space": SPACE, "evaluator": measured}
    before = searched(tmp_path / "run", explanation_level=level, trials=20).trials
    result = raynas.resume(tmp_path / "run", more=15, **given)
    fresh = result.trials[~result.trials["number"].isin(before["number"])]
    assert (fresh["status"] != "infeasible").sum() == 15
    assert (fresh["purpose"] == "search").sum() >= 8
    with pytest.raises(UserError, match=r"--trials \+50"):
        raynas.resume(tmp_path / "run", **given)


def test_further_or_in_all(tmp_path):
    with pytest.raises(UserError, match="got both"):
        raynas.resume(tmp_path, trials=5, more=5)
    with pytest.raises(UserError, match="1 or more"):
        raynas.resume(tmp_path, more=0)


@pytest.mark.parametrize(
    ("typed", "given"), [("+50", {"more": 50}), ("80", {"trials": 80})], ids=["more", "all"]
)
def test_how_far_is_typed(typed, given, monkeypatch):
    asked = {}
    monkeypatch.setattr("raynas.api.resume", lambda *_, **told: asked.update(told))
    monkeypatch.setattr("raynas.commands._close", lambda *_: 0)
    assert main(["resume", "RUN", "--trials", typed]) == 0
    assert {name: asked[name] for name in ("more", "trials") if name in asked} == given


def test_a_silent_display():
    silent = json_progress.display_of(
        SimpleNamespace(progress="table", quiet=True), Console(file=(out := io.StringIO()))
    )
    with silent.counting("designs") as progress:
        progress(1, 2)
    silent.say("a note")
    assert out.getvalue() == ""


def test_what_ray_says_is_kept_in_a_file(tmp_path, capsys):
    from ray._private import worker

    from raynas.tune.output import RAY_LOG, ray_apart

    (tmp_path / "log").mkdir()
    before = worker.print_to_stdstream
    undo = ray_apart(tmp_path)
    try:
        logging.getLogger("ray.tune").warning("this will be deprecated")
        logging.getLogger("ray.tune.execution.tune_controller").error("Trial task failed")
        assert not (text := capsys.readouterr()).out + text.err
        logging.getLogger("ray.core").error("the cluster is gone")
        data = {"pid": "raylet", "lines": ["a worker died"], "is_err": False}
        worker.print_to_stdstream(data, ignore_prefix=False)
        assert not capsys.readouterr().out
    finally:
        undo()
    assert worker.print_to_stdstream is before
    kept = (tmp_path / RAY_LOG).read_text()
    for line in ("deprecated", "Trial task failed", "the cluster is gone", "a worker died"):
        assert line in kept


def test_on_ray_what_runs_is_finished_and_nothing_new_is_begun(tmp_path):
    from raynas.archive import Archive
    from raynas.strategies import make
    from raynas.tune.searcher import SessionSearcher

    searched(tmp_path / "run", trials=1)
    archive = Archive(tmp_path / "run")
    session = Session(SPACE, make("random", SPACE, BOTH), BOTH, archive, lambda _: {})
    searcher = SessionSearcher(session, archive, 5, lambda: 2, float("inf"), False, 0.0, 3)
    job = json.loads(searcher.suggest("a")["jobs"])[0]
    session.stopping = True
    assert searcher.suggest("b") == searcher.FINISHED
    assert not searcher.done
    ended = {"trials": json.dumps([trial(job["number"]).to_dict()]), "recorded": False}
    searcher.on_trial_complete("a", ended)
    assert searcher.done
    archive.close()

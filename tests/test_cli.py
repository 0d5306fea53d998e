"""The command line, typed as a user types it (without Ray where none is needed)."""

import pytest

from raynas.cli import main
from tests.test_api import search


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return str(search(tmp_path_factory.mktemp("cli")).path)


def test_help_is_grouped(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["search", "--help"])
    text = capsys.readouterr().out
    for group in ("data:", "what to find:", "how to search:", "budget:", "where it runs:"):
        assert f"\n{group}" in text


def test_status(run, capsys):
    assert main(["status", run]) == 0
    text = capsys.readouterr().out
    assert "not running" in text
    assert "20 finished" in text
    assert "best so far: trial" in text


def test_front(run, capsys):
    assert main(["front", run]) == 0
    text = capsys.readouterr().out
    assert "accuracy" in text
    assert "tiny_cell{" in text


def test_explain(run, capsys):
    assert main(["explain", run]) == 0
    text = capsys.readouterr().out
    assert text.startswith("tiny_cell{")
    assert "is the best of 20 trained to the end: accuracy" in text
    assert "can be told from chance" in text


def test_diff_of_a_design_with_itself(run, capsys):
    assert main(["diff", run, "3", "3"]) == 0
    assert "the same design" in capsys.readouterr().out
    assert main(["diff", run, "0", "1"]) == 0
    assert "params" in capsys.readouterr().out


def test_explain_another_design(run, capsys):
    assert main(["explain", run, "--trial", "2"]) == 0
    text = capsys.readouterr().out
    assert "Trial 2: finished after 1 epoch; accuracy" in text
    assert "is the best" not in text


def test_a_front_that_a_limit_leaves_empty(tmp_path, capsys):
    problem = {"objectives": ["accuracy"], "constraints": {"min_accuracy": 2}}
    path = search(tmp_path, problem=problem, trials=3).path
    assert main(["front", str(path)]) == 1
    assert "3 designs were trained to the end, but none keeps min_accuracy=2" in (
        capsys.readouterr().err
    )


def test_report(run, capsys):
    assert main(["report", run]) == 0
    assert capsys.readouterr().out.strip().endswith("report.html")


def test_lists(capsys):
    assert main(["spaces"]) == main(["strategies"]) == 0
    text = capsys.readouterr().out
    assert "layered: 2.2 × 10³⁷ designs" in text
    assert "evolution: Mutates" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status", "nowhere"], "is not a run: it has no run.json"),
        (["search", "--space", "layred"], "Did you mean 'layered'"),
        (["search", "--strategy", "x"], "strategy: expected one of "),
        (["search", "--dataset", "digitz"], "Did you mean 'digits'"),
        (["search", "--objective", "up"], "expected an objective such as accuracy:max"),
        (["search", "--constraint", "max_params"], "expected such as min_accuracy=0.9"),
        (["resume", "nowhere"], "is not a run"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_without_a_traceback(arguments, message, capsys):
    assert main(arguments) == 1
    text = capsys.readouterr().err
    assert text.startswith("raynas: ")
    assert message in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["search", "--trials", "0"],
        ["search", "--time-budget", "soon"],
        ["search", "--learning-rate", "fast"],
        ["search", "--scheduler", "x"],
        ["dance"],
        [],
    ],
)
def test_a_wrong_command_line_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: raynas" in capsys.readouterr().err


def test_an_existing_run_is_not_overwritten(run, capsys):
    assert main(["search", "--run", run]) == 1
    assert "exists already" in capsys.readouterr().err


def test_a_key_that_stands_twice_in_feedback_is_not_read_as_its_last(tmp_path, capsys):
    said = tmp_path / "said.yaml"
    said.write_text("layer_1: {kernel_size: 5}\nlayer_2: {}\nlayer_1: {filter_size: 32}\n")
    assert main(["search", "--feedback", str(said), "--run", str(tmp_path / "run")]) == 1
    assert "in line 3, layer_1 stands for the second time" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()

"""Searches that begin with what others of the same space found."""

import pytest

import raynas
from tests.spaces import CELL, TREE, score

PROBLEM = {"objectives": ["accuracy:max", "params:min"]}


def search(run, space=CELL, evaluator=score, trials=12, **options):
    options = {"driver": "local", "explanation_level": "brief", **options}  # search alone
    return raynas.search(
        PROBLEM, space=space, evaluator=evaluator, trials=trials, run=run, **options
    )


def test_the_best_of_earlier_runs_are_tried_first(tmp_path):
    first = search(tmp_path / "first", strategy="random", trials=20)
    result = search(tmp_path / "second", warm_start=tmp_path / "first", strategy="evolution")
    rows = result.proposals.iloc[:5]
    assert set(rows["kind"]) == {"derived"}
    numbers = [int(note.rpartition("trial ")[2].rstrip(")")) for note in rows["note"]]
    assert set(numbers) & set(first.front()["number"])
    assert str(tmp_path / "first") in rows["note"][0]
    texts = first.trials.set_index("number").loc[numbers, "architecture"]
    assert list(texts) == list(rows["architecture"])
    assert not set(result.proposals["kind"].iloc[5:]) & {"derived"}


@pytest.mark.parametrize("strategy", ["predictor", "reinforce", "auto"])
def test_a_run_keeps_what_it_began_with(tmp_path, strategy):
    search(tmp_path / "first", strategy="random", trials=20)
    whole = search(tmp_path / "whole", warm_start=[tmp_path / "first"], strategy=strategy)
    search(tmp_path / "part", warm_start=[tmp_path / "first"], strategy=strategy, trials=7)
    (tmp_path / "first").rename(tmp_path / "gone")
    raynas.resume(tmp_path / "part", evaluator=score, trials=12)
    resumed = raynas.load(tmp_path / "part")
    assert list(resumed.proposals["architecture"]) == list(whole.proposals["architecture"])


def test_trials_teach_before_there_are_any(tmp_path):
    search(tmp_path / "first", strategy="random", trials=60)
    result = search(tmp_path / "second", warm_start=tmp_path / "first", strategy="predictor")
    assert "earlier trials" in result.proposals["note"].iloc[5]


def test_a_run_of_another_space_is_refused(tmp_path):
    search(tmp_path / "first", space=TREE, evaluator=lambda a: {"accuracy": 0.5, "params": 1.0})
    with pytest.raises(raynas.UserError, match="expected designs of the space 'tiny_cell'"):
        search(tmp_path / "second", warm_start=tmp_path / "first")
    assert not (tmp_path / "second").exists()


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(raynas.UserError, match="is not a run"):
        search(tmp_path / "second", warm_start=tmp_path / "first")

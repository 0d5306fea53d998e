"""Searches in one process: the whole way from a problem to a run on disk and back."""

import json
import re

import numpy as np
import pytest

import raynas
from raynas.errors import UserError
from raynas.session import NoFeasibleDesign
from search_spaces import nasbench201
from tests.spaces import CELL, score

OBJECTIVES = ["accuracy:max", "params:min"]


def search(tmp_path, **options):
    options = {"problem": {"objectives": OBJECTIVES}, "space": CELL, "evaluator": score, **options}
    options = {"driver": "local", "run": tmp_path / "run", "trials": 20, **options}
    return raynas.search(options.pop("problem"), **options)


def arrays(n=60, side=8, classes=3):
    labels = np.arange(n) % classes
    images = np.random.default_rng(0).integers(0, 40, (n, side, side), dtype=np.uint8)
    for i, label in enumerate(labels):
        images[i, :, label * 2 : label * 2 + 2] += 180
    return images, labels


def test_a_search_leaves_a_run_that_can_be_read(tmp_path):
    result = search(tmp_path)
    assert len(result.trials) == len(result.proposals) == 20
    assert set(result.front()["status"]) == {"finished"}
    again = raynas.load(tmp_path / "run")
    assert again.trials.equals(result.trials)
    assert (tmp_path / "run/report.html").stat().st_size > 1000
    info = json.loads((tmp_path / "run/run.json").read_text())
    assert info["settings"]["strategy"] == "auto"
    assert {"raynas", "torch", "ray", "python"} <= set(info["versions"])
    assert len(result.claims) > 10
    assert "Trial" in result.get_architecture_report()


def test_the_same_seed_is_the_same_search(tmp_path):
    first = search(tmp_path, run=tmp_path / "a", seed=3).trials["architecture"]
    assert first.equals(search(tmp_path, run=tmp_path / "b", seed=3).trials["architecture"])
    assert not first.equals(search(tmp_path, run=tmp_path / "c", seed=4).trials["architecture"])


def test_resuming_is_as_if_nothing_had_happened(tmp_path):
    brief = {"explanation_level": "brief"}  # else each budget begins with its own random designs
    whole = search(tmp_path, run=tmp_path / "whole", trials=30, **brief)
    search(tmp_path, trials=12, **brief)
    resumed = raynas.resume(tmp_path / "run", evaluator=score, trials=30)
    assert resumed.trials["architecture"].equals(whole.trials["architecture"])
    assert resumed.trials["number"].is_unique


def test_an_interrupt_keeps_what_is_finished_and_resume_goes_on(tmp_path):
    calls = []

    def interrupted(architecture):
        calls.append(architecture)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return score(architecture)

    result = search(tmp_path, evaluator=interrupted)
    assert result.interrupted
    assert len(result.trials) == 5
    result = raynas.resume(tmp_path / "run", evaluator=score)
    assert not result.interrupted
    assert result.trials["number"].tolist() == list(range(20))


def test_images_handed_over_as_arrays_become_trained_models(tmp_path):
    import torch

    images, labels = arrays()
    result = raynas.search(
        {"dataset": (images, labels), "objectives": OBJECTIVES, "constraints": {"max_params": 2e5}},
        trials=3,
        epochs=3,
        strategy="random",
        driver="local",
        cpus_per_trial=2,
        run=tmp_path / "run",
    )
    model = result.get_model()
    mean, std = (torch.tensor(result.info.data[n]).view(1, -1, 1, 1) for n in ("mean", "std"))
    normalized = (torch.from_numpy(images[:, None]).float() - mean) / std
    assert model(normalized).shape == (60, 3)
    assert not model.training
    best = result.front().iloc[0]
    right = (model(normalized).argmax(1).numpy() == labels).mean()
    assert right == pytest.approx(best["m.accuracy"], abs=0.35)
    assert (result.trials.loc[result.trials["status"] == "finished", "m.params"] <= 2e5).all()
    assert re.search(r"layer0\.\w+ .* rather than", result.get_explanation_for_layer(0))
    with pytest.raises(UserError, match="expected a layer from 0 to"):
        result.get_explanation_for_layer(99)
    with pytest.raises(UserError, match=r"own data|dataset="):
        raynas.resume(tmp_path / "run")


def test_designs_side_by_side(tmp_path):
    result = search(tmp_path)
    rows = result.diff(0, 1)
    assert all(left != right for _, left, right in rows)
    assert result.diff(3, 3) == []
    with pytest.raises(UserError, match="has no trial 99; the last one is 19"):
        result.diff(0, 99)


def test_weights_of_a_beaten_design_were_not_kept(tmp_path):
    result = search(tmp_path)
    with pytest.raises(UserError, match="the weights of trial 0 were not kept"):
        result.get_model(0)


def test_a_search_whose_every_trial_fails_ends_well(tmp_path):
    def broken(architecture):
        raise RuntimeError("no luck today")

    result = search(tmp_path, evaluator=broken)
    assert set(result.trials["status"]) == {"failed"}
    assert len(result.front()) == 0
    assert "No design was trained to the end" in result.get_architecture_report()
    assert "no luck today" in (tmp_path / "run/report.html").read_text()


def test_a_space_that_is_used_up_ends_the_search(tmp_path):
    result = search(tmp_path, trials=1000)
    assert len(result.trials) == CELL.size
    assert "all designs of the space" in result.ended_because


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"space": "layred"}, UserError, "space: expected one of .* Did you mean 'layered'"),
        ({"strategy": "evolutoin"}, UserError, "strategy: .* Did you mean 'evolution'"),
        ({"scheduler": "asha2"}, UserError, "scheduler: expected one of asha, bohb, median, none"),
        ({"explanation_level": "long"}, UserError, "explanation level: expected one of brief"),
        ({"evaluator": None}, UserError, "says nothing of networks"),
        ({"problem": {"objectivs": []}}, UserError, "objectivs: not a field of a problem"),
        (
            {"space": "layered", "evaluator": None, "problem": {"dataset": "digitz"}},
            UserError,
            "Did you mean 'digits'",
        ),
        (
            {"space": "layered", "evaluator": None, "problem": {"objectives": ["speed:max"]}},
            UserError,
            "objective: expected one of accuracy",
        ),
        (
            {"space": "layered", "evaluator": None, "problem": {"constraints": {"max_speed": 1}}},
            UserError,
            "constraint on a metric: expected one of accuracy",
        ),
        (
            {
                "space": "layered",
                "evaluator": None,
                "problem": {"dataset": (arrays(side=6)[0], arrays(side=6)[1])},
            },
            UserError,
            "at least 8x8; got 6x6",
        ),
        (
            {"space": "layered", "evaluator": None, "problem": {"constraints": {"max_params": 9}}},
            NoFeasibleDesign,
            "keeps max_params=9 was found in .* The nearest has params",
        ),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path, monkeypatch, options, error, message):
    monkeypatch.setattr("raynas.session.ASKS", 3)
    monkeypatch.setattr("raynas.session.STEPS", 10)
    with pytest.raises(error, match=message):
        search(tmp_path, **options)


def test_nothing_is_left_behind_by_a_search_that_cannot_start(tmp_path):
    with pytest.raises(UserError):
        search(tmp_path, strategy="evolutoin")
    assert not (tmp_path / "run").exists()


def test_a_run_that_has_used_its_budget_asks_for_more(tmp_path):
    search(tmp_path)
    with pytest.raises(UserError, match=r"has used its budget \(20 designs"):
        raynas.resume(tmp_path / "run", evaluator=score)
    with pytest.raises(UserError, match="with an evaluator of your own"):
        raynas.resume(tmp_path / "run", trials=30)


@pytest.mark.slow
def test_published_designs_can_begin_a_search(tmp_path):
    settings = {"space": "nasbench201:channels=4,cells=1", "trials": 2, "epochs": 1}
    settings |= {"driver": "local", "strategy": "random", "scheduler": "none"}
    design = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"
    text = str(nasbench201.from_arch_str(design))
    result = raynas.search(start_from=[text], run=tmp_path / "run", **settings)
    assert result.proposals["kind"].to_list() == ["engineer", "random"]
    assert str(result.architecture(0)) == text
    assert result.get_model(int(result.front()["number"].iloc[0])) is not None
    trained = raynas.search(
        start_from="resnet", search_training=True, run=tmp_path / "trained", **settings
    )
    first = trained.architecture(0)
    assert (first["train.optimizer"], first["train.learning_rate"]) == ("adamw", 0.003)
    with pytest.raises(UserError, match="expected a design of nasbench201; got one of darts"):
        raynas.search(start_from=["darts{x=1}"], run=tmp_path / "other", **settings)
    with pytest.raises(UserError, match="known design of nasbench201: expected one of"):
        raynas.search(start_from=["nobody's"], run=tmp_path / "other", **settings)
    assert not (tmp_path / "other").exists()

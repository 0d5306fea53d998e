"""What a space has to offer within limits, before any search."""

import pytest
from torch import nn

import raynas
from raynas.architecture import Decision
from raynas.cli import main
from raynas.errors import UserError
from raynas.latency import measuring
from raynas.space import Space

WIDTHS = tuple(range(1, 21))
IMAGES = {"input_shape": (1, 4, 4), "num_classes": 2}


def build(design, shape, classes):
    del shape
    width = int(design["width"])
    return nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.Linear(width, classes))


SPACE = Space("lines", (Decision("width", WIDTHS, "neurons", ordered=True),), build=build)


def params(width):
    return 17 * width + 2 * width + 2


def see(constraints=None, samples=300, **more):
    return raynas.preview(
        {"constraints": constraints or {}, **IMAGES, **more}, space=SPACE, samples=samples
    )


def test_the_share_and_the_costs_are_those_of_the_space():
    found = see({"max_params": params(5)})
    assert found.low < 5 / 20 < found.high
    assert found.share == found.feasible / 300
    row = found.costs.loc["params"]
    assert (row["smallest"], row["largest"]) == (params(1), params(20))
    assert row["kept"] == found.share
    assert found.found is not None
    assert str(see({"max_params": params(5)})) == str(found)  # again, the same


def test_without_limits_there_are_only_costs():
    found = see()
    assert found.share == 1
    assert not found.sentences()


def test_all_limits_count_together():
    both = see({"max_params": params(10), "min_flops": 2 * (16 + 2) * 8})
    assert both.low < 3 / 20 < both.high


def test_where_no_design_was_drawn_small_changes_find_one():
    found = see({"max_params": params(1)}, samples=3)
    assert not found.feasible
    assert found.found["width"] == 1
    assert "There are some" in found.sentences()[-1]


def test_the_nearest_limit_is_one_that_some_design_keeps():
    found = see({"max_params": 10, "max_model_size_kb": 0.01})
    assert found.found is None
    assert found.high < 0.02
    assert found.nearest["params"] == params(1)
    assert "Limits that it keeps: max_params=21, max_model_size_kb=0.34" in found.sentences()[-1]
    assert see(found.bounds).feasible


def test_a_phone_is_estimated_and_that_is_said():
    found = see({"max_latency_ms": 1000.0}, target_device="mobile", samples=5)
    assert found.share == 1
    assert "estimated from operation counts" in found.sentences()[0]


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ({"min_accuracy": 0.9}, "known before training .*; got accuracy"),
    ],
)
def test_limits_that_cannot_be_judged_are_said(constraints, message):
    with pytest.raises(UserError, match=message):
        see(constraints)


def test_on_the_command_line(capsys):
    limits = ["preview", "--space", "nasbench201", "--input", "3x16x16", "--classes", "10"]
    assert main([*limits, "--max-params", "300000", "--samples", "50"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "random designs of nasbench201 keep max_params=300000" in printed
    assert main([*limits, "--max-params", "10", "--samples", "5"]) == 1
    assert "Limits that it keeps: max_params=" in capsys.readouterr().out


def test_without_a_table_latencies_are_measured_first(monkeypatch):
    quick = {"WHOLE": 4, "QUIET": 3, "SECONDS": 1e-5, "WHOLE_SECONDS": 1e-4}
    for name, value in quick.items():
        monkeypatch.setattr(measuring, name, value)
    found = see({"max_latency_ms": 1000.0}, samples=30)
    assert found.share == 1
    assert found.costs.loc["latency_ms", "smallest"] > 0
    assert "measured here just now" in str(found)

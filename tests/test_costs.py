"""Costs that are told before training, refuse designs, and are measured at the end."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import raynas
import search_spaces
from raynas import measured, targets
from raynas.architecture import Decision
from raynas.cli import main
from raynas.costs import costs_of
from raynas.errors import UserError
from raynas.memory import passed, peak_memory_mb
from raynas.objective import Constraint, Objective
from raynas.problem import Problem
from raynas.space import Space

SHAPE = (3, 32, 32)


def network(design, shape, classes):
    width = int(design["width"])
    return nn.Sequential(
        nn.Conv2d(shape[0], width, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * width, classes)
    )


WIDTHS = (2, 4, 8, 16, 32, 64, 128, 256)
SMALL = Space("small", (Decision("width", WIDTHS, "channels", ordered=True),), build=network)
TINY = {"driver": "local", "subset": 60, "epochs": 1, "space": SMALL, "strategy": "random"}


@dataclass(frozen=True)
class Stub:
    """A latency table that takes a microsecond for each thousand weights."""

    device: str = "cpu"
    note: str = ""
    threads: int = 1

    def estimate(self, build, input_shape):
        del input_shape
        return sum(p.numel() for p in build().parameters()) / 1e6


class Residual(nn.Module):
    def __init__(self, joined):
        super().__init__()
        self.one, self.two = (nn.Conv2d(4, 4, 1, bias=False) for _ in range(2))
        self.joined = joined

    def forward(self, x):
        y = self.two(self.one(x))
        return y + x if self.joined else y


PHONE = {"target_device": "mobile", "objectives": ["latency_ms"], "constraints": {}}
PHONE |= {"input_shape": (1, 8, 8), "num_classes": 10}


def on_meta(make):
    with torch.device("meta"):
        return make().eval()


def test_memory_is_weights_and_what_lives_at_once():
    weights, map_ = 2 * 16 * 4, 4 * 64 * 4
    chain = on_meta(lambda: Residual(False))
    assert peak_memory_mb(chain, (4, 8, 8)) * 1e6 == weights + 3 * map_  # image, in between, out
    four = on_meta(lambda: nn.Sequential(*(nn.Conv2d(4, 4, 1, bias=False) for _ in range(4))))
    # The image is the caller's and stays; of the chain, what was used up is let go of.
    assert peak_memory_mb(four, (4, 8, 8)) * 1e6 == 2 * weights + 3 * map_
    joined = on_meta(lambda: Residual(True))
    assert peak_memory_mb(joined, (4, 8, 8)) * 1e6 == weights + 3 * map_


def test_in_place_operations_need_no_memory():
    def net(inplace):
        convolution = nn.Conv2d(1, 8, 3, padding=1)
        return on_meta(lambda: nn.Sequential(convolution.to("meta"), nn.ReLU(inplace)))

    saved = peak_memory_mb(net(False), (1, 16, 16)) - peak_memory_mb(net(True), (1, 16, 16))
    assert saved * 1e6 == pytest.approx(8 * 16 * 16 * 4)


@pytest.mark.parametrize("name", ["layered", "nasbench201", "vit", "mobile"])
def test_counts_are_those_of_torch_and_memory_that_of_a_real_pass(name):
    space = search_spaces.find(name)
    design = space.sample(np.random.default_rng(1))
    model = on_meta(lambda: space.build(design, SHAPE, 10))
    first, again = passed(model, SHAPE), passed(model, SHAPE)  # the second from what it remembers
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, *SHAPE, device="meta"))
    assert first.flops == again.flops == counter.get_total_flops()
    real = space.build(design, SHAPE, 10).eval()
    lived = passed(real, SHAPE).peak_bytes
    assert first.peak_bytes == again.peak_bytes == pytest.approx(lived, rel=0.01)
    # What the allocator really gave: the same, and what kernels took for themselves.
    assert 0.99 * lived < measured.measured_memory_mb(real, SHAPE) * 1e6 < 2 * lived


def test_a_design_is_told_what_was_asked_for():
    space = search_spaces.find("layered")
    design = space.sample(np.random.default_rng(0))
    names = ("params", "model_size_kb", "peak_memory_mb", "latency_ms")
    costs = costs_of(space, design, SHAPE, 10, names, Stub())
    assert tuple(costs) == names
    stored = len(save(space.build(design, SHAPE, 10).state_dict()))
    assert costs["model_size_kb"] == stored / 1000
    assert costs["latency_ms"] == costs["params"] / 1e6
    assert costs["peak_memory_mb"] * 1000 > costs["model_size_kb"]


def test_coarse_weights_take_less_room_but_no_less_memory():
    space = search_spaces.find("elastic")
    design = space.sample(np.random.default_rng(0))
    bits = {d.name: d.options for d in space.decisions if d.leaf == "bits"}
    fine, coarse = (
        space.architecture({**design.options, **{n: pick(o) for n, o in bits.items()}})
        for pick in (max, min)
    )
    names = ("model_size_kb", "peak_memory_mb")
    a, b = (costs_of(space, d, SHAPE, 10, names) for d in (fine, coarse))
    assert b["model_size_kb"] < 0.7 * a["model_size_kb"]
    assert b["peak_memory_mb"] == a["peak_memory_mb"]


def test_units_and_directions_are_known():
    assert Objective.parse("latency_ms") == Objective("latency_ms", "min", "ms")
    assert [Objective.parse(n).unit for n in ("peak_memory_mb", "model_size_kb")] == ["MB", "kB"]


def test_a_hard_limit_refuses_before_training_and_the_front_is_measured(tmp_path, capsys):
    run = tmp_path / "run"
    result = raynas.search(
        {
            "objectives": ["accuracy:max", "latency_ms:min"],
            "constraints": {"max_model_size_kb": 20, "max_peak_memory_mb": 0.1},
            "target_device": "mobile",
        },
        trials=3,
        run=run,
        **TINY,
    )
    trials = result.trials
    refused = trials[trials["status"] == "infeasible"]
    assert len(refused)
    assert (refused["seconds"] == 0).all()
    over = (refused["m.model_size_kb"] > 20) | (refused["m.peak_memory_mb"] > 0.1)
    assert over.all()
    assert refused["error"].str.contains("model_size_kb|peak_memory_mb").all()
    done = trials[trials["status"] == "finished"]
    assert len(done) == 3
    assert (done["m.model_size_kb"] <= 20).all()
    assert done["m.latency_ms"].notna().all()

    found = result.measured
    assert set(found["number"]) == set(result.front()["number"])
    sizes = found[found["metric"] == "model_size_kb"]
    assert (sizes["measured"] == sizes["estimate"]).all()
    assert found[found["metric"] == "latency_ms"]["measured"].isna().all()  # no phone here
    assert main(["front", str(run)]) == 0
    printed = capsys.readouterr().out
    assert "Measured end to end" in printed
    assert "estimated from operation counts" in " ".join(printed.split())
    page = (run / "report.html").read_text()
    assert 'id="costs"' in page
    assert "estimated from operation counts" in page


def test_a_search_measures_its_own_table_once_and_keeps_it(tmp_path, monkeypatch):
    calls, run = [], tmp_path / "run"

    def measure(space, input_shape, num_classes, out, device, **_):
        calls.append((space.name, input_shape, num_classes, device))
        out.write_text("table")

    monkeypatch.setattr("raynas.latency.measure", measure)
    monkeypatch.setattr(targets, "_own", lambda run: Stub())
    problem = {"constraints": {"max_latency_ms": 0.02}}
    result = raynas.search(problem, trials=1, run=run, **TINY)
    assert calls == [("small", (1, 8, 8), 10, "cpu")]
    assert (run / "latency.parquet").read_text() == "table"
    done = result.trials[result.trials["status"] == "finished"]
    assert done["m.latency_ms"].item() <= 0.02
    real = result.measured.set_index("metric").loc["latency_ms"]
    assert real["measured"] > 0
    assert real["device"].startswith("cpu")
    more = raynas.resume(run, space=SMALL, trials=2)
    assert len(calls) == 1  # what was measured survives
    assert more.trials["m.latency_ms"].notna().all()


def test_a_table_that_is_given_travels_with_the_run(tmp_path, monkeypatch):
    given, run = tmp_path / "given.parquet", tmp_path / "run"
    given.write_text("given")
    monkeypatch.setattr(targets, "read", lambda path: Stub())
    raynas.search(latency_table=given, trials=1, run=run, **TINY)
    given.unlink()
    assert (run / "latency.parquet").read_text() == "given"
    more = raynas.resume(run, space=SMALL, trials=2)
    assert more.trials["m.latency_ms"].notna().all()


def test_scores_of_a_proxy_search_are_limited_too(tmp_path):
    limit = raynas.preview(PHONE, space=SMALL, samples=20).costs.loc["latency_ms", "median"]
    result = raynas.search(
        {"constraints": {"max_latency_ms": limit}, "target_device": "mobile"},
        evaluation="proxy:name=naswot,finalists=1,probes=0",
        trials=3,
        run=tmp_path / "run",
        **TINY,
    )
    kept = result.trials[result.trials["status"] == "finished"]
    assert set(kept["purpose"]) == {"search", "confirm"}
    assert (kept["m.latency_ms"] <= limit).all()
    assert (result.trials["status"] == "infeasible").any()


@pytest.mark.parametrize(
    ("device", "table", "message"),
    [
        ("cuda", None, "expected a latency table, as there is no CUDA device here"),
        ("cuda", "a.parquet", "expected a table of cuda, the target device; got one of cpu"),
    ],
)
def test_what_cannot_be_told_is_said(device, table, message, monkeypatch):
    monkeypatch.setattr(targets, "_has_cuda", lambda: False)
    monkeypatch.setattr(targets, "read", lambda path: Stub())
    problem = Problem(constraints={"max_latency_ms": 1}, target_device=device)
    with pytest.raises(UserError, match=message):
        targets.settings_of(problem, table)


def test_an_own_evaluator_takes_no_table():
    with pytest.raises(UserError, match="expected no latency table"):
        raynas.search(evaluator=lambda _: {"accuracy": 1.0, "params": 1}, latency_table="a")


ROWS = pd.DataFrame(
    {
        "number": [3, 4, 5],
        "metric": "latency_ms",
        "estimate": [4.0, 5.0, 5.0],
        "measured": [5.0, 5.4, 5.6],
        "device": "cpu, it",
        "note": "",
    }
)


def test_who_breaks_a_limit_when_measured_is_named():
    limit = Constraint("latency_ms", "max", 5.0)
    assert measured.beyond(ROWS, [limit]) == [
        "trial 5 has latency_ms 5.6 when measured, beyond max_latency_ms=5 by more than 10 %"
    ]
    assert measured.errors(ROWS, "latency_ms").round(3).to_list() == [-0.2, -0.074, -0.107]


def test_measurements_in_words(tmp_path):
    info = raynas.search(
        {"constraints": {"max_latency_ms": 5}, "objectives": ["accuracy", "latency_ms"]},
        evaluator=lambda a: {"accuracy": len(str(a)) % 7, "latency_ms": 1.0},
        trials=1,
        run=tmp_path / "run",
        driver="local",
        space=SMALL,
    ).info
    first, second = measured.sentences(ROWS, info)
    assert "off by 10.7 % in the median, at most by 20.0 %" in first
    assert "all keep" not in first
    assert second.startswith("Trial 5 has")
    assert "all keep max_latency_ms=5" in measured.sentences(ROWS[:2], info)[0]
    assert "measure the table anew" in measured.sentences(ROWS.assign(estimate=9.0), info)[1]
    silent = replace(info, settings={**info.settings, "latency": {"note": "a guess"}})
    assert measured.sentences(ROWS[:2], silent)[-1] == "latency_ms is a guess."

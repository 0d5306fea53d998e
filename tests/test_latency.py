"""Latency tables: the calls of a network, their times, and estimates that never invent one."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional

import search_spaces
from raynas.cli import main
from raynas.errors import UserError
from raynas.latency import (
    GrowingTable,
    LatencyTable,
    latencies_ms,
    latency_ms,
    measure,
    measuring,
    mobile,
)
from raynas.latency.calls import calls_of
from raynas.latency.fitting import fitted
from raynas.latency.table import read, write

SHAPE = (1, 8, 8)
SPACE = search_spaces.find("nasbench201:channels=2,cells=1")
DESIGN = SPACE.plainest(SPACE.sample(np.random.default_rng(3)))


class Small(nn.Module):
    def __init__(self, groups=1):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, 2, 1, groups=groups)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = functional.relu(self.norm(self.conv(x)), inplace=True)
        halves = torch.cat(x.chunk(2, 1), 1)
        return self.head((halves + x).mean((2, 3)).reshape(1, 4))


QUICK = {"WHOLE": 6, "QUIET": 4, "SECONDS": 1e-5, "WHOLE_SECONDS": 1e-4}


@pytest.fixture
def quick(monkeypatch):
    for name, value in QUICK.items():
        monkeypatch.setattr(measuring, name, value)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    path = tmp_path_factory.mktemp("tables") / "table.parquet"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in QUICK.items():
            patch.setattr(measuring, name, value)
        return measure(SPACE, SHAPE, 3, path, samples=30), path


@pytest.fixture
def table(measured, tmp_path):
    shutil.copy(measured[1], tmp_path / "table.parquet")
    return measured[0]


def test_calls_are_those_that_compute_in_their_order():
    calls = calls_of(Small, (2, 8, 8))
    assert [c.operation for c in calls] == [
        *("conv2d", "batch_norm", "relu", "cat", "add", "mean", "linear")
    ]
    assert calls == calls_of(Small, (2, 8, 8))  # what is remembered of shapes changes nothing
    conv, head = calls[0], calls[-1]
    assert (conv.output.shape, head.output.shape) == ((1, 4, 4, 4), (1, 3))
    assert conv.weights == 4 * (4 * 2 * 9 + 4)
    assert conv.options() == {"kernel": "3x3", "stride": "2x2", "groups": 1}
    assert conv.text != calls_of(lambda: Small(2), (2, 8, 8))[0].text


def test_a_call_can_be_made_again_alone():
    for call in calls_of(Small, (2, 8, 8)):
        assert call.on("cpu")().shape == call.output.shape


@pytest.mark.parametrize("name", search_spaces.names())
def test_calls_of_every_space_can_be_made(name):
    space = search_spaces.find(name)
    design = space.sample(np.random.default_rng(0))
    calls = calls_of(lambda: space.build(design, (3, 32, 32), 10), (3, 32, 32))
    assert calls[-1].output.shape == (1, 10)
    once = {call.operation: call for call in calls}
    with torch.inference_mode():
        assert all(isinstance(call.on("cpu")(), torch.Tensor) for call in once.values())


def test_networks_take_turns_and_the_threads_are_put_back():
    before = torch.get_num_threads()
    times = latencies_ms([Small(), Small()], (2, 8, 8), seconds=1e-4, threads=1)
    assert len(times) == 2
    assert min(times) > 0
    assert latency_ms(Small(), (2, 8, 8), seconds=1e-4) > 0
    assert torch.get_num_threads() == before


def test_the_fit_finds_what_was_planted():
    rng = np.random.default_rng(0)
    rows = [(1.0, *rng.uniform(1, 5, 5)) for _ in range(40)]
    planted = (0.5, 1.0, 1.0, 0.1, 0.0, 0.2)
    fit = fitted(rows, [float(np.dot(planted, row)) for row in rows])
    assert fit.weights == pytest.approx(planted, abs=1e-3)
    assert fit.error < 1e-3


def test_times_are_added_up_where_networks_cannot_tell():
    rows = [(1.0, t, t, 0.0, 0.0, 0.0) for t in (1.0, 2.0, 3.0)]  # heavy and light go together
    fit = fitted(rows, [2 * row[1] for row in rows])
    assert fit.weights[1:3] == pytest.approx((1.0, 1.0), abs=1e-2)


def test_a_measured_table_estimates_every_design(table, tmp_path):
    again = LatencyTable.read(tmp_path / "table.parquet")
    assert again == table
    assert (table.device, table.threads, table.note) == ("cpu", 1, "")
    estimate = table.estimate(lambda: SPACE.build(DESIGN, SHAPE, 3), SHAPE)
    assert estimate == again.estimate(lambda: SPACE.build(DESIGN, SHAPE, 3), SHAPE) > 0
    rows = pd.read_parquet(tmp_path / "table.parquet")
    assert (rows["median_ms"] > 0).all()
    convolutions = rows[rows["operation"] == "conv2d"]
    assert set(convolutions["kernel"]) == {"1x1", "3x3"}
    assert set(convolutions["channels_in"]) <= {1, 2, 4, 8}


def test_what_is_measured_is_not_measured_again(table, tmp_path, quick, monkeypatch):
    path = tmp_path / "table.parquet"
    rows, head = read(path)
    write(path, rows.iloc[2:], {k: v for k, v in head.items() if k != "fit"})  # as if interrupted
    assert LatencyTable.read(path).note != ""
    timed, told = [], []
    real = measuring._timed
    monkeypatch.setattr(
        measuring, "_timed", lambda calls, *rest: timed.extend(calls) or real(calls, *rest)
    )
    measure(SPACE, SHAPE, 3, path, samples=30, progress=lambda *now: told.append(now))
    assert {call.text for call in timed} == set(rows["call"].iloc[:2])
    assert told[0] == (len(rows) - 2, len(rows) + 6)
    assert told[-1] == (len(rows) + 6, len(rows) + 6)
    with pytest.raises(UserError, match="a table to go on with, of num_classes 5; it is of 3"):
        measure(SPACE, SHAPE, 5, path)


def test_a_missing_entry_is_named(table):
    with pytest.raises(UserError, match=r"no entry for conv2d\(1x2x8x8, 4x2x3x3.* and \d+ more"):
        table.estimate(Small, (2, 8, 8))


def test_a_search_measures_what_its_own_table_lacks(table, tmp_path, quick):
    path = tmp_path / "table.parquet"
    rows, head = read(path)
    lost = rows["operation"] == "conv2d"
    write(path, rows[~lost], head)
    own = GrowingTable(path, LatencyTable.read(path))
    assert own.estimate(lambda: SPACE.build(DESIGN, SHAPE, 3), SHAPE) > 0
    again = LatencyTable.read(path)
    assert lost.any()
    assert again.estimate(lambda: SPACE.build(DESIGN, SHAPE, 3), SHAPE) > 0
    assert again.fit == table.fit
    elsewhere = {**head, "machine": "another"}
    write(path, rows[~lost], elsewhere)
    moved = GrowingTable(path, LatencyTable.read(path))
    with pytest.raises(UserError, match="has no entry for conv2d"):
        moved.estimate(lambda: SPACE.build(DESIGN, SHAPE, 3), SHAPE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.drop(columns="median_ms"), "expected a latency table with median_ms"),
        (lambda rows: rows.assign(median_ms=0.0), "expected times above 0; got 0.0"),
        (lambda rows: rows.assign(median_ms=np.nan), "expected times above 0; got nan"),
    ],
)
def test_a_bad_table_is_refused(table, tmp_path, change, message):
    path = tmp_path / "table.parquet"
    rows, head = read(path)
    write(path, change(rows), head)
    with pytest.raises(UserError, match=message):
        LatencyTable.read(path)


def test_a_file_that_is_no_table_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        LatencyTable.read(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(UserError, match="as raynas latency measure writes it"):
        LatencyTable.read(tmp_path / "text.parquet")
    pd.DataFrame({"call": ["x"]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(UserError, match="as raynas latency measure writes it"):
        LatencyTable.read(tmp_path / "other.parquet")


def test_a_device_must_be_here(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="there is none here"):
        measure(SPACE, SHAPE, 3, tmp_path / "table.parquet", "cuda")
    with pytest.raises(UserError, match="bring a table"):
        measure(SPACE, SHAPE, 3, tmp_path / "table.parquet", "mobile")


def test_mobile_counts_and_says_so():
    estimate = mobile()
    assert estimate.device == "mobile"
    assert "not measured" in estimate.note
    one = estimate.estimate(lambda: nn.Conv2d(2, 4, 3, bias=False), (2, 4, 4))
    flops, moved = 2 * 4 * 2 * 2 * 2 * 9, 4 * (2 * 16 + 4 * 2 * 9 + 4 * 4)
    assert one == pytest.approx(flops / 1.4e7 + moved / 3.1e6)

    def folded():
        return nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())

    assert estimate.estimate(folded, (2, 4, 4)) == one


def test_the_commands(quick, tmp_path, capsys):
    out = tmp_path / "cpu.parquet"
    space = "nasbench201:channels=2,cells=1"
    what = ["--space", space, "--input", "1x8x8", "--classes", "3", "--samples", "12"]
    assert main(["latency", "measure", *what, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "6 whole designs" in printed
    assert f"raynas latency check {out}" in printed
    assert main(["latency", "check", str(out), "--space", space, "--designs", "3"]) in (0, 1)
    found = capsys.readouterr()
    assert "3 random designs" in found.out or "no entry for" in found.err

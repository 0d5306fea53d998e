import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from raynas.api import search
from raynas.architecture import Decision
from raynas.objective import Objective
from raynas.problem import Problem
from raynas.report import write_report
from raynas.report.axes import axis, time_axis
from raynas.report.charts import MOST_POINTS, close_to, thinned, with_ends
from raynas.report.choices import MOST_DECISIONS, MOST_EPOCHS, choices
from raynas.report.words import changed_text, duration, size_text
from raynas.result import SearchResult
from raynas.run import RunInfo
from raynas.space import Space
from tests.shared_runs import shared_choices, shared_info, shared_run, shared_trials

SPACE = Space(
    "own",
    (
        Decision("depth", (1, 2, 3), "how many parts", ordered=True),
        Decision("_x.strÄnge", ("a-b", "c+d"), "an odd name"),
        Decision("a.b.c", (-1.5, 0.0, 2.25), "numbers below zero", ordered=True),
        Decision("layer1.skip_connection", (False, True), "a detour"),
    ),
)
EVIL = "<script>alert('&')</script>"


def score(architecture):
    low = -float(architecture["depth"]) + float(architecture["a.b.c"])
    return {"gain": low, "loss": 10.0 ** architecture["depth"], "zero": 0.0}


def failing(architecture):
    if architecture["depth"] == 2:
        raise ValueError(EVIL)
    return score(architecture)


@dataclass
class Limited:
    """Knows what a design costs before it is evaluated."""

    epochs: int = 1
    split: str = ""
    metrics: frozenset[str] | None = None

    def costs(self, architecture):
        return {"params": 1000.0 * architecture["depth"]}

    def evaluate(self, architecture, context):
        yield failing(architecture)


def run(folder, evaluator=score, objectives=("gain:max", "loss:min"), trials=24, **problem):
    return search(
        {"objectives": list(objectives), **problem},
        space=SPACE,
        evaluator=evaluator,
        trials=trials,
        driver="local",
        run=folder / "run",
    )


def page_of(result):
    """The page as text, after the checks that every page must pass."""
    text = write_report(result).read_text()
    assert "<script" not in text
    rest = text.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "http://" not in rest
    assert "https://" not in rest
    assert not re.search(r"\bnan\b|\bNone\b|&lt;NA&gt;|undefined", text)
    for svg in drawings(text):
        assert svg.get("role") == "img" or svg.get("aria-hidden") == "true"
        assert svg.get("aria-hidden") or svg.get("aria-label")
    assert text.count("<section") == text.count("</section>")
    return text


def drawings(text):
    """Every outermost SVG, parsed as XML."""
    found, start, depth = [], 0, 0
    for tag in re.finditer(r"<svg\b|</svg>", text):
        if tag.group() == "</svg>":
            depth -= 1
            if depth == 0:
                found.append(ElementTree.fromstring(text[start : tag.end()]))
        else:
            start = tag.start() if depth == 0 else start
            depth += 1
    return found


def marks(text, kind):
    return [m for svg in drawings(text) for m in svg.iter() if m.get("class") == f"mark {kind}"]


def empty(folder):
    settings = {"space": None, "explanation_level": "standard", "seed": 0, "recipe": {}}
    RunInfo(Problem(), SPACE, settings, {}, {"raynas": "0"}, "raynas search").write(folder)
    return SearchResult(folder)


def test_a_search_with_two_objectives_is_told_in_full(tmp_path):
    result = run(tmp_path)
    text = page_of(result)
    assert "by an evaluator of your own" in text
    assert f"{SPACE.size} designs" in text
    for number in result.front()["number"]:
        assert f"<title>trial {number}, finished, gain " in text
    assert "gain (higher is better)" in text
    assert "loss, nat (lower is better), log scale" in text
    assert "depth" in text
    assert "a.b.c" in text
    for claim in result.claims["claim_id"][result.claims["kind"] == "contrast"]:
        assert claim in text
    assert "skip connection" in text or not result.architecture()["layer1.skip_connection"]


def test_every_sentence_stands_with_its_claim(tmp_path):
    result = run(tmp_path)
    said = ElementTree.fromstring(re.search(r'<ul class="said">.*?</ul>', page_of(result), re.S)[0])
    sentences = ["".join(li.find("p").itertext()) for li in said.findall("li")]
    assert sentences == result.sentences()[:-1]
    ids = [li.find("code").text for li in said.findall("li")]
    assert set(ids) <= set(result.claims["claim_id"])


def test_one_objective_is_drawn_over_the_trial_number(tmp_path):
    text = page_of(run(tmp_path, objectives=["gain:max"]))
    assert "trial number" in text
    assert "Best designs" in text


def test_of_three_objectives_two_are_drawn_and_all_are_listed(tmp_path):
    text = page_of(run(tmp_path, objectives=["gain:max", "loss:min", "zero:max"]))
    assert "first two of 3 objectives" in text
    assert '<th scope="col" class="number">zero</th>' in text


def test_failures_and_broken_constraints_are_grouped_and_marked(tmp_path):
    result = run(tmp_path, Limited(), constraints={"max_params": 2500})
    text = page_of(result)
    counts = result.trials["status"].value_counts()
    assert counts["failed"] > 1
    assert counts["infeasible"] > 1
    for status in ("failed", "infeasible"):
        assert f'<td class="number">{counts[status]}</td><td class="keep">{status}</td>' in text
        assert len(marks(text, status)) == counts[status] + 1  # and one in the legend
    assert "&lt;script&gt;" in text
    assert "params &gt; 2,500" in text
    assert "params at most 2,500" in text


def test_notes_and_names_are_escaped(tmp_path):
    result = run(tmp_path, trials=3)
    result.ended_because = EVIL
    result.notes.append(EVIL)
    info = result.info
    result.info = RunInfo(
        info.problem, info.space, info.settings, {"name": EVIL}, info.versions, EVIL
    )
    assert page_of(result).count("&lt;script&gt;") >= 5


def test_a_run_without_trials_has_a_page(tmp_path):
    text = page_of(empty(tmp_path / "run"))
    assert "No design was trained to the end yet." in text
    assert "No trial has readings" in text


def test_a_run_without_finished_trials_has_a_page(tmp_path):
    result = run(tmp_path, trials=12)
    result.trials["status"] = "stopped_early"
    text = page_of(result)
    assert len(result.front()) == 0
    assert "No design was trained to the end yet." in text
    assert marks(text, "stopped_early")


def test_a_run_of_failures_only_has_a_page(tmp_path):
    def broken(architecture):
        raise RuntimeError("out of order")

    assert "RuntimeError: out of order" in page_of(run(tmp_path, broken, trials=3))


def test_few_trials_have_no_effects(tmp_path):
    text = page_of(run(tmp_path, trials=5))
    assert "too few trials" in text
    assert 'class="forest"' not in text


def test_a_built_network_is_drawn_part_by_part(tmp_path, monkeypatch):
    parts = [
        {
            "name": "layer1",
            "kind": "Layer",
            "shape": (8, 4, 4),
            "params": 300,
            "flops": 1000,
            "decisions": ["layer1.skip_connection"],
        },
        {"name": "pool", "kind": "Pool", "shape": (8,), "params": 0, "flops": 0, "decisions": []},
        {
            "name": "head",
            "kind": "Linear",
            "shape": (2,),
            "params": 100,
            "flops": 10,
            "decisions": [],
        },
    ]
    monkeypatch.setattr(SearchResult, "layers", lambda self, trial=None: parts)
    text = page_of(run(tmp_path))
    chain = re.search(r'<ol class="chain".*?</ol>', text, re.S)[0]
    assert re.findall(r"<strong>(\w+)</strong>", chain) == ["layer1", "pool", "head"]
    assert "--share: 75.0%" in chain
    assert "8 × 4 × 4" in chain
    assert "The other choices" in text


@pytest.mark.parametrize(
    "values",
    [
        [5.0],
        [0.0, 0.0],
        [-3.0, 4000.0],
        [1e-9, 3e-9],
        [0.1, 1e12],
        [1.0, 30.0],
        [-1e-30, 1e-30],
        [],
    ],
)
def test_axes_hold_their_values_and_have_ticks(values):
    found = axis(values, "loss")
    assert all(0 <= found.at(v) <= 100 for v in values)
    assert 1 <= len(found.ticks) <= 12
    assert all(0 <= tick.at <= 100 for tick in found.ticks)


def test_an_axis_is_logarithmic_where_values_span_more_than_tenfold():
    assert axis([1000.0, 1e6], "params").log
    assert not axis([1000.0, 9e3], "params").log
    assert not axis([0.0, 1e6], "params").log
    assert not axis([0.01, 0.99], "accuracy").log
    ticks = axis([1000.0, 1e6], "params").ticks
    assert [t.text for t in ticks if not t.minor] == ["1 k", "10 k", "100 k", "1 M"]


def test_time_is_told_in_the_unit_that_fits():
    assert [t.text for t in time_axis(7200 * 3).ticks][:2] == ["0 h", "2 h"]
    assert duration(7.25) == "7.25 s"
    assert [t.text for t in time_axis(0.02).ticks][:2] == ["0 ms", "5 ms"]
    assert duration(0.0041) == "4.1 ms"
    assert duration(86) == "1 min 26 s"
    assert duration(7261) == "2 h 1 min"


def test_of_very_many_trials_some_are_drawn_and_the_front_always():
    count = 10 * MOST_POINTS
    rows = pd.DataFrame({"number": range(count)})
    kept = thinned(rows, [7, 4321])
    assert len(kept) <= MOST_POINTS + 2
    assert {7, 4321} <= set(kept["number"])


def test_a_front_in_a_narrow_band_is_drawn_again_closer():
    rows = pd.DataFrame({"number": range(5), "m.gain": [0.0, 50.0, 98.5, 99.0, 100.0]})
    gain = Objective.parse("gain:max")
    assert list(close_to(rows, rows.iloc[3:], gain)["number"]) == [2, 3, 4]
    assert len(close_to(rows, rows.iloc[:], gain)) == 0
    assert len(close_to(rows, rows.iloc[:0], gain)) == 0


def test_pauses_of_a_run_are_left_out():
    start = pd.to_datetime([0, 10, 1000, 1005], unit="s", utc=True).astype("datetime64[us, UTC]")
    trials = pd.DataFrame(
        {"number": range(4), "status": "finished", "started_at": start, "seconds": [20.0, 5, 10, 1]}
    )
    ends = with_ends(trials, pd.DataFrame({"number": range(4), "at": start}))["ended"]
    assert np.allclose(ends, [20, 15, 30, 26])


def test_changes_say_once_that_a_layer_came_or_went():
    changed = [("n", "4", "2"), ("l3.k", "5", None), ("l3.t", "a", None), ("l4.k", None, 7)]
    assert changed_text(changed) == ["n 4 → 2", "l3 removed", "l4 added (k 7)"]


def test_sizes_of_spaces_can_be_read():
    assert size_text(15_625) == "15,625"
    assert size_text(22 * 10**36) == "2.2 × 10³⁷"


def section(text, name):
    return re.search(rf'<section id="{name}">.*?</section>', text, re.S)[0]


def test_a_run_with_shared_weights_is_told_in_its_three_phases(tmp_path):
    result = shared_run(tmp_path / "run", choices=shared_choices())
    text = page_of(result)
    told = section(text, "shared")
    assert "<dd>30 epochs</dd><dd>random designs reach 41.0 %, 1 min 35 s</dd>" in told
    assert "<dd>60 scored</dd><dd>2 designs per second, 30 s</dd>" in told
    assert "5 best, 5 spread over the ranking, from scratch, 12 epochs each, 3 min 20 s" in told
    assert "also do well when trained alone" in told
    ranking, scored = re.findall(r'<figure class="plot">.*?</figure>', told, re.S)
    assert len(marks(ranking, "confirm")) == len(marks(ranking, "uniform_probe")) == 5 + 1
    assert len(marks(ranking, "scored")) == 0  # one of each kind is in the legend
    assert len(marks(scored, "confirm")) == len(marks(scored, "uniform_probe")) == 5 + 1
    assert len(marks(scored, "scored")) == 50 + 1
    alone = result.trials[result.trials["purpose"].isin(["confirm", "uniform_probe"])]
    shown = re.findall(r'<text class="name"[^>]*>(\d+)', scored)
    assert set(map(int, shown)) <= set(alone["number"])


def test_what_was_only_scored_is_no_result(tmp_path):
    result = shared_run(tmp_path / "run")
    text = page_of(result)
    for name in ("front", "timeline"):
        drawn = section(text, name).partition("</figure>")[0]
        assert len(marks(drawn, "front")) == len(result.front()) + 1
        assert len(marks(drawn, "finished")) == 10 - len(result.front()) + 1
        assert not marks(drawn, "scored")
    assert "<dt>designs scored</dt><dd>60</dd>" in text
    assert "<dt>designs trained alone</dt><dd>10</dd>" in text
    assert "accuracy with shared weights, over 60 designs scored" in section(text, "effects")
    assert "accuracy with shared weights" in section(text, "history")
    assert 'id="choices"' not in text


def test_one_objective_is_scored_over_the_trial_number(tmp_path):
    info = shared_info(objectives=["accuracy:max"], evaluation=",inherit=true")
    text = page_of(shared_run(tmp_path / "run", info=info))
    told = section(text, "shared")
    assert "trial number" in told
    assert "trained on from shared weights" in told
    assert "not independent" in told


@pytest.mark.parametrize(("done", "begun"), [(0, False), (1, False), (20, True), (63, True)])
def test_a_run_with_shared_weights_that_has_only_begun_has_a_page(tmp_path, done, begun):
    result = shared_run(tmp_path / "run", shared_trials()[:done], shared_choices())
    told = section(page_of(result), "shared")
    assert ("No design was scored yet." in told) != begun
    assert ("not begun" in told) == (done == 0)


def test_each_decision_is_drawn_with_the_same_styles(tmp_path):
    table = shared_choices(winner="conv_3x3")
    table.loc[table["decision"] == "cell.node2.from_0", "option"] = EVIL  # one option of many
    table = table.drop_duplicates(["epoch", "decision", "option"])
    result = shared_run(tmp_path / "run", choices=table)
    told = section(page_of(result), "choices")
    figures = re.findall(r'<figure class="small">.*?</figure>', told, re.S)
    assert len(figures) == 4
    assert "&lt;script&gt;" in figures[1]
    for figure in (figures[0], *figures[2:]):
        assert figure.count("<polyline") == 4
        assert re.search(r"</svg> conv_3x3 \d+ %", figure)  # the winner is named, not only coloured
    line = r'class="option (option\d+ pattern\d+)[^>]*><title>(\w+):'
    styles = set(re.findall(line, told))
    assert len(styles) == 4


def test_the_option_of_the_best_design_is_marked_where_another_leads():
    table = shared_choices(winner="pool_3x3")
    best = max(shared_trials(), key=lambda t: t.metrics.get("accuracy", 0.0)).architecture
    found = choices(table, best)
    for chart in found.charts:
        assert chart.leader.option == "pool_3x3"
        assert chart.chosen.startswith(f"{best[chart.decision]} (")
        assert chart.lines[-1].leads
        assert [line.chosen for line in chart.lines] == [False, False, True, False]
    assert not any(chart.chosen for chart in choices(table, None).charts)


def test_lines_are_true_to_the_table_and_stay_short():
    table = shared_choices(epochs=500)
    found = choices(table, None)
    assert (found.first, found.last, found.left_out) == (1, 500, 0)
    top = float(found.top.removesuffix(" %")) / 100
    assert table["chance"].max() <= top <= table["chance"].max() + 0.1
    for chart in found.charts:
        for line in chart.lines:
            points = np.array([p.split(",") for p in line.points.split()], dtype=float)
            assert 2 <= len(points) <= MOST_EPOCHS
            own = table["decision"].eq(chart.decision) & table["option"].eq(line.style.option)
            ends = 100 - 100 * table[own]["chance"].iloc[[0, -1]] / top
            assert np.allclose(points[[0, -1], 0], [0, 100])
            assert np.allclose(points[[0, -1], 1], ends, atol=0.1)


def test_after_one_epoch_lines_are_level():
    for chart in choices(shared_choices(epochs=1), None).charts:
        for line in chart.lines:
            (x1, y1), (x2, y2) = (p.split(",") for p in line.points.split())
            assert (x1, x2, y1) == ("0", "100", y2)


def test_of_very_many_decisions_the_least_decided_are_drawn():
    rows = [
        (1, f"edge{i}", option, chance)
        for i in range(MOST_DECISIONS + 5)
        for option, chance in (("a", 0.5 + i / 200), ("b", 0.5 - i / 200))
    ]
    found = choices(pd.DataFrame(rows, columns=["epoch", "decision", "option", "chance"]), None)
    assert [c.decision for c in found.charts] == [f"edge{i}" for i in range(MOST_DECISIONS)]
    assert found.left_out == 5

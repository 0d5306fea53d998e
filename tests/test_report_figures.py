"""Numbers in the figures of the page: positions, widths and sums are those of the claims."""

import re
from dataclasses import replace

import numpy as np
import pytest

from raynas.explanation.claims import from_frame
from raynas.explanation.features import Described
from raynas.objective import Objective
from raynas.report import page
from raynas.report.axes import axis
from raynas.report.contributions import contributions
from raynas.report.importance import importance
from raynas.report.parallel import MOST_DECISIONS, parallel
from raynas.report.scorecard import scorecard
from raynas.report.tree import tree
from raynas.report.waterfall import MOST_STEPS, waterfall
from raynas.report.words import share
from tests.explained_runs import explained_run, make
from tests.test_report import section

ACCURACY = Objective("accuracy", "max")


@pytest.fixture(scope="module", params=["nasbench201", "layered"])
def run(request, tmp_path_factory):
    return explained_run(tmp_path_factory.mktemp(request.param) / "run", request.param)


@pytest.fixture(scope="module")
def text(run):
    return page(run)


@pytest.fixture(scope="module")
def found(run):
    return from_frame(run.claims)


def test_contributions_lead_from_the_reference_to_the_design(run, found):
    number = int(run.front().iloc[0]["number"])
    (added,) = contributions(found, number, [ACCURACY])
    fall = waterfall(added)
    assert fall.first[2] < fall.last[2]
    assert fall.steps[0].start == fall.first[2]
    assert np.isclose(fall.steps[-1].end, fall.last[2], atol=0.02)
    for one, other in zip(fall.steps, fall.steps[1:], strict=False):
        assert one.end == other.start
    assert len(fall.steps) <= MOST_STEPS
    told = " ".join(s.claims for s in fall.steps).split()
    assert sorted(told) == sorted(c.claim_id for c in added.claims)
    wide = 100 / (fall.axis.high - fall.axis.low)
    for s, c in zip(fall.steps[:5], added.claims, strict=False):
        assert np.isclose(s.end - s.start, c.estimate * wide, atol=0.02)
        assert np.isclose(s.high - s.low, (c.ci_high - c.ci_low) * wide, atol=0.02)


def test_what_is_not_told_apart_closes_the_gap():
    levels = {"reference": 0.5, "design": 0.7}
    claims = [
        make("attribution", "estimated", "open", f"a{i}", trial=1, path=f"a{i}", chosen="x",
             alternative="trial 2", estimate=0.05, side_effects=levels)
        for i in range(2)
    ]  # fmt: skip
    (added,) = contributions(claims, 1, [ACCURACY])
    last = waterfall(added).steps[-1]
    assert (last.name, last.text) == ("not told apart", "+10.0")
    assert last.end == waterfall(added).last[2]
    assert contributions(claims, 2, [ACCURACY]) == []
    bare = [replace(c, side_effects={}) for c in claims]
    assert waterfall(contributions(bare, 1, [ACCURACY])[0]) is None


def test_parts_of_the_network_are_as_wide_as_what_they_add(run, text, found):
    number = int(run.front().iloc[0]["number"])
    (added,) = contributions(found, number, [ACCURACY])
    names = [c.path for c in added.claims]
    gains = added.gains([[names[0]], names[1:3], ["no such decision"], [names[-1]]])
    assert gains[2] is None
    sums = [added.claims[0].estimate, sum(c.estimate for c in added.claims[1:3])]
    assert np.isclose(gains[0].weight, sums[0] / sums[1], atol=1e-3)
    assert gains[1].weight == 1
    lower = contributions(found, number, [Objective("accuracy", "min")])[0].gains([[names[0]]])
    assert {gains[0].side, lower[0].side} == {"better", "worse"}
    drawn = section(text, "network")
    assert 'class="gain ' in drawn
    cells = re.findall(r'<figure class="cell">.*?</figure>', drawn, re.S)
    if run.code.graphs is None:
        assert not cells
        return
    wide = {
        ids: float(width)
        for ids, width in re.findall(
            r'<g class="arrow \w+" data-claims="(\w+)">.*?stroke-width: ([\d.]+)', cells[0]
        )
    }
    by = {c.claim_id: abs(c.estimate) for c in added.claims}
    most = max(by[i] for i in wide)
    for i, width in wide.items():
        assert np.isclose(width, 1.2 + 7 * by[i] / most, atol=0.01)
    graph = run.code.graphs(run.architecture())["cell"]
    assert len(wide) == len(graph.edges)  # each edge is weighed by its own decision


def test_every_alternative_is_drawn_with_its_verdict(text, found):
    drawn = section(text, "alternatives")
    contrasts = [c for c in found if c.kind == "contrast"]
    ends = [e for c in contrasts for e in (c.ci_low, c.ci_high, c.audit_estimate) if e is not None]
    scales = [axis([0.0, *ends], "accuracy", signed=True)]
    layered = [c for c in contrasts if "." in c.path]
    ends = [e for c in layered for e in (c.ci_low, c.ci_high, c.audit_estimate) if e is not None]
    scales.append(axis([0.0, *ends], "accuracy", signed=True))
    for c in contrasts:
        svg = re.search(
            rf'<svg[^>]*data-claim="{c.claim_id}".*?</svg>\s*(?:<line.*?)?</svg>', drawn, re.S
        )
        side = "better" if c.estimate > 0 else "worse" if c.estimate < 0 else ""
        assert f'class="whisker {c.verdict} {side}"' in svg[0]
        low = float(re.search(r'class="range" x1="([\d.]+)%', svg[0])[1])
        assert any(np.isclose(low, s.at(c.ci_low)) for s in scales)
        assert ("h9v9h-9" in svg[0]) == (c.tier == "measured")
        assert ('class="retrained"' in svg[0]) == (c.audit_estimate is not None)
    assert drawn.count("✓ confirmed") >= 1
    assert drawn.count("✗ refuted") >= 1


def test_shares_of_importance_add_up(found):
    shown = importance(found)
    whole = {c.path: c for c in found if c.kind == "importance" and c.family == "whole space"}
    assert shown.rows[0].decision == max((p for p in whole if p), key=lambda p: whole[p].estimate)
    assert shown.families[0] == "whole space"
    top = max(c.ci_high for c in found if c.kind == "importance" and c.path)
    for row in shown.rows:
        for bar in row.bars:
            assert np.isclose(bar.end, 100 * bar.claim.estimate / top, atol=0.01)
    assert np.isclose(sum(s.width for s in shown.segments), 100, atol=0.1)
    singles = sum(c.estimate for p, c in whole.items() if p)
    assert np.isclose(shown.segments[0].width, 100 * singles, atol=0.1)
    assert shown.segments[-1].name == "three and more together"
    assert shown.segments[-1].text == share(whole[None].estimate)
    cells = [cell for row in shown.matrix.rows for cell in row if cell]
    assert len(cells) + shown.matrix.left_out == sum(c.kind == "interaction" for c in found)
    assert max(heat for _, heat in cells) == 1


def test_decisions_taken_together_are_not_counted_twice():
    def of(path, estimate):
        about = {"path": path, "unit": "share", "family": "whole space"}
        return make("importance", "estimated", "leans", str(path), estimate=estimate, **about)

    shown = importance([of("a.k", 0.3), of("b.k", 0.2), of("*.k", 0.5), of(None, 0.1)])
    assert [(s.name, s.text) for s in shown.segments] == [
        ("single decisions", "50 %"),
        ("not told apart", "40 %"),
        ("three and more together", "10 %"),
    ]
    assert [r.decision for r in shown.rows] == ["*.k", "a.k", "b.k"]


def test_the_tree_asks_what_its_claim_holds(text, found):
    shown = tree(found)
    assert shown.root.text == "nor_conv_3x3 alive: 2 or more"
    assert shown.root.no.text == "40.0 %"
    assert (shown.root.yes.text, shown.root.yes.no.support) == ("cell.node3.from_0 is none", "50 %")
    assert [n.level for n in (shown.root.no, shown.root.yes.yes, shown.root.yes.no)] == [0, 25, 100]
    assert [f.text for f in shown.fidelity] == ["78 %", "53 %", "69 %"]
    drawn = section(text, "tree")
    assert "two of the better designs</span>" in drawn
    assert "<strong>53 %</strong>" in drawn


def test_a_scorecard_adds_up_the_chosen_design(run, found):
    design = run.architecture()
    names, values = Described(run.info.space).human([design])
    terms = [(names[0], 2.0), (f"{names[-1]} >= 1", -3.0)]
    has = [float(values[0, 0]), float(values[0, -1] >= 1)]
    c = make("scorecard", "estimated", "open", "own", estimate=0.8, unit="share",
             alternatives=[{"value": t, "estimate": p} for t, p in terms],
             side_effects={"random": 0.8, "base": 4.0})  # fmt: skip
    shown = scorecard([c], run.info.space, design)
    assert shown.base == "+4.0"
    total = 4 + 2 * has[0] - 3 * has[1]
    assert shown.total == (f"{total:+.1f}".replace("-", "−") if round(total, 1) else "0.0")
    assert [t.count for t in shown.terms] == [f"{n:.4g}" for n in has]
    unknown = scorecard(found, run.info.space, design)
    assert (unknown.total, [t.points for t in unknown.terms]) == ("", ["+2.5", "−4.0"])


def test_lines_of_parallel_coordinates_pass_where_the_trials_do(run, found):
    rows = run.trials
    shown = parallel(rows, run.front(), run.info, found)
    assert [a.name for a in shown.axes][-2:] == ["accuracy", "params"]
    assert len(shown.axes) == MOST_DECISIONS + 2
    assert shown.axes[0].group + shown.axes[0].name == run.info.space.decisions[0].name
    scale = axis(rows["m.accuracy"], "accuracy")
    by = rows.set_index("number")
    front = set(run.front()["number"])
    for line in shown.lines:
        points = np.array([p.split(",") for p in line.points.split()], dtype=float)
        assert np.allclose(points[:, 0], [a.x for a in shown.axes], atol=0.1)
        assert np.isclose(
            points[-2, 1], 100 - scale.at(by.loc[line.number, "m.accuracy"]), atol=0.1
        )
        assert line.front == (line.number in front)
        option = by.loc[line.number, f"d.{run.info.space.decisions[0].name}"]
        nearest = min(shown.axes[0].marks, key=lambda m: abs(m.at - points[0, 1]))
        assert nearest.text == str(option)
    best = max(shown.lines, key=lambda line: by.loc[line.number, "m.accuracy"])
    assert best.step == 4
    assert parallel(rows.iloc[:2], run.front(), run.info, found) is None

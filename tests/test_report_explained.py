"""The page of a run whose claims are of every kind: sections, ids, and numbers in charts."""

import re
from dataclasses import replace

import pytest

from raynas.explanation.claims import AUDITED, from_frame, write
from raynas.report import page, write_report
from raynas.report.advice import advice
from raynas.report.charts import EXTRA
from raynas.report.parallel import MOST_LINES
from raynas.report.words import percent_change, span
from raynas.result import SearchResult
from tests.explained_runs import BOUGHT, every_kind, explained_info, explained_run, make
from tests.test_report import drawings, marks, page_of, section

OWN = {  # section -> the kind of claim without which it is left out
    "waterfalls": "attribution",
    "importance": "importance",
    "principles": "principle",
    "advice": "advice",
    "scorecard": "scorecard",
    "audit": "audit",
    "tree": "tree",
    "choices": "belief",
}
SPACES = ("nasbench201", "layered")
EVIL = "<script>alert('&')</script>"


@pytest.fixture(scope="module", params=SPACES)
def run(request, tmp_path_factory):
    return explained_run(tmp_path_factory.mktemp(request.param) / "run", request.param)


@pytest.fixture(scope="module")
def text(run):
    return page_of(run)


@pytest.fixture(scope="module")
def found(run):
    return from_frame(run.claims)


def rewritten(result, claims):
    write(result.path / "claims", claims)
    return SearchResult(result.path)


def sections_in(text):
    return re.findall(r'<section id="(\w+)">', text)


def test_every_section_is_there_and_in_order(text):
    assert sections_in(text) == [
        *("words", "network", "alternatives", "waterfalls", "front", "importance", "effects"),
        *("principles", "advice", "scorecard", "timeline", "history", "audit", "tree"),
        *("choices", "parallel"),
    ]
    linked = re.findall(r'<a href="#(\w+)">', text[: text.index("</nav>")])
    assert linked == sections_in(text)


def test_a_section_is_left_out_without_its_claims(tmp_path):
    result = explained_run(tmp_path / "run", "nasbench201")
    everything = from_frame(result.claims)
    for name, kind in OWN.items():
        kinds = {kind, "motif"} if name == "principles" else {kind}
        kept = [c for c in everything if c.kind not in kinds]
        without = page_of(rewritten(result, kept))
        assert name not in sections_in(without)
        assert f'href="#{name}">' not in without[: without.index("</nav>")]
        assert set(OWN) - {name} <= set(sections_in(without))


def test_old_claims_alone_make_the_old_page(tmp_path):
    result = explained_run(tmp_path / "run", "nasbench201")
    old = [c for c in from_frame(result.claims) if c.kind in ("performance", "effect", "contrast")]
    text = page_of(rewritten(result, old))
    assert not set(OWN) & set(sections_in(text))
    assert "expected accuracy" not in text
    assert 'class="gain' not in text


def test_every_claim_id_on_the_page_is_a_claim(text, found):
    known = {c.claim_id for c in found}
    told = set()
    for value in re.findall(r'data-claims?="([^"]*)"', text):
        assert set(value.split()) <= known
        told |= set(value.split())
    shown = ("attribution", "contrast", "principle", "motif", "advice", "effect", "belief")
    shown += ("confirmation", "audit", "scorecard", "tree", "interaction", "provenance")
    for c in found:
        assert c.claim_id in told or c.kind not in shown, c.kind


def test_every_trial_in_a_chart_says_which(run, text):
    numbers = set(run.trials["number"])
    for name in ("front", "timeline"):
        drawn = section(text, name)
        told = re.findall(
            r'<svg class="mark \w+" data-trial="(\d+)"[^>]*><title>trial (\d+),', drawn
        )
        assert len(told) == drawn.count('<svg class="mark')
        assert all(a == b for a, b in told)
        assert {int(a) for a, _ in told} <= numbers
    assert len(re.findall(r"<polyline[^>]* data-trial=", section(text, "parallel"))) == len(numbers)


def test_every_mark_of_a_claim_has_a_tooltip(text):
    for svg in drawings(text):
        for mark in svg.iter():
            if mark.get("data-claim"):
                assert mark.get("data-claim") in mark[0].text
    for tag in re.findall(r"<(?:td|tr|li|table|ul|div)[^>]* data-claim=[^>]*>", text):
        assert "title=" in tag or re.search(r'<(table|div class="effect")', tag), tag


def test_nothing_is_loaded_and_no_text_is_trusted(tmp_path):
    result = explained_run(tmp_path / "run", "nasbench201")
    texts = ("path", "chosen", "alternative", "about", "method", "family")
    evil = [
        replace(
            c,
            **{
                name: EVIL
                for name in texts
                if getattr(c, name) and c.kind not in ("contrast", "provenance")
            },
        )
        for c in from_frame(result.claims)
    ]
    evil += [
        replace(c, method_args=c.method_args.replace("nor_conv_3x3 alive", EVIL.replace("'", "")))
        for c in from_frame(result.claims)
        if c.kind == "tree"
    ]
    text = page_of(rewritten(result, evil))  # which fails on a script
    assert "&lt;script&gt;" in text
    assert not re.search(r'(src|href)="(?!#)', text)
    assert "url(http" not in text
    assert "@import" not in text


def test_the_card_says_what_to_expect_and_how_lucky_the_search_was(run, text, found):
    card = re.search(r'<dl class="card">.*?</dl>', text, re.S)[0]
    c = next(c for c in found if c.kind == "confirmation")
    tile = re.search(rf'<div data-claim="{c.claim_id}"[^>]*>(.*?)</div>', card, re.S)[1]
    assert "<dt>expected accuracy</dt>" in tile
    assert f"<dd>{100 * c.estimate:.1f} %</dd>" in tile
    assert "mean of 3 fresh seeds" in tile
    assert span(c) in tile
    assert "+1.2 points more than to be expected" in card
    number = run.front().iloc[0]["number"]
    assert f'data-trial="{number}"><dt>params</dt>' in card


def test_in_a_loss_less_is_better(tmp_path):
    info = explained_info("nasbench201", ("loss:min", "params:min"))

    def claims(result):
        return [replace(c, metric="loss", unit="nat") for c in every_kind(result)]

    result = explained_run(tmp_path / "run", claims=claims, info=info)
    text = page_of(result)
    for c in from_frame(result.claims):
        if c.kind == "contrast" and c.estimate:
            side = "worse" if c.estimate > 0 else "better"
            assert f'class="whisker {c.verdict} {side}" data-claim="{c.claim_id}"' in text
    assert "fall worse" in section(text, "waterfalls")
    assert "more than to be expected: this reading was not a lucky one" in text


def test_advice_says_what_is_saved_and_lost(text):
    drawn = section(text, "advice")
    assert percent_change(0.64) == "−36 %"
    assert percent_change(0.984) == "−1.6 %"
    assert '<td class="number cost" data-name="params">−36 %</td>' in drawn
    assert "Other members of the front" in drawn
    assert drawn.index("Cheaper") < drawn.index("Better, and not tried yet")


def test_the_audit_says_which_claims_held(text):
    drawn = section(text, "audit")
    assert "<strong>8 of 10</strong>" in drawn
    assert "90 %: 49 % to 96 %" in drawn
    assert "9.1 would be expected" in drawn
    assert drawn.count("✓ right") == drawn.count("✗ wrong") == 1
    assert 'data-trials="44 45"' in drawn


def test_audited_claims_are_shown_as_they_were_before_their_test(tmp_path):
    result = explained_run(tmp_path / "run", "nasbench201")
    texts = result.trials.set_index("number")["architecture"]
    about = {"path": "cell.node1.from_0", "chosen": "none", "alternative": "skip_connect"}
    about["n_direct"] = 1

    def claim(name, trial, edit, estimate):
        other = [{"value": "none", "architecture": str(texts[edit]), "trained": False}]
        return make("contrast", "estimated", "leans", name, trial=trial, estimate=estimate,
                    alternatives=other, **about)  # fmt: skip

    gap = float(result.trials.set_index("number")["m.accuracy"][[40, 44]].diff().iloc[1])
    before = [claim("old", 40, 44, -gap), claim("wrong", 40, 44, gap), claim("lost", 40, 3, 0.1)]
    write(result.path / "claims", before, AUDITED)
    kept = [c for c in from_frame(result.claims) if not c.audit_trial_ids]  # of another design now
    kept.append(claim("new", 40, 44, 0.5))
    kept[-1] = replace(kept[-1], status="confirmed", supersedes=before[0].claim_id)
    drawn = section(page_of(rewritten(result, kept)), "audit")
    assert f'data-claims="{before[0].claim_id} {kept[-1].claim_id}"' in drawn
    assert (drawn.count("✓ right"), drawn.count("✗ wrong")) == (1, 1)
    assert before[2].claim_id not in drawn  # whose edit was never trained
    assert "could not be trained to the end" in drawn
    assert f"{-100 * gap:+.1f} points" in drawn


def test_a_best_design_that_was_not_confirmed_is_said_to_be_so(tmp_path):
    result = explained_run(tmp_path / "run", "nasbench201")
    claims = [
        replace(c, trial=3) if c.kind == "confirmation" else c for c in from_frame(result.claims)
    ]
    text = page_of(rewritten(result, claims))
    assert "<dd>one reading, the best of many, not confirmed</dd>" in text
    assert "<dt>expected accuracy of trial 3</dt>" in text
    assert "as the search read it" not in text


def test_an_edit_that_saves_two_costs_is_one_offer():
    def offer(cost, rate):
        ratios = {"params": 0.6, "flops": 0.7, f"per tenth of {cost}": rate}
        return make("advice", "estimated", "leans", cost, path="a", chosen="x", alternative="y",
                    family="saving", estimate=-0.01, side_effects=ratios)  # fmt: skip

    found = advice([offer("params", -0.002), offer("flops", -0.003)])
    (group,) = found.groups
    (one,) = group.offers
    assert found.costs == ["params", "flops"]
    assert one.costs == ["−40 %", "−30 %"]
    assert one.rate == "−0.2 per tenth of params, −0.3 per tenth of flops"
    assert len(one.claims.split()) == 2


def test_what_was_bought_for_certainty_has_its_own_marks(run, text):
    front = set(run.front()["number"])
    for name in ("front", "timeline"):
        drawn = section(text, name).partition("</figure>")[0]
        for purpose in (p for p in EXTRA if p in BOUGHT.values()):
            bought = [n for n, p in BOUGHT.items() if p == purpose and n not in front]
            assert len(marks(drawn, purpose)) == len(bought) + 1  # and one in the legend
    assert 'class="link"' in section(text, "timeline")
    assert "predicted: +2.0 points" in section(text, "history")
    assert "40 designs were proposed by mutation" in section(text, "history")


def test_of_a_thousand_trials_the_page_stays_small(tmp_path):
    result = explained_run(tmp_path / "run", "layered", count=1000)
    path = write_report(result)
    assert path.stat().st_size < 3e6
    drawn = re.findall(r"<polyline[^>]* data-trial=", section(path.read_text(), "parallel"))
    assert len(drawn) <= MOST_LINES + len(result.front())


def test_the_same_run_has_the_same_page(run):
    assert page(run) == page(SearchResult(run.path))

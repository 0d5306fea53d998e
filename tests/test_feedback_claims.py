"""What feedback did: edits of designs, measured suggestions, counts of directives, the chapter."""

import re

import numpy as np
import pytest
from scipy import stats

import search_spaces
from raynas.architecture import Decision, InvalidArchitecture, InvalidSpace
from raynas.directives import Directive, Turn
from raynas.explanation.checking import orphans
from raynas.explanation.choosing import chosen
from raynas.explanation.claims import from_frame, write
from raynas.explanation.feedback import edit_of, edits
from raynas.explanation.sentences import sentence
from raynas.explanation.suggestions import contrast
from raynas.explanation.telling import tell
from raynas.history import history, spans
from raynas.report import page
from tests.told_runs import AIM, COMMENT, FORBID, LIMIT, ORDER, PIN, PREFER, TYPE, Told, told_run

LAYERED = search_spaces.find("layered")


def claims(run):
    """The claims about feedback; nothing is fitted for them."""
    return list(run.result._findings()._of_feedback())


def of(run, kind, family="turn 1"):
    return [c for c in claims(run) if c.kind == kind and c.family == family]


def only(run, kind="directive", family="turn 1"):
    (claim,) = of(run, kind, family)
    assert orphans(sentence(claim), [claim]) == []
    return claim, sentence(claim)


def told(folder, *directives, before=6, after=8, **fields):
    """A run with one turn between two parts of a search."""
    run = Told(folder)
    run.search(before)
    run.say("feedback", directives, **fields)
    run.search(after)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return told_run(tmp_path_factory.mktemp("told") / "run")


# edits


@pytest.mark.parametrize("name", search_spaces.names())
def test_an_edit_has_what_was_asked_for_and_keeps_the_rest(name):
    space = search_spaces.find(name)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        design = space.sample(rng)
        path, old = design.choices[rng.integers(len(design.choices))]
        for option in space.by_name[path].options:
            edit = edit_of(space, design, Directive("pin", paths=(path,), options=(option,)))
            space.check(edit)
            assert edit[path] == option
            assert (edit == design) == (option == old)
            parents = {d.when[0] for d in space.decisions if d.when}
            if path not in parents:
                assert {n for n in edit.options if edit[n] != design[n]} <= {path}


def test_an_edit_of_a_design_that_has_it_or_lacks_the_part_is_the_design():
    design = LAYERED.narrow({"num_layers": 4}).sample(np.random.default_rng(0))
    pin = Directive("pin", paths=("layer9.kernel_size",), options=(5,))
    assert edit_of(LAYERED, design, pin) == design
    given = Directive("pin", paths=("num_layers",), options=(4, 8))
    assert edit_of(LAYERED, design, given) == design


def test_a_design_to_try_is_that_design():
    rng = np.random.default_rng(0)
    design, other = LAYERED.sample(rng), LAYERED.sample(rng)
    assert edit_of(LAYERED, design, Directive("try", architecture=str(other))) == other
    wrong = str(search_spaces.find("nasbench201").sample(rng))
    with pytest.raises(InvalidArchitecture, match="nasbench201"):
        edit_of(LAYERED, design, Directive("try", architecture=wrong))


def test_an_edit_names_what_it_does_not_know():
    design = LAYERED.sample(np.random.default_rng(0))
    with pytest.raises(InvalidSpace, match=r"layer1\.kernel_size"):
        edit_of(LAYERED, design, Directive("pin", paths=("layer1.kernelsize",), options=(5,)))
    with pytest.raises(InvalidSpace, match="kernel_size"):
        edit_of(LAYERED, design, Directive("pin", paths=("layer1.kernel_size",), options=(9,)))


def test_pins_of_one_layer_in_the_same_words_are_one_edit(tmp_path):
    run = Told(tmp_path / "run")
    run.search(4, LAYERED.narrow({"num_layers": 4, "layer1.kernel_size": 3, "layer1.type": "conv"}))
    run.say("modify", (PIN, TYPE), trial=2)
    turn = run.info.said[0]
    ((directive, design, edit),) = edits(run.info, turn, {2: str(run.design(2))})
    assert (directive, design) == (PIN, run.design(2))
    assert (edit["layer1.kernel_size"], edit["layer1.type"]) == (5, "dilated_conv")
    (claim,) = of(run, "suggestion")
    assert claim.about == (
        "kernel_size 5 instead of 3 and type dilated_conv instead of conv at layer 1"
    )
    assert claim.path == "layer1.kernel_size, layer1.type"


def test_the_design_under_discussion_is_the_one_that_was_said_else_that_of_the_trial(tmp_path):
    info = Told(tmp_path / "run").info
    space = LAYERED.narrow({"num_layers": 4, "layer1.kernel_size": 3})
    one, two = (space.sample(np.random.default_rng(i)) for i in range(2))
    said = Turn(1, 0.0, "modify", directives=(PIN,), trial=7, about=str(one), design=str(two))
    assert [d for _, d, _ in edits(info, said, {7: str(two)})] == [one]
    named = Turn(1, 0.0, "feedback", directives=(PIN,), trial=7)
    assert [d for _, d, _ in edits(info, named, {7: str(two)})] == [two]
    assert edits(info, named) == []
    assert edits(info, Turn(1, 0.0, "proposal", about=str(one), design=str(one))) == []


# suggestions


def test_a_suggestion_is_told_as_the_difference_of_fresh_trainings(run):
    claim, text = only(run, "suggestion")
    assert text == (
        "kernel_size 5 instead of 7 at layer 1: accuracy +0.5 points after 12 epochs "
        "(90 %: -0.6 to +1.6; 4 against 4 trials), latency +0.21 ms. "
        "Adopted because you asked; the evidence does not yet tell it from chance."
    )
    assert (claim.tier, claim.verdict, claim.trial, claim.n_trials) == ("measured", "open", 3, 8)
    purposes = run.result.trials.set_index("number").loc[list(claim.trial_ids), "purpose"]
    assert set(purposes) == {"confirm", "ablation"}  # never the reading that chose the design


def test_what_is_clear_is_asserted_and_what_was_taken_back_is_said_to_be(run):
    claim, text = only(run, "suggestion", "turn 2")
    assert claim.verdict == "asserts"
    assert "almost surely improves accuracy: +6.4 points" in text
    assert "taken back since" in text


def test_the_interval_is_that_of_the_pooled_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.1, 1, 5), rng.normal(0, 1, 3)
    ours = contrast(a, b)
    theirs = stats.ttest_ind(a, b).confidence_interval(0.9)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    sides = stats.ttest_ind(a, b).pvalue / 2
    assert ours.wrong == pytest.approx(sides)
    assert contrast(a[:1], b[:1]).low is None
    assert not contrast(np.ones(3), np.zeros(3)).clear  # no spread: nothing tells the noise


def test_an_edit_that_does_nothing_is_asserted_no_more_often_than_the_level_says():
    rng = np.random.default_rng(1)
    clear = [contrast(rng.normal(size=4), rng.normal(size=4)).clear for _ in range(2000)]
    assert np.mean(clear) == pytest.approx(0.1, abs=0.02)


def outcome(folder, own, other, **fields):
    run = Told(folder)
    run.search(3, LAYERED.narrow({"num_layers": 4, "layer1.kernel_size": 3}))
    run.say("modify", (PIN,), trial=0)
    base = run.design(0)
    run.train(base, own)
    run.train(edit_of(LAYERED, base, PIN), other, "ablation", **fields)
    return only(run, "suggestion")


def test_without_readings_a_suggestion_is_not_tested_yet(tmp_path):
    claim, text = outcome(tmp_path / "run", [], [0.6, 0.7])
    assert (claim.verdict, claim.estimate, claim.tier) == ("open", None, "measured")
    assert "not tested yet (2 fresh trainings of it, 0 of the design that it changes)" in text


def test_readings_of_other_epochs_are_never_compared(tmp_path):
    claim, text = outcome(tmp_path / "run", [0.6, 0.61], [0.6, 0.7], fidelity=6)
    assert claim.estimate is None
    assert "no two trainings of both to the same epoch" in text


def test_one_reading_each_has_no_interval_and_asserts_nothing(tmp_path):
    claim, text = outcome(tmp_path / "run", [0.6], [0.9])
    assert (claim.verdict, claim.ci_low) == ("open", None)
    assert "(1 against 1 trial, no interval)" in text
    assert "one reading each tells nothing of chance" in text


def test_what_is_worse_is_adopted_against_the_evidence(tmp_path):
    _, text = outcome(tmp_path / "run", [0.9, 0.91, 0.89], [0.6, 0.61, 0.59])
    assert "worsens accuracy: -30.0 points" in text
    assert text.endswith("Adopted because you asked; the evidence speaks against it.")


def test_the_same_network_makes_no_difference(tmp_path):
    run = Told(tmp_path / "run")
    run.search(2, LAYERED.narrow({"num_layers": 4, "layer1.kernel_size": 5}))
    run.say("modify", (PIN,), trial=1)
    claim, text = only(run, "suggestion")
    assert (claim.tier, claim.verdict) == ("proven", "null")
    assert "makes no difference" in text


# directives


def test_all_that_holds_and_held_is_told_without_an_orphan(run):
    found = claims(run)
    assert len([c for c in found if c.kind == "directive"]) == 7
    assert {c.status for c in found} == {"in force", "taken back"}
    for c in found:
        assert orphans(sentence(c), [c]) == [], sentence(c)
    assert len({c.claim_id for c in found}) == len(found)


def test_pins_and_prohibitions_count_who_keeps_them(tmp_path):
    run = told(tmp_path / "run", PIN, FORBID)
    texts = [sentence(c) for c in of(run, "directive")]
    assert texts[0] == (
        "Turn 1: layer 1: kernel_size = 5 (was 3, 5 or 7). All 8 designs proposed since keep it."
    )
    assert texts[1].endswith("All 8 designs proposed since keep it.")
    run.search(1, LAYERED.narrow({"num_layers": 4, "layer1.kernel_size": 3}))
    assert "8 of the 9 designs proposed since keep it." in sentence(of(run, "directive")[0])


def test_no_design_was_proposed_yet(tmp_path):
    run = told(tmp_path / "run", PIN, after=0)
    assert "No design was proposed since." in only(run)[1]
    (progress,) = of(run, "progress")
    assert "0 designs were proposed" in sentence(progress)


def test_what_tests_designs_is_no_proposal_of_the_search(run):
    numbers = run.result.trials["purpose"].value_counts()
    claim = of(run, "directive")[0]
    assert claim.n_trials == numbers["search"] - 20


def test_a_limit_counts_who_was_refused(tmp_path):
    run = told(tmp_path / "run", LIMIT, after=30)
    trials = run.result.trials
    refused = (trials["status"] == "infeasible").sum()
    assert 0 < refused < 30
    assert f"Of 30 designs proposed since, {refused} were refused for it." in only(run)[1]


def test_a_reference_point_counts_who_reaches_it(tmp_path):
    aim = Directive("aim", "x", metric="accuracy", sense="min", bound=0.6)
    run = told(tmp_path / "run", aim, before=10, after=20)
    trials = run.result.trials
    reached = (trials["m.accuracy"] >= 0.6).to_numpy()
    claim, text = only(run)
    assert f"{reached[10:].sum()} of 20 designs trained to the end since" in text
    assert f"Before, {reached[:10].sum()} of 10 did" in text
    assert claim.estimate == reached[10:].mean()


def test_a_preference_counts_answers_before_and_since(tmp_path):
    run = told(tmp_path / "run", PREFER, before=10, after=20)
    claim, text = only(run)
    wide = run.result.trials[[f"d.{p}" for p in PREFER.paths]].isin((64, 128)).to_numpy()
    assert claim.side_effects["hits"] == wide[10:].sum()
    assert claim.side_effects["hits_before"] == wide[:10].sum()
    assert "(medium confidence, fading)" in text


def test_an_order_names_who_stood_first_and_who_does(tmp_path):
    run = Told(tmp_path / "run")
    for depth, accuracy in ((16, 0.9), (2, 0.5)):
        run.train(LAYERED.narrow({"num_layers": depth}).sample(run.rng), [accuracy], "search")
    run.say("feedback", (ORDER,))
    _, text = only(run)
    assert "objectives: params, then accuracy (was accuracy, then params)" in text
    assert "Trial 0 stood first before, trial 1 does now." in text


def test_a_tried_design_is_named_by_its_trial(tmp_path):
    run = Told(tmp_path / "run")
    run.search(3)
    design = LAYERED.sample(np.random.default_rng(9))
    run.say("feedback", (Directive("try", "this one", architecture=str(design)),))
    assert only(run)[1].endswith("Not tried yet.")
    run.train(design, [0.81], "search")
    assert "It was tried as trial 3: accuracy 81.0 % after 12 epochs, one reading." in only(run)[1]


def test_a_comment_changes_nothing_and_is_kept(tmp_path):
    claim, text = only(told(tmp_path / "run", COMMENT, after=1))
    assert "kept as a comment, which changes nothing" in text
    assert claim.tier == "recorded"


def test_what_was_added_is_counted(tmp_path):
    wider = Directive("add", "9", ("layer0.kernel_size",), (9,))
    depth = Directive("add", "d", decision=Decision("train.warm", (True, False), "m"), before=False)
    run = told(tmp_path / "run", wider, depth, before=0, after=20)
    first, second = of(run, "directive")
    trials = run.result.trials
    assert first.side_effects["hits"] == (trials["d.layer0.kernel_size"] == 9).sum()
    assert second.side_effects["hits"] == trials["d.train.warm"].sum()


def test_what_was_said_otherwise_later_is_replaced_and_judged_until_then(tmp_path):
    run = told(tmp_path / "run", PIN, after=4)
    other = Directive("pin", "rather 7", ("layer1.kernel_size",), (7,))
    run.say("modify", (other,))
    run.search(3)
    claim, text = only(run)
    assert (claim.status, claim.n_trials) == ("replaced", 4)
    assert text.endswith("All 4 designs proposed since keep it. It was replaced in turn 2.")
    run.say("undo", undoes=2)
    run.search(2)
    claim, text = only(run)  # in force again, for the designs of both spans
    assert (claim.status, claim.n_trials) == ("in force", 6)
    assert "All 6 designs proposed since keep it." in text
    assert spans(run.info.said, run.info.said[0], PIN) == [(6, 10), (13, None)]


def test_a_pin_of_several_decisions_is_judged_by_those_that_it_still_holds(tmp_path):
    paths = ("layer0.kernel_size", "layer1.kernel_size")
    run = told(tmp_path / "run", Directive("pin", "both", paths, (5,)), after=3)
    run.say("modify", (Directive("pin", "rather 7", paths[:1], (7,)),))
    run.search(5)
    claim, text = only(run)
    assert (claim.status, claim.n_trials) == ("in force", 8)
    assert text.endswith("All 8 designs proposed since keep it.")
    run.say("modify", (Directive("pin", "and 3", paths[1:], (3,)),))
    run.search(2)
    claim, text = only(run)
    assert (claim.status, claim.n_trials) == ("replaced", 8)
    assert text.endswith("It was replaced in turn 3.")


def test_what_was_taken_back_is_judged_until_then(run):
    claim, text = only(run, "directive", "turn 2")
    assert (claim.status, claim.n_trials) == ("taken back", 5)
    assert text.endswith("It was taken back in turn 3.")
    assert of(run, "progress", "turn 2") == []


def test_progress_tells_the_best_before_by_what_held_then(run):
    (claim,) = of(run, "progress")
    trials = run.result.trials
    early = trials[trials["number"] < 20]
    assert claim.alternative == str(early["number"][early["m.accuracy"].idxmax()])
    assert claim.chosen == str(run.result.front().iloc[0]["number"])
    assert "now left out by what was said" in sentence(claim)


def test_what_was_shown_is_what_held_before_each_turn(run):
    known = history(run.folder, run.info.said)
    assert [turn.number for turn, _ in known] == [1, 2, 3]
    assert [sorted(state.left) for _, state in known] == [
        [],
        ["layer0.activation", "layer1.kernel_size"],
        ["layer0.activation", "layer1.kernel_size", "layer1.type"],
    ]
    assert known[0][1].problem.constraints == ()


def test_what_is_pinned_may_have_come_with_the_same_turn(tmp_path):
    new = Directive("add", "a", decision=Decision("train.warm", (True, False), "m"), before=False)
    pin = Directive("pin", "b", ("train.warm",), (True,))
    wider = Directive("add", "c", ("layer1.kernel_size",), (9,))
    nine = Directive("pin", "d", ("layer1.kernel_size",), (9,))
    run = told(tmp_path / "run", new, pin, wider, nine, before=0, after=2)
    texts = [sentence(c) for c in of(run, "directive")]
    assert "train: warm = true (was true or false)" in texts[1]
    assert "layer 1: kernel_size = 9 (was 3, 5 or 7)" in texts[3]
    assert texts[3].endswith("All 2 designs proposed since keep it.")


# telling


def test_a_brief_answer_tells_the_suggestion_and_what_came_of_the_last_turn(run):
    brief = chosen(claims(run), 2)
    assert [c.kind for c in brief] == ["suggestion", "progress"]
    assert all(c.status == "in force" for c in brief)
    most = chosen(claims(run), 20)
    assert sum(c.kind == "directive" for c in most) == 2  # the chapter tells them all
    tests = [c for c in most if c.kind == "suggestion"]
    assert [c.status for c in tests] == ["in force", "taken back"]
    rows = tell(claims(run))
    assert {"suggestion", "progress", "directive"} <= {row.template for row in rows}


def test_claims_survive_being_written(run, tmp_path):
    found = claims(run)
    write(tmp_path, found)
    write(run.folder / "claims", found)
    back = from_frame(run.result.claims)
    assert [sentence(c) for c in back] == [sentence(c) for c in found]


def test_a_run_without_feedback_has_no_chapter(tmp_path):
    run = Told(tmp_path / "run")
    run.search(4)
    assert claims(run) == []
    assert 'id="feedback"' not in page(run.result)


def test_the_chapter_tells_every_turn_and_escapes_what_was_said(run):
    write(run.folder / "claims", claims(run))
    html = page(run.result)
    chapter = re.search(r'<section id="feedback">.*?</section>', html, re.S)[0]
    assert '<a href="#feedback">Your feedback</a>' in html
    assert "<script" not in html
    assert "kernel 5 at layer 1 &lt;script&gt;alert(1)&lt;/script&gt;" in chapter
    assert "I like &lt;b&gt;layer 0&lt;/b&gt; &amp; 3 others" in chapter
    assert "<s>layer 1: type = dilated_conv" in chapter
    assert "taken back in turn 3" in chapter
    assert chapter.count('class="whisker') == 2  # an interval for each suggestion
    assert "before turn 1" in chapter
    (progress,) = of(run, "progress")
    assert f'<td class="number">trial {progress.alternative}</td>' in chapter
    assert AIM.note in chapter.replace("&#39;", "'")


def test_a_full_training_of_an_agreed_design_has_its_own_mark(tmp_path):
    run = told(tmp_path / "run", PIN, before=6, after=2)
    run.train(run.design(1), [0.7], "final")
    html = page(run.result)
    assert 'class="mark final"' in html
    assert "an agreed design, trained fully" in html


def test_the_chapter_stands_without_claims_too(tmp_path):
    run = told(tmp_path / "run", PIN, LIMIT, before=3, after=2)
    html = page(run.result)  # of a run that was cut off before its claims were written
    assert "layer 1: kernel_size = 5 (was 3, 5 or 7)" in html

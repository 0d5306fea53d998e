"""How designs came about, as the log says it: descent, kinds, refusals, beliefs."""

import numpy as np
import pandas as pd
import pytest

import raynas
from raynas import tables
from raynas.architecture import Decision
from raynas.explanation import beliefs, provenance
from raynas.explanation.checking import orphans
from raynas.explanation.making import Maker
from raynas.explanation.sentences import sentence
from raynas.objective import Objective
from raynas.problem import Problem
from raynas.run import RunInfo
from raynas.space import Space
from raynas.trial import Candidate, Job, Proposal, Reason, Trial
from tests.shared_runs import shared_choices

ACCURACY = Objective.parse("accuracy:max")
SPACE = Space(
    "chain",
    (
        Decision("depth", (1, 2), "layers", ordered=True),
        Decision("layer0.kind", ("a", "b", "c"), "kind"),
        Decision("layer1.kind", ("a", "b", "c"), "kind", when=("depth", frozenset({2}))),
    ),
)
MAKE = Maker(ACCURACY, "digits", "snapshot", 3.0, [], 5)


def info(objective="accuracy:max"):
    return RunInfo(Problem.of({"objectives": [objective]}), SPACE, {"seed": 0}, {}, {}, "")


def design(depth, *kinds):
    names = {f"layer{i}.kind": kind for i, kind in enumerate(kinds)}
    return SPACE.architecture({"depth": depth, **names})


def trial(number, architecture, curve, status="finished", name="accuracy"):
    readings = tuple({name: v} for v in curve)
    return Trial(number, architecture, status, readings[-1], len(curve), readings)


def tables_of(rows, name="accuracy"):
    """`trials` and `proposals` as a result has them, of (trial, reason, candidates)."""
    trials = [t for t, _, _ in rows]
    jobs = [
        Job(t.number, Proposal(t.architecture, reason, candidates, t.purpose), 0, {}, 0.0)
        for t, reason, candidates in rows
    ]
    schema = tables.trial_schema(SPACE, [name], [name])
    return tables.frame(tables.trials_table(trials, schema)), tables.frame(
        tables.proposals_table(jobs)
    )


def family():
    """Trial 0 at random, 1 from it, 2 from both, 3 at random; one considered design each."""
    first = trial(0, design(1, "a"), [0.5, 0.6, 0.7])
    second = trial(1, design(2, "a", "b"), [0.55, 0.71], "stopped_early")
    third = trial(2, design(2, "b", "b"), [0.6, 0.7, 0.9])
    fourth = trial(3, design(1, "c"), [0.1, 0.2, 0.3])
    turned = Candidate(str(design(1, "b")), 0.25, "duplicate of trial 0")
    lower = Candidate(str(design(2, "c", "c")), 0.2, "a lower score, 0.31")
    child = Reason.child("mutation", "", first, second.architecture)
    guess = {"mean": 0.75, "std": 0.1, "low": 0.6, "high": 0.9}
    both = Reason("crossover", "", (1, 0), (("layer0.kind", "a", "b"),), guess)
    return [
        (first, Reason("random", ""), ()),
        (second, child, (turned,)),
        (third, both, (turned, lower)),
        (fourth, Reason("random", ""), ()),
    ]


def claims(rows=None, number=2):
    trials, proposals = tables_of(rows or family())
    return list(provenance.claims(MAKE, trials, proposals, info(), number))


def of(found, name):
    return [c for c in found if c.family == name]


def test_a_descent_goes_back_to_the_first_design():
    trials, proposals = tables_of(family())
    log = provenance.Log(trials, proposals, ACCURACY)
    steps = provenance.genealogy(log, 2)
    assert [s.number for s in steps] == [2, 1, 0]
    assert [s.kind for s in steps] == ["crossover", "mutation", "random"]
    assert steps[0].changed == ["layer0.kind a → b"]
    assert steps[1].changed == ["depth 1 → 2", "layer1 added"]
    assert steps[2].gain is None


def test_gains_are_read_at_the_same_epoch():
    steps = {c.trial: c for c in of(claims(), "genealogy of trial 2")}
    assert steps[2].estimate == pytest.approx(0.7 - 0.71)  # after two epochs, which both have
    assert steps[2].fidelity == 2
    assert steps[1].estimate == pytest.approx(0.71 - 0.6)
    assert steps[0].estimate is None
    assert steps[2].side_effects == {"predicted": pytest.approx(0.75 - 0.71)}
    assert all(c.tier == "recorded" for c in steps.values())
    assert list(steps[2].trial_ids) == [2, 1, 0]


def test_a_descent_is_told_step_by_step():
    said = [sentence(c) for c in of(claims(), "genealogy of trial 2")]
    assert said == [
        "Trial 2 was made from trials 1 and 0 by crossover, changing layer0.kind a → b: accuracy "
        "-1.0 points in one reading of each after 2 epochs, +4.0 points predicted.",
        "Trial 1 was made from trial 0 by mutation, changing depth 1 → 2, layer1 added: accuracy "
        "+11.0 points in one reading of each after 2 epochs.",
        "Trial 0 was proposed at random, from no earlier trial (recorded).",
    ]


def test_what_each_kind_of_proposal_gave_adds_up():
    found = {c.chosen: c for c in of(claims(), "kinds of proposals")}
    assert set(found) == {"random", "crossover"}  # the other was not trained to the end
    assert found["crossover"].estimate == pytest.approx(0.9 - 0.7)
    assert found["crossover"].side_effects == {"improved": 1.0}
    assert found["random"].estimate == 0
    assert "none read better than all before (single" in sentence(found["random"])


def test_of_a_loss_less_is_a_gain():
    rows = [
        (trial(i, design(1, k), [v], name="loss"), Reason("random", ""), ())
        for i, (k, v) in enumerate(zip("abc", (3.0, 1.0, 2.0), strict=True))
    ]
    trials, proposals = tables_of(rows, "loss")
    found = list(provenance.claims(MAKE, trials, proposals, info("loss:min"), None))
    (kind,) = of(found, "kinds of proposals")
    assert kind.estimate == pytest.approx(-2.0)
    assert kind.side_effects == {"improved": 1.0}


def test_candidates_are_counted_by_what_turned_them_away():
    found = of(claims(), "turned away")
    assert {c.chosen: c.estimate for c in found} == {
        "duplicates of designs tried or running": 2.0,
        "a lower score, N": 1.0,
    }


def test_every_recorded_sentence_stands_in_its_claim():
    trials, proposals = tables_of(family())
    found = claims()
    for text in (design(1, "a"), design(1, "b"), design(2, "c", "c"), design(2, "a", "c")):
        found += provenance.met(MAKE, trials, proposals, ACCURACY, SPACE, str(text))
    assert len(found) > 8
    for claim in found:
        assert orphans(sentence(claim), [claim]) == [], sentence(claim)


def test_a_design_is_looked_up_in_the_log():
    trials, proposals = tables_of(family())

    def said(architecture):
        text = str(architecture)
        given = (MAKE, trials, proposals, ACCURACY, SPACE, text)
        return [sentence(c) for c in provenance.met(*given)]

    assert said(design(1, "a")) == [
        "This design was tried as trial 0 (finished): accuracy 70.0 % after 3 epochs, one reading."
    ]
    assert said(design(2, "c", "c")) == [
        "It was considered before trial 2 was proposed and not taken: a lower score, 0.31."
    ]
    assert said(design(2, "a", "c")) == [
        "It was not among the 4 trials, nor among the candidates that the log keeps of each "
        "proposal."
    ]


def test_a_log_with_holes_is_read_as_far_as_it_goes():
    rows = family()
    trials, proposals = tables_of(rows)
    found = list(provenance.claims(MAKE, trials[trials["number"] != 1], proposals, info(), 2))
    steps = of(found, "genealogy of trial 2")
    assert steps[0].estimate is None
    assert "no accuracy was read of both" in sentence(steps[0])
    loop = Reason("mutation", "", (1,))
    again = [rows[0], (rows[1][0], loop, ()), *rows[2:]]
    assert [c.trial for c in of(claims(again), "genealogy of trial 2")] == [2, 1]
    assert list(provenance.claims(MAKE, trials.iloc[:0], proposals.iloc[:0], info(), None)) == []


def test_what_shared_weights_came_to_believe():
    choices = shared_choices()
    found = list(provenance.beliefs(MAKE, choices))
    last = choices[choices["epoch"] == choices["epoch"].max()]
    assert len(found) == choices["decision"].nunique()
    for claim in found:
        row = last[last["decision"] == claim.path].sort_values("chance").iloc[-1]
        assert (claim.chosen, claim.estimate) == (row["option"], row["chance"])
        assert claim.tier == "recorded"
        assert claim.verdict == ("asserts" if claim.estimate >= 0.5 else "open")
        assert sum(o["estimate"] for o in claim.alternatives) == pytest.approx(1)
        assert orphans(sentence(claim), [claim]) == []
        assert "belief, not a measurement" in sentence(claim)


def test_what_a_controller_came_to_believe():
    rows = []
    for number in range(40):
        p = 0.3 + 0.6 * number / 39
        chances = {"layer0.kind": ((1 - p) / 2, p, (1 - p) / 2)}
        reason = Reason("policy", "", chances=chances)
        rows.append((trial(number, design(1, "b"), [0.5]), reason, ()))
    _, proposals = tables_of(rows)
    (claim,) = beliefs.of_policy(MAKE, proposals, SPACE)
    ends = 0.3 + 0.6 * np.arange(40) / 39
    assert (claim.path, claim.chosen) == ("layer0.kind", "b")
    assert claim.estimate == pytest.approx(ends[-4:].mean())
    assert claim.side_effects == {"first": pytest.approx(ends[:4].mean())}
    assert sentence(claim).startswith(
        "What decided between options in this search came to favour b for layer0.kind: chance 88 % "
        "at the end, 32 % at the beginning"
    )


def test_a_search_without_a_policy_believes_nothing():
    _, proposals = tables_of(family())
    assert list(beliefs.of_policy(MAKE, proposals, SPACE)) == []
    assert isinstance(proposals, pd.DataFrame)


@pytest.mark.parametrize("strategy", ["evolution", "reinforce"])
def test_a_real_search_tells_where_its_best_came_from(tmp_path, strategy):
    result = raynas.search(
        {"objectives": ["accuracy:max"]}, space=SPACE, driver="local", run=tmp_path / "run",
        evaluator=lambda a: {"accuracy": 0.5 + 0.4 * (a["layer0.kind"] == "b")},
        strategy=strategy, trials=10, explanation_level="brief",
    )  # fmt: skip
    kinds = {c.family for c in result.explain() if c.kind == "provenance"}
    assert {f"genealogy of trial {result.performance['trial']}", "kinds of proposals"} <= kinds
    for c in result.explain():
        assert orphans(sentence(c), [c]) == []


def test_chances_from_before_the_options_changed_are_no_part_of_what_it_came_to():
    rows = [
        (trial(n, design(1, "b"), [0.5]), Reason("policy", "", chances={"layer0.kind": each}), ())
        for n, each in enumerate([(0.5, 0.5)] * 3 + [(0.2, 0.6, 0.2)] * 5)
    ]
    _, proposals = tables_of(rows)
    assert list(beliefs.of_policy(MAKE, proposals, SPACE)) == []
    (claim,) = beliefs.of_policy(MAKE, proposals[proposals["number"] >= 3], SPACE)
    assert claim.chosen == "b"

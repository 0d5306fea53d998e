"""What is said of a search with shared weights, and how far their scores can be trusted."""

import math

import numpy as np
import pandas as pd
import pytest

from raynas import tables
from raynas.explanation import collapse, ranking
from raynas.explanation.claims import LEVEL
from raynas.explanation.findings import Findings
from raynas.explanation.readings import MOST
from raynas.explanation.sentences import chosen, sentence, summary
from raynas.front import allowed, front_of
from raynas.result import LEVELS
from raynas.run import RunInfo
from raynas.trial import Trial
from tests.shared_runs import (
    OPTIONS,
    SPACE,
    WORTH,
    quality,
    shared_choices,
    shared_info,
    shared_run,
    shared_trials,
)

TRAINED = ("confirm", "uniform_probe")


def frame(trials, space=SPACE):
    metrics = dict.fromkeys(name for t in trials for name in t.metrics)
    return tables.frame(tables.trials_table(trials, tables.trial_schema(space, [*metrics], [])))


def pairs(scores, results, purpose="uniform_probe"):
    """A run in which designs got these scores and reached these results when trained alone."""
    designs = [d for _, d in zip(scores, distinct(), strict=False)]
    numbered = enumerate(zip(designs, scores, strict=True))
    scored = [Trial(i, d, "finished", {"shared_accuracy": s}, 1) for i, (d, s) in numbered]
    numbered = enumerate(zip(designs, results, strict=False), start=len(scored))
    alone = [Trial(i, d, "finished", {"accuracy": r}, 9, purpose=purpose) for i, (d, r) in numbered]
    return frame([*scored, *alone])


def distinct():
    rng, seen = np.random.default_rng(0), set()
    while True:
        design = SPACE.sample(rng)
        if str(design) not in seen:
            seen.add(str(design))
            yield design


def claim_of(trials, info=None, **options):
    info = info or shared_info(objectives=["accuracy:max"], **options)
    (claim,) = [c for c in Findings(info, trials).all(None) if c.kind == "ranking"]
    return claim


def test_objectives_are_searched_by_their_scores():
    names = ["accuracy:max", "loss:min", "params:min"]
    info = shared_info(objectives=names)
    assert [str(o) for o in info.searched] == ["shared_accuracy:max", "shared_loss:min", names[2]]
    assert [str(o) for o in info.objectives] == names
    for evaluation in ({}, {"evaluation": "train"}, {"evaluation": "table:file=x"}):
        settings = {k: v for k, v in info.settings.items() if k != "evaluation"} | evaluation
        plain = RunInfo(info.problem, SPACE, settings, {}, {}, "")
        assert plain.searched == plain.objectives
        assert not plain.shared


def test_only_designs_trained_alone_stand_on_the_front():
    trials = shared_trials()
    wrong = Trial(999, trials[0].architecture, "finished", {"accuracy": 2.0, "params": 0.0})
    data = frame([*trials, Trial(**{**vars(wrong), "purpose": "supernet"})])
    front = front_of(data, shared_info())
    assert len(front)
    assert set(front["purpose"]) <= set(TRAINED)
    assert front[["m.accuracy", "m.params"]].notna().all(axis=None)


def test_a_constraint_on_what_was_not_read_is_kept():
    data = frame(shared_trials())
    info = shared_info(constraints={"min_accuracy": 2.0, "max_params": 1e9})
    kept = allowed(data, info)
    assert set(kept["purpose"]) == {"supernet", "search"}
    assert data["m.params"].dtype == "Int64"  # whole numbers, of which shared training has none
    assert data["m.params"].isna().any()
    assert len(front_of(data, info)) == 0


@pytest.mark.parametrize("n", [6, 10, 20])
@pytest.mark.parametrize("true", [0.0, 0.4, 0.8])
def test_the_interval_of_a_rank_correlation_covers_the_truth(n, true):
    """Of normal pairs, whose rank correlation is known."""
    rng = np.random.default_rng(n)
    plain = 2 * math.sin(math.pi * true / 6)
    hits = []
    for _ in range(600):
        a = rng.normal(size=n)
        b = plain * a + math.sqrt(1 - plain**2) * rng.normal(size=n)
        low, high = ranking.interval(ranking.correlation(a, b), n)
        hits.append(low <= true <= high)
    assert 0.87 <= np.mean(hits) <= 0.96
    assert LEVEL == 0.9


def test_the_interval_covers_the_ranking_of_designs_of_which_half_are_the_best():
    rng, found = np.random.default_rng(0), []
    for _ in range(400):
        a = np.sort(rng.normal(size=300))
        b = 0.5 * a + math.sqrt(0.75) * rng.normal(size=300)
        few = [*range(295, 300), *np.linspace(0, 294, 5).astype(int)]
        found.append(ranking.correlation(a[few], b[few]))
    true = np.mean(found)
    ends = [ranking.interval(r, 10) for r in found]
    assert 0.87 <= np.mean([low <= true <= high for low, high in ends]) <= 0.98


@pytest.mark.parametrize("n", [4, 5, 10, 30])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_perfect_ranking_has_an_interval_that_ends_at_it(n, sign):
    r = ranking.correlation(np.arange(n), sign * np.arange(n))
    low, high = (sign * end for end in ranking.interval(r, n)[::sign])
    assert high == 1.0
    assert low < 1.0
    assert low > 0 or n == 4  # of four designs nothing can be told


def test_ties_share_their_rank():
    assert ranking.correlation(np.array([1, 1, 2, 2]), np.array([3, 3, 4, 5])) == pytest.approx(
        0.9428, abs=1e-4
    )


def test_a_good_ranking_is_told_with_its_evidence():
    trials = frame(shared_trials())
    claim = claim_of(trials)
    assert claim.verdict == "asserts"
    assert claim.tier == "measured"
    assert claim.ci_low > 0
    assert claim.n_trials == 10
    assert set(claim.trial_ids) == set(trials["number"][trials["purpose"].isin(TRAINED)])
    assert sentence(claim) == (
        "Designs that shared weights rank high also do well when trained alone: rank correlation "
        f"{claim.estimate:.2f} (90 %: {claim.ci_low:.2f} to {claim.ci_high:.2f}) over 10 designs, "
        "5 of them the best found, 5 spread over the ranking."
    )


def test_noise_is_said_to_tell_nothing():
    rng = np.random.default_rng(3)
    asserted = 0
    for _ in range(24):
        claim = claim_of(pairs(rng.random(10), rng.random(10)))
        text = sentence(claim)
        asserted += claim.verdict == "asserts"
        if claim.verdict == "open":
            assert "cannot tell from chance; only the trained designs' own readings count" in text
            assert claim.ci_low <= 0 <= claim.ci_high
    assert asserted <= 6  # 2.4 expected at a level of 90 %


def test_a_weak_ranking_is_called_rough():
    scores = np.arange(30)
    results = scores + 14 * np.random.default_rng(4).normal(size=30)
    claim = claim_of(pairs(scores / 30, results / 200 + 0.4))
    assert claim.verdict == "asserts"
    assert claim.estimate < 0.5
    assert sentence(claim).startswith("Shared weights tell only roughly")


def test_a_ranking_upside_down_is_told_as_such():
    claim = claim_of(pairs(np.arange(9) / 9, 1 - np.arange(9) / 9))
    assert claim.verdict == "asserts"
    assert claim.estimate == pytest.approx(-1)
    assert "do worse when trained alone" in sentence(claim)
    assert "only the trained designs' own readings count" in sentence(claim)


@pytest.mark.parametrize("trained", [0, 3])
def test_too_few_trained_designs_are_said_to_be_too_few(trained):
    data = pairs(np.arange(9) / 9, np.arange(trained) / 9)
    claim = claim_of(data.assign(**{"m.accuracy": data.get("m.accuracy", np.nan)}))
    assert (claim.verdict, claim.estimate, claim.ci_low) == ("open", None, None)
    assert f"{trained} of those scored were trained alone, at least 4 are needed" in sentence(claim)


def test_designs_that_do_not_differ_say_nothing_of_a_ranking():
    claim = claim_of(pairs(np.arange(9) / 9, [0.5] * 9))
    assert (claim.verdict, claim.estimate) == ("open", None)
    assert "do not differ" in sentence(claim)


def test_designs_that_began_with_the_shared_weights_are_not_independent():
    data = frame(shared_trials())
    assert "not independent" in sentence(claim_of(data, evaluation=",inherit=true"))
    assert "independent" not in sentence(claim_of(data, evaluation=",inherit=false"))


def test_what_failed_when_trained_is_not_compared():
    trials = shared_trials()
    failed = [Trial(**{**vars(t), "status": "failed"}) for t in trials[-2:]]
    assert claim_of(frame([*trials[:-2], *failed])).n_trials == 8


def test_a_score_is_compared_with_what_it_stands_for():
    """Params are known before: that they agree says nothing of the ranking."""
    info = shared_info(objectives=["params:min", "accuracy:max"])
    assert claim_of(frame(shared_trials()), info).metric == "accuracy"
    info = shared_info(objectives=["params:min"])
    claims = Findings(info, frame(shared_trials())).all(None)
    assert not [c for c in claims if c.kind == "ranking"]


def test_the_ranking_is_among_the_first_things_said(tmp_path):
    result = shared_run(tmp_path / "run", choices=shared_choices(winner="skip_connect"))
    claims = result.explain()
    brief = chosen(claims, LEVELS["brief"])
    assert [c.kind for c in brief][:3] == ["performance", "ranking", "collapse"]
    assert [sentence(c) for c in brief] == result.sentences("brief")[:-1]


def test_effects_are_those_on_the_scores():
    trials = shared_trials(designs=60)
    found = Findings(shared_info(), frame(trials))
    effects = found.marginal_effects()
    scored = [t for t in trials if t.purpose == "search"]
    assert {(c.metric, c.n_trials, c.fidelity) for c in effects} == {("shared_accuracy", 60, None)}
    for c in effects:
        assert set(c.trial_ids) == {t.number for t in scored}
        if c.path == "cell.node2.from_0":
            either = [t for t in scored if t.architecture[c.path] in (c.chosen, c.alternative)]
            assert c.n_direct == len(either)
    clear = {(c.path, c.chosen, c.alternative) for c in effects if c.verdict == "asserts"}
    assert ("*.from_0", "conv_3x3", "none") in clear
    assert all(WORTH[better] > WORTH[worse] for _, better, worse in clear)
    text = sentence(effects[0])
    assert "with shared weights, over 60 designs scored" in text
    assert "epoch" not in text
    assert "with 60 designs scored" in summary(effects)


def test_effects_on_costs_count_each_design_once():
    found = Findings(shared_info(objectives=["params:min", "accuracy:max"]), frame(shared_trials()))
    effects = found.marginal_effects()
    assert {(c.metric, c.n_trials) for c in effects} == {("params", 60)}
    assert "before training, over 60 designs tried" in sentence(effects[0])


def test_scores_of_noise_have_no_effects():
    loud = 0
    for seed in range(15):
        rng = np.random.default_rng(seed)
        noise = [
            Trial(i, d, "finished", {"shared_accuracy": 0.3 + 0.1 * rng.random()}, 1)
            for i, (_, d) in enumerate(zip(range(60), distinct(), strict=False))
        ]
        claims = Findings(shared_info(objectives=["accuracy"]), frame(noise)).marginal_effects()
        loud += any(c.verdict == "asserts" for c in claims)
    assert loud <= 4


def test_contrasts_of_a_trained_design_are_those_of_scores():
    trials = shared_trials()
    best = max(trials, key=lambda t: t.metrics.get("accuracy", 0.0))
    claims = Findings(shared_info(), frame(trials)).contrasts(best.number)
    assert {c.metric for c in claims} == {"shared_accuracy"}
    stand_in = trials[0].number
    for c in claims:
        assert stand_in not in c.trial_ids
        scored = [t.architecture for t in trials if t.purpose == "search"]
        assert c.n_direct == sum(a[c.path] == c.alternative for a in scored)
        assert "with shared weights, estimated from 60 designs scored" in sentence(c)


def test_performance_and_trade_offs_are_those_of_designs_trained_alone():
    trials = shared_trials()
    found = Findings(shared_info(), frame(trials))
    claims = found.all(None)
    best = next(c for c in claims if c.kind == "performance")
    assert best.n_trials == 10
    assert "the best of 10 trained to the end: validation accuracy" in sentence(best)
    assert "after 12 epochs" in sentence(best)
    assert {c.metric for c in claims if c.kind == "tradeoff"} == {"accuracy"}
    assert "supernet" not in set(found.trials["purpose"])


def test_of_very_many_scores_those_that_enter_are_counted():
    rng, trials = np.random.default_rng(0), []
    for number in range(MOST + 200):
        design = SPACE.sample(rng)
        score = 0.5 + 0.1 * quality(design) + 0.01 * rng.normal()
        trials.append(Trial(number, design, "finished", {"shared_accuracy": score}, 1))
    found = Findings(shared_info(objectives=["accuracy"]), frame(trials))
    assert len(found.read.rows) == MOST
    for c in found.marginal_effects():
        assert (c.n_trials, len(c.trial_ids)) == (MOST, MOST)
        assert c.n_direct <= MOST


def test_nothing_is_said_of_rankings_where_designs_are_trained():
    info = shared_info()
    settings = {**info.settings, "evaluation": "train"}
    plain = RunInfo(info.problem, SPACE, settings, info.data, {}, "")
    trials = [t for t in shared_trials() if t.purpose in TRAINED]
    claims = Findings(plain, frame(trials)).all(None)
    kinds = {c.kind for c in claims}
    assert kinds >= {"performance", "effect"}
    assert not kinds & {"ranking", "collapse"}
    assert {c.metric for c in claims if c.kind == "effect"} == {"accuracy"}
    assert "epochs" in next(sentence(c) for c in claims if c.kind == "effect")


@pytest.mark.parametrize("trials", [[], shared_trials()[:1], shared_trials()[:5]])
def test_a_run_that_has_only_begun_is_no_error(trials):
    claims = Findings(shared_info(), frame(trials), shared_choices()).all(None)
    assert {c.kind for c in claims} <= {"ranking", "belief"}
    assert all(sentence(c) for c in claims)


def table(*edges):
    """Two epochs of choices, in the first of which `none` leads everywhere."""
    rows = [
        (epoch, f"e{i}", option, chance if epoch == 2 else float(option == "none"))
        for epoch in (1, 2)
        for i, edge in enumerate(edges)
        for option, chance in edge.items()
    ]
    return pd.DataFrame(rows, columns=["epoch", "decision", "option", "chance"])


def warning(choices):
    found = Findings(shared_info(), frame(shared_trials()), choices).all(None)
    return next((c for c in found if c.kind == "collapse"), None)


def test_skips_that_lead_on_most_edges_are_warned_of():
    led = {"none": 0.5, "skip_connect": 0.3, "conv": 0.2}
    claim = warning(table(led, led, {"none": 0.1, "skip_connect": 0.3, "conv": 0.6}))
    assert (claim.tier, claim.verdict) == ("recorded", "asserts")
    assert claim.estimate == pytest.approx(2 / 3)
    text = sentence(claim)
    assert text.startswith("Warning: skip connections lead on 2 of 3 edges after 2 epochs")
    assert "Zela et al. 2020" in text


@pytest.mark.parametrize(
    "edges",
    [
        [],
        [{"conv": 0.6, "skip_connect": 0.4}],
        [{"conv": 0.4, "skip_connect": 0.6}, {"conv": 0.6, "skip_connect": 0.4}],  # just half
        [{"conv": 0.5, "skip_connect": 0.5}],  # nothing leads
        [{"identity": 0.1, "skip": 0.6, "none": 0.3}],  # NASNet's skip is a convolution
        [{"none": 0.4, "skip": 0.6}],  # no other option
        [{"16": 0.4, "32": 0.6}],
    ],
)
def test_otherwise_nothing_is_said_of_skips(edges):
    assert warning(table(*edges)) is None


def test_each_space_has_its_name_of_a_skip():
    for name in ("skip_connect", "identity", "skip"):
        assert collapse.leads(table({name: 0.6, "conv": 0.4})) == {"e0": True}
    assert collapse.leads(table({"identity": 0.6, "skip": 0.4})) == {"e0": True}


def test_claims_of_a_run_are_read_back_as_they_were(tmp_path):
    result = shared_run(tmp_path / "run", choices=shared_choices(winner=OPTIONS[1]))
    kinds = set(result.claims["kind"])
    assert {"ranking", "collapse", "effect", "contrast", "performance"} <= kinds
    assert any("rank correlation" in s for s in result.sentences("brief"))

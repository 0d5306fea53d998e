"""Trials that buy certainty: how many, which, in what order, and what is told by them."""

import time
from collections import Counter
from itertools import groupby

import numpy as np
import pandas as pd
import pytest

import raynas
from raynas.archive import Archive
from raynas.certainty import PROBES, Ledger, Plan, planned, until
from raynas.errors import UserError
from raynas.explanation import audit, confirmation
from raynas.explanation import claims as claim_files
from raynas.explanation.claims import AUDITED, Claim, from_frame
from raynas.front import front_of
from raynas.run import RunInfo
from tests.spaces import CELL, SCALED, score

ONE = {"objectives": ["accuracy:max"]}
DETAILED = {"uniform_probe": 12, "search": 24, "confirm": 7, "ablation": 7, "audit": 10}


class Noisy:
    """Readings that vary with the seed around what is true."""

    metrics, epochs, split = None, 1, "abc"

    def __init__(self, deviation=0.01, ends=None):
        self.deviation, self.ends, self.calls = deviation, ends, []

    def costs(self, architecture):
        return {"params": score(architecture)["params"]}

    def evaluate(self, architecture, context):
        self.calls.append(context.seed)
        if len(self.calls) == self.ends:
            raise KeyboardInterrupt
        noise = np.random.default_rng(context.seed).standard_normal()
        yield {"accuracy": 0.3 + 0.5 * score(architecture)["accuracy"] + self.deviation * noise}


def search(run, trials=60, problem=ONE, **options):
    options = {"space": CELL, "evaluator": Noisy(), "strategy": "evolution", **options}
    options = {"driver": "local", "explanation_level": "detailed", **options}
    return raynas.search(problem, run=run, trials=trials, **options)


@pytest.fixture(scope="module", autouse=True)
def unreported():
    """Without reports, which take longer than the searches here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raynas.running.write_report", lambda result: None)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A detailed search that nothing disturbs."""
    return search(tmp_path_factory.mktemp("whole") / "run")


def test_how_much_is_bought_follows_from_the_level_and_the_budget():
    assert planned("brief", 1000) == Plan()
    assert planned("standard", 1000) == Plan(probes=PROBES, confirmations=3)
    assert planned("detailed", 200) == Plan(40, 3, 24, 4, 10, 2)
    assert planned("detailed", 60) == Plan(12, 3, 7, 2, 10, 2)
    assert planned("standard", 4) == Plan()  # a tiny search is nearly nothing but search
    assert planned("detailed", 100, repeats=False) == Plan(probes=20)
    assert planned("standard", 100, probes=False) == Plan(confirmations=3)
    for level in ("brief", "standard", "detailed"):
        for trials in range(1, 300):
            plan = planned(level, trials)
            assert plan.probes + plan.afterwards <= max(0.75 * trials, 1)


def test_the_time_is_shared_out_among_what_is_bought():
    plan = planned("detailed", 100)
    parts = ("uniform_probe", "search", *plan.parts)
    assert [until("detailed", part, plan) for part in parts] == [0.2, 0.6, 0.7, 0.85, 1.0]
    assert until("standard", "search", Plan(probes=3)) == 1.0  # nothing comes after it
    assert until("detailed", "confirm", Plan(confirmations=1)) == 1.0


def test_parts_follow_each_other_and_the_budget_counts_all(whole):
    trials = whole.trials
    assert dict(Counter(trials["purpose"])) == DETAILED
    assert trials["number"].to_list() == list(range(60))
    order = [purpose for purpose, _ in groupby(trials["purpose"])]
    assert order[:3] == ["uniform_probe", "search", "confirm"]
    edits = ["ablation", "confirm", "ablation", "confirm"]  # after six edits and the seventh
    assert order[3:] == [*edits, "audit", "confirm"]
    assert trials["seed"].is_unique


def test_nothing_is_bought_where_none_is_asked_or_it_would_say_nothing(tmp_path):
    brief = search(tmp_path / "brief", 20, explanation_level="brief")
    assert set(brief.trials["purpose"]) == {"search"}
    looked_up = search(tmp_path / "function", 40, evaluator=score)  # reads the same each time
    assert dict(Counter(looked_up.trials["purpose"])) == {"uniform_probe": 8, "search": 32}
    scaled = search(tmp_path / "scaled", 24, space=SCALED, strategy="compound_scaling")
    bought = Counter(scaled.trials["purpose"])
    assert bought["uniform_probe"] == 0
    assert bought["confirm"] >= 3


def test_probes_are_uniform_distinct_and_within_limits(tmp_path):
    problem = {**ONE, "constraints": {"max_params": 116}}
    result = search(tmp_path / "run", 100, problem, explanation_level="standard")
    probes = result.trials[result.trials["purpose"] == "uniform_probe"]
    assert len(probes) == 20
    assert probes["architecture"].is_unique
    assert set(probes["status"]) == {"finished"}
    assert probes["m.params"].max() <= 116
    told = result.proposals[result.proposals["purpose"] == "uniform_probe"]
    assert any("breaks" in c["rejected_by"] for row in told["candidates"] for c in row)
    searched = result.trials[result.trials["purpose"] == "search"]
    assert not set(searched["architecture"]) & set(probes["architecture"])  # the strategy knows


def test_trials_that_test_what_is_known_never_stand_on_the_front(whole):
    trials = whole.trials
    testing = trials["purpose"].isin(["confirm", "ablation", "audit"])
    subject = trials["architecture"][trials["purpose"] == "confirm"].iloc[0]
    flattered = trials.copy()
    flattered.loc[testing, "m.accuracy"] = 2.0
    front = front_of(flattered, whole.info)
    assert set(front["number"]) == set(whole.front()["number"])
    assert subject in set(front["architecture"])
    kept = pd.read_parquet(whole.path / "front.parquet")
    assert set(kept["number"]) == set(front["number"])
    better = trials.copy()  # but a probe that is better has earned its place
    probe = trials.index[trials["purpose"] == "uniform_probe"][:1]
    better.loc[probe, "m.accuracy"] = 2.0
    assert list(front_of(better, whole.info).index) == list(probe)


def test_their_weights_are_not_kept(tmp_path):
    result = search(tmp_path / "run", 20)
    archive = Archive(tmp_path / "run")
    best = next(archive.find(int(n)) for n in result.front()["number"])
    for purpose in ("confirm", "ablation", "audit"):
        flattered = {"accuracy": 2.0}
        trial = best.from_dict({**best.to_dict(), "number": 99, "metrics": flattered})
        trial = trial.from_dict({**trial.to_dict(), "purpose": purpose})
        assert not archive.wants_weights(trial)
    assert archive.wants_weights(trial.from_dict({**trial.to_dict(), "purpose": "uniform_probe"}))
    archive.close()


@pytest.mark.parametrize("ends", [5, 20, 38, 42, 51])
def test_what_was_interrupted_anywhere_goes_on_as_if_nothing_had_happened(tmp_path, whole, ends):
    cut = search(tmp_path / "run", evaluator=Noisy(ends=ends))
    assert cut.interrupted
    assert len(cut.trials) == ends - 1
    result = raynas.resume(tmp_path / "run", evaluator=Noisy())
    columns = ["number", "architecture", "purpose", "seed", "m.accuracy"]
    assert result.trials[columns].equals(whole.trials[columns])
    audited = [claim_files.read(r.path / "claims", AUDITED) for r in (result, whole)]
    assert list(audited[0]["about"]) == list(audited[1]["about"])
    with pytest.raises(UserError, match="has used its budget"):
        raynas.resume(tmp_path / "run", evaluator=Noisy())


def test_a_search_that_goes_on_buys_for_its_new_best_within_the_new_budget(tmp_path):
    search(tmp_path / "run", 16, explanation_level="standard")
    result = raynas.resume(tmp_path / "run", evaluator=Noisy(), trials=40)
    assert len(result.trials) == 40
    bought = Counter(result.trials["purpose"])
    assert bought["uniform_probe"] == 8
    info = RunInfo.read(tmp_path / "run")
    ledger = Ledger.read(tmp_path / "run", info)
    assert ledger.again(ledger.subject) == 3
    assert 3 <= bought["confirm"] <= 5


def test_parts_end_when_their_share_of_the_time_is_over(tmp_path, monkeypatch):
    clock = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    class Timed(Noisy):
        def evaluate(self, architecture, context):
            clock[0] += 10.0
            yield from super().evaluate(architecture, context)

    budget = {"time_budget_hours": 495.0 / 3600, "evaluator": Timed()}
    result = search(tmp_path / "run", 1000, **budget)
    bought = Counter(result.trials["purpose"])
    assert bought["uniform_probe"] == 10  # a fifth of the time
    assert bought["search"] == 20
    assert result.trials["purpose"].to_list()[30:33] == ["confirm"] * 3
    assert bought["ablation"] >= 7
    assert bought["audit"] >= 5
    assert len(result.trials) <= 51


def test_the_edits_that_settle_most_are_trained_once_each(whole):
    rows = whole.proposals[whole.proposals["purpose"] == "ablation"]
    assert rows["architecture"].is_unique
    subject = {tuple(parents) for parents in rows["parents"]}
    assert len(subject) == 1
    assert all(len(changed) == 1 for changed in rows["changed"])
    assert rows["note"].str.contains("settles most").all()


def test_the_audit_finds_true_claims_right_and_planted_false_ones_wrong(whole):
    found = claim_files.read(whole.path / "claims", AUDITED)
    assert len(found) == 10
    tested = audit.tested(whole.trials, found)
    assert len(tested) == 10
    for test in tested:  # one convolution is worth 0.17, a seed 0.01
        assert test.right == (test.difference * test.claim.estimate > 0)
        assert len(test.controls) == 7
    true = [t for t in tested if abs(t.difference) > 0.1]
    assert true
    assert all(t.right for t in true)
    lies = found.assign(estimate=-found["estimate"])
    wrong = audit.tested(whole.trials, lies)
    assert [t.right for t in wrong] == [not t.right for t in tested]


def test_an_audit_says_how_many_were_right_and_how_many_could_be_expected(whole):
    found = claim_files.read(whole.path / "claims", AUDITED)
    (claim,) = audit.claims(make, whole.trials, found)
    tested = audit.tested(whole.trials, found)
    assert claim.estimate == np.mean([t.right for t in tested])
    assert claim.ci_low <= claim.estimate <= claim.ci_high
    assert claim.side_effects["right"] == sum(t.right for t in tested)
    assert 5.0 <= claim.side_effects["expected"] <= 10.0
    assert set(claim.trial_ids) == set(
        whole.trials.loc[whole.trials["purpose"] == "audit", "number"]
    )
    now = from_frame(found)
    marked = audit.judged(now, whole.trials, found)
    assert [c.status for c in marked] == ["confirmed" if t.right else "refuted" for t in tested]
    assert [c.audit_estimate for c in marked] == [t.difference for t in tested]


def make(kind, tier, verdict, about, **fields):
    fields = {"metric": "accuracy", "unit": "", **fields}
    now = pd.Timestamp.now("UTC").to_pydatetime()
    common = {"claim_id": "x", "at": now, "snapshot": "s", "method": "m"}
    return Claim(kind=kind, tier=tier, verdict=verdict, about=about, **{**common, **fields})


def test_a_test_agrees_with_a_claim_as_often_as_both_their_noises_let_it():
    rng = np.random.default_rng(0)
    claimed = make("contrast", "estimated", "leans", "a", estimate=1.0, p_sign=0.95)
    truth = 1.0 + rng.normal(0, 1 / 1.6449, 200_000)
    read = truth + rng.normal(0, 0.5, 200_000)
    assert audit.chance(claimed, 0.5) == pytest.approx((read > 0).mean(), abs=0.005)
    assert audit.chance(claimed, 0.0) == pytest.approx(0.95, abs=1e-6)


def test_fresh_seeds_show_how_lucky_the_best_was(whole):
    front = whole.front()
    (claim,) = confirmation.claims(make, front, whole.trials, whole.info)
    fresh = whole.trials[whole.trials["purpose"] == "confirm"]["m.accuracy"]
    assert claim.estimate == pytest.approx(fresh.mean())
    assert claim.n_seeds == 7
    assert claim.side_effects["excess"] == pytest.approx(front["m.accuracy"].iloc[0] - fresh.mean())
    assert claim.ci_low < claim.estimate < claim.ci_high


def test_claims_of_a_finished_run_can_be_audited_later(tmp_path):
    search(tmp_path / "run", 40, explanation_level="standard")
    with pytest.raises(UserError, match=r"raynas.audit\(run, evaluator=...\)"):
        raynas.audit(tmp_path / "run")
    result = raynas.audit(tmp_path / "run", trials=4, evaluator=Noisy())
    assert Counter(result.trials["purpose"])["audit"] == 4
    assert len(result.trials) >= 44
    again = raynas.audit(tmp_path / "run", trials=3, evaluator=Noisy())
    tested = again.trials[again.trials["purpose"] == "audit"]
    assert len(tested) == 7
    assert tested["architecture"].is_unique
    assert len(audit.tested(again.trials, claim_files.read(again.path / "claims", AUDITED))) == 7
    search(tmp_path / "table", 10, evaluator=score)
    with pytest.raises(UserError, match="a second reading cannot test"):
        raynas.audit(tmp_path / "table", evaluator=score)


@pytest.mark.slow
def test_all_of_it_on_a_cluster(tmp_path):
    result = search(tmp_path / "run", driver="tune", scheduler="asha")
    bought = Counter(result.trials["purpose"])  # results race: claims differ from run to run
    assert {n: bought[n] for n in list(DETAILED)[:2]} == {"uniform_probe": 12, "search": 24}
    assert bought["confirm"] >= 5
    assert bought["audit"] >= 3
    assert sorted(result.trials["number"]) == list(range(len(result.trials)))
    extra = result.trials[result.trials["purpose"] != "search"]
    assert set(extra["status"]) == {"finished"}


def test_a_short_search_has_no_probes_and_time_for_confirmations():
    plan = planned("standard", 1000, seconds=90)
    assert plan == Plan(confirmations=3)
    assert until("standard", "search", plan, 90) == pytest.approx(1 - 25 / 90)
    assert planned("detailed", 1000, seconds=20) == Plan()
    assert planned("standard", 1000, seconds=600) == Plan(PROBES, 3)
    assert until("standard", "search", planned("standard", 1000, seconds=600), 600) == 0.85

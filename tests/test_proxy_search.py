"""A search by a proxy: designs are scored untrained, and a few of them trained alone."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import raynas
from raynas import proxies
from raynas.cli import main
from raynas.data import load
from raynas.errors import UserError
from raynas.evaluation import ProxyEvaluator, TrainingEvaluator
from raynas.explanation import ranking
from raynas.explanation.findings import Findings
from raynas.explanation.sentences import sentence
from raynas.objective import COSTS, Objective
from raynas.problem import Problem
from raynas.recipe import Recipe
from raynas.run import RunInfo
from raynas.screening import Proxy, screening
from raynas.session import Context
from raynas.strategies import SpaceExhausted
from raynas.strategies.screened import Screened
from raynas.trial import Proposal, Reason
from tests.shared_runs import SPACE as CELL
from tests.shared_runs import shared_info, shared_trials
from tests.test_one_shot import cut
from tests.test_shared_claims import frame

ASKED = {
    "space": "nasbench201:channels=4,cells=1",
    "strategy": "random",
    "evaluation": "proxy:name=synflow,finalists=2,probes=2",
    "trials": 6,
    "epochs": 1,
    "driver": "local",
    "batch_size": 128,
}


def searched(run, problem=None, **changes):
    return raynas.search(problem or {}, run=run, **{**ASKED, **changes})


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return searched(tmp_path_factory.mktemp("proxy") / "run")


def readings(result):
    """What a repeated search must have again."""
    names = ["number", "architecture", "purpose", "status", "fidelity"]
    return result.trials[[*names, "m.accuracy", "m.synflow"]]


def test_the_two_phases_share_numbers_and_one_table(result):
    trials, proposals = result.trials, result.proposals.set_index("number")
    purposes = ["search"] * 6 + ["confirm"] * 2 + ["uniform_probe"] * 2
    assert list(trials["number"]) == list(range(10))
    assert list(trials["purpose"]) == purposes
    scored = trials["purpose"] == "search"
    assert trials["m.synflow"].notna().equals(scored)
    assert trials["m.accuracy"].notna().equals(~scored)
    assert set(result.front()["number"]) <= {6, 7, 8, 9}
    for row in trials[~scored].to_dict("records"):
        (parent,) = proposals.loc[row["number"], "parents"]
        first = trials.set_index("number").loc[parent]
        assert first["architecture"] == row["architecture"]
        assert dict(proposals.loc[row["number"], "scores"]) == {"synflow": first["m.synflow"]}
    assert "best by the proxy synflow: is trained" in proposals.loc[6, "note"]


def test_its_words_are_those_of_a_proxy(result, capsys):
    page = (result.path / "report.html").read_text()
    assert '<a href="#shared">Scores by synflow</a>' in page
    assert "1. search without training" in page
    assert "2. trained alone" in page
    assert "searched by the proxy synflow, untrained" in page
    (said,) = (text for text in result.sentences() if "rank correlation" in text)
    assert "the proxy synflow ranks high" in said or "The proxy synflow tells" in said
    assert main(["status", str(result.path)]) == 0
    said = capsys.readouterr().out
    assert re.search(
        r"designs scored: 6 finished, [\d.]+ designs per second; designs trained alone: 4", said
    )
    assert "designs per second" in page
    assert main(["explain", str(result.path), "--trial", "0"]) == 0
    told = f"{page} {' '.join(result.sentences('detailed'))} {capsys.readouterr().out}"
    assert "synflow" in told
    for wrong in ("shared weights", "shared training", "supernet"):
        assert wrong not in told.lower()


def test_there_are_no_shared_weights_to_take_a_network_from(result):
    with pytest.raises(UserError, match="has no shared weights"):
        result.get_model(max_flops=1e6)
    assert not (result.path / "supernet").exists()
    assert result.get_model() is not None


@pytest.mark.parametrize(
    ("owner", "calls", "kept"),
    [(ProxyEvaluator, 3, ["search"] * 2), (TrainingEvaluator, 2, ["search"] * 6 + ["confirm"])],
)
def test_a_cut_search_goes_on_where_it_was(result, tmp_path, monkeypatch, owner, calls, kept):
    with monkeypatch.context() as patched:
        cut(patched, owner, "evaluate", calls)
        ended = searched(tmp_path / "run")
    assert ended.interrupted
    assert list(ended.trials["purpose"]) == kept
    again = raynas.resume(tmp_path / "run")
    pd.testing.assert_frame_equal(readings(again), readings(result))
    with pytest.raises(UserError, match="has evaluated its 6 designs"):
        raynas.resume(tmp_path / "run")


def test_a_limit_of_time_leaves_most_for_training(tmp_path):
    few = searched(tmp_path / "run", trials=100_000, time_budget_hours=5 / 3600)
    purposes = few.trials["purpose"].value_counts()
    assert purposes["search"] > 4
    assert purposes["confirm"] + purposes["uniform_probe"] == 4


@pytest.mark.parametrize("strategy", ["evolution:population=3,tournament=2", "nsga2"])
def test_strategies_and_constraints_work_on_scores(tmp_path, strategy):
    problem = {"constraints": {"max_params": 8000}}
    found = searched(tmp_path / "run", problem, strategy=strategy)
    done = found.trials[found.trials["status"] == "finished"]
    assert (done["purpose"] == "search").sum() == 6
    assert (done["m.params"] <= 8000).all()


def test_weights_are_of_the_trial_and_the_batch_is_of_the_run(result, tmp_path, monkeypatch):
    """With normalized images of the training split, the same for all designs."""
    seen = []
    row = proxies.PROXIES["synflow"]

    def watched(model, images, labels):
        seen.append((images, labels, next(model.parameters()).clone()))
        return row.score(model, images, labels)

    monkeypatch.setitem(proxies.PROXIES, "synflow", replace(row, score=watched))
    again = searched(tmp_path / "run", trials=2)
    assert list(again.trials["m.synflow"][:2]) == list(result.trials["m.synflow"][:2])
    (images, labels, first), (others, _, second) = seen
    assert images.equal(others)
    assert not first.equal(second)
    assert images.shape == (64, 1, 8, 8)
    assert len(labels.unique()) > 5
    assert abs(float(images.mean())) < 0.1
    assert float(images.std()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"evaluation": "proxy:name=other"}, "proxy: expected one of az, expressivity"),
        (
            {"problem": {"objectives": ["params:min"]}, "evaluation": "proxy:name=params"},
            "objective",
        ),
        ({"screen": "az:10"}, "screen: expected designs that are trained one by one"),
        ({"screen": "az:1", "evaluation": "train"}, "2 or more, such as az:10; got 'az:1'"),
        ({"screen": "other:9", "evaluation": "train"}, "proxy: expected one of az, expressivity"),
        ({"evaluation": "proxy:rule=fair"}, "setting of the evaluation proxy"),
        ({"evaluation": "proxy:finalists=0"}, "expected finalists of 1 or more"),
        ({"strategy": "darts"}, "darts trains shared weights: expected"),
        ({"strategy": "evolution:size=3"}, "setting of the strategy evolution"),
        ({"warm_start": "somewhere"}, "no warm_start, which the proxy synflow cannot"),
        ({"search_training": True}, "expected no search_training"),
        ({"evaluator": lambda _: {}}, "expected no own evaluator"),
        ({"problem": {"objectives": ["train_loss:min"]}}, "that the proxy synflow can tell"),
    ],
)
def test_what_does_not_go_together_is_said_before_anything_is_written(tmp_path, changes, said):
    with pytest.raises(UserError, match=said):
        searched(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_a_score_stands_for_what_only_training_tells():
    how = screening("proxy")
    assert how == Proxy("az", 5, 5)
    problem = Problem.of({"objectives": ["params:min", "loss:min", "accuracy:max"]})
    info = RunInfo(problem, CELL, {"evaluation": "proxy:finalists=3"}, {}, {}, "")
    assert list(map(str, info.searched)) == ["params:min", "az:max"]
    assert ranking.compared(info) == (Objective("az", "max"), Objective("loss", "min", "nat"))
    assert not info.shared


def proxy_info(**changes):
    info = shared_info(**changes)
    settings = {**info.settings, "evaluation": "proxy:name=naswot"}
    return RunInfo(info.problem, info.space, settings, info.data, {}, "")


def proxy_frame():
    """The run with shared weights as if a proxy had given the scores."""
    trials = frame([t for t in shared_trials() if t.purpose != "supernet"])
    return trials.rename(columns={"m.shared_accuracy": "m.naswot"})


@pytest.mark.parametrize(("first", "unit"), [("accuracy:max", "1"), ("loss:min", "nat")])
def test_high_scores_agree_with_high_accuracy_and_low_loss(first, unit):
    claims = Findings(proxy_info(objectives=[first]), proxy_frame()).all(None)
    (claim,) = [c for c in claims if c.kind == "ranking"]
    assert claim.estimate > 0.5
    assert claim.chosen == "naswot"
    assert sentence(claim).startswith("Designs that the proxy naswot ranks high also do well")
    effects = [c for c in claims if c.kind == "effect"]
    assert {(c.metric, c.unit, c.fidelity) for c in effects} == {("naswot", "1", None)}
    assert "before training, over 60 designs scored" in sentence(effects[0])


def test_a_design_without_a_score_has_failed_and_no_training(tmp_path, monkeypatch):
    monkeypatch.setitem(
        proxies.PROXIES, "synflow", replace(proxies.PROXIES["synflow"], score=lambda *_: -np.inf)
    )
    nothing = searched(tmp_path / "run")
    assert set(nothing.trials["status"]) == {"failed"}
    assert (nothing.trials["error"] == "synflow is -inf: expected a finite number.").all()
    assert nothing.why_no_front() == "No design was trained to the end."


def test_it_can_be_asked_outside_of_a_search(result):
    full = TrainingEvaluator(result.code, load("digits"), Recipe(epochs=1))
    evaluator = ProxyEvaluator(full, "naswot", 0)
    (reading,) = evaluator.evaluate(result.architecture(6), Context(0, 1, "cpu"))
    assert set(reading) == {"naswot"}
    assert evaluator.metrics == {"naswot", *COSTS}


AZ = {**ASKED, "evaluation": "proxy:name=az,finalists=1,probes=0", "trials": 3}


def test_ranks_are_among_a_population_that_a_run_keeps(tmp_path, monkeypatch):
    """It is drawn by the seed, scored once, and read again by what resumes."""
    monkeypatch.setattr(proxies.ranks, "SIZE", 4)
    cut_off = tmp_path / "cut"
    with monkeypatch.context() as patched:
        cut(patched, ProxyEvaluator, "evaluate", 2)
        raynas.search({}, run=cut_off, **AZ)
    population = pd.read_parquet(cut_off / "population.parquet")
    assert list(population) == list(proxies.PROXIES["az"].ranks)
    assert len(population) == 4
    whole = raynas.search({}, run=tmp_path / "whole", **AZ)
    monkeypatch.setattr(proxies.ranks, "SIZE", 0)  # whoever draws another has none
    again = raynas.resume(cut_off)
    columns = ["number", "architecture", "purpose", "status", "m.az", "m.expressivity"]
    pd.testing.assert_frame_equal(again.trials[columns], whole.trials[columns])
    scored = whole.trials[whole.trials["purpose"] == "search"]
    assert (scored["m.az"] < 0).all()
    row = dict(scored.iloc[0])
    found = {name: row.get(f"m.{name}", -np.inf) for name in population}
    wanted = proxies.Population(population).score(found)
    assert row["m.az"] == pytest.approx(wanted, rel=1e-3)  # FLOPs: counted here, by formula there


def test_screened_proposals_are_the_best_of_several(tmp_path):
    """The others are candidates that were turned away, with their scores."""
    asked = {**ASKED, "evaluation": "train", "screen": "params:4", "trials": 2, "scheduler": "none"}
    found = raynas.search({"constraints": {"max_params": 12000}}, run=tmp_path / "run", **asked)
    assert list(found.trials["status"]) == ["finished"] * 2
    for job, params in zip(
        found.proposals.to_dict("records"), found.trials["m.params"], strict=True
    ):
        assert "; the best of 4 by params, untrained" in job["note"]
        assert dict(job["scores"])["params"] == params
        scored = [c["score"] for c in job["candidates"] if "a lower params" in c["rejected_by"]]
        assert len(scored) == 3
        assert max(scored) <= params <= 12000
        over = [c for c in job["candidates"] if "breaks max_params=12000" in c["rejected_by"]]
        assert all(c["score"] is None for c in over)
    again = raynas.search({"constraints": {"max_params": 12000}}, run=tmp_path / "again", **asked)
    assert list(again.trials["architecture"]) == list(found.trials["architecture"])


class Listed:
    """A strategy that proposes designs in their order until they run out."""

    def __init__(self, count):
        self.designs = list(itertools.islice(CELL.enumerate(), count))
        self.told = []

    def ask(self, rng, pending):
        left = [d for d in self.designs if d not in pending]
        if not left:
            raise SpaceExhausted("none left")
        return Proposal(left[0], Reason("random", "the next"))

    def tell(self, trial):
        self.told.append(trial)


class Scores:
    name = "size"

    def __init__(self, *scores):
        self.left = list(scores)

    def scores(self, architecture, context):
        return {"size": self.left.pop(0)}


def screened(strategy, scores, over=lambda _: "", among=3):
    return Screened(CELL, strategy, Scores(*scores), among, Context(0), over)


def test_what_has_no_score_is_never_better():
    strategy = Listed(2)
    asked = screened(strategy, (-np.inf, 3.0))
    proposal = asked.ask(np.random.default_rng(0), ())
    assert proposal.architecture == strategy.designs[1]
    assert proposal.candidates[0].rejected_by == "a lower size: none against 3"
    assert asked.ask(np.random.default_rng(0), ()) == proposal  # scores are remembered
    with pytest.raises(SpaceExhausted):
        asked.ask(np.random.default_rng(0), strategy.designs)


def test_where_all_break_a_limit_the_session_learns_which():
    strategy = Listed(20)
    asked = screened(strategy, (), over=lambda _: "too large")
    assert asked.ask(np.random.default_rng(0), ()).architecture == strategy.designs[0]
    first = strategy.designs[0]
    asked = screened(strategy, (1.0,), over=lambda d: "" if d == first else "too large")
    proposal = asked.ask(np.random.default_rng(0), ())
    assert proposal.architecture == first
    assert "the only one of 20 to be chosen from" in proposal.reason.note
    assert {c.rejected_by for c in proposal.candidates} == {"too large"}

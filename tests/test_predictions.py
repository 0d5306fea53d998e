"""What is predicted of a trial: in the metric's unit, honest about itself, and said so."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import raynas
from raynas.explanation import predictions
from raynas.explanation.ranking import correlation
from raynas.explanation.sentences import sentence
from raynas.objective import Objective
from raynas.report.predictions import close
from raynas.strategies import make, predictor
from raynas.strategies.forecast import LEVEL, Forecast, surprise
from raynas.trial import Reason, Trial
from tests.spaces import CELL as SPACE

ACCURACY = Objective.parse("accuracy:max")
LOSS = Objective.parse("loss:min")
DESIGN = next(iter(SPACE.enumerate()))


def trials(readings, name="accuracy", status="finished"):
    return [Trial(i, DESIGN, status, {name: r}) for i, r in enumerate(readings)]


def worth(seed, noise=0.0):
    """A made-up accuracy: effects of options, squashed to a share, and noise between trials."""
    rng = np.random.default_rng(seed)
    effects = rng.normal(size=len(SPACE.columns)) / 2

    def evaluate(design):
        return {
            "accuracy": 1
            / (1 + np.exp(-float(effects @ SPACE.encode(design)) - noise * rng.normal()))
        }

    return evaluate


def searched(strategy, evaluate, count, seed=0):
    """A search's trials, each with the reason of its proposal, as a session tells them."""
    asked, told = make(strategy, SPACE, (ACCURACY,)), []
    for number in range(count):
        proposal = asked.ask(np.random.default_rng((seed, number)), [])
        design = proposal.architecture
        trial = Trial(number, design, "finished", evaluate(design), 1, reason=proposal.reason)
        told.append(trial)
        asked.tell(trial)
    return told


def test_a_forecast_speaks_in_the_metric_and_goes_on_beyond_what_was_seen():
    forecast = Forecast.of(ACCURACY, trials([0.2, 0.4, 0.8]), np.array([-1.0, 0.0, 1.0]))
    assert forecast.read(np.array([-2.0, -0.5, 0.5, 1.0, 1.5])) == pytest.approx(
        [-0.1, 0.3, 0.6, 0.8, 0.95]
    )
    told = forecast(0.0, 0.5)
    assert told["mean"] == pytest.approx(0.4)
    assert told["std"] == pytest.approx((0.6 - 0.3) / 2)
    assert told["low"] < 0.3 < 0.6 < told["high"]
    wide = forecast(0.0, 0.5, (2.0, 1.0))
    assert wide["low"] < told["low"]
    assert wide["high"] == told["high"]


def test_a_forecast_of_what_is_to_be_small_is_the_right_way_round():
    forecast = Forecast.of(LOSS, trials([3.0, 2.0, 1.0], "loss"), np.array([-1.0, 0.0, 1.0]))
    told = forecast(1.5, 0.5)
    assert told["mean"] == pytest.approx(0.5)
    assert told["low"] < 0.2 < 0.8 < told["high"]


def test_readings_that_contradict_their_order_are_not_followed():
    values = np.array([0.0, 1.0, 2.0, 2.0])
    forecast = Forecast.of(ACCURACY, trials([0.5, 0.4, 0.6, 0.8]), values)
    assert forecast.readings.tolist() == [0.5, 0.5, pytest.approx(0.7)]


@pytest.mark.parametrize(
    "told", [trials([0.5]), trials([0.5, 0.5]), trials([0.5, 0.7], status="stopped_early")]
)
def test_without_two_finished_readings_there_is_no_unit(told):
    assert Forecast.of(ACCURACY, told, np.arange(len(told), dtype=float)) is None


def test_a_surprise_is_good_or_bad():
    reason = Reason("acquisition", "", scores={"mean": 0.5, "low": 0.4, "high": 0.6})
    low, inside, high = (replace(t, reason=reason) for t in trials([0.3, 0.6, 0.7]))
    assert [surprise(t, ACCURACY) for t in (low, inside, high)] == [-1, 0, 1]
    assert [
        surprise(replace(t, metrics={"loss": r}), LOSS) for t, r in ((low, 0.3), (high, 0.7))
    ] == [1, -1]
    assert surprise(replace(low, status="stopped_early"), ACCURACY) is None
    assert surprise(replace(low, reason=None), ACCURACY) is None


@pytest.mark.parametrize("strategy", ["predictor", "bananas"])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_intervals_hold_as_often_as_they_say(strategy, noise):
    held = []
    for seed in range(3):
        told = searched(strategy, worth(seed, noise), 60, seed)
        found = [surprise(t, ACCURACY) for t in told[20:]]
        held += [way == 0 for way in found if way is not None]
    assert len(held) > 100
    assert 0.8 <= np.mean(held) <= 0.99  # the stated level is 0.9
    assert LEVEL == 0.9


@pytest.mark.parametrize("strategy", ["predictor", "bananas"])
def test_predictions_rank_trials_that_were_not_seen(strategy):
    told = [t for t in searched(strategy, worth(1), 50) if "mean" in t.reason.scores]
    both = [(t.reason.scores["mean"], t.metrics["accuracy"]) for t in told]
    assert len(both) > 30
    assert correlation(*np.array(both).T) > 0.5


def test_surprises_widen_what_comes_next():
    told = searched("predictor", worth(0), 30)
    calm, shaken = (make("predictor", SPACE, (ACCURACY,)) for _ in range(2))
    for trial in told:
        calm.tell(replace(trial, reason=None))
        missed = {"mean": 0.0, "low": -1.0, "high": trial.metrics["accuracy"] - 0.01}
        shaken.tell(replace(trial, reason=Reason("acquisition", "", scores=missed)))
    a, b = (s.ask(np.random.default_rng(1), []).reason.scores for s in (calm, shaken))
    assert a["mean"] == b["mean"]
    assert b["high"] - b["mean"] > 2 * (a["high"] - a["mean"])


def frame(rows, level="accuracy"):
    """What a run keeps of trials `(mean, low, high, read, status)`."""
    told = pd.DataFrame(
        {
            "number": range(len(rows)),
            "status": [r[4] for r in rows],
            "purpose": "search",
            f"m.{level}": [r[3] for r in rows],
        }
    )
    scores = [list(zip(("mean", "low", "high"), r[:3], strict=True)) for r in rows]
    return told, pd.DataFrame({"number": range(len(rows)), "scores": scores})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return raynas.search(
        {"objectives": ["accuracy:max"]}, space=SPACE, evaluator=worth(2), trials=40,
        driver="local", run=folder, strategy="predictor",
    )  # fmt: skip


def test_a_run_keeps_what_was_predicted_and_judges_it(run):
    rows = predictions.judged(run.trials, run.proposals, run.info)
    assert len(rows) == 32  # the first eight are random
    assert rows["read"].tolist() == run.trials["m.accuracy"].tolist()[8:]
    said = predictions.of_frame(rows)
    assert f"{rows['held'].sum()} of 32 within" in said
    ranks, intervals = (c for c in run.explain() if c.kind in ("prediction", "calibration"))
    assert ranks.verdict == "asserts"
    assert ranks.ci_low <= ranks.estimate <= ranks.ci_high
    assert "over 32 finished trials" in sentence(ranks)
    assert intervals.estimate == rows["held"].mean()
    assert f"held {rows['held'].sum()} of 32 readings" in sentence(intervals)


def test_the_report_draws_predictions_beside_readings(run):
    page = (run.path / "report.html").read_text()
    section = page.partition('<section id="predictions">')[2].partition("</section>")[0]
    assert (
        len(re.findall('class="bar"', section))
        == len(re.findall('class="mark', section)) - len(re.findall("<g ", section))
        > 20
    )
    assert "predicted accuracy" in section
    assert "read within its interval" in section


def test_nothing_is_said_where_nothing_was_predicted(tmp_path):
    result = raynas.search(
        {"objectives": ["accuracy:max"]}, space=SPACE, evaluator=worth(2), trials=6,
        driver="local", run=tmp_path / "run", strategy="random",
    )  # fmt: skip
    assert not {"prediction", "calibration"} & {c.kind for c in result.explain()}
    assert 'id="predictions"' not in (tmp_path / "run/report.html").read_text()
    assert (
        predictions.of_frame(predictions.judged(result.trials, result.proposals, result.info)) == ""
    )


@pytest.mark.parametrize(
    ("held", "count", "verdict", "words"),
    [
        (27, 30, "open", "which fits what they say"),
        (12, 30, "asserts", "less sure than they look"),
        (60, 60, "asserts", "surer than they look"),
    ],
)
def test_intervals_are_judged_by_how_often_they_held(run, held, count, verdict, words):
    rng = np.random.default_rng(0)
    means = rng.random(count)
    rows = [
        (m, m - 0.1, m + 0.1, m + (0.05 if i < held else 0.2), "finished")
        for i, m in enumerate(means)
    ]
    rows.append((0.5, 0.4, 0.6, 0.9, "stopped_early"))
    told, proposals = frame(rows)
    found = list(predictions.claims(run._findings().make, told, proposals, run.info))
    claim = next(c for c in found if c.kind == "calibration")
    assert claim.verdict == verdict
    assert claim.ci_low <= claim.estimate <= claim.ci_high
    assert words in sentence(claim)
    assert "1 more were stopped" in sentence(claim)


def test_predictions_of_noise_are_open(run):
    rng = np.random.default_rng(0)
    rows = [(m, 0, 1, r, "finished") for m, r in rng.random((20, 2))]
    told, proposals = frame(rows)
    found = list(predictions.claims(run._findings().make, told, proposals, run.info))
    claim = next(c for c in found if c.kind == "prediction")
    assert claim.verdict == "open"
    assert "It is open" in sentence(claim)


@pytest.mark.parametrize("true", [0.6, 0.9])
def test_the_interval_of_a_share_covers_it(true):
    counts = np.random.default_rng(0).binomial(30, true, 500)
    ends = [predictions.jeffreys(int(k), 30) for k in counts]
    assert 0.85 <= np.mean([low <= true <= high for low, high in ends]) <= 0.97
    assert predictions.jeffreys(30, 30)[1] == 1.0


def test_a_trial_that_did_not_learn_does_not_press_the_others_together():
    rows = pd.DataFrame({"read": [0.9, 0.91, 0.92, 0.93, 0.1]})
    assert close(rows)["read"].min() == 0.9
    same = pd.DataFrame({"read": [0.5, 0.5, 0.5]})
    assert len(close(same)) == 3


def proxied(scorer, told=(), names="good"):
    strategy = make(f"predictor:proxies={names}", SPACE, (ACCURACY,), scorer=scorer)
    for trial in told:
        strategy.tell(trial)
    return strategy


def test_a_proxy_is_computed_once_and_kept_with_the_proposal():
    asked = []

    def scorer(design):
        asked.append(str(design))
        return {"good": worth(0)(design)["accuracy"]}

    told = searched("random", worth(0), 12)
    strategy = proxied(scorer, told)
    proposal = strategy.ask(np.random.default_rng(0), [])
    assert proposal.reason.scores["good"] == worth(0)(proposal.architecture)["accuracy"]
    assert len(asked) == len(set(asked)) == 12 + 32
    strategy.ask(np.random.default_rng(1), [proposal.architecture])
    assert len(asked) == 12 + 32


def test_scores_are_read_back_from_the_trials():
    told = searched("random", worth(0), 12)
    scores = {"good": 1.0}
    again = [replace(t, reason=replace(t.reason, scores=scores)) for t in told]
    asked = []

    def scorer(design):
        asked.append(str(design))
        return {"good": 1.0}

    proxied(scorer, again).ask(np.random.default_rng(0), [])
    assert not set(asked) & {str(t.architecture) for t in told}


def test_a_search_with_proxies_is_resumed_as_it_was():
    def scorer(design):
        return {"good": worth(0)(design)["accuracy"], "none": -np.inf}

    first, told = proxied(scorer, names="good+none"), []
    for number in range(30):
        proposal = first.ask(np.random.default_rng(number), [])
        trial = Trial(number, proposal.architecture, "finished", worth(0)(proposal.architecture))
        told.append(replace(trial, reason=proposal.reason))
        first.tell(told[-1])
    assert told[-1].reason.scores.keys() >= {"good", "mean"}
    assert "none" not in told[-1].reason.scores
    resumed = proxied(scorer, told, "good+none")
    rng = np.random.default_rng
    assert resumed.ask(rng(30), []) == first.ask(rng(30), [])


def test_a_proxy_that_tells_the_metric_is_believed():
    evaluate, told = worth(3), searched("random", worth(3), 20)

    def agreement(strategy):
        strategy.ask(np.random.default_rng(0), [])
        state = strategy._state
        true = [evaluate(a)["accuracy"] for a in state.pool.architectures[:32]]
        return correlation(state.believed[0][1][:32], np.array(true))

    plain = make("predictor", SPACE, (ACCURACY,))
    for trial in told:
        plain.tell(trial)
    knowing = proxied(lambda a: {"good": evaluate(a)["accuracy"]}, told)
    assert agreement(knowing) > max(agreement(plain), 0.8)


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        ("predictor:proxies=nothing", "proxy"),
        ("predictor:proxies=naswot", "expected designs that are built"),
    ],
)
def test_proxies_need_networks(tmp_path, strategy, said):
    with pytest.raises(raynas.UserError, match=said):
        raynas.search(
            {"objectives": ["accuracy:max"]}, space=SPACE, evaluator=worth(2), trials=6,
            driver="local", run=tmp_path / "run", strategy=strategy,
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_proxies_are_features_of_a_real_search(tmp_path, monkeypatch):
    monkeypatch.setattr(predictor, "SCORED", 4)  # each costs a network
    result = raynas.search(
        {"dataset": "digits"}, space="layered", trials=9, epochs=1,
        subset=100, driver="local", run=tmp_path / "run", strategy="predictor:proxies=synflow",
        scheduler="none", explanation_level="brief",
    )  # fmt: skip
    scores = [dict(s) for s in result.proposals["scores"]]
    assert all({"synflow", "mean"} <= s.keys() for s in scores[8:])

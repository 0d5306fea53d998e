"""A search with shared weights: three phases in one run, each of which can be cut off."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

import raynas
import search_spaces
from raynas import one_shot, phases, screening
from raynas.architecture import Decision
from raynas.data import load
from raynas.errors import UserError
from raynas.one_shot import SharedEvaluator
from raynas.recipe import Recipe
from raynas.space import Space
from raynas.strategies import STRATEGIES
from raynas.supernet import Supernet
from raynas.supernet.training import Trainer
from raynas.training import DeviceData
from raynas.trial import Trial

SPACE = "nasbench201:channels=4,cells=1"
ASKED = {
    "space": SPACE,
    "strategy": "random",
    "evaluation": "shared:epochs=2,finalists=2,probes=2",
    "trials": 6,
    "epochs": 1,
    "driver": "local",
    "batch_size": 128,
}


def searched(run, **changes):
    return raynas.search({}, run=run, **{**ASKED, **changes})


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return searched(tmp_path_factory.mktemp("shared") / "run")


def readings(result):
    """What a repeated search must have again."""
    names = ["number", "architecture", "purpose", "status", "fidelity", "m.accuracy"]
    return result.trials[[*names, "m.shared_accuracy", "m.train_loss"]]


def test_the_three_phases_share_numbers_and_one_table(result):
    trials = result.trials
    assert list(trials["number"]) == list(range(11))
    purposes = ["supernet"] + ["search"] * 6 + ["confirm"] * 2 + ["uniform_probe"] * 2
    assert list(trials["purpose"]) == purposes
    assert (trials["status"] == "finished").all()
    scored = trials["purpose"] == "search"
    trained = trials["purpose"].isin(["confirm", "uniform_probe"])
    assert trials["m.shared_accuracy"].notna().equals(scored)
    assert trials["m.accuracy"].notna().equals(trained)
    assert len(trials.loc[0, "c.sampled_accuracy"]) == 2
    assert result.notes == []


def test_the_best_and_a_spread_of_the_rest_are_trained_and_only_they_stand_on_the_front(result):
    trials, proposals = result.trials.set_index("number"), result.proposals.set_index("number")
    for number in range(7, 11):
        (parent,) = proposals.loc[number, "parents"]
        assert trials.loc[parent, "architecture"] == trials.loc[number, "architecture"]
        score = dict(proposals.loc[number, "scores"])["shared_accuracy"]
        assert score == trials.loc[parent, "m.shared_accuracy"]
    assert set(result.front()["number"]) <= {7, 8, 9, 10}
    best = int(result.front().iloc[0]["number"])
    network = result.get_model()
    assert sum(p.numel() for p in network.parameters()) == trials.loc[best, "m.params"]


def test_the_run_says_what_the_ranking_is_worth(result):
    assert any("rank correlation" in text for text in result.sentences())
    assert "rank correlation" in (result.path / "report.html").read_text()


def test_the_same_seed_repeats_the_search(result, tmp_path):
    again = searched(tmp_path / "again")
    pd.testing.assert_frame_equal(readings(again), readings(result))


def cut(monkeypatch, owner, name, calls):
    """Makes a method interrupt the search when it is called for the last of so many times."""
    method, made = getattr(owner, name), []

    def interrupting(*args, **kwargs):
        made.append(0)
        if len(made) == calls:
            raise KeyboardInterrupt
        return method(*args, **kwargs)

    monkeypatch.setattr(owner, name, interrupting)


@pytest.mark.parametrize(
    ("owner", "name", "calls", "kept"),
    [
        (Trainer, "run", 2, []),
        (SharedEvaluator, "evaluate", 4, ["supernet", *["search"] * 3]),
        (raynas.evaluation.TrainingEvaluator, "evaluate", 2, None),
    ],
)
def test_a_cut_search_goes_on_where_it_was(result, tmp_path, monkeypatch, owner, name, calls, kept):
    monkeypatch.setattr(one_shot, "SECONDS", 0.0)  # a checkpoint after each epoch
    with monkeypatch.context() as patched:
        cut(patched, owner, name, calls)
        ended = searched(tmp_path / "run")
    assert ended.interrupted
    if kept is not None:
        assert list(ended.trials["purpose"]) == kept
    with monkeypatch.context() as patched:
        trained = []
        run = Trainer.run
        patched.setattr(Trainer, "run", lambda *a: trained.append(0) or run(*a))
        again = raynas.resume(tmp_path / "run")
    assert len(trained) == (1 if owner is Trainer else 0)
    pd.testing.assert_frame_equal(readings(again), readings(result))
    with pytest.raises(UserError, match="has evaluated its 6 designs"):
        raynas.resume(tmp_path / "run")


def test_more_trials_score_more_designs(tmp_path):
    first = searched(tmp_path / "run", trials=2, evaluation="shared:epochs=1,finalists=1,probes=0")
    assert list(first.trials["purpose"]) == ["supernet", "search", "search", "confirm"]
    more = raynas.resume(tmp_path / "run", trials=5)
    assert (more.trials["purpose"] == "search").sum() == 5
    assert (more.trials["purpose"] == "confirm").sum() in (1, 2)  # the best may be another now


@pytest.mark.parametrize("rule", ["fair", "uniform"])
def test_weights_of_another_run_are_taken_as_they_are(result, tmp_path, rule):
    file = result.path / "supernet/weights.safetensors"
    again = searched(
        tmp_path / "again",
        evaluation=f"shared:weights={file},rule={rule},finalists=1,probes=0",
        trials=6,
    )
    ours, theirs = (r.trials[r.trials["purpose"] == "search"] for r in (again, result))
    assert list(ours["m.shared_accuracy"]) == list(theirs["m.shared_accuracy"])


def test_trainings_may_inherit_the_shared_weights(result, tmp_path):
    file = result.path / "supernet/weights.safetensors"
    told = f"shared:weights={file},finalists=2,probes=2,inherit=true"
    again = searched(tmp_path / "again", evaluation=told)
    ours, theirs = (r.trials.set_index("number")["m.train_loss"] for r in (again, result))
    assert (ours[7:] < theirs[7:]).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"evaluation": "shared:rule=other"}, "rule: expected one of uniform, fair"),
        ({"evaluation": "shared:epoch=3"}, "setting of the evaluation shared"),
        ({"evaluation": "shared:finalists=0"}, "expected finalists of 1 or more"),
        ({"evaluation": "shared:weights=nowhere"}, "nowhere: expected a file"),
        ({"evaluation": "other"}, "evaluation: expected one of auto, train, shared"),
        ({"evaluation": "train", "strategy": "enas"}, "enas trains shared weights: expected"),
        ({"strategy": "enas:step=3"}, "setting of the strategy enas"),
        ({"warm_start": "somewhere"}, "expected no warm_start"),
        ({"search_training": True}, "expected no search_training"),
        ({"evaluator": lambda _: {}}, "expected no own evaluator"),
    ],
)
def test_what_does_not_go_together_is_said_before_anything_is_written(tmp_path, changes, said):
    with pytest.raises(UserError, match=said):
        searched(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_objectives_that_weights_cannot_tell_are_refused(tmp_path):
    with pytest.raises(UserError, match="objectives that shared weights can tell"):
        raynas.search({"objectives": ["train_loss:min"]}, run=tmp_path / "run", **ASKED)


def test_weights_of_other_classes_end_the_search_with_their_reason(result, tmp_path):
    file = result.path / "supernet/weights.safetensors"
    with pytest.raises(UserError, match=r"could not be trained: .*expected shared weights with"):
        searched(
            tmp_path / "run",
            space="nasbench201:channels=4,cells=2",
            evaluation=f"shared:weights={file}",
        )


def apart(architecture, input_shape, num_classes):
    """Networks of a space whose designs have all their layers for themselves."""
    width = 10 * architecture["a.first"] + architecture["b.second"]
    channels, height, side = input_shape
    flat = torch.nn.Linear(channels * height * side, width)
    own = torch.nn.Linear(width, num_classes)
    network = torch.nn.Sequential(torch.nn.Flatten(), flat, own)
    network.register_parameter(f"own{width}", torch.nn.Parameter(torch.zeros(1)))
    return network


def test_a_space_without_a_supernet_is_told_which_have_one(tmp_path):
    options = tuple(range(1, 22))
    decisions = tuple(Decision(name, options, "a number") for name in ("a.first", "b.second"))
    with pytest.raises(UserError, match="share weights: compound_scaling, darts, elastic"):
        searched(tmp_path / "run", space=Space("apart", decisions, build=apart))


def test_a_policy_learns_on_shared_weights_and_its_designs_are_scored(tmp_path):
    result = searched(tmp_path / "run", strategy="enas:updates=2", evaluation="auto", trials=4)
    assert result.info.settings["evaluation"] == "shared"
    scored = result.trials[result.trials["purpose"] == "search"]
    assert 1 <= len(scored) <= 4
    reasons = result.proposals.set_index("number").loc[scored["number"], "kind"]
    assert set(reasons) <= {"policy", "derived"}
    choices = result.choices
    assert choices["epoch"].max() == 4  # four times the epochs of a design alone
    sums = choices.groupby(["epoch", "decision"])["chance"].sum()
    np.testing.assert_allclose(sums, 1.0, atol=1e-6)


def test_designs_that_weights_cannot_judge_are_trained_at_once(tmp_path):
    result = searched(
        tmp_path / "run",
        strategy="pc_darts:warmup=0.0",
        evaluation="shared:epochs=1,finalists=2",
        trials=4,
    )
    assert list(result.trials["purpose"]) == ["supernet", "confirm", "confirm"]
    assert result.proposals["kind"].iloc[1] == "derived"
    assert set(result.front()["number"]) <= {1, 2}
    with pytest.raises(UserError, match="parts of those of whole designs"):
        result.get_model(max_params=10_000)


QUICK = {"enas": {"updates": 2}}
ONE_SHOT = [name for name, row in STRATEGIES.items() if row.one_shot]


@pytest.mark.parametrize("name", ONE_SHOT)
def test_every_one_shot_strategy_repeats_itself_goes_on_and_comes_to_designs(name):
    """A new row of STRATEGIES that trains shared weights is tested here without a new test."""
    space, data = search_spaces.find(SPACE), DeviceData.of(load("digits"), torch.device("cpu"))
    recipe, ends = Recipe(epochs=3, batch_size=400), []
    for cut in (None, None, 2):
        method = STRATEGIES[name].load()(**QUICK.get(name, {}))
        torch.manual_seed(len(ends))  # nothing may come from the global generator
        trainer = Trainer(Supernet(space, (1, 8, 8), 10), data, recipe, 5)
        method.start(trainer)
        while trainer.epoch < trainer.epochs:
            if trainer.epoch == cut:
                kept = trainer.dump(method)
                trainer, method = (
                    Trainer(Supernet(space, (1, 8, 8), 10, 1), data, recipe, 5),
                    STRATEGIES[name].load()(**QUICK.get(name, {})),
                )
                method.start(trainer)
                trainer.restore(method, kept)
            trainer.run(method)
        ends.append((trainer.readings, method.chances(), method.designs(trainer, 6)))
    assert ends[0] == ends[1] == ends[2]
    _, chances, designs = ends[0]
    for options in chances.values():
        assert sum(options.values()) == pytest.approx(1)
    assert len({space.identity(p.architecture) for p in designs}) == len(designs) > 1
    for proposal in designs:
        space.check(proposal.architecture)
        assert proposal.reason.kind in ("derived", "policy")
        assert np.isfinite(proposal.reason.scores["log_probability"])


def test_constraints_hold_for_what_is_scored_and_trained(tmp_path):
    problem = {"constraints": {"max_params": 6000}}
    result = raynas.search(problem, run=tmp_path / "run", **ASKED)
    trials = result.trials[result.trials["purpose"] != "supernet"]
    assert (trials[trials["status"] == "finished"]["m.params"] <= 6000).all()
    assert (trials["status"] == "infeasible").any()


def test_networks_for_a_budget_come_without_training(result):
    scored = result.trials[result.trials["purpose"] == "search"]
    bound = float(scored["m.flops"].median())
    found = result.specialize({"flops": bound}, evaluations=5)
    assert found.metrics["flops"] <= bound
    within = scored[scored["m.flops"] <= bound]["m.shared_accuracy"].max()
    assert found.metrics["shared_accuracy"] >= within
    network = result.get_model(max_flops=bound)
    assert not network.training
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    with pytest.raises(UserError, match="max_params=10 was found in 500 tries; the nearest has"):
        result.get_model(max_params=10)
    with pytest.raises(UserError, match="limit: expected one of params, flops, latency_ms"):
        result.specialize({"size": 3})
    with pytest.raises(UserError, match="expected a trial or limits; got both"):
        result.get_model(trial=7, max_params=10_000)


def test_a_budget_of_time_is_kept_as_measured(result):
    found = result.specialize({"latency_ms": 50.0}, evaluations=1)
    assert 0 < found.metrics["latency_ms"] <= 50


def test_a_search_without_shared_weights_has_none_to_specialize(tmp_path):
    result = raynas.search(
        {}, run=tmp_path / "run", space=SPACE, trials=1, epochs=1, driver="local"
    )
    with pytest.raises(UserError, match="has no shared weights"):
        result.get_model(max_params=10_000)
    assert result.choices.empty


def test_a_table_answers_for_trainings(tmp_path):
    space = search_spaces.find(SPACE)
    known = [str(a) for a in space.enumerate() if a["cell.node2.from_1"] == "none"]
    rows = [{"architecture": text, "accuracy": len(text) / 1000, "params": 5} for text in known]
    pd.DataFrame(rows).to_parquet(tmp_path / "table.parquet")
    result = searched(
        tmp_path / "run", evaluation=f"table:path={tmp_path / 'table.parquet'}", trials=40
    )
    done = result.trials[result.trials["status"] == "finished"]
    assert (done["m.accuracy"] == done["architecture"].str.len() / 1000).all()
    missing = result.trials[result.trials["status"] == "failed"]
    assert missing["error"].str.contains("has no row of").all()
    assert len(done) > 10
    assert len(missing) > 10


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (None, "cannot be read"),
        (pd.DataFrame({"design": ["a"], "accuracy": [1.0]}), "expected a column `architecture`"),
        (pd.DataFrame({"architecture": ["a"]}), "expected a column `architecture`"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, table, said):
    path = tmp_path / "table.parquet"
    if table is not None:
        table.to_parquet(path)
    with pytest.raises(UserError, match=said):
        searched(tmp_path / "run", evaluation=f"table:path={path}")
    with pytest.raises(UserError, match="expected a table such as table:path="):
        searched(tmp_path / "run", evaluation="table")


def test_auto_means_what_the_strategy_needs():
    assert phases.resolved("auto", "random") == "train"
    assert phases.resolved("auto", "darts:order=2") == "shared"
    assert phases.resolved("shared:rule=fair", "evolution") == "shared:rule=fair"


def test_probes_are_spread_evenly_over_what_is_left(result):
    space = result.info.space
    designs = [space.sample(np.random.default_rng(i)) for i in range(23)]
    trials = [
        Trial(i, a, "finished", {"shared_accuracy": i / 100, "params": 7.0})
        for i, a in enumerate(designs)
    ]
    settings = screening.Shared(finalists=2, probes=3)
    chosen = phases.to_train(trials, result.info, settings)
    assert [p.reason.parents[0] for p in chosen] == [22, 21, 20, 10, 0]
    assert [p.purpose for p in chosen] == ["confirm"] * 2 + ["uniform_probe"] * 3
    few = phases.to_train(trials[:1], result.info, settings)
    assert [p.purpose for p in few] == ["confirm"]


def test_the_log_of_a_shared_training_is_read_by_people_and_searches(tmp_path):
    notes = {"notes": ["epoch 1: a warning"], "designs": []}
    result = searched(tmp_path / "run", trials=1, evaluation="shared:epochs=1,finalists=1")
    (result.path / "supernet/log.json").write_text(json.dumps(notes))
    assert raynas.load(result.path).notes == ["epoch 1: a warning"]

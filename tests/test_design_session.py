"""Design sessions and continued searches: what is said changes what is searched."""

import os
import signal
import subprocess
import sys
import time

import pytest

import raynas
from raynas import turns
from raynas.directives import Contradiction, in_force
from raynas.errors import UserError

SPACE = raynas.Space(
    "chain",
    (
        raynas.Decision("depth", (1, 2, 3), "how many layers", ordered=True),
        *(
            raynas.Decision(
                f"layer{i}.{leaf}",
                options,
                meaning,
                ordered=leaf == "width",
                when=("depth", {n for n in (1, 2, 3) if n > i}) if i else None,
            )
            for i in range(3)
            for leaf, options, meaning in (
                ("width", (8, 16, 32), "channels"),
                ("kind", ("plain", "fine"), "what it does"),
            )
        ),
    ),
)


def measure(design):
    """Fine layers are better, and wide ones; both cost."""
    depth = design["depth"]
    fine = sum(design[f"layer{i}.kind"] == "fine" for i in range(depth))
    width = sum(design[f"layer{i}.width"] for i in range(depth))
    return {"accuracy": 1 - 1 / (1 + fine + width / 40), "params": 10.0 * width + 5 * fine}


def session(tmp_path, **given):
    problem = {"objectives": ["accuracy:max", "params:min"]}
    options = {"space": SPACE, "evaluator": measure, "driver": "local", "trials": 12}
    return raynas.CollaborativeDesignSession(problem, run=tmp_path / "run", **options, **given)


def snapshot(held):
    """All that a session knows of itself, apart from the turns that were taken back."""
    state = held.result.info.now
    return state, held.design, held.get_initial_proposal()


def test_a_session_from_proposal_to_refinement(tmp_path):
    with session(tmp_path) as held:
        first = held.get_initial_proposal()
        assert first.design == held.design
        assert held.get_initial_proposal() == first, "it is proposed once"
        answer = held.provide_feedback({"layer0": {"suggestion": {"width": 8}}})
        assert "layer 0: width = 8 (was 8, 16 or 32)" in str(answer)
        assert held.design["layer0.width"] == 8, "the design under discussion has it"
        refined = held.get_refined_proposal(8)
        later = held.result.trials
        later = later[(later["number"] >= 12) & ~later["purpose"].isin(["confirm"])]
        assert (later["d.layer0.width"] == 8).all()
        assert refined.design["layer0.width"] == 8
        assert held.history["move"].tolist() == ["proposal", "feedback", "proposal"]
        assert held.compare(first.trial, refined.trial).startswith(f"Trial {first.trial} against")


def test_undo_restores_the_exact_earlier_state(tmp_path):
    held = session(tmp_path)
    held.get_initial_proposal()
    states = [snapshot(held)]
    told = [
        {"layer0": {"suggestion": {"width": 8}}},
        {"constraint_update": {"max_params": 700}},
        {"constraint_update": {"prioritize": "size_over_accuracy"}, "avoid": {"depth": [3]}},
    ]
    for feedback in told:
        held.provide_feedback(feedback)
        states.append(snapshot(held))
    held.get_refined_proposal(4)
    front = held.result.front()["number"].tolist()
    states.append(None)
    for state in reversed(states[:-1]):
        held.undo()
        now = snapshot(held)
        assert now[0] == state[0]
        assert now[1] == state[1]
        assert now[2].trial == state[2].trial
        assert now[2].edits == state[2].edits
    assert len(held.result.front()) >= len(front) or held.result.info.now.left == {}
    with pytest.raises(UserError, match="nothing to take back"):
        held.undo()


def test_what_contradicts_is_named_with_both_sources_and_changes_nothing(tmp_path):
    held = session(tmp_path)
    held.get_initial_proposal()
    held.provide_feedback({"avoid": {"layer0.kind": ["fine"]}})
    before = snapshot(held)
    with pytest.raises(Contradiction, match=r"not fine \(turn 2.*only fine \(turn 3"):
        held.provide_feedback({"layer0": {"suggestion": {"kind": "fine"}}})
    assert snapshot(held) == before


def test_a_limit_wins_over_a_pin(tmp_path):
    problem = {"objectives": ["accuracy:max"], "constraints": {"max_params": 2500}}
    result = raynas.search(problem, trials=4, epochs=1, subset=100, run=tmp_path / "run",
                           driver="local", explanation_level="brief", scheduler="none")  # fmt: skip
    with pytest.raises(Contradiction, match=r"max_params=2500 \(the problem's\).*layer 0: filter"):
        result.continue_with_feedback({"layer_0": {"suggestion": {"filter_size": 128}}}, trials=2)
    assert not turns.read(result.path)


def test_a_dict_that_is_wrong_changes_nothing(tmp_path):
    held = session(tmp_path)
    held.get_initial_proposal()
    for wrong in (
        {"layer_9": {"suggestion": {"width": 8}}},
        {"layer0": {"sugestion": {}}},
        {"x": 1},
    ):
        with pytest.raises(UserError):
            held.provide_feedback(wrong)
    assert len(held.history) == 1


def test_priorities_change_the_reference_and_never_cost_the_best(tmp_path):
    problem = {"objectives": ["params:min", "accuracy:max"]}
    result = raynas.search(problem, space=SPACE, evaluator=measure, trials=10, driver="local",
                           run=tmp_path / "run")  # fmt: skip
    best = result.trials["m.accuracy"].max()
    after = result.continue_with_feedback("prioritize accuracy over size", trials=10)
    assert [o.name for o in after.info.objectives] == ["accuracy", "params"]
    aim = after.info.now.aims[0]
    assert (aim.metric, aim.sense, aim.bound) == ("accuracy", "min", pytest.approx(best))
    assert after.front()["m.accuracy"].max() >= best
    assert after.front().iloc[0]["m.accuracy"] == after.front()["m.accuracy"].max()
    kept = turns.frame(after.path)["directives"].iloc[0]
    assert [d["kind"] for d in kept][:2] == ["order", "aim"], "the log shows the changed reference"


def test_what_is_not_understood_is_said_and_changes_nothing(tmp_path):
    held = session(tmp_path)
    held.get_initial_proposal()
    answer = held.provide_feedback("paint it blue")
    assert not answer.directives
    assert "paint it blue" in str(answer)
    assert len(held.history) == 1
    with pytest.raises(UserError, match="paint it blue"):
        held.result.continue_with_feedback("paint it blue", trials=2)


OWN = {"space": SPACE, "evaluator": measure, "driver": "local"}


def test_feedback_may_be_forbidden(tmp_path):
    problem, run = {"objectives": ["accuracy:max"]}, tmp_path / "run"
    result = raynas.search(problem, **OWN, trials=4, run=run, allow_feedback=False)
    with pytest.raises(UserError, match="allow_feedback=False"):
        result.continue_with_feedback("prioritize accuracy", trials=2)


def test_what_is_known_beforehand_holds_from_the_first_trial(tmp_path):
    problem, run = {"objectives": ["accuracy:max"]}, tmp_path / "run"
    known = {"keep": {"depth": 2}, "prefer": {"layer0.kind": {"plain": "high"}}}
    result = raynas.search(problem, **OWN, trials=6, run=run, feedback=known)
    assert (result.trials["d.depth"] == 2).all()
    assert len(in_force(turns.read(result.path))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["evolution", "gdas"])
def test_designs_that_share_weights_keep_what_was_said_too(tmp_path, strategy):
    given = {"strategy": strategy, "evaluation": "shared:epochs=1,finalists=2,probes=1"}
    given |= {"space": "nasbench201:channels=4,cells=1", "epochs": 1, "subset": 120}
    run = {"run": tmp_path / "run", "driver": "local", "explanation_level": "brief"}
    result = raynas.search({}, **given, **run, trials=6)
    path, before = "cell.node3.from_0", result.architecture["cell.node3.from_0"]
    option = "nor_conv_1x1" if before != "nor_conv_1x1" else "nor_conv_3x3"
    after = result.continue_with_feedback({"keep": {path: option}}, trials=4)
    later = after.trials.iloc[len(result.trials) :]
    assert (later[f"d.{path}"] == option).all()
    assert {"search", "confirm"} <= set(later["purpose"])
    assert (later["purpose"] == "search").sum() <= 6
    assert after.architecture[path] == option


class Counting:
    """Measures until a number of calls, then is interrupted."""

    def __init__(self, ends=10**9):
        self.left = ends

    def __call__(self, design):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return measure(design)


def test_an_interrupted_continuation_is_resumed_with_its_own_budget(tmp_path):
    run, problem = tmp_path / "run", {"objectives": ["accuracy:max"]}
    raynas.search(problem, **OWN, trials=8, run=run)
    given = {"space": SPACE, "evaluator": Counting(3), "trials": 10}
    cut = raynas.continue_with_feedback(run, {"avoid": {"layer0.width": [8]}}, **given)
    assert cut.interrupted
    result = raynas.resume(run, space=SPACE, evaluator=measure)
    assert len(result.trials) == 18
    later = result.trials[result.trials["number"] >= 8]
    assert (later["d.layer0.width"] != 8).all()


@pytest.mark.parametrize("level", ["brief", "standard", "detailed"])
def test_a_continuation_searches_and_uses_its_budget(tmp_path, level):
    problem = {"objectives": ["accuracy:max", "params:min"]}
    run = tmp_path / "run"
    result = raynas.search(problem, **OWN, trials=16, run=run, explanation_level=level)
    for i, feedback in enumerate(({"avoid": {"layer0.width": [8]}}, "fewer parameters")):
        result = result.continue_with_feedback(feedback, trials=8)
        later = result.trials[result.trials["number"] >= 16 + 8 * i]
        assert len(later) == 8
        assert (later["purpose"] == "search").sum() >= 4


def test_a_decision_can_be_added_to_a_run(tmp_path):
    problem, run = {"objectives": ["accuracy:max"]}, tmp_path / "run"
    result = raynas.search(problem, **OWN, trials=6, run=run)
    more = {
        "add": {"act": {"options": ["relu", "gelu"], "before": "relu", "meaning": "what bends"}}
    }
    result = result.continue_with_feedback(more, trials=12)
    assert (result.trials["d.act"].iloc[:6] == "relu").all()
    assert set(result.trials["d.act"]) == {"relu", "gelu"}


def test_a_session_that_found_nothing_can_be_told_why(tmp_path):
    problem = {"objectives": ["accuracy:max"], "constraints": {"min_accuracy": 0.9999}}
    held = raynas.CollaborativeDesignSession(problem, **OWN, run=tmp_path / "run", trials=5)
    with pytest.raises(UserError, match="Say what may be different"):
        held.get_initial_proposal()
    held.provide_feedback({"constraint_update": {"min_accuracy": 0.1}})
    assert held.get_refined_proposal().readings["accuracy"] > 0.1


@pytest.mark.parametrize("budget", [{"trials": -3}, {"trials": "5"}, {"time_budget_hours": 0}])
def test_a_wrong_budget_or_metric_keeps_nothing(tmp_path, budget):
    problem, run = {"objectives": ["accuracy:max"]}, tmp_path / "run"
    result = raynas.search(problem, **OWN, trials=4, run=run)
    with pytest.raises(UserError, match="expected"):
        result.continue_with_feedback("more accurate", **budget)
    with pytest.raises(UserError, match="metric that this run measures"):
        result.continue_with_feedback({"constraint_update": {"prioritize": "loss"}}, trials=2)
    with pytest.raises(UserError, match="expected words or a mapping"):
        result.continue_with_feedback(5, trials=2)
    assert not turns.read(run)


KILLED = """
import time, raynas, sys
sys.path.insert(0, {tests!r})
from tests.test_design_session import SPACE, measure

def slow(design):
    time.sleep(0.05)
    return measure(design)

held = raynas.CollaborativeDesignSession({{"objectives": ["accuracy:max", "params:min"]}},
    run={run!r}, space=SPACE, evaluator=slow, driver="local", trials=6)
held.get_initial_proposal()
held.provide_feedback({{"layer0": {{"suggestion": {{"width": 8}}}}}})
print("said", flush=True)
held.get_refined_proposal(1000)
"""


def test_a_killed_session_is_opened_again(tmp_path):
    run = tmp_path / "run"
    root = os.path.dirname(os.path.dirname(__file__))
    code = KILLED.format(tests=root, run=str(run))
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout.readline().strip() == "said"
        time.sleep(0.7)  # somewhere in the refinement
        process.send_signal(signal.SIGKILL)
    held = raynas.CollaborativeDesignSession.open(run, space=SPACE, evaluator=measure)
    assert held.history["move"].tolist() == ["proposal", "feedback"]
    assert held.design["layer0.width"] == 8
    before = len(held.result.trials)
    refined = held.get_refined_proposal(4)
    assert refined.design["layer0.width"] == 8
    assert before < len(held.result.trials) <= before + 6

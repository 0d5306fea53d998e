"""Compound scaling: the order of its trials, which growth it takes, and what is said of it."""

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import raynas
import search_spaces
from raynas.errors import UserError
from raynas.evaluation import FunctionEvaluator
from raynas.explanation import scaling as explained
from raynas.explanation.claims import from_frame
from raynas.explanation.scaling import TOGETHER, Curve, Scaling, Size, scaling
from raynas.objective import Objective
from raynas.report import write_report
from raynas.session import Context, Session, run_local
from raynas.strategies import SpaceExhausted, make
from raynas.strategies.compound_scaling import Growth, growth_of
from raynas.trial import Proposal, Reason, Trial
from tests.spaces import CELL, SCALED
from tests.test_strategy_contract import Memory

ONE = (Objective.parse("accuracy:max"),)
EFFICIENT = search_spaces.find("compound_scaling")
BEST = Growth(1.2, 1.1)


def cost_of(architecture):
    growth, scale = growth_of(architecture.options), float(architecture["scale"])
    return {"params": 1e5 * 1.5**scale, "flops": 1e6 * 2**scale * growth.depth ** (0.1 * scale)}


def planted(architecture, gain=0.05):
    """Growth near BEST pays most; each scale adds."""
    growth, scale = growth_of(architecture.options), float(architecture["scale"])
    distance = abs(growth.depth - BEST.depth) + abs(growth.width - BEST.width)
    return {
        "accuracy": 0.5 + scale * gain * (1 - 0.5 * min(distance, 1.9)),
        **cost_of(architecture),
    }


def searched(space=EFFICIENT, trials=27, evaluate=planted, strategy="compound_scaling", **given):
    session = Session(
        space, make(strategy, space, ONE, trials=trials), ONE, Memory(), cost_of, **given
    )
    run_local(session, FunctionEvaluator(evaluate), trials, Context(0))
    return session.archive


def run(folder, trials=27, evaluate=planted, **given):
    return raynas.search(
        {"objectives": ["accuracy:max", "params:min"]},
        space=EFFICIENT,
        strategy="compound_scaling",
        evaluator=evaluate,
        trials=trials,
        driver="local",
        run=folder / "run",
        **given,
    )


def test_the_base_then_the_grid_then_the_family_of_the_best_then_one_dimension_alone():
    designs = [trial.architecture for trial in searched().trials]
    scales = [design["scale"] for design in designs]
    growths = [growth_of(design.options) for design in designs]
    assert scales == [0.0] + 11 * [1.0] + [1.5, 2.0, 3.0] + [
        s for s in (1, 1.5, 2, 3) for _ in "dwr"
    ]
    assert all(growth.compound for growth in growths[1:12])
    assert len(set(growths[1:12])) == 11
    assert set(growths[12:15]) == {BEST}
    assert {growth.alone for growth in growths[15:]} == {"depth", "width", "resolution"}


def test_proposals_name_what_they_are_made_from_and_what_was_not_taken():
    jobs = searched().jobs
    assert {job.proposal.reason.kind for job in jobs} == {"scaling"}
    assert jobs[0].proposal.reason.parents == ()
    assert all(job.proposal.reason.parents == (0,) for job in jobs[1:12])
    best = next(j.number for j in jobs[1:12] if growth_of(j.architecture.options) == BEST)
    for job in jobs[12:15]:
        assert job.proposal.reason.parents == (best,)
        assert job.proposal.reason.changed == (("scale", 1.0, job.architecture["scale"]),)
        scores = [candidate.score for candidate in job.proposal.candidates]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("worst", [False, True])
def test_the_first_objective_decides_in_its_direction(worst):
    objective = (Objective.parse(f"accuracy:{'min' if worst else 'max'}"),)
    strategy, memory = make("compound_scaling", EFFICIENT, objective), Memory()
    run_local(
        Session(EFFICIENT, strategy, objective, memory, cost_of),
        FunctionEvaluator(planted),
        13,
        Context(0),
    )
    readings = [trial.metrics["accuracy"] for trial in memory.trials[1:12]]
    decided = memory.trials[1 + int(np.argmin(readings) if worst else np.argmax(readings))]
    assert growth_of(memory.trials[12].architecture.options) == growth_of(
        decided.architecture.options
    )


def test_the_grid_leaves_room_for_the_family():
    for trials, grid in ((27, 11), (14, 5), (8, 3), (6, 1)):
        scales = [trial.architecture["scale"] for trial in searched(trials=trials).trials]
        assert scales[: grid + 4] == [0.0, *grid * [1.0], 1.5, 2.0, 3.0]


def test_while_the_grid_runs_single_dimensions_come_first():
    strategy, pending, asked = make("compound_scaling", EFFICIENT, ONE), [], []
    for _ in range(16):
        asked.append(strategy.ask(np.random.default_rng(0), pending))
        pending.append(asked[-1].architecture)
    assert [growth_of(p.architecture.options).compound for p in asked[1:12]] == 11 * [True]
    assert all(growth_of(p.architecture.options).alone for p in asked[12:])
    for number, proposal in enumerate(asked):
        strategy.tell(
            Trial(number, proposal.architecture, "finished", planted(proposal.architecture))
        )
    family = strategy.ask(np.random.default_rng(0), []).architecture
    assert growth_of(family.options) == BEST
    assert family["scale"] == 1.5


def test_what_is_left_of_the_budget_goes_to_other_growths():
    designs = [trial.architecture for trial in searched(trials=60).trials][27:]
    growths = [growth_of(design.options) for design in designs]
    assert all(growth.compound for growth in growths)
    at_one = [d["scale"] == 1.0 for d in designs]
    assert at_one == sorted(at_one, reverse=True)  # finer growths first, then families
    assert 0 < sum(at_one) < len(at_one)


def test_other_decisions_stay_as_they_are_in_the_first_design():
    edges = CELL.decisions[:2]
    space = raynas.Space("own", (*SCALED.decisions, *edges))
    plain = searched(space, 10).trials
    assert {trial.architecture["input_to_a"] for trial in plain} == {"none"}
    begun = space.architecture({**plain[0].architecture.options, "input_to_a": "conv3x3"})
    starts = [Proposal(begun, Reason("engineer", "begins with this design"))]
    trials = searched(space, 10, starts=starts).trials
    assert {trial.architecture["input_to_a"] for trial in trials} == {"conv3x3"}


def test_all_that_scaling_makes_of_a_base_is_tried_before_it_gives_up():
    space = raynas.Space("own", (*SCALED.decisions, CELL.decisions[0]))
    trials = searched(space, 1000).trials
    assert len(trials) == SCALED.size
    strategy = make("compound_scaling", space, ONE)
    for trial in trials:
        strategy.tell(trial)
    with pytest.raises(SpaceExhausted, match="another base: --start-from"):
        strategy.ask(np.random.default_rng(0), [])


def test_a_growth_that_failed_is_not_the_best():
    def flaky(architecture):
        if growth_of(architecture.options) == BEST:
            raise RuntimeError("out of luck")
        return planted(architecture)

    trials = searched(evaluate=flaky).trials
    assert sum(trial.status == "failed" for trial in trials) == 1
    assert growth_of(trials[12].architecture.options) != BEST


def test_growths_know_what_grows():
    assert Growth(1.95, 1.0).alone == "depth"
    assert Growth(1.0, 1.4).alone == "width"
    assert Growth(1.0, 1.0).alone == "resolution"
    assert BEST.compound
    assert not Growth(1.35, 1.4).compound  # pixels would be lost
    assert not Growth(1.05, 1.0).alone


@pytest.mark.parametrize(
    ("space", "text", "expected"),
    [
        (
            CELL,
            "compound_scaling",
            "scale, depth_growth and width_growth.*'tiny_cell', without scale",
        ),
        (SCALED.narrow(forbidden={"scale": [0]}), "compound_scaling", "0 .the base. and 1"),
        (EFFICIENT, "compound_scaling:largest=1", "largest above 1"),
        (EFFICIENT, "compound_scaling:grid=0", "grid of 1 or more"),
        (EFFICIENT, "compound_scaling:phi=2", "phi"),
    ],
)
def test_what_cannot_be_scaled_is_refused(space, text, expected):
    with pytest.raises(UserError, match=expected):
        make(text, space, ONE)


def test_a_space_without_scaling_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="--space compound_scaling"):
        raynas.search(space="layered", strategy="compound_scaling", run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_curves_are_those_of_the_trials(tmp_path):
    result = run(tmp_path)
    found = scaling(result.trials, result.info)
    assert [curve.name for curve in found.curves] == [TOGETHER, "resolution", "width", "depth"]
    assert found.curves[0].growth == BEST
    assert len(found.grid) == 11
    for curve in found.curves:
        assert [size.scale for size in curve.sizes] == [0.0, 1.0, 1.5, 2.0, 3.0]
        for size in curve.sizes:
            design = result.architecture(size.number)
            assert size.value == planted(design)["accuracy"]
            assert size.cost == planted(design)["flops"]


def test_between_two_sizes_a_curve_is_straight_over_the_logarithm():
    sizes = [Size(i, i, 10.0**i, 0.1 * i, 1.0) for i in (0, 2)]
    curve = Curve("depth", Growth(2.0, 1.0), sizes)
    assert curve.at(10.0) == pytest.approx(0.1)
    assert curve.at(1.0) == 0.0
    assert curve.at(101.0) is None


def test_a_planted_advantage_is_said(tmp_path):
    result = run(tmp_path)
    claims = [c for c in from_frame(result.claims) if c.kind == "scaling"]
    assert {c.alternative for c in claims} == {"depth", "width", "resolution"}
    assert all(c.estimate > 0 for c in claims)
    assert any(c.verdict != "open" for c in claims)
    assert claims[0].estimate == min(c.estimate for c in claims)
    assert sum("alone: accuracy +" in text for text in result.sentences()) == 1


def told(kind, tier, verdict, about, **facts):
    return SimpleNamespace(verdict=verdict, **facts)


def test_few_sizes_are_too_few_to_tell(tmp_path):
    result = run(tmp_path)
    for size in range(17, 27):
        some = result.trials[result.trials["number"] < size]
        claims = list(explained.claims(told, some, result.info))
        assert claims == [] or size > 18  # nothing larger has grown alone
        for claim in claims:
            assert (claim.ci_low is None) == (claim.lfsr is None) == (claim.n_trials < 3)
            assert claim.verdict == "open" or claim.n_trials == 3


def test_noise_is_rarely_taken_for_an_advantage(monkeypatch):
    rng, loud = np.random.default_rng(0), 0
    trials, info = pd.DataFrame(), SimpleNamespace(objectives=ONE)
    for _ in range(200):
        base, curves = rng.normal(), []
        for name in (TOGETHER, "depth", "width", "resolution"):
            lucky = {1.0: max(rng.normal(size=5))} if name == TOGETHER else {}
            sizes = [Size(0, 0.0, 1.0, base, 1.0)]
            for scale in (1.0, 1.5, 2.0, 3.0):
                cost = 1.95**scale * np.exp(0.1 * rng.normal())
                sizes.append(Size(1, scale, cost, lucky.get(scale, rng.normal()), 1.0))
            curves.append(Curve(name, BEST, sizes))
        found = Scaling("accuracy", "flops", curves, ())
        monkeypatch.setattr(explained, "scaling", lambda *_, found=found: found)
        verdicts = [claim.verdict for claim in explained.claims(told, trials, info)]
        loud += "asserts" in verdicts
    assert 2 <= loud <= 20


@pytest.mark.parametrize(("trials", "curves"), [(1, 0), (5, 1), (17, 3), (27, 4)])
def test_the_report_draws_the_curves(tmp_path, trials, curves):
    result = run(tmp_path, trials)
    text = write_report(result).read_text()
    if trials == 1:
        assert 'id="scaling"' not in text
        return
    section = re.search(r'<section id="scaling">.*?</section>', text, re.S)[0]
    assert not re.search(r"\bnan\b|\bNone\b|undefined", section)
    legend = re.search(r'<ul class="legend">.*?</ul>', section, re.S)[0]
    assert len(re.findall("</svg>(?:all together|[a-z]+ alone)", legend)) == curves
    titles = re.findall(r"<title>(?:[\w ]+: )?trial (\d+), scale", section)
    assert {int(n) for n in titles} <= set(result.trials["number"])
    if trials == 27:
        assert section.count("<tr>") == 6
        assert "not finished" not in section
        assert "family of 3 larger networks" in section


def test_other_strategies_have_no_such_section(tmp_path):
    result = raynas.search(
        {"objectives": ["accuracy"]},
        space=EFFICIENT,
        strategy="random",
        evaluator=planted,
        trials=10,
        driver="local",
        run=tmp_path / "run",
    )
    assert scaling(result.trials, result.info) is None
    assert 'id="scaling"' not in write_report(result).read_text()

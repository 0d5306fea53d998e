"""The space of a run may change: what was before it is read as what holds now."""

import dataclasses
import time

import numpy as np
import pandas as pd
import pytest
import yaml
from torch import nn

import raynas
import search_spaces
from raynas import choice, mapping, tables, turns
from raynas.architecture import Architecture, Decision
from raynas.archive import Archive
from raynas.choices import searchable
from raynas.directives import Directive, Turn
from raynas.errors import UserError
from raynas.filling import fill_costs
from raynas.front import front_of
from raynas.phases import starts
from raynas.problem import Problem
from raynas.recipe import with_training
from raynas.result import SearchResult, load
from raynas.run import ArchiveError, RunInfo, as_kept, read
from raynas.space import Space
from raynas.starting import designs_from
from raynas.trial import Candidate, Job, Proposal, Reason, Trial
from raynas.widening import check_added, check_widening, decisions_of, may_widen
from tests.spaces import TREE

DROPOUT = Decision("layer0.dropout", (0.0, 0.2), "what is left out", ordered=True)
ADDED = Directive("add", "dropout", decision=DROPOUT, before=0.0)


def info(space=TREE, **settings):
    problem = Problem.of({"objectives": ["accuracy:max", "params:min"]})
    settings = {"space": None, "seed": 0, "start_from": [], **settings}
    return RunInfo(problem, space, settings, {}, {"raynas": "0"}, "raynas search")


@pytest.fixture
def run(tmp_path):
    info().write(tmp_path / "run")
    return tmp_path / "run"


def say(run, *directives, undoes=None, since=0):
    number = len(turns.read(run)) + 1
    move = "feedback" if undoes is None else "undo"
    turns.append(
        run, Turn(number, time.time(), move, "said", directives, since=since, undoes=undoes)
    )


def job(number, design=None):
    design = design or TREE.sample(np.random.default_rng(number))
    candidates = (
        Candidate(str(TREE.sample(np.random.default_rng(number + 99))), 0.5, "lower score"),
        Candidate("tree{depth=1} layer0{width=8}", None, "duplicate"),
    )[: number % 3]
    proposal = Proposal(design, Reason("random", "drawn"), candidates)
    return Job(number, proposal, 0, {}, 1.5e9)


def trial(number, accuracy=0.5, params=10.0, design=None, **fields):
    metrics = {"accuracy": accuracy, "params": params}
    return Trial(
        number, design or job(number).architecture, "finished", metrics, fidelity=1, **fields
    )


def record(run, *trials, weights=None):
    archive = Archive(run)
    for t in trials:
        archive.propose(job(t.number, t.architecture))
        archive.record(t, weights if archive.wants_weights(t) else None)
    archive.close()


def models(run):
    return sorted(int(f.stem) for f in (run / "models").glob("*.safetensors"))


# The front, the weights


def test_the_front_leaves_out_what_may_not_be_proposed_any_more(run):
    record(run, *(trial(i, 0.5 + i / 100, 10.0 + i) for i in range(30)))
    assert len(load(run).front()) == 30
    say(run, Directive("pin", paths=("layer0.width",), options=(8,)))
    say(run, Directive("forbid", paths=("layer1.kind",), options=("b",)))
    say(run, Directive("forbid", paths=("layer2.rate",), options=(0.5,)))
    say(run, Directive("pin", paths=("layer1.bonus",), options=(True,)))
    result = load(run)
    kept = [t for t in range(30) if result.info.allowed.holds(result.architecture(t))]
    assert 0 < len(kept) < 30
    assert sorted(result.front()["number"]) == kept
    archive = Archive(run)
    for number in range(30):
        better = trial(number + 100, 0.99, 1.0, result.architecture(number))
        assert archive.wants_weights(better) == (number in kept)
    archive.close()
    assert sorted(pd.read_parquet(run / "front.parquet")["number"]) == kept


def test_designs_that_miss_a_reference_point_stand_behind_those_that_reach_it(run):
    record(run, *(trial(i, 0.5 + i / 100, 10.0 + i) for i in range(6)))
    say(run, Directive("aim", metric="params", sense="max", bound=12.0))
    say(run, Directive("aim", metric="latency_ms", sense="max", bound=1.0))  # nobody knows it
    assert list(load(run).front()["number"]) == [2, 1, 0, 3, 4, 5]
    say(run, undoes=1)
    assert list(load(run).front()["number"]) == [5, 4, 3, 2, 1, 0]


def test_weights_that_were_on_a_front_stay_once_somebody_spoke(run):
    record(run, trial(0, 0.5, design=TREE.parse("tree{depth=1} layer0{width=8}")), weights=b"w")
    record(run, trial(1, 0.6, 9.0), weights=b"w")
    assert models(run) == [1]
    say(run, Directive("limit", metric="params", sense="max", bound=5.0))
    record(run, trial(2, 0.4, 4.0), weights=b"w")
    assert models(run) == [1, 2]
    say(run, undoes=1)
    Archive(run).close()
    assert sorted(load(run).front()["number"]) == [1, 2]
    assert models(run) == [1, 2]


def test_a_final_training_keeps_its_weights_and_stands_on_no_front(run):
    record(run, trial(0, 0.9, 9.0), weights=b"w")
    record(run, trial(1, 0.1, 90.0, purpose="final"), weights=b"w")
    record(run, trial(2, 0.95, 8.0), weights=b"w")
    assert models(run) == [1, 2]
    record(run, dataclasses.replace(trial(3, 0.99, 1.0, purpose="final"), status="failed"))
    assert list(load(run).front()["number"]) == [2]
    archive = Archive(run)
    assert not archive.wants_weights(dataclasses.replace(trial(4, purpose="final"), status="lost"))
    archive.close()
    scored = info(evaluation="proxy")
    assert not len(front_of(load(run).trials.query("purpose == 'final'"), scored))


# A decision that was added


@pytest.mark.parametrize("name", search_spaces.names())
def test_texts_are_filled_as_designs_are(name):
    space = search_spaces.find(name)
    last = space.decisions[-1].layer or "other"
    had = {"new": 1, "train.optimizer": "adamw", "train.rate": 0.1, f"{last}.more": True}
    for seed in range(20):
        design = space.sample(np.random.default_rng(seed))
        for some in (had, dict(reversed(had.items())), {f"{last}.more": False, "new": 2}):
            filled = mapping.design(design, some)
            assert mapping.text(str(design), some) == str(filled)
            assert mapping.text(str(filled), some) == str(filled)
            assert Architecture.parse(str(filled)).options == {**design.options, **some}


def test_old_trials_have_an_added_decision_as_was_said(run):
    record(run, *(trial(i, 0.5 + i / 100, 10.0 + i) for i in range(8)))
    archive = Archive(run)
    archive.propose(job(8))  # and is killed: only its log knows of this one
    archive._log.close()
    archive._lock.close()
    plain = {t: str(load(run).architecture(t)) for t in range(8)}
    say(run, ADDED, since=9)
    seen = RunInfo.read(run)
    for again in range(2):
        result = load(run)
        assert (result.trials["d.layer0.dropout"] == 0.0).all()
        for design in (result.architecture(t) for t in range(8)):
            seen.space.check(design)
            assert design["layer0.dropout"] == 0.0
        assert str(result.architecture(3)) == mapping.text(plain[3], {"layer0.dropout": 0.0})
        found = read(run, seen.space)
        jobs = list(tables.jobs_from(found.proposals))
        assert [j.number for j in jobs] == list(range(9))
        for j in jobs:
            texts = [str(j.architecture), *(c.architecture for c in j.proposal.candidates)]
            assert all(seen.space.parse(text)["layer0.dropout"] == 0.0 for text in texts)
            assert len(j.proposal.candidates) == j.number % 3
        if not again:
            Archive(run).close()
    on_disk = pd.read_parquet(run / "trials")
    assert (on_disk["d.layer0.dropout"] == 0.0).all()
    assert on_disk["architecture"].str.contains("dropout=0.0").all()
    new = seen.space.parse(plain[0] + " layer0{dropout=0.2}")
    record(run, trial(9, 0.99, 1.0, new))
    assert list(load(run).trials["d.layer0.dropout"]) == [0.0] * 8 + [0.2]
    say(run, undoes=1)
    result = load(run)
    assert list(result.trials["d.layer0.dropout"]) == [0.0] * 8 + [0.2]
    assert 9 not in set(result.front()["number"])
    assert result.info.allowed.by_name["layer0.dropout"].options == (0.0,)


def test_a_run_without_added_decisions_is_read_as_it_was(run, monkeypatch):
    record(run, *(trial(i) for i in range(3)))
    monkeypatch.setattr(mapping, "_filled", lambda *_: pytest.fail("costs time per row"))
    assert len(load(run).trials) == 3
    Archive(run).close()


def test_designs_that_were_spoken_of_are_read_as_they_are_now(run):
    text = "tree{depth=1} layer0{width=8}"
    turns.append(
        run,
        Turn(1, 0.0, "feedback", directives=(Directive("try", architecture=text),), design=text),
    )
    say(run, ADDED)
    first = RunInfo.read(run).said[0]
    full = "tree{depth=1} layer0{width=8 dropout=0.0}"
    assert (first.design, first.directives[0].architecture) == (full, full)
    begun = dataclasses.replace(
        RunInfo.read(run), settings={"start_from": [text]}, space=RunInfo.read(run).space
    )
    assert [str(p.architecture) for p in starts(begun)] == [full]


def test_a_search_goes_on_with_a_decision_more(tmp_path):
    def score(design):
        better = 0.1 * (design.options.get("layer0.dropout") == 0.2)
        return {"accuracy": 0.3 * design["depth"] / 3 + better, "params": float(design["depth"])}

    given = {"evaluator": score, "strategy": "evolution:population=5", "driver": "local"}
    given |= {"explanation_level": "brief", "scheduler": "none"}
    raynas.search(
        {"objectives": ["accuracy:max"]}, space=TREE, trials=6, run=tmp_path / "run", **given
    )
    say(tmp_path / "run", ADDED, since=6)
    wide = TREE.with_decision(DROPOUT)
    result = raynas.resume(tmp_path / "run", evaluator=score, space=wide, trials=24)
    column = result.trials["d.layer0.dropout"]
    assert (column[:6] == 0.0).all()
    assert (column[6:] == 0.2).any()
    assert result.architecture()["layer0.dropout"] == 0.2
    assert result.proposals["changed"].map(len).any()


# Code for a space that was widened


def test_a_runs_code_knows_what_was_added_to_it(run):
    code = search_spaces.find("layered")
    wide = code.with_options("layer0.kernel_size", [9])
    turn = Turn(
        1,
        0.0,
        "feedback",
        directives=(Directive("add", paths=("layer0.kernel_size",), options=(9,)),),
    )
    kept = dataclasses.replace(info(Space("layered", wide.decisions)), said=(turn,))
    assert as_kept(code, kept).by_name["layer0.kernel_size"].options == (3, 5, 7, 9)
    with pytest.raises(UserError, match="does not have"):
        as_kept(code, dataclasses.replace(kept, said=()))


def test_trainings_and_compressions_can_be_added_to_any_run():
    code = search_spaces.find("nasbench201:channels=4,cells=1")
    begun = info(code, recipe={"optimizer": "sgd", "learning_rate": 0.05})
    given = (*decisions_of("training", begun), *decisions_of("compression", begun))
    had = mapping.before([Turn(1, 0.0, "feedback", directives=given)])
    assert (had["train.optimizer"], had["train.learning_rate"]) == ("sgd", 0.05)
    assert had["compress.late.bits"] == 32
    space = code
    for d in given:
        check_widening(space, d, (1, 8, 8), 10)
    space = Space.from_dict(code.to_dict())
    for d in given:
        space = space.with_decision(d.decision)
    said = (Turn(1, 0.0, "feedback", directives=given),)
    kept = dataclasses.replace(begun, space=space, said=said)
    wide = as_kept(code, kept)
    assert 0.05 in wide.by_name["train.learning_rate"].options
    old = code.sample(np.random.default_rng(3))
    new = mapping.design(old, had)
    wide.check(new)
    assert wide.plainest(new).options.items() >= code.plainest(old).options.items()
    plain, built = (s.build(d, (1, 8, 8), 10) for s, d in ((code, old), (wide, new)))
    assert {k: v.shape for k, v in built.state_dict().items()} == {
        k: v.shape for k, v in plain.state_dict().items()
    }
    with pytest.raises(UserError, match="in this space already"):
        decisions_of("training", dataclasses.replace(begun, space=with_training(code)))
    with pytest.raises(UserError, match="decides bits itself"):
        decisions_of("compression", info(search_spaces.find("elastic")))
    with pytest.raises(UserError, match="training"):
        decisions_of("trainin", begun)


class Small(nn.Sequential):
    def __init__(self, input_shape, num_classes):
        width = choice("layer0.width", [4, 8])
        kind = choice("layer0.kind", ["relu", "gelu"])
        super().__init__(
            nn.Conv2d(input_shape[0], width, 3),
            nn.GELU() if kind == "gelu" else nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, num_classes),
        )


class Newer(nn.Sequential):
    def __init__(self, input_shape, num_classes):
        dropout = choice("layer0.dropout", [0.0, 0.2])
        unused = choice("layer0.unused", ["a", "b"])
        super().__init__(*Small(input_shape, num_classes), nn.Dropout(dropout))
        assert unused


def test_a_new_version_of_an_own_space_may_ask_more():
    old, new = searchable(Small), searchable(Newer)
    unused = Directive("add", decision=Decision("layer0.unused", ("a", "b"), "x"), before="a")
    more = Decision("layer0.dropout", (0.0, 0.2, 0.9), "what is left out")
    design, rest = old.sample(np.random.default_rng(0)), ((3, 8, 8), 10)
    for code in (new, as_kept(new, info(Space("Newer", old.decisions)))):
        with pytest.raises(UserError, match="unused cannot be b in Newer: in no design that was"):
            check_added(code, [ADDED, unused], *rest, design)
        with pytest.raises(UserError, match=r"cannot be 0\.9 in Newer: networks do not work"):
            check_added(code, [dataclasses.replace(ADDED, decision=more), unused], *rest)
    check_widening(new, ADDED, *rest, design)
    with pytest.raises(UserError, match="none of the designs that were tried works anyway"):
        check_widening(as_kept(new, info(Space("Newer", old.decisions))), ADDED, *rest)
    with pytest.raises(UserError, match=r"In a space of your own, .* raynas.choice"):
        check_widening(old, ADDED, (3, 8, 8), 10)
    with pytest.raises(UserError, match="the option that designs so far had"):
        check_widening(new, Directive("add", decision=DROPOUT), (3, 8, 8), 10)
    said = (Turn(1, 0.0, "feedback", directives=(ADDED,)),)
    kept = Space("Newer", (*old.decisions, DROPOUT))
    assert new.decisions[0].name == "layer0.dropout"
    dropped = dataclasses.replace(
        new, decisions=tuple(d for d in new.decisions if "unus" not in d.name)
    )
    opened = as_kept(dropped, dataclasses.replace(info(kept), said=said))
    assert [d.name for d in opened.decisions][-1] == "layer0.dropout"
    for seed in range(5):
        design = opened.sample(np.random.default_rng(seed))
        opened.check(opened.plainest(design))
    with pytest.raises(UserError, match=r"does not have \(any more\): layer0.dropout"):
        as_kept(old, dataclasses.replace(info(kept), said=said))


# Options that people add


@pytest.mark.parametrize(
    ("space", "path", "option", "shape"),
    [
        ("layered", "layer3.kernel_size", 9, (1, 8, 8)),
        ("layered", "layer3.kernel_size", 1, (1, 8, 8)),
        ("layered", "layer0.filter_size", 256, (1, 8, 8)),
        ("mobile", "stem.activation", "gelu", (1, 8, 8)),
        ("vit", "block0.heads", 8, (1, 16, 16)),
        ("darts:channels=4,cells=3", "normal.node0.op0", "conv_3x3", (1, 8, 8)),
        ("regnet", "group_width", 64, (1, 8, 8)),
    ],
)
def test_what_the_code_can_build_can_be_added(space, path, option, shape):
    wide = search_spaces.find(space)
    check_widening(wide, Directive("add", paths=(path,), options=(option,)), shape, 10)


@pytest.mark.parametrize(
    ("space", "path", "option", "why"),
    [
        ("layered", "layer0.type", "max_pool", "its code does not know it. The space allows conv"),
        ("layered", "layer3.kernel_size", 4, "networks do not work"),
        ("layered", "layer3.kernel_size", "5x5", "of the type int, and this is str"),
        ("layered", "num_layers", 12, "other decisions depend on it"),
        ("layered", "layer3.colour", 1, "decision of layered"),
        (
            "nasnet_cell:channels=4,cells=3",
            "normal.node0.op0",
            "sep_conv_7x7",
            "its code could do dil_conv_3x3 or dil_conv_5x5 as well",
        ),
    ],
)
def test_what_it_cannot_is_refused(space, path, option, why):
    wide = search_spaces.find(space)
    with pytest.raises(UserError, match=why) as error:
        check_widening(wide, Directive("add", paths=(path,), options=(option,)), (1, 8, 8), 10)
    assert "choice" in str(error.value) or "expected one of" in str(error.value)


def test_code_that_takes_a_word_for_another_is_caught():
    def build(design, shape, classes):
        layer = nn.Tanh() if design["kind"] == "tanh" else nn.ReLU()  # whatever the word is
        return nn.Sequential(layer, nn.Flatten(), nn.Linear(int(np.prod(shape)), classes))

    space = Space("own", (Decision("kind", ("relu", "tanh"), "the nonlinearity"),), build=build)
    with pytest.raises(UserError, match="the same network of it as of another option"):
        check_widening(space, Directive("add", paths=("kind",), options=("gelu",)), (1, 8, 8), 10)


def test_an_own_space_says_where_to_widen_it():
    space = searchable(Small, (3, 8, 8))
    with pytest.raises(UserError, match=r"raynas.choice\('layer0.width', \[...\]\)"):
        check_widening(
            space, Directive("add", paths=("layer0.width",), options=(16,)), (3, 8, 8), 10
        )


def test_an_option_must_suit_the_design_under_discussion():
    def build(design, shape, classes):
        if design["width"] == 6 and design["kernel"] == 1:
            raise ValueError("6 needs a larger kernel")
        return nn.Sequential(
            nn.Conv2d(shape[0], design["width"], design["kernel"]),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(design["width"], classes),
        )

    space = Space(
        "own",
        (
            Decision("width", (4, 8), "channels", True),
            Decision("kernel", (3, 5, 1), "pixels", True),
        ),
        build=build,
    )
    wider = Directive("add", paths=("width",), options=(6,))
    check_widening(space, wider, (1, 8, 8), 10, space.parse("own{width=4 kernel=3}"))
    with pytest.raises(UserError, match="6 needs a larger kernel"):
        check_widening(space, wider, (1, 8, 8), 10, space.parse("own{width=4 kernel=1}"))


def test_shared_weights_know_nothing_of_what_is_added():
    with pytest.raises(UserError, match="trained without what you add"):
        may_widen(info(evaluation="shared"))
    may_widen(info(evaluation="train"))


# Costs that were not asked for


class Costing:
    def __init__(self):
        self.asked = []

    def costs(self, design):
        self.asked.append(str(design))
        if design["depth"] == 3:
            raise ValueError("cannot be built")
        return {"params": 1.0, "latency_ms": float(design["depth"])}


def test_costs_that_nobody_asked_for_are_told_later(run):
    record(run, *(trial(i, 0.5 + i / 100, 10.0 + i) for i in range(12)))
    record(run, dataclasses.replace(trial(12), status="failed"))
    before, evaluator = load(run).trials, Costing()
    assert fill_costs(run, RunInfo.read(run), evaluator) == 0
    assert evaluator.asked == []
    say(run, Directive("limit", metric="latency_ms", sense="max", bound=1.5))
    kept = RunInfo.read(run)
    archive = Archive(run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raynas.archive.DYING", 0.0)
        patch.setattr(Archive.__init__, "__defaults__", (0.0, None))
        with pytest.raises(ArchiveError, match="written by another process"):
            fill_costs(run, kept, evaluator)
    archive.close()
    told = fill_costs(run, kept, evaluator)
    result = load(run)
    depth = result.trials["d.depth"]
    can = (depth < 3) & (result.trials["status"] == "finished")
    assert told == can.sum() > 0
    assert (result.trials["m.latency_ms"][can] == depth[can]).all()
    assert result.trials["m.latency_ms"][~can].isna().all()
    pd.testing.assert_frame_equal(result.trials[before.columns], before)
    assert set(result.front()["number"]).isdisjoint(result.trials["number"][can & (depth == 2)])
    on_disk = pd.read_parquet(run / "front.parquet")
    assert set(on_disk["number"]) == set(result.front()["number"])
    assert fill_costs(run, kept, evaluator) == 0
    assert len(set(evaluator.asked)) == result.trials["architecture"][:12].nunique()


# What to try first


def test_designs_to_start_from_stand_in_files_and_runs(run, tmp_path):
    record(run, *(trial(i, 0.5 + i / 100, 10.0 + i) for i in range(5)))
    texts = [str(load(run).architecture(i)) for i in (4, 3, 2, 1, 0)]
    assert designs_from(str(run), TREE) == list(dict.fromkeys(texts))
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(texts[:2]))
    (tmp_path / "a.txt").write_text("# the best\n" + "\n\n".join(texts[:2]) + "\n")
    pd.DataFrame({"architecture": texts[:2], "x": 1.0}).to_parquet(tmp_path / "a.parquet")
    for name in ("a.yaml", "a.txt", "a.parquet"):
        assert designs_from(str(tmp_path / name), TREE) == list(dict.fromkeys(texts[:2]))
    assert designs_from(texts[0], TREE) == [texts[0]]
    network = search_spaces.find("nasbench201")
    (tmp_path / "b.txt").write_text("resnet\n")
    assert designs_from("resnet", network) == designs_from(str(tmp_path / "b.txt"), network)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.yaml", "designs: [a]", "expected a list of names or texts"),
        ("a.yaml", "a: [", "cannot be read"),
        ("a.txt", "# nothing", "it has none"),
        ("a.txt", "nobody", "design 1: .*known design of tree"),
        (
            "a.txt",
            "tree{depth=9} layer0{width=8}",
            r"design 1: tree.depth: expected one of",
        ),
        ("a.parquet", None, "column `architecture`"),
        ("b.txt", None, "no such file"),
        ("nothing", None, "a file .*, or a run's folder"),
    ],
)
def test_what_cannot_be_started_from_is_said(tmp_path, name, content, why):
    if content is not None:
        (tmp_path / name).write_text(content)
    elif name == "a.parquet":
        pd.DataFrame({"x": [1.0]}).to_parquet(tmp_path / name)
    with pytest.raises(UserError, match=why):
        designs_from(str(tmp_path / name), TREE)


def test_a_run_of_another_space_names_what_differs(run):
    record(run, trial(0, design=TREE.parse("tree{depth=1} layer0{width=16}")))
    narrow = TREE.narrow({"layer0.width": 8})
    with pytest.raises(UserError, match=r"trial 0: tree.layer0.width: expected one of 8; got 16"):
        designs_from(str(run), narrow)


def test_a_search_keeps_the_designs_that_a_file_named(tmp_path):
    text = "tree{depth=1} layer0{width=16}"
    (tmp_path / "first.txt").write_text(text)
    result = raynas.search(
        {"objectives": ["accuracy:max"]},
        space=TREE,
        evaluator=lambda design: {"accuracy": 0.5},
        start_from=str(tmp_path / "first.txt"),
        trials=2,
        run=tmp_path / "run",
        driver="local",
        explanation_level="brief",
    )
    assert isinstance(result, SearchResult)
    assert result.info.settings["start_from"] == [text]
    assert str(result.architecture(0)) == text

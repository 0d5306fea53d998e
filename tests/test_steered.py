"""What every strategy does once people have narrowed the space: it keeps to what they said."""

import zlib
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

import search_spaces
from raynas.architecture import Architecture, Decision, InvalidSpace, changes
from raynas.directives import Directive, Turn, fold
from raynas.objective import Constraint, Objective
from raynas.problem import Problem
from raynas.session import Session
from raynas.strategies import ANYWHERE, PROPOSING, SpaceExhausted, make, takes_all
from raynas.strategies.preferring import HALF, STRENGTH, Preferring
from raynas.trial import Proposal, Reason, Trial
from tests.spaces import CELL, SCALED, TREE
from tests.test_strategy_contract import Memory

ONE = (Objective.parse("accuracy:max"),)
TWO = (*ONE, Objective.parse("params:min"))
BEFORE, AFTER = 16, 12  # trials told, and proposals looked at
AT_ONCE = 6  # proposals between which nothing is told
SPACES = {name: search_spaces.find(name) for name in search_spaces.names()} | {
    "tiny_cell": CELL,
    "tree": TREE,
    "scaled": SCALED,
}
PAIRS = [(s, t) for s in SPACES for t in ANYWHERE] + [
    (s, t) for s in ("compound_scaling", "scaled") for t in PROPOSING if t not in ANYWHERE
]


def reading(architecture):
    """Made up: a good word for late options, and some noise that is always the same."""
    lot = zlib.crc32(str(architecture).encode()) / 2**32
    lengths = [len(str(option)) for option in architecture.options.values()]
    return {"accuracy": 0.5 + 0.3 * np.tanh(np.mean(lengths) - 4) + 0.1 * lot, "params": 1 + lot}


def archive_of(space, rng, count=BEFORE):
    """Distinct designs of the whole space, tried before anything was said."""
    found = {}
    for _ in range(20 * count):
        design = space.plainest(space.sample(rng))
        found.setdefault(space.identity(design), design)
    designs = list(found.values())[:count]
    return [Trial(i, d, "finished", reading(d), fidelity=1) for i, d in enumerate(designs)]


def wish(space, rng):
    """A random pin or prohibition; of a decision that others depend on in half of the cases."""
    open_ = [d for d in space.decisions if len(d.options) > 1]
    parents = {d.when[0] for d in space.decisions if d.when}
    structural = [d for d in open_ if d.name in parents]
    pool = structural if structural and rng.random() < 0.5 else open_
    decision = pool[rng.integers(len(pool))]
    if decision.name == "scale":  # what compound scaling is about: see below
        decision = space.by_name["depth_growth"]
    option = decision.options[rng.integers(len(decision.options))]
    kind = "pin" if rng.random() < 0.6 else "forbid"
    return Directive(kind, f"{kind} it", (decision.name,), (option,))


def state_of(space, *directives, since=BEFORE):
    problem = Problem.of({"objectives": ["accuracy:max", "params:min"]})
    return fold(problem, space, [Turn(1, 0.0, "feedback", "so be it", directives, since)])


def kept(directive, architecture):
    options = [architecture[p] for p in directive.paths if p in architecture]
    return all((o in directive.options) == (directive.kind == "pin") for o in options)


def continued(state, text, told, objectives=TWO, seed=0, preferences=(), trials=AFTER, jobs=()):
    """The search goes on as `raynas.stages` has it, several at a time; its archive."""
    every = takes_all(text)
    strategy = make(text, state.allowed, objectives, trials=100, wide=state.space)
    if preferences:
        strategy = Preferring(state.allowed, strategy, preferences)
    session = Session(
        state.allowed, strategy, objectives, Memory(), lambda a: {}, seed=seed, narrowed=not every
    )
    session.resume(jobs, told, BEFORE)
    try:
        for _ in range(0, trials, AT_ONCE):
            for job in [session.ask() for _ in range(AT_ONCE)]:
                design = job.architecture
                session.tell(Trial(job.number, design, "finished", reading(design), fidelity=1))
    except SpaceExhausted:
        assert state.allowed.size <= trials + len(told)
    return session.archive


@pytest.mark.parametrize(("name", "text"), PAIRS, ids=lambda part: part)
def test_every_later_proposal_keeps_what_was_said(name, text):
    space = SPACES[name]
    rng = np.random.default_rng(zlib.crc32(f"{name} {text}".encode()))
    told, said = archive_of(space, rng), wish(space, rng)
    state = state_of(space, said)
    wanted = wish(state.allowed, rng)
    prefer = ((replace(wanted, kind="prefer", confidence="high"), 0),)
    objectives = ONE if rng.random() < 0.5 else TWO
    jobs = continued(state, text, told, objectives, preferences=prefer[: rng.integers(2)]).jobs
    designs = {t.number: t.architecture for t in (*told, *jobs)}
    every = text in ("predictor", "bananas")  # the others have not heard of what lies outside
    heard = [t for t in told if every or state.allowed.holds(t.architecture)]
    identities = [space.identity(t.architecture) for t in heard]
    for job in jobs:
        assert kept(said, job.architecture)
        state.allowed.check(job.architecture)
        space.check(job.architecture)
        if parents := (reason := job.proposal.reason).parents:
            assert set(reason.changed) == set(changes(designs[parents[0]], job.architecture))
        identities.append(space.identity(job.architecture))
    assert len(set(identities)) == len(identities)


@pytest.mark.parametrize("text", ANYWHERE)
def test_a_search_in_a_part_of_its_space_resumes_from_its_archive_alone(text):
    said = Directive("pin", "it is so", ("a_to_out",), ("conv3x3", "skip"))
    state, told = state_of(CELL, said), archive_of(CELL, np.random.default_rng(2))
    whole = continued(state, text, told, trials=2 * AT_ONCE)
    part = continued(state, text, told, trials=AT_ONCE)
    rest = continued(state, text, [*told, *part.trials], trials=AT_ONCE, jobs=part.jobs)
    assert [j.proposal for j in (*part.jobs, *rest.jobs)] == [j.proposal for j in whole.jobs]


@dataclass
class Stubborn:
    """Proposes designs of the archive again with one decision changed, or all at random."""

    space: object
    told: list = field(default_factory=list)

    def tell(self, trial):
        self.told.append(trial)

    def ask(self, rng, pending):
        parent = self.told[rng.integers(len(self.told))]
        while True:
            child = self.space.mutate(parent.architecture, rng)
            if str(child) not in {str(t.architecture) for t in self.told} | set(map(str, pending)):
                reason = Reason.child("mutation", "mutates something", parent, child)
                scored = replace(reason, scores={"acquisition": 0.3, "mean": 0.9})
                return Proposal(child, scored)


LAYERED = SPACES["layered"]
KERNEL = "layer0.kernel_size"
TOLD = archive_of(CELL, np.random.default_rng(4))


def preferring(confidence="medium", since=0, count=0, options=(7,), path=KERNEL):
    wanted = Directive("prefer", "rather so", (path,), options, confidence)
    strategy = Preferring(LAYERED, Stubborn(LAYERED), ((wanted, since),))
    for trial in archive_of(LAYERED, np.random.default_rng(4), BEFORE):
        strategy.tell(trial)
    for number in range(BEFORE, BEFORE + count):  # of nothing that matters here
        strategy.tell(replace(strategy.strategy.told[0], number=number))
    return strategy


def answers(strategy, times=300):
    return [strategy.ask(np.random.default_rng(i), []) for i in range(times)]


def changed_share(asked, options=(7,)):
    """Of the proposals that were answered otherwise, the share that was changed."""
    changed = [p for p in asked if "as you prefer" in p.reason.note]
    left = [p for p in asked if p.architecture[KERNEL] not in options]
    return len(changed) / (len(changed) + len(left))


@pytest.mark.parametrize(("confidence", "chance"), STRENGTH.items())
def test_a_preference_changes_a_share_of_the_proposals(confidence, chance):
    strategy = preferring(confidence, since=BEFORE)
    asked = answers(strategy)
    assert changed_share(asked) == pytest.approx(chance, abs=0.08)
    changed = [p for p in asked if "as you prefer" in p.reason.note]
    for p in changed:
        before = p.candidates[0]
        assert before.score == 0.3
        assert before.rejected_by == "changed to what you prefer"
        assert LAYERED.parse(before.architecture)[KERNEL] != 7
        assert p.reason.kind == "mutation"
        assert p.reason.note == (
            f"mutates something; {KERNEL} 7 as you prefer ({confidence} confidence)"
        )
        assert not p.reason.scores  # these were of the other design
        parent = next(t for t in strategy.strategy.told if t.number == p.reason.parents[0])
        assert p.reason.changed == changes(parent.architecture, p.architecture)
    assert all(p.reason.scores for p in asked if p not in changed)


def test_a_preference_fades_with_what_was_tried_since_it_was_said():
    for count in (0, HALF, 3 * HALF):
        share = changed_share(answers(preferring("high", BEFORE, count)))
        assert share == pytest.approx(0.8 * HALF / (HALF + count), abs=0.08)
    assert changed_share(answers(preferring("high", 0))) == pytest.approx(0.8 * 20 / 36, abs=0.08)


def test_a_preference_for_sizes_takes_the_nearest_one():
    for p in answers(preferring("high", options=(3, 5))):
        if "as you prefer" in p.reason.note:
            assert p.architecture[KERNEL] == 5  # what was 7
            assert p.reason.note.count("as you prefer") == 1


def test_a_preference_for_depth_makes_layers():
    asked = answers(preferring("high", options=(16,), path="num_layers"), 40)
    deep = [p for p in asked if "num_layers 16 as you prefer" in p.reason.note]
    assert deep
    for p in deep:
        LAYERED.check(p.architecture)
        assert p.architecture["num_layers"] == 16
        assert "layer15.kernel_size" in p.architecture


def test_what_was_tried_is_not_proposed_again_for_a_preference():
    """All designs with the preferred option are known."""
    strategy = Preferring(TREE, Stubborn(TREE), ((Directive("prefer", "", ("depth",), (1,)), 0),))
    every = list(TREE.enumerate())
    shallow = [a for a in every if a["depth"] == 1]
    for i, design in enumerate([*shallow, every[-1]]):
        strategy.tell(Trial(i, design, "finished", reading(design)))
    asked = answers(strategy, 60)
    assert {p.architecture["depth"] for p in asked} == {2, 3}
    said = [c.rejected_by for p in asked for c in p.candidates]
    assert any("preferred, but a duplicate of trial" in text for text in said)


@pytest.mark.parametrize("text", ["random", "predictor", "evolution", "reinforce"])
def test_asking_with_a_preference_changes_nothing_and_it_resumes(text):
    state, wanted = state_of(CELL), ((Directive("prefer", "", ("width",), (32,), "high"), BEFORE),)
    jobs = continued(state, text, TOLD, preferences=wanted).jobs
    again = continued(state, text, TOLD, preferences=wanted).jobs
    assert [j.proposal for j in jobs] == [j.proposal for j in again]
    assert np.mean([j.architecture["width"] == 32 for j in jobs]) > 0.5
    strategy = Preferring(CELL, make(text, CELL, ONE), wanted)
    for trial in TOLD:
        strategy.tell(trial)
    first, second = (strategy.ask(np.random.default_rng(5), []) for _ in range(2))
    assert first == second


def traded(architecture):
    """More of everything is more accurate and costs more."""
    asked = [(LAYERED.by_name[n].options, o) for n, o in architecture.choices]
    shares = [(options.index(o) + 1) / len(options) for options, o in asked]
    size = np.mean(shares) * (0.2 + len(shares) / 65)
    return {"accuracy": float(1 - np.exp(-3 * size)), "params": float(1000 * size)}


@pytest.mark.parametrize(
    "text", ["bananas", "bohb", "evolution", "local_search", "nsga2", "predictor", "reinforce"]
)
def test_a_reference_point_draws_what_is_proposed(text):
    """Nothing is refused for it; more of what is proposed reaches it."""
    told = archive_of(LAYERED, np.random.default_rng(1), 40)
    told = [replace(t, metrics=traded(t.architecture)) for t in told]
    bound = float(np.quantile([t.metrics["params"] for t in told], 0.1))

    def reached(goals, seed):
        strategy = make(text, LAYERED, TWO, goals, trials=100)
        session = Session(LAYERED, strategy, TWO, Memory(), lambda a: {}, seed=seed)
        session.resume([], told, 40)
        for _ in range(6):
            for job in [session.ask() for _ in range(4)]:
                design = job.architecture
                session.tell(Trial(job.number, design, "finished", traded(design), fidelity=1))
        return np.mean([traded(j.architecture)["params"] <= bound for j in session.archive.jobs])

    aim = (Constraint("params", "max", bound),)
    gained = [reached(aim, seed) - reached((), seed) for seed in range(2)]
    assert np.mean(gained) > 0.1


@pytest.mark.parametrize("name", SPACES)
def test_narrowing_fitting_and_widening(name):
    """A fitted design is of the space; a member stays as it is; old designs stay apart."""
    space, rng = SPACES[name], np.random.default_rng(zlib.crc32(name.encode()))
    for _ in range(8):
        allowed = state_of(space, wish(space, rng)).allowed
        for _ in range(5):
            design = space.sample(rng)
            fitted = allowed.fit(design)
            allowed.check(fitted)
            space.check(fitted)
            assert (fitted == design) == allowed.holds(design)
            assert allowed.fit(fitted) == fitted
            assert allowed.identity(fitted) == space.identity(fitted)


@pytest.mark.parametrize("name", SPACES)
def test_options_that_are_added_leave_old_designs_as_they_are(name):
    space, rng = SPACES[name], np.random.default_rng(zlib.crc32(name.encode()))
    decision = space.decisions[rng.integers(len(space.decisions))]
    words = isinstance(decision.options[0], str)
    new = "another" if words else type(decision.options[0])(1 + max(decision.options))
    if new in decision.options:  # yes or no: there is no third
        return
    wide = space.with_options(decision.name, [new, decision.options[0]])
    assert wide.by_name[decision.name].options == (*decision.options, new)
    assert wide.with_options(decision.name, [new]) == wide
    for _ in range(5):
        design = space.sample(rng)
        wide.check(design)
        assert wide.fit(design) == design
        assert wide.identity(design) == space.identity(design)
        other = wide.fit(replace_option(wide, design, decision.name, new))
        wide.check(other)
        space.check(space.fit(other))
    parts = [d for d in wide.decisions if d.when and d.when[0] == decision.name]
    assert not any(new in d.when[1] for d in parts)
    with pytest.raises(InvalidSpace, match="options of one type"):
        space.with_options(decision.name, [1 if words else "many"])


def replace_option(space, design, name, option):
    return Architecture(space.name, tuple({**design.options, name: option}.items()))


@pytest.mark.parametrize("name", SPACES)
def test_a_decision_that_is_added_keeps_old_designs_apart(name):
    space, rng = SPACES[name], np.random.default_rng(zlib.crc32(name.encode()))
    asked = Decision("dropout", (0.0, 0.2), "how much is dropped", ordered=True)
    wide = space.with_decision(asked)
    assert wide.size == 2 * space.size
    designs = [space.sample(rng) for _ in range(12)]
    pairs = [[replace_option(wide, d, "dropout", o) for d in designs] for o in asked.options]
    for before, *after in zip(designs, *pairs, strict=True):
        for design in after:
            wide.check(design)
            plain = wide.plainest(design)
            wide.check(plain)
            assert plain["dropout"] == design["dropout"]
            assert wide.identity(plain) == wide.identity(design)
        assert len({wide.identity(d) for d in after}) == 2
        assert wide.fit(before) == after[0]  # answered by its first option
    old = {space.identity(d) for d in designs}
    assert all(len({wide.identity(d) for d in new}) == len(old) for new in pairs)

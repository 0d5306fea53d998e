from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chisquare

from raynas.architecture import Architecture, Decision, InvalidArchitecture, InvalidSpace, changes
from raynas.errors import UserError
from raynas.space import Space
from search_spaces.layered import SPACE as LAYERED
from tests.spaces import CELL, MERGED, TREE

SPACES = pytest.mark.parametrize("space", [CELL, TREE, LAYERED], ids=lambda s: s.name)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("space", [CELL, TREE], ids=lambda s: s.name)
def test_size_counts_what_enumerate_yields(space):
    every = list(space.enumerate())
    assert len(every) == len(set(every)) == space.size
    for architecture in every:
        space.check(architecture)


def test_size_of_a_conditional_space_by_hand():
    # depth 1: 2 widths; depth 2: 2 x (a + b with two bonuses); depth 3: that x 3 rates
    assert TREE.size == 2 + 2 * 3 + 2 * 3 * 3
    per_layer = 3 * 4 * 3 * 3 * 2
    assert LAYERED.size == sum(per_layer**depth for depth in (2, 4, 8, 16))


@SPACES
@pytest.mark.parametrize("seed", range(10))
def test_text_survives_a_round_trip(space, seed):
    architecture = space.sample(rng(seed))
    assert Architecture.parse(str(architecture)) == architecture == space.parse(str(architecture))
    assert "\n" not in str(architecture)


def test_text_is_readable():
    design = TREE.architecture({"depth": 2, "layer0.width": 8, "layer1.kind": "a"})
    assert str(design) == "tree{depth=2} layer0{width=8} layer1{kind=a}"


def test_text_of_a_late_decision_about_the_whole():
    space = Space("s", (Decision("a.x", (1, 2), "x"), Decision("y", (1, 2), "y")))
    design = space.sample(rng())
    assert Architecture.parse(str(design)) == design


@SPACES
@pytest.mark.parametrize("seed", range(10))
def test_mutation_stays_in_the_space_and_changes_something(space, seed):
    parent = space.sample(rng(seed))
    child = space.mutate(parent, rng(seed + 100))
    space.check(child)
    assert child != parent
    assert space.mutate(parent, rng(seed + 100)) == child


def test_mutation_adds_and_removes_layers():
    parent = LAYERED.sample(rng(3))
    depths = {LAYERED.mutate(parent, rng(s))["num_layers"] for s in range(60)}
    assert len(depths) > 2


def test_mutation_of_an_ordered_decision_prefers_near_options():
    space = Space("s", (Decision("n", (1, 2, 3, 4, 5), "n", ordered=True),))
    start = space.architecture({"n": 1})
    drawn = [space.mutate(start, rng(s))["n"] for s in range(200)]
    assert drawn.count(2) > 2 * drawn.count(4)


@SPACES
@pytest.mark.parametrize("seed", range(10))
def test_a_crossover_has_each_layer_whole_from_one_parent(space, seed):
    a, b = space.sample(rng(seed)), space.sample(rng(seed + 50))
    child = space.crossover(a, b, rng(seed))
    space.check(child)
    for name, option in child.choices:
        if name in a.options and name in b.options:
            assert option in (a[name], b[name])


@pytest.mark.parametrize("space", [CELL, TREE], ids=lambda s: s.name)
def test_neighbourhood_is_symmetric(space):
    every = list(space.enumerate())
    near = {a: set(space.neighbours(a)) for a in every}
    assert all(a in near[b] for a in every for b in near[a])
    assert all(a not in near[a] for a in every)


@SPACES
def test_encoding_has_one_meaning_per_column(space):
    a = space.sample(rng(1))
    code = dict(zip(space.columns, space.encode(a), strict=True))
    assert len(code) == len(space.columns)  # no name twice
    for d in space.decisions:
        if d.when:
            assert code[f"{d.name}?"] == (d.name in a.options)
        if d.name in a.options and not d.ordered:
            assert sum(v for n, v in code.items() if n.startswith(f"{d.name}=")) == 1


def test_encoding_by_hand():
    a = TREE.architecture({"depth": 2, "layer0.width": 16, "layer1.kind": "a"})
    code = dict(zip(TREE.columns, TREE.encode(a), strict=True))
    assert code["depth"] == 0.5
    assert code["layer0.width"] == 1.0
    assert (code["layer1.kind?"], code["layer1.kind=a"], code["layer1.kind=b"]) == (1, 1, 0)
    assert (code["layer2.rate?"], code["layer2.rate"]) == (0, 0)


def test_identity_merges_names_of_one_network():
    a, b = (
        MERGED.parse(f"tiny_cell{{input_to_a={o} input_to_out=skip a_to_out=none width=16}}")
        for o in ("conv1x1", "conv3x3")
    )
    assert MERGED.identity(a) == MERGED.identity(b)
    assert CELL.identity(a) != CELL.identity(b)


def test_narrowing_pins_forbids_and_drops_what_cannot_be_reached():
    narrow = TREE.narrow({"depth": 2}, {"layer1.kind": {"b"}})
    assert narrow.size == 2
    assert "layer2.rate" not in narrow.by_name
    assert "layer1.bonus" not in narrow.by_name
    for architecture in narrow.enumerate():
        TREE.check(architecture)


def test_a_space_survives_being_written_down():
    assert Space.from_dict(TREE.to_dict()) == TREE


def test_changes_between_designs():
    a = TREE.architecture({"depth": 1, "layer0.width": 8})
    b = TREE.architecture({"depth": 2, "layer0.width": 8, "layer1.kind": "a"})
    assert changes(a, b) == (("depth", 1, 2), ("layer1.kind", None, "a"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 1}, "layer0.width: expected one of 8, 16; got nothing"),
        ({"depth": 1, "layer0.width": 9}, "expected one of 8, 16; got 9"),
        ({"depth": 1, "layer0.width": 8, "layer1.kind": "a"}, "must not be answered here"),
        ({"depth": 1, "layer0.widht": 8}, "Did you mean 'layer0.width'"),
        ({"depth": True, "layer0.width": 8}, "expected one of 1, 2, 3; got true"),
    ],
)
def test_designs_outside_the_space_are_refused(options, message):
    with pytest.raises(InvalidArchitecture, match=message):
        TREE.architecture(options)


@pytest.mark.parametrize("text", ["", "tree", "tree{depth}", "tree{depth=1} x", "{depth=1}"])
def test_text_that_is_no_architecture(text):
    with pytest.raises(InvalidArchitecture, match="expected"):
        TREE.parse(text)


def test_architectures_of_another_space():
    with pytest.raises(InvalidArchitecture, match="expected an architecture of the space 'tree'"):
        TREE.check(CELL.sample(rng()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Decision("a", (), "m"), "one or more options"),
        (lambda: Decision("a", (1, 1), "m"), "without repeats"),
        (lambda: Decision("a", (1, "x"), "m"), "of one type"),
        (lambda: Decision("a", ("3",), "m"), "write numbers without quotes"),
        (lambda: Decision("a", ("x y",), "m"), "does not survive being written down"),
        (lambda: Decision("a b", (1,), "m"), "dotted identifier"),
        (lambda: Space("s", (Decision("a", (1,), "m"),) * 2), "two decisions are named"),
        (
            lambda: Space("s", (Decision("a", (1,), "m", when=("b", frozenset({1}))),)),
            "must name an earlier decision",
        ),
        (lambda: TREE.narrow({"depth": 9}), "nothing is left of 1, 2, 3"),
        (lambda: TREE.narrow({"depht": 1}), "Did you mean 'depth'"),
    ],
)
def test_contradictions_in_a_space_are_named(make, message):
    with pytest.raises(InvalidSpace, match=message):
        make()


def test_the_plainest_design_stays_in_a_narrowed_space():
    def without_dead_parts(architecture):
        dead = architecture["a_to_out"] == "none"
        plain = {**architecture.options, **({"input_to_a": "none"} if dead else {})}
        return CELL.architecture(plain)

    space = replace(CELL, simplify=without_dead_parts)
    narrow = space.narrow(pins={"input_to_a": "skip", "a_to_out": "none"})
    design = narrow.sample(rng())
    assert space.plainest(design)["input_to_a"] == "none"
    assert narrow.plainest(design) == design


def test_uniform_sampling_draws_every_design_alike():
    counts = Counter(str(TREE.sample_uniformly(rng(seed))) for seed in range(60 * TREE.size))
    assert len(counts) == TREE.size
    assert chisquare(list(counts.values())).pvalue > 1e-4
    assert LAYERED.sample_uniformly(rng())["num_layers"] == 16  # nearly all designs have 16


def test_the_code_of_a_run_must_still_have_its_options():
    kept = CELL.narrow(pins={"width": 16})
    assert CELL.with_decisions(kept).size == kept.size
    with pytest.raises(UserError, match=r"does not have \(any more\): width"):
        kept.with_decisions(CELL)


def test_a_design_of_another_space_is_refused():
    text = str(CELL.sample(rng())).replace("tiny_cell", "other")
    with pytest.raises(InvalidArchitecture, match="one of 'other'"):
        CELL.parse(text)

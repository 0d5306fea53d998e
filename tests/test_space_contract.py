"""What every ready-made space must do. A new file in search_spaces/ is tested here as it is."""

import importlib
import re

import numpy as np
import pytest
import torch

import search_spaces
from raynas.costs import costs_of, count, layers
from raynas.errors import UserError
from raynas.recipe import with_training

NAMES = search_spaces.names()
HEAVY = 3e8  # FLOPs: designs beyond are built and counted here, and not run
pytestmark = pytest.mark.parametrize("name", NAMES)


def space_of(name):
    return search_spaces.find(name)


def smallest(name):
    """The side that a space says it needs."""
    with pytest.raises(UserError, match=r"at least (\d+)x\1") as refused:
        space_of(name).build(designs(name, 1)[0], (1, 1, 1), 10)
    return int(re.search(r"at least (\d+)x", str(refused.value))[1])


def designs(name, n=6):
    space = space_of(name)
    return [space.sample(np.random.default_rng(seed)) for seed in range(n)]


def light(name, shape, n=4):
    """The cheapest of some designs, so that the tests end."""
    some = designs(name, 12)
    some.sort(key=lambda d: costs_of(space_of(name), d, shape, 7)["flops"])
    return some[:n]


@pytest.mark.parametrize("channels", [1, 3])
def test_every_design_builds_and_learns_at_its_smallest_input(name, channels):
    side = smallest(name)
    shape = (channels, side, side + 3)
    for design in light(name, shape):
        model = space_of(name).build(design, shape, 7)
        logits = model(torch.randn(2, *shape))
        assert logits.shape == (2, 7)
        assert logits.isfinite().all()
        logits.square().sum().backward()
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("side", [32, 224])
def test_usual_inputs(name, side):
    space = space_of(name)
    side = max(side, smallest(name))
    for design in designs(name, 4):
        costs = costs_of(space, design, (3, side, side), 10)
        assert costs["params"] > 0
        if costs["flops"] < HEAVY:
            model = space.build(design, (3, side, side), 10).eval()
            assert model(torch.randn(1, 3, side, side)).isfinite().all()


def test_same_design_and_seed_same_weights(name):
    design = light(name, (3, 32, 32), 1)[0]

    def weights():
        torch.manual_seed(3)
        return space_of(name).build(design, (3, 32, 32), 10).state_dict()

    first, again = weights(), weights()
    assert all(torch.equal(first[k], again[k]) for k in first)


def test_costs_are_those_of_the_network_and_of_its_layers(name):
    space = space_of(name)
    for design in designs(name):

        def build(design=design):
            return space.build(design, (3, 32, 32), 10)

        costs = costs_of(space, design, (3, 32, 32), 10)
        assert costs == count(build, (3, 32, 32))
        parts = layers(space, design, (3, 32, 32), 10)
        assert sum(part["params"] for part in parts) == costs["params"]
        assert sum(part["flops"] for part in parts) == costs["flops"] > 0
        assert parts[0]["shape_in"] == (3, 32, 32)
        assert parts[-1]["shape"] == (10,)


def test_layers_name_the_decisions_that_made_them(name):
    design = designs(name, 1)[0]
    told = {
        d for part in layers(space_of(name), design, (3, 32, 32), 10) for d in part["decisions"]
    }
    within = {d for d in design.options if "." in d}
    assert told >= within or space_of(name).plainest(design) != design


def test_every_decision_matters_to_the_network(name):
    """Each option gives another network, or the space says that it is the same."""
    space = space_of(name)
    design = space.plainest(light(name, (3, 32, 32), 1)[0])
    rng = np.random.default_rng(0)
    others = [space.plainest(o) for o in space.neighbours(design)]

    def network(architecture):
        model = space.build(architecture, (3, 32, 32), 10)
        shapes = [(n, tuple(p.shape)) for n, p in model.named_parameters()]
        return str(model), str(shapes)

    with torch.device("meta"):
        reference = network(design)
        for i in rng.permutation(len(others))[:60]:
            same = network(others[i]) == reference
            assert not same or space.identity(others[i]) == space.identity(design), others[i]


def test_the_plainest_design_computes_the_same(name):
    space = space_of(name)
    for design in designs(name, 30):
        plain = space.plainest(design)
        space.check(plain)
        assert space.plainest(plain) == plain
        assert space.identity(plain) == space.identity(design)


def test_too_small_an_input_is_refused(name):
    side = smallest(name)
    with pytest.raises(UserError, match=f"at least {side}x{side}.*--image-size {side}"):
        space_of(name).build(designs(name, 1)[0], (1, side - 1, side), 10)


def test_published_designs_are_members(name):
    space = space_of(name)
    for title, known in space.known.items():
        assert len(known.source) > 5, title
        design = space.architecture(known.options)
        adjusted = importlib.import_module(f"search_spaces.{name}")
        if known.settings:
            adjusted.space(**known.settings).check(design)


def test_texts_codes_and_branches(name):
    space = space_of(name)
    assert space.encode(designs(name, 1)[0]).shape == (len(space.columns),)
    met = set()
    for seed in range(300):
        design = space.sample(np.random.default_rng(seed))
        met |= set(design.options)
        if seed < 20:
            assert space.parse(str(design)) == design
            drawn = space.sample_uniformly(np.random.default_rng(seed))
            space.check(drawn)
    assert met == set(space.by_name)  # each conditional branch is reached


def test_neighbours_are_mutual(name):
    space = space_of(name)
    design = designs(name, 1)[0]
    others = list(space.neighbours(design))
    for i in np.random.default_rng(0).permutation(len(others))[:8]:
        space.check(others[i])
        assert design in set(space.neighbours(others[i]))


def test_training_can_be_searched_as_well(name):
    space = with_training(space_of(name))
    design = space.sample(np.random.default_rng(0))
    assert "train.learning_rate" in design
    space.build(design, (3, 32, 32), 10)
    other = space.architecture({**design.options, "train.weight_decay": 0.05})
    another = space.architecture({**design.options, "train.weight_decay": 0.0})
    assert space.identity(other) != space.identity(another)
    assert space.check(space.plainest(design)) is None


def test_it_says_what_it_is(name):
    module = importlib.import_module(f"search_spaces.{name}")
    assert len(module.__doc__) > 100
    assert module.SPACE.name == name
    assert callable(module.build)
    assert all(len(d.meaning) > 5 for d in module.SPACE.decisions)

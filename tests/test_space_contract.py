"""What every ready-made space must do. A new file in search_spaces/ is tested here as it is."""

import numpy as np
import pytest
import torch

import search_spaces
from raynas.costs import count, layers
from raynas.errors import UserError

NAMES = search_spaces.names()
SMALLEST = {"layered": 8}  # pixels; a space without a row here must still take 32
pytestmark = pytest.mark.parametrize("name", NAMES)


def module(name):
    return search_spaces.find(name)


def designs(name, n=6):
    space = module(name).SPACE
    return [space.sample(np.random.default_rng(seed)) for seed in range(n)]


@pytest.mark.parametrize("channels", [1, 3])
def test_every_design_builds_and_learns_at_its_smallest_input(name, channels):
    side = SMALLEST.get(name, 32)
    for design in designs(name):
        model = module(name).build(design, (channels, side, side + 3), 7)
        logits = model(torch.randn(2, channels, side, side + 3))
        assert logits.shape == (2, 7)
        logits.sum().backward()
        assert all(p.grad is not None for p in model.parameters())


def test_a_usual_input(name):
    for design in designs(name, 2):
        assert (
            module(name).build(design, (3, 32, 32), 10)(torch.randn(2, 3, 32, 32)).isfinite().all()
        )


def test_same_design_and_seed_same_weights(name):
    design = designs(name, 1)[0]

    def weights():
        torch.manual_seed(3)
        return module(name).build(design, (3, 32, 32), 10).state_dict()

    first, again = weights(), weights()
    assert all(torch.equal(first[k], again[k]) for k in first)


def test_costs_are_those_of_the_network(name):
    for design in designs(name):

        def build(design=design):
            return module(name).build(design, (3, 32, 32), 10)

        costs = count(build, (3, 32, 32))
        assert costs["params"] == sum(p.numel() for p in build().parameters())
        parts = layers(build, (3, 32, 32))
        assert sum(part["params"] for part in parts) == costs["params"]
        assert sum(part["flops"] for part in parts) == costs["flops"] > 0


def test_every_decision_matters_to_the_network(name):
    """Each option gives another network, or the space says that it is the same."""
    space, build = module(name).SPACE, module(name).build
    design = designs(name, 1)[0]
    torch.manual_seed(0)
    reference = str(build(design, (3, 32, 32), 10))
    for other in list(space.neighbours(design))[:60]:
        same = str(build(other, (3, 32, 32), 10)) == reference
        assert not same or space.identity(other) == space.identity(design)


def test_too_small_an_input_is_refused(name):
    side = SMALLEST.get(name, 32)
    with pytest.raises(UserError, match=f"at least {side}x{side}"):
        module(name).build(designs(name, 1)[0], (1, side - 1, side), 10)


def test_it_says_what_it_is(name):
    assert len(module(name).__doc__) > 100
    assert module(name).SPACE.name == name
    assert all(len(d.meaning) > 5 for d in module(name).SPACE.decisions)

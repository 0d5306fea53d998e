"""ENAS: shared weights and a controller, trained in turn."""

from collections import OrderedDict
from copy import deepcopy
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

import search_spaces
from raynas.architecture import Decision
from raynas.data import load
from raynas.errors import UserError
from raynas.recipe import Recipe
from raynas.space import Space
from raynas.strategies.enas import Enas
from raynas.supernet import Supernet
from raynas.supernet.training import Trainer
from raynas.training import DeviceData, DeviceSplit

SHAPE = (1, 8, 8)
CELL = "nasbench201:channels=4,cells=1"
LAYERS = "network:stages=3,depth=2,width=32"
QUICK = Recipe(epochs=3, batch_size=100, learning_rate=0.003)


class Eye(nn.Module):
    """Sees so many columns of an image."""

    def __init__(self, columns):
        super().__init__()
        self.columns = columns

    def forward(self, images):
        seen = torch.zeros_like(images)
        seen[..., : self.columns] = images[..., : self.columns]
        return seen


def look(architecture, input_shape, num_classes):
    classifier = nn.Linear(int(np.prod(input_shape)), num_classes)
    eye = Eye(architecture["columns"])
    layers = OrderedDict(eye=eye, flatten=nn.Flatten(), classifier=classifier)
    return nn.Sequential(layers)


LOOK = Space(
    "look",
    (
        Decision("columns", (0, 1, 8), "how much is seen", ordered=True),
        Decision("colour", ("red", "green", "blue"), "nothing"),
    ),
    build=look,
)


@pytest.fixture(scope="module")
def digits():
    return DeviceData.of(load("digits"), torch.device("cpu"))


@pytest.fixture(scope="module")
def few(digits):
    """So few that the larger spaces' tests end."""
    train = DeviceSplit(digits.train.images[:200], digits.train.labels[:200])
    return replace(digits, train=train)


@cache
def untrained(space):
    return Supernet(LOOK if space == "look" else search_spaces.find(space), SHAPE, 10)


def started(space, digits, method, recipe=QUICK):
    trainer = Trainer(deepcopy(untrained(space)), digits, recipe, 0)
    method.start(trainer)
    return trainer


def finished(trainer, method):
    return [trainer.run(method) for _ in range(trainer.epoch, trainer.epochs)]


def copied(tensors):
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def changed(before, after):
    return {name for name, tensor in after.items() if not torch.equal(before[name], tensor)}


def prefer(controller, decision, option, by):
    i = [d.name for d in controller.space.decisions].index(decision)
    with torch.no_grad():
        controller.bias[i, controller.space.decisions[i].options.index(option)] += by


def test_the_controller_learns_which_option_pays(digits):
    method = Enas()
    trainer = started("look", digits, method, Recipe(epochs=6, batch_size=100))
    assert method.chances()["columns"] == pytest.approx({"0": 1 / 3, "1": 1 / 3, "8": 1 / 3})
    readings = finished(trainer, method)
    chances = method.chances()
    assert chances["columns"]["8"] > 0.6
    assert max(chances["colour"].values()) < 0.6  # does not matter
    assert readings[-1]["reward"] > readings[0]["reward"] + 0.2
    assert readings[-1]["entropy"] < readings[0]["entropy"] == pytest.approx(np.log(3))
    first = method.designs(trainer, 3)[0]
    assert first.architecture["columns"] == 8


def test_rewards_are_of_the_validation_split(digits):
    wrong = replace(digits.validation, labels=(digits.validation.labels + 1) % 10)
    method, recipe = Enas(updates=1), Recipe(epochs=4, batch_size=50, learning_rate=0.01)
    trainer = started("look", replace(digits, validation=wrong), method, recipe)
    prefer(method.controller, "columns", 8, by=9)
    *_, last = finished(trainer, method)
    assert last["train_loss"] < 1.9  # of a blind one it is 2.3
    assert last["reward"] < 0.1


def test_weights_and_controller_are_trained_in_turn(few):
    method = Enas(warmup=0.5, updates=2)
    trainer = started(CELL, few, method, replace(QUICK, epochs=2))
    weights, policy = copied(trainer.supernet.shared), copied(method.controller.state_dict())
    trainer.run(method)
    assert len(changed(weights, trainer.supernet.shared)) > 20
    assert not changed(policy, method.controller.state_dict())
    weights, trainer._peak = copied(trainer.supernet.shared), 0.0  # now no step moves a weight
    trainer.run(method)
    assert not changed(weights, trainer.supernet.shared)
    assert {"output", "bias"} <= changed(policy, method.controller.state_dict())
    assert all(parameter.grad is None for parameter in trainer.supernet.parameters())
    assert trainer.supernet.training
    assert method.steps == 2


def test_weights_are_trained_on_the_controllers_paths(few):
    method = Enas()
    trainer = started(CELL, few, method)
    for d in trainer.supernet.space.decisions:
        prefer(method.controller, d.name, "nor_conv_3x3", by=50)
    weights = copied(trainer.supernet.shared)
    trainer.run(method)
    moved = changed(weights, trainer.supernet.shared)
    assert any("nor_conv_3x3" in key for key in moved)
    assert not any("nor_conv_1x1" in key for key in moved)


@pytest.mark.parametrize("text", [CELL, LAYERS])
def test_it_repeats_itself_and_goes_on_where_it_was(few, text):
    runs = []
    for cut in ((), (2, 3)):
        method, readings = Enas(updates=2, batch=3), []
        trainer = started(text, few, method)
        for epoch in range(4):
            if epoch in cut:
                kept, method = trainer.dump(method), Enas(updates=2, batch=3)
                trainer = started(text, few, method)
                trainer.restore(method, kept)
            readings += [trainer.run(method)] if epoch < 3 else []
        runs.append((readings, method.chances(), method.designs(trainer, 5), method.tensors()))
    (*whole, tensors), (*parts, others) = runs
    assert whole == parts
    assert not changed(tensors, others)
    assert {"train_loss", "reward", "entropy"} < set(whole[0][-1])


def test_it_leaves_global_generators_alone(few):
    method = Enas(updates=2)
    trainer = started(CELL, few, method)
    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    trainer.run(method)
    method.designs(trainer, 3)
    assert torch.equal(torch_state, torch.random.get_rng_state())
    assert (numpy_state == np.random.get_state()[1]).all()  # noqa: NPY002


@pytest.mark.parametrize("text", [CELL, LAYERS])
def test_designs_are_distinct_networks_the_most_probable_first(few, text):
    method = Enas(warmup=0.0, updates=4)
    trainer = started(text, few, method, replace(QUICK, epochs=1))
    space = trainer.supernet.space
    finished(trainer, method)
    proposals = method.designs(trainer, 12)
    assert len({space.identity(p.architecture) for p in proposals}) == len(proposals) == 12
    for proposal in proposals:
        space.check(proposal.architecture)
        assert space.plainest(proposal.architecture) == proposal.architecture
        assert proposal.reason.kind == "policy"
        assert proposal.reason.note == "drawn by the controller after 4 steps"
        assert proposal.reason.scores["entropy"] > 0
        for name, row in proposal.reason.chances.items():
            assert len(row) == len(space.by_name[name].options)
            assert sum(row) == pytest.approx(1)
    probabilities = [p.reason.scores["log_probability"] for p in proposals]
    assert probabilities == sorted(probabilities, reverse=True)
    drawn = method.controller.draw(np.random.default_rng((0, 1)), 256)
    assert probabilities[0] == pytest.approx(drawn.log_probability.max(), abs=1e-5)


def test_a_settled_controller_is_heated_for_more_designs(few):
    method = Enas()
    trainer = started(CELL, few, method)
    for i, d in enumerate(trainer.supernet.space.decisions):
        prefer(method.controller, d.name, "nor_conv_3x3", by=5 + i)
    first, *others = method.designs(trainer, 40)
    assert set(first.architecture.options.values()) == {"nor_conv_3x3"}
    assert first.reason.note == "drawn by the controller after 0 steps"
    assert len(others) == 39
    assert any(p.reason.note.endswith("at temperature 1.5") for p in others)
    probabilities = [p.reason.scores["log_probability"] for p in (first, *others)]
    assert probabilities == sorted(probabilities, reverse=True)
    assert probabilities[-1] < -8


def test_there_may_be_fewer_designs_than_wanted(few):
    method = Enas()
    assert len(method.designs(started("look", few, method), 20)) == 9


def test_chances_are_of_designs_in_which_a_decision_is_active(few):
    method = Enas()
    space = started(LAYERS, few, method).supernet.space
    d = next(d for d in space.decisions if d.when)
    parent, wanted = d.when
    options = space.by_name[parent].options
    chances = method.chances()
    for name, row in chances.items():
        assert sum(row.values()) == pytest.approx(1)
        assert row == pytest.approx(dict.fromkeys(row, 1 / len(row)))
        assert len(row) == len(space.by_name[name].options)
        assert all(isinstance(option, str) for option in row)
    prefer(method.controller, parent, next(o for o in options if o not in wanted), by=50)
    assert set(chances) - set(method.chances()) >= {d.name}


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"warmup": 1.0}, "warmup to be at least 0 and below 1; got 1.0"),
        ({"updates": 0}, "updates to be at least 1; got 0"),
        ({"batch": 0}, "batch to be at least 1; got 0"),
        ({"fading": -0.1}, "fading to be at least 0 and below 1; got -0.1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting, said):
    with pytest.raises(UserError, match=said):
        Enas(**setting)

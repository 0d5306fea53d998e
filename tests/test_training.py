from dataclasses import replace

import numpy as np
import pytest
import torch

from raynas.compressing import with_compression
from raynas.data import load
from raynas.evaluation import TrainingEvaluator
from raynas.recipe import Recipe
from raynas.session import Context
from raynas.training import DeviceData, Diverged, augmented, measure, train
from search_spaces.layered import SPACE, build

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture(scope="module")
def data(digits):
    return DeviceData.of(digits, DEVICE)


def small(depth=2, **options):
    base = {"type": "conv", "filter_size": 32, "kernel_size": 3, "activation": "relu"}
    base = {**base, "skip_connection": False, **options}
    layers = {f"layer{i}.{name}": o for i in range(depth) for name, o in base.items()}
    return SPACE.architecture({"num_layers": depth, **layers})


def evaluate(digits, seed=0, **recipe):
    evaluator = TrainingEvaluator(SPACE, digits, Recipe(**recipe))
    readings = evaluator.evaluate(small(4), Context(seed, cpus=2))
    found = []
    while True:
        try:
            found.append(next(readings))
        except StopIteration as end:
            return found, end.value


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_it_learns(digits, optimizer):
    readings, weights = evaluate(digits, epochs=8, optimizer=optimizer)
    assert readings[-1]["accuracy"] > 0.93
    assert readings[-1]["test_accuracy"] > 0.93
    assert readings[-1]["train_loss"] < readings[0]["train_loss"]
    assert "test_accuracy" not in readings[0]  # only at the end, and never for a strategy
    assert len(weights) > 10_000


def test_the_same_seed_trains_the_same_network(digits):
    state = torch.random.get_rng_state()
    first, weights = evaluate(digits, seed=4, epochs=2)
    assert torch.equal(torch.random.get_rng_state(), state)  # the global generator is left alone
    if DEVICE.type == "cpu":
        again, same = evaluate(digits, seed=4, epochs=2)
        assert (first, weights) == (again, same)
    other, _ = evaluate(digits, seed=5, epochs=2)
    assert other != first


def test_the_weights_are_those_that_were_measured(digits, data):
    from safetensors.torch import load as load_weights

    readings, weights = evaluate(digits, epochs=2)
    model = build(small(4), digits.input_shape, 10)
    model.load_state_dict(load_weights(weights))
    found = measure(model.to(DEVICE), data, data.test)
    assert found["accuracy"] == pytest.approx(readings[-1]["test_accuracy"], abs=0.006)
    assert found["loss"] == pytest.approx(readings[-1]["test_loss"], rel=0.02)


def test_a_training_that_explodes_is_noticed(data):
    model = build(small(), (1, 8, 8), 10)
    with torch.no_grad():
        model.classifier.weight.fill_(float("inf"))
    with pytest.raises(Diverged, match="the training loss is nan after epoch 1"):
        next(train(model, data, Recipe(epochs=1), seed=0))


def test_augmentation_shifts_by_an_eighth_and_mirrors_on_request():
    images = torch.arange(16.0 * 16).view(1, 1, 16, 16).repeat(300, 1, 1, 1)
    generator = torch.Generator().manual_seed(0)
    plain = augmented(images, flips=False, generator=generator)
    assert plain.shape == images.shape
    middles = set(plain[:, 0, 8, 8].tolist())  # which pixel came to the middle
    assert middles == {16.0 * (8 + dy) + 8 + dx for dy in range(-2, 3) for dx in range(-2, 3)}
    rising = (plain[:, 0, 8, 9] > plain[:, 0, 8, 8]).float().mean()
    mirrored = augmented(images, flips=True, generator=generator)
    assert rising == 1.0
    assert 0.4 < (mirrored[:, 0, 8, 9] > mirrored[:, 0, 8, 8]).float().mean() < 0.6


def test_normalized_images_have_mean_0_and_deviation_1(data):
    images = data.normalized(data.train.images)
    assert float(images.mean()) == pytest.approx(0.0, abs=1e-4)
    assert float(images.std()) == pytest.approx(1.0, abs=1e-3)


def test_the_learning_rate_warms_up_and_ends_at_nothing(data, monkeypatch):
    rates = []
    step = torch.optim.AdamW.step

    def watched(self, *arguments, **named):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments, **named)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    list(train(build(small(), (1, 8, 8), 10), data, Recipe(epochs=3, learning_rate=0.01), 0))
    peak = int(np.argmax(rates))
    assert max(rates) == pytest.approx(0.01)
    assert 0.05 < peak / len(rates) < 0.15
    assert rates[-1] < 1e-4
    assert rates[: peak + 1] == sorted(rates[: peak + 1])


def test_no_decay_on_biases_and_norms(data):
    from raynas.training import optimizer_for

    decayed, free = optimizer_for(build(small(), (1, 8, 8), 10), Recipe()).param_groups
    assert all(p.ndim > 1 for p in decayed["params"])
    assert all(p.ndim == 1 for p in free["params"])
    assert free["weight_decay"] == 0.0
    assert decayed["weight_decay"] > 0


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(digits, optimizer):
    space = with_compression(SPACE)  # with weights that are pruned on the way
    evaluator = TrainingEvaluator(space, digits, Recipe(epochs=4, optimizer=optimizer))
    evaluator.space = replace(space, build=with_dropout(space))
    design = space.sample(np.random.default_rng(1))
    files = Kept()
    whole = carried_out(evaluator, design, Kept())
    first = evaluator.evaluate(design, Context(3, files=files, checkpoint="checkpoints/1"))
    begun = [next(first), next(first), next(first)]
    first.close()  # the third epoch is done, and lost: its checkpoint is of the second
    files.files["checkpoints/1"] = files.all[1]
    torch.manual_seed(99)  # somebody else's
    assert carried_out(evaluator, design, files) == whole
    assert begun == whole[0][:3]


@pytest.mark.parametrize("what", ["torn", "other", "empty"])
def test_a_checkpoint_of_something_else_is_passed_over(digits, what):
    evaluator = TrainingEvaluator(SPACE, digits, Recipe(epochs=2))
    design, other = (SPACE.sample(np.random.default_rng(i)) for i in (1, 2))
    files, whole = Kept(), carried_out(evaluator, design, Kept())
    carried_out(evaluator, other, files)
    data = files.files["checkpoints/1"]
    files.files["checkpoints/1"] = {"torn": data[: len(data) // 2], "other": data, "empty": b""}[
        what
    ]
    assert carried_out(evaluator, design, files) == whole


class Kept:
    """Files in memory, and all that were ever kept."""

    def __init__(self):
        self.files, self.all = {}, []

    def cached(self, name):
        return self.files.get(name)

    def cache(self, name, data):
        self.files[name] = data
        self.all.append(data)


def carried_out(evaluator, design, files):
    """The readings of each epoch, and the weights."""
    steps = evaluator.evaluate(design, Context(3, files=files, checkpoint="checkpoints/1"))
    readings = []
    while True:
        try:
            readings.append(next(steps))
        except StopIteration as end:
            return readings, end.value


def with_dropout(space):
    def build(architecture, input_shape, num_classes):
        return torch.nn.Sequential(
            torch.nn.Dropout(0.1), space.build(architecture, input_shape, num_classes)
        )

    return build


@pytest.fixture(autouse=True)
def _checkpoints_after_each_epoch(monkeypatch):
    monkeypatch.setattr("raynas.evaluation.CHECKPOINT", 0.0)
    monkeypatch.setattr("raynas.evaluation.SHARE", 1e9)

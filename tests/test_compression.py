"""Coarse and pruned weights: trained, packed, and read back to the bit."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import nn

import raynas
from raynas.architecture import InvalidSpace
from raynas.blocks import Convolution, quantized, step_of
from raynas.compressing import DECISIONS, with_compression
from raynas.compression import (
    KINDS,
    Compressed,
    compress,
    deployed,
    packed,
    prune_to,
    stored_bytes,
    unpack,
)
from raynas.data import load as load_data
from raynas.errors import UserError
from raynas.evaluation import TrainingEvaluator
from raynas.phases import start
from raynas.recipe import USUAL, Recipe, with_training
from raynas.session import Context
from raynas.training import DeviceData, measure
from search_spaces import find

SHAPE = (3, 8, 8)
KEPT = [(4, 0.0), (4, 0.5), (4, 0.75), (8, 0.0), (8, 0.5), (32, 0.75), (32, 0.0)]


def network(bits, pruning, seed=0):
    """Odd numbers of weights, groups, biases and buffers, at one compression throughout."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 5, 3),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Conv2d(5, 5, 3, groups=5, bias=False),
        nn.Flatten(),
        nn.Linear(80, 3),
    )
    return compress(model, [(bits, pruning)]).eval()


def images(n=4):
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(1))


def read(model, like):
    """As written to a file and read again."""
    return unpack(like, load(save(packed(model)))).eval()


@pytest.mark.parametrize(("bits", "pruning"), KEPT)
def test_what_is_read_acts_as_what_was_written(bits, pruning):
    model = network(bits, pruning)
    prune_to(model, 1.0)
    again = read(model, network(bits, pruning, seed=5))
    assert torch.equal(again(images()), model(images()))
    assert torch.equal(deployed(again)(images()), model(images()))
    assert save(packed(again)) == save(packed(model))


@pytest.mark.parametrize(("bits", "pruning"), KEPT)
def test_the_size_is_that_of_the_file(bits, pruning):
    model = network(bits, pruning)
    prune_to(model, 1.0)
    with torch.device("meta"):
        planned = network(bits, pruning)
    assert stored_bytes(planned) == stored_bytes(model) == len(save(packed(model)))


def test_the_size_is_that_of_the_file_for_all_kinds_of_numbers():
    model = network(32, 0.0)
    for i, kind in enumerate(KINDS):
        model.register_buffer(f"größe{i}", torch.ones(3, i + 1).to(kind))
    assert stored_bytes(model) == len(save(packed(model)))


def test_packing_by_hand():
    """Largest magnitude 7 and so a step of 1; half of the weights go; two to a byte."""
    layer = nn.Linear(6, 1, bias=False)
    layer.weight.data = torch.tensor([[7.0, -0.6, -3.2, 0.1, 5.0, 0.4]])
    model = compress(nn.Sequential(layer), [(4, 0.5)])
    prune_to(model, 1.0)
    tensors = packed(model)
    assert tensors["0.weight"].tolist() == [(7 + 8) | (-3 + 8) << 4, (5 + 8) | 0 << 4]
    assert tensors["0.weight.scale"].tolist() == [1.0]
    assert tensors["0.weight.kept"].tolist() == [0b10101000]
    assert layer.weight.tolist() == [[7.0, 0.0, -3.0, 0.0, 5.0, 0.0]]


def test_coarse_and_pruned_weights_need_little():
    sizes = [sum(t.nbytes for t in packed(wide(*kept)).values()) for kept in KEPT]
    whole = 256 * 64 * 4
    wanted = [1 / 8, 3 / 32, 2 / 32, 1 / 4, 5 / 32, 9 / 32, 1]
    assert np.allclose(np.array(sizes) / whole, wanted, atol=0.01)


def wide(bits, pruning):
    model = compress(nn.Sequential(nn.Linear(64, 256, bias=False)), [(bits, pruning)])
    prune_to(model, 1.0)
    return model


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("seed", range(5))
def test_rounding_twice_is_rounding_once(bits, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(40, 7, generator=generator) * 10.0 ** torch.arange(-38, 2).reshape(-1, 1)
    once = quantized(weight, bits)
    assert torch.equal(quantized(once, bits), once)
    numbers = once / step_of(once, bits)
    assert torch.equal(numbers, numbers.round())


def test_pruning_is_gradual_and_takes_the_smallest():
    layer = nn.Linear(100, 4, bias=False)
    weight = layer.weight.detach().clone().flatten().abs()
    model = compress(nn.Sequential(layer), [(32, 0.75)])
    for progress, gone in ((0.0, 0), (0.5, 0.875 * 300), (1.0, 300), (2.0, 300)):
        prune_to(model, progress)
        zeros = layer.weight.flatten() == 0
        assert int(zeros.sum()) == round(gone)
        assert set(weight.argsort()[: round(gone)].tolist()) == set(zeros.nonzero()[:, 0].tolist())


def test_what_is_pruned_stays_so():
    layer = nn.Linear(10, 4, bias=False)
    model = compress(nn.Sequential(layer), [(32, 0.5)])
    prune_to(model, 1.0)
    gone = layer.weight == 0
    layer.parametrizations.weight.original.data[gone] = 9.0  # moved by an optimizer's momentum
    prune_to(model, 1.0)
    assert torch.equal(layer.weight == 0, gone)


def test_the_gradient_passes_rounding_but_not_pruning():
    layer = nn.Linear(10, 4, bias=False)
    model = compress(nn.Sequential(layer), [(4, 0.5)])
    prune_to(model, 1.0)
    model(torch.ones(1, 10)).sum().backward()
    pruned = layer.parametrizations.weight[0].kept.logical_not()
    assert torch.equal(layer.parametrizations.weight.original.grad, (~pruned).float())


def test_thirds_are_counted_in_layers():
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(7)))
    compress(model, [(4, 0.0), (8, 0.5), (32, 0.0)])
    bits = [m.parametrizations.weight[0].bits for m in model if hasattr(m, "parametrizations")]
    assert bits == [4, 4, 4, 8, 8]
    assert not hasattr(model[5], "parametrizations")


def test_what_others_parametrized_is_left_alone():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    model = compress(nn.Sequential(layer, nn.Linear(4, 4)), [(4, 0.5)])
    assert isinstance(model[1].parametrizations.weight[0], Compressed)
    prune_to(model, 1.0)
    x = torch.randn(2, 4)
    twin = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    again = read(model, compress(nn.Sequential(twin, nn.Linear(4, 4)), [(4, 0.5)]))
    assert torch.equal(again(x), model(x))


def test_deployed_is_ordinary_and_a_copy():
    model = network(4, 0.5)
    prune_to(model, 1.0)
    plain, other = deployed(model), deployed(model)
    assert torch.equal(plain(images()), model(images()))
    assert torch.equal(other(images()), model(images()))
    assert [type(m) for m in plain] == [
        nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Conv2d, nn.Flatten, nn.Linear,
    ]  # fmt: skip
    assert isinstance(model[0].parametrizations.weight[0], Compressed)
    assert list(plain.state_dict()) == list(network(32, 0.0).state_dict())
    assert deployed(plain) is plain


def test_elastic_bits_are_packed_as_well():
    def elastic(seed):
        torch.manual_seed(seed)
        return nn.Sequential(Convolution(3, 5, 3, bits=4), Convolution(5, 6, 1, bits=8, bias=True))

    model = elastic(0)
    again = read(model, elastic(1))
    assert torch.equal(again(images()), model(images()))
    assert torch.equal(deployed(model)(images()), model(images()))
    assert {m.bits for m in deployed(model)} == {32}
    assert {m.bits for m in model} == {4, 8}
    assert packed(model)["0.weight"].dtype == torch.uint8
    assert stored_bytes(model) == len(save(packed(model)))


@pytest.mark.parametrize("name", ["layered", "nasbench201:channels=8,cells=1", "mobile", "vit"])
def test_any_space_can_be_compressed(name):
    space = with_training(with_compression(find(name)))
    design = space.sample(np.random.default_rng(0))
    options = {**design.options, "compress.early.bits": 4, "compress.late.pruning": 0.75}
    design = space.architecture(options)
    plain = space.architecture({**options, **{d.name: USUAL[d.name] for d in DECISIONS}})
    with torch.device("meta"):
        small, large = (space.build(d, (3, 16, 16), 10).eval() for d in (design, plain))
        assert deployed(small)(torch.empty(2, 3, 16, 16)).shape == (2, 10)
    assert stored_bytes(small) < stored_bytes(large)
    assert not any(isinstance(m, Compressed) for m in large.modules())
    numbers = [sum(p.numel() for p in m.parameters()) for m in (small, large)]
    assert numbers[0] == numbers[1]
    assert space.identity(design) != space.identity(plain)
    assert space.check(space.plainest(design)) is None
    assert "floats" in " ".join(space.notes)


def test_a_start_without_compression_has_ordinary_weights():
    space = with_compression(find("mobile"))
    assert start(space, "mobilenet_v3_small").architecture["compress.late.bits"] == 32


def arrays(n=90, side=8, classes=3):
    labels = np.arange(n) % classes
    pixels = np.random.default_rng(0).integers(0, 40, (n, side, side), dtype=np.uint8)
    for i, label in enumerate(labels):
        pixels[i, :, label * 2 : label * 2 + 2] += 180
    return pixels, labels


class Small(nn.Module):
    """Three layers, so that each third is one."""

    def __init__(self, input_shape, num_classes):
        super().__init__()
        width = raynas.choice("width", [4, 8])
        self.first = nn.Conv2d(input_shape[0], width, 3)
        self.second = nn.Conv2d(width, width, 3)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.head(self.second(self.first(x).relu()).relu().mean((2, 3)))


@pytest.mark.parametrize("epochs", [1, 3])
def test_what_is_measured_is_the_network_as_it_is_kept(epochs):
    data = load_data(arrays())
    space = with_compression(raynas.searchable(Small, data.input_shape, data.num_classes))
    judge = TrainingEvaluator(space, data, Recipe(epochs=epochs))
    options = {d.name: 4 if d.leaf == "bits" else 0.75 for d in DECISIONS}
    design = space.architecture({"width": 8, **options})
    training = judge.evaluate(design, Context(0, 1, "cpu"))
    readings = []
    while True:
        try:
            readings.append(next(training))
        except StopIteration as end:
            kept = end.value
            break
    model = unpack(judge.network(design, 9, torch.device("cpu")), load(kept))
    assert stored_bytes(model) == len(kept)
    placed = DeviceData.of(data, torch.device("cpu"))
    found = measure(model, placed, placed.validation)
    assert found["accuracy"] == readings[-1]["accuracy"]
    assert found["loss"] == pytest.approx(readings[-1]["loss"], abs=1e-5)
    for layer in (model.first, model.second, model.head):
        assert (layer.weight == 0).float().mean() >= 0.74


def search(tmp_path, **settings):
    settings = {"driver": "local", "epochs": 2, "search_compression": True, **settings}
    problem = {"dataset": arrays(), "objectives": ["accuracy:max", "model_size_kb:min"]}
    return raynas.search(problem, space=Small, run=tmp_path / "run", **settings)


def test_a_search_chooses_bits_and_pruning_and_goes_on(tmp_path):
    search(tmp_path, trials=3)
    result = raynas.resume(tmp_path / "run", dataset=arrays(), space=Small, trials=6)
    assert len(result.trials) == 6
    assert "compress.late.bits" in result.info.space.by_name
    result = raynas.load(tmp_path / "run", space=Small)
    data = DeviceData.of(load_data(arrays()), torch.device("cpu"))
    for _, row in result.front().iterrows():
        model, file = result.get_model(row["number"]), f"models/{row['number']}.safetensors"
        assert measure(model, data, data.test)["accuracy"] == row["m.test_accuracy"]
        assert (result.path / file).stat().st_size == stored_bytes(model)
    assert json.loads((tmp_path / "run/run.json").read_text())["settings"]["search_compression"]
    assert "runs in floats" in (tmp_path / "run/report.html").read_text()


@pytest.mark.parametrize(
    "settings",
    [
        {"evaluation": "shared"},
        {"evaluation": "proxy"},
        {"evaluator": lambda _: {"accuracy": 1.0, "model_size_kb": 1.0}},
    ],
)
def test_only_networks_trained_alone_can_be_compressed(settings, tmp_path):
    with pytest.raises(UserError, match="expected no search_compression"):
        search(tmp_path, trials=1, **settings)


def test_spaces_with_bits_have_them_already():
    with pytest.raises(UserError, match="elastic, which decides them itself"):
        with_compression(find("elastic"))


def test_the_names_are_taken():
    with pytest.raises(InvalidSpace, match="--search-compression"):
        raynas.choice("compress.late.bits", [1, 2])

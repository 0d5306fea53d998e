"""A supernet computes what its designs' own networks compute, with weights that they share."""

import time

import numpy as np
import pytest
import torch
from safetensors.torch import save
from scipy.stats import spearmanr

import search_spaces
from raynas.architecture import Decision
from raynas.data import load
from raynas.errors import UserError
from raynas.recipe import Recipe
from raynas.space import Space
from raynas.supernet import Supernet, recalibrate, views
from raynas.supernet.paths import RULES, Paths
from raynas.supernet.training import Trainer, score
from raynas.training import DeviceData, train

SPACES = {  # small, so that the tests end
    "nasbench201:channels=4,cells=1": 20,
    "darts:channels=4,cells=3": 15,
    "nasnet_cell:channels=4,cells=3": 10,
    "network:stages=3,depth=2,width=32": 15,
    "mobile": 4,
    "elastic": 3,
    "layered": 8,
}
IMAGES = (2, 8, 9)


@pytest.fixture(scope="module", params=SPACES)
def case(request):
    space = search_spaces.find(request.param)
    supernet = Supernet(space, IMAGES, 3, seed=1)
    rng = np.random.default_rng(7)
    designs = [supernet.largest, supernet.smallest]
    designs += [space.sample(rng) for _ in range(SPACES[request.param])]
    return supernet, designs


def test_a_path_computes_what_the_network_alone_does(case):
    """Forwards and backwards: the gradients are those of the copied weights, and zero elsewhere."""
    supernet, designs = case
    images = torch.randn(4, *IMAGES)
    for design in designs:
        alone = supernet.network(design).train()
        expected, logits = alone(images), supernet(images, design)
        torch.testing.assert_close(logits, expected)
        for output in (expected, logits):
            (output.square().sum() + output.sum()).backward()
        used, total = 0.0, 0.0
        for slot, part in supernet.parts(design, gradients=True):
            torch.testing.assert_close(part, alone.get_parameter(slot.path).grad)
            used += float(part.abs().sum(dtype=torch.float64))
        for parameter in supernet.parameters():
            if parameter.grad is not None:
                total += float(parameter.grad.abs().sum(dtype=torch.float64))
        assert total == pytest.approx(used)
        supernet.zero_grad(set_to_none=True)


def test_it_has_the_weights_of_all_designs(case):
    supernet, _ = case
    rng = np.random.default_rng(99)
    for _ in range(60):
        list(supernet.parts(supernet.space.sample(rng)))


def test_weights_load_into_the_network_that_the_space_builds(case):
    supernet, designs = case
    space, images = supernet.space, torch.randn(5, *IMAGES)
    for design in designs[:4]:
        alone = space.build(space.plainest(design), IMAGES, 3)
        alone.load_state_dict(supernet.weights(design))
        torch.testing.assert_close(alone(images), supernet(images, design))


@pytest.fixture(scope="module")
def cells():
    return Supernet(search_spaces.find("nasbench201:channels=4,cells=1"), IMAGES, 3)


def test_statistics_are_those_of_the_path_and_leave_the_shared_weights_alone(cells):
    design = cells.space.sample(np.random.default_rng(0))
    before = {key: value.clone() for key, value in cells.state_dict().items()}
    batches = [torch.randn(16, *IMAGES) for _ in range(3)]
    network = cells.network(design, batches)
    stem = network.get_submodule("stem")
    means = torch.stack([stem[0](images).mean((0, 2, 3)) for images in batches])
    torch.testing.assert_close(stem[1].running_mean, means.mean(0))
    assert stem[1].momentum == 0.1
    recalibrate(network, batches[:1])
    torch.testing.assert_close(stem[1].running_mean, means[0])
    assert all(torch.equal(before[key], value) for key, value in cells.state_dict().items())


def test_the_same_seed_gives_the_same_weights_and_leaves_the_generator(cells):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    again = Supernet(cells.space, IMAGES, 3)
    assert torch.equal(torch.rand(1), expected)
    assert all(
        torch.equal(a, b) for a, b in zip(again.parameters(), cells.parameters(), strict=True)
    )


def test_it_is_kept_and_read_back(cells):
    again = Supernet(cells.space, IMAGES, 3, seed=9)
    extra, notes = again.restore(cells.dump({"more": torch.ones(2)}, {"epoch": 3}))
    assert (extra["more"].tolist(), notes) == ([1.0, 1.0], {"epoch": 3})
    design = cells.space.sample(np.random.default_rng(3))
    images = torch.randn(4, *IMAGES)
    assert torch.equal(again(images, design), cells(images, design))


@pytest.mark.parametrize(
    ("space", "shape", "classes", "said"),
    [
        ("nasbench201:channels=4,cells=1", (1, 8, 8), 3, r"input_shape \[1, 8, 8\].*\[2, 8, 9\]"),
        ("nasbench201:channels=4,cells=1", IMAGES, 5, "num_classes 5; got 3"),
        ("nasbench201:channels=4,cells=2", IMAGES, 3, "shapes"),
        ("layered", IMAGES, 3, "space layered; got nasbench201"),
    ],
)
def test_other_weights_are_refused(cells, space, shape, classes, said):
    other = Supernet(search_spaces.find(space), shape, classes)
    with pytest.raises(UserError, match=said):
        other.restore(cells.dump({}, {}))


@pytest.mark.parametrize("data", [b"", b"no weights", save({"a": torch.ones(1)})])
def test_what_is_no_weights_is_refused(cells, data):
    with pytest.raises(UserError, match="expected shared weights of a search"):
        cells.restore(data)


def test_reads_parts_of_a_concatenation_by_their_numbers():
    """What reads node 3 alone uses other weights than what reads node 2 alone."""
    space = search_spaces.find("darts:channels=4,cells=2")
    supernet = Supernet(space, IMAGES, 3)
    plain = {d.name: d.options[0] for d in space.decisions}
    used = []
    for node in (2, 3):
        chosen = {f"{k}.node{node}.op1": "skip_connect" for k in ("normal", "reduction")}
        design = space.architecture({**plain, **chosen})
        parts = {slot.path: part for slot, part in supernet.parts(design)}
        used.append(parts["classifier.weight"])
    assert used[0].shape == used[1].shape
    assert not torch.equal(*used)


def own(scale):
    """A space of eight by eight linear layers, each with a parameter that only it has."""

    def build(architecture, input_shape, num_classes):
        width = int(architecture["first"]) * 10 + int(architecture["second"])
        return torch.nn.Sequential(torch.nn.Flatten(), scale(width, num_classes))

    options = tuple(range(1, 9))
    decisions = [Decision(f"{n}.{n}", options, "a number") for n in ("first", "second")]
    names = {"first": "first.first", "second": "second.second"}
    return Space(
        "own",
        tuple(decisions),
        build=lambda a, i, n: build({k: a[v] for k, v in names.items()}, i, n),
    )


class Scaled(torch.nn.Module):
    def __init__(self, width, num_classes):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(width))
        self.out = torch.nn.Linear(144, num_classes)

    def forward(self, x):
        return self.out(x) * self.scale.sum()


class Kept(Scaled):
    def __init__(self, width, num_classes):
        super().__init__(width, num_classes)
        self.register_buffer("kept", torch.ones(2))


class Tied(Scaled):
    def __init__(self, width, num_classes):
        super().__init__(width, num_classes)
        self.again = torch.nn.Linear(144, num_classes)
        self.again.weight = self.out.weight


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (Scaled, "got new ones in every new design, such as 1/scale.*forbid"),
        (Kept, "expected layers without buffers.*Kept at 1"),
        (Tied, "1.again.weight at several"),
    ],
)
def test_networks_that_cannot_share_are_refused(layer, said):
    with pytest.raises(UserError, match=said):
        Supernet(own(layer), IMAGES, 3)


@pytest.fixture(scope="module")
def digits():
    return DeviceData.of(load("digits"), torch.device("cpu"))


def test_fair_paths_take_every_option_once(cells):
    paths = RULES["fair"](cells, np.random.default_rng(0), 0.0)
    for d in cells.space.decisions:
        assert {path[d.name] for path in paths} == set(d.options)
    assert len(paths) == 5


@pytest.fixture(scope="module")
def elastic():
    space = search_spaces.find("network:stages=3,depth=2,width=32")
    types = {f"stage{s}.type": ("bottleneck", "mbconv", "transformer") for s in range(3)}
    return Supernet(space.narrow(forbidden=types), (1, 8, 8), 10)


def test_progressive_training_opens_kernels_then_depths_then_the_rest(elastic):
    varied = []
    for done in (0.0, 0.25, 0.5, 0.75):
        rng = np.random.default_rng(0)
        paths = [RULES["progressive"](elastic, rng, done)[0] for _ in range(30)]
        names = {d.leaf for d in elastic.space.decisions if len({p[d.name] for p in paths}) > 1}
        varied.append(names)
    assert varied[0] == set()
    assert varied[1] == {"kernel"}
    assert varied[3] > varied[2] >= varied[1]
    assert {"depth", "kernel", "width"} <= varied[3]


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_trains_repeats_itself_and_goes_on_where_it_was(elastic, digits, rule):
    recipe = Recipe(epochs=3, batch_size=600, learning_rate=0.003)
    runs = []
    for cut in (None, 2):
        method, read = Paths(rule), []
        trainer = Trainer(Supernet(elastic.space, (1, 8, 8), 10), digits, recipe, 0)
        method.start(trainer)
        while trainer.epoch < trainer.epochs:
            if trainer.epoch == cut:
                kept = trainer.dump(method)
                trainer = Trainer(Supernet(elastic.space, (1, 8, 8), 10, 9), digits, recipe, 0)
                trainer.restore(method, kept)
            read.append(trainer.run(method))
        runs.append(read)
    assert runs[0] == runs[1]
    assert runs[0][-1]["train_loss"] < runs[0][0]["train_loss"]
    assert runs[0][-1]["batch_size"] == 600


def test_paths_may_be_trained_by_sgd(digits):
    space = search_spaces.find("nasbench201:channels=4,cells=1")
    recipe = Recipe(epochs=2, batch_size=100, optimizer="sgd", learning_rate=0.05)
    trainer, method = Trainer(Supernet(space, (1, 8, 8), 10), digits, recipe, 0), Paths()
    first = trainer.run(method)["train_loss"]
    kept = trainer.dump(method)
    assert trainer.run(method)["train_loss"] < first
    again = Trainer(Supernet(space, (1, 8, 8), 10), digits, recipe, 0)
    again.restore(method, kept)
    again.run(method)
    assert again.readings == trainer.readings


def test_it_takes_no_more_threads_than_are_quick(digits, monkeypatch):
    space = search_spaces.find("nasbench201:channels=4,cells=1")
    trainer = Trainer(Supernet(space, (1, 8, 8), 10), digits, Recipe(), 0)
    used, forward = [1], Supernet.forward

    def slow(self, images, architecture):
        time.sleep({1: 0.05, 2: 0.0, 4: 0.05}[used[-1]])
        return forward(self, images, architecture)

    monkeypatch.setattr(torch, "set_num_threads", used.append)
    monkeypatch.setattr(Supernet, "forward", slow)
    trainer.take_threads(5)
    assert set(used) == {1, 2, 4}
    assert used[-1] == 2
    assert all(p.grad is None for p in trainer.supernet.parameters())


def test_rules_that_do_not_fit_are_refused(cells, digits):
    trainer = Trainer(cells, digits, Recipe(), 0)
    with pytest.raises(UserError, match="sandwich: expected a space with ordered decisions"):
        Paths("sandwich").start(trainer)
    with pytest.raises(UserError, match="rule: expected one of uniform, fair"):
        Paths("random")


class Hungry(Paths):
    """Needs more memory than there is for more than `fits` images."""

    fits = 20
    error = torch.OutOfMemoryError("CUDA out of memory")

    def epoch(self, trainer):
        images, _ = next(trainer.batches())
        if len(images) > self.fits:
            raise self.error
        return {"train_loss": 1.0}


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
)
def test_a_batch_that_does_not_fit_is_halved_and_said(digits, error):
    space = search_spaces.find("nasbench201:channels=4,cells=1")
    trainer = Trainer(Supernet(space, (1, 8, 8), 10), digits, Recipe(epochs=2, batch_size=64), 0)
    method = Hungry()
    method.error = error
    assert trainer.run(method)["batch_size"] == 16
    assert trainer.notes == [
        "epoch 1: a batch of 64 images did not fit into memory; went on with 32.",
        "epoch 1: a batch of 32 images did not fit into memory; went on with 16.",
    ]
    method.fits = 0
    with pytest.raises(UserError, match=r"does not hold .* a single image"):
        trainer.run(method)
    method.fits, method.error = 0, RuntimeError("another error")
    trainer.batch_size = 64
    with pytest.raises(RuntimeError, match="another error"):
        trainer.run(method)


def test_a_view_measures_what_a_copy_does_without_one(digits):
    space = search_spaces.find("nasbench201:channels=4,cells=1")
    whole = Supernet(space, (1, 8, 8), 10)
    weights = {key: value.detach().numpy() for key, value in whole.shared.items()}
    for array in weights.values():
        array.flags.writeable = False
    shared = Supernet(space, (1, 8, 8), 10, weights=views(weights))
    design = space.sample(np.random.default_rng(0))
    images = [digits.normalized(digits.train.images[:250])]
    copy, view = whole.network(design, images), shared.view(design, images)
    torch.testing.assert_close(view.eval()(images[0]), copy.eval()(images[0]))
    stored = {value.untyped_storage().data_ptr() for value in whole.shared.values()}
    parts = [layer._parameters for layer in view.modules()]
    assert {
        p.untyped_storage().data_ptr() for d in parts for p in d.values() if p is not None
    } <= stored


@pytest.mark.slow
def test_shared_weights_rank_designs_better_than_chance(digits):
    space = search_spaces.find("nasbench201:channels=4,cells=1")
    supernet = Supernet(space, (1, 8, 8), 10)
    trainer, method = Trainer(supernet, digits, Recipe(epochs=10), 0), Paths()
    while trainer.epoch < trainer.epochs:
        trainer.run(method)
    rng = np.random.default_rng(5)
    shared, alone = [], []
    for _ in range(10):
        design = space.plainest(space.sample(rng))
        shared.append(score(supernet, design, digits)["accuracy"])
        torch.manual_seed(0)
        network = space.build(design, (1, 8, 8), 10)
        *_, last = train(network, digits, Recipe(epochs=3), 0)
        alone.append(last["accuracy"])
    assert spearmanr(shared, alone).statistic > 0.4

"""An existing network made elastic: every design runs, what belongs together stays together."""

import copy
import re

import numpy as np
import pytest
import torch
import torchvision.models as zoo
from torch import nn
from torch.nn import functional as F

import raynas
from raynas.costs import costs_of
from raynas.resizing.decisions import counts

IMAGE = (3, 16, 16)
SHAPE = (2, *IMAGE)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Networks this small are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 5, padding=2, stride=2)
        self.hidden = nn.Linear(32 * 4 * 4, 40)
        self.head = nn.Linear(40, 7)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm(self.conv1(x))), 2)
        x = self.conv2(x).relu_()
        return self.head(F.dropout(self.hidden(x.view(x.size(0), -1)), 0.1, self.training))


class Optional(Small):
    def forward(self, x, features=False, mask=None):
        x = self.hidden(self.conv2(F.max_pool2d(self.conv1(x), 2)).flatten(1))
        return x if features else self.head(x if mask is None else x * mask)


class Excited(nn.Module):
    """A residual block with squeeze-and-excitation."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 24, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(4, 24)
        self.conv2 = nn.Conv2d(24, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.squeeze = nn.Linear(channels, 8)
        self.excite = nn.Linear(8, channels)

    def forward(self, x):
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        n, c, _, _ = y.size()
        scale = F.adaptive_avg_pool2d(y, 1).view(n, c)
        scale = torch.sigmoid(self.excite(F.relu(self.squeeze(scale)))).view(n, c, 1, 1)
        y *= scale.expand_as(y)
        y += x
        return F.relu(y)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.blocks = nn.ModuleList([Excited(32) for _ in range(3)])
        self.head = nn.Linear(32, 7)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


class Gated(Residual):
    """Spatial attention as in CBAM, a shape read in forward, and a slice of positions."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Conv2d(2, 1, 7, padding=3)
        self.last = nn.Conv2d(32, 32, 3, padding=1)

    def forward(self, x):
        x = self.blocks[0](self.stem(x))
        seen = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)
        x = x * torch.sigmoid(self.gate(seen))
        y = self.last(F.relu(x))
        y.add_(x)
        return self.head(y.reshape(y.shape[0], y.shape[1], -1)[:, :, 1:].amax(-1))


class Joined(nn.Module):
    """Concatenation, depthwise with a multiplier, grouped, transposed, layer norm, flattening."""

    def __init__(self):
        super().__init__()
        self.left = nn.Conv2d(3, 16, 3, padding=1)
        self.right = nn.Conv2d(3, 8, 7, padding=3)
        self.norm = nn.BatchNorm2d(24)
        self.depthwise = nn.Conv2d(24, 48, 3, padding=1, groups=24)
        self.grouped = nn.Conv2d(48, 32, 3, padding=1, groups=4)
        self.up = nn.ConvTranspose2d(32, 24, 2, stride=2)
        self.act = nn.PReLU(24)
        self.down = nn.Conv2d(24, 16, 4, stride=4)
        self.tokens = nn.LayerNorm(16)
        self.mix = nn.Linear(16, 16)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(24 * 16, 7))

    def forward(self, x):
        x = torch.cat([self.left(x), self.right(x)], 1)
        x = F.pad(self.depthwise(F.gelu(self.norm(x))), (0, 0, 1, 1))
        x = F.interpolate(self.grouped(x), size=(8, 8))
        skipped = self.up(x)
        y = self.down(self.act(skipped)).flatten(2).transpose(1, 2)
        y = self.mix(self.tokens(y)).permute(0, 2, 1).unsqueeze(-1)
        y = torch.cat(
            [y, F.adaptive_max_pool2d(self.right(skipped[:, :, ::2, :][:, :3]), (16, 1))], 1
        )
        return self.head(y)


def designs(space, number=30):
    rng = np.random.default_rng(0)
    yield space.answer(lambda d: d.options[0])
    yield space.answer(lambda d: d.options[-1])
    yield from (space.sample(rng) for _ in range(number))


def assert_trains(space, architecture, classes=7, image=IMAGE):
    model = space.build(architecture, image, classes)
    logits = model(torch.randn(2, *image))
    assert logits.shape == (2, classes)
    logits.sum().backward()
    assert any(p.grad is not None for p in model.parameters())
    assert all(p.isfinite().all() for p in model.state_dict().values())


@pytest.mark.parametrize("network", [Small, Residual, Gated, Joined, Optional])
def test_every_design_trains(network):
    space = raynas.elastic(network(), SHAPE)
    for architecture in designs(space):
        assert_trains(space, architecture)
        assert space.parse(str(architecture)) == architecture


@pytest.mark.parametrize(
    ("make", "decisions"),
    [
        (zoo.resnet18, {"conv1.width", "layer1.depth", "layer2_0_conv1.kernel_size"}),
        (zoo.mobilenet_v3_small, {"features_0_0.width", "features_1_block_1_fc1.width"}),
        (zoo.shufflenet_v2_x0_5, {"stage3_1_branch2_0.width", "stage3.depth"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_design_of_a_known_network_trains(make, decisions):
    space = raynas.elastic(make(num_classes=7), (1, 3, 32, 32))
    assert decisions <= space.by_name.keys()
    for architecture in designs(space, 3):
        assert_trains(space, architecture, image=(3, 32, 32))


@pytest.mark.parametrize("network", [Small, Residual, Joined])
def test_the_original_options_are_the_original_network(network):
    module = network().eval()
    before = copy.deepcopy(module.state_dict())
    space = raynas.elastic(module, torch.zeros(SHAPE))
    original = space.architecture(space.known["original"].options)
    model = space.build(original, IMAGE, 7)
    assert type(model) is network
    assert model.training
    model.load_state_dict(before)
    images = torch.randn(SHAPE)
    torch.testing.assert_close(model.eval()(images), module(images))
    assert not module.training
    after = module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_decisions_of_a_small_network():
    space = raynas.elastic(Small(), SHAPE)
    assert space.name == "Small"
    assert {d.name: d.options for d in space.decisions} == {
        "conv1.kernel_size": (3, 5),
        "conv1.width": (8, 12, 16),
        "conv2.kernel_size": (3, 5, 7),
        "conv2.width": (16, 24, 32),
        "hidden.width": (16, 32, 40),
    }
    assert space.by_name["conv1.width"].meaning == "output channels of conv1 (they pass norm)"
    assert space.notes == (
        "head: the output channels stay, because they are the network's output.",
    )


def test_a_residual_network_has_one_width_for_its_sums_and_a_depth():
    space = raynas.elastic(Residual(), SHAPE)
    meaning = space.by_name["stem.width"].meaning
    assert "tied to those of blocks.0.conv2, blocks.0.excite, blocks.1.conv2" in meaning
    assert space.by_name["blocks.depth"].options == (1, 2, 3)
    assert space.by_name["blocks_0_conv1.width"].when is None
    assert space.by_name["blocks_1_conv1.width"].when == ("blocks.depth", {2, 3})
    assert space.by_name["blocks_2_squeeze.width"].when == ("blocks.depth", {3})
    shallow = next(a for a in designs(space) if a["blocks.depth"] == 1)
    model = space.build(shallow, IMAGE, 7)
    assert [type(b).__name__ for b in model.blocks] == ["Excited", "Identity", "Identity"]


def test_a_sum_in_place_ties_though_its_result_is_not_used():
    space = raynas.elastic(Gated(), SHAPE)
    assert "last" in space.by_name["stem.width"].meaning
    assert "last.width" not in space.by_name


def test_grouped_convolutions_set_what_counts_divide_into():
    space = raynas.elastic(Joined(), SHAPE)
    assert all(n % 4 == 0 for n in space.by_name["grouped.width"].options)
    assert "left.width" in space.by_name


@pytest.mark.parametrize(
    ("count", "divisor", "expected"),
    [
        (64, 1, (32, 48, 64)),
        (16, 1, (8, 12, 16)),
        (6, 1, (3, 4, 6)),
        (1, 1, (1,)),
        (12, 12, (12,)),
        (36, 12, (24, 36)),
        (10, 4, (10,)),
    ],
)
def test_counts_are_round_where_possible(count, divisor, expected):
    assert counts(count, divisor, (0.5, 0.75, 1.0)) == expected


def test_same_seed_same_weights_and_statistics_as_new():
    module = Small()
    with torch.no_grad():
        module.norm.running_mean += 5
    space = raynas.elastic(module, SHAPE)
    architecture = space.sample(np.random.default_rng(1))
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(space.build(architecture, IMAGE, 7).state_dict())
    assert all(torch.equal(states[0][name], value) for name, value in states[1].items())
    assert states[0]["norm.running_mean"].count_nonzero() == 0
    assert list(states[0]) == list(module.state_dict())


def test_costs_are_counted_without_memory():
    space = raynas.elastic(Residual(), SHAPE)
    for architecture in designs(space, 3):
        params = sum(p.numel() for p in space.build(architecture, IMAGE, 7).parameters())
        assert costs_of(space, architecture, IMAGE, 7)["params"] == params


def test_hooks_are_neither_called_nor_copied():
    module, called = Small(), []
    module.conv1.register_forward_hook(lambda *_: called.append("forward"))
    space = raynas.elastic(module, SHAPE)
    space.build(space.sample(np.random.default_rng(0)), IMAGE, 7)(torch.randn(SHAPE))
    assert called == []
    assert len(module.conv1._forward_hooks) == 1
    assert any(note.startswith("conv1: the hooks are not copied") for note in space.notes)


class WrittenNumber(Small):
    def forward(self, x):
        x = F.max_pool2d(self.norm(self.conv1(x)), 2)
        return self.head(self.hidden(self.conv2(x).view(-1, 32 * 4 * 4)))


class UsedElsewhere(Small):
    def forward(self, x):
        return super().forward(x) + self.conv2.weight.mean()


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.a, self.b = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.b.weight = self.a.weight
        self.once, self.twice = nn.Linear(16, 24), nn.Linear(24, 24)
        self.head = nn.Linear(24, 7)

    def forward(self, x):
        x = self.b(self.a(self.stem(x))).mean((2, 3))
        return self.head(self.twice(self.twice(self.once(x))))


class Choosing(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class ByShape(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 1)

    def forward(self, x):
        return self.conv(x) if x.shape[1] == 16 else x


class WithChoice(Small):
    def __init__(self, choosing):
        super().__init__()
        self.choosing = choosing

    def forward(self, x):
        x = F.max_pool2d(self.choosing(self.norm(self.conv1(x))), 2)
        return self.head(self.hidden(self.conv2(x).flatten(1)))


class Scaled(Residual):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.full((32, 1, 1), 0.5))

    def forward(self, x):
        x = self.blocks[0](self.stem(x)) * self.scale
        return self.head(x.mean((2, 3)))


class Halves(Residual):
    def forward(self, x):
        a, b = self.blocks[0](self.stem(x)).chunk(2, 1)
        return self.head(torch.cat([b, a], 1).mean((2, 3)))


@pytest.mark.parametrize(
    ("network", "frozen", "reason", "elastic"),
    [
        (WrittenNumber, "conv2.width", "conv2: .* view or reshape in forward fixes", "conv1.width"),
        (UsedElsewhere, "conv2.kernel_size", "conv2: .* used elsewhere", "hidden.width"),
        (Shared, "a.kernel_size", "a, b: .* used elsewhere", "once.width"),
        (Scaled, "stem.width", "stem, .* meet a tensor of fixed size", "blocks_0_conv1.width"),
        (Halves, "stem.width", "what chunk does to channels", "blocks_0_squeeze.width"),
    ],
)
def test_what_is_not_understood_stays_and_is_said(network, frozen, reason, elastic):
    space = raynas.elastic(network(), SHAPE)
    assert frozen not in space.by_name
    assert elastic in space.by_name
    assert any(re.search(reason, note) for note in space.notes)
    for architecture in designs(space, 5):
        model = space.build(architecture, IMAGE, 7)
        assert model(torch.randn(SHAPE)).shape == (2, 7)


def test_weights_stay_shared_and_own_parameters_keep_their_values():
    space = raynas.elastic(Shared(), SHAPE)
    model = space.build(space.answer(lambda d: d.options[0]), IMAGE, 7)
    assert model.a.weight is model.b.weight
    scaled = raynas.elastic(Scaled(), SHAPE)
    model = scaled.build(scaled.answer(lambda d: d.options[0]), IMAGE, 7)
    assert model.scale.unique().tolist() == [0.5]
    assert any(note.startswith("scale: no reset_parameters") for note in scaled.notes)


def test_control_flow_is_refused_or_left_alone():
    space = raynas.elastic(WithChoice(ByShape()), SHAPE)
    assert "conv1.width" not in space.by_name
    assert "conv2.width" in space.by_name
    assert "choosing: ByShape is not understood and stays as it is." in space.notes
    with pytest.raises(raynas.UserError, match=r"do not depend on their values.*raynas\.choice"):
        raynas.elastic(WithChoice(Choosing()), SHAPE)
    with pytest.raises(raynas.UserError, match=r"same steps for all images.*raynas\.choice"):
        raynas.elastic(Choosing(), SHAPE)


def test_nothing_to_resize_is_refused():
    with pytest.raises(raynas.UserError, match=r"found none.*1: the output channels stay"):
        raynas.elastic(nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 7)), SHAPE)


def test_other_data_than_the_networks_is_refused():
    space = raynas.elastic(Small(), SHAPE)
    architecture = space.sample(np.random.default_rng(0))
    with pytest.raises(
        raynas.UserError, match=r"expected 3 input channels and 7 classes.*got 3 and 9"
    ):
        space.build(architecture, IMAGE, 9)
    with pytest.raises(raynas.UserError, match="got 1 and 7"):
        space.build(architecture, (1, 16, 16), 7)
    with pytest.raises(raynas.UserError, match=r"expected images \[3, 16, 16\].*got \[3, 32, 32\]"):
        space.build(architecture, (3, 32, 32), 7)
    with pytest.raises(raynas.UserError, match="example_input; got"):
        raynas.elastic(Small(), (16, 16))
    with pytest.raises(raynas.UserError, match=r"shares of channels above 0.*got \[0\]"):
        raynas.elastic(Small(), SHAPE, shares=[0])


def test_what_cannot_be_made_anew_is_refused():
    weighted = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3)))
    with pytest.raises(raynas.UserError, match="0: expected a plain layer; got Parametrized"):
        raynas.elastic(weighted, SHAPE)
    with torch.device("meta"):
        scaled = Scaled()
    with pytest.raises(raynas.UserError, match="scale: expected numbers"):
        raynas.elastic(scaled, SHAPE)

"""What every proxy promises, and what two of them say of networks that can be worked by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import search_spaces
from raynas.costs import costs_of
from raynas.proxies import OWN, PROXIES, Population, naswot, ranks, synflow

SHAPE = (3, 16, 16)
SMALL = {"nasbench201": "nasbench201:channels=4,cells=1", "darts": "darts:channels=4,cells=2"}
LABELS = torch.arange(4)


def images(n=4, shape=SHAPE):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))


def lightest(name):
    """The network of the cheapest of some designs, with gradients and as if it was trained."""
    space = search_spaces.find(SMALL.get(name, name))
    some = [space.sample(np.random.default_rng(seed)) for seed in range(2)]
    design = min(some, key=lambda d: costs_of(space, d, SHAPE, 7)["flops"])
    torch.manual_seed(0)
    model = space.build(design, SHAPE, 7)
    model(images(2)).sum().backward()
    return model


def state(model):
    """All that a proxy could change."""
    tensors = [*model.state_dict().values(), *(p.grad for p in model.parameters())]
    modes = [(m.training, len(m._forward_hooks)) for m in model.modules()]
    wanted = [p.requires_grad for p in model.parameters()]
    return [None if t is None else t.clone() for t in tensors], modes, wanted


QUICK = ("darts", "nasbench201", "vit")  # spaces in which all is done twice
FUNCTIONS = {name: row.score for name, row in PROXIES.items() if row.score}


@pytest.mark.parametrize("space", search_spaces.names())
def test_every_proxy_scores_and_leaves_all_as_it_was(space):
    """Warnings are errors. A new row of PROXIES is tested here without a new test."""
    model, batch = lightest(space), images()
    tensors, *before = state(model)
    for name, score in FUNCTIONS.items():
        kept, drawn = batch.clone(), torch.get_rng_state()
        found = score(model, batch, LABELS)
        assert type(found) is float, name
        assert math.isfinite(found), name
        after, *rest = state(model)
        assert rest == before, name
        for a, b in zip(after, tensors, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
        assert torch.equal(batch, kept), name
        assert torch.equal(torch.get_rng_state(), drawn), name
        if space in QUICK:
            torch.manual_seed(1)  # nothing may come from the global generator, or from the mode
            with torch.no_grad():
                assert score(model.eval(), batch, LABELS) == found, name
            model.train()


@pytest.mark.parametrize("name", PROXIES)
def test_every_proxy_says_what_it_is(name):
    row = PROXIES[name]
    assert row.good_for
    assert row.cost
    assert "arXiv:" in row.reference or name in ("params", "flops")
    said = row.score.__doc__ if row.score else Population.__module__ and ranks.__doc__
    for word in row.reference.replace(",", "").split():
        assert word in said


def test_what_ranks_is_made_of_proxies():
    """The parts of one pass are what the single functions say."""
    model, batch = lightest("nasbench201"), images()
    for row in PROXIES.values():
        assert (row.score is None) == bool(row.ranks)
        if row.ranks:
            parts = row.parts(model, batch, LABELS)
            assert parts == {n: FUNCTIONS[n](model, batch, LABELS) for n in row.ranks}


class Broken(nn.Module):
    """A network whose input and output are not connected."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.last(self.first(x) * 0)


LOOKING = [name for name in FUNCTIONS if PROXIES[name].weights != "none"]


@pytest.mark.parametrize("name", LOOKING)
@pytest.mark.parametrize("weight", [0.0, math.inf, math.nan])
def test_networks_that_are_broken_score_least(name, weight):
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    with torch.no_grad():
        model[2].weight.fill_(weight)
        model[0].weight.fill_(weight)
    assert FUNCTIONS[name](Broken(), images(4, (4,)), LABELS) == -math.inf
    if PROXIES[name].weights == OWN:
        assert FUNCTIONS[name](model, images(4, (4,)), LABELS) == -math.inf


def lines(*biases):
    """ReLUs that bend where one number passes these."""
    layer = nn.Linear(1, len(biases))
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.bias.copy_(-torch.tensor(biases))
    return layer


NUMBERS = torch.tensor([[-1.0], [0.5], [2.0]])  # bits at bends in 0 and 1: 00, 10, 11


@pytest.mark.parametrize(
    "activation",
    [nn.ReLU(True), nn.GELU(), nn.SiLU(), nn.Hardswish(True), nn.PReLU(), nn.ReLU6()],
)
def test_naswot_is_the_determinant_of_the_bits_in_common(activation):
    kernel = [[2, 1, 0], [1, 2, 1], [0, 1, 2]]
    wanted = math.log(round(np.linalg.det(kernel)))
    model = nn.Sequential(lines(0.0, 1.0), activation)
    assert naswot(model, NUMBERS, LABELS) == pytest.approx(wanted)


def test_naswot_adds_the_bits_of_all_layers():
    """Two layers of one bit each, one a function, are two bits."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = lines(0.0), lines(1.0)

        def forward(self, x):
            return functional.relu(self.first(x)) + torch.relu_(self.second(x))

    assert naswot(Two(), NUMBERS, LABELS) == pytest.approx(math.log(4))


def test_naswot_cannot_tell_alike_images_apart():
    model = nn.Sequential(lines(0.0, 1.0), nn.ReLU())
    assert naswot(model, torch.tensor([[-1.0], [2.0], [3.0]]), LABELS) == -math.inf
    assert naswot(nn.Linear(1, 2), NUMBERS, LABELS) == -math.inf


def test_synflow_of_a_linear_network_counts_each_layer_once():
    """R is |last| |first| 1; each layer's weights times their slopes add up to R."""
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -2.0], [-3.0, 0.5]]))
        model[2].weight.copy_(torch.tensor([[-4.0, 2.0]]))
    flow = 4 * (1 + 2) + 2 * (3 + 0.5)
    assert synflow(model, torch.zeros(1, 2), LABELS) == pytest.approx(math.log(2 * flow))


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.BatchNorm2d(2), (2, 1, 1)),
        (nn.GroupNorm(1, 2), (2, 1, 1)),
        (nn.LayerNorm(2), (1, 1, 2)),
        (nn.RMSNorm(2), (1, 1, 2)),
    ],
)
def test_synflow_takes_a_normalization_for_its_weights(norm, shape):
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([-2.0, 5.0]))
    for name, buffer in norm.named_buffers():
        buffer.fill_(9 if name == "num_batches_tracked" else 9.0)
    assert synflow(norm, torch.zeros(1, *shape), LABELS) == pytest.approx(math.log(7))
    assert synflow(nn.Sequential(norm, norm), torch.zeros(1, *shape), LABELS) == pytest.approx(
        math.log(2 * (4 + 25))
    )


def test_synflow_takes_attention_for_a_mean():
    """What queries and keys are makes no difference: only values carry the signal."""
    from raynas.attention import Attention

    class Self(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = Attention(2, 1, 3)

        def forward(self, x):
            return self.attention(x, x)

    model, scores = Self(), []
    for size in (1.0, 1e38):
        with torch.no_grad():
            model.attention.queries.weight.fill_(size)
            model.attention.keys_values.weight.fill_(1.0)
            model.attention.merge.weight.fill_(1.0)
        scores.append(synflow(model, torch.zeros(1, 5, 2), LABELS))
    flow = 5 * 2 * (3 * 2)  # tokens, outputs, values that each reads, inputs of each
    assert scores == pytest.approx([math.log(2 * flow)] * 2)


class Mean(nn.Module):
    """One weight times the mean of the image, as the first of two logits."""

    def __init__(self, weight):
        super().__init__()
        self.scale = nn.Linear(1, 1, bias=False)
        with torch.no_grad():
            self.scale.weight.fill_(weight)

    def forward(self, x):
        first = self.scale(x.mean((1, 2, 3))[:, None])
        return torch.cat((first, torch.zeros_like(first)), 1)


def pair(*means):
    """Images of these means, of the classes 0, 1, 0, ..."""
    made = torch.tensor(means)[:, None, None, None].expand(-1, 1, 2, 2).contiguous()
    return made, torch.arange(len(means)) % 2


def test_gradients_of_one_weight_by_hand():
    """The slope of the loss by the weight is the mean of x (p - y), p that of the first class."""
    weight, means = 0.5, torch.tensor([1.0, -2.0, 3.0, 0.5])
    chance, wanted = torch.sigmoid(weight * means), torch.tensor([1.0, 0.0, 1.0, 0.0])
    each = means * (chance - wanted)
    slope, bend = each.mean(), (means**2 * chance * (1 - chance)).mean()
    model, batch = Mean(weight), pair(*means.tolist())
    assert FUNCTIONS["grad_norm"](model, *batch) == pytest.approx(math.log(slope.abs()))
    assert FUNCTIONS["snip"](model, *batch) == pytest.approx(math.log((weight * slope).abs()))
    wanted_grasp = torch.asinh(-weight * bend * slope)
    assert FUNCTIONS["grasp"](model, *batch) == pytest.approx(float(wanted_grasp), rel=1e-4)
    cut = (weight * each / len(means)).square().sum() / (2 * len(means))
    assert FUNCTIONS["fisher"](model, *batch) == pytest.approx(math.log(cut), rel=1e-4)
    first, second = each[:2].mean(), each[2:].mean()
    size, deviation = (first.abs() + second.abs()) / 2, (first - second).abs() / 2
    assert FUNCTIONS["zico"](model, *batch) == pytest.approx(math.log(size / deviation), rel=1e-4)


def test_jacob_cov_is_highest_where_slopes_differ():
    """Uncorrelated slopes have eigenvalues of one: the best that there is, -N."""

    class Rows(nn.Module):
        def __init__(self, slopes):
            super().__init__()
            self.slopes = slopes

        def forward(self, x):
            return (x * self.slopes).sum(1, keepdim=True)

    apart = torch.tensor([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]])
    near = torch.tensor([[1.0, -1.0, 0.0, 0.0], [1.0, -1.0, 0.1, -0.1]])
    best = FUNCTIONS["jacob_cov"](Rows(apart), torch.ones(2, 4), LABELS)
    assert best == pytest.approx(-2, abs=1e-3)
    assert FUNCTIONS["jacob_cov"](Rows(near), torch.ones(2, 4), LABELS) < best


def test_zen_counts_what_a_normalization_scales_away():
    """A norm divides the answer to a change by a deviation that the score adds again."""
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    normed = nn.Sequential(plain[0], nn.BatchNorm2d(8), *plain[1:])
    scores = [FUNCTIONS["zen"](m, images(8), LABELS) for m in (plain, normed)]
    assert scores[0] == pytest.approx(scores[1], abs=0.05)


def blocks(*parts):
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def conv(c_in, c_out):
    return nn.Conv2d(c_in, c_out, 1, bias=False)


def test_features_that_fill_all_directions_are_the_most_expressive():
    """As many directions as channels have at most the entropy log(channels)."""
    wide, narrow = blocks(conv(3, 3)), blocks(conv(3, 3), conv(3, 1), conv(1, 3))
    entropy = FUNCTIONS["expressivity"](wide, images(), LABELS)
    assert 0.2 < entropy <= math.log(3)
    lost = FUNCTIONS["progressivity"](narrow, images(), LABELS)  # the others fill one direction
    assert FUNCTIONS["expressivity"](narrow, images(), LABELS) == pytest.approx(entropy, abs=0.01)
    assert lost == pytest.approx(-entropy, abs=0.01)
    assert FUNCTIONS["progressivity"](wide, images(), LABELS) == -math.inf


def test_blocks_that_do_nothing_cannot_be_trained():
    class Same(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList()

        def forward(self, x):
            return x

    idle = blocks(conv(3, 3), Same())
    assert FUNCTIONS["trainability"](idle, images(), LABELS) == -math.inf
    busy = FUNCTIONS["trainability"](blocks(conv(3, 16), conv(16, 16)), images(), LABELS)
    assert -3 < busy <= 0


def test_ranks_are_shares_of_the_population():
    """By many designs, the share that is worse, whatever the unit; what is dead is the worst."""
    drawn = np.random.default_rng(0).normal(size=500)
    of = Population({"a": drawn, "b": 1000 * drawn})
    for quantile in (0.1, 0.5, 0.9):
        at = float(np.quantile(drawn, quantile))
        assert of.score({"a": at, "b": 1000 * at}) == pytest.approx(2 * math.log(quantile), abs=0.2)
    beyond = [of.score({"a": x, "b": x}) for x in (-math.inf, -4000.0, 0.0, 4.0, 5.0, 4000.0)]
    assert beyond == sorted(beyond)
    assert len({*beyond}) == len(beyond)  # the best are not tied
    assert all(map(math.isfinite, beyond))
    dead = Population({"a": [-math.inf] * 3})
    assert dead.score({"a": -math.inf}) < dead.score({"a": 0.0})

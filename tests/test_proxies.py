"""What every proxy promises, and what two of them say of networks that can be worked by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import search_spaces
from raynas.costs import costs_of
from raynas.proxies import PROXIES, naswot, synflow

SHAPE = (3, 32, 32)
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


@pytest.mark.parametrize("space", search_spaces.names())
def test_every_proxy_scores_and_leaves_all_as_it_was(space):
    """Warnings are errors. A new row of PROXIES is tested here without a new test."""
    model, batch = lightest(space), images()
    for row in PROXIES.values():
        tensors, *before = state(model)
        kept, drawn = batch.clone(), torch.get_rng_state()
        score = row.score(model, batch, LABELS)
        assert type(score) is float
        assert math.isfinite(score)
        after, *rest = state(model)
        assert rest == before
        for a, b in zip(after, tensors, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
        assert torch.equal(batch, kept)
        assert torch.equal(torch.get_rng_state(), drawn)
        torch.manual_seed(1)  # nothing may come from the global generator, or from the mode
        with torch.no_grad():
            assert row.score(model.eval(), batch, LABELS) == score
        model.train()


@pytest.mark.parametrize("name", PROXIES)
def test_every_proxy_says_what_it_is(name):
    row = PROXIES[name]
    assert "arXiv:" in row.reference
    assert row.good_for
    assert row.reference.partition(", ")[2] in row.score.__doc__


class Broken(nn.Module):
    """A network whose input and output are not connected."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.first(x) * 0)


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("weight", [0.0, math.inf, math.nan])
def test_networks_that_are_broken_score_least(proxy, weight):
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        model[2].weight.fill_(weight)
        model[0].weight.fill_(weight)
    assert PROXIES[proxy].score(model, images(4, (4,)), LABELS) == -math.inf
    assert PROXIES[proxy].score(Broken(), images(4, (4,)), LABELS) == -math.inf


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

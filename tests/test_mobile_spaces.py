"""Mobile, elastic and compound-scaled networks: published sizes, real bits, real pruning."""

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load, save
from torch import nn

import search_spaces
from raynas.blocks import Convolution, MBConv, Resize, SqueezeExcite, quantized, rounded
from raynas.costs import costs_of, count, layers
from raynas.errors import UserError
from search_spaces import compound_scaling, elastic, mobile

SHAPE = (3, 32, 32)
PIXELS = {"efficientnet_b1": 240, "efficientnet_b2": 260, "efficientnet_b3": 300}


def known(space, name):
    return space.architecture(space.known[name].options)


def changed(space, architecture, **options):
    """The design with other options; underscores of the names are dots."""
    named = {name.replace("__", "."): option for name, option in options.items()}
    return space.architecture({**architecture.options, **named})


@pytest.mark.parametrize(
    ("space", "name"),
    [
        (mobile.SPACE, "mobilenet_v3_large"),
        (mobile.SPACE, "mobilenet_v3_small"),
        (compound_scaling.SPACE, "efficientnet_b0"),
        (compound_scaling.SPACE, "efficientnet_b1"),
        (compound_scaling.SPACE, "efficientnet_b2"),
        (compound_scaling.SPACE, "efficientnet_b3"),
    ],
)
def test_published_designs_are_torchvisions(name, space):
    """The same tensors and the same FLOPs, from 224 pixels."""
    side = PIXELS.get(name, 224)
    make = getattr(torchvision.models, name)
    design = known(space, name)
    with torch.device("meta"):
        ours = space.build(design, (3, 224, 224), 1000)
        theirs = make()

    def sizes(model):
        return sorted(tuple(p.squeeze().shape) for p in model.parameters())

    assert sizes(ours) == sizes(theirs)
    expected = count(make, (3, side, side))
    assert costs_of(space, design, (3, 224, 224), 1000) == expected


@pytest.mark.parametrize("name", ["mobile", "elastic", "compound_scaling"])
def test_published_sizes(name):
    space = search_spaces.find(name)
    for title, published in space.known.items():
        costs = costs_of(space, known(space, title), published.input_shape, 1000)
        assert costs["params"] == pytest.approx(published.params, rel=0.02), title
        if published.flops:
            assert costs["flops"] == pytest.approx(published.flops, rel=0.02), title


def test_parameters_do_not_depend_on_the_image():
    for space in (mobile.SPACE, elastic.SPACE, compound_scaling.SPACE):
        design = space.sample(np.random.default_rng(0))
        with torch.device("meta"):
            models = [
                space.build(design, (3, height, width), 10)
                for height, width in ((8, 8), (50, 33), (224, 224))
            ]
        shapes = [[(n, p.shape) for n, p in m.named_parameters()] for m in models]
        assert shapes[0] == shapes[1] == shapes[2]


def test_a_mobile_stage_left_out_hands_its_halving_on():
    for seed in range(40):
        strides = mobile.wanted_strides(mobile.SPACE.sample(np.random.default_rng(seed)))
        assert list(strides.values()).count(2) == 5
    small = mobile.wanted_strides(known(mobile.SPACE, "mobilenet_v3_small"))
    assert small["stage0"] == 2


def test_every_mobile_expansion_gives_other_channels():
    for before, stage in zip(mobile.STAGES, mobile.STAGES[1:], strict=False):
        for channels in {*before.widths, *stage.widths}:
            inside = [rounded(channels * expansion) for expansion in stage.expansions]
            assert len(set(inside)) == len(inside)


def test_blocks_know_their_decisions():
    design = known(mobile.SPACE, "mobilenet_v3_large")
    rows = {row["name"]: row["decisions"] for row in layers(mobile.SPACE, design, SHAPE, 10)}
    assert {"stage2.depth", "stage2.block1.kernel"} <= set(rows["stage2_block1"])
    assert "stage2.block0.kernel" not in rows["stage2_block1"]
    assert rows["stage6"] == ["stage6.depth"]


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_lie_on_a_grid(bits):
    weight = torch.randn(6, 3, 5, 5)
    weight[2] = 0
    on_grid = quantized(weight, bits)
    for before, after in zip(weight, on_grid, strict=True):
        step = before.abs().max() / (2 ** (bits - 1) - 1) * (1 + 2**-8)  # a bfloat16
        assert (before - after).abs().max() <= step / 2 + 1e-6
        assert after.unique().numel() <= 2**bits - 1
        assert after.abs().max() == pytest.approx(float(before.abs().max()), rel=2**-8)
    assert not on_grid[2].any()
    assert torch.equal(quantized(on_grid, bits), on_grid)


def test_rounding_reaches_the_output_and_lets_the_gradient_pass():
    torch.manual_seed(0)
    plain, coarse = Convolution(3, 4, 3), Convolution(3, 4, 3, bits=4)
    coarse.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 6, 6)
    assert not torch.equal(plain(images), coarse(images))
    same = nn.functional.conv2d(images, quantized(plain.weight, 4), padding=1)
    assert torch.equal(coarse(images), same)
    plain(images).sum().backward()
    coarse(images).sum().backward()
    assert torch.allclose(plain.weight.grad, coarse.weight.grad)
    assert quantized(plain.weight, 32) is plain.weight


def test_bits_leave_the_parameters_as_they_are():
    space = elastic.SPACE
    design = space.sample(np.random.default_rng(1))
    states = []
    for bits in (32, 4):
        torch.manual_seed(0)
        other = changed(space, design, stage2__bits=bits)
        states.append(space.build(other, SHAPE, 10).state_dict())
    whole, coarse = states
    assert all(torch.equal(whole[name], coarse[name]) for name in whole)
    assert list(whole) == list(coarse)
    assert load(save(coarse)).keys() == coarse.keys()


def test_pruning_takes_channels_out():
    space = elastic.SPACE
    design = changed(space, known(space, "ofa_note8_22ms"))
    sizes = [
        costs_of(space, changed(space, design, stage4__pruning=share), SHAPE, 10)
        for share in elastic.PRUNING
    ]
    for key in ("params", "flops"):
        whole, quarter, half = (size[key] for size in sizes)
        assert whole > quarter > half
    stage = [
        sum(row["params"] for row in layers(space, d, SHAPE, 10) if "stage5" in row["name"])
        for d in (design, changed(space, design, stage5__pruning=0.5))
    ]
    assert stage[1] < 0.6 * stage[0]


def test_pruned_and_narrower_are_one_network():
    space = elastic.SPACE
    largest = known(space, "ofa_largest").options.items()
    rest = {name: option for name, option in largest if "stage1" not in name}

    def stage(pruning, *expansions):
        options = {"stage1.depth": 2, "stage1.bits": 8, "stage1.pruning": pruning}
        for i, expansion in enumerate(expansions):
            options |= {f"stage1.block{i}.kernel": 3, f"stage1.block{i}.expansion": expansion}
        return space.architecture({**rest, **options})

    def text(design):
        with torch.device("meta"):
            return str(space.build(design, SHAPE, 10))

    plain = stage(0.0, 3, 3)
    for same in (stage(0.25, 4, 4), stage(0.5, 6, 6)):
        assert space.identity(same) == space.identity(plain) == str(plain)
        assert text(same) == text(plain)
    for other in (stage(0.25, 4, 6), stage(0.5, 4, 6), stage(0.25, 3, 4)):
        assert space.identity(other) == str(other)
        assert text(other) != text(plain)


@pytest.mark.parametrize("side", [8, 32, 224])
def test_a_lower_resolution_costs_less(side):
    space = elastic.SPACE
    full = known(space, "ofa_note8_22ms")
    whole, half = (
        costs_of(space, changed(space, full, resolution=share), (3, side, side), 10)
        for share in (1.0, 0.5)
    )
    assert half["params"] == whole["params"]
    assert half["flops"] < 0.5 * whole["flops"]


def test_growth_keeps_the_budget():
    """Blocks and feature maps are rounded upwards, so FLOPs are above it rather than below."""
    space = compound_scaling.SPACE
    base = costs_of(space, known(space, "efficientnet_b0"), (3, 224, 224), 1000)["flops"]
    for seed in range(4):
        design = space.sample(np.random.default_rng(seed))
        flops = costs_of(space, design, (3, 224, 224), 1000)["flops"]
        budget = base * compound_scaling.BUDGET ** float(design["scale"])
        assert 0.9 < flops / budget < 2, design


def test_designs_that_rounding_makes_equal_share_one_name():
    space = compound_scaling.SPACE
    networks = {compound_scaling.network(a) for a in space.enumerate()}
    identities = {space.identity(a) for a in space.enumerate()}
    assert len(networks) == len(identities) < space.size
    for name in space.known:  # the published growth is the name that is kept
        assert space.identity(known(space, name)) == str(known(space, name))
    largest = max(space.enumerate(), key=lambda a: compound_scaling.multipliers(a).resolution)
    assert compound_scaling.multipliers(largest).depth == 1.0


def test_a_narrower_base_design():
    quarter = search_spaces.find("compound_scaling:width=0.25")
    design = known(quarter, "efficientnet_b1")
    whole, part = (costs_of(s, design, SHAPE, 10) for s in (compound_scaling.SPACE, quarter))
    assert part["params"] < whole["params"] / 8
    assert quarter == compound_scaling.SPACE  # the same decisions
    with pytest.raises(UserError, match=r"width above 0; got -1\.0"):
        search_spaces.find("compound_scaling:width=-1.0")


def test_blocks_take_one_pixel():
    block = MBConv(8, 16, 7, 2, 24, "hard_swish", squeezed=8, bits=8)
    model = nn.Sequential(Resize(0.5), block, SqueezeExcite(16, 4, gate="hard_sigmoid"))
    output = model(torch.randn(2, 8, 1, 1))
    assert output.shape == (2, 16, 1, 1)
    assert output.isfinite().all()
    output.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_channels_are_rounded_as_the_papers_do():
    assert [rounded(c) for c in (1, 16, 19.2, 35.2, 60, 180)] == [8, 16, 24, 32, 64, 184]

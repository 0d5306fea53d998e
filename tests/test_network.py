"""Whole networks: ResNets as members, conditional decisions, and attention that stays small."""

import pytest
import torch
import torchvision

import search_spaces
from raynas.attention import MOST_KEYS, Attention, MapTransformer, TransformerBlock, pooled
from raynas.costs import costs_of, count
from raynas.errors import UserError
from search_spaces.network import KNOWN, SPACE, build, space


def design(types, **options):
    base = {"depth": 2, "width": 32, "kernel": 3, "stride": 2, **options}
    chosen = {"num_stages": len(types), "stem.kernel": 3, "stem.width": 16}
    for s, kind in enumerate(types):
        expansion = {} if kind == "conv" else {"expansion": 2}
        picks = {"type": kind, **base, **expansion}
        chosen |= {f"stage{s}.{name}": option for name, option in picks.items()}
    return SPACE.architecture(chosen)


@pytest.mark.parametrize("name", KNOWN)
def test_resnets_are_exact(name):
    costs = costs_of(SPACE, SPACE.architecture(KNOWN[name].options), (3, 224, 224), 1000)
    assert costs == count(getattr(torchvision.models, name), (3, 224, 224))
    assert costs["params"] == KNOWN[name].params
    assert costs["flops"] == pytest.approx(KNOWN[name].flops, rel=0.001)


def test_a_convolution_stage_expands_nothing():
    mixed = design(["conv", "mbconv", "transformer", "bottleneck"])
    assert "stage0.expansion" not in mixed
    assert "stage3.expansion" in mixed
    assert "stage4.type" not in mixed


def test_parameters_do_not_depend_on_the_image():
    mixed = design(["conv", "mbconv", "transformer", "bottleneck", "conv", "transformer"])
    with torch.device("meta"):
        small, large = (build(mixed, (3, side, side), 10) for side in (8, 224))
        assert [p.shape for p in small.parameters()] == [p.shape for p in large.parameters()]
        assert small[:-2](torch.empty(1, 3, 8, 8)).shape[2:] == (4, 4)
    assert str(small) != str(large)


def test_one_image_of_one_channel_is_classified():
    model = build(design(["transformer", "mbconv", "bottleneck"]), (1, 8, 20), 3).eval()
    assert model(torch.randn(1, 1, 8, 20)).shape == (1, 3)


def test_attention_on_large_maps_looks_at_few_averages():
    wide = design(["transformer"] * 3, stride=1, width=512, depth=10)
    costs = costs_of(SPACE, wide, (3, 224, 224), 10)  # maps of 56x56 throughout
    blocks, positions, keys = 30, 56 * 56, MOST_KEYS**2
    scores = blocks * 2 * 2 * positions * keys * 512
    projections = blocks * 2 * positions * 512 * 512 * (2 + 2 * 2)
    assert scores + projections < costs["flops"]
    assert blocks * 2 * 2 * positions * positions * 512 > 5 * scores  # what it would be without


def test_pooling_keeps_small_maps():
    tokens = torch.randn(2, 14 * 9, 4)
    assert pooled(tokens, (14, 9)) is tokens
    assert pooled(torch.randn(2, 15 * 56, 4), (15, 56)).shape == (2, 8 * 14, 4)
    assert torch.allclose(pooled(torch.ones(1, 15 * 29, 4), (15, 29)), torch.ones(1))


def test_attention_is_that_of_torch():
    ours, theirs = Attention(12, 3, 4), torch.nn.MultiheadAttention(12, 3, batch_first=True)
    both = [ours.queries, ours.keys_values]
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([layer.weight for layer in both]))
        theirs.in_proj_bias.copy_(torch.cat([layer.bias for layer in both]))
        theirs.out_proj.load_state_dict(ours.merge.state_dict())
    tokens = torch.randn(2, 5, 12)
    assert torch.allclose(ours(tokens, tokens), theirs(tokens, tokens, tokens)[0], atol=1e-6)


def test_blocks_keep_shapes():
    assert TransformerBlock(8, 3, 5, 20)(torch.randn(2, 7, 8)).shape == (2, 7, 8)
    assert MapTransformer(8, 2, 4, 16, 5)(torch.randn(2, 8, 15, 3)).shape == (2, 8, 15, 3)


def test_a_part_of_the_space():
    part = search_spaces.find("network:stages=3,depth=2,width=64")
    assert part.by_name["stage0.width"].options == (16, 32, 64)
    assert part.by_name["stage2.depth"].options == (1, 2)
    assert part.known == {}
    assert "resnet34" not in space(depth=4).known
    assert "resnet18" in space(depth=2).known
    with pytest.raises(UserError, match=r"expected stages of 3 or more.*got 2, 10 and 512"):
        space(stages=2)

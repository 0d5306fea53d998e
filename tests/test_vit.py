"""Vision transformers against published sizes, and images that patches do not divide."""

import pytest
import torch

import search_spaces
from raynas.costs import costs_of, count
from raynas.errors import UserError
from search_spaces.vit import KNOWN, SPACE, build, space


def design(patch_size=4, convolutions=False, embedding=64, depth=2, heads=2, mlp_ratio=2.0):
    blocks = {f"block{i}.heads": heads for i in range(depth)}
    ratios = {f"block{i}.mlp_ratio": mlp_ratio for i in range(depth)}
    stem = {"stem.patch_size": patch_size, "stem.convolutions": convolutions}
    return SPACE.architecture({**stem, "embedding": embedding, "depth": depth, **blocks, **ratios})


@pytest.mark.parametrize("name", KNOWN)
def test_sizes_are_as_published(name):
    known = KNOWN[name]
    costs = costs_of(SPACE, SPACE.architecture(known.options), (3, 224, 224), 1000)
    exact = name.startswith("deit")
    assert costs["params"] == pytest.approx(known.params, rel=0 if exact else 0.01)
    assert costs["flops"] == pytest.approx(known.flops, rel=0.05)


def test_parameters_by_hand():
    costs = count(lambda: build(design(), (3, 16, 20), 10), (3, 16, 20))
    stem, tokens = 3 * 4 * 4 * 64 + 64, (1 + 1 + 4 * 5) * 64
    attention = 4 * 64 * 128 + 3 * 128 + 64  # two heads of 64 from an embedding of 64
    mlp = 2 * 64 * 128 + 128 + 64
    blocks = 2 * (attention + mlp + 2 * 2 * 64)
    assert costs["params"] == stem + tokens + blocks + 2 * 64 + 64 * 10 + 10


@pytest.mark.parametrize("convolutions", [False, True])
@pytest.mark.parametrize("patch_size", [4, 8, 16])
def test_images_are_padded_to_whole_patches(patch_size, convolutions):
    model = build(design(patch_size, convolutions), (1, 17, 30), 3).eval()
    rows, columns = -(-17 // patch_size), -(-30 // patch_size)
    images = torch.randn(2, 1, 17, 30)
    assert model[0](images).shape == (2, 64, rows, columns)
    assert model[:2](images).shape == (2, 1 + rows * columns, 64)
    assert model(images).shape == (2, 3)


def test_convolutions_double_their_channels_up_to_the_embedding():
    model = build(design(16, convolutions=True, embedding=192), (3, 32, 32), 10)
    widths = [m.out_channels for m in model[0].modules() if isinstance(m, torch.nn.Conv2d)]
    assert widths == [24, 48, 96, 192, 192]


def test_a_part_of_the_space_takes_smaller_images():
    part = search_spaces.find("vit:patch_size=8,depth=4,embedding=128")
    assert part.by_name["depth"].options == (2, 4)
    assert part.build(design(8), (1, 8, 8), 10)(torch.randn(1, 1, 8, 8)).shape == (1, 10)
    with pytest.raises(UserError, match="at least 8x8; got 7x8"):
        part.build(design(8), (1, 7, 8), 10)
    with pytest.raises(UserError, match=r"a patch size of 4 or more.*got 2, 384 and 14"):
        space(patch_size=2)

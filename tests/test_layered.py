"""The layered space by hand."""

import pytest

from raynas.costs import count
from search_spaces.layered import SPACE, build, strides


def design(depth, **options):
    base = {"type": "conv", "filter_size": 16, "kernel_size": 3, "activation": "relu"}
    base = {**base, "skip_connection": False, **options}
    layers = {f"layer{i}.{name}": o for i in range(depth) for name, o in base.items()}
    return SPACE.architecture({"num_layers": depth, **layers})


@pytest.mark.parametrize(
    ("depth", "side", "expected"),
    [
        (2, 8, [1, 2]),
        (4, 8, [1, 1, 2, 1]),
        (4, 32, [2, 1, 2, 2]),
        (2, 64, [4, 4]),
        (8, 32, [1, 2, 1, 1, 2, 1, 2, 1]),
        (2, 7, [1, 1]),
    ],
)
def test_halvings_are_spread_over_the_depth(depth, side, expected):
    assert strides(depth, side) == expected


def test_parameters_by_hand():
    costs = count(lambda: build(design(2), (1, 8, 8), 10), (1, 8, 8))
    first, second = 16 * 9 + 32, 16 * 16 * 9 + 32  # weights and two per channel of batch norm
    assert costs["params"] == first + second + 16 * 10 + 10
    # two per multiply-add: 64 pixels in the first layer, 16 in the second, then the classifier
    assert costs["flops"] == 2 * (64 * 16 * 9 + 16 * 16 * 16 * 9 + 16 * 10)


def test_what_options_cost():
    def params(**options):
        return count(lambda: build(design(4, **options), (3, 32, 32), 10), (3, 32, 32))["params"]

    assert params(type="separable_conv") < params() / 2
    assert params(type="dilated_conv") == params()
    assert params(skip_connection=True) - params() == 3 * 16 + 32 + 2 * (16 * 16 + 32)

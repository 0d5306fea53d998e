"""RegNet against the paper's line and torchvision's networks."""

import pytest
import torch
import torchvision

from raynas.costs import costs_of, count
from search_spaces.regnet import KNOWN, SPACE, build, canonical, stages, widths

TORCHVISION = sorted(name for name in KNOWN if hasattr(torchvision.models, name))


def test_the_line_by_hand():
    # 10, 30, 50, 70 are 2^0, 2^1.58, 2^2.32, 2^2.81 times 10; 10, 40 and 80 in eights are:
    assert widths(10, 20.0, 2.0, 4) == [8, 40, 40, 80]
    # RegNetX-200MF of the paper
    assert widths(24, 36.44, 2.49, 13) == [24, 56, *[152] * 4, *[368] * 7]


def test_group_widths_are_made_to_fit():
    options = {**KNOWN["regnet_x_400mf"].options, "group_width": 32, "bottleneck": 4}
    found = stages(SPACE.architecture(options))
    assert all(s.inside % s.group == 0 and s.width == 4 * s.inside for s in found)
    assert found[0].group == found[0].inside == 24 // 4  # a group cannot exceed the bottleneck
    assert [s.depth for s in found] == [1, 2, 7, 12]


@pytest.mark.parametrize("name", TORCHVISION)
def test_parameters_and_flops_are_those_of_torchvision(name):
    known = KNOWN[name]
    costs = costs_of(SPACE, SPACE.architecture(known.options), (3, 224, 224), 1000)
    theirs = getattr(torchvision.models, name)().to("meta")
    assert costs == count(lambda: theirs, (3, 224, 224))
    assert costs["params"] == known.params
    assert costs["flops"] == pytest.approx(known.flops, rel=0.005)


def test_the_smallest_is_as_published():
    design = SPACE.architecture(KNOWN["regnet_x_200mf"].options)
    costs = costs_of(SPACE, design, (3, 224, 224), 1000)
    assert costs["params"] == pytest.approx(2.7e6, rel=0.01)
    assert costs["flops"] == pytest.approx(0.4e9, rel=0.01)


def test_lines_that_round_to_the_same_stages_are_one_network():
    options = {**KNOWN["regnet_x_200mf"].options, "depth": 4, "initial_width": 56}
    first = SPACE.architecture({**options, "slope": 35.73})
    other = SPACE.architecture({**options, "slope": 36.44})
    assert stages(first) == stages(other)
    assert canonical(first) == canonical(other)
    assert canonical(first) != canonical(SPACE.architecture({**options, "group_width": 4}))


def test_halvings_do_not_change_parameters():
    design = SPACE.architecture(KNOWN["regnet_x_200mf"].options)
    with torch.device("meta"):
        small, large = (build(design, (3, side, side), 10) for side in (8, 224))
        assert [p.shape for p in small.parameters()] == [p.shape for p in large.parameters()]
        assert small[:-2](torch.empty(1, 3, 8, 8)).shape[2:] == (4, 4)
        assert large[:-2](torch.empty(1, 3, 224, 224)).shape[2:] == (7, 7)

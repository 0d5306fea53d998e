"""NAS-Bench-201 against its own table, where that is present, and by hand."""

import os
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from raynas.architecture import InvalidArchitecture
from raynas.costs import count
from raynas.errors import UserError
from search_spaces import find, nasbench201
from search_spaces.nasbench201 import (
    SPACE,
    arch_str,
    canonical,
    costs,
    from_arch_str,
    isomorphism_class,
    simplify,
)

TABLE = Path(os.environ.get("RAYNAS_DATA", "absent")) / "nasbench201-cifar10.parquet"
CIFAR = ((3, 32, 32), 10)


def design(operations):
    """From the operations of the six edges: 0-1, 0-2, 1-2, 0-3, 1-3, 2-3."""
    short = {"-": "none", "s": "skip_connect", "a": "avg_pool_3x3"}
    short |= {"1": "nor_conv_1x1", "3": "nor_conv_3x3"}
    names = [d.name for d in SPACE.decisions]
    return SPACE.architecture({n: short[o] for n, o in zip(names, operations, strict=True)})


@pytest.fixture(scope="module")
def everything():
    return list(SPACE.enumerate())


@pytest.mark.skipif(not TABLE.exists(), reason="set RAYNAS_DATA to the folder with the table")
def test_every_row_of_the_table():
    import pandas as pd

    table = pd.read_parquet(TABLE)
    designs = [from_arch_str(text) for text in table.arch_str]
    assert [arch_str(a) for a in designs] == table.arch_str.to_list()
    assert [isomorphism_class(a) for a in designs] == table.unique_str.to_list()
    found = [costs(a, *CIFAR) for a in designs]
    assert [c["params"] for c in found] == table.params_cifar10.to_list()
    bias = 10  # which the table counts as operations, and torch does not
    assert [c["flops"] for c in found] == (2 * (table.flops_cifar10 - bias)).to_list()


def test_the_whole_space(everything):
    assert len(everything) == SPACE.size == 15_625
    begun = time.perf_counter()
    params = [costs(a, *CIFAR)["params"] for a in everything]
    assert time.perf_counter() - begun < 15_625 / 500
    assert (min(params), max(params)) == (73_306, 1_531_546)
    assert len({isomorphism_class(a) for a in everything}) == 6_466
    assert len({canonical(a) for a in everything}) == 5_044


def test_one_identity_has_one_size(everything):
    sizes = defaultdict(set)
    for a in everything:
        plain = simplify(a)
        assert canonical(plain) == canonical(a)
        sizes[canonical(a)].add(tuple(costs(plain, *CIFAR).values()))
    assert all(len(found) == 1 for found in sizes.values())


def test_a_class_is_no_identity(everything):
    """It merges what differs and separates what is the same."""
    once, twice = design("1-s-ss"), design("11--ss")
    assert isomorphism_class(once) == isomorphism_class(twice)  # one convolution, used twice
    assert canonical(once) == "input nor_conv_1x1(0) =(1,1)"
    assert canonical(twice) == "input nor_conv_1x1(0) nor_conv_1x1(0) =(1,2)"
    assert costs(once, *CIFAR)["params"] < costs(twice, *CIFAR)["params"]
    direct, detour = design("---1--"), design("-s---1")
    assert canonical(direct) == canonical(detour)
    assert isomorphism_class(direct) != isomorphism_class(detour)
    sizes, identities = defaultdict(set), defaultdict(set)
    for a in everything:
        sizes[isomorphism_class(a)].add(costs(a, *CIFAR)["params"])
        identities[isomorphism_class(a)].add(canonical(a))
    assert sum(len(found) > 1 for found in sizes.values()) == 578
    assert sum(len(found) > 1 for found in identities.values()) == 430


def test_dead_operations_are_taken_out():
    assert simplify(design("3-1s--")) == design("---s--")  # nothing leads on from there
    assert simplify(design("-a3-11")) == design("-a---1")  # nothing arrives at node 1
    assert simplify(design("-133-1")) == design("-1-3-1")
    assert simplify(design("31a---")) == design("------")


@pytest.mark.parametrize("operations", ["3-1s--", "-a3311", "-133-1", "31----", "3s11a3"])
def test_the_plainest_network_gives_the_same_logits(operations):
    """And parameters that count for nothing have gradients of zero."""
    torch.manual_seed(0)
    space = nasbench201.space(channels=4, cells=1)
    full = space.build(design(operations), (2, 9, 12), 3)
    plain = space.build(simplify(design(operations)), (2, 9, 12), 3)
    weights = full.state_dict()
    plain.load_state_dict({name: weights[name] for name in plain.state_dict()})
    images = torch.randn(4, 2, 9, 12)
    logits = full(images)
    torch.testing.assert_close(logits, plain(images))
    logits.square().sum().backward()
    assert all(w.grad is not None for w in full.parameters())
    assert not any(w.grad.any() for n, w in full.named_parameters() if ".dead." in n)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3ss--a", "3--aa-"),  # a sum pooled on average is the sum of what is pooled
        ("-s---3", "---3--"),  # a detour over skip connections
        ("a-s-ss", "aa--ss"),  # pooled once or twice
    ],
)
def test_equal_identities_are_equal_functions(one, other):
    assert canonical(design(one)) == canonical(design(other))
    images = torch.randn(3, 1, 8, 8)
    logits = []
    for operations in (one, other):
        torch.manual_seed(1)
        network = nasbench201.space(4, 1).build(design(operations), (1, 8, 8), 2)
        logits.append(network.eval()(images))
    torch.testing.assert_close(*logits)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 33, 47), (4, 9, 64)])
def test_costs_by_formula_at_any_size(shape):
    rng = np.random.default_rng(0)
    space = find("nasbench201:channels=6,cells=2")
    for a in [space.sample(rng) for _ in range(5)]:
        assert space.costs(a, shape, 3) == count(lambda a=a: space.build(a, shape, 3), shape)


def test_texts_of_the_benchmark():
    text = "|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
    assert from_arch_str(text) == design("3-as-1")
    assert arch_str(design("3-as-1")) == text
    for wrong in (
        "",
        "|none~0|",
        text.replace("none", "zero"),
        text[:-1],
        text.replace("~2", "~1"),
    ):
        with pytest.raises(InvalidArchitecture, match="expected"):
            from_arch_str(wrong)


def test_settings_are_checked():
    with pytest.raises(UserError, match="1 or more; got 16 and 0"):
        find("nasbench201:cells=0")

"""DARTS and NASNet cells by hand: what is built, what is left out, and published sizes."""

import time

import cloudpickle
import numpy as np
import pytest
import torch

from raynas.cells import FactorizedReduction
from raynas.costs import count, layers
from raynas.errors import UserError
from raynas.graphs import Edge
from search_spaces import darts, find, nasnet_cell

NAMES = ("darts", "nasnet_cell")
IMAGES = (3, 32, 32)


def design(name, chosen):
    """All operations `none`, all inputs the first, but for what is chosen."""
    space = find(name)
    options = {d.name: d.options[0] for d in space.decisions}
    options |= {d.name: "none" for d in space.decisions if d.leaf.startswith("op")}
    return space.architecture({**options, **chosen})


def passing(name, chosen=None):
    """Both cells hand the last cell's value on, unless chosen otherwise."""
    skip = "skip_connect" if name == "darts" else "identity"
    slot = {"op1": skip} if name == "darts" else {"op0": skip, "input0": 1}
    both = {f"{k}.node0.{n}": o for k in ("normal", "reduction") for n, o in slot.items()}
    return design(name, {**both, **(chosen or {})})


@pytest.mark.parametrize(
    ("title", "params"),
    [  # in millions; published: 3.3, 3.3, 3.4, 3.6
        ("darts_v1", 3_169_414),
        ("darts_v2", 3_349_342),  # also what the authors' own code counts
        ("p_darts", 3_433_798),
        ("pc_darts", 3_634_678),
    ],
)
def test_published_darts_cells(title, params):
    known = darts.KNOWN[title]
    space = darts.space(**known.settings)
    found = space.costs(space.architecture(known.options), known.input_shape, 10)
    assert found["params"] == params
    assert abs(params - known.params) < 0.05 * known.params


@pytest.mark.parametrize("title", nasnet_cell.KNOWN)
def test_published_nasnet_cells(title):
    """Smaller than published, as no 7x7 is among the operations."""
    known = nasnet_cell.KNOWN[title]
    space = nasnet_cell.space(**known.settings)
    found = space.costs(space.architecture(known.options), known.input_shape, 10)
    assert 0.9 * known.params < found["params"] < known.params


@pytest.mark.parametrize("name", NAMES)
def test_published_cells_have_no_dead_parts(name):
    space = find(name)
    for known in space.known.values():
        a = space.architecture(known.options)
        assert space.plainest(a) == a


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 9, 14), (3, 70, 131)])
def test_costs_are_those_of_the_network_at_any_size(name, shape):
    space = find(f"{name}:channels=5,cells=5")
    for seed in range(4):
        a = space.sample(np.random.default_rng(seed))
        assert space.costs(a, shape, 3) == count(lambda a=a: space.build(a, shape, 3), shape)


@pytest.mark.parametrize("name", NAMES)
def test_costs_and_identities_come_fast(name):
    space = find(name)
    some = [space.sample(np.random.default_rng(seed)) for seed in range(200)]
    for a in some[:20]:
        space.costs(a, IMAGES, 10)
    begun = time.perf_counter()
    assert len({space.identity(a) for a in some}) == 200
    assert all(space.costs(a, IMAGES, 10)["params"] > 0 for a in some)
    assert time.perf_counter() - begun < 2


@pytest.mark.parametrize("name", NAMES)
def test_a_design_through_which_nothing_passes_still_classifies(name):
    for cells in (1, 2, 8):
        space = find(f"{name}:cells={cells}")
        a = design(name, {"reduction.node0.op0": "max_pool_3x3"} if cells == 8 else {})
        assert space.identity(a) == "nothing"
        network = space.build(a, (1, 8, 8), 4)
        logits = network(torch.randn(2, 1, 8, 8))
        assert torch.equal(logits, network.classifier.bias.expand(2, 4))
        logits.sum().backward()
        assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_designs_with_few_live_parts_learn(name):
    """Every parameter that is built has a gradient, whatever is left of the cells."""
    rng, space = np.random.default_rng(0), find(f"{name}:channels=4,cells=5")
    for _ in range(12):
        a = space.sample(rng)
        dead = {k: "none" for k in a.options if ".op" in k and rng.random() < 0.7}
        network = space.build(space.architecture({**a.options, **dead}), (1, 8, 11), 3)
        network(torch.randn(2, 1, 8, 11)).square().sum().backward()
        assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_the_plainest_network_gives_the_same_logits(name):
    rng, space = np.random.default_rng(1), find(f"{name}:channels=4,cells=4")
    images = torch.randn(2, 3, 8, 8)
    changed = 0
    for _ in range(15):
        a = space.sample(rng)
        dead = {k: "none" for k in a.options if ".op" in k and rng.random() < 0.5}
        a = space.architecture({**a.options, **dead})
        plain = space.plainest(a)
        changed += plain != a
        logits = []
        for each in (a, plain):
            torch.manual_seed(0)
            logits.append(space.build(each, (3, 8, 8), 3).eval()(images))
        assert space.costs(a, IMAGES, 3) == space.costs(plain, IMAGES, 3)
        assert space.identity(a) == space.identity(plain)
        torch.testing.assert_close(*logits)
    assert changed > 3


def test_cells_that_read_only_the_one_before_the_last_leave_out_every_other():
    space = find("darts:cells=6")
    older = design("darts", {f"{k}.node0.op0": "sep_conv_3x3" for k in ("normal", "reduction")})
    parts = [row["name"] for row in layers(space, older, IMAGES, 10)]
    assert parts == ["stem", "normal1", "normal3", "normal5", "pool", "flatten", "classifier"]
    plain = space.plainest(older)
    assert {o for n, o in plain.choices if n.startswith("reduction") and ".op" in n} == {"none"}


def test_darts_reads_skips_and_names_its_inputs():
    a = passing("darts", {"normal.node2.inputs": "1+3", "normal.node2.op0": "sep_conv_5x5"})
    assert darts.graph(a, "normal").edges[:2] == (
        Edge("input1", "node0", ""),
        Edge("input1", "node2", "sep_conv_5x5"),
    )
    assert darts.graph(a, "reduction").edges[0] == Edge("input1", "node0", "skip_connect")
    plain = darts.simplify(a)
    assert plain["normal.node2.inputs"] == "0+1"
    assert (plain["normal.node2.op0"], plain["normal.node2.op1"]) == ("none", "sep_conv_5x5")


def test_nodes_in_equal_roles_may_swap_them():
    space = find("nasnet_cell")
    texts = {
        space.identity(
            passing(
                "nasnet_cell",
                {
                    f"normal.node{first}.op0": "max_pool_3x3",
                    f"normal.node{first}.op1": "sep_conv_3x3",
                    f"normal.node{second}.op0": "conv_3x3",
                    f"normal.node{first}.input0": 1,
                },
            )
        )
        for first, second in [(1, 2), (2, 1), (4, 3)]
    }
    assert len(texts) == 1


def test_nasnet_concatenates_the_nodes_that_nobody_reads():
    a = passing("nasnet_cell", {"normal.node4.op0": "conv_5x5", "normal.node4.input0": 2})
    last = [e.source for e in nasnet_cell.graph(a, "normal").edges if e.target == "output"]
    assert last == ["node1", "node2", "node3", "node4"]
    found = layers(find("nasnet_cell"), a, IMAGES, 10)
    assert found[1]["shape"] == (16, 32, 32)  # of these nodes, only node 4 has a value


def test_identity_is_not_skip():
    space = find("nasnet_cell")
    same, other = passing("nasnet_cell"), passing("nasnet_cell", {"normal.node0.op0": "skip"})
    assert space.identity(same) != space.identity(other)
    assert space.costs(same, IMAGES, 10)["params"] < space.costs(other, IMAGES, 10)["params"]


@pytest.mark.parametrize("height", [2, 7, 8])
def test_a_factorized_reduction_reads_even_and_odd_pixels(height):
    x = torch.rand(2, 1, height, 5, requires_grad=True)
    y = FactorizedReduction(1, 4)(x)
    assert y.shape == (2, 4, -(-height // 2), 3)
    y.pow(3).sum().backward()
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(5), indexing="ij")
    assert torch.equal(x.grad[0, 0] != 0, rows % 2 == columns % 2)


@pytest.mark.parametrize("name", NAMES)
def test_large_images_are_halved_by_the_stem(name):
    space = find(name)
    a = passing(name)
    sides = {}
    for side in (32, 63, 64, 224):
        rows = layers(space, a, (3, side, side), 10)
        sides[side] = next(row["shape"][-1] for row in rows if row["name"] == "stem")
    assert sides == {32: 32, 63: 63, 64: 32, 224: 56}


@pytest.mark.parametrize("name", NAMES)
def test_spaces_travel_to_other_processes(name):
    space = cloudpickle.loads(cloudpickle.dumps(find(name)))
    a = passing(name)
    assert space.costs(a, IMAGES, 10) == find(name).costs(a, IMAGES, 10)
    cloudpickle.loads(cloudpickle.dumps(space.build(a, (1, 8, 8), 10)))


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_checked(name):
    with pytest.raises(UserError, match=r"2 or more.*got 1 and 8"):
        find(f"{name}:channels=1")

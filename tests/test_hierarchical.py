"""Motifs of motifs: what is dead, what is the same, and what is counted."""

import numpy as np
import pytest
import torch

from raynas.costs import count
from raynas.graphs import Edge
from search_spaces.hierarchical import (
    EDGES,
    SPACE,
    build,
    canonical,
    costs,
    flat,
    graphs,
    simplify,
)

SHAPE = (3, 16, 16)


def design(**edges):
    """A design by its edges, such as motif0_1_2="conv_1x1" or cell_0_4="motif0"; none else."""
    chosen = {"stages": 2, "cells": 2, "width": 16, "doubling": True}
    chosen |= {d.name: "none" for d in EDGES}
    for edge, operation in edges.items():
        layer, source, target = edge.split("_")
        layer = layer if layer == "cell" else f"cell.{layer}"
        chosen[f"{layer}.node{target}.from_{source}"] = operation
    return SPACE.architecture(chosen)


def test_by_hand():
    found = design(
        motif0_0_3="conv_1x1", motif1_0_1="max_pool_3x3", motif1_1_3="identity",
        cell_0_1="motif0", cell_1_4="motif0", cell_0_4="motif1",
    )  # fmt: skip
    model = build(found, SHAPE, 10)
    assert [n for n, _ in model.named_children()] == [
        "stem", "cell0", "cell1", "reduction0", "cell2", "cell3", "head", "classifier",
    ]  # fmt: skip
    stem, head = 27 * 16 + 32, 32 * 10 + 10
    reduction = 9 * 16 + 32 + 16 * 32 + 64
    cells = 2 * sum(2 * (c * c + 2 * c) + 2 * c for c in (16, 32))  # two uses, own weights each
    assert costs(found, SHAPE, 10)["params"] == stem + cells + reduction + head
    cell = model.cell0[0]
    model.eval()
    x = torch.randn(1, 16, 8, 8)
    twice = cell.edges["node1_node4"](cell.edges["input_node1"](x))
    assert torch.equal(cell(x), twice + torch.nn.functional.max_pool2d(x, 3, 1, 1))


def test_dead_parts_are_set_to_none():
    alive = {"motif0_0_3": "conv_1x1", "cell_0_2": "motif0", "cell_2_4": "identity"}
    dead = {
        "motif0_1_3": "conv_1x1",  # nothing reaches node 1
        "motif0_0_2": "identity",  # node 2 leads nowhere
        "motif1_0_3": "conv_1x1",  # used only where nothing reaches
        "motif2_0_1": "conv_1x1",  # never reaches its output, so the cell's edge carries nothing
        "cell_1_4": "motif1",
        "cell_0_4": "motif2",
        "cell_0_3": "motif0",  # node 3 leads nowhere
    }
    assert simplify(design(**alive, **dead)) == design(**alive)
    assert canonical(design(**alive, **dead)) == canonical(design(**alive))
    assert list(graphs(design(**alive, **dead))) == ["cell", "motif0"]


@pytest.mark.parametrize("seed", range(20))
def test_dead_parts_are_not_built(seed):
    found = SPACE.sample(np.random.default_rng(seed))
    with torch.device("meta"):
        assert str(build(found, SHAPE, 10)) == str(build(simplify(found), SHAPE, 10))


def test_names_of_motifs_do_not_matter():
    first = design(motif0_0_3="conv_1x1", motif3_0_3="depthwise_3x3", cell_0_1="motif0",
                   cell_1_4="motif3")  # fmt: skip
    other = design(motif5_0_1="conv_1x1", motif5_1_3="depthwise_3x3", cell_0_4="motif5")
    swapped = design(motif5_0_1="depthwise_3x3", motif5_1_3="conv_1x1", cell_0_4="motif5")
    assert canonical(first) == canonical(other) != canonical(swapped)


def test_one_convolution_read_twice_is_not_two():
    shared = design(motif0_0_3="conv_1x1", cell_0_1="motif0", cell_1_4="identity",
                    cell_1_2="identity", cell_2_4="identity")  # fmt: skip
    two = design(motif0_0_3="conv_1x1", cell_0_1="motif0", cell_1_4="identity",
                 cell_0_2="motif0", cell_2_4="identity")  # fmt: skip
    assert canonical(shared) != canonical(two)
    assert costs(shared, SHAPE, 10)["params"] < costs(two, SHAPE, 10)["params"]


def test_a_dead_design_classifies_and_has_gradients():
    found = design(motif0_0_3="none", cell_0_4="motif0")
    plain = simplify(found)
    assert plain["cells"] == 1
    assert canonical(found) == canonical(plain)
    model = build(found, (1, 8, 8), 10)
    model(torch.randn(2, 1, 8, 8)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert graphs(found)["cell"].edges == ()


def test_graphs_are_what_is_drawn():
    found = design(motif0_0_1="conv_1x1", motif0_1_3="identity", cell_0_4="motif0")
    shown = graphs(found)
    assert shown["cell"].edges == (Edge("input", "node4", "motif0"),)
    assert shown["motif0"].edges == (
        Edge("input", "node1", "conv_1x1"),
        Edge("node1", "node3", ""),
    )
    assert [e.operation for e in flat(shown).edges] == ["conv_1x1", ""]


@pytest.mark.parametrize("shape", [(1, 8, 11), (3, 64, 90), (2, 127, 224)])
def test_the_formula_counts_what_is_built(shape):
    for found in (SPACE.sample(np.random.default_rng(1)), design()):
        assert costs(found, shape, 7) == count(lambda f=found: build(f, shape, 7), shape)


def test_parameters_do_not_depend_on_the_image():
    found = SPACE.sample(np.random.default_rng(2))
    assert len({costs(found, (3, side, side), 10)["params"] for side in (8, 32, 64, 224)}) == 1

"""Graphs: what is dead, and one text for exactly the graphs that compute the same."""

import time
from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest

from raynas.graphs import (
    Edge,
    Graph,
    identity,
    live,
    pruned,
    reductions,
    stack_identity,
    stacked,
    survivors,
)

FREE, LINEAR = ("max",), ("mean",)


def of(text, **settings):
    """`x a:conv a output:conv` and so on: source, target:operation, several apart by commas."""
    edges = []
    for word in text.split(", "):
        source, target = word.split()
        target, _, operation = target.partition(":")
        edges.append(Edge(source, target, operation))
    return Graph(("x", "y"), tuple(edges), **settings)


def same(*texts, **settings):
    return len({identity(of(text, **settings), FREE, LINEAR) for text in texts}) == 1


def test_dead_edges_reach_nothing_or_are_reached_by_nothing():
    graph = of("x a:conv, b a:conv, a output, x c:conv, c d:conv")
    assert live(graph) == graph.edges[:1] + graph.edges[2:3]
    assert pruned(graph) == replace(graph, inputs=("x",), edges=live(graph))
    assert identity(graph) == identity(pruned(graph)) == "x conv(0) =(1)"
    assert identity(of("b output:conv")) == "nothing"


def test_skips_are_contracted_by_node():
    assert same("x a, a output:conv", "x output:conv")
    assert same("x a:conv, a b, a output, b output", "x a:conv, a output, a output")
    assert not same("x a:conv, a output, a output", "x a:conv, x b:conv, a output, b output")
    assert not same("x output", "y output")


def test_operations_without_weights_are_shared():
    assert same("x a:max, a output, a output", "x output:max, x output:max")
    assert not same("x a:conv, a output, a output", "x output:conv, x output:conv")
    assert same("x a, y a, a output:mean", "x output:mean, y output:mean")
    assert not same("x a, y a, a output:max", "x output:max, y output:max")


def test_concatenation_keeps_nodes_apart_but_not_in_order():
    parts = "x a:conv, y a, x b, "
    assert same(parts + "a output, b output", parts + "b output, a output", concatenates=True)
    assert not same("x a, y a, a output", "x a, y b, a output, b output", concatenates=True)


def random_graph(rng, nodes, concatenates, operations):
    names = ["x", "y", *(f"n{i}" for i in range(nodes))]
    edges = [
        Edge(names[source], names[target], str(operation))
        for target in range(2, nodes + 2)
        for source in range(target)
        if (operation := rng.choice(operations)) != "none"
    ]
    edges += [Edge(name, "output", "") for name in names[2:] if rng.random() < 0.7]
    return Graph(("x", "y"), tuple(edges), concatenates=concatenates)


def relabelled(graph, rng):
    """The same with other names of the nodes, in another order that is as good."""
    nodes = sorted({e.target for e in graph.edges} | {e.source for e in graph.edges})
    inner = [n for n in nodes if n not in (*graph.inputs, graph.output)]
    named = dict(zip(inner, rng.permutation([f"m{i}" for i in range(len(inner))]), strict=True))
    left, edges = list(graph.edges), []
    while left:
        ready = [e for e in left if all(o.target != e.source for o in left)]
        left.remove(ready[i := rng.integers(len(ready))])
        e = ready[i]
        edges.append(
            Edge(named.get(e.source, e.source), named.get(e.target, e.target), e.operation)
        )
    return replace(graph, edges=tuple(edges))


@pytest.mark.parametrize("concatenates", [False, True])
def test_another_naming_is_the_same_text(concatenates):
    rng = np.random.default_rng(0)
    for _ in range(60):
        graph = random_graph(rng, 5, concatenates, ["none", "none", "", "conv", "sep", "mean"])
        texts = {identity(relabelled(graph, rng), FREE, LINEAR) for _ in range(4)}
        assert texts == {identity(graph, FREE, LINEAR)}


def expression(graph, label):
    """The graph's value written out, each weighted edge under its label."""
    values = {name: [name] for name in graph.inputs}
    joined = []
    for i, edge in enumerate(graph.edges):
        value = sorted(values.get(edge.source, []))
        if edge.operation and value:
            if edge.operation in LINEAR:
                value = [f"{edge.operation}({v})" for v in value]
            else:
                own = "" if edge.operation in FREE else f"#{label[i]}"
                value = [f"{edge.operation}{own}({'+'.join(value)})"]
        if graph.concatenates and edge.target == graph.output and value:
            joined.append("+".join(sorted(value)))
        else:
            values[edge.target] = values.get(edge.target, []) + value
    return tuple(sorted(joined if graph.concatenates else values.get(graph.output, [])))


def brute_force(graph):
    """The smallest of the expressions under all ways to label equal operations."""
    groups = {}
    for i, edge in enumerate(graph.edges):
        if edge.operation not in ("", *FREE, *LINEAR):
            groups.setdefault(edge.operation, []).append(i)
    ways = product(*(permutations(range(len(group))) for group in groups.values()))
    edges = [i for group in groups.values() for i in group]
    return min(
        expression(graph, dict(zip(edges, (n for own in way for n in own), strict=True)))
        for way in ways
    )


@pytest.mark.parametrize("concatenates", [False, True])
def test_texts_are_equal_exactly_where_brute_force_says_so(concatenates):
    rng = np.random.default_rng(1)
    operations = ["none", "none", "", "", "conv", "conv", "sep", "max", "mean"]
    pairs = set()
    for _ in range(500):
        graph = random_graph(rng, 3, concatenates, operations)
        if sum(edge.operation == "conv" for edge in graph.edges) < 6:
            pairs.add((identity(graph, FREE, LINEAR), brute_force(graph)))
    assert len(pairs) > 150
    assert len({text for text, _ in pairs}) == len({brute for _, brute in pairs}) == len(pairs)


def test_ten_equal_operations_are_told_apart_in_little_time():
    """Of 10! numberings, all give the same text."""
    edges = [Edge("x", f"n{i // 2}", "conv") for i in range(10)]
    edges += [Edge(f"n{i}", "output", "") for i in range(5)]
    begun = time.perf_counter()
    text = identity(Graph(("x",), tuple(edges), concatenates=True))
    assert time.perf_counter() - begun < 1
    assert text.count("conv(0)") == 10


def test_reductions_stand_at_thirds():
    assert reductions(20) == (6, 13)
    assert reductions(8) == (2, 5)
    assert reductions(2) == (0, 1)
    assert reductions(1) == (0,)


BOTH = Graph(("input0", "input1"), (Edge("input0", "output", ""), Edge("input1", "output", "c")))
OLDER = replace(BOTH, edges=BOTH.edges[:1])
NEWER = replace(BOTH, edges=BOTH.edges[1:])
EMPTY = replace(BOTH, edges=())


def test_cells_that_the_last_one_does_not_see_are_left_out():
    assert stacked(BOTH, BOTH, 8) == [BOTH] * 8
    cut = replace(OLDER, inputs=("input0",))
    assert stacked(OLDER, OLDER, 6) == [None, cut] * 3
    assert stacked(EMPTY, BOTH, 8) == [None] * 8
    assert stacked(NEWER, EMPTY, 8) == [None] * 8  # nothing passes the reduction


def test_cells_without_a_value_leave_their_readers_the_other_input():
    older = replace(OLDER, inputs=("input0",))
    stack = stacked(BOTH, EMPTY, 6)  # cells 2 and 4 are reductions
    assert stack == [BOTH, BOTH, None, older, None, older]
    assert survivors(stack) == (set(BOTH.edges), set())


def test_a_stack_is_told_by_its_kinds_of_cells():
    text = stack_identity(stacked(BOTH, NEWER, 6))
    assert text == "0,1,3,5: input0 input1 c(1) =(0,2) | 2,4: input1 c(0) =(1)"
    assert stack_identity(stacked(EMPTY, NEWER, 6)) == "nothing"
    assert stack_identity(stacked(OLDER, OLDER, 6)) == stack_identity(stacked(OLDER, EMPTY, 6))

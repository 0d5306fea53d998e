"""The decision tree as nested questions, with how well it predicts printed on it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raynas.explanation.claims import Claim
from raynas.explanation.sentences import value
from raynas.report.words import Fidelity, fidelity, rounded, share

LOG = ", log"  # ends the name of a term that is the logarithm of one more


@dataclass(frozen=True)
class Node:
    """A question with an answer on either side, or (without `yes`) a leaf.

    Attributes:
        text: the rule, or what designs of the leaf reach on average.
        support: the share of all designs in a leaf, as text.
        level: of a leaf, from 0 (the worst) to 100 (the best of the leaves).
    """

    text: str
    support: str = ""
    level: float = 0.0
    yes: Node | None = None
    no: Node | None = None


@dataclass(frozen=True)
class Tree:
    claim: Claim
    root: Node
    leaves: int
    fidelity: Sequence[Fidelity]


def tree(claims: Sequence[Claim]) -> Tree | None:
    """None without a claim that holds a tree."""
    found = next((c for c in claims if c.kind == "tree" and c.method_args), None)
    if found is None:
        return None
    nodes = json.loads(found.method_args)
    leaves = [float(node["estimate"]) for node in nodes if node["term"] is None]
    return Tree(found, _node(nodes, 0, found.metric, leaves), len(leaves), fidelity(found))


def _node(
    nodes: Sequence[Mapping[str, Any]], at: int, metric: str, leaves: Sequence[float]
) -> Node:
    node = nodes[at]
    if node["term"] is not None:
        name, no, yes = str(node["term"]), node["below"], node["beyond"]
        both = [_node(nodes, int(i), metric, leaves) for i in (yes, no)]
        return Node(_question(name, float(node["threshold"])), yes=both[0], no=both[1])
    mean, low, high = float(node["estimate"]), min(leaves), max(leaves)
    level = round(100 * (mean - low) / (high - low), 1) if high > low else 100.0
    return Node(value(mean, metric), share(float(node["share"])), level)


def _question(term: str, threshold: float) -> str:
    """What is answered by yes where the term is above the threshold."""
    if " is " in term and 0 < threshold < 1:
        return term
    if term.endswith(LOG):
        return f"{term.removesuffix(LOG)}: more than {rounded(math.expm1(threshold))}"
    if threshold % 1 == 0.5:  # between two counts
        return f"{term}: {threshold + 0.5:g} or more"
    return f"{term} > {threshold:.3g}"

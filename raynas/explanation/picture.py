"""The decision tree of a run as a matplotlib figure, with how well it predicts printed on it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raynas.explanation.claims import Claim
from raynas.explanation.wording import percent, quantity, reading, value

ROW, COLUMN = 1.1, 1.9  # inches per level and per leaf
EDGE, BOX, LEAF = "#8a94a6", "#eef1f6", "#dff0e4"
TEXT = 32  # letters in a line
SORTS = {"random": "random pairs", "top": "pairs among the best", "edit": "pairs one edit apart"}

Nodes = Sequence[Mapping[str, Any]]
Places = Mapping[int, tuple[float, int]]  # of nodes: column and level


def decision_tree(claim: Claim) -> Figure:
    """Draws the tree of a claim of kind `tree`.

    Args:
        claim: its `method_args` are the nodes as JSON (`raynas.explanation.scorecard.Node`).
    """
    nodes: Nodes = json.loads(claim.method_args)
    places = _places(nodes)
    leaves = sum(node["term"] is None for node in nodes)
    depth = max(y for _, y in places.values())
    size = (max(6.0, COLUMN * leaves), ROW * (depth + 1) + 1.0)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_xlim(-0.7, leaves - 0.3)
    axes.set_ylim(-depth - 0.5, 0.5)
    for i, node in enumerate(nodes):
        _draw(axes, node, claim, places, i)
    axes.set_title(f"{_fidelity(claim)}\n{_scope(claim)}", fontsize=9, loc="left")
    return figure


def _draw(
    axes: Axes,
    node: Mapping[str, Any],
    claim: Claim,
    places: Mapping[int, tuple[float, int]],
    i: int,
) -> None:
    """A node and the lines to what follows."""
    x, y = places[i]
    for name, label in (("beyond", "yes"), ("below", "no")):
        if node["term"] is not None:
            to_x, to_y = places[int(node[name])]
            axes.plot([x, to_x], [-y, -to_y], color=EDGE, linewidth=1.2, zorder=1)
            middle = (x + to_x) / 2, -(y + to_y) / 2
            axes.text(*middle, label, fontsize=8, ha="center", backgroundcolor="white", zorder=2)
    look = {"boxstyle": "round,pad=0.4", "fc": BOX if node["term"] else LEAF, "ec": EDGE}
    text = _text(node, claim)
    axes.text(x, -y, text, ha="center", va="center", fontsize=8, bbox=look, zorder=3)


def question(term: str, threshold: float) -> str:
    """What is answered by yes where a term is above its threshold."""
    if (" is " in term or " at least " in term) and 0 < threshold < 1:
        return term
    if threshold % 1 == 0.5:  # between two counts
        return f"{term}: {threshold + 0.5:g} or more"
    return f"{term} > {threshold:.3g}"


def _places(nodes: Nodes) -> dict[int, tuple[float, int]]:
    """Column and level of every node: leaves side by side, parents above their children."""
    found: dict[int, tuple[float, int]] = {}
    columns = iter(range(len(nodes)))

    def put(i: int, level: int) -> float:
        node = nodes[i]
        if node["term"] is None:
            x = float(next(columns))
        else:
            x = (put(int(node["beyond"]), level + 1) + put(int(node["below"]), level + 1)) / 2
        found[i] = (x, level)
        return x

    put(0, 0)
    return found


def _text(node: Mapping[str, Any], claim: Claim) -> str:
    if node["term"] is None:
        level = value(float(node["estimate"]), claim.metric)
        return f"{quantity(claim.metric)} {level}\n{percent(float(node['share']))} of designs"
    words, lines = f"{question(node['term'], node['threshold'])}?".split(), [""]
    for word in words:
        if len(lines[-1]) + len(word) > TEXT:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def _fidelity(claim: Claim) -> str:
    known = {n: claim.side_effects[n] for n in SORTS if n in claim.side_effects}
    hits = ", ".join(f"{percent(share)} of {SORTS[n]}" for n, share in known.items())
    said = hits or percent(claim.estimate or 0.0)
    return f"This tree tells the better of two designs in {said}."


def _scope(claim: Claim) -> str:
    return (
        f"Guessing is right in half of them. {quantity(claim.metric)} {reading(claim)}, estimated "
        f"from {claim.n_trials} trials; claim {claim.claim_id}."
    )

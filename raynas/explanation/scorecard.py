"""Forms small enough to predict with: a scorecard of at most six terms, a tree of eight leaves.

Both are fitted to the posterior over the pool, not to the archive, and predict standing (normal
scores of the rank), not the metric itself: on the metric a few broken designs would take all
terms. Terms are chosen by orthogonal least squares (Chen et al. 1989), which refits all points
whenever one is added. How well a form serves is measured: how often it names the better of two
designs, over pairs at random, among the best fifth, and one edit apart, for every draw.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata
from sklearn.tree import DecisionTreeRegressor

from raynas.architecture import Architecture
from raynas.explanation.claims import Claim
from raynas.explanation.pool import Answer, Draw, Index, Make, Pool, answer, edited
from raynas.objective import Array, Mask, Objective

Human = Callable[[Sequence[Architecture]], tuple[list[str], Array]]  # `Described.human`

TERMS = 6
LEAVES = 8
STEPS = 12  # values of a count that may become thresholds at most
PAIRS = 20_000  # pairs of the pool that are compared
EDITS = 400  # designs of which one edit is compared
BEST = 0.2  # of the designs are the best
SCALE = 10.0  # points per standard deviation of standing
TIE = 1e-9


@dataclass(frozen=True)
class Scorecard:
    """Terms to add up.

    Attributes:
        terms: what is counted; "X >= 2" counts 1 where it holds.
        points: of one more of each; more is better.
        base: the points of a design without any.
    """

    terms: tuple[str, ...]
    points: tuple[float, ...]
    base: float

    def score(self, names: Sequence[str], values: Array) -> Array:
        """Points of designs `[N]`, given `Described.human`'s names and values `[N, T]`."""
        total = np.full(len(values), self.base)
        for term, points in zip(self.terms, self.points, strict=True):
            total += points * counted(term, names, values)
        return total


@dataclass(frozen=True)
class Node:
    """A node of a tree; leaves have no term.

    Attributes:
        below, beyond: the nodes that follow where the term is at most, or above, the threshold.
        estimate: mean of the metric's draws over its designs; share: of the space in it.
    """

    term: str | None
    threshold: float | None
    below: int | None
    beyond: int | None
    estimate: float
    share: float


@dataclass(frozen=True)
class Tree:
    """A decision tree as data; the first node is the root."""

    nodes: tuple[Node, ...]
    standings: tuple[float, ...]  # of each node, more is better

    def leaves(self, names: Sequence[str], values: Array) -> Index:
        """The leaf of each design `[N]`."""
        at = np.zeros(len(values), dtype=np.int64)
        column = {name: j for j, name in enumerate(names)}
        for i, node in enumerate(self.nodes):  # children stand after their parents
            if node.term is not None and node.below is not None and node.beyond is not None:
                here = np.flatnonzero(at == i)
                low = values[here, column[node.term]] <= node.threshold
                at[here] = np.where(low, node.below, node.beyond)
        return at

    def score(self, names: Sequence[str], values: Array) -> Array:
        """The standing of each design's leaf `[N]`."""
        return np.array(self.standings)[self.leaves(names, values)]

    def rules(self) -> list[tuple[str, int]]:
        """What leads to each leaf, in words, and its node."""
        found: list[tuple[str, int]] = []
        todo: list[tuple[int, tuple[str, ...]]] = [(0, ())]
        while todo:
            i, path = todo.pop()
            node = self.nodes[i]
            if node.term is None or node.below is None or node.beyond is None:
                found.append((" and ".join(path) or "all designs", i))
                continue
            low, high = _sides(node.term, float(node.threshold or 0.0))
            todo += [(node.beyond, (*path, high)), (node.below, (*path, low))]
        return found


@dataclass(frozen=True)
class Fidelity:
    """How often a form names the better of two designs, per draw `[S]`."""

    random: Array
    top: Array
    edit: Array

    def side_effects(self) -> dict[str, float]:
        """The three means, for a claim."""
        named = {"random": self.random, "top": self.top, "edit": self.edit}
        return {name: float(share.mean()) for name, share in named.items()}


def counted(term: str, names: Sequence[str], values: Array) -> Array:
    """A term of a scorecard for designs `[N]`."""
    name, sign, least = term.rpartition(" >= ")
    if sign and name in names:
        return np.asarray(values[:, list(names).index(name)] >= float(least), dtype=float)
    return np.asarray(values[:, list(names).index(term)], dtype=float)


def standing(gains: Array) -> Array:
    """Normal scores of ranks `[N]`: how good each design is among all, in deviations."""
    return np.asarray(ndtri((rankdata(gains) - 0.5) / len(gains)))


def scorecard(names: Sequence[str], values: Array, gains: Array, most: int = TERMS) -> Scorecard:
    """The terms that tell best how designs stand, by orthogonal least squares.

    Args:
        values: `Described.human`'s of the pool's designs `[M, T]`.
        gains: posterior mean of the metric, turned so that more is better `[M]`.
    """
    columns, told = _candidates(names, values)
    mean = columns.mean(axis=0)
    centred = columns - mean
    target = standing(gains)
    whole = (centred**2).sum(axis=0)
    rest, left, chosen = centred.copy(), target.copy(), list[int]()
    for _ in range(most):
        size = (rest**2).sum(axis=0)
        usable = size > 1e-6 * whole + 1e-9
        gain = np.where(usable, (rest.T @ left) ** 2 / np.where(usable, size, 1.0), 0.0)
        best = int(gain.argmax())
        if gain[best] <= 1e-3 * (target @ target):
            break
        chosen.append(best)
        axis = rest[:, best] / np.sqrt(size[best])
        left = left - axis * (axis @ left)
        rest = rest - np.outer(axis, axis @ rest)
    if not chosen:
        return Scorecard((), (), 0.0)
    points, *_ = np.linalg.lstsq(centred[:, chosen], target, rcond=None)
    points *= SCALE
    base = -float(points @ mean[chosen])
    return Scorecard(tuple(told[j] for j in chosen), tuple(map(float, points)), base)


def _candidates(names: Sequence[str], values: Array) -> tuple[Array, list[str]]:
    """Terms and, of counts, whether they reach each value met."""
    columns, told = [], []
    for j, name in enumerate(names):
        column = np.asarray(values[:, j], dtype=float)
        met = np.unique(column)
        if len(met) < 2 or name.removesuffix(", log") in names[:j]:
            continue
        columns.append(column)
        told.append(name)
        if 2 < len(met) <= STEPS and np.all(met == np.round(met)):
            for least in met[1:]:
                columns.append((column >= least).astype(float))
                told.append(f"{name} >= {least:g}")
    return np.array(columns).T if columns else np.zeros((len(values), 0)), told


def tree(
    names: Sequence[str], values: Array, gains: Array, levels: Array, most: int = LEAVES
) -> Tree:
    """A regression tree on the same terms; `levels`: posterior mean in the metric's unit `[M]`."""
    model = DecisionTreeRegressor(max_leaf_nodes=most, min_samples_leaf=0.01, random_state=0)
    model.fit(values, standing(gains))
    grown = model.tree_
    on = model.decision_path(values)
    nodes = []
    for i in range(grown.node_count):
        rows = on[:, [i]].nonzero()[0]
        inner = grown.children_left[i] >= 0
        nodes.append(
            Node(
                str(names[grown.feature[i]]) if inner else None,
                float(grown.threshold[i]) if inner else None,
                int(grown.children_left[i]) if inner else None,
                int(grown.children_right[i]) if inner else None,
                float(levels[rows].mean()),
                len(rows) / len(values),
            )
        )
    return Tree(tuple(nodes), tuple(float(v) for v in grown.value[:, 0, 0]))


def _sides(term: str, threshold: float) -> tuple[str, str]:
    """The two sides of a split in words."""
    name, sign, option = term.partition(" is ")
    if sign and 0 < threshold < 1:
        return f"{name} is not {option}", term
    return f"{term} <= {threshold:.3g}", f"{term} > {threshold:.3g}"


def better_of_two(scores: Array, gains: Array) -> Array:
    """How often the better of two scores is the better design `[S]`; half for equal scores.

    Pairs that are equal in the draw do not count.

    Args:
        scores: of both designs `[pairs, 2]`.
        gains: draws of both, more is better `[S, pairs, 2]`.
    """
    said = scores[:, 0] - scores[:, 1]
    true = gains[..., 0] - gains[..., 1]
    right = np.where(np.abs(said) < TIE, 0.5, np.sign(said) == np.sign(true))
    counts = np.abs(true) > TIE
    return np.asarray((right * counts).sum(axis=1) / np.maximum(counts.sum(axis=1), 1))


@dataclass(frozen=True)
class Trials:
    """Pairs of designs on which forms are tried, with their draws; more is better.

    Attributes:
        pairs: places in the pool `[pairs, 2]`; gains: the pool's draws `[S, M]`.
        edits: designs, and each of them after one edit; edit_gains: `[S, edits, 2]`.
    """

    pairs: Index
    gains: Array
    edits: tuple[Sequence[Architecture], Sequence[Architecture]]
    edit_gains: Array

    def fidelity(self, score: Callable[[Array], Array], values: Array, edited: Array) -> Fidelity:
        """Of a form, given the terms' values of the pool `[M, T]` and of the edits `[2, N, T]`."""
        scores = score(values)[self.pairs]
        gains = self.gains[:, self.pairs]
        least = np.quantile(self.gains, 1 - BEST, axis=1)
        among: Mask = np.all(gains >= least[:, None, None], axis=2)
        hidden = np.where(among[..., None], gains, 0.0)  # equal pairs do not count
        two = np.stack([score(edited[0]), score(edited[1])], axis=1)
        return Fidelity(
            better_of_two(scores, gains),
            better_of_two(scores, hidden),
            better_of_two(two, self.edit_gains),
        )


def trials(
    pool: Pool, draw: Draw, draws: Array, objective: Objective, seed: int = 0, most: int = 50
) -> Trials:
    """Draws pairs of the pool, by its weights, and edits of its designs."""
    rng = np.random.default_rng(seed)
    sign = 1.0 if objective.direction == "max" else -1.0
    pairs = rng.choice(len(pool.designs), size=(PAIRS, 2), p=pool.weights)
    starts, ends = [], []
    for i in rng.choice(len(pool.designs), size=EDITS, p=pool.weights):
        design = pool.designs[i]
        open_ = [n for n, _ in design.choices if len(pool.space.by_name[n].options) > 1]
        if open_:
            name = open_[rng.integers(len(open_))]
            others = [o for o in pool.space.by_name[name].options if o != design[name]]
            starts.append(design)
            ends.append(edited(pool.space, design, name, others[rng.integers(len(others))]))
    values = draw([*starts, *ends])[:most] * sign
    both = values.reshape(len(values), 2, -1).transpose(0, 2, 1)
    return Trials(pairs, sign * draws[:most], (starts, ends), both)


def claims(
    make: Make, objective: Objective, pool: Pool, human: Human, draw: Draw, draws: Array
) -> Iterator[Claim]:
    """The scorecard and the tree, each with its measured fidelity."""
    if len(pool.designs) < 2:
        return
    names, values = human(pool.designs)
    levels = draws.mean(axis=0)
    gains = levels if objective.direction == "max" else -levels
    tried = trials(pool, draw, draws, objective)
    edits = np.array([human(designs)[1] for designs in tried.edits])
    card = scorecard(names, values, gains)
    if card.terms:
        found = tried.fidelity(lambda v: card.score(names, v), values, edits)
        yield _claim(
            make,
            "scorecard",
            answer(found.random),
            f"{len(card.terms)} terms",
            alternatives=[
                {"value": term, "estimate": points}
                for term, points in zip(card.terms, card.points, strict=True)
            ],
            side_effects={**found.side_effects(), "base": card.base},
        )
    grown = tree(names, values, gains, levels)
    if len(grown.nodes) > 1:
        found = tried.fidelity(lambda v: grown.score(names, v), values, edits)
        rules = grown.rules()
        yield _claim(
            make,
            "tree",
            answer(found.random),
            f"{len(rules)} leaves",
            alternatives=[
                {"value": rule, "estimate": grown.nodes[i].estimate} for rule, i in rules
            ],
            side_effects={**found.side_effects(), "leaves": float(len(rules))},
            method_args=json.dumps([vars(node) for node in grown.nodes]),
        )


def _claim(make: Make, kind: str, share: Answer, about: str, **rest: Any) -> Claim:
    fields = {k: v for k, v in share.fields().items() if k not in ("lfsr", "p_sign")}
    return make(
        kind,
        "estimated",
        "open",
        about,
        unit="share",
        scope={"type": "space"},
        method="better of two over draws of the response surface",
        **fields,
        **rest,
    )

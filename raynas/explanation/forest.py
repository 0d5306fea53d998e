"""A forest on the same features: a second opinion, and how much it is worth.

Extremely randomised trees (Geurts et al. 2006) on bootstrap samples, so that every network is
also predicted by the trees that have not seen it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

from raynas.architecture import Architecture
from raynas.explanation.evidence import Readings
from raynas.explanation.features import Described
from raynas.objective import Array

TREES = 200
FEATURES = 0.4  # share of the columns that a split may choose from
MOST = 0.5  # the most that its word counts


@dataclass(frozen=True)
class Forest:
    """A fitted forest.

    Attributes:
        trees: predicts on the scale of the values it was grown on.
        unseen: identity of a network that was read -> what trees say that have not seen it.
    """

    described: Described
    trees: ExtraTreesRegressor
    unseen: Mapping[str, float]

    def __call__(self, designs: Sequence[Architecture]) -> Array:
        """What it says of designs, `[N]`, where they were read by the trees that did not see it."""
        said = self.trees.predict(columns(self.described, designs))
        rows = self.described.rows(designs)
        known = [self.unseen.get(row.identity, s) for row, s in zip(rows, said, strict=True)]
        return np.array(known)


def columns(described: Described, designs: Sequence[Architecture]) -> Array:
    """All features `[N, columns]`."""
    return np.hstack([described.group(name, designs) for name in described.columns])


def grown(described: Described, readings: Readings, values: Array) -> Forest:
    """Grows a forest on the networks' values (on any scale)."""
    n = len(values)
    x = columns(described, readings.designs).astype(np.float32)
    trees = ExtraTreesRegressor(
        max(TREES // max(n // 300, 1), 60), max_features=FEATURES, bootstrap=True, random_state=0
    )
    trees.fit(x, values, sample_weight=readings.counts)
    said, seen = np.zeros(n), np.zeros(n)
    for tree, drawn in zip(trees.estimators_, trees.estimators_samples_, strict=True):
        out = np.ones(n, bool)
        out[drawn] = False
        if not out.any():  # a tree of few networks may have drawn all of them
            continue
        said[out] += tree.predict(x[out])
        seen[out] += 1
    mean = np.where(seen > 0, said / np.maximum(seen, 1), values.mean())
    identities = [row.identity for row in described.rows(readings.designs)]
    return Forest(described, trees, dict(zip(identities, mean.tolist(), strict=True)))


def weight(values: Array, own: Array, other: Array, variances: Array) -> float:
    """How much the other opinion should count, from what each says of values it has not seen.

    The weight that makes the mixture's squared errors, in units of their variances, least;
    between 0 and `MOST`.
    """
    gap = (other - own) / np.sqrt(variances)
    missed = np.clip((values - own) / np.sqrt(variances), -3, 3)  # an outlier has one vote
    best = float(gap @ missed) / max(float(gap @ gap), 1e-12)
    return float(np.clip(best, 0.0, MOST))

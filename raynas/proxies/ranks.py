"""Several proxies as one: the logarithms of their ranks, added (AZ-NAS).

Lee & Ham 2024 (arXiv:2403.19232) rank all designs of a search by each of four scores and add the
logarithms of the ranks, so that a design that is bad by one of them is bad. Such a score is of a
design among others, and changes with each of them. Here the others are a population drawn first,
at random from the space: its smoothed distribution of each score stands for the ranks. So a
design's score depends on nothing that is searched later, and two that are both better than all of
the population still differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from raynas.objective import Array

AZ = ("expressivity", "progressivity", "trainability", "flops")
SIZE = 16  # random designs: of twice as many, ranks are hardly closer (docs/benchmarks.md)


@dataclass(frozen=True)
class Population:
    """What random designs of a space score: proxy -> one score per design, `-inf` among them.

    `scores` may be a table with a column per proxy.
    """

    scores: Any

    def score(self, found: Mapping[str, float]) -> float:
        """The sum of the logarithms of the shares of the population that a design is better than.

        Args:
            found: its scores by proxy, `-inf` where there is none.

        Returns:
            At most 0, and always finite: what has no score is the worst, but still in the ranking.
        """
        return float(sum(math.log(_share(np.array(s), found[n])) for n, s in self.scores.items()))


def _share(population: Array, score: float) -> float:
    """How many of the population are worse, as a share, in (0, 1)."""
    finite = population[np.isfinite(population)]
    dead = len(population) - len(finite)
    if not math.isfinite(score):
        return (dead + 1) / 2 / (len(population) + 1)
    width = _width(finite)
    away = np.clip((score - finite) / width, -700, 700)
    return float((dead + 0.5 + (1 / (1 + np.exp(-away))).sum()) / (len(population) + 1))


def _width(finite: Array) -> float:
    """Of the steps that stand for ranks: Silverman's rule with quartiles, whatever the unit."""
    if len(finite) < 2:
        return 1.0
    low, high = np.quantile(finite, (0.25, 0.75))
    spread = (high - low) / 1.35 or float(finite.std()) or 1.0
    return float(0.9 * spread * len(finite) ** -0.2 * math.sqrt(3) / math.pi)

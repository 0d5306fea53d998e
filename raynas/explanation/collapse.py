"""Whether skip connections took over while the options of each edge were weighed.

In differentiable search they can win because they need no training, not because networks with
them are better: Zela et al. 2020, "Understanding and Robustifying Differentiable Architecture
Search", arXiv:1909.09656.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from raynas.explanation.claims import Claim
from raynas.explanation.designs import Make

PLAIN = ("skip_connect", "identity", "skip")  # a later name counts where no earlier one is offered
NOTHING = "none"
MANY = 0.5  # of the edges, beyond which it is a warning


def leads(choices: pd.DataFrame) -> dict[str, bool]:
    """At the last epoch, for each edge that offers a skip connection: whether it leads.

    Args:
        choices: columns epoch, decision, option and chance.
    """
    found: dict[str, bool] = {}
    for edge, rows in choices[choices["epoch"] == choices["epoch"].max()].groupby("decision"):
        chances = rows.set_index("option")["chance"].drop(NOTHING, errors="ignore")
        skip = next((name for name in PLAIN if name in chances.index), None)
        if skip is not None and len(chances) > 1:
            found[str(edge)] = bool(chances[skip] > chances.drop(skip).max())
    return found


def claims(make: Make, choices: pd.DataFrame) -> Iterator[Claim]:
    """A warning if skip connections lead on more than half of the edges."""
    edges = leads(choices)
    led = sum(edges.values())
    if led <= MANY * len(edges):
        return
    yield make(
        "collapse",
        "recorded",
        "asserts",
        "skip connections",
        metric="chance",
        unit="share of edges",
        estimate=led / len(edges),
        fidelity=float(choices["epoch"].max()),
        side_effects={"edges": float(len(edges)), "led": float(led)},
        trial_ids=[],
        method="count of the edges on which the skip connection has the largest chance",
    )

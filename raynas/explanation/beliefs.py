"""What decided between options during a search, and how its chances changed (recorded)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from raynas.architecture import option_text
from raynas.explanation.claims import Claim
from raynas.explanation.designs import Make
from raynas.space import Space

ENDS = 0.1  # the share of a policy's proposals that are its beginning, and its end
SURE = 0.5  # a final chance from which something is believed


def of_choices(make: Make, choices: pd.DataFrame) -> Iterator[Claim]:
    """What shared weights that decide while they are trained (`SearchResult.choices`) came to."""
    ends = choices["epoch"].min(), choices["epoch"].max()
    for decision, rows in choices.groupby("decision", sort=False):
        first, last = (rows[rows["epoch"] == epoch].set_index("option")["chance"] for epoch in ends)
        favourite = str(last.idxmax())
        chances = float(first.get(favourite, np.nan)), float(last[favourite])
        alternatives = [{"value": str(o), "estimate": float(p)} for o, p in last.items()]
        method = f"chances after epochs {ends[0]} and {ends[1]} of shared training"
        yield _belief(make, str(decision), favourite, chances, alternatives, method)


def of_policy(make: Make, proposals: pd.DataFrame, space: Space) -> Iterator[Claim]:
    """What a controller came to, by its chances in the first and the last tenth of proposals.

    Args:
        proposals: of the latest search without a change of what may be proposed in between.
        space: that they were drawn from.
    """
    rows: dict[str, list[tuple[int, Sequence[float]]]] = {}
    for number, chances in zip(proposals["number"], proposals["chances"], strict=True):
        for name, each in dict(chances if chances is not None else {}).items():
            rows.setdefault(name, []).append((int(number), each))
    for d in space.decisions:
        found = sorted(rows.get(d.name, ()), key=lambda row: row[0])
        if len(found) < 2 or any(len(each) != len(d.options) for _, each in found):
            continue
        table = np.array([list(each) for _, each in found], dtype=float)
        some = max(1, round(ENDS * len(table)))
        first, last = table[:some].mean(axis=0), table[-some:].mean(axis=0)
        best = int(last.argmax())
        pairs = zip(d.options, last, strict=True)
        alternatives = [{"value": option_text(o), "estimate": float(p)} for o, p in pairs]
        chances = float(first[best]), float(last[best])
        method = f"mean chances over the first and last {some} proposals of the controller"
        favourite = option_text(d.options[best])
        ids = [number for number, _ in found]
        yield _belief(make, d.name, favourite, chances, alternatives, method, ids)


def _belief(
    make: Make,
    decision: str,
    favourite: str,
    chances: tuple[float, float],
    alternatives: Sequence[Mapping[str, object]],
    method: str,
    proposals: Sequence[int] = (),
) -> Claim:
    first, last = chances
    return make(
        "belief",
        "recorded",
        "asserts" if last >= SURE else "open",
        f"{decision}={favourite} believed best",
        path=decision,
        chosen=favourite,
        unit="share",
        estimate=last,
        alternatives=alternatives,
        side_effects={} if np.isnan(first) else {"first": first},
        family="beliefs",
        n_trials=len(proposals),
        trial_ids=[],
        proposal_ids=list(proposals),
        method=method,
    )

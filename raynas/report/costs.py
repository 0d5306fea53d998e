"""What the report says of costs that depend on a device: the estimates beside measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from raynas.explanation.sentences import value
from raynas.measured import beyond, sentences
from raynas.objective import TOLD
from raynas.result import SearchResult

MOST_ROWS = 50
LEAD = {
    "latency_ms": "latency: milliseconds to classify one image, one at a time",
    "peak_memory_mb": "peak memory: 10^6 bytes that one pass of one image holds at once, "
    "weights included; measured with what kernels take for themselves",
    "model_size_kb": "model size: 10^3 bytes of the file with the weights as they are stored",
}


@dataclass(frozen=True)
class Costs:
    """One section: sentences, what the costs are, and a table of the front."""

    said: Sequence[str]
    lead: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    broken: Mapping[str, bool]  # by trial: whether it breaks a hard limit when measured
    left_out: int


def costs(result: SearchResult) -> Costs | None:
    """The section; None where no such cost was asked for."""
    info, found = result.info, result.measured
    asked = {o.name for o in info.objectives} | {c.metric for c in info.constraints}
    if not (asked & set(TOLD)) and not info.settings.get("latency"):
        return None
    names = [n for n in TOLD if n in set(found["metric"])]
    order = [int(n) for n in result.front()["number"] if n in set(found["number"])]
    cells = found.set_index(["number", "metric"])[["estimate", "measured"]].T
    rows = []
    for number in order[:MOST_ROWS]:
        row = [str(number)]
        for name in names:
            guess, real = cells[number, name].astype(float).tolist()
            off = "" if pd.isna(real) else f"{100 * (guess - real) / real:+.1f} %"
            row += [value(guess, name), "–" if pd.isna(real) else value(real, name), off]
        rows.append(row)
    broken = {str(n): bool(beyond(found[found["number"] == n], info.constraints)) for n in order}
    titles = [f"{n.replace('_', ' ')}, {w}" for n in names for w in ("estimate", "measured")]
    columns = ["trial"]
    for i in range(0, len(titles), 2):
        columns += [*titles[i : i + 2], "estimate off by"]
    said = sentences(found, info)
    if not len(found):
        said = ["The front was not measured end to end: the search has not come to its end.", *said]
    return Costs(
        said,
        [LEAD[n] for n in names],
        columns,
        rows,
        broken,
        max(0, len(order) - MOST_ROWS),
    )

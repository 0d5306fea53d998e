"""Which readings of a run claims rest on, and the response surface through them.

Designs are read at the last epoch that enough of them reached. Where a scheduler stopped many
before, those are not lost: a surface of its own through what nearly all had reached by then says
of every design how it began, and the surface at the later epoch learns what that is worth there
(an autoregressive model of two fidelities: Kennedy & O'Hagan 2000, doi:10.1093/biomet/87.1.1).
Readings of different epochs are never taken for one another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from raynas.architecture import Architecture
from raynas.explanation.surface import Surface, fit
from raynas.objective import Objective
from raynas.space import Space

MOST = 1000  # trials that enter the model; more are thinned evenly
FEWEST, SHARE = 16, 0.25  # readings at the later epoch, as a number and of all
ENOUGH = 2  # fresh readings of a design that replace the one for which it was chosen
NEARLY_ALL = 0.9  # of the evaluated designs (a tenth may be cut off by the end of the search)


@dataclass(frozen=True)
class Readings:
    """The readings of one metric.

    Attributes:
        fidelity: epochs after which they were read; 0 for scores and costs.
        rows: the trials read, with their `value`.
        before: readings of more trials at an earlier epoch, if that says more.
    """

    fidelity: int
    rows: pd.DataFrame
    before: Readings | None = None

    def surface(
        self,
        space: Space,
        nothing: float | None = None,
        bounds: tuple[float, float] = (-np.inf, np.inf),
    ) -> Surface | None:
        """The posterior over the metric of every design; None where there are too few readings.

        Args:
            nothing: what a network reads that computes nothing, if that is known.
            bounds: what the metric may be.
        """
        earlier = None if self.before is None else self.before.surface(space, nothing, bounds)
        extra = None if earlier is None else earlier.mean
        values = self.rows["value"].to_numpy()
        return fit(space, self.designs, values, extra=extra, nothing=nothing, bounds=bounds)

    @property
    def designs(self) -> list[Architecture]:
        """Of each reading, in order."""
        return [Architecture.parse(text) for text in self.rows["architecture"]]


def readings(usable: pd.DataFrame, objective: Objective, space: Space) -> Readings:
    """The readings of an objective among trials that have some, of designs of the space."""
    if not len(usable) or f"m.{objective.name}" not in usable:
        return Readings(0, usable.assign(value=[]).iloc[:0])
    usable = _unselected(usable[[_belongs(space, text) for text in usable["architecture"]]])
    if not len(usable):
        return Readings(0, usable.assign(value=[]))
    early = int(usable["fidelity"].quantile(1 - NEARLY_ALL, interpolation="lower"))
    begun = _at(usable, objective, early)
    if f"c.{objective.name}" not in usable or not early:  # a cost, or no curve
        return begun
    enough = max(FEWEST, round(SHARE * len(usable)))
    reached = usable["fidelity"].sort_values(ascending=False)
    late = int(reached.iloc[enough - 1]) if len(reached) >= enough else early
    return begun if late <= early else _at(usable, objective, late, begun)


def _belongs(space: Space, text: str) -> bool:
    """Whether a design is one of the space, which may have been narrowed since it was tried."""
    choices = Architecture.parse(text).choices
    return all(n in space.by_name and o in space.by_name[n].options for n, o in choices)


def _unselected(usable: pd.DataFrame) -> pd.DataFrame:
    """Without the readings for which designs were chosen, where fresh ones stand in for them.

    The best of many readings was lucky too: it would lift every comparison with that design.
    """
    fresh = usable["architecture"][usable["purpose"] == "confirm"].value_counts()
    again = usable["architecture"].isin(fresh.index[fresh >= ENOUGH])
    kept: pd.DataFrame = usable[~(again & (usable["purpose"] == "search"))]
    return kept


def _at(
    usable: pd.DataFrame, objective: Objective, epoch: int, before: Readings | None = None
) -> Readings:
    curve = f"c.{objective.name}"
    if curve in usable and epoch:
        read = [
            c[epoch - 1] if c is not None and len(c) >= epoch else np.nan for c in usable[curve]
        ]
    else:
        read = list(usable[f"m.{objective.name}"])
    rows = usable.assign(value=np.array(read, dtype=float)).dropna(subset=["value"])
    return Readings(epoch, rows.iloc[evenly(len(rows))], before)


def evenly(count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Which of `count` readings enter the model."""
    return np.unique(np.linspace(0, count - 1, min(MOST, count)).astype(np.int64))

"""What to change of a design: the cheapest saving of a cost, and the best edit not tried yet.

Edits that save enough are ranked by a pessimistic loss, the 80 % quantile of the draws: the mean
would prefer what the archive knows least of. Costs are exact; only the metric is estimated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from raynas.architecture import Architecture, option_text
from raynas.explanation.claims import Claim
from raynas.explanation.pool import Answer, Draw, Make, answer, edited, verdict
from raynas.objective import Array, Objective
from raynas.space import Space

SAVED = 0.2  # of a cost, at least
CAUTION = 0.8  # quantile of the loss that edits are ranked by

Costs = Callable[[Architecture], Mapping[str, float]]


@dataclass(frozen=True)
class Edit:
    """One change of a design.

    Attributes:
        name, now, proposed: the decision and its options.
        made: the design after it.
        change: draws of the metric, proposed less now `[S]`.
        ratios: of every cost, new by old.
    """

    name: str
    now: str
    proposed: str
    made: Architecture
    change: Array
    ratios: Mapping[str, float]

    @property
    def answer(self) -> Answer:
        """The change of the metric if one follows it."""
        return answer(self.change)

    def pessimistic(self, objective: Objective) -> float:
        """The loss that it stays below with a chance of `CAUTION`; smaller is better."""
        sign = 1.0 if objective.direction == "min" else -1.0
        return float(np.quantile(sign * self.change, CAUTION))

    def exchange_rate(self, cost: str) -> float:
        """Change of the metric for every tenth of a cost that is saved; 0 if nothing is."""
        tenths = math.log(self.ratios[cost]) / math.log(0.9) if self.ratios[cost] > 0 else math.inf
        return float(self.change.mean() / tenths) if tenths > 0 else 0.0


def edits(
    space: Space,
    design: Architecture,
    draw: Draw,
    costs: Costs | None = None,
    allowed: Callable[[Architecture], bool] | None = None,
) -> list[Edit]:
    """Every design one edit away that is another network, with what the edit changes."""
    made = [(n, o, edited(space, design, n, o)) for n, o in space.edits(design)]
    itself = space.identity(design)
    made = [
        m for m in made if space.identity(m[2]) != itself and (allowed is None or allowed(m[2]))
    ]
    if not made:
        return []
    values = draw([design, *(other for _, _, other in made)])
    before = costs(design) if costs else {}
    found = []
    for i, (name, option, other) in enumerate(made, start=1):
        after = costs(other) if costs else {}
        ratios = {c: after[c] / before[c] for c in before if before[c] > 0 and c in after}
        now, proposed = option_text(design[name]), option_text(option)
        found.append(Edit(name, now, proposed, other, values[:, i] - values[:, 0], ratios))
    return found


def savings(
    found: Sequence[Edit], cost: str, objective: Objective, least: float = SAVED
) -> list[Edit]:
    """The edits that save at least a share of a cost, the one with the least pessimistic loss
    first."""
    saving = [e for e in found if e.ratios.get(cost, 1.0) <= 1 - least]
    return sorted(saving, key=lambda e: e.pessimistic(objective))


def best_untried(
    found: Sequence[Edit], tried: Collection[str], space: Space, objective: Objective
) -> Edit | None:
    """The edit that promises most among those whose network was not evaluated.

    Args:
        tried: `Space.identity` of the designs evaluated.
    """
    sign = 1.0 if objective.direction == "max" else -1.0
    fresh = [e for e in found if space.identity(e.made) not in tried]
    return max(fresh, key=lambda e: sign * float(e.change.mean()), default=None)


def claims(
    make: Make,
    objective: Objective,
    space: Space,
    trial: int,
    found: Sequence[Edit],
    tried: Collection[str],
    least: float = SAVED,
) -> Iterator[Claim]:
    """The most careful saving of every cost, and the best untried edit."""
    costs = dict.fromkeys(name for edit in found for name in edit.ratios)
    for cost in costs:
        if saving := savings(found, cost, objective, least):
            rate = {f"per tenth of {cost}": saving[0].exchange_rate(cost)}
            yield _claim(make, trial, saving[0], f"saving {cost}", "saving", len(saving), rate)
    if (edit := best_untried(found, tried, space, objective)) is not None:
        yield _claim(make, trial, edit, "best untried edit", "best untried edit", len(found), {})


def _claim(
    make: Make,
    trial: int,
    edit: Edit,
    what: str,
    family: str,
    size: int,
    rate: Mapping[str, float],
) -> Claim:
    said = edit.answer
    return make(
        "advice",
        "estimated",
        verdict(said.wrong, size),
        f"{what} of trial {trial}: {edit.name}={edit.proposed} instead of {edit.now}",
        trial=trial,
        path=edit.name,
        chosen=edit.now,
        alternative=edit.proposed,
        family=family,
        family_size=size,
        scope={"type": "design", "predicate": str(edit.made), "n_in_scope": 1},
        side_effects={**edit.ratios, **rate},
        method="80 % pessimistic change over draws of the response surface"
        if family == "saving"
        else "mean change over draws of the response surface",
        **said.fields(),
    )

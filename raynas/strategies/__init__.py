"""Search strategies: pure ask/tell objects. To add one: write its file, add its row."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from raynas.errors import unknown
from raynas.named import settings_in
from raynas.objective import Constraint, Objective
from raynas.space import Space
from raynas.strategies.base import SpaceExhausted, Strategy

__all__ = ["STRATEGIES", "Row", "SpaceExhausted", "Strategy", "make"]

GIVEN = ("space", "objectives", "constraints", "trials")  # what a search tells a strategy


@dataclass(frozen=True)
class Row:
    """A strategy in the table.

    Attributes:
        path: `module:Class` within this package; imported when it is used, for some are heavy.
        good_for, needs, reference: what a person reads before choosing.
    """

    path: str
    good_for: str
    needs: str
    reference: str

    def load(self) -> Any:
        """The class: a dataclass whose first fields are the space and the objectives."""
        module, _, name = self.path.partition(":")
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)

    def settings(self) -> Mapping[str, Any]:
        """What can be set, with defaults."""
        return {
            f.name: f.default
            for f in fields(self.load())
            if f.init and f.name not in GIVEN and f.default is not MISSING
        }


STRATEGIES: dict[str, Row] = {
    "evolution": Row(
        "evolution:RegularizedEvolution",
        "a robust default for any space; finds good designs soon after its first population",
        "nothing; some ten trials before it is better than random",
        "Real et al. 2019, arXiv:1802.01548",
    ),
    "random": Row(
        "random_search:RandomSearch",
        "unbiased archives, and the baseline that any other must beat",
        "nothing",
        "Bergstra & Bengio 2012; Li & Talwalkar 2019, arXiv:1902.07638",
    ),
}


def make(
    text: str,
    space: Space,
    objectives: tuple[Objective, ...],
    constraints: tuple[Constraint, ...] = (),
    trials: int | None = None,
) -> Strategy:
    """A strategy by its name, with settings by option: `evolution:population=50,tournament=5`.

    Args:
        trials: how many the search may make, as far as that is known.

    Raises:
        UserError: there is none of this name, or it has no such setting.
    """
    name = text.partition(":")[0]
    if name not in STRATEGIES:
        raise unknown("strategy", name, sorted(STRATEGIES))
    row = STRATEGIES[name]
    strategy = row.load()
    given = {"constraints": constraints, "trials": trials}
    wanted = {f.name for f in fields(strategy) if f.init}
    told = {key: value for key, value in given.items() if key in wanted}
    made: Strategy = strategy(
        space, objectives, **told, **settings_in("strategy", text, row.settings())
    )
    return made

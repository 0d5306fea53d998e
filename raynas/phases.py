"""What a search by scores does one after the other, in one run.

Where weights are shared, they are trained (a trial with the purpose `supernet`). Designs are
proposed and scored (`search`), by them or by a proxy; then the best few are trained alone
(`confirm`), and some from the whole ranking (`uniform_probe`), by which one can tell what the
scores are worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from raynas.architecture import Architecture, Option
from raynas.errors import UserError, unknown
from raynas.mapping import before
from raynas.objective import Constraint, Objective, figure
from raynas.recipe import USUAL
from raynas.run import RunInfo
from raynas.screening import Screening
from raynas.session import Evaluator
from raynas.space import Space
from raynas.strategies import STRATEGIES, SpaceExhausted
from raynas.strategies.standing import standings
from raynas.trial import Proposal, Purpose, Reason, Trial

SUPERNET: frozenset[Purpose] = frozenset({"supernet"})
SEARCH: frozenset[Purpose] = frozenset({"search"})
TRAINED: frozenset[Purpose] = frozenset({"confirm", "uniform_probe"})
KINDS = ("auto", "train", "shared", "proxy", "table")
DRAWN = 100  # designs that a one-shot strategy is asked for, at most
LONGER = 4  # times the epochs of a design alone: each step trains one path of many
SHARES = {"supernet": 0.5, "search": 0.7}  # of the time budget that is used up by their end
BY_PROXY = 0.4  # likewise, by the end of scoring where no weights are trained


def resolved(evaluation: str, strategy: str) -> str:
    """What `auto` means for a strategy; anything else as it was given.

    Raises:
        UserError: there is no such evaluation, or the strategy needs another.
    """
    kind = evaluation.partition(":")[0]
    if kind not in KINDS:
        raise unknown("evaluation", kind, list(KINDS))
    name = strategy.partition(":")[0]
    trains_weights = name in STRATEGIES and STRATEGIES[name].one_shot
    if kind == "auto":
        return "shared" if trains_weights else "train"
    if trains_weights and kind != "shared":
        raise UserError(
            f"the strategy {name} trains shared weights: expected evaluation shared (or auto); "
            f"got {kind}."
        )
    return evaluation


@dataclass
class Fixed:
    """A strategy that has nothing to propose beyond what a session begins with."""

    what: str

    def ask(self, rng: np.random.Generator, pending: Sequence[Architecture]) -> Proposal:
        del rng, pending
        raise SpaceExhausted(f"all {self.what} have been tried.")

    def tell(self, trial: Trial) -> None:
        """Nothing to learn."""


def stand_in(architecture: Architecture) -> Proposal:
    """The job of training the weights that all designs share."""
    note = "trains the weights that all designs share; this design stands in for them"
    return Proposal(architecture, Reason("derived", note), purpose="supernet")


def to_train(trials: Sequence[Trial], info: RunInfo, settings: Screening) -> list[Proposal]:
    """The designs to train alone: the best by their scores, then some of the whole ranking.

    The best are those of the first fronts, the least crowded first; with one objective, the best.
    The others are spread evenly over the ranking by the first objective.
    """
    objectives = info.searched
    scored = [t for t in trials if t.status == "finished" and t.purpose == "search"]
    places = standings(scored, objectives)
    order = sorted(range(len(scored)), key=lambda i: (-places[i], scored[i].number))
    best = [scored[i] for i in order[: settings.finalists]]
    taken = {trial.number for trial in best}
    rest = sorted(
        (t for t in scored if t.number not in taken),
        key=lambda t: (objectives[0].loss(t.metrics[objectives[0].name]), t.number),
    )
    few = np.linspace(0, len(rest) - 1, min(settings.probes, len(rest))).round().astype(int)
    spread = dict.fromkeys(few.tolist())
    confirm = f"was among the best by {settings.by}: is trained alone to confirm it"
    probe = "stands for its part of the ranking: is trained alone to test the scores"
    return [
        *(_alone(trial, objectives[0], "confirm", confirm) for trial in best),
        *(_alone(rest[i], objectives[0], "uniform_probe", probe) for i in spread),
    ]


def _alone(trial: Trial, objective: Objective, purpose: Purpose, why: str) -> Proposal:
    scores: Mapping[str, Any] = {objective.name: trial.metrics[objective.name]}
    reason = Reason("derived", why, (trial.number,), scores=scores)
    return Proposal(trial.architecture, reason, purpose=purpose)


def breaks(
    evaluator: Evaluator, constraints: Sequence[Constraint], architecture: Architecture
) -> str:
    """Which limits a design breaks; '' for none, and for what only training tells."""
    try:
        costs = evaluator.costs(architecture)
    except Exception as error:  # it cannot be built: so its trial would say
        return str(error)
    known = [c for c in constraints if c.metric in costs and not c.holds(costs)]
    return "; ".join(f"{c.metric} {figure(costs[c.metric])} breaks {c}" for c in known)


def starts(info: RunInfo) -> list[Proposal]:
    """The designs that a search was asked to begin with."""
    had = before(info.said)
    return [start(info.space, text, had) for text in info.settings["start_from"]]


def start(space: Space, text: str, had: Mapping[str, Option] = MappingProxyType({})) -> Proposal:
    """A design to begin with: a published one by name, or any by its text.

    Where the space asks for the training too and the design does not say, it is the usual one.

    Args:
        had: what designs had of decisions that were added since, likewise.
    """
    if text in space.known:
        known = space.known[text]
        options, wanted = known.options, f"begins with {text} ({known.source})"
    elif "{" in text:
        options, wanted = Architecture.parse(text).options, "begins with this design, as asked"
        if (named := Architecture.parse(text).space) != space.name:
            raise UserError(f"--start-from: expected a design of {space.name}; got one of {named}.")
    else:
        raise unknown(f"known design of {space.name}", text, list(space.known))
    usual = {n: option for n, option in {**USUAL, **had}.items() if n in space.by_name}
    return Proposal(space.architecture({**usual, **options}), Reason("engineer", wanted))

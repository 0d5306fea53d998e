"""What a search with shared weights does one after the other, in one run.

The weights are trained (a trial with the purpose `supernet`); designs are proposed and scored by
them (`search`); then the best few are trained alone (`confirm`), and some from the whole ranking
(`uniform_probe`), by which one can tell what the scores are worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from raynas.architecture import Architecture
from raynas.errors import UserError, unknown
from raynas.named import settings_in
from raynas.objective import Objective
from raynas.run import RunInfo
from raynas.strategies import STRATEGIES, SpaceExhausted
from raynas.strategies.standing import standings
from raynas.trial import Proposal, Purpose, Reason, Trial

SUPERNET: frozenset[Purpose] = frozenset({"supernet"})
SEARCH: frozenset[Purpose] = frozenset({"search"})
TRAINED: frozenset[Purpose] = frozenset({"confirm", "uniform_probe"})
KINDS = ("auto", "train", "shared", "table")
DRAWN = 100  # designs that a one-shot strategy is asked for, at most
LONGER = 4  # times the epochs of a design alone: each step trains one path of many
SHARES = {"supernet": 0.5, "search": 0.7}  # of the time budget that is used up by their end


@dataclass(frozen=True)
class Shared:
    """Settings of an evaluation by shared weights.

    Attributes:
        rule: which paths a step trains, where the strategy does not say: `uniform`, `fair`,
            `sandwich` or `progressive` (see `raynas.supernet.paths`).
        epochs: of the shared training; 0 means four times those of a design alone.
        finalists: how many of the best are trained alone.
        probes: how many others, spread over the ranking.
        inherit: whether those begin with the shared weights instead of new ones.
        weights: a file of weights to take as they are (`RUN/supernet/weights.safetensors`).
    """

    rule: str = "uniform"
    epochs: int = 0
    finalists: int = 5
    probes: int = 5
    inherit: bool = False
    weights: str = ""

    names: ClassVar[tuple[str, ...]] = (
        "rule",
        "epochs",
        "finalists",
        "probes",
        "inherit",
        "weights",
    )

    @classmethod
    def of(cls, text: str) -> Shared:
        """Reads `shared:rule=fair,epochs=60`.

        Raises:
            UserError: there is no such setting, or no design would be trained.
        """
        known = {name: getattr(cls, name) for name in cls.names}
        made = cls(**settings_in("evaluation", text, known))
        if made.finalists < 1 or made.probes < 0:
            raise UserError(
                f"evaluation {text}: expected finalists of 1 or more and probes of 0 or more, so "
                "that some design is trained."
            )
        return made


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


def to_train(trials: Sequence[Trial], info: RunInfo, settings: Shared) -> list[Proposal]:
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
    return [
        *(_alone(trial, objectives[0], "confirm") for trial in best),
        *(_alone(rest[i], objectives[0], "uniform_probe") for i in dict.fromkeys(few.tolist())),
    ]


def _alone(trial: Trial, objective: Objective, purpose: Purpose) -> Proposal:
    why = {
        "confirm": "was among the best by shared weights: is trained alone to confirm it",
        "uniform_probe": "stands for its part of the ranking: is trained alone to test the scores",
    }[purpose]
    scores: Mapping[str, Any] = {objective.name: trial.metrics[objective.name]}
    reason = Reason("derived", why, (trial.number,), scores=scores)
    return Proposal(trial.architecture, reason, purpose=purpose)

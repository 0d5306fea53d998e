"""Strategies scored on the table: a search asks and tells as always, the table answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from raynas.benchmark import Replayed, Trained
from raynas.objective import Objective
from raynas.session import Context, Session, carry_out
from raynas.strategies import PROPOSING, STRATEGIES, SpaceExhausted, make
from raynas.trial import Job, Trial

ACCURACY = Objective("accuracy", "max")
USUAL = tuple(  # what needs no torch, so that the scores are there in seconds
    name for name in PROPOSING if not (STRATEGIES[name].controller or STRATEGIES[name].scales)
)
SHARES = (0.25, 0.5, 1.0)  # of the evaluations, at which the best so far is looked at


@dataclass
class Forgetful:
    """An archive that keeps nothing."""

    def propose(self, job: Job) -> None: ...

    def record(self, trial: Trial, weights: bytes | None = None) -> None: ...

    def wants_weights(self, trial: Trial) -> bool:
        del trial
        return False


@dataclass(frozen=True)
class Reading:
    """One evaluation of a replayed search.

    Attributes:
        place: the design's, in the table.
        seed: which of its trainings was read.
        value: what it read.
    """

    place: int
    seed: int
    value: float


def search(
    trained: Trained,
    strategy: str,
    evaluations: int,
    seed: int,
    objectives: tuple[Objective, ...] = (ACCURACY,),
) -> list[Reading]:
    """A search by one strategy, evaluation after evaluation; shorter if the space is exhausted."""
    return list(_replay(trained, strategy, evaluations, seed, objectives))


def _replay(
    trained: Trained, strategy: str, evaluations: int, seed: int, objectives: tuple[Objective, ...]
) -> Iterator[Reading]:
    evaluator = Replayed(trained)
    made = make(strategy, trained.space, objectives, trials=evaluations)
    session = Session(trained.space, made, objectives, Forgetful(), evaluator.costs, seed=seed)
    for _ in range(evaluations):
        try:
            job = session.ask()
        except SpaceExhausted:
            return
        *_, (trial, _) = carry_out(job, evaluator, objectives, Context(job.seed))
        session.tell(trial)
        place = trained.place[str(trial.architecture)]
        yield Reading(place, evaluator.drawn(job.seed), trial.metrics["accuracy"])


def scores(
    trained: Trained, strategy: str, seeds: Sequence[int], evaluations: int = 100
) -> pd.DataFrame:
    """How good the designs are that a strategy finds, one row per seed of the search.

    Columns: `at N`, the truth of the design with the best reading among the first N evaluations;
    `regret`, how much the best of the table reaches more; `excess`, how much the best reading
    promised more than that truth (the winner's curse). All in percentage points. The truth is the
    mean of the trainings that the search did not read.
    """
    rows = []
    for seed in seeds:
        found = search(trained, strategy, evaluations, seed)
        row: dict[str, Any] = {}
        for count in checkpoints(evaluations):
            best = max(found[:count], key=lambda reading: reading.value)
            level = float(trained.others(best.place, best.seed))
            row[f"at {count}"] = 100 * level
        rows.append(
            row | {"regret": 100 * (trained.best - level), "excess": 100 * (best.value - level)}
        )
    return pd.DataFrame(rows)


def checkpoints(evaluations: int) -> list[int]:
    """After how many evaluations the best so far is looked at."""
    return sorted({max(round(share * evaluations), 1) for share in SHARES})

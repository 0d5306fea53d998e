"""The parts of a search, each a session of its own over one archive.

Where each design is trained, there is one part; with shared weights there are three
(`raynas.phases`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from raynas import tables, warm_start
from raynas.architecture import Architecture
from raynas.errors import UserError, unknown
from raynas.evaluation import TrainingEvaluator
from raynas.named import settings_in
from raynas.objective import Objective
from raynas.one_shot import (
    WEIGHTS,
    SharedEvaluator,
    SupernetEvaluator,
    log_in,
    shorter,
    weights_in,
)
from raynas.phases import (
    DRAWN,
    LONGER,
    SEARCH,
    SHARES,
    SUPERNET,
    TRAINED,
    Fixed,
    Shared,
    stand_in,
    to_train,
)
from raynas.recipe import USUAL
from raynas.run import RunInfo, read
from raynas.session import Evaluator, Session
from raynas.space import Space
from raynas.strategies import STRATEGIES, Row, make
from raynas.tables import COUNTS
from raynas.trial import Proposal, Purpose, Reason, Trial


@dataclass(frozen=True)
class Stage:
    """A part of a search: what is asked, who measures, how many designs are left, until when."""

    session: Session
    evaluator: Evaluator
    settings: Mapping[str, Any]
    trials: int
    deadline: float
    title: str = ""

    def run(self, driver: Any, archive: Any) -> str:
        """Why it ended before all trials were handed out; '' if it did not."""
        rest = (archive, self.settings, self.trials, self.deadline)
        ended: str = driver.run(self.session, self.evaluator, *rest)
        return "" if isinstance(self.session.strategy, Fixed) else ended


def stages(
    folder: Path,
    info: RunInfo,
    evaluator: Evaluator,
    archive: Any,
    driver: Any,
    trials: int,
    seconds: float | None,
) -> Iterator[Stage]:
    """What is left to do, each part made when the one before it is done.

    Args:
        trials: designs to propose in all, those of earlier parts of the run included.
        seconds: that are left.
    """
    begun, limit = time.monotonic(), np.inf if seconds is None else seconds
    if not info.shared:
        session, left = _search(folder, info, evaluator, archive, driver, trials)
        if left > 0:
            yield Stage(session, evaluator, info.settings, left, begun + limit)
        return
    assert isinstance(evaluator, TrainingEvaluator), "shared weights are trained on images"
    from raynas.supernet.paths import Paths

    shared, (strategy, row) = Shared.of(info.settings["evaluation"]), _strategy(info)
    untouched = {**info.settings, "scheduler": "none", "trial_timeout": None}
    if not _weights_trained(folder, info):
        until = begun + SHARES["supernet"] * limit
        settings = settings_in("strategy", strategy, row.settings()) if row.one_shot else {}
        trainer = SupernetEvaluator(
            shorter(evaluator, shared.epochs or LONGER * evaluator.epochs),
            row.load()(**settings) if row.one_shot else Paths(shared.rule),
            min(trials, DRAWN),
            None if seconds is None else until - time.monotonic(),
            Path(shared.weights).read_bytes() if shared.weights else None,
        )
        first = stand_in(info.space.answer(lambda d: d.options[-1]))
        session = _fixed(folder, info, [first], SUPERNET, archive, trainer)
        alone = {**untouched, **driver.whole_node(info.settings)}
        title = f"1 of 3: training weights that all designs share, {trainer.epochs} epochs"
        yield Stage(session, trainer, alone, 1, until, title)
        if not _weights_trained(folder, info):
            failed = [t.error or "" for t in _trials(folder, info, SUPERNET)]
            why = failed[-1].splitlines()[0] if failed else "the time was up before an epoch ended"
            raise UserError(f"the shared weights could not be trained: {why}")
    weights = weights_in(archive.cached(WEIGHTS))
    scorer = SharedEvaluator(evaluator, weights)
    if row.one_shot:
        designs = log_in(archive)[1]
        starts = [*_starts(info), *designs]
        session = _fixed(folder, info, starts, SEARCH, archive, scorer)
        left = min(trials, len(starts)) - _evaluated(session)
    else:
        session, left = _search(folder, info, scorer, archive, driver, trials)
    if left > 0:
        until = begun + SHARES["search"] * limit
        title = f"2 of 3: scoring up to {left:,} designs by the shared weights"
        yield Stage(session, scorer, info.settings, left, until, title)
    finals = to_train(_trials(folder, info, SEARCH), info, shared)
    final = replace(evaluator, inherited=weights) if shared.inherit else evaluator
    session = _fixed(folder, info, finals, TRAINED, archive, final)
    if (left := len(finals) - _evaluated(session)) > 0:
        title = f"3 of 3: training {left} designs alone"
        yield Stage(session, final, untouched, left, begun + limit, title)


def _search(
    folder: Path,
    info: RunInfo,
    evaluator: Evaluator,
    archive: Any,
    driver: Any,
    trials: int,
) -> tuple[Session, int]:
    """The session in which the strategy proposes, and how many designs are left to propose."""
    earlier = warm_start.kept(folder)
    name = info.settings["strategy"]
    constraints = info.constraints
    if info.shared:  # what is known without training alone
        constraints = tuple(c for c in constraints if c.metric in COUNTS)
    made = partial(
        make,
        name,
        info.space,
        info.searched,
        constraints,
        info.settings["trials"] if info.settings["seconds"] is None else None,
        earlier,
    )
    session = Session(
        info.space,
        driver.strategy(made, name, archive),
        info.searched,
        archive,
        evaluator.costs,
        constraints,
        info.settings["seed"],
        starts=[*_starts(info), *warm_start.first(earlier, info.objectives)],
    )
    _replay(session, folder, info, SEARCH)
    return session, trials - _evaluated(session)


def _fixed(
    folder: Path,
    info: RunInfo,
    designs: Sequence[Proposal],
    purposes: frozenset[Purpose],
    archive: Any,
    evaluator: Evaluator,
) -> Session:
    """The session that tries these designs and no others."""
    objectives = {SUPERNET: (Objective("sampled_accuracy", "max"),), SEARCH: info.searched}
    session = Session(
        info.space,
        Fixed("designs of this search"),
        objectives.get(purposes, info.objectives),
        archive,
        evaluator.costs,
        tuple(c for c in info.constraints if c.metric in COUNTS) if purposes == SEARCH else (),
        info.settings["seed"],
        starts=designs,
    )
    _replay(session, folder, info, purposes)
    return session


def _replay(session: Session, folder: Path, info: RunInfo, purposes: frozenset[Purpose]) -> None:
    contents = read(folder, info.space)
    jobs = [j for j in tables.jobs_from(contents.proposals) if j.purpose in purposes]
    trials = [t for t in tables.trials_from(contents.trials) if t.purpose in purposes]
    numbers = contents.proposals["number"].to_pylist() + contents.trials["number"].to_pylist()
    session.resume(jobs, trials, max(numbers, default=-1) + 1)


def _trials(folder: Path, info: RunInfo, purposes: frozenset[Purpose]) -> list[Trial]:
    found = tables.trials_from(read(folder, info.space).trials)
    return [trial for trial in found if trial.purpose in purposes]


def _weights_trained(folder: Path, info: RunInfo) -> bool:
    return any(trial.usable for trial in _trials(folder, info, SUPERNET))


def _starts(info: RunInfo) -> list[Proposal]:
    return [start(info.space, text) for text in info.settings["start_from"]]


def _strategy(info: RunInfo) -> tuple[str, Row]:
    text = info.settings["strategy"]
    return text, STRATEGIES[text.partition(":")[0]]


def _evaluated(session: Session) -> int:
    return sum(n for status, n in session.learned.items() if status != "infeasible")


def start(space: Space, text: str) -> Proposal:
    """A design to begin with: a published one by name, or any by its text.

    Where the space asks for the training too and the design does not say, it is the usual one.
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
    usual = {name: option for name, option in USUAL.items() if name in space.by_name}
    return Proposal(space.architecture({**usual, **options}), Reason("engineer", wanted))

"""Runs a prepared search to its end, however it ends, and explains it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raynas import tables, warm_start
from raynas.architecture import Architecture
from raynas.archive import Archive
from raynas.errors import UserError, unknown
from raynas.evaluation import TrainingEvaluator, resolve_device
from raynas.recipe import USUAL
from raynas.report import write_report
from raynas.result import SearchResult
from raynas.run import RunInfo, read
from raynas.session import Context, Evaluator, Session, describe, run_local
from raynas.space import Space
from raynas.strategies import Strategy, make
from raynas.trial import Proposal, Reason, Trial

if TYPE_CHECKING:
    from raynas.progress import Display


def carry_on(
    folder: Path,
    info: RunInfo,
    evaluator: Evaluator,
    trials: int,
    seconds: float | None,
    address: str | None,
    display: Display | None,
    new: bool,
    earlier: Sequence[Trial] = (),
) -> SearchResult:
    """Runs a session over what the run holds already; explains it at the end, however it ends.

    Args:
        earlier: trials of other runs that a new one begins with.
    """
    with ThreadPoolExecutor(1) as pool:  # the first count imports torch: meanwhile Ray starts
        design = info.space.sample(np.random.default_rng(0))
        counting = pool.submit(evaluator.costs, design)
        driver = _LocalDriver() if info.settings["driver"] == "local" else _tune_driver(address)
        try:
            error = counting.exception()
            if isinstance(error, UserError):  # else this one design cannot be built
                raise error
            if new:
                info.write(folder)
                if earlier:
                    warm_start.write(folder, earlier, info.space)
            archive = driver.open(folder)
        except BaseException:
            driver.disconnect()
            raise
    ended, interrupted = "", False
    try:
        session = _session(folder, info, evaluator, archive, driver)
        deadline = np.inf if seconds is None else time.monotonic() + seconds
        showing: AbstractContextManager[Any] = nullcontext()
        if display is not None:
            showing = display.showing(folder, session, trials, deadline)
            for note in (*info.space.notes, *info.data.get("notes", ())) if new else ():
                display.say(note)
        with showing:
            ended = driver.run(session, evaluator, archive, info.settings, trials, deadline)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        archive.close()
        driver.disconnect()
    result = SearchResult(folder, info.space, interrupted, ended)
    try:
        result.write_claims()
        write_report(result)
    except Exception as error:  # the search is done, and its result must not be lost to its report
        result.notes.append(f"no report: {describe(error)}. `raynas report {folder}` tries again.")
    return result


class _LocalDriver:
    """One trial after another in this process."""

    def open(self, folder: Path) -> Archive:
        return Archive(folder)

    def strategy(self, make: Callable[[], Strategy], name: str, archive: Archive) -> Strategy:
        del name, archive  # any can be asked here
        return make()

    def run(
        self,
        session: Session,
        evaluator: Evaluator,
        archive: Archive,
        settings: Mapping[str, Any],
        trials: int,
        deadline: float,
    ) -> str:
        del archive  # the session records
        trains = isinstance(evaluator, TrainingEvaluator)
        device = str(resolve_device("auto")) if trains else "cpu"
        context = Context(settings["seed"], settings["cpus_per_trial"], device)
        return run_local(session, evaluator, trials, context, deadline, settings["trial_timeout"])

    def disconnect(self) -> None:
        """Nothing to let go."""


def _tune_driver(address: str | None) -> Any:
    from raynas.tune.driver import TuneDriver

    return TuneDriver(address)


def _session(
    folder: Path, info: RunInfo, evaluator: Evaluator, archive: Any, driver: Any
) -> Session:
    earlier = warm_start.kept(folder)
    name = info.settings["strategy"]
    made = partial(
        make,
        name,
        info.space,
        info.objectives,
        info.constraints,
        info.settings["trials"] if info.settings["seconds"] is None else None,
        earlier,
    )
    starts = [start(info.space, text) for text in info.settings["start_from"]]
    session = Session(
        info.space,
        driver.strategy(made, name, archive),
        info.objectives,
        archive,
        evaluator.costs,
        info.constraints,
        info.settings["seed"],
        starts=[*starts, *warm_start.first(earlier, info.objectives)],
    )
    contents = read(folder, info.space)
    session.resume(tables.jobs_from(contents.proposals), tables.trials_from(contents.trials))
    return session


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

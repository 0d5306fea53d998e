"""Runs a prepared search to its end, however it ends, and explains it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raynas import tables, targets, turns, warm_start, watching
from raynas.archive import Archive
from raynas.directives import Turn
from raynas.errors import UserError
from raynas.evaluation import (
    FunctionEvaluator,
    TableEvaluator,
    TrainingEvaluator,
    resolve_device,
)
from raynas.filling import fill_costs
from raynas.measured import measure_front
from raynas.report import write_report
from raynas.result import SearchResult
from raynas.run import Part, RunInfo, read
from raynas.session import Context, Evaluator, Session, describe, run_local
from raynas.space import Space
from raynas.stages import Parts
from raynas.strategies import Strategy
from raynas.trial import Proposal, Purpose, Trial

if TYPE_CHECKING:
    from raynas.costs import Latencies
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
    audit: int = 0,
    final: Sequence[Proposal] = (),
    opening: Turn | None = None,
) -> SearchResult:
    """Goes on with what the run holds already; explains it at the end, however it ends.

    Args:
        trials: designs to propose in all, those of earlier parts of the run included.
        seconds: that are left; None means no limit.
        earlier: trials of other runs that a new one begins with.
        audit: how many claims of a search that is done to put to the test, instead.
        final: trainings of a design that people agreed on, instead.
        opening: what people said before a new search begins.
    """
    latency, table = info.settings.get("latency"), None
    if latency and isinstance(evaluator, TrainingEvaluator):
        table = targets.ready(latency, None if new else folder)
        evaluator = evaluator if table is None else targets.told(evaluator, table)
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
                if opening is not None:
                    turns.append(folder, opening)
                    info = info.told(RunInfo.read(folder))
                if earlier:
                    warm_start.write(folder, earlier, info.space)
            if display is not None:
                said = latency["note"] if latency else ""
                notes = (*info.space.notes, *info.data.get("notes", ()))
                display.begin(folder, (*notes, f"Latency: {said}.") if said else notes, new)
            if latency and isinstance(evaluator, TrainingEvaluator):
                targets.keep(folder, latency)
                if table is None:
                    table = _measured(folder, info, evaluator, display)
                    evaluator = targets.told(evaluator, table)
            if info.said and not new:
                fill_costs(folder, info, evaluator)
            archive = driver.open(folder)
        except BaseException:
            driver.disconnect()
            raise
    ended, interrupted, any_left = "", False, False
    watching.ended(folder)  # a wish to stop that came when nothing ran is none now
    limit = np.inf if seconds is None else seconds
    try:
        with watching.Watch(archive, folder, driver.around) as watch:
            given = (folder, info, evaluator, archive, driver, trials, limit, audit, final)
            for stage in Parts(*given):
                any_left = True
                if watch.stopping:
                    break
                part = (stage.session, stage.trials, stage.deadline, stage.title)
                watch.at(*part)
                showing: AbstractContextManager[Any] = nullcontext()
                if display is not None:
                    showing = display.showing(*part)
                with showing:
                    ended = stage.run(driver, archive) or ended
            if watch.stopping:
                command = "audit" if audit else "resume"
                ended = f"it was asked to stop. To go on: raynas {command} {folder}"
    except KeyboardInterrupt:
        interrupted = True
    except BaseException:
        watching.ended(folder)
        raise
    finally:
        try:
            archive.close()
        finally:
            driver.disconnect()
    if audit and not any_left and not interrupted:
        raise UserError(
            f"{folder} makes no further claim that could be put to the test: none says which of "
            "two options is better, or all such claims were tested. Give the search more trials."
        )
    if not any_left and not interrupted:
        raise UserError(
            f"{folder} has evaluated its {trials} designs. Give more: --trials +50, say."
        )
    result = SearchResult(folder, info.space, interrupted, ended, evaluator)
    try:
        if isinstance(evaluator, TrainingEvaluator) and not interrupted:
            measure_front(result, table)
        result.write_claims()
        write_report(result)
    except Exception as error:  # the search is done, and its result must not be lost to its report
        why = error if isinstance(error, UserError) else describe(error)
        result.notes.append(f"no report: {why} `raynas report {folder}` tries again.")
    watching.ended(folder)
    return result


def further(folder: Path, info: RunInfo, more: int, seconds: float | None) -> int:
    """Begins a part of the run that is so many designs longer than what there is.

    Returns:
        How many designs there may then be in all.
    """
    contents = read(folder, info.space)
    past = tables.frame(contents.trials)
    counted = past["status"] != "infeasible"
    if info.screening is not None:
        counted &= past["purpose"] == "search"
    before = int(counted.sum())
    numbers = [*contents.trials["number"].to_pylist(), *contents.proposals["number"].to_pylist()]
    Part(max(numbers, default=-1) + 1, before, before + more, seconds).write(folder)
    return before + more


def _measured(
    folder: Path, info: RunInfo, evaluator: TrainingEvaluator, display: Display | None
) -> Latencies:
    """The run's own latency table, measured now; said and shown."""
    device, data = info.settings["latency"]["device"], evaluator.data
    title = f"measuring how long the operations of {info.space.name} take on {device}"
    showing: AbstractContextManager[Any] = nullcontext()
    if display is not None:
        showing = display.counting(title)
    given = (folder, info.settings["latency"], evaluator.space, data.input_shape, data.num_classes)
    with showing as progress:
        table = targets.measured_first(*given, progress, info.settings["seed"])
    if display is not None:
        file = folder / targets.FILE
        display.say(f"kept in {file}; for other searches: --latency-table {file}")
    return table


class _LocalDriver:
    """One trial after another in this process."""

    starting = 0.0  # seconds: there is no process to start

    def open(self, folder: Path) -> Archive:
        return Archive(folder)

    def strategy(
        self,
        make: Callable[[], Strategy],
        name: str,
        archive: Archive,
        purposes: frozenset[Purpose],
        space: Space | None = None,
    ) -> Strategy:
        del name, archive, purposes, space  # any can be asked here
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
        looks_up = isinstance(evaluator, FunctionEvaluator | TableEvaluator)
        device = "cpu" if looks_up else str(resolve_device("auto"))
        context = Context(settings["seed"], settings["cpus_per_trial"], device, archive)
        return run_local(session, evaluator, trials, context, deadline, settings["trial_timeout"])

    def around(self) -> Mapping[str, Any]:
        """What is known of the machines."""
        return {"driver": "local", "slots": 1, "wanted": 1}

    def whole_node(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a trial asks for that is alone: what each asks for, as one runs after another."""
        del settings
        return {}

    def scoring(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a trial asks for that trains nothing: what each asks for."""
        del settings
        return {}

    def disconnect(self) -> None:
        """Nothing to let go."""


def _tune_driver(address: str | None) -> Any:
    from raynas.tune.driver import TuneDriver

    return TuneDriver(address)

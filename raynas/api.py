"""The front door: `search`, `resume`, `load`, and what they return."""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from raynas import targets
from raynas.architecture import Architecture
from raynas.asked import (
    check,
    check_asked,
    check_metrics,
    check_one_shot,
    check_screen,
    check_screening,
)
from raynas.choices import as_space, located
from raynas.compressing import with_compression
from raynas.directives import fold
from raynas.errors import UserError, unknown
from raynas.evaluation import FunctionEvaluator, TableEvaluator, TrainingEvaluator
from raynas.files import place
from raynas.named import settings_in
from raynas.phases import resolved
from raynas.problem import Problem
from raynas.recipe import Recipe, with_training
from raynas.result import LEVELS, SearchResult, busy_seconds, load
from raynas.run import Part, RunInfo, as_kept, exists
from raynas.running import carry_on, further
from raynas.screening import Screen, screening
from raynas.session import Evaluator
from raynas.space import Space
from raynas.starting import designs_from
from raynas.strategies import STRATEGIES, asked_proxies, make
from raynas.warm_start import gather

if TYPE_CHECKING:
    from raynas.progress import Display

__all__ = ["SearchResult", "audit", "load", "resume", "search"]

PACKAGES = ("raynas", "ray", "torch", "numpy", "pandas", "pyarrow")

Function = Callable[[Architecture], Mapping[str, float]]


def search(
    problem: Problem | Mapping[str, Any] | None = None,
    *,
    space: str | Space | Callable[..., Any] = "layered",
    strategy: str = "auto",
    scheduler: str = "asha",
    evaluation: str = "auto",
    screen: str = "",
    evaluator: Evaluator | Function | None = None,
    trials: int = 1000,
    time_budget_hours: float | None = None,
    epochs: int = 18,
    batch_size: int | None = None,
    optimizer: str = "adamw",
    learning_rate: float | None = None,
    search_training: bool = False,
    search_compression: bool = False,
    start_from: Sequence[str | Architecture] = (),
    warm_start: Sequence[str | Path] | str | Path = (),
    feedback: str | Mapping[str, Any] | None = None,
    allow_feedback: bool = True,
    explanation_level: str = "standard",
    seed: int = 0,
    run: str | Path | None = None,
    latency_table: str | Path | None = None,
    data_root: str | Path | None = None,
    download: bool = False,
    image_size: int | None = None,
    subset: int | None = None,
    cpus_per_trial: int = 1,
    gpus_per_trial: float | None = None,
    trial_timeout: float | None = None,
    max_failures: int = 3,
    max_concurrent: int | None = None,
    address: str | None = None,
    driver: str = "tune",
    display: Display | None = None,
) -> SearchResult:
    """Searches network designs and returns the trained models on the Pareto front, explained.

    Args:
        problem: a Problem or a dict with its keys; None is scikit-learn's digits.
        space: a name from `raynas spaces` (with settings: `nasbench201:channels=8,cells=1`), a
            Space, your own network (a class or function that uses `raynas.choice`), or where that
            stands in a file: `my_space.py:Small`.
        strategy: a name from `raynas strategies`, with settings: `evolution:population=50`.
        scheduler: `asha`, `bohb` and `median` stop designs that are behind, under several
            objectives those that others dominate; `none` trains each to the end.
        evaluation: `train` trains each design. `shared` trains weights that all designs share,
            scores designs by them and trains the best few alone; `proxy` scores designs untrained
            (`proxy:name=synflow`) and does likewise; settings follow a colon, see
            `raynas.screening`. `table:path=FILE.parquet` looks designs up. `auto` is `shared` for
            strategies that need it (darts, enas, ...), else `train`.
        screen: `az:10` trains the best of every ten proposals by a score that needs no training
            (see `raynas.proxies`); '' trains each.
        evaluator: instead of these: a function `architecture -> metrics`, or an Evaluator.
        trials: how many designs to evaluate at most.
        time_budget_hours: after this long no design is begun and running ones are stopped and
            kept with what they have; None means no limit of time.
        epochs, batch_size, optimizer, learning_rate: see `raynas.training.Recipe`.
        search_training: whether optimizer, learning rate and weight decay are searched as well.
        search_compression: whether bits and pruning of the weights are searched as well, for each
            third of the layers: `model_size_kb` is what they change, see `raynas.compression`.
        start_from: designs to try first: names from `raynas spaces NAME --known`, texts, a file of
            either (.yaml, .txt, .parquet), or a run's folder, whose front is tried.
        warm_start: folders of runs of the same space, on other data: their best designs are tried
            first, and strategies that can learn from their trials do.
        feedback: what you know beforehand, in words or as a dict: which options to leave out, pin
            or prefer, and how sure you are (see `raynas.feedback`).
        allow_feedback: whether the run may be gone on with by what people say of it
            (`result.continue_with_feedback`).
        explanation_level: brief, standard or detailed: how much is said at the end, and how many
            of the trials buy certainty (`raynas.certainty`): none; designs drawn at random and the
            best design again with fresh seeds; edits of it and an audit of claims as well.
        seed: of the search, the data splits and every training. One process (`driver="local"`)
            repeats a search exactly; on a cluster results race, and later proposals with them.
        run: folder to make, or a URL such as `s3://BUCKET/RUN` (see `docs/storage.md`); None
            makes a folder under `runs/`.
        latency_table: a file that tells how long designs take on the target device (`raynas
            latency measure`). Without one, a search for `latency_ms` on cpu or cuda first
            measures its own, and keeps it as `latency.parquet` in its folder.
        data_root, download, image_size, subset: see `raynas.data.load`.
        cpus_per_trial, gpus_per_trial: what one trial gets; None takes a GPU where there is one.
        trial_timeout: seconds after which a trial is given up.
        max_failures: how often a trial is run again whose node was lost, from its last checkpoint.
        max_concurrent: how many trials there are at once at most; those for which there is no room
            yet make an autoscaler start nodes. None follows the nodes that are there.
        address: of a Ray cluster; None starts Ray in this machine.
        driver: `tune` runs trials in parallel on Ray, `local` one after another in this process.
        display: shows progress: `raynas.progress.Display(rich.console.Console())` as the command
            line does, `raynas.json_progress.JsonLines(sys.stdout)` to machines, or an object of
            your own with their four methods. None shows nothing.

    Raises:
        UserError: something asked for does not exist or cannot be done; the message says what to
            do. NoFeasibleDesign if no design keeps the constraints.
    """
    problem = Problem.of(problem if problem is not None else {})
    if strategy.partition(":")[0] not in STRATEGIES:
        raise unknown("strategy", strategy.partition(":")[0], sorted(STRATEGIES))
    evaluation = resolved(evaluation, strategy)
    start_from = [start_from] if isinstance(start_from, str) else start_from
    check(scheduler, ("asha", "bohb", "median", "none"), "scheduler")
    check(explanation_level, LEVELS, "explanation level")
    check(driver, ("tune", "local"), "driver")
    builds = evaluator is None and evaluation.partition(":")[0] != "table"
    if latency_table and not builds:
        raise UserError(
            "expected no latency table where an own evaluator or table tells what designs cost. "
            "Leave it away."
        )
    settings: dict[str, Any] = {
        "space": located(space) if isinstance(space, str) else None,
        "search_training": search_training,
        "search_compression": search_compression,
        "start_from": [str(design) for design in start_from],
        "strategy": strategy,
        "evaluation": evaluation if evaluator is None else "own",
        "screen": screen,
        "scheduler": scheduler,
        "trials": trials,
        "seconds": None if time_budget_hours is None else time_budget_hours * 3600,
        "recipe": {
            "epochs": epochs,
            "batch_size": batch_size,
            "optimizer": optimizer,
            "learning_rate": learning_rate,
        },
        "explanation_level": explanation_level,
        "allow_feedback": allow_feedback,
        "seed": seed,
        "loading": {
            "root": None if data_root is None else str(data_root),
            "image_size": image_size,
            "subset": subset,
        },
        "cpus_per_trial": cpus_per_trial,
        "gpus_per_trial": gpus_per_trial,
        "trial_timeout": trial_timeout,
        "max_failures": max_failures,
        "max_concurrent": max_concurrent,
        "driver": driver,
        "latency": targets.settings_of(problem, latency_table) if builds else None,
    }
    judge = _evaluator(evaluator, problem, space, settings, download)
    found = judge.space if isinstance(judge, TrainingEvaluator) else as_space(space)
    check_metrics(problem, judge)
    how = screening(evaluation)
    if search_compression and (how is not None or not isinstance(judge, TrainingEvaluator)):
        raise UserError(
            f"evaluation {settings['evaluation']}: expected no search_compression, because only "
            "networks that are trained alone are rounded and pruned. Leave it away, or take "
            "evaluation train."
        )
    if how is not None:
        check_screening(how, evaluation, problem, evaluator, search_training, warm_start)
    if screen:
        check_screen(Screen.of(screen), how, judge)
    if how is not None and STRATEGIES[strategy.partition(":")[0]].one_shot:
        check_one_shot(how, strategy)
    else:
        make(strategy, found, problem.objectives)  # before anything is written
        check_asked(asked_proxies(strategy), judge)
    settings["start_from"] = [d for t in settings["start_from"] for d in designs_from(t, found)]
    runs = [warm_start] if isinstance(warm_start, str | Path) else warm_start
    earlier = gather(runs, found, problem.objectives)
    info = RunInfo(
        problem,
        found,
        settings,
        _describe(judge),
        _versions(),
        shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    )
    folder = (
        place(run) if run is not None else _new_folder(problem, found, trained=evaluator is None)
    )
    if folder.exists():
        raise exists(folder)
    opening = None
    if feedback is not None:
        from raynas.answering import opening_turn

        opening = opening_turn(info, feedback, judge)
        if builds and settings["latency"] is None:
            wanted = fold(problem, found, (opening,)).problem
            settings["latency"] = targets.settings_of(wanted, latency_table)
            judge = _told(judge, wanted)
    seconds = settings["seconds"]
    rest = (address, display, True, earlier)
    return carry_on(folder, info, judge, trials, seconds, *rest, opening=opening)


def resume(
    run: str | Path,
    *,
    dataset: Any = None,
    space: Space | Callable[..., Any] | str | None = None,
    evaluator: Evaluator | Function | None = None,
    trials: int | None = None,
    more: int | None = None,
    time_budget_hours: float | None = None,
    max_concurrent: int | None = None,
    address: str | None = None,
    display: Display | None = None,
) -> SearchResult:
    """Goes on with a search that was interrupted or killed, or is done and is to go further.

    Finished trials are kept; what was running is run again under its old number.

    Args:
        run: the run's folder.
        dataset, space, evaluator: again, if they were your own objects, which a run does not keep.
        trials: how many designs in all (those evaluated count); None keeps the old number.
        more: how many further designs, instead, however long they take unless a time is given;
            what the search buys to make sure of its findings is part of them.
        time_budget_hours: from now; None takes what is left of the old budget.
        max_concurrent: as for `search`; None keeps what was said then.
        display: as for `search`.

    Raises:
        ArchiveError: there is no such run, or it is being written now.
        UserError: nothing is left of its budgets and no new one is given.
    """
    if more is not None:
        if trials is not None:
            raise UserError("expected trials (in all) or more (further ones); got both: give one.")
        if more < 1:
            raise UserError(f"more: expected how many further designs, 1 or more; got {more!r}.")
    folder = place(run)
    info, judge, past = opened(folder, "resume", dataset, space, evaluator)
    if max_concurrent is not None:
        info = replace(info, settings={**info.settings, "max_concurrent": max_concurrent})
    if more is not None:
        seconds = None if time_budget_hours is None else time_budget_hours * 3600
        wanted = further(folder, info, more, seconds)
        return carry_on(folder, info, judge, wanted, seconds, address, display, new=False)
    part = Part.read(folder)
    wanted = trials or (part.trials if part else None) or info.settings["trials"]
    used = info.screening is None and _evaluated(past) >= wanted
    seconds = part.seconds if part else info.settings["seconds"]
    if time_budget_hours is not None:
        seconds = time_budget_hours * 3600
    elif seconds is not None:
        seconds -= busy_seconds(past[past["number"] >= part.first] if part else past)
    if used or (seconds is not None and seconds <= 0):
        raise UserError(
            f"{run} has used its budget ({_evaluated(past)} designs, {busy_seconds(past):.0f} s). "
            "Give more: --trials +50, say, or --time-budget (from now)."
        )
    return carry_on(folder, info, judge, wanted, seconds, address, display, new=False)


def audit(
    run: str | Path,
    *,
    trials: int = 10,
    dataset: Any = None,
    space: Space | Callable[..., Any] | str | None = None,
    evaluator: Evaluator | Function | None = None,
    address: str | None = None,
    display: Display | None = None,
) -> SearchResult:
    """Puts claims of a search to the test: draws some, trains their edits, says who was right.

    Each design that they are about is trained with a fresh seed as well, if it was not before.
    `result.claims` tells what came of it (kind `audit`).

    Args:
        run: the run's folder.
        trials: claims to test; those tested before stay tested.
        dataset, space, evaluator: again, if they were your own objects.

    Raises:
        ArchiveError: there is no such run, or it is being written now.
        UserError: designs of the run are not trained alone, read the same each time, or there is
            no further claim to test.
    """
    folder = place(run)
    info, judge, _ = opened(folder, "audit", dataset, space, evaluator)
    if info.screening is not None or isinstance(judge, FunctionEvaluator | TableEvaluator):
        raise UserError(
            f"{run}: expected designs that are trained one by one, each time with another seed; "
            f"got evaluation {info.settings['evaluation']}, which a second reading cannot test."
        )
    return carry_on(
        folder, info, judge, info.settings["trials"], None, address, display, False, audit=trials
    )


def opened(
    folder: Path,
    call: str,
    dataset: Any,
    space: Space | Callable[..., Any] | str | None,
    evaluator: Evaluator | Function | None,
) -> tuple[RunInfo, Evaluator, pd.DataFrame]:
    """A run that is to be gone on with: what it asks, who measures, its trials.

    Raises:
        ArchiveError: there is no such run.
        UserError: it needs objects of the caller's own that are not given.
    """
    info = RunInfo.read(folder)
    problem = info.problem
    if dataset is not None:
        problem = Problem.of({**problem.to_dict(), "dataset": dataset})
    elif problem.dataset == "(own data)" and evaluator is None:
        raise UserError(
            f"{folder} was searched on data handed over in Python, which a run does not keep. "
            f"Use raynas.{call}(run, dataset=...)."
        )
    if evaluator is None and info.settings.get("evaluation") == "own":
        raise UserError(
            f"{folder} was searched with an evaluator of your own, which a run does not keep. "
            f"Use raynas.{call}(run, evaluator=...)."
        )
    space = space if space is not None else info.settings["space"]
    if space is None and evaluator is None:
        raise UserError(f"{folder} has an own space: use raynas.{call}(run, space=...).")
    judge = _evaluator(evaluator, problem, space, info.settings, download=False)
    code = judge.space if isinstance(judge, TrainingEvaluator) else space and as_space(space)
    if code:
        info = replace(info, space=as_kept(code, info))
        if isinstance(judge, TrainingEvaluator):
            judge.space = info.space
            judge = _told(judge, problem)
            if info.settings.get("latency") is None:  # since somebody asked for it
                latency = targets.settings_of(problem)
                info = replace(info, settings={**info.settings, "latency": latency})
    return info, judge, load(folder).trials


def _told(judge: Evaluator, problem: Problem) -> Evaluator:
    """The evaluator that tells beforehand what a problem asks for."""
    if not isinstance(judge, TrainingEvaluator):
        return judge
    return replace(judge, told=targets.beforehand(problem))


def _evaluator(
    evaluator: Evaluator | Function | None,
    problem: Problem,
    space: str | Space | Callable[..., Any] | None,
    settings: Mapping[str, Any],
    download: bool,
) -> Evaluator:
    """The evaluator that was given, or training of the space's networks on the problem's data."""
    if evaluator is not None:
        ready = hasattr(evaluator, "evaluate")
        return evaluator if ready else FunctionEvaluator(evaluator)  # type: ignore[return-value,arg-type]
    evaluation = settings.get("evaluation", "train")
    if evaluation.partition(":")[0] == "table":
        given = settings_in("evaluation", evaluation, {"path": ""})
        if "path" not in given:
            raise UserError(f"expected a table such as table:path=FILE.parquet; got {evaluation}.")
        return TableEvaluator(given["path"])
    from raynas.data import load as load_data

    data = load_data(
        problem.dataset,
        download=download,
        seed=settings["seed"],
        num_classes=problem.num_classes,
        input_shape=problem.input_shape,
        **settings["loading"],
    )
    found = as_space(space, data.input_shape, data.num_classes)
    if found.build is None:
        raise UserError(
            f"the space {found.name!r} says nothing of networks: pass evaluator=, a function that "
            "takes an architecture and returns its metrics, or give the space a build=."
        )
    if settings.get("search_compression"):
        found = with_compression(found)
    if settings["search_training"]:
        found = with_training(found)
    return TrainingEvaluator(
        found, data, Recipe(**settings["recipe"]), told=targets.beforehand(problem)
    )


def _describe(evaluator: Evaluator) -> dict[str, Any]:
    if not isinstance(evaluator, TrainingEvaluator):
        return {}
    data = evaluator.data
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    return {
        "name": data.name,
        "input_shape": list(data.input_shape),
        "num_classes": data.num_classes,
        "class_names": list(data.class_names),
        "mean": [float(v) for v in data.mean],
        "std": [float(v) for v in data.std],
        "sizes": {name: len(split.labels) for name, split in splits.items()},
        "notes": list(data.notes),
        "recipe": asdict(evaluator.recipe),
    }


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def _new_folder(problem: Problem, space: Space, trained: bool) -> Path:
    name = Path(problem.dataset).stem if isinstance(problem.dataset, str) else "own-data"
    name = name if trained else "own-evaluator"
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    base = "".join(c if c.isalnum() or c in "-_" else "-" for c in f"{name}-{space.name}-{stamp}")
    folder = Path("runs") / base
    for i in range(2, 1000):
        if not folder.exists():
            break
        folder = Path("runs") / f"{base}-{i}"
    return folder


def _evaluated(trials: pd.DataFrame) -> int:
    return int((trials["status"] != "infeasible").sum())

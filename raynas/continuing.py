"""Going on with a search by what people said: understood, shown back, kept, then acted on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas import answering, api, turns, widening
from raynas.answering import Answer
from raynas.archive import being_written
from raynas.directives import Move, Turn, in_force
from raynas.errors import UserError
from raynas.evaluation import TrainingEvaluator
from raynas.feedback import Interpreter, Understood
from raynas.files import place
from raynas.report import write_report
from raynas.result import SearchResult, load
from raynas.run import RunInfo
from raynas.running import carry_on, further
from raynas.session import Evaluator

if TYPE_CHECKING:
    from raynas.progress import Display
    from raynas.space import Space

Feedback = str | Mapping[str, Any]


@dataclass(frozen=True)
class Own:
    """What a run was searched with and does not keep: one's own data, space or evaluator."""

    dataset: Any = None
    space: Space | Callable[..., Any] | str | None = None
    evaluator: Any = None

    def opened(self, folder: Path, call: str) -> tuple[RunInfo, Evaluator]:
        """What the run asks now, and who measures."""
        info, judge, _ = api.opened(folder, call, self.dataset, self.space, self.evaluator)
        require_quiet(folder)
        if not info.settings.get("allow_feedback", True):
            raise UserError(
                f"{folder} was searched with allow_feedback=False: it is kept as it is. Search "
                "anew, with --start-from this run."
            )
        return info, judge


def continue_with_feedback(
    run: str | Path,
    feedback: Feedback,
    *,
    trials: int | None = None,
    time_budget_hours: float | None = None,
    interpreter: Interpreter | None = None,
    confirm: Callable[[Answer], bool] | None = None,
    dataset: Any = None,
    space: Space | Callable[..., Any] | str | None = None,
    evaluator: Any = None,
    address: str | None = None,
    display: Display | None = None,
) -> SearchResult:
    """Goes on with a search, changed by what a person says of it.

    The run keeps its archive, its trial numbers and what its strategy has learned. What is said
    becomes directives (see `raynas.feedback`), each of which can be undone.

    Args:
        run: the run's folder.
        feedback: words, or a dict: `layer_3: {comment: ..., suggestion: {kernel_size: 5}}`,
            `constraint_update: {prioritize: accuracy_over_size, max_params: 50_000}`, `avoid`,
            `keep`, `try`, `prefer`, `add`.
        trials, time_budget_hours: how much further; None is what the search had itself.
        interpreter: is asked about words that the grammar refuses: a function of the text, the
            problem and the space that returns directives. They pass the same checks.
        confirm: is shown the answer before anything is changed; False leaves all as it is.
        dataset, space, evaluator: again, if they were your own objects.

    Raises:
        ArchiveError: there is no such run, or it is being written now.
        UserError: something was not understood, cannot be had, or contradicts what was said
            before or a limit. Nothing is changed then.
    """
    require_budget(trials, time_budget_hours)
    folder = place(run)
    own = Own(dataset, space, evaluator)
    info, judge = own.opened(folder, "continue_with_feedback")
    result = opened_result(folder, info, judge)
    given = answering.context(result)
    said, understood = answering.read_feedback(feedback, given, info, interpreter)
    if understood.undo and not understood.directives:
        undo(folder)
        return load(folder, space)
    if understood.refusals or not understood.directives:
        raise answering.not_understood(understood)
    turn, answer = put(result, judge, "feedback", said, understood)
    if confirm is not None and not confirm(answer):
        return result
    turns.append(folder, turn)
    return go_on(folder, own, trials, time_budget_hours, address, display)


def put(
    result: SearchResult,
    judge: Evaluator,
    move: Move,
    said: str,
    understood: Understood,
    trial: int | None = None,
    about: str = "",
    design: str = "",
) -> tuple[Turn, Answer]:
    """The turn that directives make, and what is said back; nothing is changed by it yet.

    Args:
        trial, about: under discussion; by default the best design so far.

    Raises:
        UserError: they cannot be had.
    """
    if trial is None and len(front := result.front()):
        trial = int(front.iloc[0]["number"])
    if trial is not None and not about:
        about = str(result.architecture(trial))
    directives = understood.directives
    turn = answering.turn_of(result, move, said, directives, trial, about, design)
    adds = [d for d in directives if d.kind == "add"]
    if adds and result.info.data:
        widening.may_widen(result.info)
        if result.code is None:
            raise UserError(result.why_no_code())
        shape, classes = tuple(result.info.data["input_shape"]), result.info.data["num_classes"]
        known = result.architecture(trial) if trial is not None else None
        widening.check_added(result.code, adds, shape, classes, known)
    answer = answering.weigh(result, understood, turn, judge)
    return replace(turn, answer=str(answer)), answer


def go_on(
    folder: Path,
    own: Own,
    trials: int | None,
    time_budget_hours: float | None,
    address: str | None = None,
    display: Display | None = None,
) -> SearchResult:
    """Searches further, with what holds now.

    Args:
        trials, time_budget_hours: how much further; None is what the search had itself.
    """
    info, judge = own.opened(folder, "continue_with_feedback")
    seconds = info.settings["seconds"]
    if time_budget_hours is not None:
        seconds = time_budget_hours * 3600
    elif trials is not None:
        seconds = None
    wanted = further(folder, info, trials or info.settings["trials"], seconds)
    return carry_on(folder, info, judge, wanted, seconds, address, display, new=False)


def undo(run: Path) -> Turn:
    """Takes back the last turn that changed something; returns it.

    Raises:
        UserError: there is none.
    """
    require_quiet(run)
    result = SearchResult(run)
    held = [t for t in in_force(result.info.said) if t.move in ("feedback", "modify")]
    if not held:
        raise UserError(f"{run}: nothing was said that could be taken back.")
    turns.append(run, answering.turn_of(result, "undo", undoes=held[-1].number))
    told_anew(SearchResult(run))
    return held[-1]


def told_anew(result: SearchResult) -> None:
    """Writes claims and report, which said what held before."""
    result.write_claims()
    write_report(result)


def require_budget(trials: int | None, time_budget_hours: float | None) -> None:
    """Raises UserError unless a further budget, if it is given, is one."""
    whole = isinstance(trials, int) and not isinstance(trials, bool)
    if trials is not None and not (whole and trials > 0):
        raise UserError(f"trials: expected how many further designs, 1 or more; got {trials!r}.")
    if time_budget_hours is not None and not time_budget_hours > 0:
        raise UserError(f"time_budget_hours: expected more than 0; got {time_budget_hours!r}.")


def require_quiet(run: Path) -> None:
    """Raises UserError while a search writes the run."""
    if being_written(run):
        raise UserError(
            f"{run} is being searched now, and what is said acts between parts of a search. "
            f"Wait for its end, or end it with Ctrl-C; `raynas status {run}` shows how far it is."
        )


def opened_result(folder: Path, info: RunInfo, judge: Evaluator) -> SearchResult:
    """The run as it is now, with its code."""
    trained = isinstance(judge, TrainingEvaluator)
    return SearchResult(folder, info.space, evaluator=judge if trained else None)

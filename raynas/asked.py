"""What a search may be asked, checked before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raynas.errors import UserError, unknown
from raynas.evaluation import TrainingEvaluator
from raynas.named import settings_in
from raynas.objective import COSTS
from raynas.problem import Problem
from raynas.screening import Proxy, Screen, Screening
from raynas.session import Evaluator
from raynas.strategies import STRATEGIES


def check_screening(
    how: Screening,
    evaluation: str,
    problem: Problem,
    evaluator: object,
    search_training: bool,
    warm_start: object,
) -> None:
    """Raises UserError if scores cannot do what is asked."""
    given = {"own evaluator": evaluator, "warm_start": warm_start}
    given |= {"search_training": search_training}
    if asked := [name for name, value in given.items() if value]:
        raise UserError(
            f"evaluation {evaluation}: expected no {asked[0]}, which {how.by} cannot make use of. "
            "Leave it away, or take evaluation train."
        )
    known = ("accuracy", "loss", *COSTS)
    if other := [o.name for o in problem.objectives if o.name not in known]:
        raise UserError(
            f"evaluation {evaluation}: expected objectives that {how.by} can tell "
            f"({', '.join(known)}); got {other[0]}."
        )
    if isinstance(how, Proxy):
        _proxy(how.name)
        if how.name in (o.name for o in problem.objectives):
            raise UserError(
                f"evaluation {evaluation}: expected a proxy that is no objective itself; got "
                f"{how.name}. Take another proxy, or leave the objective {how.name} away."
            )
    elif how.weights and not Path(how.weights).is_file():
        raise UserError(f"weights={how.weights}: expected a file; there is none.")
    elif not how.weights:
        from raynas.supernet.paths import Paths

        Paths(how.rule)


def _proxy(name: str) -> None:
    from raynas.proxies import PROXIES

    check(name, PROXIES, "proxy")


def check_screen(screen: Screen, how: Screening | None, judge: Evaluator) -> None:
    """Raises UserError if there is no such proxy, or nothing that it could spare training."""
    _proxy(screen.name)
    if how is not None or not isinstance(judge, TrainingEvaluator):
        raise UserError(
            "screen: expected designs that are trained one by one. Leave --screen away, or take "
            "--evaluation train."
        )


def check_asked(proxies: Sequence[str], judge: Evaluator) -> None:
    """Raises UserError if there is no such proxy, or no network that it could score."""
    for name in proxies:
        _proxy(name)
    if proxies and not isinstance(judge, TrainingEvaluator):
        raise UserError(
            "proxies: expected designs that are built and trained, to be scored before that. "
            "Leave proxies= away, or take --evaluation train."
        )


def check_one_shot(how: Screening, strategy: str) -> None:
    """Raises UserError if the strategy has no such settings, or is given weights."""
    row = STRATEGIES[strategy.partition(":")[0]]
    row.load()(**settings_in("strategy", strategy, row.settings()))
    if getattr(how, "weights", ""):
        raise UserError(f"the strategy {strategy} trains its weights itself: give no weights=.")


def check(name: str, known: Any, kind: str) -> None:
    if name not in known:
        raise unknown(kind, name, sorted(known))


def check_metrics(problem: Problem, evaluator: Evaluator) -> None:
    if evaluator.metrics is None:
        return
    known = sorted(n for n in evaluator.metrics if not n.startswith("test_"))
    for objective in problem.objectives:
        check(objective.name, known, "objective")
    for constraint in problem.constraints:
        check(constraint.metric, known, "constraint on a metric")

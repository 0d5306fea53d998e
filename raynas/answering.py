"""What a person's words would change of a search, and what its trials already say of that."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from raynas import asking, explained, turns
from raynas.architecture import Architecture, option_text
from raynas.asked import check_metrics
from raynas.directives import Contradiction, Directive, Move, Turn, fold, in_words
from raynas.errors import UserError
from raynas.evaluation import TrainingEvaluator
from raynas.explanation.feedback import edits
from raynas.explanation.sentences import value
from raynas.feedback import Context, Interpreter, Refusal, Understood, understand
from raynas.front import front_of
from raynas.history import shown
from raynas.objective import COSTS, figure
from raynas.phases import breaks
from raynas.problem import Problem
from raynas.run import RunInfo, as_kept
from raynas.session import Evaluator
from raynas.sessions import row_of
from raynas.strategies import make
from raynas.widening import check_added, decisions_of, may_widen

if TYPE_CHECKING:
    from raynas.result import SearchResult

DRAWN = 200  # random designs among which one must keep all limits


@dataclass(frozen=True)
class Answer:
    """What is said back before anything acts.

    Attributes:
        directives: what was understood.
        echo: each of them in words, as `layer 3: kernel_size = 5 (was 3, 5 or 7)`.
        refusals: what was not understood or cannot be done; it changes nothing.
        notes: what is replaced or lost by it.
        evidence: what the trials so far say of it.
        spends: what it will cost.
    """

    directives: tuple[Directive, ...] = ()
    echo: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    spends: str = ""

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield from self.echo
        yield from (f"  {note}" for note in self.notes)
        yield from (f"• {text}" for text in self.evidence)
        if self.spends:
            yield self.spends
        yield from map(str, self.refusals)


def context(
    result: SearchResult, trial: int | None = None, design: Architecture | None = None
) -> Context:
    """What words may refer to: the design under discussion, its layers and readings."""
    info = result.info
    front = result.front()
    if trial is None and len(front):
        trial = int(front.iloc[0]["number"])
    if trial is None:
        return Context(info.now, costs=known_costs(info))
    row = result.trials.set_index("number").loc[trial]
    readings = {
        str(name)[2:]: float(row[name])
        for name in row.index
        if str(name).startswith("m.") and row[name] == row[name]
    }
    costs = explained.costs(result)
    if design is not None and design != result.architecture(trial):
        readings = dict(costs(design)) if costs else {}
    design = design or result.architecture(trial)
    try:
        layers = explained.layer_decisions(result, trial)
    except UserError:  # the code of an own space is not at hand
        layers = []
    return Context(info.now, design, trial, layers, readings, _best(result), known_costs(info))


def known_costs(info: RunInfo) -> frozenset[str]:
    """The costs that the run knows, or can come to know, of a design before it is trained."""
    if not info.data:
        told = {o.name for o in info.objectives} | {c.metric for c in info.constraints}
        return frozenset(told & set(COSTS))
    return frozenset(COSTS)


def _best(result: SearchResult) -> Mapping[str, tuple[float, int]]:
    """The best reading of each objective among finished designs, and its trial."""
    info, found = result.info, {}
    for o in info.objectives:
        rows = front_of(result.trials, replace(info, problem=_only(info.problem, o.name)))
        if len(rows):
            found[o.name] = (float(rows.iloc[0][f"m.{o.name}"]), int(rows.iloc[0]["number"]))
    return found


def _only(problem: Problem, name: str) -> Problem:
    kept = tuple(o for o in problem.objectives if o.name == name)
    return problem.model_copy(update={"objectives": kept})


def read_feedback(
    feedback: str | Mapping[str, Any],
    given: Context,
    info: RunInfo,
    interpreter: Interpreter | None = None,
) -> tuple[str, Understood]:
    """What was said, as it is kept, and what it means.

    `add: training` and `add: [training, compression]` stand for groups of decisions.
    """
    if isinstance(feedback, str):
        return feedback, understand(feedback, given, interpreter)
    if not isinstance(feedback, Mapping):
        raise UserError(f"expected words or a mapping; got {type(feedback).__name__}.")
    rest: dict[str, Any] = _plain(feedback)
    feedback, groups = rest.copy(), rest.get("add")
    if isinstance(groups, Mapping) or groups is None:
        return written(feedback), understand(feedback, given, interpreter)
    names = [groups] if isinstance(groups, str) else groups
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(
            f"add: expected a mapping such as {{'layer3.kernel_size': [9]}}, or training or "
            f"compression; got {groups!r}."
        )
    added = [d for name in names for d in decisions_of(str(name), info)]
    del rest["add"]
    understood = understand(rest, given, interpreter) if rest else Understood()
    return written(feedback), replace(understood, directives=(*added, *understood.directives))


def written(feedback: Mapping[str, Any]) -> str:
    """A mapping as one line of YAML."""
    text = yaml.safe_dump(_plain(feedback), default_flow_style=True, sort_keys=False, width=10**9)
    return text.strip()


def _plain(value: Any) -> Any:
    """What YAML can write: names of designs and the like as texts."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def turn_of(
    result: SearchResult,
    move: Move,
    said: str = "",
    directives: Sequence[Directive] = (),
    trial: int | None = None,
    about: str = "",
    design: str = "",
    answer: str = "",
    undoes: int | None = None,
) -> Turn:
    """The next turn of a run."""
    known = turns.read(result.path)
    last = max((*result.proposals["number"], *result.trials["number"]), default=-1)
    number = max((t.number for t in known), default=0) + 1
    given = (move, said, tuple(directives), int(last) + 1, trial, about, design, answer, undoes)
    return Turn(number, time.time(), *given)


def opening_turn(info: RunInfo, feedback: str | Mapping[str, Any], judge: Evaluator) -> Turn:
    """What people said before a new search began.

    Raises:
        UserError: it was not understood, or cannot be had.
    """
    said, understood = read_feedback(feedback, Context(info.now, costs=known_costs(info)), info)
    if understood.refusals or not understood.directives:
        raise not_understood(understood)
    turn = Turn(1, time.time(), "feedback", said, understood.directives)
    adds = [d for d in understood.directives if d.kind == "add"]
    if adds and isinstance(judge, TrainingEvaluator):
        may_widen(info)
        check_added(judge.space, adds, judge.data.input_shape, judge.data.num_classes)
    state = fold(info.problem, info.space, (turn,))
    require_possible(replace(info, problem=state.problem, space=state.space, state=state), judge)
    return turn


def not_understood(understood: Understood) -> UserError:
    """The error for words of which a part was not understood: then nothing is changed."""
    lines = [str(refusal) for refusal in understood.refusals]
    if understood.directives:
        words = dict.fromkeys(repr(d.words) for d in understood.directives)
        lines.append(f"Understood was {', '.join(words)}; nothing is changed until all is.")
    return UserError("\n".join(lines) or "nothing was said that changes the search.")


def weigh(result: SearchResult, understood: Understood, turn: Turn, judge: Evaluator) -> Answer:
    """What a turn would change, what is lost, what is known of it, and what it will cost.

    Raises:
        Contradiction: it cannot hold together with what was said before, or with a limit.
    """
    info = RunInfo.read(result.path, (turn,))
    turn = info.said[-1]  # its designs as they are now: a decision may have been added
    code = getattr(judge, "space", None) or result.code
    if code is not None:
        info = replace(info, space=as_kept(code, info))
    _require_measured(result, info, judge)
    if any(d.kind in ("pin", "forbid", "limit") for d in turn.directives):
        known = len(front_of(result.trials, info))  # then such designs are known
        if not known:
            require_possible(info, judge)
    _require_allowed(info, turn)
    if not row_of(info).one_shot:  # one that needs a decision says so before anything is kept
        make(info.settings["strategy"], info.allowed, info.searched, info.goals)
    return Answer(
        understood.directives,
        tuple(shown(turn, result.info.now)),
        understood.refusals,
        tuple(_lost(result, info, turn)),
        tuple(_evidence(result, info, turn)),
        _spends(info, turn, judge),
    )


def _require_measured(result: SearchResult, info: RunInfo, judge: Evaluator) -> None:
    """Raises UserError where an objective or a bound is of something that nobody measures."""
    check_metrics(info.problem, judge)
    now = {f"m.{o.name}" for o in result.info.objectives} | set(result.trials.columns)
    for name in [*(o.name for o in info.objectives), *(c.metric for c in info.goals)]:
        if f"m.{name}" not in now and name not in known_costs(info) and len(result.trials):
            raise UserError(
                f"expected a metric that this run measures; got {name}. It measures "
                f"{', '.join(sorted(n[2:] for n in now if n.startswith('m.')))}."
            )


def _require_allowed(info: RunInfo, turn: Turn) -> None:
    """Raises Contradiction where a design to try is not in what is left."""
    for d in turn.directives:
        if d.kind == "try" and not info.allowed.holds(Architecture.parse(d.architecture)):
            raise Contradiction(
                f"{d.words!r}: the design to try is not in what is left by what was said. Take "
                "that back first (undo), or try a design that keeps it."
            )


def require_possible(info: RunInfo, judge: Evaluator) -> None:
    """Raises Contradiction if no design keeps both what was asked for and the limits."""
    limits = [c for c in info.constraints if c.metric in COSTS]
    if not limits:
        return
    rng, space = np.random.default_rng(0), info.allowed
    nearest, least = "", np.inf
    for i in range(DRAWN):
        design = space.sample(rng) if i else space.answer(lambda d: d.options[0])
        try:
            costs = judge.costs(design)
        except UserError:
            raise
        except Exception:  # this one cannot be built; its trial would say so
            continue
        broken = [c for c in limits if not c.holds(costs)]
        if not broken:
            return
        excess = sum(c.excess(costs) / max(abs(c.bound), 1e-9) for c in broken)
        if excess < least:
            least = excess
            nearest = ", ".join(f"{c.metric} {figure(costs[c.metric])}" for c in broken)
    asked = [
        f"{in_words(d, replace(info.now, left={}))} (turn {t.number}: {d.words!r})"
        for t, d in info.now.directives
        if d.kind in ("pin", "forbid")
    ]
    bounds = ", ".join(f"{c}{_said(info, c.metric)}" for c in limits)
    raise Contradiction(
        f"no design that keeps {bounds} was found among {DRAWN} of those that are left"
        f"{' by ' + '; '.join(asked) if asked else ''}: the nearest has {nearest}. A limit always "
        "wins over what is pinned: loosen it, or leave one of these away."
    )


def _said(info: RunInfo, metric: str) -> str:
    """Who asked for a limit."""
    said = [(t, d) for t, d in info.now.directives if d.kind == "limit" and d.metric == metric]
    return f" (turn {said[-1][0].number}: {said[-1][1].words!r})" if said else " (the problem's)"


def _lost(result: SearchResult, info: RunInfo, turn: Turn) -> Iterator[str]:
    """What a turn replaces, and whether the best design so far is left out by it."""
    for d in turn.directives:
        for earlier, old in result.info.now.directives:
            if d.kind == old.kind == "pin" and set(d.paths) & set(old.paths):
                yield f"replaces turn {earlier.number}: {old.words!r}"
    front, now = result.front(), front_of(result.trials, info)
    known = {f"m.{o.name}" for o in info.objectives} <= set(result.trials.columns)
    if not len(front) or not known:  # an objective that earlier trials will be told first
        return
    objective = result.info.objectives[0]
    best = front.iloc[0]
    lead = f"trial {best['number']}, the best so far ({_reading(best, objective.name)})"
    if best["number"] in set(now["number"]):
        if now.iloc[0]["number"] != best["number"]:
            other = now.iloc[0]
            costs = [n for n in COSTS if f"m.{n}" in now][:1]
            shown = ", ".join(_reading(other, n) for n in (objective.name, *costs))
            yield f"of the designs so far the best is now trial {other['number']} ({shown})"
        return
    if not len(now):
        yield f"leaves out {lead} and every other design so far; the search brings them in"
    else:
        other = now.iloc[0]
        yield (
            f"leaves out {lead}; of those that are left the best is trial {other['number']} "
            f"({_reading(other, objective.name)})"
        )


def _reading(row: Any, name: str) -> str:
    return f"{name} {value(float(row[f'm.{name}']), name)}"


def _evidence(result: SearchResult, info: RunInfo, turn: Turn) -> Iterator[str]:
    """What the trials so far say of each suggestion, limit and reference point."""
    for _, before, after in edits(info, turn):
        names = {n: o for n, o in after.choices if before.options.get(n) != o}
        tested = {n: o for n, o in names.items() if n in before}
        if turn.trial is None or not tested:
            continue
        text = ",".join(f"{n}={option_text(o)}" for n, o in tested.items())
        try:
            said = asking.why_not(result, text, turn.trial).splitlines()
        except UserError:  # an option that nobody had before
            continue
        yield from (line.removeprefix("• ") for line in said[1:2])
    finished = result.trials[result.trials["status"] == "finished"]
    for d in turn.directives:
        if d.kind in ("limit", "aim") and d.bound is not None and f"m.{d.metric}" in finished:
            readings = finished[f"m.{d.metric}"].astype(float).dropna()
            kept = (readings <= d.bound) if d.sense == "max" else (readings >= d.bound)
            verb = "keep" if d.kind == "limit" else "reach"
            many = f"{int(kept.sum())} of {len(readings)} finished designs"
            yield f"{many} {verb} this bound on {d.metric}."


def _spends(info: RunInfo, turn: Turn, judge: Evaluator) -> str:
    """What the tests of suggestions will cost."""
    found = edits(info, turn)
    if not found:
        return ""
    over = [d for d, *both in found if any(breaks(judge, info.constraints, a) for a in both)]
    count = len(found) - len(over)
    if not count:
        return "It is not put to the test: it, or what it replaces, is over a limit."
    if info.screening is not None:
        return "Suggestions are not put to the test here: designs are scored, not trained."
    from raynas.steered import EACH, SHARE

    each = EACH[info.settings["explanation_level"]]
    return (
        f"To test {'it' if count == 1 else f'{count} suggestions'}: up to {2 * each * count} "
        f"trainings with fresh seeds, with and without, of the trials that follow (about one in "
        f"{SHARE} of them at most)."
    )

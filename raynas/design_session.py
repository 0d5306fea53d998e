"""A collaborative design session: an engineer and the search take turns at one design."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import pandas as pd

from raynas import answering, api, explained, turns
from raynas.answering import Answer
from raynas.architecture import Architecture, changes, option_text
from raynas.continuing import (
    Own,
    go_on,
    opened_result,
    put,
    require_budget,
    require_quiet,
    told_anew,
)
from raynas.directives import Directive, Move, Turn, in_force
from raynas.errors import UserError
from raynas.explanation.claims import from_frame
from raynas.explanation.feedback import with_all
from raynas.explanation.sentences import sentence, value
from raynas.feedback import Context, Interpreter, Understood
from raynas.files import place
from raynas.objective import COSTS
from raynas.problem import Problem
from raynas.report import write_report
from raynas.result import SearchResult, load
from raynas.run import RunInfo
from raynas.running import carry_on
from raynas.trial import Proposal, Reason

if TYPE_CHECKING:
    from torch import nn

    from raynas.progress import Display
    from raynas.space import Space

ALTERNATIVES = 3  # designs of the front that a proposal names beside it
SEEDS = 3  # trainings of the agreed design


@dataclass(frozen=True)
class Proposed:
    """A design that is put forward.

    Attributes:
        trial: that trained it, or the one that it was made from.
        design: as it is under discussion.
        edits: decision, option in the trial, option here: what people changed since.
        readings: of the trial.
        explanation: sentences of claims.
        alternatives: other designs of the front, best first: trial, readings.
    """

    trial: int
    design: Architecture
    edits: tuple[tuple[str, Any, Any], ...]
    readings: Mapping[str, float]
    explanation: tuple[str, ...] = ()
    alternatives: tuple[tuple[int, Mapping[str, float]], ...] = ()

    def __str__(self) -> str:
        lines = [f"Trial {self.trial}: {_told(self.readings)}", str(self.design)]
        lines += [f"changed since: {n} = {_text(b)} (was {_text(a)})" for n, a, b in self.edits]
        lines += [f"• {text}" for text in self.explanation]
        lines += [f"or trial {n}: {_told(readings)}" for n, readings in self.alternatives]
        return "\n".join(lines)


class CollaborativeDesignSession:
    """Proposes a design, hears what the engineer says of it, and proposes again.

    All that is said and done is kept in the run's folder: a session that was closed, or whose
    process was killed, is opened again with `CollaborativeDesignSession.open(RUN)`. Leaving the
    `with` block ends nothing.

    Args:
        problem: see `raynas.search`.
        trials, time_budget_hours: of each part of the search, first proposal and refinements.
        interpreter: is asked about words that the grammar refuses (see `raynas.feedback`).
        space, strategy, scheduler, epochs, evaluator, feedback, explanation_level, seed, run,
            driver, address, display: see `raynas.search`.
    """

    def __init__(
        self,
        problem: Problem | Mapping[str, Any] | None = None,
        *,
        trials: int = 16,
        time_budget_hours: float | None = None,
        space: str | Space | Callable[..., Any] = "layered",
        strategy: str = "auto",
        scheduler: str = "asha",
        epochs: int = 18,
        evaluator: Any = None,
        feedback: str | Mapping[str, Any] | None = None,
        explanation_level: str = "standard",
        seed: int = 0,
        run: str | Path | None = None,
        driver: str = "tune",
        address: str | None = None,
        interpreter: Interpreter | None = None,
        display: Display | None = None,
    ) -> None:
        problem = Problem.of(problem if problem is not None else {})
        own = problem.dataset if not isinstance(problem.dataset, str) else None
        own_file = isinstance(space, str) and ".py" in space
        given = space if own_file or not isinstance(space, str) else None
        self._own = Own(own, given, evaluator)
        self._search: dict[str, Any] = {
            "problem": problem,
            "space": space,
            "strategy": strategy,
            "scheduler": scheduler,
            "epochs": epochs,
            "evaluator": evaluator,
            "feedback": feedback,
            "explanation_level": explanation_level,
            "seed": seed,
            "run": run,
            "driver": driver,
        }
        self._budget = (trials, time_budget_hours)
        self._interpreter, self._address, self._display = interpreter, address, display
        self._path: Path | None = None

    @classmethod
    def open(
        cls,
        run: str | Path,
        *,
        trials: int = 16,
        time_budget_hours: float | None = None,
        dataset: Any = None,
        space: Space | Callable[..., Any] | str | None = None,
        evaluator: Any = None,
        address: str | None = None,
        interpreter: Interpreter | None = None,
        display: Display | None = None,
    ) -> CollaborativeDesignSession:
        """Goes on with a session, or begins one about a search that is there already.

        Args:
            dataset, space, evaluator: again, if they were your own objects.

        Raises:
            ArchiveError: there is no such run.
        """
        session = cls(trials=trials, time_budget_hours=time_budget_hours, address=address,
                      interpreter=interpreter, display=display)  # fmt: skip
        session._own = Own(dataset, space, evaluator)
        session._path = SearchResult(place(run)).path
        return session

    def __enter__(self) -> CollaborativeDesignSession:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close: all is kept as it is said."""

    @property
    def path(self) -> Path:
        """The run's folder.

        Raises:
            UserError: nothing was proposed yet.
        """
        if self._path is None:
            raise UserError("nothing was proposed yet: call get_initial_proposal() first.")
        return self._path

    @property
    def result(self) -> SearchResult:
        """The search so far."""
        result = load(self.path, self._own.space)
        result.evaluator = self._own.evaluator
        return result

    @property
    def history(self) -> pd.DataFrame:
        """All turns: number, at, move, said, answer, directives, ..., and whether each holds."""
        data = turns.frame(self.path)
        held = {t.number for t in in_force(turns.read(self.path))}
        data["holds"] = data["number"].isin(held)
        return data

    @property
    def design(self) -> Architecture:
        """The design under discussion."""
        return self._discussed(self.result)[1]

    def get_initial_proposal(self) -> Proposed:
        """Searches, and puts the best design forward; of a session opened again, the present one.

        Raises:
            UserError: the search could not be begun, or found no design.
        """
        if self._path is None:
            trials, hours = self._budget
            shared = {"address": self._address, "display": self._display}
            given = {**self._search, **shared, "trials": trials, "time_budget_hours": hours}
            result = api.search(**given)
            self._path = result.path
            return self._propose(result)
        result = self.result
        if not any(t.move == "proposal" for t in result.info.now.turns):
            if not len(result.front()):
                return self.get_refined_proposal()
            return self._propose(result)
        return self._shown(result)

    def provide_feedback(self, feedback: str | Mapping[str, Any]) -> Answer:
        """Hears what the engineer says of the design, and says what that means.

        It acts with the next proposal. What is not understood changes nothing.

        Raises:
            UserError: a dict is wrong somewhere, or it contradicts what was said or a limit.
        """
        _, judge, result = self._opened()
        trial, design = self._discussed(result, missing=True)
        given = answering.context(result, trial, design)
        said, understood = answering.read_feedback(feedback, given, result.info, self._interpreter)
        if understood.undo and not understood.directives and not understood.refusals:
            return Answer(notes=(self.undo(),))
        if not understood.directives:
            return Answer(refusals=understood.refusals)
        return self._put(result, judge, "feedback", said, understood)

    def get_refined_proposal(self, trials: int | None = None) -> Proposed:
        """Searches further with all that was said, and puts the best design forward."""
        require_budget(trials, None)
        hours = None if trials is not None else self._budget[1]
        more = trials or (None if hours is not None else self._budget[0])
        result = go_on(self.path, self._own, more, hours, self._address, self._display)
        return self._propose(result)

    def modify_layer(self, layer: int, options: Mapping[str, Any]) -> Answer:
        """Changes the design under discussion, and says what is known of that.

        The options are pinned, and put to the test when the search goes on. An option that the
        space does not have is added to it for this session, if its networks can be built with it.

        Args:
            layer: from 0, as `explain` counts them.
            options: `{"type": "depthwise_separable_conv", "kernel_size": 5}`.

        Raises:
            UserError: there is no such layer or decision, or no network can be built so; the
                message says what the space allows.
        """
        _, judge, result = self._opened()
        trial, design = self._discussed(result)
        given = answering.context(result, trial, design)
        said = _suggested(layer, options)
        try:
            text, understood = answering.read_feedback(said, given, result.info)
        except UserError:
            added = _missing(given, layer, options)
            if not added:
                raise
            asked = {d.paths[0].rpartition(".")[2]: d.options[0] for d in added}
            pins = [replace(d, kind="pin", tested=True) for d in added]
            rest = {leaf: o for leaf, o in options.items() if leaf not in asked}
            text, understood = answering.written(said), Understood()
            if rest:
                _, understood = answering.read_feedback(_suggested(layer, rest), given, result.info)
            understood = Understood((*added, *pins, *understood.directives))
        return self._put(result, judge, "modify", text, understood)

    def compare(self, a: int, b: int) -> str:
        """Why the design of trial a and not that of trial b."""
        return self.result.versus(b, a)

    def explain(self, layer: int) -> str:
        """What is known of a layer of the design under discussion."""
        result = self.result
        trial, design = self._discussed(result)
        name, decisions = explained.layer_decisions(result, trial)[layer]
        text = result.get_explanation_for_layer(layer, trial)
        tested = [c for c in from_frame(result.claims) if c.kind == "suggestion"]
        named = [c for c in tested if set(decisions) & set((c.path or "").split(", "))]
        text = "\n".join([*map(sentence, named), text])
        edits = [e for e in changes(result.architecture(trial), design) if e[0] in decisions]
        if not edits:
            return text
        said = ", ".join(f"{n} = {_text(after)}" for n, _, after in edits)
        return f"{name} was changed since: {said}. Of trial {trial}:\n{text}"

    def undo(self) -> str:
        """Takes back the last turn that holds; what was trained meanwhile stays in the archive.

        Raises:
            UserError: only the first proposal is left.
        """
        require_quiet(self.path)
        result = self.result
        held = list(result.info.now.turns)
        first = next((t.number for t in held if t.move == "proposal"), 0)
        last = [t for t in held if t.number > first]
        if not last:
            raise UserError("there is nothing to take back but the first proposal.")
        turn = last[-1]
        answer = f"taken back: {_named(turn)}"
        taken = answering.turn_of(result, "undo", answer=answer, undoes=turn.number)
        turns.append(self.path, taken)
        told_anew(self.result)
        return answer

    def finalize(self, seeds: int = SEEDS) -> nn.Module:
        """Trains the design under discussion fully, and returns the network, in eval mode.

        It is trained with fresh seeds; the network is the one that reads best on the validation
        split, and `final()` tells what to expect of it.

        Raises:
            UserError: the designs of this session are no networks, or it could not be trained.
        """
        info, judge, result = self._opened()
        if not info.data:
            raise UserError(
                "the designs of this session are measured by an evaluator of your own: there is "
                "no network to train. The design is session.design."
            )
        trial, design = self._discussed(result)
        why = "the design that was agreed on, trained fully with a fresh seed"
        reason = Reason("engineer", why, (trial,), changes(result.architecture(trial), design))
        done = len(self._finals(result, design))
        wanted = [Proposal(design, reason, purpose="final")] * max(seeds - done, 0)
        if wanted:
            given = (info.settings["trials"], None, self._address, self._display)
            carry_on(self.path, info, judge, *given, new=False, final=wanted)
            result = self.result
        rows = self._finals(result, design)
        if not len(rows):
            raise UserError(f"{self.path}: the design could not be trained to the end.")
        said = self._final_words(result, rows)
        held = result.info.now.turns
        if not held or held[-1].move != "final" or held[-1].answer != said:
            text, number = str(design), int(rows.iloc[0]["number"])
            turn = answering.turn_of(
                result, "final", trial=number, about=text, design=text, answer=said
            )
            turns.append(self.path, turn)
            write_report(self.result)
        return result.get_model(int(rows.iloc[0]["number"]))

    def final(self) -> str:
        """What the trainings of the agreed design read; '' before it was trained."""
        said = [t.answer for t in self.result.info.now.turns if t.move == "final"]
        return said[-1] if said else ""

    def _opened(self) -> tuple[Any, Any, SearchResult]:
        info, judge = self._own.opened(self.path, "CollaborativeDesignSession.open")
        return info, judge, opened_result(self.path, info, judge)

    def _put(
        self, result: SearchResult, judge: Any, move: Move, said: str, understood: Understood
    ) -> Answer:
        """Keeps what was said, and the design that comes of it."""
        trial, design = self._discussed(result, missing=True)
        asked = [d for d in understood.directives if d.kind in ("pin", "forbid", "add")]
        given = (None, "") if design is None else (trial, str(design))
        turn, answer = put(result, judge, move, said, understood, *given)
        after = ""
        if asked and design is not None:
            info = RunInfo.read(self.path, (turn,))
            now = info.space.parse(info.said[-1].about)  # with what was added
            after = str(info.allowed.fit(with_all(info.space, now, asked)))
        turns.append(self.path, replace(turn, design=after))
        return answer

    def _propose(self, result: SearchResult) -> Proposed:
        """Puts the best design forward, and keeps that."""
        front = result.front()
        if not len(front):
            raise UserError(f"{self.path}: {result.why_no_front()} Say what may be different.")
        number = int(front.iloc[0]["number"])
        design = str(result.architecture(number))
        shown = self._of(result, number, result.architecture(number))
        turn = answering.turn_of(
            result, "proposal", trial=number, about=design, design=design, answer=str(shown)
        )
        turns.append(self.path, turn)
        return shown

    def _shown(self, result: SearchResult) -> Proposed:
        return self._of(result, *self._discussed(result))

    def _of(self, result: SearchResult, trial: int, design: Architecture) -> Proposed:
        names = [o.name for o in result.info.objectives]
        names += [n for n in (f"test_{names[0]}", *COSTS) if f"m.{n}" in result.trials]
        rows = result.trials.set_index("number")

        def readings(number: int) -> dict[str, float]:
            row = rows.loc[number]
            kept = dict.fromkeys(n for n in names if row[f"m.{n}"] == row[f"m.{n}"])
            return {n: float(str(row[f"m.{n}"])) for n in kept}

        others = [int(n) for n in result.front()["number"] if n != trial][:ALTERNATIVES]
        return Proposed(
            trial,
            design,
            changes(result.architecture(trial), design),
            readings(trial),
            tuple(result.sentences("brief")),
            tuple((n, readings(n)) for n in others),
        )

    @overload
    def _discussed(self, result: SearchResult) -> tuple[int, Architecture]: ...

    @overload
    def _discussed(
        self, result: SearchResult, missing: bool
    ) -> tuple[int, Architecture] | tuple[None, None]: ...

    def _discussed(
        self, result: SearchResult, missing: bool = False
    ) -> tuple[int, Architecture] | tuple[None, None]:
        """The trial and the design under discussion.

        Args:
            missing: whether there may be none; otherwise that is an error.
        """
        held = result.info.now.turns
        shown = [t for t in held if t.move == "proposal" and t.trial is not None]
        if not shown:
            if missing and not len(result.front()):
                return None, None
            number = int(result._row(None)["number"])
            return number, result.architecture(number)
        trial = shown[-1].trial
        assert trial is not None
        texts = [t.design for t in held if t.number >= shown[-1].number and t.design]
        return trial, result.info.space.parse(texts[-1])

    def _finals(self, result: SearchResult, design: Architecture) -> pd.DataFrame:
        """The full trainings of a design, the best on the validation split first."""
        rows = result.trials
        plain = str((result.code or result.info.space).plainest(design))  # as it is trained
        own = (rows["purpose"] == "final") & (rows["architecture"] == plain)
        first = result.info.objectives[0]
        ended = rows[own & (rows["status"] == "finished")]
        return ended.sort_values(f"m.{first.name}", ascending=first.direction == "min")

    def _final_words(self, result: SearchResult, rows: pd.DataFrame) -> str:
        """What the trainings read, as one sentence."""
        name = result.info.objectives[0].name
        column = f"m.test_{name}" if f"m.test_{name}" in rows else f"m.{name}"
        readings = rows[column].astype(float)
        best = rows.iloc[0]
        spread = f" ({value(readings.min(), name)} to {value(readings.max(), name)})"
        return (
            f"{len(rows)} full trainings read {column[2:].replace('_', ' ')} "
            f"{value(readings.mean(), name)} on average{spread if len(rows) > 1 else ''}; the "
            f"network is that of trial {best['number']}, the best on the validation split."
        )


def _suggested(layer: int, options: Mapping[str, Any]) -> dict[str, Any]:
    return {f"layer_{layer}": {"suggestion": dict(options)}}


def _missing(given: Context, layer: int, options: Mapping[str, Any]) -> list[Directive]:
    """What a space would have to be given for a layer to have these options: one `add` each."""
    if not 0 <= layer < len(given.layers):
        return []
    by_leaf = {n.rpartition(".")[2]: given.space.by_name[n] for n in given.layers[layer][1]}
    return [
        Directive("add", f"{d.name} = {option}", (d.name,), (option,))
        for leaf, option in options.items()
        if (d := by_leaf.get(leaf)) is not None
        and option not in given.state.left.get(d.name, d.options)
        and type(option) is type(d.options[0])
    ]


def _told(readings: Mapping[str, float]) -> str:
    return ", ".join(f"{n.replace('_', ' ')} {value(v, n)}" for n, v in readings.items())


def _text(option: Any) -> str:
    return "absent" if option is None else option_text(option)


def _named(turn: Turn) -> str:
    """A turn as a person knows it."""
    if turn.move in ("feedback", "modify"):
        return f"turn {turn.number} ({turn.said!r})"
    what = {"proposal": f"the proposal of trial {turn.trial}", "final": "the final training"}
    return f"turn {turn.number} ({what[turn.move]})"

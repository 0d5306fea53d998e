"""What words are read against, and what comes out of reading them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raynas.architecture import Architecture
from raynas.directives import Directive, State
from raynas.objective import COSTS
from raynas.problem import Problem
from raynas.space import Space

Interpreter = Callable[[str, Problem, Space], Iterable["Directive | Mapping[str, Any]"]]


@dataclass(frozen=True)
class Context:
    """What is being talked about.

    Attributes:
        state: what holds before.
        design: under discussion; what is said relative ("deeper", "keep layer 2") is about it.
        trial: the trial that it comes from.
        layers: of the design, as `result.explanations` counts them: name, decisions.
        readings: of the design: accuracy, params, flops, latency_ms..., as far as they are known.
        best: of each objective, the best reading so far and its trial.
        costs: what this run can know of a design before it is trained.
    """

    state: State
    design: Architecture | None = None
    trial: int | None = None
    layers: Sequence[tuple[str, Sequence[str]]] = ()
    readings: Mapping[str, float] = field(default_factory=dict)
    best: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    costs: frozenset[str] = frozenset(COSTS)

    @property
    def space(self) -> Space:
        """All that was possible at any time."""
        return self.state.space

    @property
    def subject(self) -> str:
        """How the design under discussion is named: `trial 17`."""
        return "the design" if self.trial is None else f"trial {self.trial}"


@dataclass(frozen=True)
class Refusal:
    """Words that change nothing: why, and the nearest forms that would."""

    words: str
    why: str
    nearest: tuple[str, ...] = ()

    def __str__(self) -> str:
        near = f" Nearest forms: {'; '.join(self.nearest)}." if self.nearest else ""
        return f"not understood: {self.words!r}: {self.why}{near}"


@dataclass(frozen=True)
class Understood:
    """What words or a dict came to; `undo` asks to take back the last turn."""

    directives: tuple[Directive, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    undo: bool = False

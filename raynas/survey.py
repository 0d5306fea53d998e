"""Finds out what a network asks for, and under which earlier answers, by asking it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from raynas.architecture import Decision, InvalidSpace, Option
from raynas.errors import UserError
from raynas.space import Space

CHECKS = 40  # designs drawn at random that must ask for what the space found says they ask for
ROUNDS = 20  # of correcting the space where they did not
MOST = 1000  # choices of one network


@dataclass(frozen=True)
class Trace:
    """What one construction asked for and was answered, and a digest of the network made."""

    asked: Mapping[str, tuple[Decision, Option]]
    network: str

    @property
    def options(self) -> dict[str, Option]:
        return {name: option for name, (_, option) in self.asked.items()}


@dataclass
class Survey:
    """Finds out under which options a network asks for what.

    Attributes:
        loose: decisions that some designs have to answer though they do not ask for them,
            because they depend on several others at once.
    """

    name: str
    run: Callable[[Mapping[str, Option]], Trace]
    loose: set[str] = field(default_factory=set)
    _known: dict[str, Decision] = field(default_factory=dict)
    _order: list[str] = field(default_factory=list)
    _traces: list[Trace] = field(default_factory=list)
    _asking: dict[str, int] = field(default_factory=dict)  # name -> the traces that ask for it
    _choosing: dict[str, dict[Option, int]] = field(default_factory=dict)
    _matters: set[str] = field(default_factory=set)
    _failures: list[str] = field(default_factory=list)

    def decisions(self) -> tuple[Decision, ...]:
        """All decisions, each with the one earlier decision that it depends on, if any."""
        try:
            first = self.run({})
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"{self.name} cannot be built with the first option of every choice: "
                f"{type(error).__name__}: {error}. (It is built on torch's meta device: numbers "
                "that the constructor reads must be made with device='cpu'.)"
            ) from error
        if not first.asked:
            raise UserError(
                f"{self.name} makes no choices. Declare some where you use them: "
                'width = raynas.choice("width", [16, 32, 64]).'
            )
        self._explore(first)
        rng = np.random.default_rng(0)
        for _ in range(ROUNDS):
            space = Space(self.name, self._fit())
            if self._agrees(space, rng):
                break
        return space.decisions

    def notes(self) -> tuple[str, ...]:
        idle = [
            n for n in self._order if n not in self._matters and len(self._known[n].options) > 1
        ]
        said = [
            f"{self.name}: the choice {n!r} changed nothing that can be seen in the network; is "
            "it used?"
            for n in idle
        ]
        if self._failures:
            said.append(
                f"{self.name}: {len(self._failures)} of the designs tried cannot be built; "
                f"first {self._failures[0]}"
            )
        return tuple(said)

    def _explore(self, start: Trace) -> None:
        """Changes every decision once, around the design in which it first came up."""
        waiting = [start]
        while waiting:
            base = waiting.pop(0)
            fresh = self._add(base)
            for name in fresh:
                for option in self._known[name].options:
                    if option == base.options[name]:
                        continue
                    trace = self._try({**base.options, name: option})
                    if trace is None:
                        continue
                    if trace.network != base.network or trace.asked.keys() != base.asked.keys():
                        self._matters.add(name)
                    if trace.asked.keys() - self._known.keys():
                        waiting.append(trace)
                    else:
                        self._keep(trace)

    def _add(self, trace: Trace) -> list[str]:
        """Keeps a trace; returns the decisions that it is the first to ask for."""
        self._keep(trace)
        fresh: list[str] = []
        place = 0
        places = {name: i for i, name in enumerate(self._order)}
        for name, (decision, _) in trace.asked.items():
            if name in self._known:
                place = places[name] + 1 + len(fresh)
                continue
            self._known[name] = decision
            self._order.insert(place, name)
            place += 1
            fresh.append(name)
        if len(self._known) > MOST:
            raise InvalidSpace(
                f"{self.name} asks for more than {MOST} choices. Names must be the same in every "
                "run of the constructor."
            )
        return fresh

    def _keep(self, trace: Trace) -> None:
        bit = 1 << len(self._traces)
        self._traces.append(trace)
        for name, (decision, option) in trace.asked.items():
            self._asking[name] = self._asking.get(name, 0) | bit
            chosen = self._choosing.setdefault(name, {})
            chosen[option] = chosen.get(option, 0) | bit
            known = self._known.get(name, decision)
            if known.options != decision.options:
                raise InvalidSpace(
                    f"choice({name!r}): its options are {known.options} in one design and "
                    f"{decision.options} in another. Put what they depend on into the name."
                )

    def _try(self, picks: Mapping[str, Option]) -> Trace | None:
        try:
            return self.run(picks)
        except UserError:
            raise
        except Exception as error:
            text = " ".join(f"{name}={option}" for name, option in picks.items())
            self._failures.append(f"{text}: {type(error).__name__}: {error}")
            return None

    def _fit(self) -> tuple[Decision, ...]:
        self.loose = set()
        return tuple(self._placed(i, name) for i, name in enumerate(self._order))

    def _placed(self, index: int, name: str) -> Decision:
        """The decision with its condition: the earliest other decision that explains the traces.

        Sets of traces are the bits of whole numbers: a network of hundreds of choices has
        thousands of traces.
        """
        d, every = self._known[name], (1 << len(self._traces)) - 1
        having = self._asking[name]
        if having == every:
            return d
        best, misses = d, (every & ~having).bit_count()
        for other in self._order[:index]:
            if having & ~self._asking[other]:
                continue
            chosen = self._choosing[other]
            options = [option for option, traces in chosen.items() if traces & having]
            wrong = 0
            for option in options:
                wrong |= chosen[option] & ~having
            if wrong.bit_count() < misses:
                best, misses = replace(d, when=(other, frozenset(options))), wrong.bit_count()
        if misses:
            self.loose.add(name)
        return best

    def _agrees(self, space: Space, rng: np.random.Generator) -> bool:
        """Tries random designs; adds those that contradict the space to what is known."""
        agreed = True
        for _ in range(CHECKS):
            design = space.sample(rng)
            trace = self._try(design.options)
            if trace is None:
                continue
            missing = design.options.keys() - trace.asked.keys() - self.loose
            if trace.asked.keys() - design.options.keys() or missing:
                agreed = False
                if trace.asked.keys() - self._known.keys():
                    self._explore(trace)
                else:
                    self._keep(trace)
        return agreed

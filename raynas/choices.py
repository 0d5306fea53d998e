"""Your own network as a space: options are declared where they are used.

    class Small(nn.Module):
        def __init__(self, input_shape, num_classes):
            width = choice("width", [16, 32, 64])
            ...

A network is described by any class or function that returns an `nn.Module`; `choice` returns a
plain value, so that no layer needs a searchable twin. The space is found by building the network
on torch's meta device (shapes without numbers) again and again, one choice changed at a time, and
then at random to check what was found.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import search_spaces
from raynas.architecture import Architecture, Decision, InvalidArchitecture, InvalidSpace, Option
from raynas.errors import UserError, unknown
from raynas.space import Shape, Space

if TYPE_CHECKING:
    from torch import nn

CHECKS = 40  # designs drawn at random that must ask for what the space found says they ask for
ROUNDS = 20  # of correcting the space where they did not

Answer = Callable[[Decision], Option]


@dataclass
class _Building:
    """One run of a network's constructor: how to answer, and what was asked so far."""

    answer: Answer
    asked: dict[str, tuple[Decision, Option]] = field(default_factory=dict)


_BUILDING: ContextVar[_Building | None] = ContextVar("building", default=None)


def choice(name: str, options: Sequence[Any] | Mapping[str, Any], meaning: str = "") -> Any:
    """Declares a decision of the search and returns the value chosen for the design being built.

    Outside of a search it returns the first option, so that the network stays an ordinary one.
    Asking twice by one name gives the same value twice.

    Args:
        name: dotted; what stands before the last dot is the layer that explanations and feedback
            speak about: `layer0.kernel_size`.
        options: what may be chosen. Numbers, words and truth values stand for themselves, classes
            and functions for their names; anything else is named by a mapping:
            `{"wide": (64, 128), "deep": (32, 32, 32)}`. Numbers in order are known to be alike
            when they are near.
        meaning: what the choice changes, in words; explanations quote it.

    Raises:
        InvalidSpace: the options have no names, or were others before under this name.
    """
    labels, values = _labelled(name, options)
    numbers = all(isinstance(o, int | float) and not isinstance(o, bool) for o in labels)
    ordered = numbers and len(labels) > 1 and list(labels) == sorted(labels)
    said = meaning or name.rpartition(".")[2].replace("_", " ")
    decision = Decision(name, labels, said, ordered)
    building = _BUILDING.get()
    if building is None:
        return values[0]
    if name in building.asked:
        before, option = building.asked[name]
        if before.options != decision.options:
            raise InvalidSpace(
                f"choice({name!r}): expected the options {before.options} that it had before; got "
                f"{decision.options}. Give other options another name."
            )
    else:
        option = building.answer(decision)
        building.asked[name] = decision, option
    return values[labels.index(option)]


def searchable(
    network: Callable[..., nn.Module],
    input_shape: Shape = (3, 32, 32),
    num_classes: int = 10,
) -> Space:
    """The space of a network that uses `choice`.

    Args:
        network: a class or function; it is given `input_shape` and `num_classes`, as far as it
            has parameters of these names.
        input_shape, num_classes: with which its choices are looked for. `raynas.search` takes
            the network itself and uses those of its data.

    Raises:
        UserError: the network makes no choices, or cannot be built with the first options.
    """
    name = getattr(network, "__name__", type(network).__name__)
    given = _parameters(network, name)

    def construct(answer: Answer, shape: Shape, classes: int) -> tuple[nn.Module, _Building]:
        offered = {"input_shape": shape, "num_classes": classes}
        building = _Building(answer)
        token = _BUILDING.set(building)
        try:
            return network(**{key: offered[key] for key in given}), building
        finally:
            _BUILDING.reset(token)

    def build(architecture: Architecture, shape: Shape, classes: int) -> nn.Module:
        def answer(decision: Decision) -> Option:
            if decision.name not in architecture:
                raise InvalidArchitecture(
                    f"{name} asks for {decision.name!r}, which the space did not expect under "
                    f"{architecture}. Choices may depend on other choices, on nothing else."
                )
            return architecture[decision.name]

        return construct(answer, shape, classes)[0]

    def run(picks: Mapping[str, Option]) -> _Trace:
        import torch

        with torch.device("meta"):
            model, building = construct(
                lambda d: picks.get(d.name, d.options[0]), input_shape, num_classes
            )
        return _Trace(building.asked, _fingerprint(model))

    survey = _Survey(name, run)
    decisions = survey.decisions()

    @lru_cache(maxsize=10_000)
    def simplify(architecture: Architecture) -> Architecture:
        """Answers that the design never asks for are put to the first option."""
        asked = run(architecture.options).asked
        changed = {n: space.by_name[n].options[0] for n in architecture.options if n not in asked}
        return space.answer(
            lambda d: changed.get(d.name, architecture.options.get(d.name, d.options[0]))
        )

    space = Space(name, decisions, build=build, notes=survey.notes())
    return replace(space, simplify=simplify) if survey.loose else space


def as_space(
    space: str | Space | Callable[..., Any] | None,
    input_shape: Shape = (3, 32, 32),
    num_classes: int = 10,
) -> Space:
    """A space from all that `raynas.search(space=)` takes.

    Raises:
        UserError: there is no such space, file or name in it.
    """
    if isinstance(space, str):
        path, colon, name = space.rpartition(".py:")
        if not colon and not space.endswith(".py"):
            return search_spaces.find(space)
        space = _from_file(Path(f"{path}.py" if colon else space), name if colon else "SPACE")
    if isinstance(space, Space):
        return space
    if callable(space):
        return searchable(space, input_shape, num_classes)
    raise UserError(
        "expected a space: a name from `raynas spaces`, my_space.py:NAME, a raynas.Space, or a "
        f"class or function that makes a network; got {space!r}."
    )


def located(text: str) -> str:
    """The text of a space with an absolute path, if it stands in a file."""
    path, colon, name = text.rpartition(".py:")
    if colon:
        return f"{Path(path).resolve()}.py:{name}"
    return str(Path(text).resolve()) if text.endswith(".py") else text


def _from_file(path: Path, name: str) -> Any:
    if not path.is_file():
        raise UserError(f"expected a Python file with a space; {path} does not exist.")
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    spec = importlib.util.spec_from_file_location(f"{path.stem}_{digest}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if str(path.parent.resolve()) not in sys.path:  # as for a script: what lies beside it
        sys.path.insert(0, str(path.parent.resolve()))
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        raise UserError(f"{path} cannot be used as a space: it ends with {cause}.") from error
    if not hasattr(module, name):
        found = [n for n, v in vars(module).items() if isinstance(v, Space) or inspect.isclass(v)]
        raise unknown(f"a name in {path}", name, found)
    return getattr(module, name)


def _labelled(
    name: str, options: Sequence[Any] | Mapping[str, Any]
) -> tuple[tuple[Option, ...], list[Any]]:
    """What the options are called in texts and tables, and the options."""
    if isinstance(options, Mapping):
        return tuple(options), list(options.values())
    values = list(options)
    if len({type(v) for v in values}) == 1 and isinstance(values[0], bool | int | float | str):
        return tuple(values), values
    labels = [getattr(v, "__name__", "none" if v is None else "") for v in values]
    if len({*labels}) < len(labels) or not all(label.isidentifier() for label in labels):
        raise InvalidSpace(
            f"choice({name!r}): expected numbers, words or truth values of one type, or classes "
            f"and functions with names of their own; got {values}. Name what else you choose "
            "from: {'name': value, ...}."
        )
    return tuple(labels), values


def _parameters(network: Callable[..., Any], name: str) -> list[str]:
    try:
        parameters = inspect.signature(network).parameters.values()
    except (TypeError, ValueError):
        raise UserError(f"expected a class or function that makes a network; got {name}.") from None
    offered = ("input_shape", "num_classes")
    for p in parameters:
        variadic = p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        if p.name not in offered and p.default is p.empty and not variadic:
            raise UserError(
                f"{name} wants {p.name!r}: expected a network whose parameters are called "
                "input_shape and num_classes (either may be absent) or have defaults. "
                f"Wrap it: lambda input_shape, num_classes: {name}(...)."
            )
    return [p.name for p in parameters if p.name in offered]


@dataclass(frozen=True)
class _Trace:
    """What one construction asked for and was answered, and a digest of the network made."""

    asked: Mapping[str, tuple[Decision, Option]]
    network: str

    @property
    def options(self) -> dict[str, Option]:
        return {name: option for name, (_, option) in self.asked.items()}


@dataclass
class _Survey:
    """Finds out under which options a network asks for what.

    Attributes:
        loose: decisions that some designs have to answer though they do not ask for them,
            because they depend on several others at once.
    """

    name: str
    run: Callable[[Mapping[str, Option]], _Trace]
    loose: set[str] = field(default_factory=set)
    _known: dict[str, Decision] = field(default_factory=dict)
    _order: list[str] = field(default_factory=list)
    _traces: list[_Trace] = field(default_factory=list)
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

    def _explore(self, start: _Trace) -> None:
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
                        self._traces.append(trace)

    def _add(self, trace: _Trace) -> list[str]:
        """Keeps a trace; returns the decisions that it is the first to ask for."""
        self._traces.append(trace)
        fresh, place = [], 0
        for name, (decision, _) in trace.asked.items():
            if name in self._known:
                place = self._order.index(name) + 1
                if self._known[name].options != decision.options:
                    raise InvalidSpace(
                        f"choice({name!r}): its options are {self._known[name].options} in one "
                        f"design and {decision.options} in another. Put what they depend on "
                        "into the name."
                    )
                continue
            self._known[name] = decision
            self._order.insert(place, name)
            place += 1
            fresh.append(name)
        return fresh

    def _try(self, picks: Mapping[str, Option]) -> _Trace | None:
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
        """The decision with its condition: the earliest other decision that explains the traces."""
        d = self._known[name]
        having = [t for t in self._traces if name in t.asked]
        if len(having) == len(self._traces):
            return d
        best, misses = d, len(self._traces) - len(having)
        for other in self._order[:index]:
            if not all(other in t.asked for t in having):
                continue
            options = frozenset(t.options[other] for t in having)
            wrong = sum(
                t.options.get(other) in options for t in self._traces if name not in t.asked
            )
            if wrong < misses:
                best, misses = replace(d, when=(other, options)), wrong
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
                    self._traces.append(trace)
        return agreed


def _fingerprint(model: nn.Module) -> str:
    """A digest of everything of a network that can be seen without running it."""
    digest = hashlib.sha256(str(model).encode())
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
    for path, module in model.named_modules():
        for name, value in _visible(module):
            digest.update(f"{path}.{name}={value}".encode())
    return digest.hexdigest()


def _visible(module: nn.Module) -> Iterator[tuple[str, str]]:
    for name, value in vars(module).items():
        if isinstance(value, bool | int | float | str | tuple | list | None):
            yield name, repr(value)
        elif callable(value) and not name.startswith("_"):
            with contextlib.suppress(AttributeError):
                yield name, value.__qualname__

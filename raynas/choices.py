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

import hashlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

import search_spaces
from raynas.architecture import Architecture, Decision, InvalidArchitecture, InvalidSpace, Option
from raynas.errors import UserError, unknown
from raynas.space import Shape, Space
from raynas.survey import Survey, Trace

if TYPE_CHECKING:
    from torch import nn


FROM_FILES: list[ModuleType] = []  # modules that were read from a path: no worker could import them

_WORD = re.compile(r"[A-Za-z_][\w.+\-]*\Z")

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
    if name.startswith(("train.", "compress.")):
        raise InvalidSpace(
            f"choice({name!r}): names under 'train' and 'compress' are for how a network is "
            "trained and stored (--search-training, --search-compression). Choose another."
        )
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
    own = _Network.of(network)
    survey = Survey(own.name, partial(own.trace, input_shape=input_shape, num_classes=num_classes))
    decisions = survey.decisions()

    @lru_cache(maxsize=10_000)
    def simplify(architecture: Architecture) -> Architecture:
        """Answers that the design never asks for are put to the first option."""
        asked = survey.run(architecture.options).asked
        return space.answer(lambda d: architecture[d.name] if d.name in asked else d.options[0])

    space = Space(own.name, decisions, build=own.build, notes=survey.notes())
    return replace(space, simplify=simplify) if survey.loose else space


@dataclass(frozen=True)
class _Network:
    """A class or function that makes a network, and which of our two arguments it takes."""

    function: Callable[..., nn.Module]
    name: str
    given: tuple[str, ...]

    @classmethod
    def of(cls, function: Callable[..., nn.Module]) -> _Network:
        name = getattr(function, "__name__", type(function).__name__).strip("<>")
        return cls(function, name, _parameters(function, name))

    def construct(
        self, answer: Answer, input_shape: Shape, num_classes: int
    ) -> tuple[nn.Module, _Building]:
        offered = {"input_shape": input_shape, "num_classes": num_classes}
        building = _Building(answer)
        token = _BUILDING.set(building)
        try:
            model = self.function(**{key: offered[key] for key in self.given})
        finally:
            _BUILDING.reset(token)
        if not hasattr(model, "named_parameters"):
            raise UserError(f"{self.name}: expected a torch.nn.Module back; got {model!r}.")
        return model, building

    def build(self, architecture: Architecture, input_shape: Shape, num_classes: int) -> nn.Module:
        def answer(decision: Decision) -> Option:
            if decision.name not in architecture:
                raise InvalidArchitecture(
                    f"{self.name} asks for {decision.name!r}, which it was not seen to do under "
                    f"{architecture}. Choices may depend on other choices, and on nothing else."
                )
            return architecture[decision.name]

        return self.construct(answer, input_shape, num_classes)[0]

    def trace(self, picks: Mapping[str, Option], input_shape: Shape, num_classes: int) -> Trace:
        import torch

        from raynas.costs import fingerprint

        with torch.device("meta"):
            model, building = self.construct(
                lambda d: picks.get(d.name, d.options[0]), input_shape, num_classes
            )
        return Trace(building.asked, fingerprint(model))


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
    if hasattr(space, "named_parameters") and not isinstance(space, type):
        raise UserError(
            f"expected a class or function that makes a network; got a finished "
            f"{type(space).__name__}. Pass the class itself, or raynas.elastic(network, example)."
        )
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
    folder = path.parent.resolve()
    if str(folder) not in sys.path:  # as for a script: what lies beside it can be imported
        sys.path.insert(0, str(folder))
    before = sys.modules.keys() - {spec.name}
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        raise UserError(f"{path} cannot be used as a space: it ends with {cause}.") from error
    for fresh in sys.modules.keys() - before:
        file = Path(getattr(sys.modules[fresh], "__file__", None) or "/")
        if folder in file.parents and "site-packages" not in file.parts:
            FROM_FILES.append(sys.modules[fresh])
    if not hasattr(module, name):
        own = [
            n
            for n, v in vars(module).items()
            if isinstance(v, Space)
            or (callable(v) and getattr(v, "__module__", "") == module.__name__)
        ]
        raise unknown(f"say which, {path.name}:NAME", name, own or ["(nothing found there)"])
    return getattr(module, name)


def _labelled(
    name: str, options: Sequence[Any] | Mapping[str, Any]
) -> tuple[tuple[Option, ...], list[Any]]:
    """What the options are called in texts and tables, and the options."""
    if isinstance(options, Mapping):
        return tuple(options), list(options.values())
    if isinstance(options, str) or not isinstance(options, Iterable):
        raise InvalidSpace(f"choice({name!r}): expected a list of options; got {options!r}.")
    values = [v.item() if isinstance(v, np.generic) else v for v in options]
    if {type(v) for v in values} == {int, float}:
        values = [float(v) for v in values]
    if any(isinstance(v, str) and not _WORD.match(v) for v in values):
        raise InvalidSpace(
            f"choice({name!r}): expected words that can be written down bare; got {values}. Name "
            "them: {'word': 'any text', ...}."
        )
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


def _parameters(network: Callable[..., Any], name: str) -> tuple[str, ...]:
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
    return tuple(p.name for p in parameters if p.name in offered)

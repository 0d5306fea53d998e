"""Decisions and architectures: what can be asked and one way to answer, as immutable data."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from raynas.errors import UserError

Option = bool | int | float | str

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")
_WORD = re.compile(r"[\w.+\-]+\Z")
_BLOCK = re.compile(r"([\w.]+)\{([^{}]*)\}\s*")


class InvalidArchitecture(UserError):
    """An architecture that its search space does not contain."""


class InvalidSpace(UserError):
    """A search space whose definition contradicts itself."""


@dataclass(frozen=True)
class Decision:
    """One question a search answers.

    Attributes:
        name: dotted identifier, unique in its space; what stands before the last dot is its layer.
        options: what may be chosen, in a stable order; scalars of one type.
        meaning: what the choice changes, in words; explanations quote it.
        ordered: whether neighbouring options are alike (sizes, counts): encoded by rank, and
            mutated to near options more often.
        when: `(earlier decision, its options)` under which this one is active; None means always.
    """

    name: str
    options: tuple[Option, ...]
    meaning: str
    ordered: bool = False
    when: tuple[str, frozenset[Option]] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(self.options))
        if self.when is not None:
            object.__setattr__(self, "when", (self.when[0], frozenset(self.when[1])))
        if not _NAME.match(self.name):
            raise InvalidSpace(
                f"expected a dotted identifier such as 'layer0.kernel_size'; got {self.name!r}."
            )
        if not self.options or len(set(self.options)) != len(self.options):
            raise InvalidSpace(
                f"{self.name}: expected one or more options without repeats; got {self.options}."
            )
        if len({type(o) for o in self.options}) != 1:
            raise InvalidSpace(
                f"{self.name}: expected options of one type (bool, int, float or str); "
                f"got {self.options}."
            )
        for option in self.options:
            if not _WORD.match(option_text(option)) or parse_option(option_text(option)) != option:
                raise InvalidSpace(
                    f"{self.name}: option {option!r} does not survive being written down. Use a "
                    "word of letters, digits, '_', '.', '+' or '-'; write numbers without quotes."
                )

    @property
    def layer(self) -> str:
        """What stands before the last dot of the name; '' for a decision about the whole."""
        return self.name.rpartition(".")[0]

    @property
    def leaf(self) -> str:
        """What stands after the last dot of the name, such as `kernel_size`."""
        return self.name.rpartition(".")[2]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for run.json."""
        when = [self.when[0], sorted(self.when[1], key=str)] if self.when else None
        return {
            "name": self.name,
            "options": list(self.options),
            "meaning": self.meaning,
            "ordered": self.ordered,
            "when": when,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Decision:
        """Reads `to_dict` back."""
        when = (data["when"][0], frozenset(data["when"][1])) if data["when"] else None
        return cls(data["name"], tuple(data["options"]), data["meaning"], data["ordered"], when)


@dataclass(frozen=True)
class Architecture:
    """One point of a space: its active decisions and their options, in the space's order."""

    space: str
    choices: tuple[tuple[str, Option], ...]

    @cached_property
    def options(self) -> Mapping[str, Option]:
        """Active decision name -> chosen option."""
        return dict(self.choices)

    def __getitem__(self, name: str) -> Option:
        return self.options[name]

    def __contains__(self, name: object) -> bool:
        return name in self.options

    @cached_property
    def _text(self) -> str:
        blocks: list[tuple[str, list[str]]] = [(self.space, [])]
        for name, option in self.choices:
            layer, pair = _pair(name, option)
            if layer != ("" if len(blocks) == 1 else blocks[-1][0].rstrip(".")):
                blocks.append((layer or ".", []))
            blocks[-1][1].append(pair)
        return " ".join(f"{name}{{{' '.join(pairs)}}}" for name, pairs in blocks)

    def __str__(self) -> str:
        """The canonical text, e.g. `layered{num_layers=2} layer0{type=conv kernel_size=3} ...`."""
        return self._text

    @classmethod
    def parse(cls, text: str) -> Architecture:
        """Reads `str(architecture)` back; `Space.parse` also checks that the space contains it.

        Raises:
            InvalidArchitecture: the text is not of that form.
        """
        position, space = 0, ""
        choices: list[tuple[str, Option]] = []
        for match in _BLOCK.finditer(text):
            block, body = match.groups()
            prefix = f"{block}." if space and block != "." else ""
            pairs = _pairs(prefix, body)
            if match.start() != position or pairs is None:
                break
            choices += pairs
            position, space = match.end(), space or block
        if position != len(text) or not space:
            raise InvalidArchitecture(
                "expected an architecture such as 'layered{num_layers=2} layer0{type=conv ...}'; "
                f"got {text!r}. Copy one from `raynas front RUN`."
            )
        return cls(space, tuple(choices))


def changes(
    before: Architecture, after: Architecture
) -> tuple[tuple[str, Option | None, Option | None], ...]:
    """What differs: (decision, option before, option after); None where it is not active."""
    names = dict.fromkeys([*before.options, *after.options])
    pairs = ((n, before.options.get(n), after.options.get(n)) for n in names)
    return tuple(p for p in pairs if p[1] != p[2])


def option_text(option: Option) -> str:
    """How an option is written: `true`, `16`, `0.5`, `conv`."""
    return option if isinstance(option, str) else json.dumps(option)


def parse_option(text: str) -> Option:
    """Reads `option_text` back."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text


# Archives say the same few things many thousand times: these two are remembered.


@lru_cache(maxsize=50_000, typed=True)
def _pair(name: str, option: Option) -> tuple[str, str]:
    """A choice's layer, and how the choice is written there."""
    layer, _, leaf = name.rpartition(".")
    return layer, f"{leaf}={option_text(option)}"


@lru_cache(maxsize=50_000)
def _pairs(prefix: str, body: str) -> tuple[tuple[str, Option], ...] | None:
    """The choices in a block of a text; None if it is no list of `name=option`."""
    pairs = [pair.partition("=") for pair in body.split()]
    if not all(separator for _, separator, _ in pairs):
        return None
    return tuple((prefix + leaf, parse_option(option)) for leaf, _, option in pairs)

"""Directives from plain data, such as YAML or a language model's answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from raynas.architecture import Decision
from raynas.directives import CONFIDENCES, KINDS, Directive
from raynas.errors import UserError, unknown

_FIELDS = [f.name for f in fields(Directive)]
_TEXTS = ("words", "metric", "architecture", "note")
_LISTS = ("paths", "options", "objectives")
_WORDS = {"kind": KINDS, "confidence": CONFIDENCES, "sense": ("min", "max")}


def directive_of(data: Mapping[str, Any]) -> Directive:
    """Reads a directive whose fields are plain data: `{"kind": "pin", "paths": [...], ...}`.

    Raises:
        UserError: names every wrong field.
    """
    if not isinstance(data, Mapping):
        raise UserError(f"directive: expected a mapping with a kind; got {type(data).__name__}.")
    wrong: list[str] = []
    given: dict[str, Any] = {}
    if "kind" not in data:
        wrong.append(f"kind: expected one of {', '.join(KINDS)}; got nothing.")
    for name, value in data.items():
        try:
            given[str(name)] = _field(str(name), value)
        except UserError as error:
            wrong.append(str(error))
    if wrong:
        raise UserError("\n".join(wrong))
    return Directive(**given)


def _field(name: str, value: Any) -> Any:
    if name not in _FIELDS:
        raise unknown("directive", name, _FIELDS)
    if name in _WORDS and value not in _WORDS[name]:
        raise unknown(name, value, list(_WORDS[name]))
    if name in _TEXTS and not isinstance(value, str):
        raise UserError(f"{name}: expected a text; got {value!r}.")
    if name in _LISTS:
        items = value if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
        kinds: Any = bool | int | float | str if name == "options" else str
        if not all(isinstance(item, kinds) for item in items):
            raise UserError(f"{name}: expected a list of names or numbers; got {value!r}.")
        return tuple(items)
    if name == "tested" and not isinstance(value, bool):
        raise UserError(f"tested: expected true or false; got {value!r}.")
    if (
        name == "bound"
        and value is not None
        and (isinstance(value, bool) or not isinstance(value, int | float))
    ):
        raise UserError(f"bound: expected a number or null; got {value!r}.")
    if name == "decision" and value is not None and not isinstance(value, Decision):
        return decision_of(value)
    return value


def decision_of(data: Any) -> Decision:
    """A decision from `{"name": ..., "options": [...], "meaning": ..., "ordered": ...}`."""
    if not isinstance(data, Mapping) or not {"name", "options"} <= set(data):
        raise UserError(f"decision: expected name, options and meaning; got {data!r}.")
    known = ["name", "options", "meaning", "ordered"]
    for key in data:
        if key not in known:
            raise unknown("decision", key, known)
    options = data["options"]
    if not isinstance(options, Sequence) or isinstance(options, str) or not options:
        raise UserError(f"{data['name']}: expected options as a list; got {options!r}.")
    return Decision(
        str(data["name"]),
        tuple(options),
        str(data.get("meaning") or data["name"]),
        bool(data.get("ordered", False)),
    )

"""Names with settings in one text: `darts:channels=8,cells=3`, `evolution:population=50`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raynas.architecture import parse_option
from raynas.errors import UserError, unknown


def settings_in(kind: str, text: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """Reads what follows the colon of `NAME:key=value,key=value`.

    Args:
        kind: for errors: what the name is of.
        known: setting -> its default, whose type a value must have.

    Raises:
        UserError: a setting is unknown, or its value is of another type.
    """
    name, _, given = text.partition(":")
    settings: dict[str, Any] = {}
    for pair in filter(None, given.split(",")):
        key, equals, written = pair.partition("=")
        if not known:
            raise UserError(f"the {kind} {name} has no settings; got {given!r}.")
        if key not in known:
            raise unknown(f"setting of the {kind} {name}", key, list(known))
        if key in settings:
            raise UserError(f"{name}: expected each setting once; got {key} twice in {given!r}.")
        value, wanted = parse_option(written), type(known[key])
        if wanted is float and type(value) is int:
            value = float(value)
        if not equals or type(value) is not wanted:
            raise UserError(
                f"{name}: expected {key}= and a value of type {wanted.__name__}, such as "
                f"{key}={known[key]}; got {pair!r}."
            )
        settings[key] = value
    return settings

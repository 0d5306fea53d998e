"""Tables of words are written as one text, with semicolons between phrases."""

from __future__ import annotations


def phrases(text: str) -> tuple[str, ...]:
    """`"a; b c"` -> `("a", "b c")`."""
    return tuple(text.split("; "))

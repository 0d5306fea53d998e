"""How modules and failures are put into sentences."""

from __future__ import annotations

from collections.abc import Sequence

DOOR = "Declare what may change with raynas.choice in a network of your own instead."


def listed(paths: Sequence[str], most: int = 4) -> str:
    """Some paths for a sentence, each once; the rest is counted."""
    paths = list(dict.fromkeys(paths))
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(paths[:most]) + more


def brief(error: Exception) -> str:
    """The class and the first line of an error; torch.fx adds tracebacks."""
    first, *_ = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {first.rstrip('.')}"

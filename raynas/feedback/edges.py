"""Edges of a graph in speech: "the edge from 1 to 2", "from node 1 into node 3"."""

from __future__ import annotations

import re
from collections.abc import Sequence

from raynas.errors import UserError
from raynas.feedback.context import Context
from raynas.feedback.lexing import Token


def edged(context: Context) -> bool:
    """Whether decisions are edges of a graph, so that "from node 1" is not "in node 1"."""
    return any(d.leaf.startswith("from_") for d in context.space.decisions)


def edge(tokens: Sequence[Token], i: int, context: Context) -> tuple[str, str, int] | None:
    """The decision that an edge is, what was said, and how many tokens that takes."""
    said = re.match(r"(?:f@?N|L)W@?N", "".join(t.kind for t in tokens[i : i + 6]))
    if not said:
        return None
    used = tokens[i : i + len(said[0])]
    nouns = [t.words for t in used if t.kind == "@"]
    # "from node 1 to node 3" alone may be these three nodes
    named = (i > 0 and tokens[i - 1].words.split()[-1] in ("edge", "connection")) or (
        any(t.words == "into" for t in used)
    )
    if set(nouns) - {"node"} or not named or not edged(context):
        return None
    if used[0].kind == "L" and not re.fullmatch(r"from_\d+", str(used[0].value)):
        return None
    numbers = [int(str(t.value).removeprefix("from_")) if t.kind == "L" else int(t.value)
               for t in used if t.kind in "LN"]  # fmt: skip
    start, end = numbers
    words = f"the edge from {start} to {end}"
    wanted = re.compile(rf"(.*\.)?node{end}\.from_{start}")
    found = [d.name for d in context.space.decisions if wanted.fullmatch(d.name)]
    if len(found) != 1:
        raise UserError(f"{words}: there {'are several' if found else 'is none'} in the space.")
    return found[0], words, len(used)

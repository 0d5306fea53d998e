"""What a person says becomes directives: words by a grammar, a mapping key by key.

What is not understood is refused with the nearest forms, and changes nothing.

How words are read: a text is cut into sentences and these into kinds of words (`lexicon.WORDS`; a
word that is not in it, or in the space, is not understood). Places ("after layer 4"), options ("a
5x5 separable convolution") and amounts ("50k") become one letter each, and a rule of the table
`rules.RULES` must match each clause as a whole, so that no word is left over. A sentence of which
a part is not understood is refused whole: the part might take back the rest. What was open and had
to be decided:

| words | directives |
|---|---|
| use, set, replace, should be X in layer 3 | `pin`, tested unless the design has it already |
| keep, do not change layer 2 | `pin` of its decisions as they are in the design |
| no, avoid, without X; at most 8 layers | `forbid` |
| prefer, more X; fewer X | `prefer` X; the other options |
| deeper, wider, larger receptive field | `prefer` all above the design, in its own decisions |
| try X in layer 3 | `try` the design with that edit |
| under 2 ms, must run in 2 ms, at most 50k parameters, fits in 256 kB | `limit` |
| aim for, ideally, if possible | `aim` |
| smaller; faster | `aim` at half of its params (and size); of its latency if known, else flops |
| cheaper, more efficient, edge deployment | all of these |
| 20 % smaller, a quarter fewer, half the parameters | `aim` at that share of the design's |
| don't lose more than 1 % accuracy, without losing accuracy | `limit` at the design's reading |
| prioritize accuracy over size, more accurate | `order`, and an `aim` at the best reading |
| note: ... | `comment` |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raynas.directives import Directive
from raynas.errors import UserError
from raynas.feedback.checking import checked
from raynas.feedback.consumption import interpreted
from raynas.feedback.context import Context, Interpreter, Refusal, Understood
from raynas.feedback.given import directives_of
from raynas.feedback.grammar import heard
from raynas.feedback.plain import directive_of
from raynas.feedback.rules import FORMS

__all__ = [
    "FORMS",
    "Context",
    "Interpreter",
    "Refusal",
    "Understood",
    "checked",
    "directive_of",
    "understand",
]


def understand(
    feedback: str | Mapping[str, Any], context: Context, interpreter: Interpreter | None = None
) -> Understood:
    """What feedback means here; changes nothing.

    Words are read by the grammar. Only if it refuses some of them is the `interpreter` asked, about
    all of them; what it answers must be valid here and use every number, metric, operation and
    layer that was named.

    Raises:
        UserError: a mapping has wrong fields, all of which it names; words are refused instead.
    """
    if isinstance(feedback, Mapping):
        return Understood(tuple(directives_of(feedback, context, _say)))
    found = heard(feedback, context)
    if found.refusals and interpreter is not None:
        return interpreted(feedback, interpreter, context)
    return found


def _say(text: str, context: Context) -> list[Directive]:
    found = understand(text, context)
    if found.undo:
        raise UserError(f"{text!r}: taking back is no part of feedback; use undo.")
    if found.refusals:
        raise UserError("\n".join(map(str, found.refusals)))
    return list(found.directives)

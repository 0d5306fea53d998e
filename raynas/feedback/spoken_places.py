"""Places in speech: "in layer 3", "after layer 4", "block 0 of stage 1", "the last layer"."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from raynas.errors import UserError
from raynas.feedback.context import Context
from raynas.feedback.edges import edge, edged
from raynas.feedback.lexing import Token
from raynas.feedback.places import Place, layers_of, network_layer, within

Reference = Callable[[str], bool]  # whether a component of a layer's name is meant


def placed(tokens: Sequence[Token], context: Context) -> list[Token]:
    """The tokens with each place as one `P`.

    Raises:
        UserError: there is no such place, or it is ambiguous.
    """
    out: list[Token] = []
    i = 0
    while i < len(tokens):
        place, length = _place(tokens, i, context)
        if place is None:
            out.append(tokens[i])
            i += 1
        else:
            _check_choice(tokens, i, length)
            while out and _leads(out[-1]):
                if out.pop().kind == "f" and tokens[i].kind == "@" and edged(context):
                    raise UserError(f"from {place.words}: say 'the edge from 1 to 2'.")
            out.append(Token("P", place, place.words))
            i += length
    return out


def _check_choice(tokens: Sequence[Token], i: int, length: int) -> None:
    """Raises UserError if it is open which place is meant: "in layer 1 or 2", but "no ... in"."""
    words = " ".join(t.words for t in tokens[i : i + length])
    if "|" not in (t.kind for t in tokens[i : i + length]):
        return
    before = [t.kind for t in tokens[:i] if t.kind in "UKXFTRJjYml"]
    after = [t.kind for t in tokens[i + length :] if t.kind in "UKXFTRJjYml"]
    if [*before[-1:], *after[:1]][:1] not in (["X"], ["j"]):
        raise UserError(f"{words}: which of them?")


def _leads(token: Token) -> bool:
    """Whether a word says nothing before a place: "inside stage 3"."""
    return token.kind in "fx" or token.words in ("to", "for", "into", "within", "edge")


def _place(tokens: Sequence[Token], i: int, context: Context) -> tuple[Place | None, int]:
    token = tokens[i]
    space = context.space
    if (found := edge(tokens, i, context)) is not None:
        path, words, length = found
        return Place((path,), ((path,),), words), length
    if token.words in ("throughout", "everywhere") and i + 1 < len(tokens):
        place, length = _place(tokens, i + 1, context)  # "throughout stage 3"
        if place is not None:
            return place, length + 1
    if token.kind == "^":
        every = tuple(d.name for d in space.decisions)
        return Place(every, (every,), "every layer", everywhere=True), 1
    if token.kind == "D":
        return Place((token.value,), ((token.value,),), token.value), 1
    if token.kind in ">{" or (token.kind in "Af" and token.words in ("up to", "from")):
        return _relative(tokens, i, context)
    references: list[tuple[Token, list[int], str]] = []
    start = i
    while i < len(tokens):
        one, length = _reference(tokens, i)
        if one is None:
            break
        references.append(one)
        i += length
    if not references:
        return None, 0
    words = " ".join(t.words for t in tokens[start:i])
    onwards = i < len(tokens) and tokens[i].kind == "~" and tokens[i].words != "on"
    if onwards and len(references) == 1 and len(references[0][1]) == 1:
        token, (number,), _ = references[0]
        place = _range_of(
            _stem(token), lambda k: k >= number, f"{words} {tokens[i].words}", context
        )
        return place, i - start + 1
    layers = _resolved(references, words, context)
    return _of_layers(layers, words, context, references[0][2] == "*" or None), i - start


def _of_layers(
    layers: Sequence[str | tuple[str, ...]], words: str, context: Context, every: bool | None
) -> Place:
    parts = tuple(
        within(context.space, layer) if isinstance(layer, str) else layer for layer in layers
    )
    paths = tuple(dict.fromkeys(p for part in parts for p in part))
    return Place(paths, parts, words, loose=bool(every), everywhere=bool(every))


def _reference(tokens: Sequence[Token], i: int) -> tuple[tuple[Token, list[int], str] | None, int]:
    """One noun with its numbers: `layers 1, 2 and 3`; how: '', '*' (all), '(' (first), ')'."""
    token = tokens[i]
    if token.kind == "p":
        return (token, [], "p"), 1
    if token.kind in "*()" and i + 1 < len(tokens) and tokens[i + 1].kind == "@":
        if token.kind != "*" and tokens[i + 1].words.endswith("s"):
            raise UserError(f"{token.words} {tokens[i + 1].words}: how many are meant?")
        return (tokens[i + 1], [], token.kind), 2
    if token.kind != "@":
        return None, 0
    numbers, length = _numbers(tokens, i + 1)
    if not numbers:
        return ((token, [], "p"), 1) if token.value == "cell" else (None, 0)
    return (token, numbers, ""), length + 1


def _numbers(tokens: Sequence[Token], i: int) -> tuple[list[int], int]:
    """`1, 2 and 3` or `2 to 5`; a number after which a noun stands is none of them."""
    start, found = i, []
    while i < len(tokens) and tokens[i].kind == "N" and tokens[i].value == int(tokens[i].value):
        number = int(tokens[i].value)
        found.append(number)
        i += 1
        plural = tokens[start - 1].value.endswith("s") and len(found) == 1
        if _range(tokens, i, plural):
            found += range(number + 1, int(tokens[i + 1].value) + 1)
            i += 2
        step = i
        while step < len(tokens) and tokens[step].kind in ",&|" and step - i < 2:
            step += 1
        if step < len(tokens) and tokens[step].kind == "@":  # "layer 1 and layer 3"
            same = tokens[step].value.rstrip("s") == tokens[start - 1].value.rstrip("s")
            numbered = step + 1 < len(tokens) and tokens[step + 1].kind == "N"
            if step == i or not same or not numbered:
                break
            step += 1
        if step == i or step >= len(tokens) or tokens[step].kind != "N":
            break
        after = tokens[step + 1].kind if step + 1 < len(tokens) else ""
        if after and after in "LeoN":  # "layers 1 and 2 heads": not a list of layers
            break
        i = step
    return found, i - start


def _range(tokens: Sequence[Token], i: int, plural: bool) -> bool:
    """Whether a range goes on here; in "the kernel of layer 3 to 5" none does."""
    words = ("to", "through") if plural else ("through",)
    joins = i < len(tokens) and tokens[i].words in words
    return joins and i + 1 < len(tokens) and tokens[i + 1].kind == "N"


def _relative(tokens: Sequence[Token], i: int, context: Context) -> tuple[Place | None, int]:
    """`after layer 4`, `before stage 2`, `up to layer 3`, `from layer 2 on`."""
    how = tokens[i]
    if i + 1 >= len(tokens):
        return None, 0
    one, length = _reference(tokens, i + 1)
    if one is None or len(one[1]) != 1 or one[2]:
        return None, 0
    end = i + 1 + length
    number = one[1][0]
    words = " ".join(t.words for t in tokens[i:end])
    if how.words == "from":
        on = end < len(tokens) and tokens[end].kind == "~"
        if not on:
            return None, 0
        wanted: Callable[[int], bool] = lambda k: k >= number  # noqa: E731
        length += 1
    elif how.words == "up to":
        wanted = lambda k: k <= number  # noqa: E731
    elif how.kind == ">":
        wanted = lambda k: k > number  # noqa: E731
    else:
        wanted = lambda k: k < number  # noqa: E731
    return _range_of(_stem(one[0]), wanted, words, context), 1 + length


def _range_of(stem: str, wanted: Callable[[int], bool], words: str, context: Context) -> Place:
    layers = [
        n for n in layers_of(context.space)
        if (m := re.fullmatch(rf"{stem}(\d+)", n)) and wanted(int(m[1]))
    ]  # fmt: skip
    if not layers:
        raise UserError(f"{words}: the space has no {stem}s there that are named so.")
    parts = tuple(within(context.space, n) for n in layers)
    return Place(tuple(p for part in parts for p in part), parts, words, loose=True)


def _stem(token: Token) -> str:
    return str(token.value).removesuffix("s")


def _resolved(
    references: Sequence[tuple[Token, list[int], str]], words: str, context: Context
) -> list[str | tuple[str, ...]]:
    """The layers that a chain of nouns means: `block 0`, `of stage 1`."""
    names = layers_of(context.space)
    inner, outer = _ordered(references, names)
    tests = [_component(token, numbers, how) for token, numbers, how in outer]
    held = [n for n in names if all(any(t(c) for c in n.split(".")[:-1]) for t in tests)]
    token, numbers, how = inner
    stem = _stem(token) if token.kind == "@" else str(token.value)
    if how == "p":
        found = [n for n in held if n.split(".")[-1] == stem]
        if not found:
            raise UserError(f"the space has no part {stem!r}.")
        return list(found)
    numbered = [n for n in held if re.fullmatch(rf"{stem}\d+", n.split(".")[-1])]
    if not numbered and stem == "layer" and not outer:
        if how:
            if how == "*":
                return list(n for n in names if "." not in n)
            raise UserError(f"{words}: no decisions are named after layers here; name a number.")
        return [network_layer(number, context) for number in numbers]
    if not numbered:
        raise UserError(f"the space has no {stem}s{' there' if outer else ''}.")
    if how == "*":
        return list(numbered)
    if how in ("(", ")"):
        numbers = [_end(how, stem, numbered, context, words)]
    found = []
    for number in numbers:
        found.append(_one(f"{stem}{number}", numbered, len(outer), words))
    return list(found)


def _one(component: str, numbered: Sequence[str], spoken: int, words: str) -> str:
    here = [n for n in numbered if n.split(".")[-1] == component]
    if not here:
        from raynas.directives import parts

        tops = [n for n in numbered if "." not in n] or list(numbered)
        raise UserError(f"there is no {component}; there are {parts(tops)}.")
    # what was not spoken may be a name without a number (`cell.node2`), if that leaves one
    unspoken = {n: sum(bool(re.search(r"\d\Z", c)) for c in n.split(".")[:-1]) for n in here}
    least = [n for n in here if unspoken[n] == min(unspoken.values())]
    if len(least) > 1 or (unspoken[least[0]] > spoken):
        raise UserError(f"{words}: there are several: {', '.join(here[:6])}; name one of them.")
    return least[0]


def _end(how: str, stem: str, numbered: Sequence[str], context: Context, words: str) -> int:
    if how == "(":
        return 0
    design = context.design
    if design is None:
        raise UserError(f"{words}: no design is under discussion whose last {stem} could be meant.")
    on = [n for n in numbered if any(p in design for p in within(context.space, n))]
    return max((int(re.search(r"(\d+)\Z", n)[1]) for n in on), default=0)  # type: ignore[index]


def _ordered(
    references: Sequence[tuple[Token, list[int], str]], names: Sequence[str]
) -> tuple[tuple[Token, list[int], str], list[tuple[Token, list[int], str]]]:
    """The innermost reference, and those around it, whatever the order in speech."""
    if len(references) == 1:
        return references[0], []

    def depth(reference: tuple[Token, list[int], str]) -> int:
        token = reference[0]
        stem = _stem(token) if token.kind == "@" else str(token.value)
        places = [
            n.split(".").index(c) for n in names for c in n.split(".")
            if re.fullmatch(rf"{re.escape(stem)}\d*", c)
        ]  # fmt: skip
        return max(places, default=-1)

    order = sorted(references, key=depth)
    return order[-1], order[:-1]


def _component(token: Token, numbers: list[int], how: str) -> Reference:
    stem = _stem(token) if token.kind == "@" else str(token.value)
    if how == "p":
        return lambda c: c == stem
    if how == "*":
        return lambda c: bool(re.fullmatch(rf"{stem}\d+", c))
    wanted = {f"{stem}{n}" for n in numbers}
    return lambda c: c in wanted

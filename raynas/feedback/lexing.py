"""Text becomes tokens: each a kind of word (one letter), what it stands for, and its words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from raynas.feedback.lexicon import WORDS
from raynas.feedback.metric_words import FORMS, METRICS, NUMBERS, PARTS, UNITS, WISHES
from raynas.feedback.misspelt import near
from raynas.feedback.options import EMPTY, LEAVES, MARKS, leaf_called, marks, marks_of
from raynas.feedback.wording import words_of
from raynas.space import Space

_SIZE = re.compile(r"\d+x\d+")
# adjectives of operations that also say other things: marks only right before an operation
_ONLY_BEFORE = frozenset(
    ["max", "average", "mean", "normal", "standard", "regular", "ordinary", "residual"]
)
_OPERATIONS = re.compile(
    r"(conv|convs|convolution|convolutions|convolutional|pool|pools|pooling)\Z"
)


@dataclass(frozen=True)
class Token:
    """A kind (see `lexicon.WORDS`), what it stands for, and the words that it was.

    Further kinds: `N` number, `Q` number with a unit (value, dimension), `z` a size such as 5x5,
    `o` marks of options, `L` a leaf, `D` a decision, `p` a named part of the space, `e` a noun
    without content ("connection"), `M` metric, `C` a wish about a metric, `c` one about the form,
    `?` not known.
    """

    kind: str
    value: Any
    words: str


@dataclass(frozen=True)
class Lexed:
    """The tokens of a text, and which words were read as others."""

    tokens: tuple[Token, ...]
    spelt: tuple[tuple[str, str], ...] = ()


def lexed(text: str, space: Space, metrics: tuple[str, ...] = ()) -> Lexed:
    """The tokens of a text; words that say nothing are left out."""
    words = words_of(text)
    table, longest, singles = _table(space, metrics)
    spelt = []
    for i, word in enumerate(words):
        if word not in singles and (other := near(word, singles)) is not None:
            spelt.append((word, other))
            words[i] = other
    tokens: list[Token] = []
    i = 0
    while i < len(words):
        if (foreign := _foreign(words[i], table)) is not None:
            tokens += foreign
            i += 1
            continue
        found, length = _number(words, i)
        if found is None:
            found, length = _phrase(words, i, table, longest)
        counted = found.kind == "@" and tokens and tokens[-1].kind in "Nml"
        if counted and f"\0{found.words}" in table:  # "8 layers"
            found = table[f"\0{found.words}"]
        elif counted and f"\1{found.words}" in table and _starts_count(tokens):
            found = table[f"\1{found.words}"]  # "3 blocks" of a stage
        if found.kind:
            tokens.append(found)
        i += length
    for i, token in enumerate(tokens):  # "set stages to 3", where that is a decision
        after = tokens[i + 1].kind if i + 1 < len(tokens) else ""
        quantified = i > 0 and tokens[i - 1].kind in "*()"
        if token.kind == "@" and f"\0{token.words}" in table and after != "N" and not quantified:
            tokens[i] = table[f"\0{token.words}"]
    return Lexed(tuple(tokens), tuple(spelt))


def _starts_count(tokens: list[Token]) -> bool:
    """Whether a number counts what follows it, rather than numbering what is before."""
    return tokens[-1].kind == "N" and (len(tokens) == 1 or tokens[-2].kind in "UABTF")


def _foreign(word: str, table: Mapping[str, Token]) -> list[Token] | None:
    """An option in the spelling of another space: `depthwise_separable_conv`, `sep_conv_5x5`."""
    if word in table or not ("_" in word or re.search(r"[a-z]\d+x\d+\Z", word)):
        return None
    found = marks(word)
    if found is None:
        return None
    sides = [m for m in found if _SIZE.fullmatch(m)]
    kinds = found - set(sides)
    tokens = [Token("o", kinds, word)] if kinds else []
    return tokens + [Token("z", int(side.partition("x")[0]), word) for side in sides]


def _number(words: list[str], i: int) -> tuple[Token | None, int]:
    for part, value in PARTS.items():
        if words[i : i + 2] == part.split():
            return Token("Q", (value, "part"), part), 2
    word = words[i].replace(",", "")
    if word in NUMBERS and (word != "one" or _beside_noun(words, i)):
        word = str(NUMBERS[word])
    if re.fullmatch(r"(\d+)x(\d+)", word):
        side, other = word.split("x")
        return (Token("z", int(side), word), 1) if side == other else (Token("?", word, word), 1)
    if not re.fullmatch(r"\d*\.?\d+", word):
        return None, 1
    if re.fullmatch(r"[1-9]\d{0,2}\.000", word):  # a thousand in other tongues
        return Token("?", word, word), 1
    value = float(word)
    for length in (2, 1):
        unit = " ".join(words[i + 1 : i + 1 + length])
        if unit in UNITS and len(words) > i + length:
            dimension, scale = UNITS[unit]
            said = f"{word} {unit}"
            return Token("Q", (value * scale, dimension), said), length + 1
    return Token("N", value, words[i] if words[i] in NUMBERS else word), 1


def _beside_noun(words: list[str], i: int) -> bool:
    """Whether "one" is a number: "layer one", "one cell"; not "a 5x5 one"."""
    nouns = [w.rstrip("s") for w in words[max(i - 1, 0) : i + 2]]
    return any(noun in WORDS["@"] for noun in nouns)


def _phrase(
    words: list[str], i: int, table: Mapping[str, Token], longest: int
) -> tuple[Token, int]:
    for length in range(min(longest, len(words) - i), 0, -1):
        said = " ".join(words[i : i + length])
        if said not in table:
            continue
        before = length == 1 and said in _ONLY_BEFORE
        if before:
            after = words[i + 1] if i + 1 < len(words) else ""
            if not _OPERATIONS.match(after):
                if f"\0{said}" in table:
                    return table[f"\0{said}"], 1
                continue
        return table[said], length
    return Token("?", words[i], words[i]), 1


@lru_cache(maxsize=32)
def _vocabulary(
    names: tuple[tuple[str, bool], ...], options: tuple[str, ...], metrics: tuple[str, ...]
) -> tuple[dict[str, Token], int, frozenset[str]]:
    table: dict[str, Token] = {}
    for kind, phrases in WORDS.items():
        table.update({said: Token(kind, said, said) for said in phrases})
    for word, borne in MARKS.items():
        if word in _ONLY_BEFORE and word in table:
            table[f"\0{word}"] = table[word]
        table[word] = Token("o", borne, word)
    for word in EMPTY - {"layer", "layers", "block", "blocks"}:
        table.setdefault(word, Token("e", word, word))
    table["hard swish"] = table["h swish"] = table["hard_swish"] = Token(
        "o", frozenset({"hard_swish"}), "hard swish"
    )
    for metric, phrases in METRICS.items():
        table.update({said: Token("M", metric, said) for said in phrases})
    table.update({m: Token("M", m, m) for m in metrics})
    for metric, phrases in WISHES.items():
        table.update({said: Token("C", metric, said) for said in phrases})
    for said, form in FORMS.items():
        table[said] = Token("c", form, said)
    leaves = {name.rpartition(".")[2] for name, _ in names}
    for said in LEAVES:
        leaf = leaf_called(said, leaves)
        if leaf is not None and not (said in MARKS and leaf != "skip_connection"):
            table[said] = Token("L", leaf, said)
    for leaf in leaves:
        for said in (leaf, leaf.replace("_", " ")):
            if said not in table or table[said].kind in ("e", ""):
                table[said] = Token("L", leaf, said)
            elif table[said].kind == "@":
                table[f"\0{said}"] = Token("L", leaf, said)
    for stem in ("layers", "stages", "blocks"):  # "8 layers": decisions about the whole
        of_all = [n for n, _ in names if n in (f"num_{stem}", stem)]
        of_all = of_all or ([n for n, _ in names if n == "depth"] if stem == "layers" else [])
        if of_all:
            table[f"number of {stem}"] = table[f"\0{stem}"] = Token("L", of_all[0], stem)
    depths = [name for name, _ in names if name.rpartition(".")[2] == "depth"]
    if any(n.startswith(f"{d.removesuffix('depth')}block0.") for d in depths for n, _ in names):
        table["\1blocks"] = Token("L", "depth", "blocks")  # a depth that counts named blocks
    for word in options:
        if word not in table:
            table[word] = Token("o", marks_of(word), word)
    for name, named in names:
        if not named:  # of the whole: "the depth"
            key = f"\0{name}" if name in table and table[name].kind == "@" else name
            table[key] = Token("L", name, name)
        else:
            table[name] = Token("D", name, name)
            for piece in name.split(".")[:-1]:
                if not re.search(r"\d\Z", piece):
                    for said in (piece, f"{piece} cell", f"{piece} cells"):
                        if said not in ("cell",):
                            table[said] = Token("p", piece, said)
    singles = frozenset(w for said in table for w in said.strip("\0\1").split())
    singles |= set(NUMBERS) | {word for part in PARTS for word in part.split()}
    longest = max(len(said.split()) for said in table)
    return table, longest, singles


def _table(space: Space, metrics: tuple[str, ...]) -> tuple[dict[str, Token], int, frozenset[str]]:
    names = tuple((d.name, "." in d.name) for d in space.decisions)
    options = tuple(
        dict.fromkeys(o for d in space.decisions for o in d.options if isinstance(o, str))
    )
    return _vocabulary(names, options, metrics)

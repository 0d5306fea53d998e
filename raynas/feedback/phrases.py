"""Options in speech: "a 5x5 separable convolution", "64 channels", "swish"; and what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from raynas.architecture import Option, option_text
from raynas.errors import UserError
from raynas.feedback.context import Context
from raynas.feedback.lexing import Token
from raynas.feedback.metric_words import NUMBERS
from raynas.feedback.options import bearing, leaf_called, marks_of, spelled


@dataclass(frozen=True)
class Phrase:
    """Options that words mean: those of `leaf` (if one was named) with all marks, or a number."""

    words: str
    leaf: str = ""
    marks: frozenset[str] = frozenset()
    side: int | None = None
    number: float | None = None
    flag: bool = False

    @property
    def counted(self) -> bool:
        """Whether a number stands before what it counts: "two layers"."""
        first = self.words.split()[0] if self.words else ""
        return self.number is not None and (first.isdigit() or first in NUMBERS)


Meant = dict[str, tuple[Option, ...]]  # decision -> options


def phrased(tokens: Sequence[Token], context: Context) -> list[Token]:
    """The tokens with each description of options as one `O`; a lone leaf stays an `L`."""
    out: list[Token] = []
    run: list[Token] = []
    for token in [*tokens, Token("end", None, "")]:
        described = token.kind in ("o", "z", "L", "N", "e")
        counts = token.kind == "=" and run and run[-1].kind == "L"
        if described or counts:
            run.append(token)
            continue
        if run:
            out += _described(run, context)
            run = []
        out.append(token)
    return out[:-1]


def _described(run: Sequence[Token], context: Context) -> list[Token]:
    words = " ".join(t.words for t in run)
    kinds = [t.kind for t in run]
    leaves = list(dict.fromkeys(t.value for t in run if t.kind == "L"))
    sides = [t.value for t in run if t.kind == "z"]
    numbers = [t.value for t in run if t.kind == "N"]
    marks = [t.value for t in run if t.kind == "o"]
    odd = len(leaves) > 1 or len(sides) > 1 or len(numbers) > 1 or "=" in kinds[-1:]
    if odd or (numbers and (marks or sides)):
        return list(run)
    leaf = leaves[0] if leaves else ""
    if marks or sides:
        both = frozenset().union(*marks)
        both -= {"depthwise"} if "separable" in both else set()
        if leaf and marks and both == {"skip"} and leaf == "skip_connection":
            return [Token("O", Phrase(words, leaf, flag=True), words)]
        side = sides[0] if sides else None
        return [Token("O", Phrase(words, leaf, both, side), words)]
    if leaf and numbers:
        sized = leaf in ("kernel", "kernel_size", "patch_size")
        if sized and kinds.index("N") < kinds.index("L"):  # "3 kernels" counts them
            return list(run)
        return [Token("O", Phrase(words, leaf, number=numbers[0]), words)]
    if leaf:
        flag = any(
            d.leaf == leaf and isinstance(d.options[0], bool) for d in context.space.decisions
        )
        if flag:
            return [Token("O", Phrase(words, leaf, flag=True), words)]
        return [Token("L", leaf, words)]
    if numbers and kinds == ["N"]:
        return list(run)
    return [replace(t, kind="?") if t.kind == "e" else t for t in run]


def meant(phrase: Phrase, paths: Sequence[str], context: Context, kind: str) -> Meant:
    """The decisions among `paths` that have such options, and which these are.

    Raises:
        UserError: none has; the words are ambiguous; or they cannot be told apart for a `forbid`.
    """
    space = context.space
    here = [space.by_name[p] for p in paths]
    check_counted(phrase, paths, context)
    if phrase.leaf:
        here = [d for d in here if d.leaf == phrase.leaf]
        if not here:
            raise UserError(f"nothing there decides {phrase.leaf}.")
    found: Meant
    if phrase.flag:
        return {d.name: (True,) for d in here}
    if phrase.number is not None:
        whole = int(phrase.number) if phrase.number == int(phrase.number) else phrase.number
        found = {d.name: spelled(d, whole) for d in here if spelled(d, whole)}
        lacking = [d for d in here if d.name not in found]
        if lacking and (not found or kind != "forbid"):
            raise UserError(_none_of(lacking[0].name, option_text(whole), context))
        return found
    wanted = phrase.marks | ({f"{phrase.side}x{phrase.side}"} if phrase.side else set())
    found = {
        d.name: tuple(options)
        for d in here
        if isinstance(d.options[0], str) and (options := bearing(frozenset(wanted), d.options))
    }
    # a word that is itself an option means that one: `identity` is not `skip`
    exact = {p: (phrase.words,) for p in found if phrase.words in space.by_name[p].options}
    if exact and wanted != {"conv"}:
        return {**found, **exact}
    if found:
        return _plain(found, phrase, frozenset(wanted), context, kind)
    if phrase.side is not None:
        return _apart(phrase, paths, context, kind)
    if phrase.marks == {"skip"}:
        flags = [d.name for d in here if d.leaf == "skip_connection"]
        if flags:
            return {name: (True,) for name in flags}
    raise UserError(_nothing(phrase.words, [d.name for d in here], context))


def _plain(
    found: Meant, phrase: Phrase, wanted: frozenset[str], context: Context, kind: str
) -> Meant:
    """A bare "convolution" is the plain one where a space calls one so; else all of them."""
    bare = wanted == {"conv"}
    if bare and all("conv" in context.space.by_name[p].options for p in found):
        if kind != "pin":
            raise UserError(
                f"{phrase.words!r} may mean all convolutions or only plain ones; say 'plain "
                "convolutions', or name a kind."
            )
        return {p: ("conv",) for p in found}
    families = {
        next((m for m in ("conv", "pool") if m in marks_of(o)), "")
        for os in found.values()
        for o in os
    }
    if not phrase.marks and len(families) > 1:
        raise UserError(
            f"{phrase.words!r} may mean convolutions or pooling; say which, such as "
            f"'{phrase.side}x{phrase.side} convolutions'."
        )
    if all(len(options) == len(context.space.by_name[p].options) for p, options in found.items()):
        raise UserError(f"{phrase.words!r}: that is every option there is.")
    return found


def _apart(phrase: Phrase, paths: Sequence[str], context: Context, kind: str) -> Meant:
    """A size and a kind of operation that are decisions of their own."""
    space = context.space
    leaf = leaf_called("kernel", [space.by_name[p].leaf for p in paths])
    sized = {
        p: options for p in paths
        if space.by_name[p].leaf == leaf and (options := spelled(space.by_name[p], phrase.side))
    }  # fmt: skip
    if leaf is None or not sized:
        raise UserError(_nothing(phrase.words, list(paths), context))
    lacking = [p for p in paths if space.by_name[p].leaf == leaf and p not in sized]
    if lacking and kind != "forbid":
        raise UserError(_none_of(lacking[0], str(phrase.side), context))
    if phrase.marks <= {"conv"}:
        return sized
    if phrase.leaf:
        raise UserError(f"{phrase.words!r}: a kind and a size are decisions of their own here.")
    kinds = meant(replace(phrase, side=None), paths, context, kind)
    if kind == "forbid":
        raise UserError(
            f"{phrase.words!r} is a kind with a size; only either can be forbidden: "
            f"{leaf} {phrase.side}, or the kind."
        )
    return {**kinds, **sized}


def check_counted(phrase: Phrase, paths: Sequence[str], context: Context) -> None:
    """Raises UserError if "3 blocks" may be of each stage or of all together."""
    counted = phrase.leaf == "depth" and phrase.words.split()[-1:] == ["blocks"]
    if counted and sum(context.space.by_name[p].leaf == "depth" for p in paths) > 1:
        raise UserError(f"{phrase.words}: of which stage?")


def beyond(phrase: Phrase, paths: Sequence[str], context: Context, above: bool) -> Meant:
    """The options above (or below) a number, of the leaf that was named with it."""
    space = context.space
    check_counted(phrase, paths, context)
    if phrase.number is None:
        raise UserError(f"{phrase.words!r}: expected a number of something that is decided here.")
    found: Meant = {}
    some = False
    for path in paths:
        decision = space.by_name[path]
        if decision.leaf != phrase.leaf or not decision.ordered:
            continue
        some = True
        numbers = [o for o in decision.options if not isinstance(o, str | bool)]
        options = tuple(o for o in numbers if (o > phrase.number if above else o < phrase.number))
        if len(options) == len(decision.options):
            raise UserError(f"{path}: nothing would be left of {_listed(decision.options)}.")
        if options:
            found[path] = options
    if not some:
        raise UserError(f"nothing there decides {phrase.leaf} by order.")
    if not found:
        raise UserError(f"no option of {phrase.leaf} lies beyond {phrase.number:g} there.")
    return found


def _listed(options: Sequence[Option]) -> str:
    return ", ".join(map(option_text, options))


def _none_of(path: str, got: str, context: Context) -> str:
    options = context.space.by_name[path].options
    return (
        f"{path}: expected one of {_listed(options)}; got {got}. To search beyond them, add the "
        "option to the space."
    )


def _nothing(words: str, paths: Sequence[str], context: Context) -> str:
    """That no decision there has such an option, and what they have."""
    have: Mapping[str, Sequence[Option]] = {
        context.space.by_name[p].leaf: context.space.by_name[p].options for p in paths
    }
    listing = "; ".join(f"{leaf}: {_listed(options)}" for leaf, options in list(have.items())[:6])
    return f"{words!r} is no option there. Possible: {listing}."

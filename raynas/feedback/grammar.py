"""Sentences become directives, by rules that must use every word, or are refused whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from itertools import pairwise

from raynas.directives import Directive
from raynas.errors import UserError
from raynas.feedback.clauses import Clause
from raynas.feedback.context import Context, Refusal, Understood
from raynas.feedback.lexicon import POLITE, UNDO
from raynas.feedback.lexing import Token, lexed
from raynas.feedback.phrases import phrased
from raynas.feedback.rules import FORMS, Rule, code, read
from raynas.feedback.spoken_places import placed

_SENTENCE = re.compile(r"(?<=[.!?])\s+|;\s*|\n+")
_COMMENT = re.compile(r"\s*(?:note|comment|remark)\s*:\s*(.+)", re.IGNORECASE | re.DOTALL)
_DEPENDENT = re.compile(
    r"(?:except|unless|but|or|not|only|though|although|because|however|instead|otherwise|that|if|"
    r"then|so|which|there|except for|apart|besides|rather|no,|wait|actually|forget|scratch)\b"
)


# questions, also where no mark ends them
_ASKED = re.compile(
    r"(?:please )?(?:(?:is|are|was|were|does|did|am)\b"
    r"|(?:do|should|shall|must|may|might|have|has|would) (?:we|i|it|they|this|that|there)\b"
    r"|(?:do|have|should|would) you (?:think|prefer|rather|favou?r|like|say|need|want|have|use)\b)"
)

# what is, in place of what shall be: "layer 2 has larger kernels", "the latency is under 3 ms"
_SHALL = re.compile(
    r"\b(?:must|should|shall|needs?|wants?|would|make sure|ensure|ha(?:s|ve) to|had better|let|"
    r"please|going to|if|so that|keep|leave|prefer|ideally|preferably|goal|target|limit|budget)\b"
)
_BOUND = r"(?:at (?:least|most)|under|below|above|over|within|(?:less|fewer|more) than \d|[<>]|\d)"
_STATED = re.compile(
    r"(?:(?:we|i|you|they) (?:already )?(?:use|have|had|take|run)\b"
    rf"|.+\b(?:is|are) (?:already |now |currently )?{_BOUND}"
    r"|(?:the |each |every |all )?(?:\w+ )?"
    r"(?:layer|stage|block|node|cell|edge|num_|depth|width|stem|head)"
    r".* (?:is|are) (?!too|not|more|less|most|as|important)"
    r"|(?!ha(?:s|ve)\b).+\bha(?:s|ve) (?!priority|higher|more priority|precedence))"
)


class _NotUnderstood(UserError):
    """A sentence that no rule reads."""


def heard(text: str, context: Context) -> Understood:
    """What free words come to."""
    plain = re.sub(r"\s+", " ", text.strip().lower()).rstrip(".! ")
    if plain in UNDO:
        return Understood(undo=True)
    if comment := _COMMENT.fullmatch(text):
        return Understood((Directive("comment", comment[1].strip()),))
    made: list[list[Directive]] = []
    refusals: list[Refusal] = []
    sentences = [s.strip() for s in _SENTENCE.split(text) if s.strip(" .!;")]
    for sentence in sentences:
        try:
            made.append(_sentence(sentence, context))
        except UserError as error:
            refusals.append(Refusal(sentence, str(error), nearest(sentence)))
            if made and _DEPENDENT.match(sentence.lower()):  # it may take back what came before
                made.pop()
                before = sentences[sentences.index(sentence) - 1]
                refusals.append(
                    Refusal(before, f"what follows it ({sentence!r}) is not understood")
                )
    if not sentences:
        return Understood(refusals=(Refusal(text, "there are no words", FORMS[:3]),))
    found = tuple(dict.fromkeys(d for directives in made for d in directives))
    return Understood(found, tuple(refusals))


def nearest(text: str) -> tuple[str, ...]:
    """The three forms that are likest to a text."""

    def alike(form: str) -> float:
        shared = len(set(form.lower().split()) & set(text.lower().split()))
        return shared + SequenceMatcher(None, form, text.lower()).ratio()

    return tuple(sorted(FORMS, key=alike, reverse=True)[:3])


def _sentence(text: str, context: Context) -> list[Directive]:
    body = text.strip()
    if body.endswith("?"):
        if not body.lower().startswith(POLITE):
            raise _NotUnderstood("it is a question; `raynas explain` answers those.")
        body = body[:-1]
    if _ASKED.match(body.lower()):
        raise _NotUnderstood("it is a question; `raynas explain` answers those.")
    if _STATED.match(body.lower()) and not _SHALL.search(body.lower()):
        raise _NotUnderstood("it says what is; say what shall be (should be, use, at most).")
    metrics = tuple(o.name for o in context.state.problem.objectives)
    read_as = lexed(body, context.space, metrics)
    tokens = [t for t in _of_model(read_as.tokens) if t.kind not in ("S", ".")]
    if not tokens:
        raise _NotUnderstood("it says nothing that could be followed.")
    if strange := [t.words for t in tokens if t.kind == "?"]:
        raise _NotUnderstood(
            f"{_quoted(strange)} {'is' if len(strange) == 1 else 'are'} not known."
        )
    tokens = [t for t in placed(tokens, context) if t.kind != "*" and t.words != "on"]
    tokens = _joined(phrased(tokens, context))
    tokens = _compared(tokens)
    clauses = _clauses(tokens, text, context)
    if clauses is None:
        raise _NotUnderstood("no rule reads all of it.")
    _check_scopes(clauses)
    made: list[Directive] = []
    for _, (rule, clause) in clauses:
        made += rule.read(clause)
    note = ", ".join(f"{word!r} read as {other!r}" for word, other in read_as.spelt)
    if not made:
        raise _NotUnderstood("it changes nothing.")
    return [_noted(d, note) for d in made] if note else made


def _of_model(tokens: Sequence[Token]) -> list[Token]:
    """ "The model below 80 kB" is about its size; "it ... 80 kB" may be about memory."""
    out = list(tokens)
    for i, token in enumerate(tokens[:-2]):
        whole = token.kind == "S" and token.words.split()[-1] in ("model", "network", "net")
        amount = tokens[i + 2]
        if whole and tokens[i + 1].kind == "A" and amount.kind == "Q" and amount.value[1] == "kB":
            out[i] = Token("M", "model_size_kb", token.words)
    return out


def _compared(tokens: Sequence[Token]) -> list[Token]:
    """A wish about the whole is one about what a decision is called where it stands beside that:
    "smaller patches", "make the patches smaller", "the kernels are too big"."""
    out = list(tokens)
    about = False
    for i, token in enumerate(tokens):
        if token.kind in ",&;|MC":
            before = about
            about = False
            if token.kind == "C" and token.words in ("smaller", "too big", "too large", "small"):
                after = tokens[i + 1].kind if i + 1 < len(tokens) else ""
                if before or (token.words == "smaller" and after == "L"):
                    out[i] = replace(token, kind="s")
        elif token.kind == "L":
            about = True
    return out


def _noted(directive: Directive, note: str) -> Directive:
    return replace(directive, note="; ".join(filter(None, (directive.note, note))))


def _joined(tokens: Sequence[Token]) -> list[Token]:
    """A colon after a place says nothing; elsewhere it separates. In what shall be used, "with"
    joins; in "no separable convolutions with 5x5 kernels" it does not."""
    out: list[Token] = []
    kinds = {t.kind for t in tokens}
    for i, token in enumerate(tokens):
        between = 0 < i < len(tokens) - 1 and tokens[i - 1].kind == tokens[i + 1].kind == "O"
        if token.words == "with" and between and not kinds & set("XFRlm|j"):
            token = Token("&", "&", "with")
        if token.kind == ":":
            if out and out[-1].kind == "P":
                continue
            token = Token(",", ",", ":")
        out.append(token)
    return out


Found = tuple[str, tuple[Rule, Clause]]  # what joins it to what was before, and the clause


def _clauses(tokens: Sequence[Token], words: str, context: Context) -> list[Found] | None:
    """Cuts a sentence into clauses, the longest first; None if a part of it has no rule."""
    joint = ""
    i = 0
    while i < len(tokens) and tokens[i].kind in ",&;":
        joint += tokens[i].kind
        i += 1
    if i == len(tokens):
        return [] if not joint or joint == "," else None
    for end in range(len(tokens), i, -1):
        here = end == len(tokens) or tokens[end].kind in ",&;ut"
        if not here:
            continue
        found = read(tokens[i:end], words, context)
        if found is None:
            continue
        rest = _clauses(tokens[end:], words, context)
        if rest is not None:
            return [(joint, found), *rest]
    return None


def _check_scopes(clauses: Sequence[Found]) -> None:
    """Raises if it is open where a clause applies, or whether a "no" goes on."""
    for (_, (first, one)), (joint, (second, other)) in pairwise(clauses):
        if ";" in joint or first.about == "metric" or second.about == "metric":
            continue
        both = first.about == second.about == "option"
        if both and (one.place is None) != (other.place is None):
            raise _NotUnderstood(
                "it is not clear whether the place goes for both wishes; say it with each, or "
                "make two sentences."
            )
        if other.groups.get("o") and not _has_verb(other) and not _is_use(one, first):
            raise _NotUnderstood(
                "it is not clear what goes on after 'and'; repeat the verb ('no', 'keep', 'try')."
            )


def _has_verb(clause: Clause) -> bool:
    return bool(clause.verb)


def _is_use(clause: Clause, rule: Rule) -> bool:
    return rule.about == "option" and clause.verb in ("", "U", "Y", "R")


def _quoted(words: Sequence[str]) -> str:
    return ", ".join(repr(w) for w in words)


__all__ = ["code", "heard", "nearest"]

"""Whether a text says only what its claims hold: numbers, names, and how sure it is.

A number counts as held if some field of a cited claim, in the unit and to the digits in which it
is said, is that number: per cent for shares, times and per cent for ratios of costs. So every
sentence can be checked by machine, whoever worded it: a template, or a language model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict

from raynas.explanation.claims import Claim
from raynas.explanation.wording import ADVERBS, PARTS, SHARES
from raynas.objective import COSTS

Rephrase = Callable[[str, Sequence[Mapping[str, object]]], str]

FIXED: Mapping[str, tuple[str, ...]] = {  # numbers that belong to a kind's method, not to a claim
    "ranking": ("4",),
    "collapse": ("2020", "1909.09656"),
    "principle": ("40",),
}
RATIOS = ("tradeoff", "advice", "contrast", "suggestion")  # side effects are ratios of costs
OF_ONE = ("good", "rest", "random", "top", "edit", "violations", "first")  # side effects, shares
LEVELS = ("reference", "design", "reading", "excess", "predicted", "error")  # in the metric's unit


def _listed(words: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z]+", words))


COUNTED = _listed(
    """one two three four five six seven eight nine ten eleven twelve dozen half double twice triple
    third quarter hundred thousand both"""
)
GUARDED = _listed(  # words that say how sure, why, or which way: none may come in anew
    """because cause causes caused improves improve improved improving worsens worsen worsened harms
    harm hurts hurt helps help boosts boost raises raise lowers lower increases increase decreases
    decrease reduces reduce better worse best worst higher more less fewer surely certainly
    definitely clearly proven proves prove proof guarantees guarantee guaranteed always
    significant significantly undoubtedly obviously must ensures ensure due therefore thus
    confirmed confirms refutes refuted measured likely very certain probably"""
)
DENIALS = _listed("not no never cannot none without nor nothing neither")
_NUMBER = re.compile(r"[+\-−]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[+\-]?\d+)?%?\Z")
_CHUNKS = re.compile(r"[\s();:\"“”…–—→/]+")
_EDGES = ".,!?'’`"


def orphans(text: str, claims: Sequence[Claim]) -> list[str]:
    """The numbers of a text that no claim holds, and words with digits that none has; in order."""
    held = [pair for c in claims for pair in _numbers(c)]
    held += [(float(n), True) for n in _counts(claims)]
    texts = [t for c in claims for t in _texts(c)]
    fixed = {n for c in claims for n in FIXED.get(c.kind, ())}
    return [
        chunk
        for chunk in _with_digits(text)
        if chunk not in fixed and not _named(chunk, texts) and not _holds(chunk, held)
    ]


def unfaithful(
    text: str, template: str, claims: Sequence[Claim], known: Sequence[Claim] = ()
) -> list[str]:
    """What is wrong with another wording of a template's text; nothing if it may stand for it.

    Numbers, with their signs, and names must be those of the template, denials as many, and words
    of certainty, cause and direction may only be left as they are.

    Args:
        known: all claims of the run, whose decisions and options are names too.
    """
    wrong = [f"number {n}" for n in orphans(text, claims)]
    said, meant = (set(_with_digits(t)) for t in (text, template))
    wrong += [f"without {n}" for n in sorted(meant - said)]
    wrong += [f"number {n}" for n in sorted(said - meant)]
    words, before = _words(text), _words(template)
    wrong += [f"word {w}" for w in sorted((GUARDED | COUNTED) & {*words} - {*before})]
    if sum(w in DENIALS for w in words) != sum(w in DENIALS for w in before):
        wrong.append("denial")
    hedges = [*(word for _, word in ADVERBS), "certain", "cannot tell", "open", "no principle yet"]
    wrong += [f"without {h}" for h in hedges if _named(h, [template]) and not _named(h, [text])]
    names = {t for c in [*claims, *known] for t in (c.path, c.chosen, c.alternative) if t}
    for name in sorted(names):
        if _named(name, [text]) != _named(name, [template]):
            wrong.append(f"name {name}")
    return list(dict.fromkeys(wrong))


def rephrased(
    template: str, claims: Sequence[Claim], rephrase: Rephrase | None, known: Sequence[Claim] = ()
) -> tuple[str, str]:
    """A text in other words where these are faithful, else the template's.

    Returns:
        The text and what made it, `template` or `rephrased`.
    """
    if rephrase is None:
        return template, "template"
    text = rephrase(template, [asdict(c) for c in claims])
    if not isinstance(text, str) or not text.strip():
        return template, "template"
    text = " ".join(text.split())
    return (
        (template, "template")
        if unfaithful(text, template, claims, known)
        else (
            text,
            "rephrased",
        )
    )


def _numbers(c: Claim) -> Iterator[tuple[float, bool]]:
    """Every number of a claim as it may be said, and whether it must be said whole."""
    whole = [c.trial, c.n_trials, c.n_direct, c.n_seeds, c.family_size, c.fidelity]
    whole += [c.scope.get("n_in_scope"), len(c.trial_ids), len(c.alternatives)]
    whole += [*c.trial_ids, *c.proposal_ids, *c.audit_trial_ids]
    yield from ((float(n), True) for n in whole if n is not None)
    factor = 100.0 if c.unit in PARTS or _is_share(c) else 1.0
    shown = [c.estimate, c.ci_low, c.ci_high, c.audit_estimate]
    yield from ((factor * n, False) for n in shown if n is not None)
    plain = 1.0 if c.kind == "scorecard" else factor  # its points have no unit
    for other in c.alternatives:
        ends = (other.get(name) for name in ("estimate", "ci_low", "ci_high"))
        yield from ((plain * n, False) for n in ends if n is not None)
    if c.kind == "calibration" and c.estimate is not None:
        yield float(round(c.estimate * c.n_trials)), True
    for share in (c.ci_level, c.scope.get("support")):
        if share is not None:
            yield 100 * share, False
    for name, number in c.side_effects.items():
        yield from ((n, False) for n in _side(c, name, number, factor))


def _side(c: Claim, name: str, number: float, factor: float) -> Iterator[float]:
    """A side effect in the units in which it may be said."""
    if (c.kind in RATIOS and name in COSTS) or c.kind == "tradeoff":
        yield from (number, 1 / number if number else 0.0, 100 * abs(number - 1))
    elif name in OF_ONE or name in SHARES:
        yield 100 * number
    elif name in LEVELS:
        yield factor * number
    else:
        yield number


def _is_share(c: Claim) -> bool:
    return c.metric in SHARES and c.unit != "rank correlation"


def _counts(claims: Sequence[Claim]) -> Iterator[int]:
    """What may be counted of several claims: they themselves, by verdict."""
    if len(claims) > 1:
        yield len(claims)
        for verdict in ("asserts", "leans", "open", "null"):
            yield sum(c.verdict == verdict for c in claims)


def _texts(c: Claim) -> Iterator[str]:
    """The texts of a claim whose words may be quoted."""
    found = [c.about, c.path, c.chosen, c.alternative, c.metric, c.unit, c.dataset, c.family]
    found += [c.scope.get("predicate"), *(o.get("value") for o in c.alternatives)]
    found += list(c.side_effects)
    for text in found:
        if text:
            yield text
            yield text.replace("_", " ")


def _with_digits(text: str) -> Iterator[str]:
    for chunk in _CHUNKS.split(text):
        bare = chunk.strip(_EDGES)
        if any(ch.isdigit() for ch in bare):
            yield bare


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower().replace("n't", " not"))


def _named(name: str, texts: Sequence[str]) -> bool:
    """Whether a name stands in one of the texts by itself."""
    pattern = re.compile(rf"(?<![\w+\-]){re.escape(name)}(?![\w]|[.,]\d)", re.IGNORECASE)
    return any(pattern.search(text) for text in texts)


def _holds(chunk: str, held: Sequence[tuple[float, bool]]) -> bool:
    """Whether a number is one of those held, to the digits in which it is said."""
    if not _NUMBER.match(chunk):
        return False
    text = chunk.rstrip("%").replace(",", "").replace("−", "-")
    signed, digits = text[0] in "+-", text.lstrip("+-")
    if digits[0] == "0" and digits[1:2].isdigit():
        return False  # nobody writes 027
    number = float(text)
    mantissa, _, exponent = text.partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    for value, whole in held:
        apart = abs(number - (value if signed else abs(value)))
        if apart <= (1e-9 if whole else 0.5 * unit * (1 + 1e-6)):
            return True
    return False

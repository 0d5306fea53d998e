"""Words with one wrong letter, read only where nothing else can be meant."""

from __future__ import annotations

from itertools import chain

from raynas.feedback.lexicon import WORDS
from raynas.feedback.metric_words import FORMS, METRICS, WISHES
from raynas.feedback.options import LEAVES, MARKS

# verbs without a neighbour in English that would say something else
_VERBS = (
    "replace", "substitute", "exchange", "remove", "without", "exclude", "eliminate", "prohibit",
    "prefer", "include", "disable", "enable", "increase", "decrease", "reduce", "preserve",
    "maintain", "evaluate", "instead", "minimize", "preferably", "ideally", "should",
)  # fmt: skip
_PHRASES = chain(
    *(MARKS, LEAVES, FORMS, WORDS["E"], WORDS["h"], WORDS["w"], _VERBS),
    *METRICS.values(),
    *WISHES.values(),
)
_WORDS = frozenset(word for said in _PHRASES for word in said.split() if len(word) >= 6)
# one letter off another word: weekly, extensive, learner
_FIXED = _WORDS - {"weakly", "expensive", "leaner"}


def near(word: str, singles: frozenset[str]) -> str | None:
    """The one word that a misspelt one is: one letter off, with the same first letter."""
    if len(word) < 6 or not word.isalpha():
        return None
    near = [w for w in _FIXED if w in singles and w[0] == word[0] and _one_off(word, w)]
    # an inflection is no misspelling: "you removed it" is no "remove it"
    near = [w for w in near if word[-1] not in "ds" or w[-1] == word[-1]]
    return near[0] if len(near) == 1 else None


def _one_off(a: str, b: str) -> bool:
    """Whether one letter is wrong, missing, too many, or two are swapped."""
    if abs(len(a) - len(b)) > 1:
        return False
    i = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    ra, rb = a[i:], b[i:]
    return (
        ra[1:] == rb[1:]
        or ra[1:] == rb
        or ra == rb[1:]
        or (ra[:2] == rb[1::-1] and ra[2:] == rb[2:])
    )

"""Text becomes words: contractions, hyphens and words that only stress are taken away."""

from __future__ import annotations

import re

from raynas.feedback.metric_words import NUMBERS

_PIECE = re.compile(
    r"\d+(?:,\d{3})+(?![\d,])|\d+x\d+|\d+\.\d+|\d+|\.\d+|[a-zµ][\wµ]*(?:\.[a-z_]\w*)*|<=|>=|==|[^\s]"
)
_CONTRACTED = {
    "don't": "do not", "dont": "do not", "doesn't": "does not", "mustn't": "must not",
    "shouldn't": "should not", "can't": "can not", "won't": "will not", "isn't": "is not",
    "i'd": "i would", "we'd": "we would", "let's": "let us", "it's": "it is", "that's": "that is",
    "needn't": "need not", "aren't": "are not", "shan't": "shall not", "there's": "there is",
    "i'm": "i am", "lets": "let us", "w/o": "without",
    "wouldn't": "would not", "≤": "<=", "≥": ">=", "–": "-", "×": "x", "\n": " . ",
}  # fmt: skip
# "way too big", "much smaller" say no more than "too big", "smaller" (but "much less than 2 ms")
_STRESS = re.compile(
    r"(?<!not )(?<!no )(?<!so )\b(?:way|far|much|a lot|lots|even|significantly|considerably|"
    r"substantially|noticeably|simply|clearly|obviously|still)\s+"
    r"(?=(?:too|more|fewer|less|smaller|larger|bigger|faster|quicker|cheaper|lighter|slimmer|leaner|"
    r"deeper|shallower|wider|narrower|simpler|higher|lower|better)\b(?!\s+than\b))"
)
_EITHER = re.compile(r"\beither\s+(?=[^.;!?]*\bor\b)")
# "inside the motifs" means all of them
_ALL_OF = re.compile(
    r"\b(in|inside|within|throughout|across|for)\s+(?:the\s+|its\s+|our\s+)?"
    r"(?=(?:layers|blocks|stages|nodes|motifs|cells)\b\s*"
    rf"(?!\s*(?:\d|after|before|from|between|with|without|{'|'.join(NUMBERS)})))"
)


def words_of(text: str) -> list[str]:
    """The words, numbers and signs of a text, in lower case."""
    text = text.replace("’", "'").strip().lower()
    for short, long in _CONTRACTED.items():
        pattern = rf"(?<!\w){re.escape(short)}(?!\w)" if short[0].isalpha() else re.escape(short)
        text = re.sub(pattern, long, text)
    text = _EITHER.sub("", _STRESS.sub("", text))
    text = _ALL_OF.sub(r"\1 all ", text)
    text = re.sub(r"(\d+)\s*x\s*(\d+)", r"\1x\2", text)
    text = re.sub(r"(\d+)\s?-\s?(?=\d)", r"\1 through ", text)
    text = re.sub(r"(?<=[a-z])-(?=[a-z])", " ", text)
    text = re.sub(r"(?<=[a-z])-(?=\d)|(?<=\d)-(?=[a-z])", " ", text)
    text = re.sub(r"(?<=[a-z])\s*#\s*(?=\d)", " ", text)
    text = re.sub(r"\b(layer|block|stage|node|motif|cell)s?_?(\d+)(?!\w*[.\w])", r"\1 \2", text)
    text = re.sub(r"(?<=[^\d\s])\.(?=\s|$)|(?<=\d)\.(?=\s|$)", " . ", text)
    return [p for p in _PIECE.findall(text)]

"""The words that feedback may use, by what they do in a sentence. All others are not understood.

Each kind of word is one letter, so that a clause is a short code ("use swish in layer 3" is UOP)
and each rule (`raynas.feedback.rules`) is a pattern of codes that must match the whole clause.
"""

from __future__ import annotations

from raynas.feedback.bound_words import BOUNDS
from raynas.feedback.splitting import phrases as _phrases
from raynas.feedback.verb_words import VERBS

_JOINTS: dict[str, tuple[str, ...]] = {
    # what is designed: says nothing
    "S": _phrases(
        "it; the network; network; model; the model; the design; design; the architecture; "
        "architecture; this; the net; net; models; networks; everything; designs; inference "
        "must take; inference"
    ),
    # says nothing at all
    "": _phrases(
        "the; a; an; please; in; at; of; also; just; kindly; is; are; be; i; we; you; can "
        "you; could you; can we; could we; would you; would; it is; they are; that is; that "
        "are; should; must; let us; i think; i think we should; as well; my; our; any; "
        "thanks; thank you; there should be; there must be; there is; let; everything else "
        "being equal; count; that; which; has a; kind of; i think it; we should; you should; "
        "ok; okay; hi; hello; hey; maybe you could; were; go; i believe; its; their; these; "
        "those; being; do; will you; now; both; fairly; quite; for us; for me; for my taste; "
        "for our taste; for my purposes; for our purposes; exactly; really; anymore; any "
        "longer; if you do not mind; overall; on the whole; for now; from now on; i would "
        "say; alright; all right"
    ),
    # joints
    ",": (",",),
    ":": (":",),
    "&": _phrases("and; as well as; plus; &; and also; together with; along with"),
    "|": _phrases("or; nor; or else"),
    ";": _phrases("but; then; and then; but also; yet; and yet; though; however"),
    ".": (".", ";", "!", "\n"),
    "=": ("=", "equal to", "equals", "=="),
    # a negation that no rule has
    "!": _phrases("not; never; neither"),
    # nouns of places
    "@": _phrases(
        "layer; layers; block; blocks; stage; stages; node; nodes; motif; motifs; cell; cells"
    ),
    # all places
    "^": _phrases(
        "everywhere; throughout; in every layer; in all layers; in each layer; every layer; "
        "all layers; each layer; all of the layers; all the layers; throughout the network; "
        "all over the network; across all layers; for all layers; on all layers; on every "
        "layer; for every layer; of all layers; of every layer; at every layer; at all "
        "layers; across the network; across the whole network; in the whole network; in the "
        "entire network"
    ),
    # places after
    ">": _phrases("after; beyond; past; behind; following"),
    # places before
    "{": _phrases("before; prior to; ahead of"),
    # every
    "*": _phrases(
        "all; every; each; all the; each of; all of; all of the; each of the; every single"
    ),
    # and all after it
    "~": _phrases(
        "on; on wards; onwards; onward; upwards; and up; and later; and above; and beyond; to "
        "the end"
    ),
    # up to
    "}": _phrases("up to and including; until; through"),
    # the first place
    "(": _phrases("first"),
    # the last place
    ")": _phrases("last; final"),
    # where, before a place
    "x": _phrases(
        "inside; across; inside of; anywhere in; anywhere; all over; all across; all through; "
        "everywhere in; everywhere inside"
    ),
}

# of a phrase in several kinds, the last one counts
WORDS: dict[str, tuple[str, ...]] = {**VERBS, **BOUNDS, **_JOINTS}

UNDO = frozenset(
    _phrases(
        "go back; please revert; please revert that; please take that back; please undo; "
        "please undo that; revert; revert it; revert that; revert the last change; roll back; "
        "roll that back; take back the last change; take it back; take that back; undo; undo "
        "it; undo last; undo last change; undo my last feedback; undo please; undo that; undo "
        "that please; undo the last change; undo the last feedback; undo the last one; undo "
        "the last turn; undo the previous change; undo this"
    )
)

POLITE = (
    "can you",
    "could you",
    "can we",
    "could we",
    "would you",
    "will you",
    "please",
)  # a question that begins so is a wish

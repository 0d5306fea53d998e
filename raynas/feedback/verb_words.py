"""What shall be, stay or go: the words of wishes about options, by kind (see `lexicon`)."""

from __future__ import annotations

from raynas.feedback.splitting import phrases as _phrases

VERBS: dict[str, tuple[str, ...]] = {
    # something shall be so
    "U": _phrases(
        "could use; could have; use; using; set; put; take; have; has; should be; should "
        "have; should use; must be; must have; must use; has to be; has to use; needs; need; "
        "needs to be; shall be; shall have; shall use; want; would like; make; i want; we "
        "want; i need; we need; i would like; we would like; choose; pick; switch to; go "
        "with; ought to be; to be; require; should become; becomes; needs to have; needs to "
        "use; give; let it be; employ; want to use; i want to use; we want to use; would like "
        "to use; i would like to use; get; go for; must take; should take; has to have; i "
        "want to see; we want to see; i would like to see; would like to see; want to see; i "
        "want to have; we want to have; i would like to have; would like to have; i would "
        "love; i would love to have; i would love to see; we would love"
    ),
    # something shall stay
    "K": _phrases(
        "keep; leave; do not change; do not touch; do not modify; do not alter; fix; lock; "
        "pin; freeze; preserve; retain; hold; never change; never touch; stick with; stick "
        "to; hold on to; maintain; must not change; should not change; do not mess with; "
        "should stay; must stay; should remain; must remain; stays; shall stay; has to stay; "
        "i want to keep; we want to keep; i would like to keep; should be kept; must be kept; "
        "let us keep; want to keep; remain; stay; do not alter anything in; do not change "
        "anything in; do not touch anything in"
    ),
    # as it is
    "Z": _phrases(
        "as it is; as is; as they are; unchanged; fixed; untouched; alone; the same; the way "
        "it is; constant; like it is; as it stands; as they were; as it was"
    ),
    # something shall not be so
    "X": _phrases(
        "no; avoid; avoiding; without; do not use; do not want; do not have; do not take; "
        "never use; remove; drop; get rid of; forbid; ban; exclude; stop using; must not use; "
        "must not be; must not have; should not use; should not be; should not have; may not "
        "use; may not be; may not have; cannot be; cannot use; can not be; do not put; never "
        "have; i do not want; we do not want; eliminate; prohibit; disallow; i do not want "
        "any; do not want any; do not use any; no more; stay away from; rule out; leave out; "
        "must never use; should never use; never put; must never be; do not include; do not "
        "employ; do not pick; do not choose; shall not use; shall not be; do not want to see; "
        "do not want to have; do not want to use; i do not want to see; we do not want to "
        "see; i do not want to use; we do not want to use; throw out; throw away; do away "
        "with; ditch; take out; i do not want to have; please no; omit; skip using"
    ),
    # rather something
    "F": _phrases(
        "prefer; i prefer; we prefer; favour; favor; rather; i would prefer; would prefer; i "
        "would rather have; i would rather use; i like; preferably use; i would favour; i "
        "would favor; we would prefer; lean towards; lean toward"
    ),
    # how sure: very
    "h": _phrases("strongly; definitely; clearly; very much; much; highly"),
    # how sure: not very
    "w": _phrases("slightly; weakly; somewhat; a little; a bit"),
    # to be tried
    "T": _phrases(
        "try; try out; test; let us try; experiment with; give it a try with; try using; "
        "please try; let us test; i want to try; i would like to try; we should try; could "
        "try; can try; evaluate"
    ),
    # one thing for another
    "R": _phrases("replace; swap; change; exchange; substitute; switch; turn; convert"),
    # what comes of it
    "W": _phrases("to; into"),
    # by what
    "i": _phrases("with; by; for"),
    # from what
    "f": _phrases("from"),
    # one thing in place of another
    "I": _phrases("instead of; in place of; rather than; as opposed to"),
    # something shall be there
    "J": _phrases("add; insert; include; introduce; enable; turn on; activate"),
    # something shall not be there
    "j": _phrases("disable; turn off; switch off; deactivate"),
    # nothing else
    "Y": _phrases(
        "only; exclusively; always; nothing but; always use; only use; use only; do not use "
        "anything but; do not use anything other than; nothing other than; nothing else than; "
        "nothing except; solely; use nothing but"
    ),
    # altogether: only of what shall not be so
    "d": _phrases("altogether; entirely; completely; totally"),
    # a limit shall no longer be
    "0": _phrases(
        "forget about; forget; ignore; disregard; lift; never mind; do not worry about; we "
        "can ignore; you can ignore"
    ),
}

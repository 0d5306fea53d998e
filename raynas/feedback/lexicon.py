"""The words that feedback may use, by what they do in a sentence. All others are not understood.

Each kind of word is one letter, so that a clause is a short code ("use swish in layer 3" is UOP)
and each rule (`raynas.feedback.rules`) is a pattern of codes that must match the whole clause.
"""

from __future__ import annotations


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(text.split("; "))


WORDS: dict[str, tuple[str, ...]] = {
    # something shall be so
    "U": _phrases(
        "could use; could have; use; using; set; put; take; have; has; should be; should have; "
        "should use; must be; "
        "must have; must use; has to be; has to use; needs; need; needs to be; shall be; "
        "shall have; shall use; want; would like; make; i want; we want; i need; we need; i "
        "would like; we would like; choose; pick; switch to; go with; ought to be; to be; "
        "require; should become; becomes; needs to have; needs to use; give; let it be; "
        "employ; want to use; i want to use; we want to use; would like to use; i would like "
        "to use; get; go for; must take; should take; has to have"
    ),
    # something shall stay
    "K": _phrases(
        "keep; leave; do not change; do not touch; do not modify; do not alter; fix; lock; "
        "pin; freeze; preserve; retain; hold; never change; never touch; stick with; stick "
        "to; hold on to; maintain; must not change; should not change; do not mess with; "
        "should stay; must stay; should remain; must remain; stays; shall stay; has to stay; "
        "i want to keep; we want to keep; i would like to keep; should be kept; must be kept; "
        "let us keep; want to keep; remain; stay"
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
        "employ; do not pick; do not choose; shall not use; shall not be"
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
    "Y": _phrases("only; exclusively; always; nothing but; always use; only use; use only"),
    # an upper bound
    "A": _phrases(
        "under; below; at most; less than; fewer than; no more than; not more than; max; "
        "maximum; a maximum of; maximum of; within; up to; smaller than; lower than; must not "
        "exceed; should not exceed; not exceed; not exceeding; <; <=; must stay under; must "
        "stay below; stay under; stay below; not above; not over; no greater than; no larger "
        "than; limited to; must be under; must be below; must be at most; should be under; "
        "should be below; should be at most; must be less than; should be less than; no "
        "longer than; a budget of; must remain below; must remain under; cap at; capped at; "
        "may not exceed; cannot exceed; must not be above; should not be above; faster than; "
        "must not be more than; should not be more than; shall not exceed; needs to be under; "
        "needs to be below; has to be under; has to be below; has to stay under; has to stay "
        "below; must not have more than; should not have more than; should have at most; must "
        "have at most; may have at most; do not exceed; do not use more than; never exceed; "
        "never more than; must be smaller than; should be smaller than; limit to; should have "
        "less than; must have less than; should have fewer than; must have fewer than; must "
        "take less than; should take less than; must take at most; should take at most; stays "
        "under; stays below; should stay under; should stay below; needs to stay under; needs "
        "to stay below; do not go over; do not go above"
    ),
    # a lower bound
    "B": _phrases(
        "at least; above; no less than; not less than; no fewer than; minimum; a minimum of; "
        "minimum of; min; >; >=; greater than; higher than; must be above; must be at least; "
        "should be at least; should be above; must be over; should be over; must exceed; "
        "should exceed; exceeding; not below; not under; must not fall below; should not fall "
        "below; must not drop below; stay above; should not drop below; must stay above; "
        "should stay above; better than; must have at least; should have at least; must "
        "reach; should reach; reach; has to be at least; has to be above; needs to be at "
        "least; needs to be above; must not be below; should not be below; must be greater "
        "than; must not go below; should not go below; stays above"
    ),
    # both
    "q": _phrases("between; in the range of"),
    # an upper bound of what a store holds
    "b": _phrases(
        "must fit in; fit in; fits in; fit into; fits into; must fit into; should fit in; "
        "should fit into; has to fit in; has to fit into; fit within; needs to fit in; needs "
        "to fit into; must fit within; fits within; to fit in; to fit into; should fit within"
    ),
    # a reference point rather than a limit
    "G": _phrases(
        "aim for; target; aim at; shoot for; a target of; our target is; the target is; "
        "aiming for; the goal is; our goal is; a goal of; strive for"
    ),
    # the same, beside a bound
    "H": _phrases(
        "ideally; if possible; preferably; hopefully; if you can; if feasible; would be nice; "
        "would be good; where possible"
    ),
    # the bound itself
    "n": _phrases("limit; bound; constraint; restriction; cap; limits; bounds; constraints"),
    # about (no rule has it: how near?)
    "a": _phrases("on; about"),
    # what matters most
    "E": _phrases(
        "prioritize; prioritise; focus on; concentrate on; emphasize; emphasise; optimize "
        "for; optimise for; optimize; optimise; i care more about; we care more about; care "
        "more about; care about; i care about; we care about; maximize; maximise; priority "
        "on; i value; we value; prioritizing; value; put more weight on; more weight on; give "
        "priority to; emphasis on; more emphasis on; i care most about; we care most about"
    ),
    # what shall be little
    "y": _phrases("minimize; minimise"),
    # over something else
    "V": _phrases(
        "over; than; is more important than; are more important than; matters more than; "
        "matter more than; more than; more important than; is worth more than; counts more "
        "than; has priority over; takes priority over; comes before; goes before; trumps; "
        "beats; is preferable to"
    ),
    # before all else
    "1": _phrases(
        "comes first; is most important; matters most; is the priority; has priority; is the "
        "most important; is the most important thing; is my priority; is our priority; is "
        "what matters; above everything; above everything else; is key; goes first"
    ),
    # more than the design has
    "+": _phrases("increase; raise; enlarge; grow; boost; widen; expand; extend"),
    # less than the design has
    "-": _phrases(
        "reduce; decrease; lower; cut; shrink; cut down; cut down on; trim; bring down; cut back on"
    ),
    # more, of what is counted
    "m": _phrases("more; additional"),
    # fewer
    "l": _phrases("fewer; less; too many; too much"),
    # larger
    "g": _phrases("larger; bigger; greater; higher; better; wider; improve; improved"),
    # smaller
    "s": _phrases("low; smaller; narrower; lesser"),
    # no worse than the design is
    "k": _phrases(
        "no slower than now; not slower than now; no larger than now; no bigger than now; not "
        "larger than now; not bigger than now; not slower; no slower; not larger; no larger; "
        "no bigger; not bigger; no slower than it is; no larger than it is; no bigger than it "
        "is; no less accurate; not less accurate; no less accurate than now"
    ),
    # half
    "/": _phrases(
        "in half; by half; half; halve; by a factor of two; half as many; half of; half as much"
    ),
    # a loss that is allowed, as a share
    "t": _phrases(
        "do not lose more than; without losing more than; lose at most; lose no more than; "
        "losing at most; must not lose more than; at a loss of at most; losing no more than; "
        "must not drop by more than; should not drop by more than; do not sacrifice more "
        "than; do not give up more than"
    ),
    # no loss
    "u": _phrases(
        "without losing; without loss of; do not lose; without hurting; without any loss of; "
        "must not lose; no loss of; without sacrificing; do not sacrifice; at the same; while "
        "keeping; without losing any; without a loss of; at no loss of; with no loss of; "
        "without giving up; do not lose any; do not hurt; without reducing; without "
        "degrading; while preserving; while maintaining; without compromising"
    ),
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
        "those; being; do; will you; now; both; fairly; quite"
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
}

# how a metric is called; `size`, `speed` and `efficiency` depend on what the run knows
METRICS: dict[str, tuple[str, ...]] = {
    "accuracy": _phrases("accuracy; acc; validation accuracy; classification accuracy; accuracies"),
    "loss": _phrases("loss; validation loss"),
    "params": _phrases(
        "params; parameters; param; parameter; parameter count; number of parameters; param "
        "count; number of params; number of weights; trainable parameters; parameter number; "
        "parameter budget; weights"
    ),
    "flops": _phrases(
        "flops; flop; compute; computation; computations; computational cost; computational "
        "effort; number of flops; floating point operations; compute cost"
    ),
    "latency_ms": _phrases(
        "latency; inference time; inference latency; response time; latency_ms; run time; "
        "runtime; latencies; inference speed of"
    ),
    "peak_memory_mb": _phrases(
        "memory; ram; peak memory; memory use; memory usage; memory footprint; memory "
        "consumption; peak_memory_mb; peak ram; working memory"
    ),
    "model_size_kb": _phrases(
        "flash; disk; storage; disk space; file size; model_size_kb; flash memory; model file "
        "size; weights file; storage size; on disk"
    ),
    "train_seconds": _phrases("training time; train time; train_seconds"),
    "size": _phrases("size; model size; network size; compactness; smallness"),
    "speed": _phrases("speed; inference speed"),
    "efficiency": _phrases("efficiency; cost; costs"),
}

# wishes about metrics in one word
WISHES: dict[str, tuple[str, ...]] = {
    "size": _phrases(
        "smaller; lighter; more compact; compact; lightweight; more lightweight; too big; too "
        "large; too heavy; less big; tinier; slimmer; leaner; smaller network; smaller model; "
        "a smaller network; a smaller model; small; half the size; half as big; half as large"
    ),
    "speed": _phrases(
        "faster; quicker; too slow; speed up; speed it up; less slow; quick; fast; speedier; "
        "speed things up; speed the network up; speed the model up; twice as fast"
    ),
    "efficiency": _phrases(
        "more efficient; cheaper; too expensive; less expensive; less costly; too costly; "
        "more efficiency; efficient; edge deployment; deployment on the edge; deployment at "
        "the edge; edge devices; edge device; edge ready; edge friendly; more efficiency for "
        "edge deployment; more efficient for edge deployment; suitable for edge deployment; "
        "edge; more edge friendly; efficiency for edge deployment; cheap; more efficient for "
        "edge devices; suitable for edge devices; for the edge; suitable for the edge; "
        "deployable on the edge; deploy on the edge; more efficient for the edge; resource "
        "efficient; more resource efficient"
    ),
    "accuracy": _phrases(
        "more accurate; better accuracy; higher accuracy; more accuracy; accuracy is too low; "
        "accurate; not accurate enough; improve accuracy; improve the accuracy; increase "
        "accuracy; increase the accuracy; greater accuracy; raise accuracy; raise the "
        "accuracy; boost accuracy; boost the accuracy; less error prone; better accuracies; "
        "improve on accuracy"
    ),
}

# wishes about the form of a design: what they are about, and whether more of it
_FORMS: dict[tuple[str, bool], tuple[str, ...]] = {
    ("depth", True): _phrases(
        "deeper; more depth; more deep; too shallow; deepen; more layers; too few layers; "
        "additional layers"
    ),
    ("depth", False): _phrases(
        "shallower; less deep; too deep; simpler; less complex; simplify; too complex; too "
        "complicated; less complicated; less depth; fewer layers; too many layers"
    ),
    ("wide", True): _phrases(
        "wider; broader; too narrow; widen; more width; more channels; more filters; too few "
        "channels"
    ),
    ("wide", False): _phrases(
        "narrower; thinner; too wide; less wide; fewer channels; less width; fewer filters; "
        "too many channels; slim down"
    ),
    ("kernel", True): _phrases(
        "larger receptive field; bigger receptive field; wider receptive field; greater "
        "receptive field; larger receptive fields; bigger receptive fields; wider receptive "
        "fields; more receptive field; larger kernels; bigger kernels; larger kernel; bigger "
        "kernel; larger filters; larger kernel size; bigger kernel size; larger kernel sizes; "
        "bigger kernel sizes; wider kernels; increase the receptive field; enlarge the "
        "receptive field; receptive field is too small; increase receptive field; larger "
        "field of view; widen the receptive field; expand the receptive field; grow the "
        "receptive field; extend the receptive field"
    ),
    ("kernel", False): _phrases(
        "smaller receptive field; smaller receptive fields; smaller kernels; smaller kernel; "
        "smaller kernel size; smaller kernel sizes; narrower receptive field; reduce the "
        "receptive field; receptive field is too large; shrink the receptive field"
    ),
}
FORMS = {said: form for form, phrases in _FORMS.items() for said in phrases}

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

# (dimension, how many of its base one is) -> units
_UNITS: dict[tuple[str, float], tuple[str, ...]] = {
    ("count", 1000.0): _phrases("k; thousand"),
    ("count", 1000000.0): _phrases("m; million; mio"),
    ("count", 1000000000.0): _phrases("g; billion"),
    ("flops", 1000.0): _phrases("kflops; kflop"),
    ("flops", 1000000.0): _phrases("mflops; mflop; megaflops"),
    ("flops", 1000000000.0): _phrases("gflops; gflop; gigaflops"),
    ("kB", 1.0): _phrases("kb; kilobytes; kilobyte"),
    ("kB", 1000.0): _phrases("mb; megabytes; megabyte"),
    ("kB", 1.024): _phrases("kib"),
    ("kB", 1048.576): _phrases("mib"),
    ("kB", 1000000.0): _phrases("gb"),
    ("kB", 1073741.824): _phrases("gib"),
    ("ms", 1.0): _phrases("ms; msec; msecs; millisecond; milliseconds"),
    ("ms", 0.001): _phrases("us; µs; microseconds"),
    ("s", 1000.0): _phrases("s; sec; secs; second; seconds"),
    ("%", 0.01): _phrases("%; percent; per cent; pct"),
    ("points", 0.01): _phrases("percentage points; percentage point; points; pp; point"),
    ("times", 1.0): _phrases("times"),
}
UNITS = {unit: base for base, units in _UNITS.items() for unit in units}

"""How much, and what matters more: the words of wishes about metrics, by kind (see `lexicon`)."""

from __future__ import annotations

from raynas.feedback.splitting import phrases as _phrases

BOUNDS: dict[str, tuple[str, ...]] = {
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
        "aiming for; the goal is; our goal is; a goal of; strive for; we are aiming for; i am "
        "aiming for; our aim is; the aim is; we aim for; i aim for"
    ),
    # the same, beside a bound
    "H": _phrases(
        "would be nice to have; would be great to have; would be good to have; would be nice "
        "to see; ideally; if possible; preferably; hopefully; if you can; if feasible; would "
        "be nice; would be good; where possible; would be great; would be ideal; would be "
        "better; would help; if at all possible; when possible; would be desirable"
    ),
    # the bound itself
    "n": _phrases(
        "limit; bound; constraint; restriction; cap; limits; bounds; constraints; budget; "
        "ceiling; budgets"
    ),
    # about (no rule has it: how near?)
    "a": _phrases("on; about"),
    # what matters most
    "E": _phrases(
        "prioritize; prioritise; focus on; concentrate on; emphasize; emphasise; optimize "
        "for; optimise for; optimize; optimise; i care more about; we care more about; care "
        "more about; care about; i care about; we care about; maximize; maximise; priority "
        "on; i value; we value; prioritizing; value; put more weight on; more weight on; give "
        "priority to; emphasis on; more emphasis on; i care most about; we care most about; i "
        "mostly care about; i mainly care about; we mostly care about; we mainly care about; "
        "i care mostly about; i care mainly about"
    ),
    # what shall be little
    "y": _phrases("minimize; minimise"),
    # over something else
    "V": _phrases(
        "over; than; is more important than; are more important than; matters more than; "
        "matter more than; more than; more important than; is worth more than; counts more "
        "than; has priority over; takes priority over; comes before; goes before; trumps; "
        "beats; is preferable to; outweighs; is worth more to us than; is worth more to me "
        "than; matters more to me than; matters more to us than; is more important to me "
        "than; is more important to us than; is a higher priority than; has higher priority "
        "than; should come before; should go before"
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
    "m": _phrases(
        "more; additional; not enough; too few; too little; extra; some more; a few more"
    ),
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
        "degrading; while preserving; while maintaining; without compromising; at no cost in; "
        "at no cost to; without harming; without damaging; without impairing; not at the cost "
        "of; not at the expense of; without sacrificing any; do not harm; do not degrade; "
        "while retaining"
    ),
    # less important than
    "2": _phrases(
        "is less important than; matters less than; counts less than; is secondary to; less "
        "important than; comes after; is worth less than"
    ),
    # has to run, in a time or on a device
    "r": _phrases(
        "must run; should run; has to run; needs to run; needs to be able to run; must be "
        "able to run; has to be able to run; should be able to run; must execute; should "
        "execute; must finish; has to finish; must respond; must answer; i need it to run; we "
        "need it to run; it will have to run; needs to finish; shall run"
    ),
    # will be run somewhere
    "v": _phrases(
        "is going to be deployed; it is going to be deployed; will be deployed; is to be "
        "deployed; must be deployed; has to be deployed; should be deployed; gets deployed; "
        "is being deployed; we deploy; we will deploy; i will deploy; we want to deploy; i "
        "want to deploy; we are going to deploy; is meant for deployment; is meant; is going "
        "to run; it is going to run; will run; will be running; it will run; we are going to "
        "run; we will run; deploy; is intended; will end up; going to be deployed; should be "
        "deployable; must be deployable; has to be deployable; is destined"
    ),
}

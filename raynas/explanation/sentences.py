"""Claims in words: one function per kind. No sentence without a claim, no number without one.

The wording is fixed by the strength of the evidence (`raynas.explanation.wording`): what is
asserted is said plainly, what only leans is called likely, and what the archive cannot tell from
chance is said to be so. `raynas.explanation.checking` finds numbers that no claim holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from raynas.explanation.choosing import chosen
from raynas.explanation.claims import Claim
from raynas.explanation.design_sentences import DESIGN_WORDS
from raynas.explanation.feedback_sentences import FEEDBACK_WORDS
from raynas.explanation.ranking import FEWEST
from raynas.explanation.space_sentences import SPACE_WORDS
from raynas.explanation.wording import (
    DOUBT,
    SCORED,
    SHARES,
    amount,
    change,
    costs,
    designs,
    difference,
    doubt,
    effect,
    epochs,
    hedged,
    interval,
    noun,
    plural,
    quantity,
    ratio,
    reading,
    scored,
    source,
    value,
)

__all__ = ["SHARES", "chosen", "noun", "plural", "quantity", "reading", "sentence", "summary",
           "value"]  # fmt: skip

CLOSE = 0.5  # a rank correlation from which one ranking stands for the other
OWN = "only the trained designs' own readings count"


def sentence(claim: Claim) -> str:
    """Says one claim, with its uncertainty and the number of trials behind it."""
    return WORDS[claim.kind](claim)


def summary(claims: Sequence[Claim]) -> str:
    """How many effects stand out and how many do not."""
    effects = [c for c in claims if c.kind == "effect"]
    if not effects:
        return "There are too few trials to estimate the effect of any decision (8 are needed)."
    clear = sum(c.verdict == "asserts" for c in effects)
    used = f"{effects[0].n_trials} {designs(effects[0])}"
    leaning = sum(c.verdict == "leans" for c in effects)
    return (
        f"Of {len(effects)} comparisons of options, {clear} can be told from chance with "
        f"{used} and {leaning} more are likely."
    )


def _performance(c: Claim) -> str:
    name = c.metric.removeprefix("test_")
    rest = [amount(v, n) for n, v in c.side_effects.items() if n != name]
    said = f"{c.metric.replace('_', ' ')} {value(c.estimate or 0.0, c.metric)}{interval(c)}"
    if c.metric != name:
        said = f"validation {name} {value(c.side_effects[name], name)}, {said}"
    trained = f", after {epochs(c)} with one seed" if c.dataset else ""
    needs = f" with {' and '.join(rest)}" if rest else ""
    return (
        f"Trial {c.trial} is the best of {c.n_trials} trained to the end: {said}{needs}{trained}."
    )


def _trade_off(c: Claim) -> str:
    saved = [ratio(n, r) for n, r in c.side_effects.items() if r > 0]
    against = f"needs {' and '.join(saved)} than" if saved else "against"
    return (
        f"Trial {c.chosen} {against} trial {c.alternative}: "
        f"{c.metric} {change(c)}{interval(c)}"
        f"{' on the validation split' if c.dataset else ''}{_plain_doubt(c)}."
    )


def _effect(c: Claim) -> str:
    name = f"{(c.path or '')[2:]} in all layers" if (c.path or "").startswith("*.") else c.path
    return (
        f"{effect(c, f'{name} {c.chosen} instead of {c.alternative}')} {reading(c)}, over "
        f"{c.n_trials} designs {'scored' if scored(c) else 'tried'} ({c.n_direct} with either)"
        f"{doubt(c)}."
    )


def _contrast(c: Claim) -> str:
    what = f"{c.path} {c.chosen} rather than {c.alternative}"
    if c.verdict == "null":
        return f"{what} makes no difference: it is the same network (proven, not estimated)."
    if c.estimate is None:
        return f"{what}: no trial had {c.alternative}, so nothing is known of it."
    if c.tier == "measured":
        of_both = plural(len(c.trial_ids), "training")
        evidence = f"measured: {of_both} of the two designs (and {c.n_trials} {designs(c)} in all)"
        return f"{effect(c, what)} {reading(c)}, {evidence}{doubt(c)}{_needs(c)}{_audited(c)}."
    tried = c.alternatives[0]["trained"] if c.alternatives else False
    direct = f"this very change was tried as trial {c.trial_ids[-1]}" if tried else "not tried here"
    return (
        f"{effect(c, what)} {source(c)} ({c.n_direct} with {c.alternative}; {direct})"
        f"{doubt(c)}{_needs(c)}{_audited(c)}."
    )


def _needs(c: Claim) -> str:
    """What the chosen option needs more or less of: `; it needs 1.4 times more params`."""
    found = costs(c)
    return f"; it needs {' and '.join(found)}" if found else ""


def _audited(c: Claim) -> str:
    """What training both again showed; '' for a claim that was not audited."""
    if c.audit_estimate is None:
        return ""
    agreed = {"confirmed": "which confirms it", "refuted": "which refutes it"}.get(c.status)
    again = f". Trained again to check: {difference(c.audit_estimate, c)}"
    return f"{again}, {agreed}" if agreed else again


def _share(c: Claim) -> str:
    return (
        f"In trial {c.trial}, {c.path} holds {100 * (c.estimate or 0):.0f} % of the "
        f"{c.side_effects['total']:,.0f} parameters (exact count)."
    )


def _ranking(c: Claim) -> str:
    shared = c.chosen in (None, *SCORED)
    by, s = ("shared weights", "") if shared else (f"the proxy {c.chosen}", "s")
    start = f"{by[0].upper()}{by[1:]}"
    known = f"Whether {by} rank{s} designs well is not known"
    if c.n_trials < FEWEST:
        few = f"{c.n_trials} of those scored were trained alone, at least {FEWEST} are needed"
        return f"{known}: {few}; {OWN}."
    if c.estimate is None:
        alike = f"the {c.n_trials} designs trained alone do not differ in scores or in {c.metric}"
        return f"{known}: {alike}; {OWN}."
    if c.verdict == "open":
        said = f"It is open whether designs that {by} rank{s} high do well when trained alone"
    elif c.estimate < 0:
        said = f"Designs that {by} rank{s} high do worse when trained alone"
    elif c.estimate < CLOSE:
        said = f"{start} tell{s} only roughly which designs do well when trained alone"
    else:
        said = f"Designs that {by} rank{s} high also do well when trained alone"
    best, spread = (int(c.side_effects[name]) for name in ("confirm", "uniform_probe"))
    end = f"; {OWN}" if c.verdict == "open" or c.estimate < 0 else ""
    if c.method_args:
        end += ". They were trained on from the shared weights: the two are not independent"
    return (
        f"{said}: rank correlation {c.estimate:.2f}{interval(c)} over {c.n_trials} designs, "
        f"{best} of them the best found, {spread} spread over the ranking{_plain_doubt(c)}{end}."
    )


def _collapse(c: Claim) -> str:
    led, edges = int(c.side_effects["led"]), plural(int(c.side_effects["edges"]), "edge")
    return (
        f"Warning: skip connections lead on {led} of {edges} {reading(c)} of shared training. "
        "They can win because they need no training, not because networks with them are better "
        "(Zela et al. 2020, arXiv:1909.09656)."
    )


def _prediction(c: Claim) -> str:
    before = f"what was predicted of {quantity(c.metric)} before each trial"
    estimate = c.estimate or 0.0
    if c.verdict == "open":
        said = f"It is open whether {before} ranks the trials as their readings do"
    elif estimate < 0:
        said = f"{before[0].upper()}{before[1:]} ranks the trials the wrong way round"
    else:
        how = "as" if estimate >= CLOSE else "only roughly as"
        said = f"{before[0].upper()}{before[1:]} ranks the trials {how} their readings do"
    end = f", over {plural(c.n_trials, 'finished trial')}{_left_out(c)}"
    return f"{said}: rank correlation {estimate:.2f}{interval(c)}{end}{_plain_doubt(c)}."


def _calibration(c: Claim) -> str:
    assert c.estimate is not None
    assert c.ci_low is not None
    assert c.ci_high is not None
    held = round(c.estimate * c.n_trials)
    level = f"{100 * c.ci_level:.0f} %"
    low, high = (f"{100 * v:.0f}" for v in (c.ci_low, c.ci_high))
    if c.verdict == "open":
        end = "which fits what they say"
    elif c.estimate < c.ci_level:
        end = "fewer than they say: the predictions are less sure than they look"
    else:
        end = "more than they say: the predictions are surer than they look"
    return (
        f"The {level} intervals predicted for {quantity(c.metric)} held {held} of "
        f"{plural(c.n_trials, 'reading')}: {100 * c.estimate:.0f} % ({level}: {low} to {high}), "
        f"{end}{_left_out(c)}."
    )


def _left_out(c: Claim) -> str:
    stopped = int(c.side_effects["stopped_early"])
    return f" ({stopped} more were stopped early and are not judged)" if stopped else ""


def _scaling(c: Claim) -> str:
    sure = ", too few to tell from chance" if c.lfsr is None else f", one seed each{doubt(c)}"
    grown = f"Growing depth, width and resolution together ({c.chosen}) instead of {c.alternative}"
    return (
        f"{grown if c.lfsr is None else hedged(c, grown)} alone: {c.metric} {change(c)}"
        f"{interval(c)} at the same {c.path} {reading(c)}, over "
        f"{plural(c.n_trials, 'larger size')}{sure}."
    )


def _plain_doubt(c: Claim) -> str:
    """The doubt of a verdict that does not follow from a probability alone."""
    return f", {DOUBT}" if c.verdict == "open" else ""


WORDS: dict[str, Callable[[Claim], str]] = {
    "performance": _performance,
    "tradeoff": _trade_off,
    "effect": _effect,
    "contrast": _contrast,
    "share": _share,
    "ranking": _ranking,
    "collapse": _collapse,
    "scaling": _scaling,
    "prediction": _prediction,
    "calibration": _calibration,
    **SPACE_WORDS,
    **DESIGN_WORDS,
    **FEEDBACK_WORDS,
}

"""Claims in words: one function per kind. No sentence without a claim, no number without one.

The wording is fixed by the strength of the evidence: what is asserted is said plainly, what only
leans is called likely, and what the archive cannot tell from chance is said to be so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from raynas.explanation.claims import Claim
from raynas.explanation.ranking import FEWEST
from raynas.objective import COSTS, COUNTS, KNOWN, TOLD, figure
from raynas.screening import SHARED

SHARES = ("accuracy", "test_accuracy", "shared_accuracy")  # shares of one, worded in per cent
CLOSE = 0.5  # a rank correlation from which one ranking stands for the other
OWN = "only the trained designs' own readings count"
SCORED = {score: name for name, score in SHARED.items()}  # what a score stands for
FIRST = ("performance", "ranking", "collapse")  # what everything else depends on


def sentence(claim: Claim) -> str:
    """Says one claim, with its uncertainty and the number of trials behind it."""
    return _WORDS[claim.kind](claim)


def chosen(claims: Sequence[Claim], most: int) -> list[Claim]:
    """The few claims worth saying first: the best design, whether scores can be trusted,
    what saves most, what matters most, what cannot be told, and where the parameters are."""
    effects: dict[str | None, Claim] = {}
    for claim in claims:
        if claim.kind == "effect" and claim.family == "whole design":
            effects.setdefault(claim.path, claim)  # of each decision the clearest comparison
    clear = [c for c in effects.values() if c.verdict != "open"]
    unclear = [c for c in effects.values() if c.verdict == "open"]
    best = [c for kind in FIRST for c in claims if c.kind == kind]
    best += [c for c in claims if c.kind == "scaling"][:1]  # against the best of the others
    rest = [*_best_saving(claims), *unclear[:1], *[c for c in claims if c.kind == "share"]]
    return [*best, *clear[: max(most - len(best) - len(rest), 1)], *rest][:most]


def summary(claims: Sequence[Claim]) -> str:
    """How many effects stand out and how many do not."""
    effects = [c for c in claims if c.kind == "effect"]
    if not effects:
        return "There are too few trials to estimate the effect of any decision (8 are needed)."
    clear = sum(c.verdict == "asserts" for c in effects)
    used = f"{effects[0].n_trials} {_designs(effects[0])}"
    likely = sum(c.verdict == "leans" for c in effects)
    return (
        f"Of {len(effects)} comparisons of options, {clear} can be told from chance with "
        f"{used} and {likely} more are likely."
    )


def value(number: float, metric: str) -> str:
    """A metric's value as it is said: per cent for shares, thousands separated for counts."""
    if metric in SHARES:
        return f"{100 * number:.1f} %"
    return figure(number)


def plural(count: int, noun: str) -> str:
    """`1 epoch`, `2 epochs`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def noun(metric: str) -> str:
    """A metric without its unit: `latency` for `latency_ms`."""
    return metric.rpartition("_")[0].replace("_", " ") if metric in TOLD else metric


def quantity(metric: str) -> str:
    """What a metric measures; that it was read with shared weights is said by `reading`."""
    return SCORED.get(metric, metric)


def reading(c: Claim) -> str:
    """How a claim's metric was read: `after 5 epochs`, or `with shared weights`."""
    if c.metric in SCORED:
        return "with shared weights"
    return "before training" if c.fidelity is None else f"after {_epochs(c)}"


def _performance(c: Claim) -> str:
    name = c.metric.removeprefix("test_")
    rest = [_amount(v, n) for n, v in c.side_effects.items() if n != name]
    told = f"{c.metric.replace('_', ' ')} {_value(c)}{_interval(c)}"
    if c.metric != name:
        told = f"validation {name} {value(c.side_effects[name], name)}, {told}"
    trained = f", after {_epochs(c)} with one seed" if c.dataset else ""
    costs = f" with {' and '.join(rest)}" if rest else ""
    return (
        f"Trial {c.trial} is the best of {c.n_trials} trained to the end: {told}{costs}{trained}."
    )


def _trade_off(c: Claim) -> str:
    saved = [_ratio(n, r) for n, r in c.side_effects.items() if r > 0]
    return (
        f"Trial {c.chosen} needs {' and '.join(saved)} than trial {c.alternative}: "
        f"{c.metric} {_change(c)}{_interval(c)}"
        f"{' on the validation split' if c.dataset else ''}{_doubt(c)}."
    )


def _ratio(name: str, ratio: float) -> str:
    """`1.7 times fewer params`; what is close, in percent."""
    word, times = ("more", ratio) if ratio >= 1 else (_fewer(name), 1 / ratio)
    much = f"{times:.1f} times" if times >= 1.1 else f"{100 * abs(ratio - 1):.1f} %"
    return f"{much} {word} {noun(name)}"


def _effect(c: Claim) -> str:
    name = f"{(c.path or '')[2:]} in all layers" if (c.path or "").startswith("*.") else c.path
    return (
        f"{_likely(c)}{name} {c.chosen} instead of {c.alternative}: {quantity(c.metric)} "
        f"{_change(c)}{_interval(c)} {reading(c)}, over {c.n_trials} designs "
        f"{'scored' if _scored(c) else 'tried'} ({c.n_direct} with either){_doubt(c)}."
    )


def _contrast(c: Claim) -> str:
    what = f"{c.path} {c.chosen} rather than {c.alternative}"
    tried = c.alternatives[0]["trained"] if c.alternatives else False
    direct = f"this very change was tried as trial {c.trial_ids[-1]}" if tried else "not tried here"
    if c.verdict == "null":
        return f"{what} makes no difference: it is the same network (proven, not estimated)."
    if c.estimate is None:
        return f"{what}: no trial had {c.alternative}, so nothing is known of it."
    return (
        f"{_likely(c)}{what}: {quantity(c.metric)} {_change(c)}{_interval(c)} {reading(c)}, "
        f"estimated from {c.n_trials} {_designs(c)} ({c.n_direct} with {c.alternative}; {direct})"
        f"{_doubt(c)}."
    )


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
        f"{said}: rank correlation {c.estimate:.2f}{_interval(c)} over {c.n_trials} designs, "
        f"{best} of them the best found, {spread} spread over the ranking{_doubt(c)}{end}."
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
    left = _left_out(c)
    end = f", over {plural(c.n_trials, 'finished trial')}{left}"
    return f"{said}: rank correlation {estimate:.2f}{_interval(c)}{end}{_doubt(c)}."


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
    sure = ", too few to tell from chance" if c.lfsr is None else f", one seed each{_doubt(c)}"
    return (
        f"{_likely(c)}Growing depth, width and resolution together ({c.chosen}) instead of "
        f"{c.alternative} alone: {c.metric} {_change(c)}{_interval(c)} at the same {c.path} "
        f"{reading(c)}, over {plural(c.n_trials, 'larger size')}{sure}."
    )


_WORDS: dict[str, Callable[[Claim], str]] = {
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
}


def _best_saving(claims: Sequence[Claim]) -> list[Claim]:
    """The trade-off that saves most among those that may cost nothing, else the cheapest."""
    offers = [c for c in claims if c.kind == "tradeoff" and c.side_effects]
    free = [c for c in offers if c.verdict == "open"]
    return sorted(free or offers, key=lambda c: sum(c.side_effects.values()))[:1]


def _amount(number: float, metric: str) -> str:
    """`48,210 params`, `3.2 ms of latency`."""
    unit = f"{KNOWN[metric][1]} of " if metric in TOLD else ""
    return f"{value(number, metric)} {unit}{noun(metric)}"


def _fewer(metric: str) -> str:
    return "fewer" if metric in COUNTS else "less"


def _designs(c: Claim) -> str:
    return "designs scored" if _scored(c) else "trials"


def _scored(c: Claim) -> bool:
    """Whether it is about a score, by shared weights or by a proxy: no training stands behind it,
    and it is no count."""
    return c.fidelity is None and c.metric not in COSTS


def _value(c: Claim) -> str:
    return value(c.estimate or 0.0, c.metric)


def _epochs(c: Claim) -> str:
    return plural(int(c.fidelity or 0), "epoch")


def _change(c: Claim) -> str:
    if c.metric in SHARES:
        return f"{100 * (c.estimate or 0):+.1f} points"
    return f"{c.estimate or 0:+.3g}" + (f" {c.unit}" if c.unit != "1" else "")


def _interval(c: Claim) -> str:
    if c.ci_low is None or c.ci_high is None:
        return ""
    factor, form = (100, ".1f") if c.metric in SHARES else (1, ".3g")
    if c.kind in ("ranking", "prediction"):
        factor, form = 1, ".2f"
    sign = "" if c.kind in (*FIRST, "prediction") else "+"
    low, high = (f"{factor * v:{sign}{form}}" for v in (c.ci_low, c.ci_high))
    return f" ({100 * c.ci_level:.0f} %: {low} to {high})"


def _likely(c: Claim) -> str:
    return "Likely, not certain: " if c.verdict == "leans" else ""


def _doubt(c: Claim) -> str:
    return ", which this archive cannot tell from chance" if c.verdict == "open" else ""

"""Words for claims about single designs, how they came about, and how claims were checked."""

from __future__ import annotations

from collections.abc import Callable

from raynas.explanation.claims import Claim
from raynas.explanation.wording import (
    adverb,
    amount,
    change,
    costs,
    difference,
    doubt,
    hedged,
    interval,
    percent,
    plural,
    quantity,
    reading,
    source,
    told,
    value,
)

MADE = {  # how a proposal's kind is said
    "random": "at random",
    "mutation": "by mutation",
    "crossover": "by crossover",
    "policy": "by the controller",
    "acquisition": "by what a model of earlier trials promised",
    "derived": "from what came out best before",
    "neighbour": "as a neighbour",
    "ablation": "as an ablation",
    "engineer": "by a person",
    "scaling": "by growing a design",
}


def _confirmation(c: Claim) -> str:
    seeds = plural(c.n_seeds or len(c.trial_ids), "fresh seed")
    excess, read = c.side_effects.get("excess"), c.side_effects.get("reading")
    earlier = ""
    if read is not None and excess is not None:
        earlier = f"; the search itself had read {value(read, c.metric)} ({difference(excess, c)})"
    average = " on average" if (c.n_seeds or len(c.trial_ids)) > 1 else ""
    return (
        f"Trained again with {seeds}, the design of trial {c.trial} reaches {quantity(c.metric)} "
        f"{value(c.estimate or 0.0, c.metric)}{average}{interval(c)} {reading(c)}{earlier}."
    )


def _attribution(c: Claim) -> str:
    against = "the average design" if c.alternative == "average" else c.alternative
    what = f"In trial {c.trial}, {c.path} {c.chosen}"
    levels = [c.side_effects.get(name) for name in ("reference", "design")]
    if None not in levels:
        at, reached = (value(float(v or 0.0), c.metric) for v in levels)
        against = f"{against} ({at}) to this one ({reached})"
        against = f"the way from {against}"
    much = f"{change(c)}{interval(c)} to {quantity(c.metric)} on {against}, {source(c)}"
    sure = f"{adverb(c)} " if told(c) and adverb(c) else ""
    return hedged(c, f"{what} {sure}contributes {much}{doubt(c)}.")


def _advice(c: Claim) -> str:
    needs = costs(c)
    offer = f"in trial {c.trial}, {c.path} {c.alternative} instead of {c.chosen}"
    much = f"{quantity(c.metric)} {change(c)}{interval(c)} expected {source(c)}"
    sure = adverb(c)
    how = f" ({sure} the right sign)" if sure and not told(c) else f" ({sure})" if sure else ""
    if c.family == "saving":
        saved = f" needs {' and '.join(needs)}" if needs else ""
        return f"To save: {offer}{saved}; {much}{how}{doubt(c)}."
    price = f"; it needs {' and '.join(needs)}" if needs else ""
    return f"Best untried edit: {offer}: {much}{how}{doubt(c)}{price}."


def _provenance(c: Claim) -> str:
    return _RECORDED.get(c.family or "", _born)(c)


def _born(c: Claim) -> str:
    made = MADE.get(c.chosen or "", c.chosen or "")
    if c.alternative is None:
        return f"Trial {c.trial} was proposed {made}, from no earlier trial (recorded)."
    edits = [e for e in str(c.scope.get("predicate") or "").split("; ") if e]
    changed = f", changing {', '.join(edits)}" if edits else ""
    gain = f"{quantity(c.metric)} {change(c)} in one reading of each {reading(c)}"
    if c.estimate is None:
        gain = f"no {quantity(c.metric)} was read of both at the same epoch"
    expected = c.side_effects.get("predicted")
    before = "" if expected is None else f", {difference(expected, c)} predicted"
    return f"Trial {c.trial} was made from {c.alternative} {made}{changed}: {gain}{before}."


def _kinds(c: Claim) -> str:
    better = int(c.side_effects["improved"])
    were = "was" if c.n_trials == 1 else "were"
    gain = f", by {change(c)} of {quantity(c.metric)} together" if better else ""
    return (
        f"{plural(c.n_trials, 'design')} {were} proposed {MADE.get(c.chosen or '', c.chosen)}: "
        f"{better or 'none'} read better than all before{gain} (single readings, recorded)."
    )


def _turned_away(c: Claim) -> str:
    return (
        f"Of the designs that were considered, {int(c.estimate or 0)} were turned away as "
        f"{c.chosen} (recorded; the log keeps the first few of each proposal)."
    )


def _tried(c: Claim) -> str:
    read = "no reading" if c.estimate is None else f"{quantity(c.metric)} {_level(c)} {reading(c)}"
    return f"This design was tried as trial {c.trial} ({c.chosen}): {read}, one reading."


def _considered(c: Claim) -> str:
    return f"It was considered before trial {c.trial} was proposed and not taken: {c.chosen}."


def _never_met(c: Claim) -> str:
    return (
        f"It was not among the {plural(c.n_trials, 'trial')}, nor among the candidates that the "
        "log keeps of each proposal."
    )


def _limit(c: Claim) -> str:
    need = amount(c.estimate or 0.0, c.metric)
    return f"It would need {need}, which {c.chosen} does not allow (exact count)."


def _level(c: Claim) -> str:
    return value(c.estimate or 0.0, c.metric)


_RECORDED: dict[str, Callable[[Claim], str]] = {
    "kinds of proposals": _kinds,
    "turned away": _turned_away,
    "tried": _tried,
    "considered": _considered,
    "never met": _never_met,
    "limit": _limit,
}


def _belief(c: Claim) -> str:
    final = percent(c.estimate or 0.0)
    first = c.side_effects.get("first")
    began = "" if first is None else f", {percent(first)} at the beginning"
    return (
        f"What decided between options in this search came to favour {c.chosen} for {c.path}: "
        f"chance {final} at the end{began} (its belief, not a measurement)."
    )


def _audit(c: Claim) -> str:
    right = int(c.side_effects["right"])
    expected = c.side_effects.get("expected")
    noise = ""
    if expected is not None:
        noise = f"; {expected:.1f} would be right if claims are as sure as they say"
    return (
        f"Audit: of {plural(c.n_trials, 'claim')} drawn at random and trained again, {right} had "
        f"the right sign: {percent(c.estimate or 0.0)}{interval(c)}{noise}."
    )


DESIGN_WORDS: dict[str, Callable[[Claim], str]] = {
    "confirmation": _confirmation,
    "attribution": _attribution,
    "advice": _advice,
    "provenance": _provenance,
    "belief": _belief,
    "audit": _audit,
}

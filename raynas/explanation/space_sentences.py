"""Words for claims about a space as a whole: what matters in it, and rules for good designs."""

from __future__ import annotations

from collections.abc import Callable

from raynas.explanation.claims import Claim
from raynas.explanation.wording import (
    doubt,
    effect,
    hedged,
    interval,
    likely,
    percent,
    plural,
    quantity,
    reading,
    source,
)

FEWEST_PROBES = 40  # uniform probes from which a principle may be asserted
MOST_TERMS = 6  # of a scorecard that are said
WHERE = {
    "whole space": "over the whole space",
    "top decile": "for being among the best tenth",
}


def _importance(c: Claim) -> str:
    where = _where(c)
    name = c.path or ""
    if name.startswith("*."):
        name = f"{name[2:]}, all layers together,"
    part = f"{percent(c.estimate or 0.0)}{interval(c)} of what makes {quantity(c.metric)} differ"
    if not name:
        return (
            f"{where}, {part} lies in combinations of three or more decisions that no decision or "
            f"pair tells ({source(c)})."
        )
    return f"{where}, {name} alone accounts for {part} ({source(c)}){doubt(c)}."


def _interaction(c: Claim) -> str:
    return (
        f"{_where(c)}, how {c.path} and {c.alternative} go together accounts for "
        f"{percent(c.estimate or 0.0)}{interval(c)} of what makes {quantity(c.metric)} differ, "
        f"beyond each alone ({source(c)}){doubt(c)}."
    )


def _where(c: Claim) -> str:
    """What a share is a share of, after how sure it is: `Likely, not certain: over the space`."""
    family = c.family or "whole space"
    where = WHERE.get(family, family)
    return hedged(c, f"{where[:1].upper()}{where[1:]}")


def _principle(c: Claim) -> str:
    rule = c.scope.get("predicate") or c.path
    probes = int(c.side_effects.get("probes", c.n_direct or 0))
    support, violations = c.scope.get("support"), c.side_effects.get("violations")
    holds = "" if support is None else f"; {percent(float(support))} of the space have it"
    if violations is not None:
        holds += f", {percent(violations)} of these are worse than the middle of the rest"
    few = ""
    if probes < FEWEST_PROBES:
        few = f"; below {FEWEST_PROBES} probes this is no principle yet"
    return (
        f"{effect(c, str(rule))} against designs without it {reading(c)}, from "
        f"{plural(probes, 'uniform probe')} and {c.n_trials} trials in all{doubt(c)}{holds}{few}."
    )


def _motif(c: Claim) -> str:
    good, rest = (c.side_effects.get(name) for name in ("good", "rest"))
    shared = ""
    if good is not None and rest is not None:
        shared = f"; {percent(good)} of the good designs have it, {percent(rest)} of the dominated"
    start = "the" if likely(c) else "The"
    return f"{effect(c, f'{start} motif {c.chosen}')} {source(c)}{doubt(c)}{shared}."


def _scorecard(c: Claim) -> str:
    terms = [
        f"{term['value']} {float(term['estimate'] or 0.0):+.1f}"
        for term in list(c.alternatives)[:MOST_TERMS]
    ]
    base = c.side_effects.get("base")
    start = "" if base is None else f"begin with {base:.1f}, then "
    return (
        f"To compare two designs by hand, add points: {start}{', '.join(terms)}. The one with more "
        f"is the better {_hits(c)} ({source(c)})."
    )


def _tree(c: Claim) -> str:
    leaves = int(c.side_effects.get("leaves", len(c.alternatives)))
    return (
        f"A decision tree of {leaves} leaves tells the better of two designs {_hits(c)}, where "
        f"guessing is right in half of them ({source(c)})."
    )


def _hits(c: Claim) -> str:
    """How often the better of two designs is told, of each sort of pairs."""
    sorts = {
        "random": "random pairs",
        "top": "pairs among the best",
        "edit": "pairs one edit apart",
    }
    known = {name: c.side_effects[name] for name in sorts if name in c.side_effects}
    known = known or {"random": c.estimate or 0.0}
    return "in " + ", ".join(f"{percent(share)} of {sorts[n]}" for n, share in known.items())


SPACE_WORDS: dict[str, Callable[[Claim], str]] = {
    "importance": _importance,
    "interaction": _interaction,
    "principle": _principle,
    "motif": _motif,
    "scorecard": _scorecard,
    "tree": _tree,
}

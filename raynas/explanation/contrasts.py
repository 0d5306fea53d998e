"""Why this option and not that: every decision of a design against every alternative.

A contrast is the metric of the design minus that of the same design with one option changed, in
draws of the response surface. Where the change needs parts that the design does not have, it is
the mean over ways to fill them in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from raynas.architecture import Architecture, Decision, Option, option_text
from raynas.explanation.claims import Claim, Tier
from raynas.explanation.making import Maker
from raynas.explanation.surface import Surface
from raynas.objective import Metrics
from raynas.space import Space

WAYS = 8  # to fill in parts that an option adds

Costs = Callable[[Architecture], Metrics]


@dataclass(frozen=True)
class Edit:
    """A design with one option changed.

    Attributes:
        designs: the one design that this makes, or several ways to fill in what it adds.
        whole: whether it is one design, with nothing filled in.
    """

    name: str
    option: Option
    designs: Sequence[Architecture]
    whole: bool


def edits(space: Space, design: Architecture) -> Iterator[Edit]:
    """Every decision of a design with every other option, in order."""
    for name, option in space.edits(design):
        yield edit(space, design, name, option)


def edit(space: Space, design: Architecture, name: str, option: Option) -> Edit:
    """The design with another option; what the option adds is drawn at random (seed fixed)."""
    options = {**design.options, name: option}
    unsaid: set[str] = set()

    def pick(d: Decision) -> Option:
        if d.name not in options:
            unsaid.add(d.name)
        return options.get(d.name, d.options[0])

    first = space.answer(pick)
    if not unsaid:
        return Edit(name, option, (first,), True)
    rng = np.random.default_rng(0)

    def draw(d: Decision) -> Option:
        return options[d.name] if d.name in options else d.options[rng.integers(len(d.options))]

    return Edit(name, option, tuple(space.answer(draw) for _ in range(WAYS)), False)


def contrasts(
    make: Maker,
    space: Space,
    surface: Surface | None,
    trials: pd.DataFrame,
    read: pd.DataFrame,
    trial: int,
    costs: Costs | None = None,
) -> list[Claim]:
    """A claim for every edit of a trial's design.

    Args:
        make: makes the claims.
        trials: all of the run; read: those with readings that the surface was fitted to.
        costs: exact costs of a design, for what an edit saves; None leaves them out.
    """
    texts = trials.set_index("number")["architecture"]
    design = space.parse(str(texts.loc[trial]))
    found = list(edits(space, design))
    known: dict[str, list[int]] = {}
    rows = trials[trials["status"].isin(["finished", "stopped_early"])]
    for number, text in zip(rows["number"], rows["architecture"], strict=True):
        known.setdefault(str(text), []).append(int(number))
    designs = [design, *(d for e in found for d in e.designs)]
    draws = None if surface is None else surface.draws(designs)
    own, met, retrained = space.identity(design), _met(space, trials), _retrained(trials)
    claims, at = [], 1  # the design itself stands first
    for e in found:
        places = slice(at, at + len(e.designs))
        at = places.stop
        change = None if draws is None else draws[:, 0] - draws[:, places].mean(axis=1)
        made = str(space.plainest(e.designs[0])) if e.whole else None  # as it would be trained
        tried = known.get(made, []) if made else []
        about = _about(design, e, trial, made, [known.get(str(design), [trial]), tried], read)
        if e.whole:
            about["side_effects"] = _ratios(costs, design, e.designs[0])
        if e.whole and space.identity(e.designs[0]) == own:
            claims.append(_same(make, about))
        elif change is None or e.option not in met[e.name]:
            method = "count in the log"
            claims.append(make("contrast", "recorded", "open", method=method, **about))
        else:
            tier: Tier = "measured" if retrained.intersection(tried) else "estimated"
            family = f"contrasts of trial {trial}"
            new = make.estimated("contrast", change, family, len(found), tier=tier, **about)
            claims.append(new)
    return claims


def _about(
    design: Architecture,
    e: Edit,
    trial: int,
    made: str | None,
    both: Sequence[Sequence[int]],
    read: pd.DataFrame,
) -> dict[str, Any]:
    """What an edit is about; `both`: the trials of the design, and of the edit."""
    own, tried = both
    column = f"d.{e.name}"
    option = option_text(e.option)
    stated = {
        "value": option,
        "architecture": made,
        "trained": bool(tried),
    }
    return {
        "about": f"{e.name}={option_text(design[e.name])} instead of {option}",
        "trial": trial,
        "path": e.name,
        "chosen": option_text(design[e.name]),
        "alternative": option,
        "n_direct": int((read[column] == e.option).sum()) if column in read else 0,
        "n_seeds": min(len(tried), len(own)) if tried else None,
        "scope": {"type": "design", "predicate": str(design), "n_in_scope": 1},
        "alternatives": [stated],
        "trial_ids": list(dict.fromkeys([trial, *own, *tried])),
    }


def _same(make: Maker, about: dict[str, Any]) -> Claim:
    return make(
        "contrast",
        "proven",
        "null",
        estimate=0.0,
        ci_low=0.0,
        ci_high=0.0,
        ci_kind="exact",
        method="both are the same network with the same parameters",
        **about,
    )


def _met(space: Space, trials: pd.DataFrame) -> dict[str, set[Option]]:
    """Decision -> the options that any trial had, here or in another layer."""
    families: dict[tuple[str, tuple[Option, ...]], set[Option]] = {}
    for d in space.decisions:
        met = families.setdefault((d.leaf, d.options), set())
        if f"d.{d.name}" in trials:
            met.update(trials[f"d.{d.name}"].dropna().unique())
    return {d.name: families[d.leaf, d.options] for d in space.decisions}


def _retrained(trials: pd.DataFrame) -> set[int]:
    """Trials that were run for the sake of a claim."""
    rows = trials["purpose"].isin(["ablation", "audit"])
    return set(trials.loc[rows, "number"].astype(int))


def _ratios(costs: Costs | None, design: Architecture, other: Architecture) -> dict[str, float]:
    """What the chosen option costs, as a ratio to the alternative's."""
    if costs is None:
        return {}
    mine, theirs = costs(design), costs(other)
    return {n: mine[n] / theirs[n] for n in mine if theirs.get(n) and mine[n]}

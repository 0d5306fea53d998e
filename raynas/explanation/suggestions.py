"""What suggestions did: a person's change of a design, trained against what it replaces.

A suggestion is a hypothesis. The design under discussion and the same design with the suggestion
are both trained with fresh seeds, and only such readings are compared: the one for which the
search chose the design was also lucky.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
from scipy.stats import t as student

from raynas.architecture import Architecture, option_text
from raynas.directives import Turn, in_force, parts
from raynas.errors import UserError
from raynas.explanation.claims import LEVEL, Claim
from raynas.explanation.designs import Make
from raynas.explanation.feedback import Suggestion, suggestions
from raynas.front import TESTING
from raynas.objective import COSTS, Array
from raynas.run import RunInfo
from raynas.space import Space


def claims(
    make: Make,
    info: RunInfo,
    trials: pd.DataFrame,
    said: Sequence[Turn],
) -> Iterator[Claim]:
    """One claim for every suggestion: what it changes, as far as fresh trainings of both say.

    The estimate is the edit's mean less that of the design in the first objective; its interval
    is Student's with pooled variance.

    Args:
        trials: all trials of the run.
        said: all turns, those taken back too.
    """
    held = in_force(said)
    texts = dict(zip(trials["number"], trials["architecture"].astype(str), strict=True))
    fresh = _fresh(trials, info)
    for turn in said:
        for s in suggestions(info.space, turn, texts, said):
            if not _paths(s) or any(path in s.edit for path in _paths(s)):
                yield _claim(make, info, fresh, s, turn in held)


def _claim(make: Make, info: RunInfo, fresh: pd.DataFrame, s: Suggestion, in_force: bool) -> Claim:
    objective, space = info.objectives[0], info.space
    same = space.identity(s.edit) == space.identity(s.design)
    about = {
        "trial": s.turn.trial,
        "path": ", ".join(_paths(s)) or None,
        "chosen": _said(s.edit, s) or "the design to try",
        "alternative": _said(s.design, s) or "the design under discussion",
        "metric": objective.name,
        "unit": objective.unit,
        "family": f"turn {s.turn.number}",
        "scope": {"type": "design", "predicate": str(s.design), "n_in_scope": 1},
        "status": "in force" if in_force else "taken back",
    }
    what = _what(s)
    stated = {"value": about["chosen"], "architecture": str(space.plainest(s.edit))}
    if same:
        method = "both are the same network with the same parameters"
        exact = {"estimate": 0.0, "ci_low": 0.0, "ci_high": 0.0, "ci_kind": "exact"}
        found = [{**stated, "trained": False}]
        return make("suggestion", "proven", "null", what, method=method, trial_ids=[],
                    alternatives=found, **exact, **about)  # fmt: skip
    own, other = (_of(fresh, space, design) for design in (s.design, s.edit))
    epochs = _common(own, other)
    mine, theirs = (rows[rows["fidelity"] == epochs] for rows in (own, other))
    counts = {"controls": float(len(mine)), "edits": float(len(theirs))}
    found = [{**stated, "trained": bool(len(theirs))}]
    if not len(mine) or not len(theirs):
        ids = [int(n) for n in [*own["number"], *other["number"]]]
        left = {"controls": float(len(own)), "edits": float(len(other))}
        return make("suggestion", "measured", "open", what, method="not tested yet",
                    trial_ids=ids, n_trials=len(ids), alternatives=found, side_effects=left,
                    **about)  # fmt: skip
    name = f"m.{objective.name}"
    test = contrast(theirs[name].to_numpy(dtype=float), mine[name].to_numpy(dtype=float))
    ids = [int(n) for n in [*mine["number"], *theirs["number"]]]
    return make(
        "suggestion",
        "measured",
        "asserts" if test.clear else "open",
        what,
        estimate=test.difference,
        ci_low=test.low,
        ci_high=test.high,
        ci_kind=None if test.low is None else "Student t, pooled variance",
        lfsr=test.wrong,
        p_sign=None if test.wrong is None else 1 - test.wrong,
        fidelity=float(epochs),
        n_trials=len(ids),
        n_seeds=min(len(mine), len(theirs)),
        trial_ids=ids,
        alternatives=found,
        side_effects={**counts, **_costs(mine, theirs)},
        method="both trained with fresh seeds",
        **about,
    )


@dataclass(frozen=True)
class Difference:
    """A difference of two means; without an interval where nothing tells the noise."""

    difference: float
    low: float | None = None
    high: float | None = None
    wrong: float | None = None  # probability of the other sign

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low is not None and self.high is not None and self.low * self.high > 0


def contrast(ours: Array, others: Array) -> Difference:
    """The mean of `ours` less that of `others`, with Student's interval of pooled variance."""
    gap = float(ours.mean() - others.mean())
    freedom = len(ours) + len(others) - 2
    squares = sum(float(((v - v.mean()) ** 2).sum()) for v in (ours, others))
    if freedom < 1 or squares <= 0:
        return Difference(gap)
    deviation = math.sqrt(squares / freedom * (1 / len(ours) + 1 / len(others)))
    half = float(student.ppf((1 + LEVEL) / 2, freedom)) * deviation
    wrong = float(student.sf(abs(gap) / deviation, freedom))
    return Difference(gap, gap - half, gap + half, wrong)


def _fresh(trials: pd.DataFrame, info: RunInfo) -> pd.DataFrame:
    """The finished trainings that were made to learn what a design reads.

    Where designs are scored there are none: they are trained on from weights that they share.
    """
    name = f"m.{info.objectives[0].name}"
    if name not in trials or info.screening is not None:
        return trials.iloc[:0]
    rows = trials[trials["purpose"].isin(TESTING) & (trials["status"] == "finished")]
    return rows.dropna(subset=[name])


def _of(fresh: pd.DataFrame, space: Space, design: Architecture) -> pd.DataFrame:
    """Those of one network, whatever it is called."""
    own = space.identity(design)
    texts = fresh["architecture"].astype(str)
    same = {t for t in texts.unique() if _identity(space, t) == own}
    return fresh[texts.isin(same)]


def _identity(space: Space, text: str) -> str | None:
    try:
        return space.identity(space.parse(text))
    except UserError:  # of another version of the space
        return None


def _common(own: pd.DataFrame, other: pd.DataFrame) -> int:
    """The most epochs after which both were read; 0 if there are none."""
    both = set(own["fidelity"]) & set(other["fidelity"])
    return int(max(both, default=0))


def _costs(mine: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, float]:
    """What the edit costs against the design: ratios, and of a latency the difference too."""
    found = {}
    for name in COSTS:
        if f"m.{name}" in mine:
            before, after = (float(rows[f"m.{name}"].mean()) for rows in (mine, theirs))
            if before and not math.isnan(before + after):
                found[name] = after / before
                if name == "latency_ms":
                    found["latency_difference"] = after - before
    return found


def _paths(s: Suggestion) -> list[str]:
    return list(dict.fromkeys(path for d in s.directives for path in d.paths))


def _said(design: Architecture, s: Suggestion) -> str:
    return ", ".join(option_text(design[p]) for p in _paths(s) if p in design)


def _what(s: Suggestion) -> str:
    """`kernel_size 5 instead of 3 at layer 3`; of a design to try, which it is."""
    changed = [p for p in _paths(s) if p in s.edit]
    if not changed:
        against = "the design under discussion"
        if s.turn.trial is not None:
            against = f"that of trial {s.turn.trial}"
        return f"The design you asked to try instead of {against}"
    options = []
    for path in changed:
        had = f" instead of {option_text(s.design[path])}" if path in s.design else ""
        had = "" if s.design.options.get(path) == s.edit[path] else had
        options.append(f"{path.rpartition('.')[2]} {option_text(s.edit[path])}{had}")
    where = parts([path.rpartition(".")[0] for path in changed])
    return " and ".join(options) + (f" at {where}" if where else "")

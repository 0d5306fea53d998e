"""Whether growing depth, width and resolution together beat growing one of them alone.

Larger networks of one base, by the strategy compound_scaling: what each kind of growth reached
against its FLOPs. Kinds are compared at the same FLOPs, along the straight line between two sizes
(over the logarithm of FLOPs), for rounding gives the same scale different FLOPs. Neighbouring
sizes share such lines, so that the interval at a level of 90 % holds the truth in 86 to 88 % of
simulated cases (three larger sizes, normal noise).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import t as student

from raynas.architecture import Architecture
from raynas.explanation.claims import LEVEL, Claim, Verdict
from raynas.explanation.designs import Make
from raynas.run import RunInfo
from raynas.strategies.compound_scaling import Designs, Growth, growth_of

TOGETHER = "together"
FEWEST = 3  # sizes; below, the interval says nothing
FAMILY_ERROR = 0.05  # nominal; simulated, growths that do not differ yield a claim in 7 of 100
COSTS = ("flops", "params")  # what stands for size, the first that trials have


@dataclass(frozen=True)
class Size:
    """A finished trial on a curve."""

    number: int
    scale: float
    cost: float
    value: float
    epochs: float


@dataclass(frozen=True)
class Curve:
    """What one kind of growth reached: the base first, then each larger scale.

    Attributes:
        name: `together`, or the dimension that grew alone: `depth`, `width`, `resolution`.
    """

    name: str
    growth: Growth
    sizes: Sequence[Size]

    def at(self, cost: float) -> float | None:
        """The value at a cost, between two sizes; None beyond them."""
        known = sorted((math.log(size.cost), size.value) for size in self.sizes)
        costs, values = [c for c, _ in known], [v for _, v in known]
        if not costs[0] <= math.log(cost) <= costs[-1]:
            return None
        return float(np.interp(math.log(cost), costs, values))


@dataclass(frozen=True)
class Scaling:
    """All that scaling a base came to.

    Attributes:
        metric: the first objective; cost: what stands for size.
        curves: `together` first, if its family was begun.
        grid: the growths of several dimensions that were tried at scale 1.
    """

    metric: str
    cost: str
    curves: Sequence[Curve]
    grid: Sequence[Size]


def scaling(trials: pd.DataFrame, info: RunInfo) -> Scaling | None:
    """None for another strategy, or before two sizes of one curve are finished.

    Args:
        info: with the space's code, where that is known: it knows which designs are one network.
    """
    if info.settings.get("strategy", "").partition(":")[0] != "compound_scaling":
        return None
    metric = info.objectives[0].name
    cost = next((name for name in COSTS if f"m.{name}" in trials and name != metric), "")
    done = trials[trials["status"] == "finished"]
    if not cost or f"m.{metric}" not in trials or not len(done):
        return None
    done = done.dropna(subset=[f"m.{metric}", f"m.{cost}"]).sort_values("number")
    done = done[done[f"m.{cost}"] > 0]
    rows = {int(row["number"]): row for row in done.to_dict("records")}
    parsed = {number: Architecture.parse(row["architecture"]) for number, row in rows.items()}
    known = {info.space.identity(a): number for number, a in reversed(parsed.items())}
    first = trials.sort_values("number")["architecture"].iloc[0]
    designs = Designs(info.space, Architecture.parse(first))

    def size(scale: float, growth: Growth | None) -> Size | None:
        number = known.get(info.space.identity(designs.at(scale, growth)))
        if number is None:
            return None
        read = [float(rows[number][name]) for name in (f"m.{cost}", f"m.{metric}", "fidelity")]
        return Size(number, scale, *read)

    growths = {growth.alone: growth for growth in designs.growths if growth.alone}
    larger = [growth_of(a.options) for a in parsed.values() if float(a["scale"]) > 1]
    if family := next((growth for growth in larger if growth.compound), None):
        growths = {TOGETHER: family, **growths}
    scales = [0.0, *sorted(scale for scale in designs.scales if scale >= 1)]
    curves = []
    for name, growth in growths.items():
        sizes = [found for scale in scales if (found := size(scale, growth))]
        if len(sizes) > 1:
            curves.append(Curve(name, growth, sizes))
    tried = [size(1.0, growth) for growth in designs.growths if growth.compound]
    grid = {found.number: found for found in tried if found}
    return Scaling(metric, cost, curves, list(grid.values())) if curves or grid else None


def claims(make: Make, trials: pd.DataFrame, info: RunInfo) -> Iterator[Claim]:
    """One claim per dimension that also grew alone, that which did best first."""
    found = scaling(trials, info)
    if found is None or not found.curves or found.curves[0].name != TOGETHER:
        return
    family, *alone = found.curves
    gains = {curve.name: _gains(family, curve) for curve in alone}
    compared = [curve for curve in alone if gains[curve.name]]
    loss = info.objectives[0].loss
    for curve in sorted(compared, key=lambda c: -loss(float(np.mean(gains[c.name])))):
        yield _claim(make, found, family, curve, gains[curve.name], len(compared))


def _gains(family: Curve, curve: Curve) -> list[float]:
    """How much more the family reached, at each scale above 1 that both have: at the smaller of
    the two costs. At scale 1 it was chosen as the best of many, by luck too: that is left out."""
    fresh = replace(family, sizes=[size for size in family.sizes if size.scale != 1])
    other = {size.scale: size for size in curve.sizes}
    gains = []
    for size in fresh.sizes:
        if size.scale > 1 and size.scale in other:
            cost = min(size.cost, other[size.scale].cost)
            reached = [c.at(cost) for c in (fresh, curve)]
            if reached[0] is not None and reached[1] is not None:
                gains.append(reached[0] - reached[1])
    return gains


def _claim(
    make: Make, found: Scaling, family: Curve, curve: Curve, gains: Sequence[float], count: int
) -> Claim:
    mean = float(np.mean(gains))
    low, high, wrong = None, None, None
    verdict: Verdict = "open"
    if len(gains) >= FEWEST:
        error = float(np.std(gains, ddof=1)) / math.sqrt(len(gains))
        half = float(student.ppf((1 + LEVEL) / 2, len(gains) - 1)) * error
        low, high = mean - half, mean + half
        wrong = float(student.sf(abs(mean) / error, len(gains) - 1)) if error else 0.5
        if wrong <= FAMILY_ERROR / 2 / count:
            verdict = "asserts"
        elif wrong <= (1 - LEVEL) / 2:
            verdict = "leans"
    sizes = [*family.sizes, *curve.sizes]
    return make(
        "scaling",
        "measured",
        verdict,
        f"growing dimensions together instead of {curve.name} alone",
        path=found.cost,
        chosen=str(family.growth),
        alternative=curve.name,
        metric=found.metric,
        estimate=mean,
        ci_low=low,
        ci_high=high,
        ci_kind="Student's t over sizes" if low is not None else None,
        lfsr=wrong,
        p_sign=None if wrong is None else 1 - wrong,
        family="scaling",
        family_size=count,
        fidelity=min(size.epochs for size in sizes),
        n_trials=len(gains),
        n_seeds=1,
        trial_ids=sorted({size.number for size in sizes}),
        method=f"mean difference at the same {found.cost}, along the line between two sizes",
    )

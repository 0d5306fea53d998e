"""What holds over the whole space: short rules, with intervals that do not trust the model.

A search's archive is no sample of its space, and a model of it is not either: its own intervals for
averages over the space cover far too rarely. Prediction-powered inference (Angelopoulos et al.
2023, arXiv:2301.09633) repairs that with trials drawn uniformly (probes): the model's average over
the pool, plus the mean of what the model, fitted without a probe, misses of it, within and outside
of a rule. As few probes correct an often good model by much noise, the correction is shrunk by its
own size (James & Stein 1961), at most by half, while the interval keeps the whole of the probes'
error and adds the posterior's. Networks that were read need no correction. Rules are chosen among
many, so their intervals are at the level that keeps the rate of missing among the chosen
(Benjamini & Yekutieli 2005), and nothing is asserted on fewer than `NEEDED` probes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.stats import t as student

from raynas.architecture import Architecture, option_text
from raynas.explanation.claims import LEVEL, Claim
from raynas.explanation.pool import Make, Pool, codes, verdict
from raynas.explanation.scorecard import Human
from raynas.explanation.surface import Surface
from raynas.objective import Array, Mask, Objective

NEEDED = 40  # probes before a principle is asserted
FEWEST = 8  # probes before one is stated
SUPPORT = 0.08  # of the space that a rule and its opposite hold in at least
HAVING = 3  # probes with a rule, and without it, at least
CANDIDATES = 240  # rules that are looked at
JOINED = 12  # of them that are joined in twos
MOST = 10  # principles that are stated
ALIKE = 0.9  # correlation of rules beyond which one is enough
COMMON = 0.004  # of the space: a network beyond is frequent enough to count its names
TRUST = 0.5  # of the probes' correction that is taken at least
STEPS = 8  # thresholds of a term at most


@dataclass(frozen=True)
class Rule:
    """A predicate of designs.

    Attributes:
        pool: in which of the pool's designs it holds `[M]`.
        probes: in which of the probes `[n]`.
        support: the share of the space it holds in.
    """

    text: str
    pool: Mask
    probes: Mask
    support: float


@dataclass(frozen=True)
class Principle:
    """How much better designs with a rule are than the rest, on average over the space.

    Attributes:
        lift: in the metric's unit; low, high: its interval.
        deviation: standard error; freedom: of its t distribution.
        wrong: the chance that the sign is wrong.
        direct: probes with the rule.
        violations: share of the designs with it that are worse than the median of the rest.
        level: of the interval for this rule alone.
    """

    rule: Rule
    lift: float
    low: float
    high: float
    deviation: float
    freedom: float
    wrong: float
    direct: int
    violations: float
    level: float

    @property
    def sure(self) -> float:
        """The lift that is left at the near end of the interval; 0 where it holds 0."""
        return max(abs(self.lift) - (self.high - self.low) / 2, 0.0)

    def at(self, level: float) -> Principle:
        """The same with an interval at another level."""
        reach = float(student.ppf((1 + level) / 2, self.freedom)) * self.deviation
        return replace(self, low=self.lift - reach, high=self.lift + reach, level=level)


@dataclass(frozen=True)
class Probes:
    """Trials drawn as `Space.sample` does, and what is known without the model.

    Attributes:
        readings: of the metric `[n]`.
        predicted: what the model, fitted without the probe's network, expects of it `[n]`.
        known: which of the pool's designs are networks that some trial read `[M]`.
        common: which probes are networks so frequent in the space that the pool shows their
            share: what was missed of such a one says nothing of the networks not read `[n]`.
    """

    designs: Sequence[Architecture]
    readings: Array
    predicted: Array
    known: Mask
    common: Mask


def probes(
    pool: Pool,
    designs: Sequence[Architecture],
    readings: Array,
    predicted: Array,
    read: Iterable[Architecture],
    identity: Callable[[Architecture], str] | None = None,
) -> Probes:
    """Sets probes beside the pool.

    Args:
        read: the designs that any trial read, and those whose value is known.
        identity: `Space.identity`, if something has kept it for the pool's designs.
    """
    identity = identity or pool.space.identity
    seen = {identity(design) for design in read} | {identity(design) for design in designs}
    named = [identity(design) for design in pool.designs]
    share: dict[str, float] = {}
    for name, weight in zip(named, pool.weights, strict=True):
        share[name] = share.get(name, 0.0) + float(weight)
    common = [share.get(identity(design), 0.0) > COMMON for design in designs]
    known = [name in seen for name in named]
    return Probes(designs, readings, predicted, np.array(known), np.array(common, dtype=bool))


def left_out(surface: Surface, designs: Sequence[Architecture]) -> Array:
    """What a surface would predict of networks that it read, without their readings `[N]`.

    Medians, in the metric's unit; of networks that it did not read, its prediction.
    """
    opinion, rows = surface.opinion, surface.described.rows(designs)
    found = np.median(surface.draws(designs), axis=0)
    for i, row in enumerate(rows):
        if opinion is not None and row.identity in opinion.damped and not row.nothing:
            own, unseen = opinion.damped[row.identity][0], opinion.forest.unseen[row.identity]
            latent = own + float(opinion.shares.mean()) * (unseen - own)
            found[i] = surface.model.unit(np.array([latent]))[0]
    return np.asarray(found)


def options(pool: Pool, probes: Probes) -> list[Rule]:
    """One rule per decision and option."""
    coded = codes(pool.space, probes.designs)
    found = []
    for j, d in enumerate(pool.space.decisions):
        for k, option in enumerate(d.options):
            text = f"{d.name}={option_text(option)}"
            found.append(_rule(pool, text, pool.codes[:, j] == k, coded[:, j] == k))
    return found


def counts(pool: Pool, probes: Probes, human: Human) -> list[Rule]:
    """Rules that a term a person can count reaches a value that designs have."""
    names, values = human(pool.designs)
    _, here = human(probes.designs)
    found = []
    for j, name in enumerate(names):
        met = np.unique(values[:, j])
        if " is " in name or len(met) < 2:  # options are rules already
            continue
        plain = name.removesuffix(", log")
        if len(met) > STEPS:
            met = np.unique(np.quantile(values[:, j], [0.0, 0.2, 0.5, 0.8]))
        for least in met[1:]:
            shown = float(np.expm1(least)) if plain != name else float(least)
            text = name if set(met) <= {0.0, 1.0} else f"{plain} >= {shown:.3g}"
            least = least - 1e-9 * max(abs(least), 1.0)
            found.append(_rule(pool, text, values[:, j] >= least, here[:, j] >= least))
    return found


def _rule(pool: Pool, text: str, held: Mask, probed: Mask) -> Rule:
    return Rule(text, held, probed, float(pool.weights[held].sum()))


def candidates(
    pool: Pool, probes: Probes, human: Human | None, draws: Array, objective: Objective
) -> list[Rule]:
    """Options, counts, and the strongest of them in twos; of opposites the one that is better."""
    alone = options(pool, probes) + (counts(pool, probes, human) if human else [])
    gains = draws.mean(axis=0) * (1 if objective.direction == "max" else -1)
    lifts = {r.text: _lift(pool, r.pool, gains) for r in alone if 0 < r.support < 1}
    alone = _distinct(sorted((r for r in alone if r.text in lifts), key=lambda r: -lifts[r.text]))
    first = sorted(alone, key=lambda r: -_telling(lifts[r.text], r.support))[:CANDIDATES]
    twos = [
        _rule(pool, f"{a.text} and {b.text}", a.pool & b.pool, a.probes & b.probes)
        for a, b in combinations(first[:JOINED], 2)
        if a.text.split("=")[0] != b.text.split("=")[0]
    ]
    return _distinct(first + twos)[:CANDIDATES]


def _distinct(rules: Sequence[Rule]) -> list[Rule]:
    """The rules that hold often enough, the first of those that say the same or the opposite."""
    seen: set[bytes] = set()
    kept = []
    for rule in rules:
        key = np.packbits(rule.pool ^ rule.pool[0]).tobytes()
        if SUPPORT <= rule.support <= 1 - SUPPORT and key not in seen:
            seen.add(key)
            kept.append(rule)
    return kept


def _telling(lift: float, support: float) -> float:
    """How much of the metric's spread over the space a rule accounts for: a deviation."""
    return abs(lift) * math.sqrt(support * (1 - support))


def _lift(pool: Pool, held: Mask, values: Array) -> float:
    within = pool.weights * held
    beyond = pool.weights * ~held
    return float(values @ within / within.sum() - values @ beyond / beyond.sum())


def estimates(pool: Pool, probes: Probes, rules: Sequence[Rule], draws: Array) -> list[Principle]:
    """The rules' lifts by prediction-powered inference, of those that enough probes speak of.

    Args:
        draws: of the metric over the pool `[S, M]`.
    """
    predicted = np.median(draws, axis=0)  # as `left_out` predicts
    found = (_estimate(pool, probes, rule, draws, predicted) for rule in rules)
    return [principle for principle in found if principle is not None]


def _estimate(
    pool: Pool, probes: Probes, rule: Rule, draws: Array, mean: Array
) -> Principle | None:
    held, rare = rule.probes, ~probes.common
    if min(held.sum(), (~held).sum()) < HAVING:
        return None
    if rare.sum() < FEWEST:  # a small space: the rest is read soon, and needs no correction
        rare = np.ones(len(held), dtype=bool)
    missed = (probes.readings - probes.predicted)[rare]
    sides = [(rule.pool, held[rare], rule.support), (~rule.pool, ~held[rare], 1 - rule.support)]
    unread = [float(pool.weights[side & ~probes.known].sum() / size) for side, _, size in sides]
    means = [float(missed[side].mean()) if side.any() else 0.0 for _, side, _ in sides]
    correction = unread[0] * means[0] - unread[1] * means[1]
    deviation, freedom = _error(missed, [side for _, side, _ in sides], unread)
    weights = np.where(rule.pool, 1 / rule.support, -1 / (1 - rule.support)) * pool.weights
    share = max(TRUST, 1 - (deviation / correction) ** 2) if correction else TRUST
    lift = float(mean @ weights) + share * correction
    deviation = math.hypot(deviation, float((draws @ weights).std()))
    centre = np.median(mean[~rule.pool])
    worse = (mean < centre) if lift > 0 else (mean > centre)
    wrong = 0.0 if lift else 0.5
    if deviation:
        wrong = float(student.sf(abs(lift) / deviation, freedom))
    found = Principle(
        rule,
        lift,
        lift,
        lift,
        deviation,
        freedom,
        wrong,
        int(held.sum()),
        float((pool.weights * worse * rule.pool).sum() / rule.support),
        LEVEL,
    )
    return found.at(LEVEL)


def _error(missed: Array, sides: Sequence[Mask], parts: Sequence[float]) -> tuple[float, float]:
    """Standard error of a difference of two means, and its degrees of freedom (Welch 1947).

    A side's variance is shrunk toward that of all probes as if it had `HAVING` more: a few probes
    that happen to agree are no proof that all designs of their side do.

    Args:
        missed: of the model at the probes `[n]`.
        parts: of each side that its mean stands for.
    """
    overall = float(missed.var(ddof=1))
    squares, sizes = [], []
    for side, part in zip(sides, parts, strict=True):
        own, size = missed[side], int(side.sum())
        square = float(((own - own.mean()) ** 2).sum()) if size else 0.0
        variance = (square + HAVING * overall) / (max(size - 1, 0) + HAVING)
        squares.append(part**2 * variance / max(size, 1))
        sizes.append(max(size - 1, 0) + HAVING)
    total = sum(squares)
    below = sum(s**2 / n for s, n in zip(squares, sizes, strict=True))
    return float(np.sqrt(total)), float(total**2 / below) if below else float(len(missed) - 2)


def principles(
    pool: Pool,
    probes: Probes,
    draws: Array,
    objective: Objective,
    human: Human | None = None,
    most: int = MOST,
) -> tuple[list[Principle], int]:
    """The clearest rules with selection-corrected intervals, and how many were looked at."""
    if len(probes.designs) < FEWEST:
        return [], 0
    found = estimates(pool, probes, candidates(pool, probes, human, draws, objective), draws)
    order = sorted(found, key=lambda p: -_telling(p.sure, p.rule.support))
    chosen: list[Principle] = []
    for principle in order:
        if len(chosen) < most and not any(_alike(principle, other) for other in chosen):
            chosen.append(principle)
    if not chosen:
        return [], 0
    level = 1 - (1 - LEVEL) * len(chosen) / len(found)
    return [principle.at(level) for principle in chosen], len(found)


def _alike(a: Principle, b: Principle) -> bool:
    together = np.corrcoef(a.rule.pool, b.rule.pool)[0, 1]
    return bool(abs(together) > ALIKE)


def claims(
    make: Make,
    objective: Objective,
    pool: Pool,
    probes: Probes,
    draws: Array,
    human: Human | None = None,
) -> Iterator[Claim]:
    """The principles learned, clearest first."""
    found, size = principles(pool, probes, draws, objective, human)
    number = len(probes.designs)
    for p in found:
        yield make(
            "principle",
            "estimated",
            verdict(p.wrong, size, capped=number < NEEDED),
            p.rule.text,
            path=p.rule.text,
            n_direct=p.direct,
            scope={
                "type": "space",
                "predicate": p.rule.text,
                "support": p.rule.support,
                "n_in_scope": int(p.rule.pool.sum()),
            },
            side_effects={"violations": p.violations, "probes": float(number)},
            estimate=p.lift,
            ci_low=p.low,
            ci_high=p.high,
            ci_kind="prediction-powered",
            lfsr=p.wrong,
            p_sign=1 - p.wrong,
            fdr=1 - LEVEL,
            family="principles",
            family_size=size,
            method="prediction-powered inference over uniform probes",
            method_args=f"level={p.level:.4f}",
        )

"""Which decisions matter: shares of a metric's variance, alone and in pairs, per draw.

Functional ANOVA (Hutter et al. 2014) over the pool, not over the archive, which holds what a search
chose: an additive model of all decisions is fitted to each draw, and what is left to each pair of
decisions. On the full grid these are the exact marginal means; on a sample of a large space the
squares that chance alone adds are taken off, so that a decision without effect has a share of
about 0. A conditional decision has the variance among its options where it is active, times the
chance that it is (the depth that switches it on has the rest).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np

from raynas.architecture import Architecture
from raynas.explanation.claims import LEVEL, Claim
from raynas.explanation.pool import Answer, Draw, Index, Make, Pool, answer, edited, verdict
from raynas.objective import Array, Objective

TOP = 0.1  # of the designs count as good
WORK = 1.2e10  # multiplications that all pairs may take; fewer draws beyond
FEWEST = 40  # draws that pairs are asked of at least
NAMED = 8  # pairs that become claims


@dataclass(frozen=True)
class Additive:
    """Each draw as a sum of effects of its options, and what that leaves.

    Attributes:
        columns: 1 where a design has an option, less its chance, 0 where inactive `[M, options]`.
        owner: the decision of each column `[options]`.
        level: the mean over the space `[S]`.
        effects: of every option, in the metric's unit, summing to 0 per decision `[S, options]`.
        residual: what the sum misses of every design `[S, M]`.
    """

    pool: Pool
    columns: Array
    owner: Index
    level: Array
    effects: Array
    residual: Array

    def of(self, codes: Index) -> Array:
        """The sum for other designs `[S, N]`, given their `pool.codes` `[N, decisions]`."""
        return self.level[:, None] + self.effects @ _columns(self.pool, codes).T

    @cached_property
    def noise(self) -> Array:
        """The variance that chance adds to a degree of freedom of the sample `[S]`."""
        if self.pool.whole:
            return np.zeros(len(self.level))
        size = len(self.pool.designs)
        left = max(size - len(self.owner) - 1, 1)
        return np.asarray((self.residual**2).sum(axis=1) / left / size)

    @cached_property
    def variances(self) -> Array:
        """Of the metric due to each decision alone `[S, decisions]`."""
        out = np.empty((len(self.level), len(self.pool.names)))
        for j, d in enumerate(self.pool.space.decisions):
            active = float(self.pool.weights[self.pool.codes[:, j] >= 0].sum())
            raw = active * (self.effects[:, self.owner == j] ** 2).mean(axis=1)
            out[:, j] = raw - (len(d.options) - 1) * self.noise if active else 0.0
        return out

    @cached_property
    def total(self) -> Array:
        """The metric's variance over the space `[S]`."""
        fitted = self.variances.sum(axis=1)
        left = (self.residual**2) @ self.pool.weights
        return np.asarray(np.maximum(fitted + left, 1e-300))


def additive(pool: Pool, draws: Array) -> Additive:
    """Fits effects of all options to every draw `[S, M]` by weighted least squares."""
    columns = _columns(pool, pool.codes)
    owner = np.repeat(np.arange(len(pool.names)), [len(d.options) for d in pool.space.decisions])
    level = pool.mean(draws)
    weighted = columns * pool.weights[:, None]
    inverse = np.linalg.pinv(weighted.T @ columns, rcond=1e-9, hermitian=True)
    centred = draws - level[:, None]
    effects = (centred @ weighted) @ inverse
    residual = centred - effects @ columns.T
    return Additive(pool, columns, owner, level, effects, residual)


def _columns(pool: Pool, codes: Index) -> Array:
    """One column per option; those of a decision sum to 0 in every row."""
    parts = []
    for column, d in zip(codes.T, pool.space.decisions, strict=True):
        one = (column[:, None] == np.arange(len(d.options))) - 1.0 / len(d.options)
        parts.append(one * (column >= 0)[:, None])
    return np.concatenate(parts, axis=1)


def shares(model: Additive) -> Array:
    """The part of the variance that each decision has alone `[S, decisions]`."""
    return np.asarray(model.variances / model.total[:, None])


def pairs(model: Additive) -> Array:
    """The part of the variance due to each pair beyond its two alone `[S', pairs]`.

    Pairs in the order of `itertools.combinations(range(decisions), 2)`; of the draws, as many as
    can be gone through in a second.
    """
    pool, residual = model.pool, model.residual
    ones = np.concatenate(
        [
            column[:, None] == np.arange(len(d.options))
            for column, d in zip(pool.codes.T, pool.space.decisions, strict=True)
        ],
        axis=1,
    ).astype(float)
    most = int(WORK / (len(ones) * ones.shape[1] ** 2))
    residual = residual[: max(most, FEWEST)]
    weighted = ones * pool.weights[:, None]
    chances = weighted.T @ ones
    sums = np.array([(weighted * row[:, None]).T @ ones for row in residual])
    at = [np.flatnonzero(model.owner == j) for j in range(len(pool.names))]
    out = np.zeros((len(residual), len(at) * (len(at) - 1) // 2))
    for i, (a, b) in enumerate(combinations(range(len(at)), 2)):
        block = (at[a][:, None], at[b][None])
        rows = chances[block].any(axis=1)
        across = chances[block].any(axis=0)
        if rows.sum() > 1 and across.sum() > 1:
            block = (at[a][rows][:, None], at[b][across][None])
            free = (rows.sum() - 1) * (across.sum() - 1)
            square = _interaction(sums[:, block[0], block[1]], chances[block])
            out[:, i] = square - free * model.noise[: len(out)]
    return out / model.total[: len(out), None]


def _interaction(sums: Array, chance: Array) -> Array:
    """The variance of tables of means about their rows and columns `[S]`.

    Args:
        sums: of what the additive model leaves, weighted `[S, options, options]`.
        chance: of each combination; 0 for what cannot be or was never drawn `[options, options]`.
    """
    return np.asarray((_joint(sums, chance) ** 2 * chance).sum(axis=(1, 2)))


def _joint(sums: Array, chance: Array) -> Array:
    """Tables of means about their rows and columns `[S, options, options]`."""
    means = np.where(chance > 0, sums / np.where(chance > 0, chance, 1.0), 0.0)
    rows, across = means.mean(axis=2, keepdims=True), means.mean(axis=1, keepdims=True)
    return np.asarray(means - rows - across + means.mean(axis=(1, 2), keepdims=True))


def _doubt(model: Additive, a: int, b: int) -> float:
    """The chance of a wrong sign of the clearest joint effect of two decisions, times their
    combinations."""
    codes, space = model.pool.codes, model.pool.space
    across = len(space.decisions[b].options)
    size = len(space.decisions[a].options) * across
    both = (codes[:, a] >= 0) & (codes[:, b] >= 0)
    place = (codes[:, a] * across + codes[:, b])[both]
    weighted = (place[:, None] == np.arange(size)) * model.pool.weights[both][:, None]
    sums = (model.residual[:, both] @ weighted).reshape(-1, size // across, across)
    joint = _joint(sums, weighted.sum(axis=0).reshape(-1, across)).reshape(len(sums), -1)
    clear = np.abs(joint.mean(axis=0)) / (joint.std(axis=0) + 1e-300)
    return size * answer(joint[:, int(clear.argmax())]).wrong


def top_shares(pool: Pool, losses: Array, top: float = TOP) -> Array:
    """How much each decision matters for being among the best `[S, decisions]`, summing to 1.

    PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255): the Pearson divergence between a decision's
    options among the best and over the space; of a conditional one among those that have it, times
    the share of the best that do (after Baba et al. 2026, arXiv:2601.20800).

    Args:
        losses: draws of the metric, smaller is better `[S, M]`.
    """
    best = np.zeros_like(losses)
    for s, row in enumerate(losses):
        if pool.whole and pool.grid is None:
            order = np.argsort(row, kind="stable")
            chosen = order[: max(int(np.searchsorted(np.cumsum(pool.weights[order]), top)), 1)]
        else:
            count = max(round(top * len(row)), 1)
            chosen = np.argpartition(row, count - 1)[:count]
        best[s, chosen] = pool.weights[chosen] / pool.weights[chosen].sum()
    found = np.empty((len(losses), len(pool.names)))
    drawn = top * len(pool.designs)
    for j, d in enumerate(pool.space.decisions):
        ones = (pool.codes[:, [j]] == np.arange(len(d.options))).astype(float)
        within = best @ ones
        active = np.maximum(within.sum(axis=1), 1e-12)
        k = len(d.options)
        raw = ((within / active[:, None] * k - 1) ** 2).mean(axis=1)
        chance = 0.0 if pool.whole else (k - 1) / np.maximum(active * drawn, 1)
        found[:, j] = np.maximum(raw - chance, 0.0) * active
    return np.asarray(found / np.maximum(found.sum(axis=1, keepdims=True), 1e-300))


def local_shares(pool: Pool, design: Architecture, draw: Draw) -> tuple[list[str], Array]:
    """How much each decision of one design matters there: names and shares `[S, active]`.

    Local parameter importance (Biedenkapp et al. 2018): the variance over a decision's options
    while all others stay, as parts of their sum.
    """
    names = [n for n, _ in design.choices if len(pool.space.by_name[n].options) > 1]
    made, starts = [design], []
    for name in names:
        starts.append(len(made))
        options = pool.space.by_name[name].options
        made += [edited(pool.space, design, name, o) for o in options if o != design[name]]
    values = draw(made)
    ends = [*starts[1:], len(made)]
    found = [
        np.concatenate([values[:, :1], values[:, a:b]], axis=1).var(axis=1)
        for a, b in zip(starts, ends, strict=True)
    ]
    spread = np.array(found).T
    return names, spread / np.maximum(spread.sum(axis=1, keepdims=True), 1e-300)


def clearest(model: Additive) -> Array:
    """The chance of a wrong sign of the largest difference among each decision's options."""
    out = np.full(len(model.pool.names), 0.5)
    for j in range(len(out)):
        effects = model.effects[:, model.owner == j]
        mean = effects.mean(axis=0)
        out[j] = answer(effects[:, mean.argmax()] - effects[:, mean.argmin()]).wrong
    return out


def claims(
    make: Make,
    objective: Objective,
    pool: Pool,
    draw: Draw,
    draws: Array,
    probes: int,
    design: tuple[int, Architecture] | None = None,
    needed: int = 40,
) -> Iterator[Claim]:
    """The importance of every decision over the space, among the best and around a design.

    Args:
        draws: of the pool's designs `[S, M]`.
        probes: trials drawn uniformly from the space; below `needed` nothing is asserted of it.
        design: a trial and its design.
    """
    model, capped = additive(pool, draws), probes < needed
    alone, doubt = shares(model), clearest(model)
    size = len(pool.names)
    compared = sum(math.comb(len(d.options), 2) for d in pool.space.decisions)
    for j, name in _ranked(pool.names, alone):
        said = verdict(float(doubt[j]), compared, capped)
        yield _share(make, name, "whole space", answer(alone[:, j]), said, size)
    for leaf, members in _recurring(pool):
        together = answer(alone[:, members].sum(axis=1))
        said = verdict(float(doubt[members].min()), compared, capped)
        yield _share(make, f"*.{leaf}", "whole space", together, said, size)
    yield from _pair_claims(make, model, alone)
    best = top_shares(pool, draws * (1 if objective.direction == "min" else -1))
    for j, name in _ranked(pool.names, best):
        said = verdict(float(doubt[j]), compared, capped)
        yield _share(make, name, "top decile", answer(best[:, j]), said, size)
    if design is not None:
        number, architecture = design
        names, near = local_shares(pool, architecture, draw)
        for j, name in _ranked(tuple(names), near):
            found = answer(near[:, j])
            said = verdict(0.5 if found.low < 1 / len(names) / 2 else 0.04, 1, True)
            family = f"around trial {number}"
            yield _share(make, name, family, found, said, len(names), trial=number)


def _pair_claims(make: Make, model: Additive, alone: Array) -> Iterator[Claim]:
    names = model.pool.names
    if len(names) < 2:
        return
    both = list(combinations(range(len(names)), 2))
    found = pairs(model)
    for i in np.argsort(-found.mean(axis=0))[:NAMED]:
        a, b = (names[j] for j in both[i])
        share = answer(found[:, i])
        yield make(
            "interaction",
            "estimated",
            "leans" if _doubt(model, *both[i]) <= (1 - LEVEL) / 2 else "open",
            f"{a} together with {b}",
            path=a,
            alternative=b,
            unit="share",
            family="whole space",
            family_size=len(both),
            scope=SPACE,
            method="pairs of functional ANOVA over draws of the response surface",
            **_bounded(share),
        )
    rest = answer(1 - alone[: len(found)].sum(axis=1) - found.sum(axis=1))
    yield _share(make, None, "whole space", rest, "open", 1)


SPACE = {"type": "space"}


def _share(
    make: Make,
    path: str | None,
    family: str,
    share: Answer,
    said: str,
    size: int,
    trial: int | None = None,
) -> Claim:
    return make(
        "importance",
        "estimated",
        said,
        f"{path or 'three and more decisions together'}, {family}",
        path=path,
        trial=trial,
        unit="share",
        family=family,
        family_size=size,
        scope=SPACE if trial is None else {"type": "design", "n_in_scope": 1},
        method="functional ANOVA over draws of the response surface"
        if family == "whole space"
        else "PED-ANOVA over draws of the response surface"
        if family == "top decile"
        else "variance over a decision's options, over draws of the response surface",
        **_bounded(share),
    )


def _bounded(share: Answer) -> dict[str, object]:
    """A share lies between 0 and 1, also where chance was taken off too much; it has no sign."""
    fields = share.fields()
    for name in ("estimate", "ci_low", "ci_high"):
        fields[name] = min(max(fields[name], 0.0), 1.0)
    return {name: value for name, value in fields.items() if name not in ("lfsr", "p_sign")}


def _ranked(names: tuple[str, ...], found: Array) -> list[tuple[int, str]]:
    return [(int(j), names[j]) for j in np.argsort(-found.mean(axis=0), kind="stable")]


def _recurring(pool: Pool) -> list[tuple[str, list[int]]]:
    groups: dict[tuple[str, tuple[object, ...]], list[int]] = {}
    for j, d in enumerate(pool.space.decisions):
        groups.setdefault((d.leaf, d.options), []).append(j)
    return [(leaf, members) for (leaf, _), members in groups.items() if len(members) > 1]

"""Over which designs a question about a whole space is asked, and how draws answer it.

The population is the one that `Space.sample` draws from (every active decision uniform over its
options), because uniform probes come from it: small spaces are gone through as a whole with the
chance of each design as its weight, large ones are represented by a sample with a fixed seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from raynas.architecture import Architecture, Decision, Option
from raynas.explanation.claims import LEVEL, Claim, Verdict
from raynas.objective import Array
from raynas.space import Space

Index = np.ndarray[Any, np.dtype[np.int64]]
Make = Callable[..., Claim]  # `Findings._claim`: adds what all claims of a run share
Draw = Callable[[Sequence[Architecture]], Array]  # designs -> [S, N]: joint draws of a metric

WHOLE = 16_000  # designs of a space that is gone through as a whole
MOST = 4096  # designs that stand for a larger space; half of it where each is a graph to be read
TRIES = 20  # designs drawn for each that is allowed, before fewer must do
FAMILY_ERROR = 0.10  # how often an archive without any effect may yield an asserted claim


@dataclass(frozen=True)
class Pool:
    """Designs that stand for a space.

    Attributes:
        codes: which option each decision has `[designs, decisions]`; -1 where it is inactive.
        weights: the chance of each design under `Space.sample`, summing to 1 `[designs]`.
        whole: whether these are all (allowed) designs, so that averages have no sampling error.
        free: whether every design of the space is allowed, so that decisions are independent.
    """

    space: Space
    designs: tuple[Architecture, ...]
    codes: Index
    weights: Array
    whole: bool
    free: bool

    @property
    def names(self) -> tuple[str, ...]:
        """The decisions, in the order of `codes`."""
        return tuple(d.name for d in self.space.decisions)

    @cached_property
    def grid(self) -> tuple[int, ...] | None:
        """Options per decision where the designs are their full grid in order; else None."""
        if not (self.whole and self.free) or any(d.when for d in self.space.decisions):
            return None
        return tuple(len(d.options) for d in self.space.decisions)

    def mean(self, draws: Array) -> Array:
        """The mean over the space, per draw `[S]`."""
        return np.asarray(draws @ self.weights)


def pool(
    space: Space,
    allowed: Callable[[Architecture], bool] | None = None,
    most: int | None = None,
    seed: int = 0,
) -> Pool:
    """All designs of a small space, a sample of a large one; of these, those that are allowed."""
    whole = space.size <= WHOLE
    most = most or (MOST if space.graphs is None else MOST // 2)
    if whole:
        designs = [a for a in space.enumerate() if allowed is None or allowed(a)]
    else:
        rng = np.random.default_rng(seed)
        drawn = (space.sample(rng) for _ in range(most * (TRIES if allowed else 1)))
        kept = (a for a in drawn if allowed is None or allowed(a))
        designs = [a for a, _ in zip(kept, range(most), strict=False)]
    coded = codes(space, designs)
    weights = np.ones(len(designs))
    if whole:
        for column, d in zip(coded.T, space.decisions, strict=True):
            weights[column >= 0] /= len(d.options)
    return Pool(
        space, tuple(designs), coded, weights / max(weights.sum(), 1e-300), whole, allowed is None
    )


def codes(space: Space, designs: Sequence[Architecture]) -> Index:
    """Which option each decision of each design has, -1 where inactive `[N, decisions]`."""
    place = {d.name: (i, {o: k for k, o in enumerate(d.options)}) for i, d in _numbered(space)}
    out = np.full((len(designs), len(space.decisions)), -1, dtype=np.int64)
    for row, design in zip(out, designs, strict=True):
        for name, option in design.choices:
            i, rank = place[name]
            row[i] = rank.get(option, -1)  # an option of before the space was narrowed
    return out


def _numbered(space: Space) -> list[tuple[int, Decision]]:
    return list(enumerate(space.decisions))


def edited(space: Space, design: Architecture, name: str, option: Option) -> Architecture:
    """The design with one decision set otherwise; what becomes active stands at its first option.

    Unlike `Space.neighbour` it always makes a design, also where parts are lost by the edit.
    """
    options = {**design.options, name: option}
    return space.answer(lambda d: options.get(d.name, d.options[0]))


@dataclass(frozen=True)
class Answer:
    """What draws say of one quantity: an interval at LEVEL and the chance of a wrong sign."""

    estimate: float
    low: float
    high: float
    wrong: float

    def fields(self) -> dict[str, Any]:
        """The fields of a claim that it fills."""
        return {
            "estimate": self.estimate,
            "ci_low": self.low,
            "ci_high": self.high,
            "ci_kind": "posterior",
            "lfsr": self.wrong,
            "p_sign": 1 - self.wrong,
        }


def answer(draws: Array) -> Answer:
    """Sums up the draws of a quantity `[S]`; a single one is taken as exact."""
    if len(draws) == 1:
        value = float(draws[0])
        return Answer(value, value, value, 0.0 if value else 0.5)
    mean, deviation = float(draws.mean()), float(draws.std())
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Answer(mean, float(low), float(high), float(wrong(draws, mean, deviation)))


def wrong(draws: Array, mean: float, deviation: float) -> float:
    """The local false sign rate (Stephens 2017): the larger of a count and a normal tail.

    The count alone would be 0 beyond the reach of some hundred draws, the tail alone too sure of
    skewed ones.
    """
    if deviation == 0:
        return 0.5 if mean == 0 else 0.0
    counted = float(np.mean(draws * np.sign(mean) <= 0))
    return min(0.5, max(counted, 0.5 * math.erfc(abs(mean) / deviation / math.sqrt(2))))


def verdict(wrong_sign: float, size: int, capped: bool = False) -> Verdict:
    """How strongly a claim among `size` may be put; `capped`: at most as a leaning."""
    if wrong_sign <= FAMILY_ERROR / 2 / max(size, 1) and not capped:
        return "asserts"
    return "leans" if wrong_sign <= (1 - LEVEL) / 2 else "open"

"""Patterns that good designs share and the rest lacks, with what having them is worth.

Patterns are live paths and edges of the design's graphs, and pairs of options of neighbouring
decisions; not only counted among good designs (innovization, Deb & Srinivasan 2006), where what is
common need not be a cause, but contrasted with the dominated ones and with the metric's mean over
designs that have or lack them, per draw.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from raynas.architecture import Architecture, option_text
from raynas.explanation.claims import Claim
from raynas.explanation.pool import Answer, Index, Make, Pool, answer, verdict
from raynas.explanation.shapes import signatures
from raynas.graphs import live
from raynas.objective import Array, Mask, Objective
from raynas.space import Space

GOOD = 0.1  # of the designs are good, where no front is given
SUPPORT = 0.03  # of the space that a motif and its absence hold in at least
LIFT = 1.3  # times as frequent among good designs as among the rest, at least
DESIGNS = 2048  # of the pool that are looked at
MOST = 6  # motifs that are stated
ALIKE = 0.8  # correlation of motifs beyond which one is enough


@dataclass(frozen=True)
class Motif:
    """A pattern and how it is spread.

    Attributes:
        good, rest: share of the good and of the other designs that have it.
        effect: the metric's mean over designs with it, less without it.
        support: share of the space that has it.
        held: in which of the designs looked at.
    """

    text: str
    good: float
    rest: float
    effect: Answer
    support: float
    held: Mask


def patterns(space: Space, design: Architecture) -> set[str]:
    """The motifs of one design, in words; dead parts have none."""
    plain = space.plainest(design)
    found: set[str] = set()
    for title, graph in (space.graphs(plain) if space.graphs else {}).items():
        before = f"{title}: "
        for path in signatures(graph):
            found.add(before + "path " + (" > ".join(path) or "shortcut"))
        for edge in live(graph):
            operation = edge.operation or "shortcut"
            found.add(f"{before}{operation} from {edge.source} to {edge.target}")
    if not space.graphs:
        texts = [f"{n}={option_text(o)}" for n, o in plain.choices]
        found.update(texts)
        found.update(f"{a} then {b}" for a, b in pairwise(texts))
    return found


def motifs(
    pool: Pool, draws: Array, objective: Objective, good: Sequence[bool] | None = None
) -> tuple[list[Motif], int]:
    """Patterns that contrast good designs with the rest, most telling first; how many do.

    Args:
        draws: of the metric over the pool `[S, M]`.
        good: which of the pool's designs are good `[M]`; the best tenth without it.
    """
    looked = _looked(pool)
    mean = draws.mean(axis=0) * (1 if objective.direction == "max" else -1)
    best = mean >= np.quantile(mean, 1 - GOOD) if good is None else np.array(good, dtype=bool)
    best, weights = best[looked], pool.weights[looked]
    has, words = _table(pool, looked)
    if not words or not best.any() or best.all():
        return [], 0
    weights = weights / weights.sum()
    support = weights @ has
    often = (weights * best) @ has / (weights * best).sum()
    rarely = (weights * ~best) @ has / (weights * ~best).sum()
    usable = (support >= SUPPORT) & (support <= 1 - SUPPORT) & (often >= LIFT * rarely)
    kept = np.flatnonzero(usable)
    if not len(kept):
        return [], 0
    parts = has[:, kept]
    within = draws[:, looked] @ (parts * weights[:, None]) / support[kept]
    beyond = draws[:, looked] @ ((1 - parts) * weights[:, None]) / (1 - support[kept])
    order = np.argsort(-(often - rarely)[kept], kind="stable")
    found: list[Motif] = []
    for i in order:
        j = kept[i]
        held = has[:, j] > 0
        known = any(_alike(held, m.held) or _narrower(held, m.held, best) for m in found)
        if len(found) < MOST and not known:
            effect = answer(within[:, i] - beyond[:, i])
            shares = float(often[j]), float(rarely[j])
            found.append(Motif(words[j], *shares, effect, float(support[j]), held))
    return found, len(kept)


def _looked(pool: Pool) -> Index:
    size = len(pool.designs)
    if size <= DESIGNS:
        return np.arange(size)
    return np.sort(np.random.default_rng(0).choice(size, DESIGNS, replace=False))


def _table(pool: Pool, looked: Index) -> tuple[Array, list[str]]:
    """Which design has which pattern: 0 and 1 `[N, patterns]`, and the patterns' words."""
    rows = [patterns(pool.space, pool.designs[i]) for i in looked]
    met = Counter(word for row in rows for word in row)
    least = SUPPORT / 4 * len(rows)
    words = sorted(word for word, count in met.items() if least <= count < len(rows))
    column = {word: j for j, word in enumerate(words)}
    has = np.zeros((len(rows), len(words)))
    for i, row in enumerate(rows):
        has[i, [column[word] for word in row if word in column]] = 1.0
    return has, words


def _alike(a: Mask, b: Mask) -> bool:
    return bool(abs(np.corrcoef(a, b)[0, 1]) > ALIKE)


def _narrower(held: Mask, wider: Mask, best: Mask) -> bool:
    """Whether a motif only says less of what another one says, and no more telling."""
    within = not (held & ~wider).any()
    return within and bool(best[held].mean() < LIFT * best[wider].mean())


def claims(
    make: Make,
    objective: Objective,
    pool: Pool,
    draws: Array,
    capped: bool,
    good: Sequence[bool] | None = None,
) -> Iterator[Claim]:
    """The motifs of good designs; `capped`: too few probes to assert anything of the space."""
    found, size = motifs(pool, draws, objective, good)
    for motif in found:
        yield make(
            "motif",
            "estimated",
            verdict(motif.effect.wrong, size, capped),
            motif.text,
            chosen=motif.text,
            family="motifs",
            family_size=size,
            scope={"type": "space", "predicate": motif.text, "support": motif.support},
            side_effects={"good": motif.good, "rest": motif.rest},
            method="means over draws of the response surface",
            **motif.effect.fields(),
        )

"""What a predictor chooses from: all designs of a small space, children of the best of others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from raynas.architecture import Architecture, changes
from raynas.objective import Array, Constraint, Mask, Objective, losses, pareto_front
from raynas.space import Space
from raynas.strategies.features import Features
from raynas.strategies.standing import standings
from raynas.trial import Candidate, Proposal, Reason, Trial

SMALL = 20_000  # designs of a space that is gone through as a whole
ALTERNATIVES = 5  # that are reported as considered
RANKED = 1000  # trials among the latest, and among the others, that are sorted into fronts
BEST = 10  # trials whose designs are mutated

Made = tuple[Architecture, Trial | None]  # a design and the trial that it was made from


@dataclass(frozen=True)
class Pool:
    """Distinct networks with their features `[N, D]`, each from a trial or from nowhere (None)."""

    architectures: Sequence[Architecture]
    index: dict[str, int]  # identity -> place
    origins: Sequence[Trial | None]
    features: Array

    def free(self, taken: Iterable[str]) -> Mask:
        """Marks what is not among the identities."""
        mask = np.ones(len(self.architectures), dtype=bool)
        mask[[self.index[i] for i in taken if i in self.index]] = False
        return mask


@dataclass
class Told:
    """The trials that a strategy was told of, and what they say about designs.

    Windows: what is costly is computed once per window of trials, from the trials before it, so
    that it is the same after a resume. A window is one trial long up to 400 trials, then 0.5 % of
    them: the cost per trial stays bounded.
    """

    space: Space
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    trials: list[Trial] = field(default_factory=list)
    identities: dict[str, int] = field(default_factory=dict)  # -> number of the trial
    usable: int = 0
    _rows: dict[str, Array] = field(default_factory=dict)
    _families: set[str] = field(default_factory=set)

    def add(self, trial: Trial) -> None:
        self.trials.append(trial)
        self.identities.setdefault(self.space.identity(trial.architecture), trial.number)
        self.usable += trial.usable

    def window(self, share: float = 1 / 200, least: int = 1) -> int:
        """How many trials there were when the present window began."""
        length = max(least, int(len(self.trials) * share))
        return len(self.trials) - len(self.trials) % length

    @cached_property
    def describe(self) -> Features:
        return Features(self.space)

    @cached_property
    def everything(self) -> Pool | None:
        """All networks of the space, if it is small."""
        if self.space.size > SMALL:
            return None
        return self._pool((a, None) for a in self.space.enumerate())

    def features(self, architectures: Sequence[Architecture]) -> Array:
        """`[N, D]`, kept for another time."""
        if new := [a for a in dict.fromkeys(architectures) if str(a) not in self._rows]:
            self._rows.update(zip(map(str, new), self.describe(new), strict=True))
        return np.array([self._rows[str(a)] for a in architectures])

    def places(self, count: int) -> Array:
        """Where each of the first trials stands, from 0 (worst) to 1; NaN where that is unknown.

        With several objectives and many trials, only the front, the latest and some of the
        others are placed: sorting all into fronts takes seconds.
        """
        trials = self.trials[:count]
        if len(self.objectives) == 1 or count <= 2 * RANKED:
            return standings(trials, self.objectives, self.constraints)
        some = np.linspace(0, count - RANKED - 1, RANKED).astype(int).tolist()
        kept = sorted({*self.front(count), *some, *range(count - RANKED, count)})
        places = np.full(count, np.nan)
        few = [trials[i] for i in kept]
        places[kept] = standings(few, self.objectives, self.constraints)
        return places

    def front(self, count: int) -> list[int]:
        """Which of the first trials nothing dominates; among finished ones, if there are any."""
        trials = self.trials[:count]
        finished = [i for i, t in enumerate(trials) if t.status == "finished"]
        compared = finished or [i for i, t in enumerate(trials) if t.usable]
        points = np.array([losses(self.objectives, trials[i].metrics) for i in compared])
        return [compared[k] for k in np.flatnonzero(pareto_front(points))] if compared else []

    def best(self, places: Array) -> list[Made]:
        """The designs of the best trials with readings, the best first."""
        order = np.argsort(-np.nan_to_num(places, nan=-1.0), kind="stable")
        trials = [self.trials[i] for i in order if self.trials[i].usable]
        return [(t.architecture, t) for t in trials[:BEST]]

    def around(
        self, parents: Sequence[Made], rng: np.random.Generator, children: int, strangers: int = 0
    ) -> Pool:
        """Children by one to four edits, of better parents more often; and random designs."""
        made: list[Made] = []
        weights = 1 / (2.0 + np.arange(len(parents)))
        for i in rng.choice(len(parents), size=children, p=weights / weights.sum()):
            child, origin = parents[i]
            for _ in range(min(rng.geometric(0.6), 4)):
                child = self.space.mutate(child, rng)
            made.append((child, origin))
        made += [(self.space.sample(rng), None) for _ in range(strangers)]
        return self._pool(made)

    def _pool(self, made: Iterable[Made]) -> Pool:
        plainest: dict[Architecture, Trial | None] = {}
        for architecture, origin in made:
            plainest.setdefault(self.space.plainest(architecture), origin)
        index: dict[str, int] = {}
        kept: list[Architecture] = []
        for architecture in plainest:
            if index.setdefault(self.space.identity(architecture), len(kept)) == len(kept):
                kept.append(architecture)
        features = self.describe(kept)
        return Pool(kept, index, [plainest[a] for a in kept], features)


def joined(a: Pool, b: Pool) -> Pool:
    """Both pools; of equal networks the first's."""
    own = {place: identity for identity, place in b.index.items()}
    new = [i for i in range(len(b.architectures)) if own[i] not in a.index]
    start = len(a.architectures)
    return Pool(
        [*a.architectures, *(b.architectures[i] for i in new)],
        {**a.index, **{own[i]: start + k for k, i in enumerate(new)}},
        [*a.origins, *(b.origins[i] for i in new)],
        np.concatenate([a.features, b.features[new]]),
    )


def chosen(
    pool: Pool, mean: Array, deviation: Array, acquisition: Array, what: str, trials: int
) -> Proposal:
    """The design of the highest acquisition (-inf: not to be had), and why not the next ones.

    Args:
        what: the acquisition in words.
        trials: how many the predictor learned from.
    """
    order = np.argsort(-acquisition, kind="stable")[: ALTERNATIVES + 1]
    order = order[np.isfinite(acquisition[order])]
    first = int(order[0])
    architecture, origin = pool.architectures[first], pool.origins[first]
    note = f"the highest {what} of {len(pool.architectures)} designs, learned from {trials} trials"
    scores = {
        "mean": float(mean[first]),
        "std": float(deviation[first]),
        "acquisition": float(acquisition[first]),
    }
    if origin is None:
        reason = Reason("acquisition", note, scores=scores)
    else:
        edits = changes(origin.architecture, architecture)
        reason = Reason("acquisition", note, (origin.number,), edits, scores)
    others = tuple(
        Candidate(str(pool.architectures[i]), float(acquisition[i]), f"a lower {what}")
        for i in order[1:]
    )
    return Proposal(architecture, reason, others)


def representative(kept: Sequence[int], places: Array, most: int) -> list[int]:
    """Up to `most` of the trials: the best half, the latest sixth, the rest evenly by place."""
    if len(kept) <= most:
        return list(kept)
    order = sorted(kept, key=lambda i: -places[i])
    taken = {*order[: most // 2], *kept[-(most // 6) :]}
    rest = [i for i in order if i not in taken]
    spread = np.linspace(0, len(rest) - 1, most - len(taken)).astype(int)
    return sorted(taken | {rest[k] for k in spread})

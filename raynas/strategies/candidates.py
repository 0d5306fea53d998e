"""What a predictor chooses from: all designs of a small space, children of the best of others."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from raynas.architecture import Architecture, changes
from raynas.objective import Array, Constraint, Mask, Objective, losses, pareto_front
from raynas.space import Space
from raynas.strategies.base import Seen
from raynas.strategies.earlier import Informed
from raynas.strategies.features import Features
from raynas.strategies.forecast import LEVEL, Forecast, surprise
from raynas.strategies.standing import standings
from raynas.trial import Candidate, Proposal, Reason, Trial

SMALL = 20_000  # designs of a space that is gone through as a whole
ALTERNATIVES = 5  # that are reported as considered
RANKED = 1000  # trials among the latest, and among the others, that are sorted into fronts
BEST = 10  # trials whose designs are mutated
GUESSES = 32  # random designs among which earlier trials choose the first ones
ROWS = 2000  # designs whose features are kept
FIRST, STEP = 0.3, 0.2  # logarithm of how much wider: to begin with, and per trial beyond

Made = tuple[Architecture, Trial | None]  # a design and the trial that it was made from


@dataclass(frozen=True)
class Pool:
    """Distinct networks with their features `[N, D]`, each from a trial or from nowhere (None)."""

    architectures: Sequence[Architecture]
    index: dict[str, int]  # identity -> place
    origins: Sequence[Trial | None]
    features: Array

    def made(self, place: int) -> Made:
        return self.architectures[place], self.origins[place]

    def free(self, taken: Iterable[str]) -> Mask:
        """Marks what is not among the identities."""
        mask = np.ones(len(self.architectures), dtype=bool)
        mask[[self.index[i] for i in taken if i in self.index]] = False
        return mask

    def part(self, places: Sequence[int]) -> Pool:
        """The designs at some places, in this order."""
        names = {place: identity for identity, place in self.index.items()}
        return Pool(
            [self.architectures[i] for i in places],
            {names[i]: k for k, i in enumerate(places)},
            [self.origins[i] for i in places],
            self.features[list(places)],
        )


@dataclass
class Told:
    """The trials that a strategy was told of, and what they say about designs.

    Windows: what is costly is computed once per window of trials, from the trials before it, so
    that it is the same after a resume (see `beginning`).

    Attributes:
        earlier: trials of other searches of the same space (see `Informed`).
        wide: the space that all trials are of, where `space`, from which designs come, is only a
            part of it by now; None if that is all. All teach what designs are worth, in features
            of the wide space; only those of the part are designs to be beaten.
        identities: of the trials' networks.
        losses: of the trials; of what has no readings, NaN.
        inside: whether each trial is of the part.
    """

    space: Space
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    earlier: tuple[Trial, ...] = ()
    wide: Space | None = None
    trials: list[Trial] = field(default_factory=list, init=False)
    identities: list[str] = field(default_factory=list, init=False)
    losses: list[tuple[float, ...]] = field(default_factory=list, init=False)
    inside: list[bool] = field(default_factory=list, init=False)
    usable: int = field(default=0, init=False)
    seen: Seen = field(init=False)
    _rows: dict[str, Array] = field(default_factory=dict, init=False)
    _widened: Array = field(init=False)  # logs of what deviations are multiplied by, either way

    def __post_init__(self) -> None:
        self.seen = Seen(self.space)
        self._widened = np.full(2, FIRST)

    def add(self, trial: Trial) -> None:
        identity = self.seen.add(trial)
        if trial.status == "lost":  # which says nothing of its design
            return
        self.trials.append(trial)
        self.identities.append(identity)
        read = trial.usable and all(o.name in trial.metrics for o in self.objectives)
        unread = (np.nan,) * len(self.objectives)
        self.losses.append(losses(self.objectives, trial.metrics) if read else unread)
        self.inside.append(self.wide is None or self.space.holds(trial.architecture))
        self.usable += trial.usable
        if (way := surprise(trial, self.objectives[0])) is not None:
            missed = np.array([way < 0, way > 0], dtype=float)
            self._widened += STEP * (missed - (1 - LEVEL) / 2)

    def expected(
        self, forecast: Forecast | None, mean: float, deviation: float
    ) -> Mapping[str, float]:
        """What a trial should read, its interval as wide as past ones should have been.

        After each trial that read something outside of its interval the next ones are wider, else
        narrower, in such steps that 90 % of them hold in the long run, whatever the model (Gibbs &
        Candès 2021, arXiv:2106.00170, with widths instead of levels).

        Args:
            mean, deviation: of the learned value, as read.

        Returns:
            Nothing as long as nothing was finished.
        """
        if forecast is None:
            return {}
        below, above = np.exp(self._widened).tolist()
        return forecast(mean, deviation, (below, above))

    @cached_property
    def describe(self) -> Features | Informed:
        features = Features(self.wide or self.space)
        return Informed(features, self.objectives, self.earlier) if self.earlier else features

    @cached_property
    def everything(self) -> Pool | None:
        """All networks of the space, if it is small."""
        if self.space.size > SMALL:
            return None
        return self._pool((a, None) for a in self.space.enumerate())

    def remaining(self, count: int) -> Pool | None:
        """Those of them that the first trials left."""
        if self.everything is None:
            return None
        free = self.everything.free(self.identities[:count])
        return self.everything.part(np.flatnonzero(free).tolist())

    def begin(
        self, rng: np.random.Generator, pending: Sequence[Architecture], note: str
    ) -> Proposal:
        """A new random design; of some the most promising one, if there are earlier trials."""
        proposal = self.seen.random(rng, pending, note)
        if not isinstance(self.describe, Informed):
            return proposal
        guesses = [proposal, *(self.seen.random(rng, pending, note) for _ in range(GUESSES - 1))]
        promises = self.describe.promises([g.architecture for g in guesses], rng)
        best = int(np.argmax(promises))
        note = (
            f"the best of {GUESSES} random designs by what {len(self.earlier)} earlier trials say"
        )
        reason = Reason("acquisition", note, scores={"promise": float(promises[best])})
        return replace(guesses[best], reason=reason)

    def features(self, architectures: Sequence[Architecture]) -> Array:
        """`[N, D]`, kept for another time."""
        if len(self._rows) > ROWS:
            self._rows.clear()
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
        """Which of the first trials nothing dominates.

        Of those of the part, if any has readings; among finished ones, if there are any.
        """
        points = np.array(self.losses[:count]).reshape(count, len(self.objectives))
        inside = np.array(self.inside[:count], dtype=bool)
        if not inside.all() and np.isfinite(points[inside]).any():
            points[~inside] = np.nan
        finished = np.array([t.status == "finished" for t in self.trials[:count]], dtype=bool)
        if (finished & np.isfinite(points).all(axis=1)).any():
            points[~finished] = np.nan
        return np.flatnonzero(pareto_front(points)).tolist()

    def best(self, places: Array) -> list[Made]:
        """The designs of the best trials with readings, the best first.

        Of a trial outside the part, the design of the part that is nearest to its.
        """
        order = np.argsort(-np.nan_to_num(places, nan=-1.0), kind="stable")
        found = [i for i in order if self.trials[i].usable][:BEST]
        trials = [(self.trials[i], self.inside[i]) for i in found]
        return [(t.architecture if own else self.space.fit(t.architecture), t) for t, own in trials]

    def around(
        self,
        parents: Sequence[Made],
        rng: np.random.Generator,
        count: int,
        children: int,
        strangers: int = 0,
    ) -> Pool:
        """Children by one to four edits, of better parents more often; and random designs.

        And parents that were brought into the part. None of them was told by the first `count`
        trials.
        """
        made = [] if self.wide is None else list(parents)
        weights = 1 / (2.0 + np.arange(len(parents)))
        for i in rng.choice(len(parents), size=children, p=weights / weights.sum()):
            child, origin = parents[i]
            for _ in range(min(rng.geometric(0.6), 4)):
                child = self.space.mutate(child, rng)
            made.append((child, origin))
        made += [(self.space.sample(rng), None) for _ in range(strangers)]
        return self._pool(made, set(self.identities[:count]))

    def _pool(self, made: Iterable[Made], taken: Collection[str] = ()) -> Pool:
        plainest: dict[Architecture, Trial | None] = {}
        for architecture, origin in made:
            plainest.setdefault(self.space.plainest(architecture), origin)
        kept: dict[str, Architecture] = {}
        for architecture in plainest:
            identity = self.space.identity(architecture)
            if identity not in taken:
                kept.setdefault(identity, architecture)
        index = {identity: place for place, identity in enumerate(kept)}
        designs = list(kept.values())
        return Pool(designs, index, [plainest[a] for a in designs], self.describe(designs))


def beginning(count: int, share: float, least: int = 1) -> int:
    """Where the window that `count` lies in begins: windows are `share` of the trials long.

    Lengths change where the number of trials doubles, and not with each trial, so that every
    window is as long as it should be: from half of the share to all of it.
    """
    doubled = 2 ** (count.bit_length() - 1) if count else 0
    return count - count % max(least, int(share * doubled))


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
    pool: Pool,
    expected: Callable[[int], Mapping[str, float]],
    acquisition: Array,
    what: str,
    trials: int,
) -> Proposal:
    """The design of the highest acquisition (-inf: not to be had), and why not the next ones.

    Args:
        expected: of a design at a place in the pool, what its trial should read.
        what: the acquisition in words.
        trials: how many the predictor learned from.
    """
    order = np.argsort(-acquisition, kind="stable")[: ALTERNATIVES + 1]
    order = order[np.isfinite(acquisition[order])]
    first = int(order[0])
    architecture, origin = pool.architectures[first], pool.origins[first]
    note = f"the highest {what} of {len(pool.architectures)} designs, learned from {trials} trials"
    scores = {**expected(first), "acquisition": float(acquisition[first])}
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

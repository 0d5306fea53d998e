"""What searches of the same space on other data say of a design."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from raynas.architecture import Architecture
from raynas.objective import Array, Objective
from raynas.strategies.features import Features
from raynas.strategies.gaussian import GaussianProcess, between, fitted
from raynas.strategies.standing import normal_scores, representative, standings
from raynas.trial import Trial

MOST = 300  # trials that are learned from


@dataclass(frozen=True)
class Informed:
    """Features and, in one more block per objective, what earlier trials let one expect.

    That is the posterior mean of a Gaussian process of the trials' places, each among those of
    its own data (`Trial.split`), as normal scores: other data have other values, but often a
    similar order. As a feature it is knowledge that can be overruled: a model that learns from
    present trials finds out what it is worth, as it does for any other.
    """

    features: Features
    objectives: tuple[Objective, ...]
    earlier: Sequence[Trial]

    def __call__(self, architectures: Iterable[Architecture]) -> Array:
        rows = self.features(architectures)
        return np.column_stack([rows, *(model(rows) for model in self._models)])

    def promises(self, architectures: Iterable[Architecture], rng: np.random.Generator) -> Array:
        """What is expected of each design over all objectives, which are weighed by lot."""
        expected = self(architectures)[:, self.features.blocks[-1].stop :]
        return np.asarray(expected @ rng.exponential(size=expected.shape[1]))

    @cached_property
    def blocks(self) -> tuple[slice, ...]:
        own = self.features.blocks
        end = own[-1].stop
        return (*own, *(slice(end + i, end + i + 1) for i in range(len(self._models))))

    @cached_property
    def _models(self) -> list[Model]:
        """One per objective that earlier trials have readings of."""
        found = (self._model(objective) for objective in self.objectives)
        return [model for model in found if model is not None]

    def _model(self, objective: Objective) -> Model | None:
        groups: dict[str, list[Trial]] = {}
        for trial in self.earlier:
            if trial.usable and objective.name in trial.metrics:
                groups.setdefault(trial.split, []).append(trial)
        trials = [trial for group in groups.values() for trial in group]
        if len(trials) < 2:
            return None
        places = np.concatenate([standings(group, (objective,)) for group in groups.values()])
        ends = np.cumsum([len(group) for group in groups.values()])[:-1]
        scores = np.concatenate([normal_scores(part) for part in np.split(places, ends)])
        kept = representative(range(len(trials)), places, MOST)
        known = self.features([trials[i].architecture for i in kept])
        blocks = self.features.blocks
        process = fitted(between(known, known, blocks), scores[kept])
        return Model(known, blocks, process)


@dataclass(frozen=True)
class Model:
    """A process and what it learned from: features `[N, D]` in blocks."""

    known: Array
    blocks: tuple[slice, ...]
    process: GaussianProcess

    def __call__(self, rows: Array) -> Array:
        """Posterior means `[Q]`, such that those of two known designs differ by 1 as a rule."""
        return self._means(rows) / self._spread

    def _means(self, rows: Array) -> Array:
        projected = self.process.project(between(self.known, rows, self.blocks))
        return self.process.predict(projected)[0]

    @cached_property
    def _spread(self) -> float:
        return max(float(np.sqrt(2) * self._means(self.known).std()), 1e-9)

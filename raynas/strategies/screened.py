"""Any strategy, screened: it proposes several designs, and the best by a proxy is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from raynas.architecture import Architecture
from raynas.errors import UserError
from raynas.objective import figure
from raynas.session import Context
from raynas.space import Space
from raynas.strategies.base import SpaceExhausted, Strategy
from raynas.trial import Candidate, Proposal, Trial

PATIENCE = 10  # times as many proposals as are wanted, where most are over a limit


class Scorer(Protocol):
    """Scores designs that nobody has trained (`raynas.evaluation.ProxyEvaluator`)."""

    name: str

    def scores(self, architecture: Architecture, context: Context) -> Mapping[str, float]:
        """Among others the one of its name: higher is better, `-inf` the worst."""
        ...


@dataclass
class Screened:
    """Takes the best of several proposals by a score that needs no training.

    The strategy is asked so often, each time as if what it said before was running; it learns
    only of what was trained. The others are kept as candidates that were turned away. Designs
    over a limit are no candidates, since most proxies like size. Not of any paper; Abdelfattah
    et al. 2021 (arXiv:2101.08134) move proposals so ("zero-cost move").

    Attributes:
        among: how many designs it proposes at a time.
        context: of scoring; its seed draws the weights of all that is scored.
        over: says which limits a design breaks; '' for none.
    """

    space: Space
    strategy: Strategy
    scorer: Scorer
    among: int
    context: Context
    over: Callable[[Architecture], str]
    _scores: dict[str, float] = field(default_factory=dict, init=False, repr=False)

    def tell(self, trial: Trial) -> None:
        self.strategy.tell(trial)

    def ask(self, rng: np.random.Generator, pending: Sequence[Architecture]) -> Proposal:
        kept, refused = self._proposals(rng, pending)
        if not kept:
            return refused[0][0]
        scores = [self._score(p.architecture) for p in kept]
        best = int(np.argmax(scores))
        name, top = self.scorer.name, scores[best]
        away = [
            _away(p, s, f"a lower {name}: {_said(s)} against {_said(top)}")
            for i, (p, s) in enumerate(zip(kept, scores, strict=True))
            if i != best
        ]
        away += [_away(p, -math.inf, limits) for p, limits in refused]
        why = f"the best of {len(kept)} by {name}, untrained"
        if len(kept) == 1:
            why = f"the only one of {1 + len(refused)} to be chosen from"
        reason = kept[best].reason
        score = {name: top} if math.isfinite(top) else {}
        reason = replace(reason, note=f"{reason.note}; {why}", scores={**reason.scores, **score})
        others = (*kept[best].candidates, *away)
        return replace(kept[best], reason=reason, candidates=others)

    def _proposals(
        self, rng: np.random.Generator, pending: Sequence[Architecture]
    ) -> tuple[list[Proposal], list[tuple[Proposal, str]]]:
        """Those within the limits, so many as are wanted and the strategy has; and the others."""
        kept: list[Proposal] = []
        refused: list[tuple[Proposal, str]] = []
        for _ in range(PATIENCE * self.among):
            waiting = [p.architecture for p in [*kept, *(p for p, _ in refused)]]
            try:
                proposal = self.strategy.ask(rng, [*pending, *waiting])
            except SpaceExhausted:
                if not waiting:
                    raise
                break
            if limits := self.over(proposal.architecture):
                refused.append((proposal, limits))
            else:
                kept.append(proposal)
            if len(kept) == self.among:
                break
        return kept, refused

    def _score(self, architecture: Architecture) -> float:
        """Remembered, for a strategy may propose again what it was not told of."""
        identity = self.space.identity(architecture)
        if identity not in self._scores:
            try:
                found = self.scorer.scores(architecture, self.context)[self.scorer.name]
            except UserError:
                raise
            except Exception:  # of somebody's own network: its trial, if there is one, will tell
                found = -math.inf
            self._scores[identity] = found
        return self._scores[identity]


def _away(proposal: Proposal, score: float, why: str) -> Candidate:
    text = str(proposal.architecture)
    return Candidate(text, score if math.isfinite(score) else None, why)


def _said(score: float) -> str:
    return figure(score) if math.isfinite(score) else "none"

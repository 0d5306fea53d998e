"""Any strategy, leaning towards what people prefer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from raynas.architecture import Architecture, Option, changes, option_text
from raynas.directives import Directive
from raynas.space import Space
from raynas.strategies.base import Seen, Strategy
from raynas.trial import Candidate, Proposal, Trial

STRENGTH = {"low": 0.25, "medium": 0.5, "high": 0.8}  # chance that a proposal is changed, at first
HALF = 20  # trials after which that is half: as many as most strategies want before they know more
NAMED = 3  # changes that a note spells out


@dataclass
class Preferring:
    """Changes some of a strategy's proposals to options that people prefer, ever fewer of them.

    A decision that is answered otherwise is changed with a chance that begins with the
    preference's confidence and is half of it after `HALF` trials, a third after twice as many:
    beliefs guide while there is little else, trials overrule them later (as in piBO, Hvarfner et
    al. 2022, arXiv:2204.11051, whose exponent falls with the number of trials; it weighs an
    acquisition, which not every strategy has). The strategy learns from what comes of it as
    from any trial, so an option that is preferred rightly soon needs no preference.

    Attributes:
        space: that is proposed from.
        preferences: each with the number of the first trial that it holds for.
    """

    space: Space
    strategy: Strategy
    preferences: tuple[tuple[Directive, int], ...]
    _seen: Seen = field(init=False, repr=False)
    _since: list[int] = field(init=False, repr=False)  # trials told, per preference

    def __post_init__(self) -> None:
        self._seen = Seen(self.space)
        self._since = [0] * len(self.preferences)

    def tell(self, trial: Trial) -> None:
        self._seen.add(trial)
        for i, (_, since) in enumerate(self.preferences):
            self._since[i] += trial.number >= since
        self.strategy.tell(trial)

    def ask(self, rng: np.random.Generator, pending: Sequence[Architecture]) -> Proposal:
        own = np.random.default_rng(rng.integers(2**63))  # the strategy may draw on another node
        proposal = self.strategy.ask(rng, pending)
        given, running = proposal.architecture, {self.space.identity(a) for a in pending}
        away: list[Candidate] = []
        for design, edits in reversed(self._changed(given, own)):
            identity = self.space.identity(design)
            number = self._seen.number(design)
            told = {
                n: c for n, c in edits.items() if n in design and design[n] != given.options.get(n)
            }
            if identity == self.space.identity(given) or not told:
                continue  # only dead parts would change
            if number is None and identity not in running:
                return self._instead(proposal, design, told, away)
            twin = "a running trial" if number is None else f"trial {number}"
            away.append(Candidate(str(design), None, f"preferred, but a duplicate of {twin}"))
        return replace(proposal, candidates=(*proposal.candidates, *away))

    def _changed(
        self, given: Architecture, rng: np.random.Generator
    ) -> list[tuple[Architecture, dict[str, str]]]:
        """The design after one change, after two, and so on, with the confidence of each."""
        steps: list[tuple[Architecture, dict[str, str]]] = []
        design: Architecture = given
        edits: dict[str, str] = {}
        for (d, _), told in zip(self.preferences, self._since, strict=True):
            chance = STRENGTH[d.confidence] * HALF / (HALF + told)
            for path in d.paths:
                drawn = rng.random() < chance  # also where it is not used: the next ones stay so
                option = self._better(design, path, d.options) if drawn else None
                if option is not None:
                    edited = {**design.options, path: option}
                    design = self.space.fit(Architecture(given.space, tuple(edited.items())))
                    edits = {**edits, path: d.confidence}
                    steps.append((self.space.plainest(design), edits))
        return steps

    def _better(
        self, design: Architecture, path: str, preferred: Iterable[Option]
    ) -> Option | None:
        """What a decision should rather be; None if it is well answered, or not asked at all."""
        if path not in design or design[path] in (wanted := tuple(preferred)):
            return None
        options = self.space.by_name[path].options
        here = [o for o in options if o in wanted]
        if not here:
            return None
        if not self.space.by_name[path].ordered:
            return here[0]
        rank = options.index(design[path])
        return min(here, key=lambda o: abs(options.index(o) - rank))

    def _instead(
        self,
        proposal: Proposal,
        design: Architecture,
        edits: dict[str, str],
        away: Sequence[Candidate],
    ) -> Proposal:
        """The changed design; what was believed of the other one stays with that."""
        given, reason = proposal.architecture, proposal.reason
        made = [
            f"{name} {option_text(design[name])} as you prefer ({confidence} confidence)"
            for name, confidence in edits.items()
        ]
        more = [f"{len(made) - NAMED} more"] if len(made) > NAMED else []
        changed = reason.changed
        if reason.parents:
            before = {**given.options, **{name: option for name, option, _ in changed}}
            kept = tuple((n, o) for n, o in before.items() if o is not None)
            changed = changes(Architecture(given.space, kept), design)
        note = "; ".join([reason.note, *made[:NAMED], *more])
        reason = replace(reason, note=note, changed=changed, scores={}, chances={})
        score = proposal.reason.scores.get("acquisition")
        before_it = Candidate(str(given), score, "changed to what you prefer")
        others = (before_it, *away, *proposal.candidates)
        return replace(proposal, architecture=design, reason=reason, candidates=others)

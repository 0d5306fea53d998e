"""The parts of a search, each a session of its own over one archive.

Where each design is trained, there is the search, and around it what buys certainty
(`raynas.certainty`); with a proxy there are two parts, with shared weights three (`raynas.phases`).
"""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from raynas import steered
from raynas.buying import Buyer, Order
from raynas.certainty import (
    FINAL,
    OTHERS,
    PROBED,
    Plan,
    Planned,
    Probes,
    until,
)
from raynas.errors import UserError
from raynas.evaluation import FunctionEvaluator, TableEvaluator, TrainingEvaluator
from raynas.named import settings_in
from raynas.one_shot import (
    LOG,
    WEIGHTS,
    SharedEvaluator,
    SupernetEvaluator,
    designs_in,
    weights_in,
)
from raynas.phases import (
    BY_PROXY,
    DRAWN,
    LONGER,
    SEARCH,
    SHARES,
    SUPERNET,
    TRAINED,
    breaks,
    stand_in,
    starts,
    to_train,
)
from raynas.run import Part, RunInfo
from raynas.screening import Proxy, Shared
from raynas.session import Evaluator
from raynas.sessions import Sessions, Stage, row_of
from raynas.trial import Proposal


@dataclass(frozen=True)
class Parts:
    """The parts of a search, each made when the one before it is done.

    Attributes:
        evaluator: that trains or looks up a design alone.
        trials: designs to propose in all, those of earlier sessions of the run included.
        seconds: that are left; infinite without a limit.
        audit: how many claims of a search that is done are to be put to the test, and nothing else.
        final: trainings of a design that people agreed on, likewise.
    """

    folder: Path
    info: RunInfo
    evaluator: Evaluator
    archive: Any
    driver: Any
    trials: int
    seconds: float
    audit: int = 0
    final: Sequence[Proposal] = ()
    begun: float = field(default_factory=time.monotonic)

    @property
    def sessions(self) -> Sessions:
        """What makes the sessions."""
        given = (self.folder, self.info, self.evaluator, self.archive, self.driver, self.trials)
        return Sessions(*given)

    def __iter__(self) -> Iterator[Stage]:
        """What is left to do."""
        how = self.info.screening
        if self.final:
            stages = self._finally()
        elif how is None:
            stages = self._audited(self.audit) if self.audit else self._training()
        else:
            stages = self._by_weights(how) if isinstance(how, Shared) else self._by_proxy(how)
        for stage in stages:
            if stage.trials > 0:
                yield stage

    def _by(self, share: float = 1.0) -> float:
        """When so much of the time is used up (time.monotonic); starting processes uses none."""
        starting: float = self.driver.starting
        return self.begun + starting + share * self.seconds

    def _by_proxy(self, how: Proxy) -> Iterator[Stage]:
        """Scoring designs without training, and training the best."""
        scorer = self.sessions.scorer(how.name)
        title = f"1 of 2: scoring up to {{:,}} designs by {how.by}"
        yield self.sessions.searching(scorer, title, self._by(BY_PROXY))
        finals = to_train(self.sessions.allowed(SEARCH), self.info, how)
        yield self._alone(finals, len(finals), self.sessions.full, "2 of 2")

    def _training(self) -> Iterator[Stage]:
        """Training each design: random ones, those of the search, and what buys certainty."""
        part = Part.read(self.folder) or Part()
        plan = self.sessions.plan(self.trials - part.before)
        level, said = self.info.settings["explanation_level"], bool(self.info.now.turns)
        parts = ("uniform_probe", "search", *plan.parts)
        ends = {part: until(level, part, plan, self.seconds) for part in parts}
        if said and (tests := self._suggested()) is not None:
            yield self._bought(tests, self._by(steered.SECONDS))
        if plan.probes:
            yield self._probing(plan, self._by(ends["uniform_probe"]))
        if left := self.sessions.ledger.searched(self.trials, plan, part.first):
            many = f", up to {left:,} designs" if math.isinf(self.seconds) else ""
            title = f"searching{many}" if plan != Plan() else ""
            yield replace(
                self.sessions.searching(self.evaluator, title, self._by(ends["search"])),
                trials=left,
            )
        for name in plan.parts:
            in_time = time.monotonic() < self._by(ends[name])
            if in_time and (order := self._buyer(plan).order(name)) is not None:
                yield self._bought(order, self._by(ends[name]))
        left = self.trials - self.sessions.ledger.spent() if said or part.first else 0
        if left > 0 and time.monotonic() < self._by():  # bought before, partly
            stage = self.sessions.searching(self.evaluator, "searching on", self._by())
            yield replace(stage, trials=left)

    def _suggested(self) -> Order | None:
        """What is left of testing what people suggested."""
        repeats = not isinstance(self.evaluator, FunctionEvaluator | TableEvaluator)
        over = partial(breaks, self.evaluator, self.info.constraints)
        return steered.suggested(self.sessions.ledger, self.trials, repeats, over)

    def _audited(self, count: int) -> Iterator[Stage]:
        """Putting claims of a search that is done to the test."""
        buyer = replace(self._buyer(Plan()), trials=sys.maxsize)
        order = buyer.audit(count - buyer.pending(), count // OTHERS)
        if order is not None:
            yield self._bought(order, self._by())

    def _finally(self) -> Iterator[Stage]:
        """Training the design that people agreed on to the end."""
        count = len(self.final) + self.sessions.ledger.unfinished(FINAL)
        title = f"training the design fully, with {count} fresh seeds"
        yield self._bought(Order(FINAL, self.final, count, title), self._by())

    def _buyer(self, plan: Plan) -> Buyer:
        return Buyer(self.folder, self.info, self.sessions.over(self.evaluator), plan, self.trials)

    def _probing(self, plan: Plan, until: float) -> Stage:
        """Training designs drawn at random."""
        ledger, space = self.sessions.ledger, self.info.allowed
        room = self.trials - ledger.spent()
        left = min(plan.probes - ledger.spent(PROBED), room)
        title = f"training {left} designs drawn at random first"
        probes = Probes(space, self.sessions.over(self.evaluator))
        return self.sessions.unstopped(probes, PROBED, left, title, until, space)

    def _bought(self, order: Order, until: float) -> Stage:
        strategy = Planned(deque(order.proposals))
        rest = (order.purposes, order.trials, order.title, until, self.info.space)
        return self.sessions.unstopped(strategy, *rest)

    def _by_weights(self, shared: Shared) -> Iterator[Stage]:
        """Training weights that all designs share, scoring by them, training the best."""
        if not self._weights_trained():
            yield self._weights(shared)
            if not self._weights_trained():
                failed = [trial.error or "" for trial in self.sessions.trials_of(SUPERNET)]
                why = failed[-1].splitlines()[0] if failed else "time was up before an epoch ended"
                raise UserError(f"the shared weights could not be trained: {why}")
        weights = weights_in(self.archive.cached(WEIGHTS))
        designs, judged = designs_in(self.archive.cached(LOG))
        if not judged:  # by scores, and so the best that the method came to are trained
            finals = [
                replace(design, purpose="confirm") for design in self.sessions.inside(designs)
            ]
            wanted = min(len(finals), shared.finalists)
            yield self._alone(finals, wanted, self.sessions.full, "3 of 3")
            return
        yield self._scoring(weights, designs)
        finals = to_train(self.sessions.allowed(SEARCH), self.info, shared)
        full = (
            replace(self.sessions.full, inherited=weights) if shared.inherit else self.sessions.full
        )
        yield self._alone(finals, len(finals), full, "3 of 3")

    def _weights(self, shared: Shared) -> Stage:
        """Trains the shared weights."""
        info, epochs = self.info, shared.epochs or LONGER * self.sessions.full.epochs
        until = self._by(SHARES["supernet"])
        trainer = SupernetEvaluator(
            replace(
                self.sessions.full,
                recipe=self.sessions.full.recipe.for_weights(epochs, shared.optimizer),
            ),
            _method(info, shared),
            min(self.trials, DRAWN),
            None if math.isinf(until) else until - time.monotonic(),
            Path(shared.weights).read_bytes() if shared.weights else None,
        )
        first = stand_in(info.space.answer(lambda d: d.options[-1]))
        title = f"1 of 3: training weights that all designs share, {trainer.epochs} epochs"
        session = self.sessions.fixed([first], SUPERNET, trainer)
        settings = {**info.settings, "scheduler": "none", "trial_timeout": None}
        settings |= self.driver.whole_node(info.settings)
        return Stage(session, trainer, settings, 1, until, title)

    def _scoring(self, weights: Mapping[str, Any], designs: Sequence[Proposal]) -> Stage:
        """Scores designs by the shared weights: what the training came to, or a strategy says."""
        scorer = SharedEvaluator(self.sessions.full, weights)
        title = "2 of 3: scoring up to {:,} designs by the shared weights"
        until = self._by(SHARES["search"])
        if not row_of(self.info).one_shot:
            return self.sessions.searching(scorer, title, until)
        first = [
            *steered.starts(self.sessions.ledger),
            *starts(self.info),
            *self.sessions.inside(designs),
        ]
        session = self.sessions.fixed(first, SEARCH, scorer)
        left = min(self.trials, len(first)) - self.sessions.done(SEARCH, first)
        return Stage(session, scorer, self.info.settings, left, until, title.format(left))

    def _alone(
        self, designs: Sequence[Proposal], wanted: int, full: TrainingEvaluator, part: str
    ) -> Stage:
        """Trains so many of the designs."""
        session = self.sessions.fixed(designs, TRAINED, full)
        left = wanted - self.sessions.done(TRAINED, designs)
        title = f"{part}: training {left} designs alone"
        until = self._by()
        settings = {**self.info.settings, "scheduler": "none"}  # so that the ranking can be judged
        return Stage(session, full, settings, left, until, title)

    def _weights_trained(self) -> bool:
        return any(trial.usable for trial in self.sessions.trials_of(SUPERNET))


def _method(info: RunInfo, shared: Shared) -> Any:
    """How the shared weights are trained: as the strategy does, or by a rule."""
    from raynas.supernet.paths import Paths

    text, row = info.settings["strategy"], row_of(info)
    if not row.one_shot:
        return Paths(shared.rule)
    return row.load()(**settings_in("strategy", text, row.settings()))

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

from raynas import tables, warm_start
from raynas.architecture import Architecture
from raynas.buying import Buyer, Order
from raynas.certainty import OTHERS, PROBED, TOLD, Ledger, Plan, Planned, Probes, planned, until
from raynas.errors import UserError
from raynas.evaluation import FunctionEvaluator, ProxyEvaluator, TableEvaluator, TrainingEvaluator
from raynas.named import settings_in
from raynas.objective import COSTS, Constraint, Objective
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
    Fixed,
    breaks,
    stand_in,
    starts,
    to_train,
)
from raynas.run import RunInfo, read
from raynas.screening import Proxy, Screen, Shared
from raynas.session import Context, Evaluator, NoFeasibleDesign, Session
from raynas.strategies import STRATEGIES, Row, SpaceExhausted, Strategy, asked_proxies, make
from raynas.strategies.scored import ScoresOf
from raynas.strategies.screened import Screened
from raynas.trial import Proposal, Purpose, Trial


@dataclass(frozen=True)
class Stage:
    """A part of a search: what is asked, who measures, how many designs are left, until when."""

    session: Session
    evaluator: Evaluator
    settings: Mapping[str, Any]
    trials: int
    deadline: float
    title: str = ""

    def run(self, driver: Any, archive: Any) -> str:
        """Why it ended before all trials were handed out; '' if it did not."""
        rest = (archive, self.settings, self.trials, self.deadline)
        given = isinstance(self.session.strategy, Fixed | Planned | Probes)
        try:
            ended: str = driver.run(self.session, self.evaluator, *rest)
        except (SpaceExhausted, NoFeasibleDesign):
            if not isinstance(self.session.strategy, Planned | Probes):
                raise
        return "" if given else ended


@dataclass(frozen=True)
class Parts:
    """The parts of a search, each made when the one before it is done.

    Attributes:
        evaluator: that trains or looks up a design alone.
        trials: designs to propose in all, those of earlier sessions of the run included.
        seconds: that are left; infinite without a limit.
        audit: how many claims of a search that is done are to be put to the test, and nothing else.
    """

    folder: Path
    info: RunInfo
    evaluator: Evaluator
    archive: Any
    driver: Any
    trials: int
    seconds: float
    audit: int = 0
    begun: float = field(default_factory=time.monotonic)

    def __iter__(self) -> Iterator[Stage]:
        """What is left to do."""
        how = self.info.screening
        if how is None:
            stages = self._audited(self.audit) if self.audit else self._training()
        else:
            stages = self._by_weights(how) if isinstance(how, Shared) else self._by_proxy(how)
        for stage in stages:
            if stage.trials > 0:
                yield stage

    def _by_proxy(self, how: Proxy) -> Iterator[Stage]:
        """Scoring designs without training, and training the best."""
        scorer = self._scorer(how.name)
        title = f"1 of 2: scoring up to {{:,}} designs by {how.by}"
        yield self._searching(scorer, title, self.begun + BY_PROXY * self.seconds)
        finals = to_train(self._trials(SEARCH), self.info, how)
        yield self._alone(finals, len(finals), self._full, "2 of 2")

    def _training(self) -> Iterator[Stage]:
        """Training each design: random ones, those of the search, and what buys certainty."""
        plan, level = self._plan(self.trials), self.info.settings["explanation_level"]
        parts = ("uniform_probe", "search", *plan.parts)
        ends = {
            part: self.begun + until(level, part, plan, self.seconds) * self.seconds
            for part in parts
        }
        if plan.probes:
            yield self._probing(plan, ends["uniform_probe"])
        if left := self._ledger.searched(self.trials, plan):
            many = f", up to {left:,} designs" if math.isinf(self.seconds) else ""
            title = f"searching{many}" if plan != Plan() else ""
            yield replace(self._searching(self.evaluator, title, ends["search"]), trials=left)
        for part in plan.parts:
            in_time = time.monotonic() < ends[part]
            if in_time and (order := self._buyer(plan).order(part)) is not None:
                yield self._bought(order, ends[part])

    def _audited(self, count: int) -> Iterator[Stage]:
        """Putting claims of a search that is done to the test."""
        buyer = replace(self._buyer(Plan()), trials=sys.maxsize)
        order = buyer.audit(count - buyer.pending(), count // OTHERS)
        if order is not None:
            yield self._bought(order, self.begun + self.seconds)

    def _plan(self, trials: int) -> Plan:
        """What a search of so many trials buys."""
        settings, row = self.info.settings, _row(self.info)
        same = isinstance(self.evaluator, FunctionEvaluator | TableEvaluator)
        seconds = settings["seconds"] or math.inf
        level = settings["explanation_level"]
        return planned(level, trials, not row.scales, not same, seconds)

    def _buyer(self, plan: Plan) -> Buyer:
        over = partial(breaks, self.evaluator, self.info.constraints)
        return Buyer(self.folder, self.info, over, plan, self.trials)

    @property
    def _ledger(self) -> Ledger:
        return Ledger.read(self.folder, self.info)

    def _probing(self, plan: Plan, until: float) -> Stage:
        """Training designs drawn at random."""
        ledger, over = self._ledger, partial(breaks, self.evaluator, self.info.constraints)
        room = self.trials - ledger.spent()
        left = min(plan.probes - ledger.spent(PROBED), room)
        title = f"training {left} designs drawn at random first"
        return self._unstopped(Probes(self.info.space, over), PROBED, left, title, until)

    def _bought(self, order: Order, until: float) -> Stage:
        strategy = Planned(deque(order.proposals))
        return self._unstopped(strategy, order.purposes, order.trials, order.title, until)

    def _unstopped(
        self,
        strategy: Strategy,
        purposes: frozenset[Purpose],
        trials: int,
        title: str,
        until: float,
    ) -> Stage:
        """Trials that no scheduler stops, for they are there to be compared."""
        info = self.info
        session = Session(
            info.space,
            strategy,
            info.objectives,
            self.archive,
            self.evaluator.costs,
            info.constraints,
            info.settings["seed"],
        )
        self._replay(session, purposes)
        settings = {**info.settings, "scheduler": "none"}
        return Stage(session, self.evaluator, settings, trials, until, title)

    def _by_weights(self, shared: Shared) -> Iterator[Stage]:
        """Training weights that all designs share, scoring by them, training the best."""
        if not self._weights_trained():
            yield self._weights(shared)
            if not self._weights_trained():
                failed = [trial.error or "" for trial in self._trials(SUPERNET)]
                why = failed[-1].splitlines()[0] if failed else "time was up before an epoch ended"
                raise UserError(f"the shared weights could not be trained: {why}")
        weights = weights_in(self.archive.cached(WEIGHTS))
        designs, judged = designs_in(self.archive.cached(LOG))
        if not judged:  # by scores, and so the best that the method came to are trained
            finals = [replace(design, purpose="confirm") for design in designs]
            wanted = min(len(finals), shared.finalists)
            yield self._alone(finals, wanted, self._full, "3 of 3")
            return
        yield self._scoring(weights, designs)
        finals = to_train(self._trials(SEARCH), self.info, shared)
        full = replace(self._full, inherited=weights) if shared.inherit else self._full
        yield self._alone(finals, len(finals), full, "3 of 3")

    @property
    def _full(self) -> TrainingEvaluator:
        assert isinstance(self.evaluator, TrainingEvaluator), "designs are trained on images"
        return self.evaluator

    @property
    def _counted(self) -> tuple[Constraint, ...]:
        """The constraints that can be judged without training a design alone."""
        return tuple(c for c in self.info.constraints if c.metric in COSTS)

    def _weights(self, shared: Shared) -> Stage:
        """Trains the shared weights."""
        info, epochs = self.info, shared.epochs or LONGER * self._full.epochs
        until = self.begun + SHARES["supernet"] * self.seconds
        trainer = SupernetEvaluator(
            replace(self._full, recipe=self._full.recipe.for_weights(epochs, shared.optimizer)),
            _method(info, shared),
            min(self.trials, DRAWN),
            None if math.isinf(until) else until - time.monotonic(),
            Path(shared.weights).read_bytes() if shared.weights else None,
        )
        first = stand_in(info.space.answer(lambda d: d.options[-1]))
        title = f"1 of 3: training weights that all designs share, {trainer.epochs} epochs"
        session = self._fixed([first], SUPERNET, trainer)
        settings = {**info.settings, "scheduler": "none", "trial_timeout": None}
        settings |= self.driver.whole_node(info.settings)
        return Stage(session, trainer, settings, 1, until, title)

    def _scoring(self, weights: Mapping[str, Any], designs: Sequence[Proposal]) -> Stage:
        """Scores designs by the shared weights: what the training came to, or a strategy says."""
        scorer = SharedEvaluator(self._full, weights)
        title = "2 of 3: scoring up to {:,} designs by the shared weights"
        until = self.begun + SHARES["search"] * self.seconds
        if not _row(self.info).one_shot:
            return self._searching(scorer, title, until)
        first = [*starts(self.info), *designs]
        session = self._fixed(first, SEARCH, scorer)
        left = min(self.trials, len(first)) - _evaluated(session)
        return Stage(session, scorer, self.info.settings, left, until, title.format(left))

    def _alone(
        self, designs: Sequence[Proposal], wanted: int, full: TrainingEvaluator, part: str
    ) -> Stage:
        """Trains so many of the designs."""
        session = self._fixed(designs, TRAINED, full)
        left = wanted - _evaluated(session)
        title = f"{part}: training {left} designs alone"
        until = self.begun + self.seconds
        settings = {**self.info.settings, "scheduler": "none"}  # so that the ranking can be judged
        return Stage(session, full, settings, left, until, title)

    def _searching(self, evaluator: Evaluator, title: str, until: float) -> Stage:
        """Lets the strategy propose."""
        info, earlier = self.info, warm_start.kept(self.folder)
        name = info.settings["strategy"]
        constraints = self._counted if info.screening else info.constraints
        limited, asked = info.settings["seconds"] is not None, info.settings["trials"]
        after = 0 if info.screening else self._plan(asked).afterwards
        told = SEARCH if info.screening else TOLD
        made = partial(
            make,
            name,
            info.space,
            info.searched,
            constraints,
            None if limited else asked - after,
            earlier,
            self._scores(name),
        )
        session = Session(
            info.space,
            self._screened(self.driver.strategy(made, name, self.archive, told), evaluator),
            info.searched,
            self.archive,
            evaluator.costs,
            constraints,
            info.settings["seed"],
            starts=[*starts(info), *warm_start.first(earlier, info.objectives)],
        )
        self._replay(session, SEARCH, told)
        left = self.trials - _evaluated(session)
        return Stage(session, evaluator, info.settings, left, until, title.format(left))

    def _screened(self, strategy: Strategy, evaluator: Evaluator) -> Strategy:
        """The strategy, whose proposals are screened if that was asked."""
        info = self.info
        if not (text := info.settings.get("screen")):
            return strategy
        how = Screen.of(text)
        over = partial(breaks, evaluator, info.constraints)
        context = replace(self._context, files=None)
        return Screened(info.space, strategy, self._scorer(how.name), how.among, context, over)

    def _scores(self, strategy: str) -> ScoresOf | None:
        """Computes the proxies that a strategy asks for as features; None if it asks for none."""
        if not (names := asked_proxies(strategy)):
            return None
        scorers, context = [self._scorer(n) for n in names], replace(self._context, files=None)

        def scores(architecture: Architecture) -> Mapping[str, float]:
            try:
                return {s.name: s.scores(architecture, context)[s.name] for s in scorers}
            except UserError:
                raise
            except Exception:  # it cannot be built: so its trial would say
                return dict.fromkeys(names, -math.inf)

        return scores

    def _scorer(self, name: str) -> ProxyEvaluator:
        """Scores designs by a proxy; with a population, where it needs one."""
        scorer = ProxyEvaluator(self._full, name, self.info.settings["seed"])
        return scorer.ready(self._context)

    @property
    def _context(self) -> Context:
        """Of what is scored in this process."""
        settings = self.info.settings
        return Context(settings["seed"], settings["cpus_per_trial"], files=self.archive)

    def _fixed(
        self, designs: Sequence[Proposal], purposes: frozenset[Purpose], evaluator: Evaluator
    ) -> Session:
        """The session that tries these designs and no others."""
        objectives = {SUPERNET: (Objective("sampled_accuracy", "max"),), SEARCH: self.info.searched}
        session = Session(
            self.info.space,
            Fixed("designs of this search"),
            objectives.get(purposes, self.info.objectives),
            self.archive,
            evaluator.costs,
            () if purposes == SUPERNET else self._counted,
            self.info.settings["seed"],
            starts=designs,
        )
        self._replay(session, purposes)
        return session

    def _replay(
        self,
        session: Session,
        purposes: frozenset[Purpose],
        told: frozenset[Purpose] = frozenset(),
    ) -> None:
        """Tells a session what the run holds of its own purposes, and of those `told`.

        Only its own jobs are handed out again where they were not finished.
        """
        contents = read(self.folder, self.info.space)
        both = (contents.proposals, contents.trials)
        proposed, done = (set(table["number"].to_pylist()) for table in both)
        last = max(proposed | done, default=-1)
        told |= purposes
        jobs = [
            j
            for j in tables.jobs_from(contents.proposals)
            if j.purpose in purposes or (j.purpose in told and j.number in done)
        ]
        trials = [t for t in tables.trials_from(contents.trials) if t.purpose in told]
        session.resume(jobs, trials, last + 1)

    def _trials(self, purposes: frozenset[Purpose]) -> list[Trial]:
        found = tables.trials_from(read(self.folder, self.info.space).trials)
        return [trial for trial in found if trial.purpose in purposes]

    def _weights_trained(self) -> bool:
        return any(trial.usable for trial in self._trials(SUPERNET))


def _method(info: RunInfo, shared: Shared) -> Any:
    """How the shared weights are trained: as the strategy does, or by a rule."""
    from raynas.supernet.paths import Paths

    text, row = info.settings["strategy"], _row(info)
    if not row.one_shot:
        return Paths(shared.rule)
    return row.load()(**settings_in("strategy", text, row.settings()))


def _row(info: RunInfo) -> Row:
    return STRATEGIES[info.settings["strategy"].partition(":")[0]]


def _evaluated(session: Session) -> int:
    return sum(n for status, n in session.learned.items() if status != "infeasible")

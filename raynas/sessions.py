"""The sessions that the parts of a search are made of, each over one archive."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from raynas import steered, tables, warm_start
from raynas.architecture import Architecture
from raynas.certainty import (
    TOLD,
    Ledger,
    Over,
    Plan,
    Planned,
    Probes,
    planned,
)
from raynas.errors import UserError
from raynas.evaluation import FunctionEvaluator, ProxyEvaluator, TableEvaluator, TrainingEvaluator
from raynas.objective import COSTS, Constraint, Objective
from raynas.phases import (
    SEARCH,
    SUPERNET,
    Fixed,
    starts,
)
from raynas.run import RunInfo, read
from raynas.screening import Screen
from raynas.session import Context, Evaluator, NoFeasibleDesign, Session
from raynas.space import Space
from raynas.strategies import (
    STRATEGIES,
    Row,
    SpaceExhausted,
    Strategy,
    asked_proxies,
    make,
    takes_all,
)
from raynas.strategies.preferring import Preferring
from raynas.strategies.scored import ScoresOf
from raynas.strategies.screened import Screened
from raynas.trial import Job, Proposal, Purpose, Trial
from raynas.watching import done_in

EDITS: frozenset[Purpose] = frozenset({"ablation", "audit"})


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
class Sessions:
    """Makes the sessions of a search; each is told what the run holds that concerns it.

    Attributes:
        evaluator: that trains or looks up a design alone.
        trials: designs to propose in all, those of earlier sessions of the run included.
    """

    folder: Path
    info: RunInfo
    evaluator: Evaluator
    archive: Any
    driver: Any
    trials: int

    def plan(self, trials: int) -> Plan:
        """What a search of so many trials buys."""
        settings, row = self.info.settings, row_of(self.info)
        same = isinstance(self.evaluator, FunctionEvaluator | TableEvaluator)
        seconds = settings["seconds"] or math.inf
        level = settings["explanation_level"]
        return planned(level, trials, not row.scales, not same, seconds)

    def over(self, evaluator: Evaluator) -> Over:
        return partial(steered.over, evaluator, self.info)

    @property
    def ledger(self) -> Ledger:
        return Ledger.read(self.folder, self.info)

    def unstopped(
        self,
        strategy: Strategy,
        purposes: frozenset[Purpose],
        trials: int,
        title: str,
        until: float,
        space: Space,
    ) -> Stage:
        """Trials that no scheduler stops, for they are there to be compared."""
        info = self.info
        session = Session(
            space,
            strategy,
            info.objectives,
            self.archive,
            self.evaluator.costs,
            info.constraints,
            info.settings["seed"],
            narrowed=bool(info.now.left),
        )
        self.replay(session, purposes)
        settings = {**info.settings, "scheduler": "none"}
        return Stage(session, self.evaluator, settings, trials, until, title)

    def fixed(
        self, designs: Sequence[Proposal], purposes: frozenset[Purpose], evaluator: Evaluator
    ) -> Session:
        """The session that tries these designs and no others."""
        objectives = {SUPERNET: (Objective("sampled_accuracy", "max"),), SEARCH: self.info.searched}
        whole = purposes == SUPERNET or not self.info.now.left
        session = Session(
            self.info.space if whole else self.info.allowed,
            Fixed("designs of this search"),
            objectives.get(purposes, self.info.objectives),
            self.archive,
            evaluator.costs,
            () if purposes == SUPERNET else self.counted,
            self.info.settings["seed"],
            starts=designs,
            narrowed=not whole,
        )
        self.replay(session, purposes)
        return session

    def searching(self, evaluator: Evaluator, title: str, until: float) -> Stage:
        """Lets the strategy propose."""
        info, earlier = self.info, warm_start.kept(self.folder)
        name = info.settings["strategy"]
        constraints = self.counted if info.screening else info.constraints
        aims = [a for a in info.now.aims if not info.screening or a.metric in COSTS]
        space, all_told = info.allowed, takes_all(name)
        limited, asked = info.settings["seconds"] is not None, info.settings["trials"]
        after = 0 if info.screening else self.plan(asked).afterwards
        told = SEARCH if info.screening else TOLD
        made = partial(
            make,
            name,
            space,
            info.searched,
            (*constraints, *aims),
            None if limited else asked - after,
            earlier,
            self.scores(name),
            info.space if info.now.left and all_told else None,
        )
        strategy = self.driver.strategy(
            made, name, self.archive, told, space if info.now.turns else None
        )
        if info.now.preferences:
            strategy = Preferring(space, strategy, info.now.preferences)
        session = Session(
            space,
            self.screened(strategy, evaluator),
            info.searched,
            self.archive,
            evaluator.costs,
            constraints,
            info.settings["seed"],
            starts=[
                p
                for p in (
                    *(steered.starts(self.ledger) if info.now.turns else ()),
                    *starts(info),
                    *warm_start.first(earlier, info.objectives),
                )
                if space.holds(p.architecture)
            ],
            narrowed=bool(info.now.left),
            tell_all=all_told,
        )
        self.replay(session, SEARCH, told)
        left = self.trials - done_in(session)
        settings = dict(info.settings)
        if isinstance(evaluator, ProxyEvaluator):
            settings |= self.driver.scoring(settings)
        return Stage(session, evaluator, settings, left, until, title.format(left))

    def screened(self, strategy: Strategy, evaluator: Evaluator) -> Strategy:
        """The strategy, whose proposals are screened if that was asked."""
        info = self.info
        if not (text := info.settings.get("screen")):
            return strategy
        how = Screen.of(text)
        context, over = replace(self.context, files=None), self.over(evaluator)
        return Screened(info.allowed, strategy, self.scorer(how.name), how.among, context, over)

    def scores(self, strategy: str) -> ScoresOf | None:
        """Computes the proxies that a strategy asks for as features; None if it asks for none."""
        if not (names := asked_proxies(strategy)):
            return None
        scorers, context = [self.scorer(n) for n in names], replace(self.context, files=None)

        def scores(architecture: Architecture) -> Mapping[str, float]:
            try:
                return {s.name: s.scores(architecture, context)[s.name] for s in scorers}
            except UserError:
                raise
            except Exception:  # it cannot be built: so its trial would say
                return dict.fromkeys(names, -math.inf)

        return scores

    def scorer(self, name: str) -> ProxyEvaluator:
        """Scores designs by a proxy; with a population, where it needs one."""
        scorer = ProxyEvaluator(self.full, name, self.info.settings["seed"])
        return scorer.ready(self.context)

    @property
    def context(self) -> Context:
        """Of what is scored in this process."""
        settings = self.info.settings
        return Context(settings["seed"], settings["cpus_per_trial"], files=self.archive)

    def replay(
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
        gone: list[Job] = []
        if self.info.now.left:  # edits that were asked for, and are not in what is left any more
            gone = [
                j
                for j in jobs
                if j.purpose in EDITS
                and j.number not in done
                and not self.info.allowed.holds(j.architecture)
            ]
        session.resume([j for j in jobs if j not in gone], trials, last + 1)
        for job in gone:
            session.withdraw(job)

    def trials_of(self, purposes: frozenset[Purpose]) -> list[Trial]:
        found = tables.trials_from(read(self.folder, self.info.space).trials)
        return [trial for trial in found if trial.purpose in purposes]

    def allowed(self, purposes: frozenset[Purpose]) -> list[Trial]:
        """Those that are what was asked for."""
        space, limits = self.info.allowed, self.counted
        found = [t for t in self.trials_of(purposes) if space.holds(t.architecture)]
        return [t for t in found if all(c.holds(t.metrics) for c in limits)]

    def inside(self, designs: Sequence[Proposal]) -> list[Proposal]:
        """The designs, those that are not what was asked for changed as little as makes them so."""
        space = self.info.allowed
        return [
            p if space.holds(p.architecture) else replace(p, architecture=space.fit(p.architecture))
            for p in designs
        ]

    def done(self, purposes: frozenset[Purpose], designs: Sequence[Proposal]) -> int:
        """How many of these designs were tried for such a purpose, refused ones aside."""
        identity = self.info.space.identity
        wanted = {identity(self.info.space.plainest(p.architecture)) for p in designs}
        tried = {
            identity(t.architecture) for t in self.trials_of(purposes) if t.status != "infeasible"
        }
        return len(wanted & tried)

    @property
    def full(self) -> TrainingEvaluator:
        assert isinstance(self.evaluator, TrainingEvaluator), "designs are trained on images"
        return self.evaluator

    @property
    def counted(self) -> tuple[Constraint, ...]:
        """The constraints that can be judged without training a design alone."""
        return tuple(c for c in self.info.constraints if c.metric in COSTS)


def row_of(info: RunInfo) -> Row:
    """The strategy of a run, in the table of strategies."""
    return STRATEGIES[info.settings["strategy"].partition(":")[0]]

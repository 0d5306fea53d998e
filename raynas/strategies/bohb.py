"""The model of BOHB (Falkner et al. 2018, arXiv:1807.01774): a tree of Parzen estimators.

The estimator is Optuna's TPE (multivariate, grouped by which decisions occur together, constant
liar; with several objectives, multi-objective TPE: Ozaki et al. 2022). BOHB's other half, how
long each design is trained, is a scheduler's.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.storages import InMemoryStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from raynas.architecture import Architecture, Decision, Option
from raynas.objective import Constraint, Objective
from raynas.space import Space
from raynas.strategies.base import Seen
from raynas.strategies.standing import standings
from raynas.trial import Proposal, Reason, Trial

GOOD = 25  # so many trials, or a tenth, are the good ones: Optuna's default
CELLS = 4_000  # trials times decisions that TPE is shown: what it costs grows with both
SLACK = 25  # trials by which what is kept may grow before it is sorted again
TRIES = 2  # designs drawn from the model before one of them is mutated
BROKEN = "constraints"  # where Optuna keeps by how much a trial breaks them


@dataclass
class BOHB:
    """Draws what is likely among the good trials and unlikely among the others.

    TPE is shown about `memory` trials: the best 25 and the latest others, fewer in spaces of
    more than 20 decisions (4,000 answers in all), so that its cost does not grow with the search.
    Where the estimator falls back on designs that have been tried, the last is mutated once.

    A trial stopped early is told as pruned, with its readings by epoch: TPE ranks pruned trials
    after finished ones, longest first. With several objectives Optuna knows no pruned trials;
    there a trial stopped after n epochs counts as breaking a constraint by 1 / (1 + n), which
    gives the same order; real constraints are broken by more than 1. Failed trials are not shown:
    they count for nothing, but the design is not proposed again.

    Attributes:
        startup: until so many trials have readings, designs are drawn at random.
        memory: about how many trials TPE is shown.
    """

    space: Space
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    startup: int = 10
    memory: int = 200
    _told: list[tuple[Trial, FrozenTrial]] = field(default_factory=list, init=False)
    _usable: int = field(default=0, init=False)
    _seen: Seen = field(init=False)
    _distributions: Mapping[str, BaseDistribution] = field(init=False)

    def __post_init__(self) -> None:
        self._seen = Seen(self.space)
        self._distributions = {
            d.name: IntDistribution(0, len(d.options) - 1)
            if d.ordered
            else CategoricalDistribution(tuple(range(len(d.options))))
            for d in self.space.decisions
        }

    def ask(self, rng: np.random.Generator, pending: Sequence[Architecture]) -> Proposal:
        if self._usable < self.startup:
            note = f"drawn at random: fewer than {self.startup} trials have readings"
            return self._seen.random(rng, pending, note)
        shown = [frozen for _, frozen in self._told]
        shown += [self._running(number, a) for number, a in enumerate(pending)]
        draw = self._model(shown, rng)
        drawn, rejected = self._seen.first_new(draw, pending, TRIES)
        good = min(-(-len(self._told) // 10), GOOD)
        others = len(self._told) - good
        note = f"likely among the best {good} of {len(self._told)} trials, not among the others"
        if drawn is None:
            tried = Architecture.parse(rejected[-1].architecture)
            drawn, more = self._seen.first_new(lambda: self.space.mutate(tried, rng), pending, 20)
            rejected = (*rejected, *more)[:5]
            note = f"a mutation of a design that was tried: {note}"
        if drawn is None:
            note = "drawn at random: what the model drew has been tried"
            return self._seen.random(rng, pending, note)
        scores = {"good": float(good), "others": float(others), "pending": float(len(pending))}
        return Proposal(drawn, Reason("acquisition", note, scores=scores), rejected)

    def tell(self, trial: Trial) -> None:
        self._seen.add(trial)
        self._usable += trial.usable
        if trial.status not in ("failed", "lost"):
            self._told.append((trial, self._frozen(trial)))
        if len(self._told) >= self._size + SLACK:
            places = standings([t for t, _ in self._told], self.objectives, self.constraints)
            best = np.argsort(-places, kind="stable")[:GOOD].tolist()
            others = sorted(set(range(len(self._told))) - set(best))
            self._told = [self._told[i] for i in sorted([*best, *others[GOOD - self._size :]])]

    @property
    def _size(self) -> int:
        """How many trials TPE is shown."""
        return max(2 * GOOD, min(self.memory, CELLS // len(self.space.decisions)))

    def _model(
        self, shown: list[FrozenTrial], rng: np.random.Generator
    ) -> Callable[[], Architecture]:
        """TPE, fitted to what it is shown: draws designs."""
        study = Study("", _Shown(shown, self.objectives))
        with warnings.catch_warnings():  # that some arguments may change in later versions
            warnings.simplefilter("ignore")
            sampler = TPESampler(
                n_startup_trials=0,
                multivariate=True,
                group=True,
                constant_liar=True,
                constraints_func=lambda trial: trial.system_attrs[BROKEN],
                seed=int(rng.integers(2**31)),
            )
        asked = _trial(2**32, TrialState.RUNNING, {}, {})
        together = sampler.infer_relative_search_space(study, asked)
        # Optuna samples decisions together that the same trials answer. Here the others wait
        # until they are met: where designs may be deep, most are not.
        done = [t for t in shown if t.state.is_finished()]
        answered = {n: frozenset(t.number for t in done if n in t.params) for n in together}

        def draw() -> Architecture:
            ranks: dict[str, int] = {}

            def pick(d: Decision) -> Option:
                if d.name in together and d.name not in ranks:
                    group = {n: s for n, s in together.items() if answered[n] == answered[d.name]}
                    ranks.update(sampler.sample_relative(study, asked, group))
                rank = ranks[d.name] if d.name in ranks else rng.integers(len(d.options))
                return d.options[rank]

            return self.space.answer(pick)

        return draw

    def _frozen(self, trial: Trial) -> FrozenTrial:
        """The trial as Optuna keeps it: options by rank."""
        names = [o.name for o in self.objectives]
        broken = [c.excess(trial.metrics) for c in self.constraints if not c.holds(trial.metrics)]
        known = trial.usable and all(n in trial.metrics for n in names)
        values: list[float] | None = [trial.metrics[n] if known else 0.0 for n in names]
        # Beyond 1, so that what breaks a bound comes after what was stopped early.
        excess = 1.0 + sum(broken) if broken or not known else 0.0
        state, readings = TrialState.COMPLETE, {}
        if trial.status == "stopped_early" and len(names) == 1:
            state, values = TrialState.PRUNED, None
            readings = {e: r[names[0]] for e, r in enumerate(trial.curve, 1) if names[0] in r}
            readings = readings or {trial.fidelity: trial.metrics.get(names[0], np.nan)}
        elif trial.status == "stopped_early" and not excess:
            excess = 1.0 / (1 + trial.fidelity)
        params, distributions = self._ranks(trial.architecture)
        return _trial(trial.number, state, params, distributions, values, readings, excess)

    def _running(self, number: int, architecture: Architecture) -> FrozenTrial:
        return _trial(number + 2**31, TrialState.RUNNING, *self._ranks(architecture))

    def _ranks(
        self, architecture: Architecture
    ) -> tuple[dict[str, int], dict[str, BaseDistribution]]:
        params = {n: self.space.by_name[n].options.index(o) for n, o in architecture.choices}
        return params, {n: self._distributions[n] for n in params}


@dataclass
class _Shown(InMemoryStorage):
    """Shows Optuna a list of trials, without copies, and keeps nothing that it writes."""

    trials: list[FrozenTrial]
    objectives: tuple[Objective, ...]

    def get_study_id_from_name(self, study_name: str) -> int:  # noqa: ARG002
        return 0

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:  # noqa: ARG002
        minimize, maximize = StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE
        return [minimize if o.direction == "min" else maximize for o in self.objectives]

    def get_all_trials(
        self,
        study_id: int,  # noqa: ARG002
        deepcopy: bool = True,  # noqa: ARG002
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        return [t for t in self.trials if states is None or t.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """What is sampled together is not shared: pending designs are told by `ask`."""


def _trial(
    number: int,
    state: TrialState,
    params: dict[str, int],
    distributions: dict[str, BaseDistribution],
    values: list[float] | None = None,
    readings: Mapping[int, float] | None = None,
    excess: float = 0.0,
) -> FrozenTrial:
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=state,
        value=None,
        values=values,
        datetime_start=None,
        datetime_complete=None,
        params=params,
        distributions=distributions,
        user_attrs={},
        system_attrs={BROKEN: [excess]},
        intermediate_values=dict(readings or {}),
    )

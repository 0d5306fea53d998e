"""Other tools' searches behind the interface of a strategy, for benchmarks/nasbench201.py.

Each runs with its own defaults on the space's decisions as categorical parameters: it sees every
text as a design of its own and is asked and told in turn. Where it proposes what it has proposed
before, that costs an evaluation like any other; of `NAME@new` it does not: the tool is told the
old answer and asked again. Settings stand behind a colon: `optuna-tpe:multivariate=true`.
Needs `pip install raynas[bench]`, Optuna aside, which RayNAS needs itself; each tool is imported
when it is named.
"""

from __future__ import annotations

import logging
import random
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np

from raynas.architecture import Architecture
from raynas.named import settings_in
from raynas.objective import Objective, losses
from raynas.space import Space
from raynas.strategies import SpaceExhausted
from raynas.trial import Proposal, Reason, Trial

REPEATS = 2000  # in a row, before a tool is given up


@dataclass(frozen=True)
class Problem:
    """What a tool is asked to search.

    Attributes:
        choices: options by decision.
        objectives: how many.
        trials: how many evaluations it may plan with.
    """

    choices: Mapping[str, Sequence[Any]]
    objectives: int
    seed: int
    trials: int


class Tool(Protocol):
    """Another tool's search, asked and told in turn; losses, smaller is better."""

    def propose(self) -> Mapping[str, Any]: ...

    def learn(self, losses: Sequence[float]) -> None:
        """Takes the losses of what was proposed last."""
        ...


class Optuna:
    """Its TPE is one sampler for one objective and for several."""

    def __init__(self, sampler: str, problem: Problem, **settings: Any) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(
            sampler=getattr(optuna.samplers, sampler)(seed=problem.seed, **settings),
            directions=["minimize"] * problem.objectives,
        )
        categorical = optuna.distributions.CategoricalDistribution
        self._space = {name: categorical(options) for name, options in problem.choices.items()}

    def propose(self) -> Mapping[str, Any]:
        self._trial = self._study.ask(self._space)
        return self._trial.params

    def learn(self, losses: Sequence[float]) -> None:
        self._study.tell(self._trial, list(losses))


class Pymoo:
    """NSGA-II with pymoo's operators for choices; it weeds out repeats within its population."""

    def __init__(self, problem: Problem, population: int) -> None:
        from pymoo.algorithms.moo.nsga2 import NSGA2, binary_tournament
        from pymoo.core.mixed import (
            MixedVariableDuplicateElimination,
            MixedVariableMating,
            MixedVariableSampling,
        )
        from pymoo.core.problem import Problem as Choosing
        from pymoo.core.variable import Choice
        from pymoo.operators.selection.tournament import TournamentSelection

        once = MixedVariableDuplicateElimination()
        choices = {n: Choice(options=list(o)) for n, o in problem.choices.items()}
        parents = TournamentSelection(func_comp=binary_tournament)  # as NSGA2 has by itself
        self._search = NSGA2(
            pop_size=population,
            sampling=MixedVariableSampling(),
            mating=MixedVariableMating(selection=parents, eliminate_duplicates=once),
            eliminate_duplicates=once,
        )
        self._search.setup(
            Choosing(vars=choices, n_obj=problem.objectives),
            termination=("n_gen", 10**6),
            seed=problem.seed,
            verbose=False,
        )
        self._asked: Any = []
        self._told: list[Sequence[float]] = []

    def propose(self) -> Mapping[str, Any]:
        if len(self._told) == len(self._asked):
            self._asked, self._told = self._search.ask(), []
        found: Mapping[str, Any] = self._asked[len(self._told)].X
        return found

    def learn(self, losses: Sequence[float]) -> None:
        self._told.append(losses)
        if len(self._told) == len(self._asked):
            self._asked.set("F", np.array(self._told))
            self._search.tell(infills=self._asked)


class SyneTune:
    """Its evolution is the multi-objective one, with one objective too."""

    def __init__(self, searcher: str, problem: Problem) -> None:
        from syne_tune.config_space import choice
        from syne_tune.optimizer import baselines
        from syne_tune.optimizer.schedulers import multiobjective
        from syne_tune.optimizer.schedulers.ask_tell_scheduler import AskTellScheduler
        from syne_tune.optimizer.schedulers.single_fidelity_scheduler import (
            SingleFidelityScheduler,
        )

        space = {name: choice(list(options)) for name, options in problem.choices.items()}
        self._names = [f"loss{i}" for i in range(problem.objectives)]
        if several := getattr(multiobjective, searcher, None):
            inner = several(space, random_seed=problem.seed)
            scheduler = SingleFidelityScheduler(space, self._names, True, inner, problem.seed)
        else:
            made = getattr(baselines, searcher)
            scheduler = made(space, self._names[0], random_seed=problem.seed)
        self._search = AskTellScheduler(scheduler)

    def propose(self) -> Mapping[str, Any]:
        self._trial = self._search.ask()
        found: Mapping[str, Any] = self._trial.config
        return found

    def learn(self, losses: Sequence[float]) -> None:
        self._search.tell(self._trial, dict(zip(self._names, losses, strict=True)))


class Smac:
    """A random forest; with several objectives by ParEGO. Proposes nothing twice."""

    def __init__(self, problem: Problem) -> None:
        from ConfigSpace import Categorical, ConfigurationSpace
        from smac import HyperparameterOptimizationFacade, Scenario
        from smac.multi_objective.parego import ParEGO
        from smac.runhistory import TrialValue

        space = ConfigurationSpace(seed=problem.seed)
        space.add([Categorical(name, list(options)) for name, options in problem.choices.items()])
        self._folder = tempfile.TemporaryDirectory()  # it writes its settings somewhere
        scenario = Scenario(
            space,
            objectives=[f"loss{i}" for i in range(problem.objectives)],
            deterministic=True,
            n_trials=problem.trials,
            seed=problem.seed,
            output_directory=self._folder.name,
        )
        several = {"multi_objective_algorithm": ParEGO(scenario)} if problem.objectives > 1 else {}
        self._search = HyperparameterOptimizationFacade(
            scenario, None, logging_level=logging.ERROR, **several
        )
        self._value = TrialValue

    def propose(self) -> Mapping[str, Any]:
        self._trial = self._search.ask()
        return dict(self._trial.config)

    def learn(self, losses: Sequence[float]) -> None:
        cost = list(losses) if len(losses) > 1 else losses[0]
        self._search.tell(self._trial, self._value(cost=cost), save=False)


class Nevergrad:
    """NGOpt chooses among Nevergrad's searches by the space and the budget."""

    def __init__(self, problem: Problem) -> None:
        import nevergrad

        choices = {n: nevergrad.p.Choice(list(o)) for n, o in problem.choices.items()}
        space = nevergrad.p.Dict(**choices)
        space.random_state.seed(problem.seed)
        self._search = nevergrad.optimizers.NGOpt(space, budget=problem.trials)
        self._search.num_objectives = problem.objectives

    def propose(self) -> Mapping[str, Any]:
        self._trial = self._search.ask()
        found: Mapping[str, Any] = self._trial.value
        return found

    def learn(self, losses: Sequence[float]) -> None:
        self._search.tell(self._trial, list(losses) if len(losses) > 1 else losses[0])


class Hyperopt:
    def __init__(self, problem: Problem) -> None:
        import hyperopt

        self._choices, self._rng = problem.choices, np.random.default_rng(problem.seed)
        self._suggest = hyperopt.tpe.suggest
        space = {name: hyperopt.hp.choice(name, list(o)) for name, o in self._choices.items()}
        self._domain = hyperopt.Domain(lambda _: 0.0, space)
        self._trials = hyperopt.Trials()

    def propose(self) -> Mapping[str, Any]:
        numbers = self._trials.new_trial_ids(1)
        self._trials.refresh()
        seed = int(self._rng.integers(2**31 - 1))
        (self._trial,) = self._suggest(numbers, self._domain, self._trials, seed)
        chosen = self._trial["misc"]["vals"]
        return {name: options[int(chosen[name][0])] for name, options in self._choices.items()}

    def learn(self, losses: Sequence[float]) -> None:
        self._trial["state"] = 2  # done
        self._trial["result"] = {"status": "ok", "loss": losses[0]}
        self._trials.insert_trial_docs([self._trial])
        self._trials.refresh()


@dataclass(frozen=True)
class Row:
    """A tool's search in the table.

    Attributes:
        make: (problem, settings by name) -> the search.
        package: what must be importable.
        several: whether it takes several objectives.
        settings: what can be set, with the tool's defaults.
    """

    make: Callable[..., Tool]
    package: str
    several: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def installed(self) -> bool:
        return find_spec(self.package) is not None


PEERS: dict[str, Row] = {
    "optuna-tpe": Row(partial(Optuna, "TPESampler"), "optuna", settings={"multivariate": False}),
    "optuna-nsga2": Row(
        partial(Optuna, "NSGAIISampler"), "optuna", settings={"population_size": 50}
    ),
    "pymoo-nsga2": Row(Pymoo, "pymoo", settings={"population": 100}),
    "synetune-bore": Row(partial(SyneTune, "BORE"), "syne_tune", several=False),
    "synetune-cqr": Row(partial(SyneTune, "CQR"), "syne_tune", several=False),
    "synetune-evolution": Row(partial(SyneTune, "MultiObjectiveRegularizedEvolution"), "syne_tune"),
    "smac": Row(Smac, "smac"),
    "nevergrad": Row(Nevergrad, "nevergrad"),
    "hyperopt-tpe": Row(Hyperopt, "hyperopt", several=False),
}
BETTER = (  # than with their defaults, in most questions on this table
    "optuna-tpe:multivariate=true",
    "optuna-tpe:multivariate=true@new",
    "optuna-nsga2:population_size=20@new",
    "pymoo-nsga2:population=20",
)


def row(text: str) -> Row | None:
    """The row of a name with or without settings; None if it is no peer's."""
    return PEERS.get(text.partition("@")[0].partition(":")[0])


@dataclass
class Peer:
    """A tool's search as a strategy.

    Attributes:
        new: whether it is asked again where it repeats itself.
    """

    name: str
    space: Space
    objectives: tuple[Objective, ...]
    tool: Tool
    new: bool
    _known: dict[Architecture, Sequence[float]] = field(default_factory=dict, init=False)

    def ask(self, rng: np.random.Generator, pending: Sequence[Architecture]) -> Proposal:
        del rng, pending  # it has its own generator, and nothing runs beside it
        for _ in range(REPEATS):
            found = self._propose()
            if not self.new or found not in self._known:
                return Proposal(found, Reason("acquisition", f"proposed by {self.name}"))
            self.tool.learn(self._known[found])
        raise SpaceExhausted(f"{self.name} repeated itself {REPEATS} times in a row.")

    def tell(self, trial: Trial) -> None:
        found = losses(self.objectives, trial.metrics)
        self._known[trial.architecture] = found
        self.tool.learn(found)

    def _propose(self) -> Architecture:
        found = self.tool.propose()
        options = {  # our own objects: some answer with numpy's texts
            d.name: d.options[d.options.index(found[d.name])] for d in self.space.decisions
        }
        return self.space.architecture(options)


def make(
    text: str, space: Space, objectives: tuple[Objective, ...], seed: int, trials: int
) -> Peer:
    """A peer by its name, with settings; the space must have no conditions."""
    warnings.filterwarnings("ignore")  # of the tools about themselves
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # some draw from the global generators
    name, _, new = text.partition("@")
    chosen = PEERS[name.partition(":")[0]]
    settings = {**chosen.settings, **settings_in("peer", name, chosen.settings)}
    problem = Problem({d.name: d.options for d in space.decisions}, len(objectives), seed, trials)
    return Peer(text, space, objectives, chosen.make(problem, **settings), new == "new")

"""A Transformer that writes designs for a given budget, trained by REINFORCE.

After the Pareto-aware neural architecture generator (Guo et al. 2022, arXiv:2210.07634: the budget
is an input, and one trained generator answers for many), with the training of `reinforce` and a
Transformer in place of its LSTM.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from raynas.architecture import Architecture
from raynas.errors import UserError
from raynas.objective import Constraint, Objective
from raynas.space import Space
from raynas.strategies.controllers import Floats
from raynas.strategies.policy import Policy, baseline, reward, utilities
from raynas.strategies.standing import standings
from raynas.trial import Proposal, Trial

COSTS = ("params", "flops")  # looked for where no constraint and no objective names a cost
MEASURED = 10  # costs by whose mean and deviation budgets are standardized


@dataclass
class Generator:
    """Learns what is good within each budget; `generate` answers for any budget afterwards.

    The cost is the metric of the first upper bound, or else of the first objective to be
    minimized after the first, or else `params` or `flops` where trials report them; without any,
    the controller learns without budgets. The first ten costs set the scale (mean and deviation
    of the logarithm). Half of the proposals are for the budget that matters most (the bound; the
    largest seen, where cost is no objective), the others for budgets drawn from the range seen.

    At each step a trial teaches for the budget it was proposed for or for one drawn anew, with
    equal chances. Within a budget the reward goes by its place, judged by the objectives other
    than the cost, among the remembered designs that keep it; beyond the budget it is 0;
    the baseline is the moving average for the same budget.

    Attributes:
        cost: name of the cost metric; '' to find it.
        memory, elite, batch, steps, learning_rate, curiosity, clip, earlier: see `Policy`; the
            elite is the front of objectives and cost.
    """

    space: Space
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    cost: str = ""
    memory: int = 64
    elite: int = 24
    batch: int = 10
    steps: int = 4
    learning_rate: float = 0.005
    curiosity: float = 0.01
    clip: float = 1.0
    earlier: tuple[Trial, ...] = ()
    policy: Policy = field(init=False)
    _costs: list[float] = field(default_factory=list, init=False)  # logarithms: the first few
    _range: tuple[float, float] = field(default=(np.inf, -np.inf), init=False)  # standardized

    def __post_init__(self) -> None:
        self.policy = Policy(
            self.space,
            self.objectives,
            self.constraints,
            self.memory,
            self.elite,
            self.batch,
            self.steps,
            self.learning_rate,
            self.curiosity,
            self.clip,
            attention=True,
            earlier=self.earlier,
        )
        bounded = [c.metric for c in self.constraints if c.sense == "max"]
        minimized = [o.name for o in self.objectives[1:] if o.direction == "min"]
        self._metric = next(iter([*filter(None, [self.cost]), *bounded, *minimized]), "")

    def ask(self, rng: np.random.Generator, pending: Sequence[Architecture]) -> Proposal:
        if not self._ready:
            return self.policy.propose(rng, pending)
        budget = self._wanted(rng)
        units = self._units(budget)
        wish = f" for a budget of {units:.4g} {self._metric}"
        proposal = self.policy.propose(rng, pending, budget, wish)
        scores = {**proposal.reason.scores, "budget": units}
        return replace(proposal, reason=replace(proposal.reason, scores=scores))

    def tell(self, trial: Trial) -> None:
        self._look(trial)
        places = self.policy.keep(trial)
        if places is None:
            return
        if self._ready:
            self._teach(np.random.default_rng(trial.number))
            return
        rewards = utilities(places)
        for _ in range(self.steps):
            self.policy.learn(rewards - baseline(rewards))

    def restore(self, data: bytes, trials: Mapping[int, Trial]) -> None:
        """See `Policy.restore`."""
        self.policy.restore(data, trials)
        for number in self.policy.told:
            self._look(trials[number])

    def generate(
        self, budget: float, rng: np.random.Generator, number: int = 1
    ) -> list[Architecture]:
        """The most probable of some designs drawn for a budget, in the units of the cost.

        Distinct networks, fewer than `number` where the generator knows no more; whether they
        keep the budget is learned, not checked.

        Raises:
            UserError: too few trials have reported a cost.
        """
        if not self._ready:
            raise UserError(
                f"expected {MEASURED} trials that report {self._metric or 'a cost'} before designs "
                f"are generated for a budget; got {len(self._costs)}. Run more trials."
            )
        draws = self.policy.controller.draw(rng, 4 * number + 12, self._standard(budget))
        found: dict[str, Architecture] = {}
        for row in np.argsort(-draws.log_probability, kind="stable"):
            design = self.space.plainest(self.policy.controller.read(draws.answers[row]))
            found.setdefault(self.space.identity(design), design)
        return list(found.values())[:number]

    @property
    def _ready(self) -> bool:
        """Whether budgets have a scale."""
        return len(self._costs) >= MEASURED

    def _look(self, trial: Trial) -> None:
        """Learns what costs there are."""
        if trial.usable and not self._metric:
            self._metric = next((name for name in COSTS if name in trial.metrics), "")
        if trial.usable and self._metric in trial.metrics:
            self._measure(trial.metrics[self._metric])

    def _measure(self, cost: float) -> None:
        if self._ready:
            low, high = self._range
            here = self._standard(cost)
            self._range = (min(low, here), max(high, here))
            return
        self._costs.append(float(np.log(max(cost, 1e-9))))
        if self._ready:
            known = [self._standard(float(np.exp(c))) for c in self._costs]
            self._range = (min(known), max(known))
            if self._metric not in [o.name for o in self.objectives]:
                front = (*self.objectives, Objective(self._metric, "min"))
                self.policy.objectives = front

    def _standard(self, cost: float) -> float:
        deviation = max(float(np.std(self._costs)), 1e-6)
        return float((np.log(max(cost, 1e-9)) - np.mean(self._costs)) / deviation)

    def _units(self, budget: float) -> float:
        return float(np.exp(budget * max(float(np.std(self._costs)), 1e-6) + np.mean(self._costs)))

    def _wanted(self, rng: np.random.Generator) -> float:
        low, high = self._range
        bounds = [c.bound for c in self.constraints if c.metric == self._metric]
        top = min([high, *(self._standard(b) for b in bounds)])
        free = self._metric not in [o.name for o in self.objectives]
        if (free or bounds) and rng.random() < 0.5:
            return top
        return float(rng.uniform(min(low, top), top))

    def _teach(self, rng: np.random.Generator) -> None:
        """The steps of an update, each with budgets drawn anew."""
        trials = [lesson.trial for lesson in self.policy.lessons]
        others = [o for o in self.objectives if o.name != self._metric] or self.objectives
        quality = standings(trials, others, self.constraints)
        costs = np.array([self._cost_of(trial) for trial in trials])
        own = np.array([self._own_budget(trial) for trial in trials])
        for _ in range(self.steps):
            drawn = rng.uniform(*self._range, size=len(trials))
            chosen = (rng.random(len(trials)) < 0.5) & ~np.isnan(own)
            budgets = np.where(chosen, own, drawn)
            rewards = within_budgets(costs, quality, budgets)
            self.policy.learn(rewards.diagonal() - baseline(rewards), budgets)

    def _own_budget(self, trial: Trial) -> float:
        budget = trial.reason.scores.get("budget") if trial.reason else None
        return np.nan if budget is None else self._standard(budget)

    def _cost_of(self, trial: Trial) -> float:
        """Standardized; NaN, which keeps no budget, for a trial that teaches no cost."""
        known = trial.usable and self._metric in trial.metrics
        return self._standard(trial.metrics[self._metric]) if known else np.nan


def within_budgets(costs: Floats, quality: Floats, budgets: Floats) -> Floats:
    """Rewards `[B, N]` from 0 to 1, of each design for each budget.

    Args:
        costs, quality: `[N]`, of the designs; more quality is better; NaN costs keep no budget.
        budgets: `[B]`.
    """
    keep = costs[None] <= budgets[:, None] + 1e-6
    better = quality[:, None] > quality[None]  # [i, j]: i than j
    rank = 1.0 + keep.astype(float) @ better.astype(float)
    worth = reward(rank, np.maximum(keep.sum(1, keepdims=True), 1))
    return np.where(keep, worth, 0.0)

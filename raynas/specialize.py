"""Networks for a budget from weights that were trained once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from raynas import tables
from raynas.architecture import Architecture
from raynas.errors import UserError, unknown
from raynas.objective import Constraint
from raynas.one_shot import LOG, WEIGHTS, designs_in, weights_in
from raynas.run import read
from raynas.strategies import SpaceExhausted, make
from raynas.trial import Trial

if TYPE_CHECKING:
    from torch import nn

    from raynas.result import SearchResult

KNOWN = ("params", "flops", "latency_ms")
TRIES = 500  # mutations towards the limits where no scored design keeps them


@dataclass(frozen=True)
class Specialized:
    """A design for a budget.

    Attributes:
        model: with its shared weights, in eval mode.
        metrics: `shared_accuracy` and `shared_loss` on the validation split, and its costs.
    """

    architecture: Architecture
    model: nn.Module
    metrics: Mapping[str, float]


def specialize(
    result: SearchResult, limits: Mapping[str, float], evaluations: int, seed: int
) -> Specialized:
    """See `SearchResult.specialize`."""
    for name in limits:
        if name not in KNOWN:
            raise unknown("limit", name, list(KNOWN))
    bench = _Bench(result, limits, seed)
    strategy = make("evolution", bench.space, result.info.searched[:1], bench.constraints)
    best: Trial | None = None
    told = bench.past()
    for trial in told:
        strategy.tell(trial)
        best = bench.better(best, trial)
    if best is None:
        best = bench.measured(len(told), bench.nearest())
        strategy.tell(best)
    for number in range(len(told) + 1, len(told) + 1 + evaluations):
        rng = np.random.default_rng((seed, number))
        try:
            trial = bench.measured(number, strategy.ask(rng, ()).architecture)
        except SpaceExhausted:
            break
        strategy.tell(trial)
        best = bench.better(best, trial)
    assert best is not None
    return Specialized(best.architecture, bench.network(best.architecture), best.metrics)


class _Bench:
    """Measures designs by the shared weights of a run."""

    def __init__(self, result: SearchResult, limits: Mapping[str, float], seed: int) -> None:
        from raynas.data import load
        from raynas.evaluation import TrainingEvaluator, resolve_device
        from raynas.recipe import Recipe
        from raynas.session import Context

        file, info = result.path / WEIGHTS, result.info
        if not file.exists():
            raise UserError(
                f"{result.path} has no shared weights, by which a network for given limits could "
                "be had without training. Search with evaluation shared, or give a trial."
            )
        if not designs_in((result.path / LOG).read_bytes())[1]:
            raise UserError(
                f"the weights of {result.path} are parts of those of whole designs "
                f"({info.settings['strategy']}): no network can be had from them."
            )
        if info.problem.dataset == "(own data)" or result.code is None:
            raise UserError(
                f"{result.path} was searched on data or in a space of your own, which a run does "
                "not keep: its networks cannot be scored anew."
            )
        settings = info.settings
        data = load(info.problem.dataset, seed=settings["seed"], **settings["loading"])
        self.space, self.result = result.code, result
        self.constraints = tuple(Constraint(n, "max", bound) for n, bound in limits.items())
        self.objective = info.searched[0]
        self._full = TrainingEvaluator(self.space, data, Recipe(**settings["recipe"]))
        self._data = self._full.placed(Context(seed, 1, "auto"))
        self._supernet = self._full.shared(weights_in(file.read_bytes()), resolve_device("auto"))
        self._timed = "latency_ms" in limits

    def past(self) -> list[Trial]:
        """What the search scored, in order; where time counts, those whose time can be told."""
        trials = tables.trials_from(read(self.result.path, self.result.info.space).trials)
        scored = [t for t in trials if t.purpose == "search" and t.status == "finished"]
        scored = [t for t in scored if self._may_hold(t.metrics)]
        if self._timed:  # the clock is slow: the best twenty
            name, loss = self.objective.name, self.objective.loss
            scored = sorted(scored, key=lambda t: loss(t.metrics[name]))[:20]
            scored = [_with(trial, self._costs(trial.architecture)) for trial in scored]
        return [self._judged(trial) for trial in scored]

    def better(self, best: Trial | None, trial: Trial) -> Trial | None:
        """The better of the two that keep the limits."""
        name, loss = self.objective.name, self.objective.loss
        if trial.status != "finished":
            return best
        if best is None or loss(trial.metrics[name]) < loss(best.metrics[name]):
            return trial
        return best

    def measured(self, number: int, architecture: Architecture) -> Trial:
        """A design's costs and, if they keep the limits, its scores."""
        from raynas.supernet.training import score

        architecture = self.space.plainest(architecture)
        trial = self._judged(Trial(number, architecture, "finished", self._costs(architecture)))
        if trial.status == "infeasible":
            return trial
        read = score(self._supernet, architecture, self._data)
        return _with(trial, {f"shared_{n}": v for n, v in read.items()})

    def nearest(self) -> Architecture:
        """A design within the limits, by small changes to the one that is least beyond them."""
        rng = np.random.default_rng(0)
        design = self.space.sample(rng)
        costs = self._costs(design)
        for _ in range(TRIES):
            if self._excess(costs) <= 0:
                return design
            other = self.space.mutate(design, rng)
            measured = self._costs(other)
            if self._excess(measured) <= self._excess(costs):
                design, costs = other, measured
        said = ", ".join(f"{c.metric} {costs[c.metric]:,.4g}" for c in self.constraints)
        raise UserError(
            f"no design of the space {self.space.name!r} that keeps "
            f"{', '.join(map(str, self.constraints))} was found in {TRIES} tries; the nearest has "
            f"{said}. Loosen the limit at least that far."
        )

    def network(self, architecture: Architecture) -> nn.Module:
        """The network on its own, with its share of the weights."""
        some = self._data.train.images[:1000].split(250)  # type: ignore[no-untyped-call]
        batches = (self._data.normalized(images) for images in some)
        return self._supernet.network(architecture, batches).eval()

    def _may_hold(self, metrics: Mapping[str, float]) -> bool:
        return all(c.holds(metrics) for c in self.constraints)

    def _judged(self, trial: Trial) -> Trial:
        status = "finished" if self._excess(trial.metrics) <= 0 else "infeasible"
        return replace(trial, status=status)  # type: ignore[arg-type]

    def _excess(self, costs: Mapping[str, float]) -> float:
        """How far beyond the limits, as a share of each."""
        return sum(c.excess(costs) / max(abs(c.bound), 1e-9) for c in self.constraints)

    def _costs(self, architecture: Architecture) -> dict[str, float]:
        costs = dict(self._full.costs(architecture))
        if self._timed and self._may_hold(costs):
            from raynas.compression import deployed
            from raynas.latency import latency_ms

            assert self.space.build is not None
            shape, classes = self._full.data.input_shape, self._full.data.num_classes
            network = deployed(self.space.build(architecture, shape, classes))
            costs["latency_ms"] = latency_ms(network, shape)
        elif self._timed:
            costs["latency_ms"] = math.inf
        return costs


def _with(trial: Trial, more: Mapping[str, float]) -> Trial:
    return replace(trial, metrics={**trial.metrics, **more})

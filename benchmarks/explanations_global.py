"""How true is what explanations say of a whole space, where the truth is known?

    python benchmarks/explanations_global.py --table nasbench201-cifar10.parquet --seeds 20

Archives of NAS-Bench-201 by random search and evolution (`explained.py`): a fifth of the trials, up
to 40, are uniform probes, the rest is the search's. For each, beside other tools' answers:

- `principles`: how often the 90 % intervals of main effects (an option against the rest), of all
  candidate rules, and of the selected rules cover the truth; without probes: the posterior's own.
- `importance`: 1 - total variation to the exact shares of the variance (functional ANOVA, main
  effects), to those in the best tenth (PED-ANOVA) and around a cell; Optuna's beside them.
- `shapley`: mean absolute error of a cell's contributions against the average cell (points).
- `two`: how often short forms name the better of two cells: random, best fifth, one edit apart.
- `advice`: points lost by the proposed edit that saves a fifth of the parameters, against the best
  such edit.

A cell that computes nothing has an accuracy of 10 %, which the posterior is told, as it is in a
run; `--untold` leaves that out. Peers are asked on the first `--peer-seeds` seeds. Tuned on seeds
100 to 109 (`--first 100 --seeds 10`).
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from explained import EDGES, NOISE, OPTIONS, SEARCHES, Truth, read_truth, subjects
from explained import Archive as Searched
from machine import header

from raynas.architecture import Architecture
from raynas.explanation import advice, attribution, importance, principles, scorecard
from raynas.explanation.features import Described
from raynas.explanation.pool import Pool, pool
from raynas.explanation.surface import Surface, fit
from raynas.objective import Array, Objective
from search_spaces.nasbench201 import OPERATIONS, SPACE

ACCURACY = Objective("accuracy", "max", "%")
CHANCE = 10.0  # percent, of a network that computes nothing
WORTH = {"nor_conv_3x3": 4, "nor_conv_1x1": 3, "skip_connect": 2, "avg_pool_3x3": 1, "none": 0}
PAIRS = 20_000
Row = dict[str, Any]


class World:
    """The truth, and what does not depend on an archive."""

    def __init__(self, table: Path) -> None:
        self.truth: Truth = read_truth(table)
        self.over: Pool = pool(SPACE)
        self.described = Described(SPACE)
        self.names, self.values = self.described.human(self.truth.designs)
        self.code = {design.choices: i for i, design in enumerate(self.truth.designs)}
        self.exact = importance.additive(self.over, self.truth.accuracy[None])
        self.pairs = dict(self._pairs())

    def human(self, designs: Any) -> tuple[list[str], Array]:
        """`Described.human`, looked up."""
        return self.names, self.values[[self.code[design.choices] for design in designs]]

    def identity(self, design: Architecture) -> str:
        """`Space.identity`, looked up."""
        return self.truth.identities[self.code[design.choices]]

    def _pairs(self) -> Iterator[tuple[str, Any]]:
        rng, accuracy = np.random.default_rng(0), self.truth.accuracy
        size = len(accuracy)
        best = np.argsort(-accuracy)[: size // 5]
        starts = rng.integers(size, size=PAIRS)
        edits = [self.truth.neighbours(i)[rng.integers(EDGES * (OPTIONS - 1))] for i in starts]
        yield "random", rng.integers(size, size=(PAIRS, 2))
        yield "top", best[rng.integers(len(best), size=(PAIRS, 2))]
        yield "edit", np.column_stack([starts, edits])

    def better_of_two(self, scores: Array) -> Row:
        """How often scores of all cells name the better one, by kind of pair."""
        return {
            kind: float(scorecard.better_of_two(scores[p], self.truth.accuracy[p][None])[0])
            for kind, p in self.pairs.items()
        }


def archive(truth: Truth, search: str, trials: int, seed: int) -> tuple[Searched, int]:
    """Uniform probes first, then the search; and how many are probes."""
    probes = min(40, trials // 5)
    rng = np.random.default_rng((seed, 7))
    codes = rng.choice(len(truth.accuracy), probes, replace=False)
    readings = truth.accuracy[codes] + NOISE * rng.standard_normal(probes)
    found = SEARCHES[search](truth, trials - probes, seed)
    both = np.append(codes, found.codes), np.append(readings, found.readings)
    return Searched(search, seed, *both), probes


def lift(accuracy: Array, held: Any) -> float:
    """The truth of a rule: the mean with it, less the mean without."""
    return float(accuracy[held].mean() - accuracy[~held].mean())


def covered(found: list[principles.Principle], accuracy: Array) -> float:
    """The share of intervals that hold the truth."""
    return float(np.mean([p.low <= lift(accuracy, p.rule.pool) <= p.high for p in found]))


def rules(world: World, kept: Searched, number: int, surface: Surface, draws: Array) -> Row:
    """Coverage of global claims."""
    over, accuracy = world.over, world.truth.accuracy
    designs = [world.truth.designs[i] for i in kept.codes]
    predicted = principles.left_out(surface, designs[:number])
    told = designs if not len(surface.constant) else [*designs, world.truth.designs[0]]
    probes = principles.probes(
        over, designs[:number], kept.readings[:number], predicted, told, world.identity
    )
    main = principles.options(over, probes)
    every = principles.candidates(over, probes, world.human, draws, ACCURACY)
    effects, all_rules = (principles.estimates(over, probes, rs, draws) for rs in (main, every))
    chosen, _ = principles.principles(over, probes, draws, ACCURACY, world.human)
    own = []
    for rule in main:
        weights = np.where(rule.pool, 1 / rule.pool.sum(), -1 / (~rule.pool).sum())
        low, high = np.quantile(draws @ weights, [0.05, 0.95])
        own.append(low <= lift(accuracy, rule.pool) <= high)
    misses = [abs(p.lift - lift(accuracy, p.rule.pool)) for p in effects]
    return {
        "main effects": covered(effects, accuracy),
        "rules": covered(all_rules, accuracy),
        "selected": covered(chosen, accuracy),
        "main effects, posterior alone": float(np.mean(own)),
        "error of main effects": float(np.mean(misses)),
        "width of main effects": float(np.mean([p.high - p.low for p in effects])),
    }


def apart(found: Array, exact: Array) -> float:
    """1 - total variation of two sets of shares."""
    found, exact = np.maximum(found, 0), np.maximum(exact, 0)
    if found.sum() <= 0:
        found = np.ones_like(found)
    return float(1 - np.abs(found / found.sum() - exact / exact.sum()).sum() / 2)


def importances(world: World, kept: Searched, draws: Array) -> Row:
    """Fidelity of shares: ours."""
    over, accuracy = world.over, world.truth.accuracy
    model = importance.additive(over, draws)
    shares, exact = importance.shares(model), importance.shares(world.exact)[0]
    best = importance.top_shares(over, -draws)
    near = []
    for code in subjects(kept):
        design = world.truth.designs[code]
        pair = [
            importance.local_shares(over, design, lambda ds, v=v: _look(world, v, ds))[1].mean(0)
            for v in (draws, accuracy[None])
        ]
        near.append(apart(*pair))
    both = importance.pairs(model).sum(axis=1)
    low, high = np.quantile(shares.sum(axis=1), [0.05, 0.95])
    return {
        "fANOVA": apart(shares.mean(axis=0), exact),
        "PED-ANOVA": apart(best.mean(axis=0), importance.top_shares(over, -accuracy[None])[0]),
        "local": float(np.mean(near)),
        "main effects' share": float(shares.sum(axis=1).mean()),
        "its interval covers": float(low <= exact.sum() <= high),
        "pairs' share": float(both.mean()),
    }


def peers(kept: Searched, world: World) -> dict[str, Array]:
    """Other tools' importances of the six edges, from the archive."""
    names = [d.name for d in SPACE.decisions]
    spread = {n: optuna.distributions.CategoricalDistribution(OPERATIONS) for n in names}
    study = optuna.create_study(direction="maximize")
    for code, reading in zip(kept.codes, kept.readings, strict=True):
        params = dict(world.truth.designs[code].choices)
        trial = optuna.trial.create_trial(params=params, distributions=spread, value=reading)
        study.add_trial(trial)
    made = optuna.importance
    evaluators = {
        "Optuna fANOVA": made.FanovaImportanceEvaluator(seed=0),
        "Optuna MDI": made.MeanDecreaseImpurityImportanceEvaluator(seed=0),
        "Optuna PED-ANOVA": made.PedAnovaImportanceEvaluator(),
        "Optuna PED-ANOVA, global": made.PedAnovaImportanceEvaluator(evaluate_on_local=False),
    }
    found = {}
    for name, evaluator in evaluators.items():
        said = made.get_param_importances(study, evaluator=evaluator)
        found[name] = np.array([said[n] for n in names])
    found["marginal means"] = np.array([e.var() for e in _marginal_means(kept, world)])
    return found


def _marginal_means(kept: Searched, world: World) -> Array:
    """Archive means by edge and option, less the archive's mean `[6, 5]`; 0 if never met."""
    options, found = world.truth.options[kept.codes], np.zeros((EDGES, OPTIONS))
    for edge in range(EDGES):
        for option in range(OPTIONS):
            if (here := options[:, edge] == option).any():
                found[edge, option] = kept.readings[here].mean() - kept.readings.mean()
    return found


def _look(world: World, values: Array, designs: Any) -> Array:
    return values[:, [world.code[design.choices] for design in designs]]


def shapley(world: World, kept: Searched, draws: Array) -> Row:
    """Mean absolute error of contributions (points), over the subjects."""
    over, accuracy = world.over, world.truth.accuracy
    errors, marginal = [], []
    means = _marginal_means(kept, world)
    for code in subjects(kept):
        design = world.truth.designs[code]
        pair = [
            attribution.against_average(
                over, design, lambda ds, v=v: _look(world, v, ds), v
            ).contributions.mean(axis=0)
            for v in (draws, accuracy[None])
        ]
        errors.append(np.abs(pair[0] - pair[1]).mean())
        own = means[np.arange(EDGES), world.truth.options[code]]
        marginal.append(np.abs(own - pair[1]).mean())
    return {"ours": float(np.mean(errors)), "marginal means": float(np.mean(marginal))}


def forms(world: World, draws: Array) -> dict[str, Row]:
    """Better of two by short forms."""
    names, values, levels = world.names, world.values, draws.mean(axis=0)
    truth = world.truth
    operations = np.array([WORTH[o] for o in OPERATIONS])
    found = {"full posterior": levels}
    for most in (6, 10):
        found[f"{most} terms"] = scorecard.scorecard(names, values, levels, most).score(
            names, values
        )
    found["tree, 8 leaves"] = scorecard.tree(names, values, levels, levels).score(names, values)
    found["template"] = operations[truth.options].sum(axis=1).astype(float)
    found["bigger is better"] = truth.params
    exact = scorecard.scorecard(names, values, truth.accuracy, 6)
    found["exact truth, 6 terms"] = exact.score(names, values)
    return {name: world.better_of_two(scores) for name, scores in found.items()}


def slimming(world: World, kept: Searched, draws: Array) -> Row:
    """Regret of the proposed edit that saves a fifth of the parameters, mean over subjects."""
    accuracy, params = world.truth.accuracy, world.truth.params
    regrets: dict[str, list[float]] = {"ours": [], "mean, not careful": [], "template": []}
    operations = np.array([WORTH[o] for o in OPERATIONS])
    for code in subjects(kept):
        around = world.truth.neighbours(code)
        around = around[params[around] <= (1 - advice.SAVED) * params[code]]
        if not len(around):
            continue
        change = draws[:, around] - draws[:, [code]]
        worst = np.quantile(-change, advice.CAUTION, axis=0)
        worth = operations[world.truth.options[around]].sum(axis=1)
        best = accuracy[around].max()
        for name, pick in (
            ("ours", worst.argmin()),
            ("mean, not careful", change.mean(axis=0).argmax()),
            ("template", worth.argmax()),
        ):
            regrets[name].append(float(best - accuracy[around[pick]]))
    return {name: float(np.mean(r)) if r else math.nan for name, r in regrets.items()}


def one(
    world: World, search: str, trials: int, seed: int, with_peers: bool, untold: bool
) -> Iterator[Row]:
    """All figures of one archive."""
    kept, number = archive(world.truth, search, trials, seed)
    designs = [world.truth.designs[i] for i in kept.codes]
    nothing = None if untold else CHANCE
    surface = fit(SPACE, designs, kept.readings, nothing=nothing, described=world.described)
    assert surface is not None
    draws = surface.draws(world.truth.designs)
    about = {"search": search, "trials": trials, "seed": seed}

    def said(question: str, who: str, figures: Row) -> Iterator[Row]:
        for what, value in figures.items():
            yield {**about, "question": question, "who": who, "what": what, "value": value}

    yield from said("principles", "ours", rules(world, kept, number, surface, draws))
    yield from said("importance", "ours", importances(world, kept, draws))
    for who, value in shapley(world, kept, draws).items():
        yield from said("shapley", who, {"error, points": value})
    for who, figures in forms(world, draws).items():
        yield from said("two", who, figures)
    for who, value in slimming(world, kept, draws).items():
        yield from said("advice", who, {"regret, points": value})
    if with_peers:
        exact = importance.shares(world.exact)[0]
        best = importance.top_shares(world.over, -world.truth.accuracy[None])[0]
        for who, shares in peers(kept, world).items():
            figures = {"fANOVA": apart(shares, exact), "PED-ANOVA": apart(shares, best)}
            yield from said("importance", who, figures)
            like = world.truth.options == world.truth.options[kept.incumbent]
            if who == "Optuna fANOVA":
                scores = world.better_of_two(like @ shares)
                yield from said("two", f"{who}, like the incumbent", scores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 300])
    parser.add_argument("--searches", nargs="+", default=list(SEARCHES), choices=list(SEARCHES))
    parser.add_argument("--peer-seeds", type=int, default=5)
    parser.add_argument("--untold", action="store_true", help="see above")
    parser.add_argument("--out", type=Path, help="a CSV with every figure")
    a = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    header()
    world = World(a.table)
    rows: list[Row] = []
    for seed in range(a.first, a.first + a.seeds):
        with_peers = seed - a.first < a.peer_seeds
        for search, trials in product(a.searches, a.trials):
            rows += one(world, search, trials, seed, with_peers, a.untold)
        if a.out:  # after every seed, so that what was cut short can be read
            pd.DataFrame(rows).to_csv(a.out, index=False)
    data = pd.DataFrame(rows)
    data["archives"] = data["search"] + " " + data["trials"].astype(str)
    index = ["question", "who", "what"]
    table = data.pivot_table("value", index, "archives", sort=False)
    table["all"] = data.groupby(index, sort=False)["value"].mean()
    print(table.to_string(float_format="%.3f"))


if __name__ == "__main__":
    main()

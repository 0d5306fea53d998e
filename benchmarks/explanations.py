"""Are explanations right? Contrasts on NAS-Bench-201, where the truth is known.

    python benchmarks/explanations.py --table nasbench201-cifar10.parquet [--seeds 20] [--quick]

Archives of 100 and 300 trials by random search and by regularised evolution, see explained.py.
Of each, the incumbent and three random cells are explained: why this operation and not that, for
each of 24 edits. A contrast is the cell's accuracy minus that of the cell with the edit, in
percentage points. Edits that leave the network the same are proven by `Space.identity` and need
no model: RayNAS claims nothing there, what others claim there is wrong. Printed per method:

- precision: right directional claims / directional claims, taken from the surest until the right
  ones are 60 % of all contrasts that are not zero (- if that is never reached), and over all claims
  that the method makes without being asked for sureness;
- asserted: precision and yield of claims whose sign is wrong with a probability of 5 % at most;
- coverage of 90 % intervals, their width, and the Winkler score (width + 20 x how far the truth
  lies outside; lower is better), over the edits that are not proven to do nothing;
- rank: the mean over cells of Spearman's correlation of estimates with the truth;
- regret: the points lost by the edit that is advised among those that save 20 % of the parameters
  (least loss at the pessimistic 80 % where there are draws), against the best such edit.

`standard` is what `explanation_level="standard"` buys: three fresh readings of the incumbent.
RayNAS estimates the noise from the readings, and is told what ten classes read by chance; the row
`chance unknown` is not. SHAP runs if it is installed (the extra `bench`).
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from explained import NOISE, SEARCHES, Archive, Truth, read_truth, subjects
from machine import header
from sklearn.ensemble import RandomForestRegressor

from raynas.explanation.features import Described
from raynas.explanation.forest import columns
from raynas.explanation.surface import fit
from raynas.objective import Array
from search_spaces.nasbench201 import OPERATIONS, SPACE

SIZES = (100, 300)
CHANCE = 10.0  # percent, of ten classes
TREES = 300
TEMPLATE = {"none": 0, "avg_pool_3x3": 1, "skip_connect": 2, "nor_conv_1x1": 3, "nor_conv_3x3": 4}


@dataclass(frozen=True)
class Told:
    """What a method says of a cell's 24 contrasts; no intervals are NaN.

    Attributes:
        estimate, low, high: in points (the template: in ranks).
        doubt: the probability that the sign is wrong, or -|estimate| if there is none.
        pessimistic: the loss that is exceeded with probability 20 %.
    """

    estimate: Array
    low: Array
    high: Array
    doubt: Array
    pessimistic: Array


Explainer = Callable[[int], Told]
Method = Callable[[Truth, Archive], Explainer]


def from_draws(values: Array) -> Told:
    """From joint draws of the cell and its neighbours `[draws, 25]`."""
    contrasts = values[:, :1] - values[:, 1:]
    low, pessimistic, high = np.quantile(contrasts, [0.05, 0.8, 0.95], axis=0)
    above = (contrasts > 0).mean(axis=0)
    mean, deviation = contrasts.mean(axis=0), contrasts.std(axis=0) + 1e-12
    doubt = np.minimum(above, 1 - above) - 1e-6 * np.abs(mean) / deviation  # orders equal shares
    return Told(mean, low, high, doubt, pessimistic)


def unsure(estimate: Array) -> Told:
    """A method without intervals: it is the surer the larger the effect."""
    none = np.full(len(estimate), np.nan)
    return Told(estimate, none, none, -np.abs(estimate), estimate)


@cache
def described() -> Described:
    """Features of cells, computed once."""
    return Described(SPACE)


def around(truth: Truth, subject: int) -> list[int]:
    """The cell and its 24 neighbours."""
    return [subject, *(int(c) for c in truth.neighbours(subject))]


def raynas(truth: Truth, archive: Archive, chance: float | None = CHANCE) -> Explainer:
    """This package's posterior."""
    designs = [truth.designs[code] for code in archive.codes]
    surface = fit(SPACE, designs, archive.readings, nothing=chance, described=described())
    assert surface is not None

    def explain(subject: int) -> Told:
        codes = around(truth, subject)
        told = from_draws(surface.draws([truth.designs[code] for code in codes]))
        same = np.array([truth.identities[c] == truth.identities[subject] for c in codes[1:]])
        zero = np.where(same, 0.0, 1.0)
        doubt = np.where(same, 0.5, told.doubt)
        return Told(
            *(zero * part for part in (told.estimate, told.low, told.high)),
            doubt,
            zero * told.pessimistic,
        )

    return explain


def standard(truth: Truth, archive: Archive) -> Explainer:
    """The same after three fresh readings of the incumbent."""
    rng = np.random.default_rng((archive.seed, len(archive.codes), 7))
    fresh = truth.accuracy[archive.incumbent] + NOISE * rng.standard_normal(3)
    codes = np.append(archive.codes, [archive.incumbent] * 3)
    return raynas(truth, replace(archive, codes=codes, readings=np.append(archive.readings, fresh)))


def chance_unknown(truth: Truth, archive: Archive) -> Explainer:
    """Without being told what a network reads that computes nothing."""
    return raynas(truth, archive, chance=None)


def graph_forest(truth: Truth, archive: Archive) -> Explainer:
    """A random forest on RayNAS's features; its trees are taken for draws."""
    forest = RandomForestRegressor(TREES, max_features=0.33, random_state=archive.seed)
    read = columns(described(), [truth.designs[code] for code in archive.codes])
    forest.fit(read, archive.readings)

    def explain(subject: int) -> Told:
        x = columns(described(), [truth.designs[code] for code in around(truth, subject)])
        return from_draws(np.array([tree.predict(x) for tree in forest.estimators_]))

    return explain


def one_hot(truth: Truth, codes: Any) -> Array:
    """Which operation is on which edge `[N, 30]`."""
    chosen = truth.options[np.asarray(codes)]
    return (chosen[:, :, None] == np.arange(len(OPERATIONS))).reshape(len(chosen), -1).astype(float)


def _plain_forest(truth: Truth, archive: Archive) -> RandomForestRegressor:
    forest = RandomForestRegressor(TREES, random_state=archive.seed)
    return forest.fit(one_hot(truth, archive.codes), archive.readings)


def plain_forest(truth: Truth, archive: Archive) -> Explainer:
    """A random forest on one-hot edges; its trees are taken for draws."""
    forest = _plain_forest(truth, archive)

    def explain(subject: int) -> Told:
        x = one_hot(truth, around(truth, subject))
        return from_draws(np.array([tree.predict(x) for tree in forest.estimators_]))

    return explain


def shap_forest(truth: Truth, archive: Archive) -> Explainer:
    """The same forest by SHAP: what the edge adds in the cell, minus in its neighbour."""
    import shap

    explainer = shap.TreeExplainer(_plain_forest(truth, archive))

    def explain(subject: int) -> Told:
        values = explainer.shap_values(one_hot(truth, around(truth, subject)))
        edges = np.asarray(values).reshape(25, 6, len(OPERATIONS)).sum(axis=2)
        edge = np.repeat(np.arange(6), 4)
        return unsure(edges[0, edge] - edges[np.arange(1, 25), edge])

    return explain


def additive(truth: Truth, archive: Archive) -> Explainer:
    """Least squares on one-hot edges, with its own intervals."""
    x = one_hot(truth, archive.codes)
    inverse = np.linalg.pinv(x.T @ x)
    weights = inverse @ x.T @ archive.readings
    left = archive.readings - x @ weights
    variance = left @ left / max(len(x) - 25, 1)

    def explain(subject: int) -> Told:
        rows = one_hot(truth, around(truth, subject))
        apart = rows[:1] - rows[1:]
        deviation = np.sqrt(variance * np.einsum("ij,jk,ik->i", apart, inverse, apart))
        return _normal(apart @ weights, deviation)

    return explain


def marginal(truth: Truth, archive: Archive) -> Explainer:
    """The difference of two means over the archive."""
    chosen = truth.options[archive.codes]

    def explain(subject: int) -> Told:
        found = []
        for code in truth.neighbours(subject):
            edge = int(np.flatnonzero(truth.options[code] != truth.options[subject])[0])
            ours, theirs = (
                archive.readings[chosen[:, edge] == truth.options[c][edge]] for c in (subject, code)
            )
            if min(len(ours), len(theirs)) < 2:
                found.append((0.0, 1e3))
            else:
                error = ours.var(ddof=1) / len(ours) + theirs.var(ddof=1) / len(theirs)
                found.append((ours.mean() - theirs.mean(), float(np.sqrt(error)) + 1e-9))
        means, deviations = np.array(found).T
        return _normal(means, deviations)

    return explain


def template(truth: Truth, archive: Archive) -> Explainer:
    """3x3 over 1x1 over skip over pooling over none, whatever was read."""
    del archive
    rank = np.array([TEMPLATE[operation] for operation in OPERATIONS])

    def explain(subject: int) -> Told:
        total = rank[truth.options[around(truth, subject)]].sum(axis=1).astype(float)
        return unsure(total[0] - total[1:])

    return explain


def _normal(mean: Array, deviation: Array) -> Told:
    from scipy.stats import norm

    spread = np.maximum(deviation, 1e-9)
    doubt = norm.sf(np.abs(mean) / spread)
    low, high = mean - 1.645 * spread, mean + 1.645 * spread
    return Told(mean, low, high, doubt, mean + 0.84 * spread)


METHODS: dict[str, Method] = {
    "RayNAS, standard": standard,
    "RayNAS, brief": raynas,
    "RayNAS, brief, chance unknown": chance_unknown,
    "forest, graph features": graph_forest,
    "forest, one-hot": plain_forest,
    "forest, one-hot, SHAP": shap_forest,
    "additive least squares": additive,
    "marginal means": marginal,
    "template": template,
}


@cache
def _truth(table: Path) -> Truth:
    return read_truth(table)


def contrasts(table: Path, methods: tuple[str, ...], search: str, size: int, seed: int) -> Any:
    """All contrasts of one archive by every method, one row each."""
    truth = _truth(table)
    archive = SEARCHES[search](truth, size, seed)
    rows = []
    for method in methods:
        begun = time.perf_counter()
        explain = METHODS[method](truth, archive)
        for number, subject in enumerate(subjects(archive)):
            told, around_it = explain(subject), truth.neighbours(subject)
            same = [truth.identities[c] == truth.identities[subject] for c in around_it]
            real = truth.accuracy[subject] - truth.accuracy[around_it]
            rows.append(
                pd.DataFrame(
                    {
                        "method": method,
                        "search": search,
                        "trials": size,
                        "seed": seed,
                        "subject": number,
                        "estimate": told.estimate,
                        "low": told.low,
                        "high": told.high,
                        "doubt": told.doubt,
                        "pessimistic": told.pessimistic,
                        "truth": np.where(np.abs(real) < 1e-9, 0.0, real),
                        "proven": same,
                        "size": truth.params[around_it] / truth.params[subject],
                    }
                )
            )
        rows[-1]["seconds"] = time.perf_counter() - begun
    return pd.concat(rows)


def figures(rows: pd.DataFrame) -> dict[str, float]:
    """The columns of the table for one method."""
    truth, estimate = rows["truth"].to_numpy(), rows["estimate"].to_numpy()
    right = (np.sign(estimate) == np.sign(truth)) & (truth != 0)
    claimed, effects = estimate != 0, int((truth != 0).sum())
    doubt = rows["doubt"].to_numpy()
    order = np.argsort(np.where(claimed, doubt, np.inf), kind="stable")[: claimed.sum()]
    found = np.cumsum(right[order])
    at = int(np.searchsorted(found, 0.6 * effects))
    asserted = claimed & (doubt <= 0.05) & rows["low"].notna().to_numpy()
    open_ = rows[~rows["proven"]]
    inside, width, winkler = _intervals(open_)
    return {
        "precision at yield .6": found[at] / (at + 1) if at < len(found) else np.nan,
        "precision, all": right.sum() / max(claimed.sum(), 1),
        "asserted": right[asserted].mean() if asserted.any() else np.nan,
        "yield": right[asserted].sum() / effects,
        "coverage": inside.mean(),
        "width": width.mean(),
        "Winkler": winkler.mean(),
        "rank": float(np.mean([*_ranks(rows)])),
        "regret": float(np.mean([*_regrets(rows)])),
    }


def _intervals(rows: pd.DataFrame) -> tuple[Array, Array, Array]:
    """Whether intervals hold the truth, their widths and Winkler scores; NaN without any."""
    low, high, truth = (rows[name].to_numpy() for name in ("low", "high", "truth"))
    missed = np.maximum(np.maximum(low - truth, truth - high), 0.0)
    inside = np.where(np.isnan(low), np.nan, missed <= 1e-9)
    return inside, high - low, high - low + 20 * missed


def _ranks(rows: pd.DataFrame) -> Iterator[float]:
    for _, cell in rows.groupby(["search", "trials", "seed", "subject"]):
        ranks = cell[["estimate", "truth"]].rank()
        varies = ranks.std().min() > 0
        yield float(ranks.corr().iloc[0, 1]) if varies else 0.0


def _regrets(rows: pd.DataFrame) -> Iterator[float]:
    for _, cell in rows.groupby(["search", "trials", "seed", "subject"]):
        saving = cell[cell["size"] <= 0.8]
        if len(saving):
            advised = int(saving["pessimistic"].to_numpy().argmin())
            yield float(saving["truth"].iloc[advised] - saving["truth"].min())


def strata(rows: pd.DataFrame) -> pd.DataFrame:
    """Coverage and Winkler score per search, size and kind of cell."""
    open_ = rows[~rows["proven"]]
    inside, _, winkler = _intervals(open_)
    cell = np.where(open_["subject"] == 0, "incumbent", "random cells")
    scored = open_.assign(cell=cell, coverage=inside, Winkler=winkler)
    by = scored.groupby(["method", "search", "trials", "cell"], sort=False)
    return by[["coverage", "Winkler"]].mean().unstack("method")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="two seeds, RayNAS alone")
    given = parser.parse_args()
    methods = tuple(METHODS)
    try:
        import shap  # noqa: F401
    except ImportError:
        methods = tuple(name for name in methods if "SHAP" not in name)
    if given.quick:
        given.seeds, methods = 2, ("RayNAS, standard", "RayNAS, brief")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    archives = [*product(SEARCHES, SIZES, seeds)]
    with ProcessPoolExecutor(given.workers) as pool:
        found = [pool.submit(contrasts, given.table, methods, *archive) for archive in archives]
        rows = pd.concat([one.result() for one in found], ignore_index=True)
    header()
    by = rows.groupby("method", sort=False)
    table = pd.DataFrame({str(name): figures(part) for name, part in by}).T
    table["s"] = by["seconds"].median()
    print(table.round(3).to_string())
    print(strata(rows[rows["method"].str.startswith("RayNAS")]).round(3).to_string())


if __name__ == "__main__":
    main()

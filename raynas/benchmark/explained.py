"""Explanations scored on the table: what they claim from a search's readings against the truth.

Archives of searches are explained as a run would be; their claims are compared with the trainings
that the search did not read. Those are two or three for each design, so that this truth is noisy
itself, by a known amount:

- intervals are asked whether they hold the truth *as it was read*: they are widened by its noise
  first, which a calibrated interval survives and a wrong one does not. `floor` is the Winkler score
  that exact knowledge would have;
- a right sign may look wrong. `settled` takes the noise off the distribution of all signed
  differences (the nonparametric maximum likelihood of Kiefer & Wolfowitz 1956) and says which share
  of the signs is truly right; `as read` is the share before that, a lower bound.

Winkler's score (1972) is an interval's width, and 20 times by how much it misses; lower is better.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from scipy.stats import norm

from raynas.architecture import Architecture
from raynas.benchmark import Trained
from raynas.benchmark.replay import Reading, search
from raynas.explanation.contrasts import Edit, edits
from raynas.explanation.importance import additive
from raynas.explanation.pool import pool, wrong
from raynas.explanation.surface import fit
from raynas.objective import Array
from raynas.space import Space

SEARCHES = ("random", "evolution")
YIELD = 0.6  # of all contrasts, told and right
LEVEL = 0.9
SUBJECTS = 7  # designs explained beside the incumbent
NORMALS = norm.ppf((np.arange(16) + 0.5) / 16)  # stand for noise that is added to draws
POINTS, STEPS = 160, 300  # of the grid on which noise is taken off, and on the way there

Draw = Callable[[Sequence[Architecture]], Array]  # designs -> [S, N]; S = 1 has no doubt
Method = Callable[[Space, Sequence[Architecture], Array], Draw]


def surface(space: Space, designs: Sequence[Architecture], values: Array) -> Draw:
    """RayNAS's own: the posterior of the response surface."""
    fitted = fit(space, designs, values)
    assert fitted is not None, "too few readings"
    draw: Draw = fitted.draws
    return draw


def marginal(space: Space, designs: Sequence[Architecture], values: Array) -> Draw:
    """Common practice: an option is worth the mean reading of the designs that have it."""
    del space
    level = float(values.mean())
    worth: dict[tuple[str, object], list[float]] = {}
    for design, value in zip(designs, values, strict=True):
        for choice in design.choices:
            worth.setdefault(choice, []).append(value - level)
    means = {choice: float(np.mean(found)) for choice, found in worth.items()}

    def draw(wanted: Sequence[Architecture]) -> Array:
        return np.array([[level + sum(means.get(c, 0.0) for c in d.choices) for d in wanted]])

    return draw


METHODS: dict[str, Method] = {"raynas": surface, "marginal means": marginal}


@dataclass(frozen=True)
class Archive:
    """One search's readings, and what can be known beyond them."""

    trained: Trained
    found: Sequence[Reading]
    seed: int

    @property
    def designs(self) -> list[Architecture]:
        return [self.trained.designs[reading.place] for reading in self.found]

    @property
    def values(self) -> Array:
        return np.array([reading.value for reading in self.found])

    def subjects(self) -> list[int]:
        """The design with the best reading, then others at random: their places."""
        best = int(self.values.argmax())
        rng = np.random.default_rng((self.seed, len(self.found)))
        rest = [i for i in range(len(self.found)) if i != best]
        taken = rng.choice(rest, min(SUBJECTS, len(rest)), replace=False)
        return [self.found[i].place for i in (best, *taken)]

    def known(self) -> tuple[Array, Array]:
        """The truth of every design as the other trainings tell it, and its deviation."""
        read = np.full(len(self.trained.texts), -1)
        for reading in self.found:
            read[reading.place] = reading.seed
        counts = self.trained.seeds - (read >= 0)
        truth = self.trained.others(np.arange(len(read)), read)
        return truth, self.trained.noise / np.sqrt(counts)


def score(
    trained: Trained,
    strategy: str,
    seed: int,
    evaluations: int = 100,
    method: Method = surface,
) -> tuple[pd.DataFrame, float]:
    """The contrasts of eight designs of one search, and the fidelity of its importances.

    Columns: estimate (percentage points, as all others), wrong (the chance of a wrong sign), low
    and high (for the truth as it was read; NaN of a method without doubt), truth, deviation (of
    that truth), incumbent (whether the design with the best reading is explained).
    """
    archive = Archive(trained, search(trained, strategy, evaluations, seed), seed)
    draw = method(trained.space, archive.designs, archive.values)
    truth, deviation = archive.known()
    rows = []
    for number, place in enumerate(archive.subjects()):
        design = trained.designs[place]
        asked = list(edits(trained.space, design))
        draws = 100 * draw([design, *(d for e in asked for d in e.designs)])
        at = 1
        for edit in asked:
            change = draws[:, 0] - draws[:, at : at + len(edit.designs)].mean(axis=1)
            at += len(edit.designs)
            real, doubt = _real(trained, place, edit, truth, deviation)
            rows.append(_judged(change, real, doubt) | {"incumbent": number == 0})
    return pd.DataFrame(rows), fidelity(trained, draw)


def compared(
    trained: Trained,
    methods: Mapping[str, Method],
    searches: Sequence[str],
    seeds: Sequence[int],
    evaluations: int = 100,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """The scores of `summed`, and `importance` (`fidelity`), one row per method and search.

    Args:
        progress: is told how many archives of how many are done.
    """
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for method, name in product(methods, searches):
        parts, kept = [], []
        for seed in seeds:
            contrasts, share = score(trained, name, seed, evaluations, methods[method])
            parts.append(contrasts)
            kept.append(share)
            if progress:
                archives = len(methods) * len(searches) * len(seeds)
                progress(len(rows) * len(seeds) + len(parts), archives)
        rows[method, name] = summed(pd.concat(parts)) | {"importance": float(np.mean(kept))}
    return pd.DataFrame(rows).T


def _real(
    trained: Trained, place: int, edit: Edit, truth: Array, deviation: Array
) -> tuple[float, float]:
    """The difference that an edit truly makes, and the deviation of that, in points."""
    weights = np.zeros(len(truth))
    weights[place] = 1.0
    for design in edit.designs:
        weights[trained.place[str(design)]] -= 1 / len(edit.designs)
    return float(100 * weights @ truth), float(100 * np.linalg.norm(weights * deviation))


def _judged(change: Array, truth: float, deviation: float) -> dict[str, float]:
    estimate = float(change.mean())
    low = high = np.nan
    if len(change) > 1:
        read = (change[:, None] + deviation * NORMALS).ravel()
        low, high = np.quantile(read, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        doubt = wrong(change, estimate, float(change.std()))
    else:
        doubt = 0.5 / (1 + abs(estimate))  # only the order counts
    return {
        "estimate": estimate,
        "wrong": doubt,
        "low": low,
        "high": high,
        "truth": truth,
        "deviation": deviation,
    }


def summed(contrasts: pd.DataFrame) -> dict[str, float]:
    """The scores of many contrasts: `precision` and `as read` at yield 0.6, `coverage`, `winkler`.

    Also `floor` (of winkler), `asserted` (the precision of signs whose chance to be wrong is 5 %
    or less) and its `yield`, and `contrasts`, how many there were.
    """
    signed = np.sign(contrasts["estimate"]) * contrasts["truth"]
    deviation = contrasts["deviation"].to_numpy()
    order = np.argsort(contrasts["wrong"].to_numpy(), kind="stable")
    signs, noise = signed.to_numpy()[order], deviation[order]
    told = _at_yield(signs, noise)
    sure = (contrasts["wrong"] <= (1 - LEVEL) / 2).to_numpy()
    low, high, truth = (contrasts[c].to_numpy() for c in ("low", "high", "truth"))
    missed = np.maximum(low - truth, 0) + np.maximum(truth - high, 0)
    without = bool(np.isnan(low).any())
    asserted = np.nan if without else settled(signed.to_numpy()[sure], deviation[sure])
    exact = 2 * norm.pdf(norm.ppf((1 + LEVEL) / 2)) / ((1 - LEVEL) / 2)
    return {
        "precision": np.nan if told is None else settled(signs[:told], noise[:told]),
        "as read": np.nan if told is None else float((signs[:told] > 0).mean()),
        "asserted": asserted,
        "yield": np.nan if without else float(asserted * sure.mean()) if sure.any() else 0.0,
        "coverage": np.nan if without else float((missed == 0).mean()),
        "winkler": float((high - low + 2 / (1 - LEVEL) * missed).mean()),
        "floor": float(exact * deviation.mean()),
        "contrasts": float(len(contrasts)),
    }


def _at_yield(signs: Array, noise: Array) -> int | None:
    """How many of the surest claims are told until 0.6 of all contrasts are told and right."""
    low, high = 1, len(signs)
    if settled(signs, noise) < YIELD:
        return None
    while low < high:
        middle = (low + high) // 2
        if settled(signs[:middle], noise[:middle]) * middle >= YIELD * len(signs):
            high = middle
        else:
            low = middle + 1
    return low


def settled(signed: Array, deviation: Array) -> float:
    """Which share of noisy values is truly above 0.

    The distribution of the values without their noise is found on a grid around 0 by EM.

    Args:
        signed: the values `[N]`.
        deviation: of the noise of each `[N]`.
    """
    if not len(signed):
        return float("nan")
    reach = np.abs(signed).max() + deviation.max()
    near = np.geomspace(min(deviation.min() / 10, reach / 100), reach, POINTS // 2)
    grid = np.concatenate([-near[::-1], near])
    likely = norm.pdf((signed[:, None] - grid) / deviation[:, None]) / deviation[:, None]
    likely = np.maximum(likely, 1e-300)
    chances = np.full(len(grid), 1 / len(grid))
    for _ in range(STEPS):
        joint = likely * chances
        chances = (joint / joint.sum(axis=1, keepdims=True)).mean(axis=0)
    return float(chances[grid > 0].sum())


def importances(trained: Trained) -> Array:
    """The true share of each decision alone in what decisions alone explain `[decisions]`."""
    whole = pool(trained.space)
    rng = np.random.default_rng(0)
    shape = (64, len(trained.texts))
    noise = rng.standard_normal(shape) * trained.noise / np.sqrt(trained.seeds)
    by_noise = additive(whole, noise).variances.mean(axis=0)
    found = additive(whole, trained.readings.mean(axis=1)[None]).variances[0]
    real = np.maximum(found - by_noise, 0.0)
    return np.asarray(real / real.sum())


def fidelity(trained: Trained, draw: Draw) -> float:
    """1 minus the total variation between the importances that a method tells and the true ones."""
    whole = pool(trained.space)
    told = additive(whole, draw(whole.designs)).variances.mean(axis=0)
    told = np.maximum(told, 0.0)
    told = told / max(told.sum(), 1e-300)
    return float(1 - 0.5 * np.abs(told - importances(trained)).sum())

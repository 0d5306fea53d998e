"""What every design of a space would read, as a joint posterior, from the readings there are.

f(design) = a weighted sum of explicit functions (`basis`), whose groups have spreads of their own,
+ a term of each network and one of each kind of network, readings being f plus noise (`evidence`
says how large all these are); and from there a random part of the way to what a forest says, so
that their disagreement widens the intervals. A network's own term may be larger among designs
that are worse (or better) on the whole: a few broken designs are harder to predict than many good
ones. Draws are whole functions (Matheron's rule, Wilson et al. 2020, arXiv:2002.09309), so that
the answers to all questions agree.

A network of which nothing reaches the output is a constant, whatever else is chosen: it is kept
out of the model, and known from its own readings or from what a constant reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from raynas.architecture import Architecture
from raynas.explanation.basis import Basis, Functions
from raynas.explanation.evidence import (
    GROWS,
    TERMS,
    Index,
    Model,
    Readings,
    doubted,
    fitted,
    gathered,
    links,
)
from raynas.explanation.features import Described
from raynas.explanation.forest import grown, weight
from raynas.explanation.posterior import DRAWS, HALF, Level, Opinion, Surface, normals
from raynas.objective import Array
from raynas.space import Space

LEAST = 8  # readings below which nothing is fitted
MOST = 300  # networks from which spreads are fitted; all enter the posterior
PLAIN = 3.0  # log evidence by which another scale must be better than the metric's own
SKETCH = 160  # networks from which the scale is chosen
TILT = 0.25  # steps in which the networks' own terms grow with the level
TILTS = 3  # most steps
STEEP = 6.0  # what a tilt of 1 costs, in log evidence
SAY = 0.1  # the least part of the way to the forest, on average
ROUNDS = 4  # in which the decisions' sizes are found
DOUBT = 0.5  # how many known effects the group's common size is worth
MODELS = 10  # that the draws are made under
MOST_UNSURE = 10.0  # times that a decision's effects may vary more or less than they seem to
FREEDOM = 50.0  # of the chi-square that says how little is known of all spreads together

__all__ = ["DRAWS", "Surface", "fit"]

Extra = Callable[[Sequence[Architecture]], Array]


def fit(
    space: Space,
    designs: Sequence[Architecture],
    values: Sequence[float] | Array,
    *,
    extra: Extra | None = None,
    nothing: float | None = None,
    bounds: tuple[float, float] = (-np.inf, np.inf),
    described: Described | None = None,
) -> Surface | None:
    """The posterior from readings.

    Args:
        designs: one per reading; repeated designs are repeated readings.
        values: what was read, in the metric's unit; finite.
        extra: one more number per design that may tell, such as readings at a low fidelity.
        nothing: what a network reads that computes nothing, if that is known: an accuracy of
            1 / classes.
        bounds: what the metric may be: a share from 0 to 1.
        described: to share what has been computed of designs.

    Returns:
        None if fewer than `LEAST` readings are of networks that compute something.
    """
    described = described or Described(space)
    read = np.asarray(values, dtype=float)
    void = np.array([row.nothing for row in described.rows(designs)], dtype=bool)
    constant = np.append(read[void], [] if nothing is None else [nothing])
    if (~void).sum() < LEAST:
        return None
    live = [design for design, v in zip(designs, void, strict=True) if not v]
    readings = gathered(described, live, read[~void])
    functions = Functions(Basis(described), extra, readings.designs)
    x = functions(readings.designs)
    readings, model = _scaled(x, functions.groups, readings, bounds)
    sizes, known = _sizes(x, model, readings, described.questions)
    functions = Functions(
        Basis(described, np.sqrt(sizes)[described.questions]), extra, readings.designs
    )
    x = functions(readings.designs)
    few, places = readings.some(MOST)
    model = fitted(model.link, x[places], functions.groups, few, start=model.start, even=model.even)
    first = _posterior(described, functions, [model], x, readings, constant)
    surface = _tilted(first, x, readings, few, places, known)
    return _advised(surface, x, readings)


def _scaled(
    x: Array, groups: Mapping[str, slice], readings: Readings, bounds: tuple[float, float]
) -> tuple[Readings, Model]:
    """The scale with the most evidence, what fits on it, and the readings with their levels."""
    few, places = readings.some(SKETCH)
    plain, *others = links(readings.means, bounds)
    best = fitted(plain, x[places], groups, few, steps=30)
    readings = replace(readings, levels=best.smoothed(x, readings))
    few, places = readings.some(SKETCH)
    ahead = PLAIN
    for link in others:
        for even in (False, True):
            tried = fitted(link, x[places], groups, few, start=best.start, steps=30, even=even)
            if tried.loss + ahead < best.loss:
                best, ahead = tried, 0.0
    return readings, best


def _sizes(x: Array, model: Model, readings: Readings, questions: Index) -> tuple[Array, Array]:
    """How much the effects of each decision vary next to the others', and how far it is known.

    Most decisions may do nothing while a few do much. Each decision's variance is what its weights
    show (MacKay 1992), as far as they are known at all; else it stays that of the group.
    """
    group, amplitude = model.groups["main"], np.ones(len(x))
    main, common = x[:, group], float(model.columns[group][0])
    counts = np.bincount(questions)
    sizes, x = np.ones(len(counts)), x.copy()
    for _ in range(ROUNDS):
        x[:, group] = main * np.sqrt(sizes)[questions]
        inverse = cho_solve(
            cho_factor(model.gram(x, readings, amplitude), lower=True), np.eye(len(x))
        )
        weights = common * (x[:, group].T @ (inverse @ model.latent(readings.means)))
        known = common * np.einsum("ij,ik,kj->j", x[:, group], inverse, x[:, group], optimize=True)
        shown = np.bincount(questions, weights**2) / common * sizes
        sizes = (shown + DOUBT) / (np.bincount(questions, known) + DOUBT)
    return np.asarray(sizes), np.asarray(np.bincount(questions, known), dtype=float)


def _posterior(
    described: Described,
    functions: Functions,
    models: Sequence[Model],
    x: Array,
    readings: Readings,
    constant: Array,
    level: Level | None = None,
    tilt: float = 0.0,
) -> Surface:
    """Draws from the prior of each model, corrected by what they say of the readings.

    Every model has an equal part of the draws; the first one also speaks for all where one must.
    """
    amplitude = np.ones(len(x)) if level is None else np.exp(tilt * level(readings.designs))
    rng = np.random.default_rng(0)
    keys = {term: list(dict.fromkeys(readings.keys[term])) for term in TERMS}
    own = {t: np.array([normals(f"{t} {key}") for key in keys[t]]) for t in TERMS}
    parts: list[_Part] = []
    for model, at in zip(models, np.array_split(np.arange(HALF), len(models)), strict=True):
        mine = {term: own[term][:, at] for term in TERMS}
        parts.append(_under(model, x, readings, amplitude, mine, rng))
    weights = _spread_out([(p.weights, p.deviations) for p in parts])
    terms = {}
    for t in TERMS:
        means, apart = _spread_out([p.terms[t] for p in parts])
        known = zip(means.tolist(), apart, strict=True)
        terms[t] = dict(zip(keys[t], known, strict=True))
    counts = [p.deviations.shape[1] for p in parts]
    return Surface(
        described=described,
        functions=functions,
        model=models[0],
        weights=weights[0],
        deviations=weights[1],
        terms=terms,
        widths={t: np.repeat([m.terms[t] ** 0.5 for m in models], counts) for t in TERMS},
        constant=constant,
        level=level,
        tilt=tilt,
        spread=np.sqrt(FREEDOM / rng.chisquare(FREEDOM, HALF)),
    )


@dataclass(frozen=True)
class _Part:
    """The posterior under one model: of the functions' weights, and of each term's keys."""

    weights: Array  # [functions]
    deviations: Array  # [functions, draws]
    terms: Mapping[str, tuple[Array, Array]]  # means [keys], deviations [keys, draws]


def _under(
    model: Model,
    x: Array,
    readings: Readings,
    amplitude: Array,
    own: Mapping[str, Array],
    rng: np.random.Generator,
) -> _Part:
    """Matheron's rule; `own`: standard normal numbers of each key `[keys, draws]`."""
    factor = cho_factor(model.gram(x, readings, amplitude), lower=True)
    variances, count = model.columns, own[GROWS].shape[1]
    prior = rng.standard_normal((x.shape[1], count)) * np.sqrt(variances)[:, None]
    said = x @ prior + _scattered(model, readings, rng, count)
    known: dict[str, tuple[Array, Array]] = {}  # which rows have which key, times their size
    for term, variance in model.terms.items():
        size = amplitude if term == GROWS else np.ones(len(x))
        has = np.zeros((len(own[term]), len(x)))
        index = {key: i for i, key in enumerate(dict.fromkeys(readings.keys[term]))}
        has[[index[key] for key in readings.keys[term]], np.arange(len(x))] = size
        apart = own[term] * np.sqrt(variance)
        said += has.T @ apart
        known[term] = (variance * has, apart)
    pull = cho_solve(factor, model.latent(readings.means))
    pulls = cho_solve(factor, -said)
    terms = {t: (has @ pull, apart + has @ pulls) for t, (has, apart) in known.items()}
    weights = variances * (x.T @ pull)
    return _Part(weights, prior + variances[:, None] * (x.T @ pulls), terms)


def _spread_out(parts: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Means over all draws `[N]` and deviations from them `[N, HALF]`, given those per model."""
    drawn = np.hstack([mean[:, None] + apart for mean, apart in parts])
    means = np.hstack([np.repeat(mean[:, None], apart.shape[1], axis=1) for mean, apart in parts])
    middle = means.mean(axis=1)
    return np.asarray(middle), np.asarray(drawn - middle[:, None])


def _scattered(model: Model, readings: Readings, rng: np.random.Generator, count: int) -> Array:
    """Errors of the readings, as drawn `[N, count]`."""
    deviations = np.sqrt(model.errors(readings))
    return np.asarray(rng.standard_normal((len(deviations), count)) * deviations[:, None])


def _left_out(surface: Surface, x: Array, readings: Readings) -> tuple[Array, Array]:
    """What the surface would say of each network without its reading: means and variances.

    Rasmussen & Williams 2006, section 5.4.2; the variances are of a reading.
    """
    amplitude = surface.amplitude(readings.designs)
    gram = surface.model.gram(x, readings, amplitude)
    inverse = cho_solve(cho_factor(gram, lower=True), np.eye(len(x)))
    variances = 1 / np.diag(inverse)
    values = surface.model.latent(readings.means)
    return values - variances * (inverse @ values), variances


def _tilted(
    first: Surface,
    x: Array,
    readings: Readings,
    few: Readings,
    places: Index,
    known: Array,
) -> Surface:
    """Lets the networks' own terms grow or shrink with the level, as far as the evidence goes."""
    means, _ = _left_out(first, x, readings)
    rows = first.described.rows(readings.designs)
    expected = dict(zip([row.identity for row in rows], means.tolist(), strict=True))
    # In units of the readings' deviation, not of the means': where nothing can be predicted, a
    # network's mean without its own reading differs from others' by that reading alone.
    level = Level(first, expected, float(means.mean()))
    at = level(few.designs)

    def tried(tilt: float) -> tuple[float, Model]:
        amplitude = np.exp(tilt * at)
        model, groups = first.model, first.model.groups
        found = fitted(model.link, x[places], groups, few, amplitude, model.start, 20, model.even)
        return found.loss + STEEP * tilt**2, found

    best, tilt, model = first.model.loss, 0.0, first.model
    for step in (-TILT, TILT):
        for k in range(1, TILTS + 1):
            loss, found = tried(k * step)
            if loss >= best:
                break
            best, tilt, model = loss, k * step, found
        if tilt:
            break
    rng = np.random.default_rng(1)
    amplitude = np.exp(tilt * at)
    others = doubted(model, x[places], few, amplitude, MODELS, rng)
    group, questions = model.groups["main"], first.described.questions
    models = []
    for other in others:
        factors = np.ones(x.shape[1])
        unsure = (known + DOUBT) / rng.chisquare(known + DOUBT)
        factors[group] = np.clip(unsure, 1 / MOST_UNSURE, MOST_UNSURE)[questions]
        models.append(replace(other, factors=factors))
    given = (first.described, first.functions, models, x, readings, first.constant)
    surface = _posterior(*given, level if tilt else None, tilt)
    return replace(surface, model=model)


def _advised(surface: Surface, x: Array, readings: Readings) -> Surface:
    """Adds what a forest says, as much as it has been worth where neither saw the reading."""
    values = surface.model.latent(readings.means)
    forest = grown(surface.described, readings, values)
    own, variances = _left_out(surface, x, readings)
    unseen = np.array(list(forest.unseen.values()))
    share = max(weight(values, own, unseen, variances), SAY)
    rng = np.random.default_rng(3)
    half = rng.uniform(0, 2 * share, HALF)
    left = surface.model.errors(readings) / variances
    damped = dict(zip(forest.unseen, zip(own.tolist(), left.tolist(), strict=True), strict=True))
    shares = np.concatenate([half, 2 * share - half])
    return replace(surface, opinion=Opinion(forest, shares, damped))

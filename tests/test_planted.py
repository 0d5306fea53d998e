"""Explanations are right on planted effects, alone and together, in every ready-made space."""

from functools import cache
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

import search_spaces
from raynas.explanation.contrasts import contrasts, edits
from raynas.explanation.features import Described
from raynas.explanation.making import Maker
from raynas.explanation.pool import FAMILY_ERROR
from raynas.explanation.surface import fit
from raynas.objective import Objective

NAMES = search_spaces.names()
TRIALS, NOISE, BIG = 120, 0.01, 0.02
EFFECTS, TOGETHER = (0.06, 0.04), 0.06


@cache
def archive(name):
    """A space, what has been computed of its designs, and 120 of them drawn at random."""
    space = search_spaces.find(name)
    rng = np.random.default_rng(1)
    return space, Described(space), [space.sample(rng) for _ in range(TRIALS)]


@cache
def planted(name):
    """Sets of options with effects: two alone, and two that act together only.

    They are the decisions' upper halves, of decisions where designs of the archive differ most.
    """
    space, _, designs = archive(name)
    plain = [space.plainest(d).options for d in designs]
    upper = {d.name: set(d.options[len(d.options) // 2 :]) for d in space.decisions}
    has = {n: np.array([p.get(n) in options for p in plain]) for n, options in upper.items()}
    single = sorted(has, key=lambda n: abs(has[n].mean() - 0.5))[:2]
    rest = [n for n in has if n not in single] or single
    pairs = combinations(rest if len(rest) > 1 else list(has), 2)
    both = min(pairs, key=lambda ab: abs((has[ab[0]] & has[ab[1]]).mean() - 0.3))
    return [({n: upper[n]}, e) for n, e in zip(single, EFFECTS, strict=True)] + [
        ({n: upper[n] for n in both}, TOGETHER)
    ]


def truth(name, design):
    """What is planted: of what is left of the design where dead parts are taken out."""
    space, described, _ = archive(name)
    if described.rows([design])[0].nothing:
        return 0.0
    options = space.plainest(design).options
    parts = planted(name)
    return sum(e for p, e in parts if all(options.get(n) in some for n, some in p.items()))


def subjects(name):
    """The best design and the worst, and between them as many as make about 200 claims."""
    space, _, designs = archive(name)
    order = np.argsort([-truth(name, design) for design in designs], kind="stable")
    count = int(np.clip(200 // sum(1 for _ in edits(space, designs[order[0]])), 2, 5))
    return order[np.linspace(0, TRIALS - 1, count).astype(int)]


def mean_truth(name, designs):
    return np.mean([truth(name, design) for design in designs])


@cache
def answers(name, seed, height=1):
    """Claims about every edit of some designs `[claims]`, and the true contrasts.

    Args:
        height: of what is planted; 0 for noise alone.
    """
    space, described, designs = archive(name)
    columns = [{f"d.{n}": o for n, o in design.options.items()} for design in designs]
    trials = pd.DataFrame(columns).assign(status="finished", purpose="search")
    trials["number"], trials["architecture"] = range(TRIALS), [str(d) for d in designs]
    levels = height * np.array([truth(name, design) for design in designs])
    noise = NOISE * np.random.default_rng(seed).standard_normal(TRIALS)
    surface = fit(space, designs, 0.8 + levels + noise, described=described)
    make = Maker(Objective.parse("accuracy:max"), None, "none", None, (), TRIALS)
    claims, real = [], []
    for i in subjects(name):
        claims += contrasts(make, space, surface, trials, trials, i)
        others = [e.designs for e in edits(space, designs[i])]
        real += [truth(name, designs[i]) - mean_truth(name, some) for some in others]
    kept = [k for k, claim in enumerate(claims) if claim.tier == "estimated"]
    return [claims[k] for k in kept], height * np.round(real, 9)[kept]


def right(claims, real):
    """Whether the sign of each claim is that of the truth; of no difference there is none."""
    return np.sign([claim.estimate for claim in claims]) == np.where(
        real == 0, np.nan, np.sign(real)
    )


def asserted(claims):
    return np.array([claim.verdict == "asserts" for claim in claims])


@pytest.mark.parametrize("name", NAMES)
def test_signs_are_right(name):
    claims, real = answers(name, 0)
    big = np.abs(real) >= BIG
    assert big.sum() >= 10
    assert right(claims, real)[big].mean() >= 0.9


def test_what_is_asserted_is_right_in_all_spaces_together():
    found = [answers(name, 0) for name in NAMES]
    sure = np.concatenate([asserted(claims) for claims, _ in found])
    correct = np.concatenate([right(*one) for one in found])
    assert sure.sum() >= 100
    assert (sure & ~correct).sum() <= 0.03 * sure.sum()


def test_of_noise_nothing_is_asserted_in_more_archives_than_stated():
    """Every space's archive is one, with all claims about its designs."""
    fooled = [asserted(answers(name, 1, height=0)[0]).any() for name in NAMES]
    assert sum(fooled) <= FAMILY_ERROR * len(NAMES)

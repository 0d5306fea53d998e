"""The surface behind explanations: it knows what it knows, on planted truths and a real table."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

import search_spaces
from raynas.explanation.features import Described
from raynas.explanation.surface import DRAWS, fit

TABLE = Path(os.environ.get("RAYNAS_DATA", "absent")) / "nasbench201-cifar10.parquet"
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
CELL, CHAIN = search_spaces.find("nasbench201"), search_spaces.find("layered")


def drawn(space, number, seed=0):
    rng = np.random.default_rng(seed)
    return [space.sample(rng) for _ in range(number)]


def mixed(design):
    """Effects of single decisions, of two together and of what layers have in common."""
    layers = range(int(design["num_layers"]))
    skips = np.mean([design[f"layer{i}.skip_connection"] for i in layers])
    both = design["layer1.activation"] == "relu" and design["layer0.filter_size"] >= 64
    return 0.7 + 0.03 * np.log2(len(layers)) + 0.05 * skips - 0.05 * both


def contrasts(space, surface, truth, subjects):
    """Of every edit of the subjects: its true contrast, and draws of it `[DRAWS, edits]`."""
    real, draws = [], []
    for subject in subjects:
        others = list(space.neighbours(subject))
        values = surface.draws([subject, *others])
        draws.append(values[:, :1] - values[:, 1:])
        real += [truth(subject) - truth(other) for other in others]
    return np.array(real), np.hstack(draws)


@pytest.mark.parametrize("name", search_spaces.names())
def test_every_space_gives_features(name):
    space = search_spaces.find(name)
    described, designs = Described(space), drawn(space, 8)
    for group, columns in described.columns.items():
        values = described.group(group, designs)
        assert values.shape == (8, len(columns))
        assert np.isfinite(values).all()
        assert len(set(columns)) == len(columns)
    terms, values = described.human(designs)
    assert values.shape == (8, len(terms))
    plain = [space.plainest(design) for design in designs]
    assert np.array_equal(described.human(plain)[1], values)


def test_dead_parts_do_not_count_and_paths_do():
    described = Described(CELL)
    dead = CELL.parse(_cell("nor_conv_3x3 none none skip_connect none none"))
    bare = CELL.parse(_cell("none none none skip_connect none none"))
    deep = CELL.parse(_cell("nor_conv_3x3 none none none nor_conv_3x3 none"))
    one, other, third = described.rows([dead, bare, deep])
    assert one is other
    terms, values = described.human([bare, deep])
    depth = values[:, terms.index("longest path, operations with weights")]
    assert depth.tolist() == [0.0, 2.0]
    assert third.kind != one.kind


def _cell(operations):
    names = [d.name for d in CELL.decisions]
    return str(CELL.architecture(dict(zip(names, operations.split(), strict=True))))


def test_a_draw_is_the_same_function_in_every_call():
    designs = drawn(CELL, 60)
    values = np.random.default_rng(1).normal(90, 2, 60)
    surface, fresh = fit(CELL, designs, values), drawn(CELL, 30, seed=9)
    together = surface.draws([*fresh, *designs])
    assert together.shape == (DRAWS, 90)
    assert np.allclose(together[:, 3:9], surface.draws(fresh[3:9]))
    assert np.allclose(together[:, 31], surface.draws([designs[1]])[:, 0])
    assert np.allclose(together.mean(axis=0)[:30], surface.mean(fresh))
    again = fit(CELL, designs, values)
    assert np.array_equal(together, again.draws([*fresh, *designs]))


def test_too_few_readings_tell_nothing_and_equal_ones_no_difference():
    designs = drawn(CHAIN, 12)
    assert fit(CHAIN, designs[:7], np.arange(7.0)) is None
    surface = fit(CHAIN, designs, np.full(12, 0.5))
    assert np.allclose(surface.draws(designs), 0.5, atol=1e-3)


def test_noise_is_estimated_and_repeats_tighten():
    rng, designs = np.random.default_rng(0), drawn(CHAIN, 60)
    truth = np.array([mixed(design) for design in designs])
    once = truth + 0.02 * rng.standard_normal(60)
    more = truth + 0.02 * rng.standard_normal((3, 60))
    surface = fit(CHAIN, designs, once)
    repeated = fit(CHAIN, designs * 4, np.concatenate([once, more.ravel()]))
    assert 0.017 < repeated.noise < 0.023
    assert 0.01 < surface.noise < 0.035
    spread, tighter = (s.draws(designs).std(axis=0).mean() for s in (surface, repeated))
    assert tighter < 0.75 * spread
    error, less = (np.abs(s.mean(designs) - truth).mean() for s in (surface, repeated))
    assert less < 0.85 * error


@pytest.mark.parametrize("seed", range(2))
def test_a_null_archive_is_quiet(seed):
    rng, designs = np.random.default_rng(seed), drawn(CHAIN, 120, seed)
    surface = fit(CHAIN, designs, 0.8 + 0.01 * rng.standard_normal(120))
    _, draws = contrasts(CHAIN, surface, lambda design: 0.0, designs[:4])
    low, high = np.quantile(draws, [0.05, 0.95], axis=0)
    assert ((low <= 0) & (high >= 0)).mean() > 0.97
    assert 0.007 < surface.noise < 0.013


def test_planted_effects_are_found_and_no_others():
    rng, designs = np.random.default_rng(0), drawn(CHAIN, 200)
    truth = np.array([mixed(design) for design in designs])
    surface = fit(CHAIN, designs, truth + 0.01 * rng.standard_normal(200))
    some = [designs[i] for i in np.argsort(-truth)[[0, 40, 160, 180, 199]]]
    real, draws = contrasts(CHAIN, surface, mixed, some)
    above = (draws > 0).mean(axis=0)
    asserted, sign = np.minimum(above, 1 - above) <= 0.05, np.where(above > 0.5, 1, -1)
    big = np.abs(real) > 0.025
    assert big.sum() >= 10
    assert (asserted & (sign == np.sign(real)))[big].mean() > 0.8
    assert asserted[real == 0].mean() < 0.05


def test_intervals_cover_planted_functions():
    """Additive, pairwise and path effects at once; nominal 90 %."""
    inside, narrow = [], []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        described, designs = Described(CELL), drawn(CELL, 120, seed)
        groups = {"main": 0.6, "paths": 0.4, "structure": 0.1}
        weights = {g: s * rng.standard_normal(len(described.columns[g])) for g, s in groups.items()}

        def truth(design, described=described, weights=weights):
            parts = (described.group(g, [design])[0] @ w for g, w in weights.items())
            return float(sum(parts))

        read = np.array([truth(design) for design in designs])
        surface = fit(CELL, designs, read + 0.3 * rng.standard_normal(120))
        live = [
            d for d, row in zip(designs, described.rows(designs), strict=True) if not row.nothing
        ]
        real, draws = contrasts(CELL, surface, truth, live[:6])
        low, high = np.quantile(draws, [0.05, 0.95], axis=0)
        inside += ((low - 1e-9 <= real) & (real <= high + 1e-9)).tolist()
        narrow.append((high - low).mean() / (3.3 * read.std()))
    assert 0.82 < np.mean(inside) < 0.98
    assert np.mean(narrow) < 0.5


def test_a_network_of_nothing_is_known_by_chance_alone():
    nothing = CELL.parse(_cell("none none none none none none"))
    also = CELL.parse(_cell("nor_conv_3x3 none none none none none"))
    designs = [d for d in drawn(CELL, 50) if not Described(CELL).rows([d])[0].nothing]
    values = np.random.default_rng(0).normal(90, 1, len(designs))
    draws = fit(CELL, designs, values, nothing=10.0).draws([nothing, also])
    assert np.array_equal(draws[:, 0], draws[:, 1])
    assert abs(draws.mean() - 10) < 0.01
    read = fit(CELL, [*designs, also, nothing], [*values, 11.0, 13.0])
    assert abs(read.mean([nothing])[0] - 12) < 0.01


def test_a_further_number_per_design_helps_where_it_tells():
    rng, designs = np.random.default_rng(0), drawn(CHAIN, 200)
    hidden = {str(d): rng.standard_normal() for d in designs}

    def low_fidelity(asked):
        return np.array([hidden[str(d)] for d in asked])

    values = np.array([hidden[str(d)] for d in designs]) + 0.1 * rng.standard_normal(200)
    told = fit(CHAIN, designs[:100], values[:100], extra=low_fidelity)
    assert np.corrcoef(told.mean(designs[100:]), values[100:])[0, 1] > 0.9


@pytest.mark.skipif(not TABLE.exists(), reason="set RAYNAS_DATA to the folder with the table")
def test_contrasts_on_the_real_table(monkeypatch):
    """A part of benchmarks/explanations.py."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])
    import explanations
    import pandas as pd

    archives = [(search, size, 0) for search in ("random", "evolution") for size in (100, 300)]
    rows = [explanations.contrasts(TABLE, ("RayNAS, standard",), *a) for a in archives]
    found = explanations.figures(pd.concat(rows))
    assert found["precision at yield .6"] >= 0.93
    assert found["asserted"] >= 0.96
    assert 0.85 <= found["coverage"] <= 0.96
    assert found["Winkler"] <= 6


def test_shares_stay_shares_where_nothing_is_known():
    rng = np.random.default_rng(0)
    space = search_spaces.find("layered")
    designs = [space.sample(rng) for _ in range(16)]
    read = np.array(
        [0.1 + 0.89 * (a["num_layers"] != 2) - 0.002 * i for i, a in enumerate(designs)]
    )
    surface = fit(space, designs, read, bounds=(0.0, 1.0))
    draws = surface.draws([space.sample(rng) for _ in range(200)])
    assert draws.min() >= 0.0
    assert draws.max() <= 1.0
    wide = fit(space, designs, read).draws(designs)
    assert np.abs(wide).max() <= 4.0  # three ranges beyond what was read, at most

"""What the benchmarks of explanations share: NAS-Bench-201 as a known truth, and archives of it.

The truth of a cell is the mean of the 200-epoch test accuracies (percent) over its isomorphism
class; a trial reads the truth + N(0, 0.32), which is how much isomorphic cells differ by seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from raynas.architecture import Architecture
from raynas.objective import Array
from search_spaces.nasbench201 import SPACE, arch_str

NOISE = 0.32  # percentage points, of one reading
EDGES, OPTIONS = 6, 5
PLACES = OPTIONS ** np.arange(EDGES)[::-1]
Codes = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True)
class Truth:
    """All cells in the order of `SPACE.enumerate`, so that a cell's place is its code.

    Attributes:
        designs: `[15625]`.
        accuracy: in percent, equal within an isomorphism class.
        params: of the network as the benchmark builds it.
        options: of each cell's edges, in the order of `SPACE.decisions` `[15625, 6]`.
    """

    designs: list[Architecture]
    accuracy: Array
    params: Array
    options: np.ndarray[tuple[int, int], np.dtype[np.int64]]

    def neighbours(self, code: int) -> Codes:
        """The codes one edit away, edge by edge `[24]`."""
        own = self.options[code]
        edits = [(e, o) for e in range(EDGES) for o in range(OPTIONS) if o != own[e]]
        return np.array([code + (o - own[e]) * PLACES[e] for e, o in edits])

    @cached_property
    def identities(self) -> list[str]:
        """The networks' identities; only equal ones prove that an edit does nothing."""
        return [SPACE.identity(design) for design in self.designs]


def read_truth(table: Path) -> Truth:
    """Reads the table of all cells."""
    columns = ["arch_str", "unique_class", "cifar10_test_200ep", "params_cifar10"]
    rows = pd.read_parquet(table, columns=columns).set_index("arch_str")
    means = rows.groupby("unique_class")["cifar10_test_200ep"].transform("mean")
    designs = list(SPACE.enumerate())
    texts = [arch_str(design) for design in designs]
    codes = np.arange(len(designs))[:, None] // PLACES % OPTIONS
    params = rows["params_cifar10"].loc[texts].to_numpy(float)
    return Truth(designs, means.loc[texts].to_numpy(), params, codes)


@dataclass(frozen=True)
class Archive:
    """The trials of one search, in order: codes of cells and what was read of them."""

    search: str
    seed: int
    codes: Codes
    readings: Array

    @property
    def incumbent(self) -> int:
        """The cell with the best reading."""
        return int(self.codes[self.readings.argmax()])


def random_search(truth: Truth, trials: int, seed: int) -> Archive:
    """Different cells, drawn uniformly."""
    rng = np.random.default_rng(seed)
    codes = rng.choice(len(truth.accuracy), trials, replace=False)
    readings = truth.accuracy[codes] + NOISE * rng.standard_normal(trials)
    return Archive("random", seed, codes, readings)


def evolution(
    truth: Truth, trials: int, seed: int, population: int = 20, tournament: int = 5
) -> Archive:
    """Regularised evolution (Real et al. 2019) that reads no cell twice."""
    rng = np.random.default_rng(seed)
    codes = [int(c) for c in rng.choice(len(truth.accuracy), population, replace=False)]
    readings = [truth.accuracy[c] + NOISE * rng.standard_normal() for c in codes]
    while len(codes) < trials:
        alive = np.arange(len(codes) - population, len(codes))
        rivals = rng.choice(alive, tournament, replace=False)
        around = truth.neighbours(codes[max(rivals, key=lambda i: readings[i])])
        fresh = [c for c in around if c not in codes]
        code = int(rng.choice(fresh)) if fresh else int(rng.integers(len(truth.accuracy)))
        if code not in codes:
            codes.append(code)
            readings.append(truth.accuracy[code] + NOISE * rng.standard_normal())
    return Archive("evolution", seed, np.array(codes), np.array(readings))


SEARCHES: dict[str, Callable[[Truth, int, int], Archive]] = {
    "random": random_search,
    "evolution": evolution,
}


def subjects(archive: Archive, randomly: int = 3) -> list[int]:
    """The cells to be explained: the incumbent, then others of the archive at random."""
    rng = np.random.default_rng((archive.seed, len(archive.codes)))
    others = [int(c) for c in archive.codes if c != archive.incumbent]
    return [archive.incumbent, *(int(c) for c in rng.choice(others, randomly, replace=False))]

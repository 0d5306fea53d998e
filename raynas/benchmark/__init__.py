"""A small truth by which searches and explanations are scored in seconds.

All 1,280 designs of a part of `layered` (2 or 4 layers), each trained three times on
scikit-learn's digits by RayNAS (benchmarks/digits_table.py). A reading of a search is one of a
design's trainings, drawn at random; its truth is the mean of the others. Three trainings are few:
that mean is noisy itself, and every score here says how it takes that into account.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from raynas.architecture import Architecture
from raynas.errors import UserError
from raynas.objective import Array, Metrics
from raynas.session import Context
from raynas.space import Space

__all__ = ["DIGITS", "Trained", "read", "space", "table", "truth"]

DIGITS = Path(__file__).with_name("digits.parquet")
COLUMNS = ("architecture", "seed", "accuracy", "test_accuracy", "curve", "params", "flops")
SMOOTHING = 8  # groups of designs of similar accuracy, each with a noise of its own

Source = str | os.PathLike[str]


def table(path: Source = DIGITS) -> pd.DataFrame:
    """One row per design and seed, in the order of `Space.enumerate`.

    Columns: architecture (text), seed, accuracy and loss (validation images, after the last epoch),
    test_accuracy, test_loss, curve and loss_curve (validation, one value an epoch), params, flops,
    seconds (of a training on one core of a busy machine). Accuracies are shares of one.
    """
    return pq.read_table(_known(path)).to_pandas()  # type: ignore[no-any-return]


def space(path: Source = DIGITS) -> Space:
    """The space of the table; of the digits' table, a part of `layered` (without its code)."""
    return Space.from_dict(_about(path)["space"])


def truth(path: Source = DIGITS) -> pd.Series[float]:
    """Architecture text -> mean validation accuracy over all seeds, the best guess of its truth."""
    found = read(path)
    index = pd.Index(found.texts, name="architecture")
    return pd.Series(found.readings.mean(axis=1), index=index, name="accuracy")


@dataclass(frozen=True)
class Trained:
    """The table as arrays, one row per design.

    Attributes:
        texts: of the designs, in the order of `space.enumerate`.
        readings: validation accuracy after the last epoch, a share of one `[designs, seeds]`.
        curves: the same after every epoch `[designs, seeds, epochs]`.
        costs: `params` and `flops` of each design.
    """

    space: Space
    texts: tuple[str, ...]
    readings: Array
    curves: Array
    costs: tuple[Metrics, ...]

    @cached_property
    def place(self) -> Mapping[str, int]:
        """Where a design stands, by its text."""
        return {text: i for i, text in enumerate(self.texts)}

    @cached_property
    def designs(self) -> tuple[Architecture, ...]:
        """All designs, in order."""
        return tuple(map(self.space.parse, self.texts))

    @property
    def seeds(self) -> int:
        """Trainings of each design."""
        return int(self.readings.shape[1])

    @cached_property
    def noise(self) -> Array:
        """The deviation of one training of each design `[designs]`.

        Three readings say little of it, so that designs of similar accuracy share one.
        """
        order = np.argsort(self.readings.mean(axis=1), kind="stable")
        found = np.empty(len(order))
        for group in np.array_split(order, SMOOTHING):
            found[group] = np.sqrt(self.readings[group].var(axis=1, ddof=1).mean())
        return found

    @cached_property
    def best(self) -> float:
        """What the best design reaches: chosen by all seeds but one, and read at that one.

        The largest of a thousand noisy means lies above any design's truth.
        """
        seeds = range(self.seeds)
        chosen = [int(np.delete(self.readings, s, axis=1).mean(axis=1).argmax()) for s in seeds]
        return float(np.mean([self.readings[i, s] for i, s in zip(chosen, seeds, strict=True)]))

    def others(self, places: Any, seeds: Any) -> Array:
        """The mean over the seeds that were not read `[N]`; a seed of -1: over all."""
        places, seeds = np.asarray(places), np.asarray(seeds)
        kept = np.arange(self.seeds) != seeds[..., None]
        total = (self.readings[places] * kept).sum(axis=-1)
        return np.asarray(total / kept.sum(axis=-1))


def read(path: Source = DIGITS) -> Trained:
    """The table as arrays.

    Raises:
        UserError: the file is not there, is no such table, or misses a design.
    """
    return _read(Path(path))


@lru_cache(maxsize=4)
def _read(path: Path) -> Trained:
    rows, where = table(path), space(path)
    missing = [name for name in COLUMNS if name not in rows]
    if missing:
        raise UserError(f"{path}: expected the columns {', '.join(COLUMNS)}; got no {missing[0]}.")
    texts = tuple(str(a) for a in where.enumerate())
    seeds = sorted(set(rows["seed"]))
    rows = rows.assign(architecture=rows["architecture"].astype(str))
    rows = rows.set_index(["architecture", "seed"])
    wanted = pd.MultiIndex.from_product([texts, seeds])
    if not rows.index.is_unique or len(rows) != len(wanted) or len(seeds) < 2:
        raise UserError(
            f"{path}: expected each of {len(texts)} designs with two or more seeds, once each; "
            f"got {len(rows)} rows, {len(seeds)} seeds. Make it with benchmarks/digits_table.py."
        )
    rows = rows.loc[wanted]
    shape = (len(texts), len(seeds))
    firsts = rows[["params", "flops"]].astype(float).iloc[:: len(seeds)]
    return Trained(
        where,
        texts,
        rows["accuracy"].to_numpy(float).reshape(shape),
        np.array(rows["curve"].tolist(), float).reshape(*shape, -1),
        tuple({"params": p, "flops": f} for p, f in firsts.itertuples(index=False)),
    )


@dataclass(frozen=True)
class Replayed:
    """The table as an evaluator: answers with one of a design's trainings, drawn by the seed."""

    trained: Trained
    metrics: frozenset[str] | None = frozenset({"accuracy", "params", "flops"})
    split: str = ""

    @property
    def epochs(self) -> int:
        return int(self.trained.curves.shape[2])

    def costs(self, architecture: Architecture) -> Metrics:
        return self.trained.costs[self.trained.place[str(architecture)]]

    def drawn(self, seed: int) -> int:
        """Which training an evaluation under a seed reads."""
        return int(np.random.default_rng(seed).integers(self.trained.seeds))

    def evaluate(
        self, architecture: Architecture, context: Context
    ) -> Generator[Metrics, None, None]:
        place = self.trained.place[str(architecture)]
        for reading in self.trained.curves[place, self.drawn(context.seed)]:
            yield {"accuracy": float(reading)}


def _known(path: Source) -> Source:
    if not Path(path).is_file():
        raise UserError(f"expected a table of trained designs; nothing is at {path}.")
    return path


def _about(path: Source) -> dict[str, Any]:
    """What the file says of itself: its space, data and recipe."""
    metadata = pq.read_schema(_known(path)).metadata or {}
    if b"raynas" not in metadata:
        raise UserError(
            f"{path}: expected a table of benchmarks/digits_table.py, which names its space."
        )
    return dict(json.loads(metadata[b"raynas"]))

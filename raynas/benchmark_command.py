"""The command that scores strategies, or explanations, on the table of trained designs."""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from raynas import benchmark as trained
from raynas.catalogue import wide_console
from raynas.errors import UserError, unknown
from raynas.progress import Display
from raynas.strategies import ANYWHERE

LEAST = 20  # evaluations from which anything can be explained
STRATEGIES_SAY = (
    "Truth in % of the design with the best reading after so many evaluations, and in points what "
    "the best of all reaches more (regret) and what that reading promised more (excess): means of "
    "{seeds} searches ± their standard error. A search reads one training of a design; its truth "
    "is the mean of the others."
)
EXPLANATIONS_SAY = (
    "Every edit of the best design and seven others of each archive. precision: of directions, "
    "told until 60 % of all are told and right, the noise of the truth taken off (as read: before "
    "that). asserted: of directions with a chance of 5 % or less to be wrong, which are right for "
    "this yield of all edits. coverage and winkler (points): of 90 % intervals for what the other "
    "trainings read; floor: exact knowledge. importance: 1 minus the total variation of the "
    "decisions' shares of variance."
)


def benchmark(a: argparse.Namespace) -> int:
    table = trained.read(a.table or trained.DIGITS)
    for name in a.strategy or ():
        if name.partition(":")[0] not in ANYWHERE:
            raise unknown("strategy", name, list(ANYWHERE))
    console = Console(markup=False)
    _say(
        console,
        f"{table.space.size:,} designs of {table.space.name}{'' if a.table else ' on digits'}, "
        f"{table.seeds} trainings each: the best reaches {100 * table.best:.1f} %, one training "
        f"deviates by {100 * np.sqrt((table.noise**2).mean()):.1f} points.",
    )
    return (_explanations if a.explanations else _strategies)(a, console, table)


def _strategies(a: argparse.Namespace, console: Console, table: trained.Trained) -> int:
    from raynas.benchmark.replay import USUAL, scores

    names, seeds = a.strategy or USUAL, range(a.seeds or 10)
    told: dict[str, pd.DataFrame] = {}
    with Display(console).counting(f"{len(seeds)} searches by each strategy") as progress:
        for i, name in enumerate(names):
            told[name] = scores(table, name, seeds, a.evaluations or 100)
            progress(i + 1, len(names))
    shown = Table("strategy", box=None, padding=(0, 2))
    columns = [str(name) for name in next(iter(told.values()))]
    for column in columns:
        shown.add_column(column, justify="right")
    for name, found in told.items():
        error = found.std(ddof=0) / max(len(found) - 1, 1) ** 0.5
        shown.add_row(name, *(f"{found[c].mean():.2f} ± {error[c]:.2f}" for c in columns))
    wide_console().print(shown)
    _say(console, STRATEGIES_SAY.format(seeds=len(seeds)))
    return 0


def _explanations(a: argparse.Namespace, console: Console, table: trained.Trained) -> int:
    from raynas.benchmark.explained import METHODS, SEARCHES, compared

    seeds, evaluations = range(a.seeds or 5), a.evaluations or 100
    if evaluations < LEAST:
        raise UserError(f"--evaluations: expected {LEAST} or more; got {evaluations}.")
    title = f"{len(seeds)} archives of {evaluations} trials by each search"
    with Display(console).counting(title) as progress:
        found = compared(table, METHODS, a.strategy or SEARCHES, seeds, evaluations, progress)
    shown = Table("explained by", "archives of", box=None, padding=(0, 2))
    for column in found:
        shown.add_column(str(column), justify="right")
    places = {"winkler": 2, "floor": 2, "contrasts": 0}
    for (method, name), (_, row) in zip(found.index, found.iterrows(), strict=True):
        cells = ("–" if np.isnan(v) else f"{v:.{places.get(str(c), 3)}f}" for c, v in row.items())
        shown.add_row(str(method), str(name), *cells)
    wide_console().print(shown)
    _say(console, EXPLANATIONS_SAY)
    return 0


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=not console.is_terminal)

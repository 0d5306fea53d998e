"""The commands of latency tables: measure one, and check what its estimates are worth."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from raynas.choices import as_space
from raynas.errors import UserError
from raynas.progress import Display

GOALS = "goals: a rank correlation of 0.95, half within 10 %"


def latency(a: argparse.Namespace) -> int:
    return {"measure": measure, "check": check}[a.what](a)


def measure(a: argparse.Namespace) -> int:
    from raynas.latency.measuring import measure

    space, out = as_space(a.space, a.input, a.classes), Path(a.out)
    if space.build is None:
        raise UserError(f"{a.space}: expected a space that builds networks. See `raynas spaces`.")
    console = Console(markup=False)
    with Display(console).counting(f"operations of {space.name} on {a.device}") as progress:
        table = measure(
            space, a.input, a.classes, out, a.device, progress, a.samples, a.seed, a.threads
        )
    assert table.fit is not None
    share = (table.about or {})["missing_share"]
    for text in (
        f"{len(table.times)} operations and {table.fit.designs} whole designs, whose latency they "
        f"tell with a median error of {100 * table.fit.error:.1f} %.",
        f"At most {100 * share:.0f} % of the space's designs need an operation that is not there.",
        f"{out}: raynas search --latency-table {out} --objective latency_ms:min ...",
        f"On other designs: raynas latency check {out} --space {a.space}",
    ):
        console.print(text, highlight=False, soft_wrap=True)
    return 0


def check(a: argparse.Namespace) -> int:
    from scipy.stats import spearmanr

    from raynas.latency.measuring import check
    from raynas.latency.table import LatencyTable

    table = LatencyTable.read(a.table)
    about = table.about or {}
    shape, classes = tuple(about["input_shape"]), about["num_classes"]
    space = as_space(a.space, shape, classes)
    console = Console(markup=False)
    with Display(console).counting(f"{a.designs} random designs of {space.name}") as progress:
        found, missing = check(table, space, shape, classes, a.designs, a.seed, progress)
    error = (found["estimate_ms"] / found["measured_ms"] - 1).abs()
    rank = float(spearmanr(found["estimate_ms"], found["measured_ms"]).statistic)
    shown = Table("design", box=None, padding=(0, 2))
    for title in ("estimate", "measured", "error"):
        shown.add_column(title, justify="right")
    by_time = found.sort_values("measured_ms")
    for place, name in ((0, "quickest"), (len(found) // 2, "median"), (-1, "slowest")):
        row = by_time.iloc[place]
        off = row["estimate_ms"] / row["measured_ms"] - 1
        times = (f"{row[key]:.2f} ms" for key in ("estimate_ms", "measured_ms"))
        shown.add_row(name, *times, f"{100 * off:+.1f} %")
    console.print(shown)
    console.print(
        f"{len(found)} random designs, none of those that the table was fitted to: rank "
        f"correlation {rank:.3f}, half within {100 * error.median():.1f} %, nine in ten within "
        f"{100 * error.quantile(0.9):.1f} % ({GOALS}).",
        highlight=False,
        soft_wrap=True,
    )
    if missing:
        console.print(
            f"{missing} other designs need an operation that is not in the table: measure more, "
            "with a larger --samples and the same --out.",
            highlight=False,
            soft_wrap=True,
        )
    if table.note:
        console.print(f"This table is {table.note}.", highlight=False)
    return 0

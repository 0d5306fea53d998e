"""The device that a search is for, and the table that tells how long a design takes there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raynas.errors import UserError
from raynas.evaluation import TrainingEvaluator
from raynas.files import move, place, write_atomically
from raynas.objective import COUNTS, TOLD
from raynas.problem import Problem

if TYPE_CHECKING:
    from raynas.costs import Latencies
    from raynas.latency import LatencyTable
    from raynas.space import Shape, Space

FILE = "latency.parquet"  # of a run: the table that its designs are judged by
UNFINISHED = "latency.part.parquet"
DESIGNS = 200  # that a search looks for calls in before it begins; others are measured as they come


def wanted(problem: Problem, latency_table: str | Path | None = None) -> tuple[str, ...]:
    """The costs that each design is to be told beforehand."""
    names = {o.name for o in problem.objectives} | {c.metric for c in problem.constraints}
    names |= {"latency_ms"} if latency_table else set()
    return (*COUNTS, *(name for name in TOLD if name in names))


def beforehand(problem: Problem) -> tuple[str, ...]:
    """Those that need no table."""
    return tuple(name for name in wanted(problem) if name != "latency_ms")


def settings_of(
    problem: Problem, latency_table: str | Path | None = None
) -> dict[str, str | None] | None:
    """What a run keeps about latencies: `device`, `table` (where it came from) and `note`.

    None where nobody asks for them.

    Raises:
        UserError: the table is of another device, or there is none and none can be measured.
    """
    if "latency_ms" not in wanted(problem, latency_table):
        return None
    device: str | None = problem.target_device
    if latency_table:
        table = read(latency_table)
        if device not in (None, "mobile", table.device):
            raise UserError(
                f"--latency-table {latency_table}: expected a table of {device}, the target "
                f"device; got one of {table.device}. Change one of them."
            )
        device = device or table.device
        return {"device": device, "table": str(latency_table), "note": table.note}
    if device == "mobile":
        from raynas.latency import mobile

        return {"device": device, "table": None, "note": mobile().note}
    if device == "cuda" and not _has_cuda():
        raise UserError(
            "target device cuda: expected a latency table, as there is no CUDA device here to "
            "measure one on. Give --latency-table FILE (`raynas latency measure --device cuda`)."
        )
    return {"device": device or "cpu", "table": None, "note": ""}


def ready(settings: Mapping[str, Any], run: Path | None = None) -> Latencies | None:
    """The estimates that need no measuring: a table that is there, or those of `mobile`.

    Args:
        settings: what `settings_of` returned.
        run: whose own copy of the table comes first.
    """
    if run is not None and (run / FILE).exists():
        return read(run / FILE) if settings["table"] else _own(run)
    if settings["table"]:
        return read(settings["table"])
    if settings["device"] == "mobile":
        from raynas.latency import mobile

        return mobile()
    return None


def read(path: str | Path) -> LatencyTable:
    """A latency table from a file.

    Raises:
        UserError: there is none, or it is broken.
    """
    from raynas.latency import LatencyTable

    return LatencyTable.read(path)


def told(evaluator: TrainingEvaluator, table: Latencies) -> TrainingEvaluator:
    """The evaluator that tells each design's latency by this table as well."""
    names = dict.fromkeys((*evaluator.told, "latency_ms"))
    return replace(evaluator, told=tuple(names), table=table)


def measured_first(
    run: Path,
    settings: Mapping[str, Any],
    space: Space,
    input_shape: Shape,
    num_classes: int,
    progress: Callable[[int, int], None] | None,
    seed: int,
) -> Latencies:
    """Measures the run's own table; goes on where an interrupted measuring was."""
    from raynas.latency import measure

    device, part = settings["device"], run / UNFINISHED
    measure(
        space, input_shape, num_classes, part, device, progress=progress, samples=DESIGNS, seed=seed
    )
    move(part, run / FILE)
    return _own(run)


def _own(run: Path) -> Latencies:
    """The table that the run measured itself, which grows with what its designs need."""
    from raynas.latency import GrowingTable

    return GrowingTable(run / FILE, read(run / FILE))


def keep(run: Path, settings: Mapping[str, Any]) -> None:
    """Copies a table that was given into the run, which then needs it no more."""
    if settings["table"] and not (run / FILE).exists():
        write_atomically(run / FILE, place(settings["table"]).read_bytes())


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()

"""The front of a run, measured end to end: what the estimates that it was chosen by are worth.

`measured.parquet` in the run holds one row per design of the front and cost: number, metric,
estimate, measured (null where it cannot be measured here), device and note.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from raynas.files import read_table, write_table
from raynas.objective import TOLD, Constraint, figure
from raynas.run import RunInfo

if TYPE_CHECKING:
    from torch import nn

    from raynas.result import SearchResult
    from raynas.space import Shape

FILE = "measured.parquet"
SCHEMA = pa.schema(
    [
        ("number", pa.int64()),
        ("metric", pa.string()),
        ("estimate", pa.float64()),
        ("measured", pa.float64()),
        ("device", pa.string()),
        ("note", pa.string()),
    ]
)
MOST = 100  # designs of a front that are measured
SECONDS = 0.5  # that each is timed for
TOLERANCE = 0.1  # by which a measurement may be beyond a hard limit before it is said
FAR = 0.25  # of a median error from which the table itself is in doubt
CHUNK = 25  # networks in memory at once; they take turns, so that all meet the same load


def read(run: Path) -> pd.DataFrame:
    """What was measured when the search last ended; empty if nothing was."""
    path = run / FILE
    table = read_table(path) if path.exists() else SCHEMA.empty_table()
    data: pd.DataFrame = table.to_pandas()
    return data


def measure_front(result: SearchResult, table: Any = None) -> None:
    """Measures the costs that the search asked for, of the networks as they would be deployed.

    Args:
        table: that told the latencies, if any did; its number of threads is used.
    """
    front = result.front().head(MOST)
    names = [n for n in TOLD if f"m.{n}" in front and front[f"m.{n}"].notna().any()]
    if not names or not len(front):
        return
    device, note = _where(result.info, table)
    timed = "latency_ms" in names and not note
    threads = (table.threads if table is not None else 0) or 1
    numbers = [int(n) for n in front["number"]]
    rows: list[dict[str, Any]] = []
    estimates = front.set_index("number").to_dict("index")
    for i in range(0, len(numbers), CHUNK):
        some = numbers[i : i + CHUNK]
        found = _measure(result, some, names, device, threads if timed else None)
        for name in names:
            for number, value in zip(some, found[name], strict=True):
                rows.append(
                    {
                        "number": number,
                        "metric": name,
                        "estimate": float(estimates[number][f"m.{name}"]),
                        "measured": value,
                        "device": _machine(device),
                        "note": note if value is None else "",
                    }
                )
    write_table(result.path / FILE, pa.Table.from_pylist(rows, schema=SCHEMA))


def _where(info: RunInfo, table: Any) -> tuple[str, str]:
    """The device to measure on, and why a latency cannot be; '' if it can."""
    import torch

    device = (info.settings.get("latency") or {}).get("device") or "cpu"
    if device == "mobile":
        return "cpu", "not measured: the target device is not this machine"
    if device == "cuda" and not torch.cuda.is_available():
        return "cpu", "not measured: there is no CUDA device here"
    machine = str((getattr(table, "about", None) or {}).get("machine", ""))
    if machine and not machine.startswith(here := _machine(device).partition(", ")[2]):
        return device, f"not measured: the table is of another machine ({machine}; this is {here})"
    return device, ""


def _measure(
    result: SearchResult,
    numbers: Sequence[int],
    names: Sequence[str],
    device: str,
    threads: int | None,
) -> dict[str, list[float | None]]:
    """Values by metric, in the order of the trials; without threads no latencies."""
    from raynas.compression import deployed
    from raynas.costs import KB
    from raynas.latency import latencies_ms

    shape = tuple(result.info.data["input_shape"])
    trained = [result.get_model(number) for number in numbers]
    found: dict[str, list[float | None]] = {name: [None] * len(numbers) for name in names}
    if "model_size_kb" in names:
        files = [result.path / f"models/{number}.safetensors" for number in numbers]
        found["model_size_kb"] = [file.stat().st_size / KB for file in files]
    plain = [deployed(model).eval().to(device) for model in trained]
    if "peak_memory_mb" in names:
        found["peak_memory_mb"] = [measured_memory_mb(model, shape) for model in plain]
    if threads is not None:
        found["latency_ms"] = list(latencies_ms(plain, shape, seconds=SECONDS, threads=threads))
    return found


def measured_memory_mb(model: nn.Module, input_shape: Shape) -> float:
    """The most memory that torch's allocator held during a pass of one image, in 10^6 bytes.

    Weights and image included. On the CPU by the allocations that torch's profiler saw, which
    are those of kernels for themselves too, such as a convolution's unfolded image.
    """
    import torch

    weights = [*model.parameters(), *model.buffers()]
    device = weights[0].device if weights else torch.device("cpu")
    images = torch.zeros(1, *input_shape, device=device)
    held = sum(t.untyped_storage().nbytes() for t in [*weights, images])
    with torch.no_grad():
        model(images)
        if device.type == "cuda":
            before = torch.cuda.memory_allocated(device)
            torch.cuda.reset_peak_memory_stats(device)
            model(images)
            return float(held + torch.cuda.max_memory_allocated(device) - before) / 1e6
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own messages
        with torch.profiler.profile(profile_memory=True) as profile:
            kept = model(images)
        del kept
    assert profile.profiler is not None
    assert profile.profiler.kineto_results is not None
    events = profile.profiler.kineto_results.events()
    changes = [e.nbytes() for e in events if e.name() == "[memory]"]
    return float(held + max([0, *np.cumsum(changes)])) / 1e6


def errors(rows: pd.DataFrame, metric: str) -> pd.Series:
    """By how much each estimate is above the measurement, as a share of the measurement."""
    some = rows[(rows["metric"] == metric) & rows["measured"].notna()].set_index("number")
    gap: pd.Series = (some["estimate"] - some["measured"]) / some["measured"]
    return gap


def beyond(rows: pd.DataFrame, constraints: Sequence[Constraint]) -> list[str]:
    """Says which designs break a hard limit when they are measured, by more than TOLERANCE."""
    said = []
    for c in constraints:
        some = rows[(rows["metric"] == c.metric) & rows["measured"].notna()]
        values = zip(some["number"], some["measured"], strict=True)
        far = [(n, v) for n, v in values if c.excess({c.metric: v}) > TOLERANCE * abs(c.bound)]
        said += [
            f"trial {n} has {c.metric} {figure(v)} when measured, beyond {c} "
            f"by more than {100 * TOLERANCE:.0f} %"
            for n, v in far
        ]
    return said


def sentences(rows: pd.DataFrame, info: RunInfo) -> list[str]:
    """What the measurements say, in words."""
    said = []
    for name in dict.fromkeys(rows["metric"]):
        found = errors(rows, name).abs()
        some = rows[rows["metric"] == name]
        if not len(found):
            said.append(f"{name}: {some['note'].iloc[0]}.")
            continue
        limits = [c for c in info.constraints if c.metric == name]
        kept = [c for c in limits if not beyond(some, [c])]
        held = f"; all keep {kept[0]} within {100 * TOLERANCE:.0f} %" if kept else ""
        designs = "1 design" if len(found) == 1 else f"{len(found)} designs"
        said.append(
            f"{name} of the front, measured end to end ({some['device'].iloc[0]}, {designs}): the "
            f"estimates are off by {100 * found.median():.1f} % in the median, at most by "
            f"{100 * found.max():.1f} %{held}."
        )
        if name == "latency_ms" and found.median() > FAR:
            said.append(
                "So far off, the latency table was measured while something else ran, or the front "
                "was: measure the table anew (`raynas latency measure`)."
            )
    said += [f"{text[0].upper()}{text[1:]}." for text in beyond(rows, info.constraints)]
    note = (info.settings.get("latency") or {}).get("note")
    return [*said, f"latency_ms is {note}."] if note else said


def _machine(device: str) -> str:
    if device == "cuda":
        import torch

        return f"cuda, {torch.cuda.get_device_name()}"
    return f"{device}, {_processor()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()

"""Makes a latency table: finds the calls that a space can need, times each, and fits the sum."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from scipy.stats import beta
from torch import nn

from raynas.architecture import Architecture
from raynas.compression import deployed
from raynas.errors import UserError
from raynas.latency.calls import Call, calls_of
from raynas.latency.clock import in_turns, latencies_ms
from raynas.latency.fitting import features, fitted
from raynas.latency.table import LatencyTable, read, write
from raynas.space import Shape, Space

T = TypeVar("T")
Row = dict[str, Any]
Build = Callable[[Architecture], nn.Module]
Progress = Callable[[int, int], None]  # so many steps done, of so many

WHOLE = 60  # designs that are measured whole, for the model of what the sum leaves out
QUIET = 100  # designs in a row without a new call: then the space's calls are known
SECONDS = 0.01  # to measure a call
WHOLE_SECONDS = 0.1  # to measure a network
AT_ONCE = 100  # calls that take turns, and are written together


def measure(
    space: Space,
    input_shape: Shape,
    num_classes: int,
    out: Path,
    device: str = "cpu",
    progress: Progress | None = None,
    samples: int = 1000,
    seed: int = 0,
    threads: int = 1,
) -> LatencyTable:
    """Measures the calls of a space's designs, one image at a time, and some designs whole.

    What is in `out` already is not measured again: an interrupted measurement goes on.

    Args:
        space: its designs are drawn until QUIET in a row make no new call.
        input_shape: (channels, height, width) of an image.
        num_classes: outputs of the networks.
        out: the table's file.
        device: cpu or cuda.
        progress: is told the steps done and their number.
        samples: the most designs to draw.
        seed: of the draws.
        threads: on the processor; a phone's or a server's share is one.

    Raises:
        UserError: `out` holds another measurement, or there is no such device here.
    """
    head = _head(space, input_shape, num_classes, device, threads)
    rows = _begun(out, head)
    build = _built(space, input_shape, num_classes)

    @cache
    def calls(design: Architecture) -> list[Call]:
        return calls_of(lambda: build(design), input_shape)

    designs = [_drawn(space, seed, i) for i in range(WHOLE)]
    needed: dict[str, Call] = {}
    for design in designs:
        needed |= {call.text: call for call in calls(design)}
    head["missing_share"] = _complete(space, calls, needed, samples, seed)
    missing = [call for text, call in needed.items() if text not in rows]
    done, steps = len(needed) - len(missing), len(needed) + WHOLE

    def advance(further: int) -> None:
        nonlocal done
        done += further
        if progress:
            progress(done, steps)

    advance(0)
    for some in _in_groups(missing, AT_ONCE):
        rows |= _timed(some, device, threads)
        write(out, pd.DataFrame(list(rows.values())), head)
        advance(len(some))
    times = {text: row["median_ms"] for text, row in rows.items()}
    whole: dict[str, float] = {}
    for few in _in_groups(designs, 10):
        whole |= _whole(build, few, input_shape, device, threads)
        advance(len(few))
    fit = fitted([features(calls(d), times) for d in designs], [whole[str(d)] for d in designs])
    write(out, pd.DataFrame(list(rows.values())), {**head, "fit": asdict(fit), "whole": whole})
    return LatencyTable.read(out)


def check(
    table: LatencyTable,
    space: Space,
    input_shape: Shape,
    num_classes: int,
    designs: int = 50,
    seed: int = 1,
    progress: Progress | None = None,
) -> tuple[pd.DataFrame, int]:
    """Estimates and measurements of random designs that the table was not fitted to.

    Returns:
        One row per design: `architecture`, `estimate_ms`, `measured_ms`; and how many designs
        were drawn beside them that the table lacks an entry for.

    Raises:
        UserError: it lacks one for most designs, or its device is not here.
    """
    require(table.device)
    build = _built(space, input_shape, num_classes)
    drawn: list[Architecture] = []
    estimates: list[float] = []
    missing = 0
    while len(drawn) < designs:
        design = _drawn(space, seed + 1_000_000, len(drawn) + missing)
        try:
            estimates.append(table.estimate(partial(build, design), input_shape))
        except UserError:
            missing += 1
            if missing > designs:  # such a table is for something else
                raise
        else:
            drawn.append(design)
    measured: dict[str, float] = {}
    for few in _in_groups(drawn, 10):
        measured |= _whole(build, few, input_shape, table.device, table.threads)
        if progress:
            progress(len(measured), designs)
    times = [measured[str(d)] for d in drawn]
    texts = [str(d) for d in drawn]
    columns = {"architecture": texts, "estimate_ms": estimates, "measured_ms": times}
    return pd.DataFrame(columns), missing


@dataclass
class GrowingTable:
    """The table of a search on the device where it was measured: what a design needs beside it
    is measured then and kept, for no sample of a large space knows all of its calls.

    Attributes:
        path: the table's file.
        table: as it is now.
    """

    path: Path
    table: LatencyTable

    @property
    def device(self) -> str:
        return self.table.device

    @property
    def threads(self) -> int:
        return self.table.threads

    @property
    def note(self) -> str:
        return self.table.note

    @property
    def about(self) -> Mapping[str, Any] | None:
        return self.table.about

    def estimate(self, build: Callable[[], nn.Module], input_shape: Shape) -> float:
        """As `LatencyTable.estimate`.

        Raises:
            UserError: a call is not known and this is another machine than the table's.
        """
        calls = calls_of(build, input_shape)
        new = {call.text: call for call in calls if call.text not in self.table.times}
        if new and (self.table.about or {}).get("machine") == _machine(self.device):
            rows, head = read(self.path)
            more = pd.DataFrame(list(_timed([*new.values()], self.device, self.threads).values()))
            write(self.path, pd.concat([rows, more], ignore_index=True), head)
            self.table = LatencyTable.read(self.path)
        return self.table.of_calls(calls)


def require(device: str) -> None:
    """Refuses a device that is not here.

    Raises:
        UserError: it is neither cpu nor cuda, or there is no GPU.
    """
    if device not in ("cpu", "cuda"):
        raise UserError(
            f"expected a device that can be measured here, cpu or cuda; got {device!r}. For "
            "others, bring a table that was measured there."
        )
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("expected a GPU for device cuda; there is none here. Take --device cpu.")


def _head(
    space: Space, input_shape: Shape, num_classes: int, device: str, threads: int
) -> dict[str, Any]:
    require(device)
    return {
        "device": device,
        "threads": threads,
        "space": space.name,
        "input_shape": list(input_shape),
        "num_classes": num_classes,
        "batch": 1,
        "machine": _machine(device),
        "torch": torch.__version__,
    }


def _machine(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else _processor()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def _in_groups(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for first in range(0, len(values), size):
        yield values[first : first + size]


def _begun(out: Path, head: Mapping[str, Any]) -> dict[str, Row]:
    """The rows of an earlier measurement of the same, by their calls."""
    if not out.exists():
        return {}
    rows, found = read(out)
    for name, value in head.items():
        if found.get(name) != value:
            raise UserError(
                f"{out}: expected a table to go on with, of {name} {value}; it is of "
                f"{found.get(name)}. Give another file to --out."
            )
    return {
        str(row["call"]): {str(k): v for k, v in row.items()} for row in rows.to_dict("records")
    }


def _built(space: Space, input_shape: Shape, num_classes: int) -> Build:
    """Makes networks as they run where they are used: rounded and pruned for all."""
    build = space.build
    assert build is not None, "only a space that builds networks has a latency"
    return lambda design: deployed(build(design, input_shape, num_classes))


def _drawn(space: Space, seed: int, number: int) -> Architecture:
    return space.plainest(space.sample(np.random.default_rng((seed, number))))


def _complete(
    space: Space,
    calls: Callable[[Architecture], list[Call]],
    needed: dict[str, Call],
    samples: int,
    seed: int,
) -> float:
    """Adds the calls of random designs, until QUIET in a row need no more or `samples` are drawn.

    Returns:
        A bound, at 95 %, of the share of designs that need more still, judged by the last QUIET.
    """
    lately: list[bool] = []
    for number in range(WHOLE, max(samples, WHOLE + 1)):
        made = {call.text: call for call in calls(_drawn(space, seed, number))}
        lately = [*lately[1 - QUIET :], not made.keys() <= needed.keys()]
        needed |= made
        if len(lately) == QUIET and not any(lately):
            break
    # Clopper and Pearson's bound for so many misses among so many: 3 % for none in a hundred.
    misses, drawn = sum(lately), len(lately)
    return 1.0 if misses == drawn else float(beta.ppf(0.95, misses + 1, drawn - misses))


def _timed(calls: Sequence[Call], device: str, threads: int) -> dict[str, Row]:
    with torch.inference_mode():
        times = in_turns([call.on(device) for call in calls], SECONDS, threads, device)
    return {c.text: _row(c, t, threads) for c, t in zip(calls, times, strict=True)}


def _row(call: Call, times: Sequence[float], threads: int) -> Row:
    """A call as a row: what it is, and the quickest turn's median beside what is usual."""
    first, output = call.tensors[0].shape, call.output.shape
    channels = 1 if len(first) == 4 else -1  # of images; tokens have theirs at the end
    return {
        "call": call.text,
        "operation": call.operation,
        "channels_in": first[channels] if first else 1,
        "channels_out": output[channels] if len(output) > 1 else 1,
        "size_in": "x".join(map(str, first[2:] if channels == 1 else first[1:-1])),
        **call.options(),
        "batch": 1,
        "dtype": str(call.tensors[0].dtype).removeprefix("torch."),
        "threads": threads,
        "median_ms": min(times),
        "spread_ms": float(np.median(times) - min(times)),
    }


def _whole(
    build: Build,
    designs: Sequence[Architecture],
    input_shape: Shape,
    device: str,
    threads: int,
) -> dict[str, float]:
    """Milliseconds of whole networks, by their designs' texts."""
    networks = [build(design).to(device) for design in designs]
    times = latencies_ms(networks, input_shape, seconds=WHOLE_SECONDS, threads=threads)
    return {str(d): t for d, t in zip(designs, times, strict=True)}

"""A latency table: what each call takes on a device, in Parquet, and the estimates made from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from torch import nn

from raynas.errors import UserError
from raynas.files import place, read_table, write_table
from raynas.latency.calls import Call, calls_of
from raynas.latency.fitting import Fit, features
from raynas.remote import StoreError
from raynas.space import Shape

COLUMNS = ("call", "operation", "median_ms", "spread_ms")  # which a table must have
KEY = b"raynas.latency"  # of the file's metadata


@dataclass(frozen=True)
class LatencyTable:
    """What single calls take, and how that adds up to a network.

    Attributes:
        device: cpu, cuda or mobile.
        times: milliseconds of each call of one image, by its text.
        fit: how they add up; None: they are summed.
        threads: on the processor, with which it was measured; 0 where there are none.
        note: '' or what a report must say of the estimates.
        about: where it was measured: machine, versions, space, images.
    """

    device: str
    times: Mapping[str, float]
    fit: Fit | None = None
    threads: int = 1
    note: str = ""
    about: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, path: str | Path) -> LatencyTable:
        """Reads a table.

        Raises:
            UserError: there is none, or it is none of `raynas latency measure`.
        """
        rows, head = read(path)
        times = dict(zip(rows["call"], rows["median_ms"].astype(float), strict=True))
        fit = head.get("fit")
        return cls(
            head["device"],
            times,
            None if fit is None else Fit(tuple(fit["weights"]), fit["designs"], fit["error"]),
            int(head["threads"]),
            "" if fit else "a sum of single operations, not fitted to whole networks",
            head,
        )

    def estimate(self, build: Callable[[], nn.Module], input_shape: Shape) -> float:
        """Milliseconds that a network needs for one image.

        Args:
            build: makes the network; it is built on the meta device.
            input_shape: (channels, height, width) of the image.

        Raises:
            UserError: the table does not know one of the network's calls.
        """
        return self.of_calls(calls_of(build, input_shape))

    def of_calls(self, calls: list[Call]) -> float:
        """Milliseconds of a network that makes these calls."""
        missing = [call for call in calls if call.text not in self.times]
        if missing:
            raise UserError(
                f"the latency table ({self.device}) has no entry for {missing[0].text}"
                f"{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}. Measure the space "
                "for these images: raynas latency measure --space NAME --out FILE.parquet."
            )
        row = features(calls, self.times)
        return row[1] + row[2] if self.fit is None else self.fit.predict(row)


def read(path: str | Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A table's rows and what it says of itself.

    Raises:
        UserError: there is none, or it is none of `raynas latency measure`.
    """
    try:
        table = read_table(place(path))
        head = json.loads((table.schema.metadata or {})[KEY])
    except FileNotFoundError:
        raise UserError(
            f"expected a latency table; {path} does not exist. Make one: "
            "raynas latency measure --space NAME --out FILE.parquet."
        ) from None
    except StoreError:
        raise
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise UserError(
            f"expected a latency table, as raynas latency measure writes it; {path} is none "
            f"({type(error).__name__})."
        ) from None
    rows = table.to_pandas()
    absent = [name for name in COLUMNS if name not in rows]
    if absent or "device" not in head or "threads" not in head:
        raise UserError(f"{path}: expected a latency table with {', '.join(absent or ['device'])}.")
    bad = rows[~(rows["median_ms"] > 0)]
    if len(bad):
        raise UserError(
            f"{path}: expected times above 0; got {bad['median_ms'].iloc[0]} for "
            f"{bad['call'].iloc[0]}. Take the row out and measure again."
        )
    return rows, head


def write(path: Path, rows: pd.DataFrame, head: Mapping[str, Any]) -> None:
    """Writes a table in one step: a reader never sees half of it."""
    table = pa.Table.from_pandas(rows, preserve_index=False)
    table = table.replace_schema_metadata({KEY: json.dumps(dict(head)).encode()})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(path, table)

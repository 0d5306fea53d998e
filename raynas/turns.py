"""What was said and done between the parts of a search, in RUN/directives/turns.parquet.

One row per turn (`raynas.directives.Turn`), its directives as a list of structs, so that a turn is
kept as a whole or not at all; a turn that is taken back stays, and the turn that did so says which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from raynas.architecture import Decision, option_text, parse_option
from raynas.directives import Directive, Turn
from raynas.errors import UserError
from raynas.files import read_table, write_table

FILE = "directives/turns.parquet"

_TEXT, _WHOLE = pa.string(), pa.int64()
_TEXTS = pa.list_(_TEXT)
_DECISION = pa.struct(
    [("name", _TEXT), ("options", _TEXTS), ("meaning", _TEXT), ("ordered", pa.bool_())]
)
DIRECTIVE = pa.struct(
    [
        *((name, _TEXT) for name in ("kind", "words")),
        *((name, _TEXTS) for name in ("paths", "options")),
        *((name, _TEXT) for name in ("confidence", "metric", "sense")),
        ("bound", pa.float64()),
        ("objectives", _TEXTS),
        ("architecture", _TEXT),
        ("tested", pa.bool_()),
        ("decision", _DECISION),
        *((name, _TEXT) for name in ("before", "note")),
    ]
)
SCHEMA = pa.schema(
    [
        ("number", _WHOLE),
        ("at", pa.timestamp("us", "UTC")),
        *((name, _TEXT) for name in ("move", "said")),
        ("directives", pa.list_(DIRECTIVE)),
        *((name, _WHOLE) for name in ("since", "trial")),
        *((name, _TEXT) for name in ("about", "design", "answer")),
        ("undoes", _WHOLE),
    ]
)


def append(run: Path, turn: Turn) -> None:
    """Keeps a turn; returns when it would survive a crash."""
    (run / FILE).parent.mkdir(exist_ok=True)
    rows = [_row(t) for t in (*read(run), turn)]
    write_table(run / FILE, pa.Table.from_pylist(rows, schema=SCHEMA))


def read(run: Path) -> tuple[Turn, ...]:
    """All turns of a run, those taken back included.

    Raises:
        UserError: the file is broken.
    """
    return tuple(map(_turn, table(run).to_pylist()))


def table(run: Path) -> pa.Table:
    """The turns of a run; without any, an empty table."""
    path = run / FILE
    if not path.exists():
        return SCHEMA.empty_table()
    try:
        return read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        cause = str(error).splitlines()[0]
        raise UserError(
            f"{path} is broken ({cause}): what holds in this run is not known. Put a copy of it "
            "back, or move it away to go on as if nothing had been said."
        ) from None


def frame(run: Path) -> pd.DataFrame:
    """One row per turn, for pandas."""
    data: pd.DataFrame = table(run).to_pandas()
    return data


def _row(turn: Turn) -> dict[str, Any]:
    at = datetime.fromtimestamp(turn.at, UTC)
    return {**asdict(turn), "at": at, "directives": [_said(d) for d in turn.directives]}


def _said(d: Directive) -> dict[str, Any]:
    decision = d.decision.to_dict() if d.decision else None
    if decision:
        decision["options"] = [option_text(o) for o in decision["options"]]
    return {
        **asdict(d),
        "options": [option_text(o) for o in d.options],
        "decision": decision,
        "before": None if d.before is None else option_text(d.before),
    }


def _turn(row: Mapping[str, Any]) -> Turn:
    directives = tuple(map(_directive, row["directives"] or ()))
    return Turn(**{**row, "at": row["at"].timestamp(), "directives": directives})


def _directive(row: Mapping[str, Any]) -> Directive:
    given, before = row["decision"], row["before"]
    decision = None
    if given is not None:
        decision = Decision(
            given["name"], _options(given["options"]), given["meaning"], given["ordered"]
        )
    return Directive(
        **{
            **row,
            **{name: tuple(row[name]) for name in ("paths", "objectives")},
            "options": _options(row["options"]),
            "decision": decision,
            "before": None if before is None else parse_option(before),
        }
    )


def _options(texts: Sequence[str]) -> tuple[Any, ...]:
    return tuple(map(parse_option, texts))

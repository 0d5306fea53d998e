"""Claims: what an explanation says, as data with its evidence, before any words."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa

from raynas.files import read_table, write_table

Tier = Literal["proven", "measured", "estimated", "recorded", "prior"]
Verdict = Literal["asserts", "leans", "open", "null"]

LEVEL = 0.9  # of all intervals
FILE = "claims.parquet"  # in a run's folder of claims
AUDITED = "audited.parquet"  # likewise: what was claimed before it was put to the test

_TIME = pa.timestamp("us", "UTC")
_TEXT, _REAL, _WHOLE = pa.string(), pa.float64(), pa.int64()
_SCOPE = pa.struct(
    [("type", _TEXT), ("predicate", _TEXT), ("support", _REAL), ("n_in_scope", _WHOLE)]
)
_ALTERNATIVE = pa.struct(
    [
        ("value", _TEXT),
        ("architecture", _TEXT),
        ("estimate", _REAL),
        ("ci_low", _REAL),
        ("ci_high", _REAL),
        ("p_sign", _REAL),
        ("trained", pa.bool_()),
    ]
)
SCHEMA = pa.schema(
    [
        *((name, _TEXT) for name in ("claim_id", "kind", "tier", "verdict", "about")),
        ("at", _TIME),
        ("trial", _WHOLE),
        *((name, _TEXT) for name in ("path", "chosen", "alternative")),
        *((name, _TEXT) for name in ("metric", "unit", "dataset")),
        ("fidelity", _REAL),
        ("scope", _SCOPE),
        *((name, _REAL) for name in ("estimate", "ci_low", "ci_high", "ci_level")),
        ("ci_kind", _TEXT),
        ("p_sign", _REAL),
        ("lfsr", _REAL),
        ("family", _TEXT),
        ("family_size", _WHOLE),
        ("fdr", _REAL),
        *((name, _WHOLE) for name in ("n_trials", "n_direct", "n_seeds")),
        ("trial_ids", pa.list_(_WHOLE)),
        ("proposal_ids", pa.list_(_WHOLE)),
        ("alternatives", pa.list_(_ALTERNATIVE)),
        ("side_effects", pa.map_(_TEXT, _REAL)),
        *((name, _TEXT) for name in ("method", "method_args", "method_version", "snapshot")),
        ("status", _TEXT),
        ("audit_trial_ids", pa.list_(_WHOLE)),
        ("audit_estimate", _REAL),
        ("supersedes", _TEXT),
    ]
)


@dataclass(frozen=True)
class Claim:
    """One statement about the search or a design, with what it rests on.

    Attributes:
        kind: selects the sentence that words it (`raynas.explanation.sentences`).
        tier: what stands behind it: proven (identity, exact counts), measured (readings of the
            trials named), estimated (from a model of the archive), recorded (a fact of the log),
            prior (somebody's belief).
        verdict: asserts, leans (pointwise, not for the family as a whole), open (the archive
            cannot tell it from chance), null (proven to have no effect).
        about: the thing it speaks of, in words.
        path: decision it is about; `*.kernel_size` means that decision in all layers.
        chosen: its option; the trial, of a trade-off; the score that ranks, of a ranking.
        fidelity: epochs at which the metric was read; None where that has no meaning.
        estimate: in the metric's unit, or a ratio where the unit says so.
        lfsr: probability that the sign is wrong (Stephens 2017); p_sign is 1 - lfsr.
        family_size: how many claims were considered together when the verdict was made.
        n_trials: readings used; n_direct: of those, how many had either option.
        side_effects: other metrics that come with it.
        snapshot: hash of the trials it was made from.
    """

    claim_id: str
    kind: str
    tier: Tier
    verdict: Verdict
    about: str
    at: datetime
    metric: str
    unit: str
    method: str
    snapshot: str
    trial: int | None = None
    path: str | None = None
    chosen: str | None = None
    alternative: str | None = None
    dataset: str | None = None
    fidelity: float | None = None
    scope: Mapping[str, Any] = field(default_factory=lambda: {"type": "archive"})
    estimate: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    ci_level: float = LEVEL
    ci_kind: str | None = None
    p_sign: float | None = None
    lfsr: float | None = None
    family: str | None = None
    family_size: int | None = None
    fdr: float | None = None
    n_trials: int = 0
    n_direct: int | None = None
    n_seeds: int | None = None
    trial_ids: Sequence[int] = ()
    proposal_ids: Sequence[int] = ()
    alternatives: Sequence[Mapping[str, Any]] = ()
    side_effects: Mapping[str, float] = field(default_factory=dict)
    method_args: str = ""
    method_version: str = "1"
    status: str = "open"
    audit_trial_ids: Sequence[int] = ()
    audit_estimate: float | None = None
    supersedes: str | None = None


def write(folder: Path, claims: Sequence[Claim], file: str = FILE) -> None:
    """Replaces the claims of a run."""
    rows = [{f.name: getattr(c, f.name) for f in fields(Claim)} for c in claims]
    write_table(folder / file, pa.Table.from_pylist(rows, schema=SCHEMA))


def read(folder: Path, file: str = FILE) -> pd.DataFrame:
    """The claims of a run; without any, an empty frame with their columns."""
    path = folder / file
    table = read_table(path) if path.exists() else SCHEMA.empty_table()
    data: pd.DataFrame = table.to_pandas()
    return data


def from_frame(data: pd.DataFrame) -> list[Claim]:
    """Reads claims back from `read`'s frame."""
    table = pa.Table.from_pandas(data, schema=SCHEMA, preserve_index=False)
    return [
        Claim(**{**row, "side_effects": dict(row["side_effects"])}) for row in table.to_pylist()
    ]


def snapshot(trials: pd.DataFrame) -> str:
    """A short hash of the trials that claims are made from."""
    key = trials[["number", "status", "fidelity"]].astype(str)
    return hashlib.sha256(key.to_csv(index=False).encode()).hexdigest()[:12]


def identify(snapshot: str, kind: str, *parts: object) -> str:
    """A claim's id: the same claim from the same trials always has the same."""
    return hashlib.sha256(repr((snapshot, kind, *parts)).encode()).hexdigest()[:12]

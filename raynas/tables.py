"""Trials and proposals as Parquet tables, and back: the columns of a run's files.

`trials`: number, architecture (text), status, one column per decision (`d.layer0.kernel_size`,
null where it is not active), per metric (`m.accuracy`) and per curve (`c.accuracy`: one value an
epoch), fidelity (epochs), purpose, seed, split, started_at, seconds, device, node, error, log.

`proposals`: number, at, purpose, kind, note, parents, changed (decision, before, after), scores,
chances (of a policy's options, per decision), costs, candidates (architecture, score,
rejected_by), architecture, seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pyarrow as pa

from raynas.architecture import Architecture, Decision, Option, option_text, parse_option
from raynas.objective import COUNTS
from raynas.space import Space
from raynas.trial import Candidate, Job, Proposal, Reason, Trial

_TIME = pa.timestamp("us", "UTC")
_SCORES = pa.map_(pa.string(), pa.float64())
_CHANCES = pa.map_(pa.string(), pa.list_(pa.float64()))
_CHANGED = pa.list_(pa.struct([(n, pa.string()) for n in ("decision", "before", "after")]))
_CANDIDATES = pa.list_(
    pa.struct(
        [("architecture", pa.string()), ("score", pa.float64()), ("rejected_by", pa.string())]
    )
)
PROPOSALS = pa.schema(
    [
        ("number", pa.int64()),
        ("at", _TIME),
        ("purpose", pa.string()),
        ("kind", pa.string()),
        ("note", pa.string()),
        ("parents", pa.list_(pa.int64())),
        ("changed", _CHANGED),
        ("scores", _SCORES),
        ("chances", _CHANCES),
        ("costs", _SCORES),
        ("candidates", _CANDIDATES),
        ("architecture", pa.string()),
        ("seed", pa.int64()),
    ]
)
_TYPES: dict[type, Any] = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
_PLAIN = ("purpose", "split", "device", "node", "error", "log")


def trial_schema(space: Space, metrics: Sequence[str], curves: Sequence[str]) -> pa.Schema:
    """The columns of `trials` for a space and the metrics and curves met so far."""
    return pa.schema(
        [
            ("number", pa.int64()),
            ("architecture", pa.string()),
            ("status", pa.string()),
            *((f"d.{d.name}", _type(d)) for d in space.decisions),
            *((f"m.{name}", pa.float64()) for name in metrics),
            *((f"c.{name}", pa.list_(pa.float64())) for name in curves),
            ("fidelity", pa.int64()),
            ("seed", pa.int64()),
            ("started_at", _TIME),
            ("seconds", pa.float64()),
            *((name, pa.string()) for name in _PLAIN),
        ]
    )


def trials_table(trials: Sequence[Trial], schema: pa.Schema) -> pa.Table:
    """One row per trial, in order."""

    def column(name: str) -> list[Any]:
        if name.startswith("d."):
            return [t.architecture.options.get(name[2:]) for t in trials]
        if name.startswith("m."):
            return [t.metrics.get(name[2:]) for t in trials]
        if name.startswith("c."):
            return [[r.get(name[2:]) for r in t.curve] for t in trials]
        if name == "started_at":
            return [datetime.fromtimestamp(t.started_at, UTC) for t in trials]
        if name == "architecture":
            return [str(t.architecture) for t in trials]
        return [getattr(t, name) for t in trials]

    return pa.table({f.name: pa.array(column(f.name), f.type) for f in schema}, schema=schema)


def trials_from(table: pa.Table) -> Iterator[Trial]:
    """Reads `trials_table` back, row by row."""
    names = table.column_names
    metrics, curves = ([n for n in names if n.startswith(p)] for p in ("m.", "c."))
    keep = [n for n in names if not n.startswith("d.")]  # the text holds the decisions already
    for batch in table.select(keep).to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            columns = [row[n] or [] for n in curves]
            epochs = max(map(len, columns), default=0)
            curve = tuple(
                {n[2:]: c[i] for n, c in zip(curves, columns, strict=True) if i < len(c)}
                for i in range(epochs)
            )
            yield Trial(
                row["number"],
                Architecture.parse(row["architecture"]),
                row["status"],
                {n[2:]: row[n] for n in metrics if row[n] is not None},
                curve=tuple({k: v for k, v in r.items() if v is not None} for r in curve),
                started_at=row["started_at"].timestamp(),
                **{n: row.get(n) for n in ("fidelity", "seed", "seconds", *_PLAIN)},
            )


def proposals_table(jobs: Iterable[Job]) -> pa.Table:
    """One row per job, in order."""
    return pa.Table.from_pylist([_proposal_row(j) for j in jobs], schema=PROPOSALS)


def jobs_from(table: pa.Table) -> Iterator[Job]:
    """Reads `proposals_table` back, row by row."""
    for batch in table.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            changed = tuple(
                (c["decision"], _parse(c["before"]), _parse(c["after"])) for c in row["changed"]
            )
            reason = Reason(
                row["kind"],
                row["note"],
                tuple(row["parents"]),
                changed,
                dict(row["scores"]),
                {name: tuple(chances) for name, chances in row["chances"] or ()},
            )
            candidates = tuple(Candidate(**c) for c in row["candidates"])
            architecture = Architecture.parse(row["architecture"])
            yield Job(
                row["number"],
                Proposal(architecture, reason, candidates, row["purpose"]),
                row["seed"],
                dict(row["costs"]),
                row["at"].timestamp(),
            )


def frame(table: pa.Table) -> pd.DataFrame:
    """A table for pandas: whole numbers as nullable integers, few-valued text as category."""
    nullable = {pa.bool_(): pd.BooleanDtype(), pa.int64(): pd.Int64Dtype()}
    decisions = [n for n in table.column_names if n.startswith("d.")]
    rest = [n for n in table.column_names if not n.startswith("d.")]
    typed = table.select(decisions).to_pandas(types_mapper=nullable.get)
    data: pd.DataFrame = pd.concat([table.select(rest).to_pandas(), typed], axis=1)
    data = data[table.column_names]
    few = [n for n in decisions if pa.types.is_string(table.schema.field(n).type)]
    few += [n for n in ("status", "purpose", "kind", "device", "node") if n in data]
    data = data.astype({n: "category" for n in few})
    counts = [f"m.{n}" for n in COUNTS if f"m.{n}" in data]
    return data.astype({n: "Int64" for n in counts if (data[n].dropna() % 1 == 0).all()})


def _type(decision: Decision) -> pa.DataType:
    return _TYPES.get(type(decision.options[0]), pa.string())


def _proposal_row(job: Job) -> dict[str, Any]:
    reason = job.proposal.reason
    return {
        "number": job.number,
        "at": datetime.fromtimestamp(job.at, UTC),
        "purpose": job.purpose,
        "kind": reason.kind,
        "note": reason.note,
        "parents": list(reason.parents),
        "changed": [
            {"decision": d, "before": _text(before), "after": _text(after)}
            for d, before, after in reason.changed
        ],
        "scores": dict(reason.scores),
        "chances": {name: list(chances) for name, chances in reason.chances.items()},
        "costs": dict(job.costs),
        "candidates": [vars(c) for c in job.proposal.candidates],
        "architecture": str(job.architecture),
        "seed": job.seed,
    }


def _text(option: Option | None) -> str | None:
    return None if option is None else option_text(option)


def _parse(text: str | None) -> Option | None:
    return None if text is None else parse_option(text)

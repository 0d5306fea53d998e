"""Designs of before a decision was added, read as designs of now.

Whoever adds a decision says which option designs had before there was one: with it they are
designs of the space as it is now, and one reads them like all others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raynas.architecture import Architecture, Option, option_text
from raynas.directives import Turn
from raynas.trial import Job

Had = Mapping[str, Option]  # added decision -> the option that designs had before, in order


def before(turns: Iterable[Turn]) -> dict[str, Option]:
    """What designs had of the decisions that were added, also of those taken back since."""
    had: dict[str, Option] = {}
    for turn in turns:
        for d in turn.directives:
            if d.kind == "add" and d.decision is not None and d.before is not None:
                had.setdefault(d.decision.name, d.before)
    return had


def design(architecture: Architecture, had: Had) -> Architecture:
    """The design with the decisions that it lacks, which stand last in their space."""
    missing = tuple((n, o) for n, o in had.items() if n not in architecture)
    if not missing:
        return architecture
    return Architecture(architecture.space, architecture.choices + missing)


def text(given: str, had: Had) -> str:
    """The text of `design`, without reading all of it."""
    for name, option in had.items():
        if not re.search(_answered(name), given):
            given = _with(given, name, option)
    return given


def job(given: Job, had: Had) -> Job:
    """The job with the decisions that its design and its candidates lack."""
    if not had:
        return given
    candidates = tuple(
        replace(c, architecture=text(c.architecture, had)) for c in given.proposal.candidates
    )
    own = design(given.architecture, had)
    return replace(given, proposal=replace(given.proposal, architecture=own, candidates=candidates))


def turns(said: Sequence[Turn], had: Had) -> tuple[Turn, ...]:
    """The turns, with the designs that they speak of as they are now."""
    return tuple(
        replace(
            turn,
            about=text(turn.about, had) if turn.about else "",
            design=text(turn.design, had) if turn.design else "",
            directives=tuple(
                replace(d, architecture=text(d.architecture, had)) if "{" in d.architecture else d
                for d in turn.directives
            ),
        )
        for turn in said
    )


def trials(table: pa.Table, had: Had) -> pa.Table:
    """Rows of trials (`raynas.tables`) with the decisions that their designs lack."""
    for name, option in had.items():
        missing = _lacks(table["architecture"], name)
        if (column := f"d.{name}") in table.column_names:
            value = pa.scalar(option, table.schema.field(column).type)
            table = _put(table, column, pc.if_else(missing, value, table[column]))
        texts = _filled(table["architecture"], missing, name, option)
        table = _put(table, "architecture", texts)
    return table


def proposals(table: pa.Table, had: Had) -> pa.Table:
    """Rows of proposals with the decisions that they lack, and their candidates."""
    for name, option in had.items():
        given = table["candidates"].combine_chunks()
        listed = given.flatten()
        texts = listed.field("architecture")
        texts = _filled(texts, _lacks(texts, name), name, option)
        rows = pa.StructArray.from_arrays(
            [texts, *(listed.field(n) for n in ("score", "rejected_by"))], fields=[*listed.type]
        )
        lengths = pc.fill_null(pc.list_value_length(given), 0).to_numpy(zero_copy_only=False)
        ends = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        table = _put(table, "candidates", pa.ListArray.from_arrays(ends, rows, type=given.type))
        own = table["architecture"]
        table = _put(table, "architecture", _filled(own, _lacks(own, name), name, option))
    return table


def lacking(table: pa.Table, had: Had) -> bool:
    """Whether a design of the table lacks a decision."""
    return any(pc.any(_lacks(table["architecture"], name)).as_py() for name in had)


def _answered(name: str) -> str:
    """What a text that answers the decision matches: its leaf within a block of its layer."""
    layer, _, leaf = name.rpartition(".")
    block = rf"(^| ){re.escape(layer)}" if layer else r"(^[\w.]+| \.)"
    return rf"{block}\{{([^}}]* )?{re.escape(leaf)}="


def _lacks(texts: pa.Array, name: str) -> pa.Array:
    return pc.invert(pc.match_substring_regex(texts, _answered(name)))


def _filled(texts: pa.Array, missing: pa.Array, name: str, option: Option) -> pa.Array:
    if not pc.any(missing).as_py():
        return texts
    rows = zip(texts.to_pylist(), missing.to_pylist(), strict=True)
    return pa.array([_with(t, name, option) if m else t for t, m in rows], pa.string())


def _with(given: str, name: str, option: Option) -> str:
    """The text with one answer more, the last: `Architecture.__str__` says in which block."""
    layer, _, leaf = name.rpartition(".")
    answer = f"{leaf}={option_text(option)}"
    opened = given.rfind("{")
    begun = given.rfind(" ", 0, opened) + 1
    last = given[begun:opened].rstrip(".") if begun else ""
    if last != layer:
        return f"{given} {layer or '.'}{{{answer}}}"
    return f"{given[:-1]}{'' if given.endswith('{}') else ' '}{answer}}}"


def _put(table: pa.Table, column: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(column), table.schema.field(column), values)

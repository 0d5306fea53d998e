"""Designs to try first: named, written out, in a file, or the front of another run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raynas import tables
from raynas.errors import UserError, unknown
from raynas.files import place, read_table
from raynas.front import front_of
from raynas.phases import start
from raynas.run import RunInfo, read
from raynas.space import Space

FILES = (".yaml", ".yml", ".txt", ".parquet")


def designs_from(text: str, space: Space) -> list[str]:
    """What one asks to start from, as names and texts of designs that the space has.

    Args:
        text: a known design's name, a design's text, a file with either (`.yaml`: a list, `.txt`:
            a line each, those that begin with # are passed over, `.parquet`: a column
            `architecture`), or the folder of a run, whose front is taken, the best first.

    Raises:
        UserError: there is nothing of this kind, or the space does not have one of the designs;
            the message says what differs.
    """
    path = place(text)
    if text in space.known or "{" in text:
        given, source = [(text, "")], ""
    elif path.is_dir():
        given, source = _front(path), f" {text}"
    elif path.suffix in FILES:
        given, source = _listed(path), f" {text}"
    else:
        error = unknown(f"known design of {space.name}", text, list(space.known))
        raise UserError(
            f"{error} Or give a design's text, a file ({', '.join(FILES)}), or a run's folder."
        )
    if not given:
        raise UserError(f"--start-from{source}: expected designs to try first; it has none.")
    for design, where in given:
        try:
            start(space, design)
        except UserError as error:
            if not source:
                raise
            raise UserError(f"--start-from{source}: {where}: {error}") from None
    return list(dict.fromkeys(design for design, _ in given))


def _front(run: Path) -> list[tuple[str, str]]:
    """The designs of a run's front, each with what to call it."""
    info = RunInfo.read(run)
    rows = front_of(tables.frame(read(run, info.space).trials), info)
    return [(str(r["architecture"]), f"trial {r['number']}") for _, r in rows.iterrows()]


def _listed(path: Path) -> list[tuple[str, str]]:
    """The designs in a file, each with what to call it."""
    if not path.is_file():
        raise UserError(f"--start-from {path}: there is no such file.")
    try:
        designs = _read(path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"--start-from {path}: cannot be read: {str(error).splitlines()[0]}."
        ) from None
    return [(str(d).strip(), f"design {i}") for i, d in enumerate(designs, start=1)]


def _read(path: Path) -> Sequence[Any]:
    if path.suffix == ".parquet":
        rows = read_table(path).to_pandas()
        if "architecture" not in rows:
            raise ValueError(
                f"expected a column `architecture`; got {', '.join(map(str, rows.columns))}"
            )
        return list(rows["architecture"].dropna())
    if path.suffix == ".txt":
        lines = (line.strip() for line in path.read_text().splitlines())
        return [line for line in lines if line and not line.startswith("#")]
    import yaml

    try:
        listed = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    if not isinstance(listed, list) or not all(isinstance(d, str) for d in listed):
        raise ValueError("expected a list of names or texts of designs, each a line with a dash")
    return listed

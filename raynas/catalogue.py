"""The commands that say what there is: spaces and strategies."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Collection

from rich.console import Console
from rich.table import Table

import search_spaces
from raynas.architecture import Decision, Option, option_text
from raynas.choices import as_space
from raynas.errors import UserError
from raynas.report.words import size_text
from raynas.strategies import STRATEGIES


def spaces(a: argparse.Namespace) -> int:
    if a.space is None:
        for name in search_spaces.names():
            space = search_spaces.find(name)
            doc = importlib.import_module(f"search_spaces.{name}").__doc__ or ""
            first = " ".join(doc.split("\n\n")[0].split())
            print(f"{name}: {size_text(space.size)} designs. {first}")
        return 0
    return _known(a.space) if a.known else _one_space(a.space)


def _one_space(text: str) -> int:
    """The decisions of a space, the repeated ones of its layers together."""
    space = as_space(text)
    print(f"{space.name}: {size_text(space.size)} designs, {len(space.decisions)} decisions")
    groups: dict[tuple[str, str, str], list[Decision]] = {}
    for d in space.decisions:
        pattern, meaning = (re.sub(r"\d+", "*", text) for text in (d.name, d.meaning))
        groups.setdefault((pattern, str(d.options), meaning), []).append(d)
    for (pattern, _, meaning), alike in groups.items():
        d = alike[0]
        name = d.name if len(alike) == 1 else f"{pattern} ({len(alike)} times)"
        meaning = d.meaning if len(alike) == 1 else meaning
        when = "" if d.when is None else f"; only if {d.when[0]} is {_options(d.when[1])}"
        print(f"  {name}: {_options(d.options)}: {meaning}{when if len(alike) == 1 else ''}")
    for note in space.notes:
        print(f"  note: {note}")
    if space.known:
        print(f"  published designs (raynas spaces {text} --known): {', '.join(space.known)}")
    return 0


def _options(options: Collection[Option]) -> str:
    return ", ".join(option_text(o) for o in options)


def _known(text: str) -> int:
    """The published designs of a space, their sizes as built beside those published."""
    from raynas.costs import costs_of

    space, name = as_space(text), text.partition(":")[0]
    if not space.known:
        raise UserError(f"{text}: no published designs are known. See `raynas spaces`.")
    table = Table("design", box=None, padding=(0, 2))
    for title in ("params", "published", "FLOPs", "published"):
        table.add_column(title, justify="right")
    table.add_column("input")
    for title, known in space.known.items():
        settings = ",".join(f"{k}={option_text(v)}" for k, v in known.settings.items())
        built = search_spaces.find(f"{name}:{settings}") if settings else space
        found = costs_of(
            built, built.architecture(known.options), known.input_shape, known.num_classes
        )
        shown = [
            "–" if number is None else f"{number:,.0f}"
            for number in (found["params"], known.params, found["flops"], known.flops)
        ]
        shape = "x".join(str(n) for n in known.input_shape)
        table.add_row(title, *shown, f"{shape} {settings}".strip())
    wide_console().print(table)
    for title, known in space.known.items():
        print(f"{title}: {known.source}\n  {space.architecture(known.options)}")
    return 0


def strategies(_: argparse.Namespace) -> int:
    for name, row in STRATEGIES.items():
        first = (row.load().__doc__ or "").strip().splitlines()[0]
        settings = ", ".join(f"{k}={option_text(v)}" for k, v in row.settings().items())
        print(f"{name}: {first}")
        print(f"  good for: {row.good_for}")
        print(f"  needs: {row.needs}")
        print(f"  settings: {settings or 'none'}")
        print(f"  reference: {row.reference}")
    return 0


def wide_console() -> Console:
    """Of the terminal's width; where output goes to a file, wide: its reader can scroll."""
    console = Console(markup=False)
    if not console.is_terminal:
        console.width = 200
    return console

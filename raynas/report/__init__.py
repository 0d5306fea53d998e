"""The report of a run: one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from raynas.explanation.claims import Claim, from_frame
from raynas.explanation.effects import MOST
from raynas.explanation.sentences import chosen, reading, sentence, summary
from raynas.report import charts, sections, words
from raynas.report.axes import Axis, axis
from raynas.report.choices import choices
from raynas.report.costs import costs
from raynas.report.predictions import predicted
from raynas.report.scaling import grown
from raynas.report.shared import shared
from raynas.result import LEVELS, SearchResult
from raynas.run import write_atomically

CLEAR = ("asserts", "leans")
VERDICTS = {"asserts": "asserted", "leans": "likely", "open": "open", "null": "no effect"}

ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.filters |= {
    "change": words.change,
    "span": words.span,
    "signed": words.signed,
    "named": words.named,
    "reading": reading,
}


def write_report(result: SearchResult) -> Path:
    """Writes RUN/report.html from the run's trials, proposals and written claims."""
    path = result.path / "report.html"
    write_atomically(path, page(result).encode())
    return path


def page(result: SearchResult) -> str:
    """The page as HTML; every text of the run is escaped."""
    found = from_frame(result.claims)
    contents = _facts(result, found) | _charts(result) | _claims(result, found)
    return ENVIRONMENT.get_template("report.html.jinja").render(contents, verdicts=VERDICTS)


def _facts(result: SearchResult, found: Sequence[Claim]) -> dict[str, Any]:
    info = result.info
    begun = result.trials["started_at"][result.trials["seconds"] > 0].min()
    has_best = bool(len(result.front()))
    return {
        "info": info,
        "title": str(info.data.get("name", info.space.name)),
        "problem": sections.problem_line(info),
        "card": sections.card(result, found),
        "settings": sections.settings(info),
        "begun": "" if pd.isna(begun) else f"{begun:%Y-%m-%d %H:%M} UTC",
        "best": int(result.front().iloc[0]["number"]) if has_best else None,
        "front_table": sections.front_table(result) if has_best else None,
        "shared": shared(result, found),
        "scaling": grown(result, found),
        "predictions": predicted(result, found),
        "costs": costs(result),
        "choices": choices(result.choices, result.architecture() if has_best else None),
        "network": sections.network(result) if has_best else None,
        "cells": _cells(result) if has_best else "",
        "history": sections.history(result) if has_best else [],
        "failures": sections.failures(result.trials),
        "notes": sections.notes(result),
    }


def _cells(result: SearchResult) -> str:
    """The best design's cells as SVG; '' for a chain, whose blocks say it all."""
    design = result.architecture()
    if result.code is None or result.code.graphs is None:
        return ""
    from raynas.drawing import draw, svg

    graphs = result.code.graphs(design)
    return "".join(svg(draw(design, [], {title: graph})) for title, graph in graphs.items())


def _charts(result: SearchResult) -> dict[str, charts.Chart | None]:
    info, front = result.info, result.front()
    names = [f"m.{o.name}" for o in info.objectives[:2]]
    if not set(names) <= set(result.trials.columns):
        return dict.fromkeys(("scatter", "closer", "timeline"))
    trials = result.trials[result.trials["purpose"] != "supernet"]
    rows = trials[trials["status"].isin(["finished", "stopped_early"])].dropna(subset=names)
    near = charts.close_to(rows, front, info.objectives[0])
    draw = charts.by_number if len(names) == 1 else charts.trade_off
    ended = charts.with_ends(result.trials, result.proposals)
    untrained = ["supernet", "search"] if info.screening else ["supernet"]
    ended = ended[~ended["purpose"].isin(untrained)]
    return {
        "scatter": draw(rows, front, info) if len(rows) else None,
        "closer": draw(near, front, info) if len(near) else None,
        "timeline": charts.timeline(ended, front, info) if len(rows) else None,
    }


def _claims(result: SearchResult, found: Sequence[Claim]) -> dict[str, Any]:
    picks = chosen(found, LEVELS[result.info.settings["explanation_level"]])
    effects = [c for c in found if c.kind == "effect"]
    whole = [c for c in effects if c.family == "whole design"]
    contrasts = [c for c in found if c.kind == "contrast"]
    return {
        "said": [(sentence(c), c) for c in picks],
        "collapse": [(sentence(c), c) for c in found if c.kind == "collapse"],
        "summary": summary(found),
        "effects": whole,
        "most": MOST,
        "clear": [c for c in whole if c.verdict in CLEAR],
        "unclear": [c for c in whole if c.verdict not in CLEAR],
        "single": [c for c in effects if c.family != "whole design"],
        "effect_axis": _axis(whole),
        "contrasts": list(sections.by_layer(contrasts)),
        "contrast_axis": _axis(contrasts),
        "layer_axis": _axis([c for c in contrasts if "." in (c.path or "")]),
        "unit": words.unit((effects or contrasts)[0]) if effects or contrasts else "",
    }


def _axis(claims: Sequence[Claim]) -> Axis | None:
    """One axis for the intervals of claims about the same metric, with zero on it."""
    ends = [end for c in claims for end in (c.ci_low, c.ci_high) if end is not None]
    return axis([0.0, *ends], claims[0].metric, signed=True) if ends else None

"""The report of a run: one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from raynas.explanation.claims import AUDITED, Claim, from_frame, read
from raynas.explanation.readings import MOST
from raynas.explanation.sentences import chosen, reading, sentence, summary
from raynas.files import write_atomically
from raynas.report import charts, sections, words
from raynas.report.advice import advice
from raynas.report.alternatives import MOST_OPEN, clearest, forms
from raynas.report.answer import card
from raynas.report.audit import audit
from raynas.report.axes import interval_axis
from raynas.report.cell import cells
from raynas.report.choices import choices
from raynas.report.contributions import contributions
from raynas.report.costs import costs
from raynas.report.feedback import feedback
from raynas.report.history import ancestors, history
from raynas.report.importance import importance
from raynas.report.parallel import parallel
from raynas.report.predictions import predicted
from raynas.report.scaling import grown
from raynas.report.scorecard import scorecard
from raynas.report.shared import shared
from raynas.report.tree import tree
from raynas.report.waterfall import waterfall
from raynas.result import LEVELS, SearchResult

CLEAR = ("asserts", "leans")
VERDICTS = {"asserts": "asserted", "leans": "likely", "open": "open", "null": "no effect"}
MOST_EFFECTS = 12  # shown at once, the clearest
MOST_TOLD = 10  # ways of proposing and causes of refusal
MARKS = {  # kind of point -> what the legend calls it
    "front": "on the Pareto front",
    "finished": "finished",
    "stopped_early": "stopped early",
    "failed": "failed",
    "infeasible": "breaks a constraint",
    "lost": "lost",
    "scored": "scored only",
    "uniform_probe": "drawn at random, to see the whole space",
    "confirm": "the best design again, with a fresh seed",
    "ablation": "one change of a design, to test it",
    "audit": "a claim put to the test",
    "final": "an agreed design, trained fully",
    "held": "read within its interval",
    "missed": "read outside of it",
}
SCREENED = {  # the same purposes, where designs are scored before some are trained
    "confirm": "trained alone as one of the best",
    "uniform_probe": "trained alone to check the ranking",
}
CONTENTS = (  # in the order of the page: id of a section, what the contents call it
    ("words", "In words"),
    ("feedback", "Your feedback"),
    ("shared", "Shared weights"),
    ("scaling", "Scaling"),
    ("network", "Network"),
    ("alternatives", "Alternatives"),
    ("waterfalls", "Contributions"),
    ("front", "Front"),
    ("costs", "Costs"),
    ("importance", "Importance"),
    ("effects", "Effects"),
    ("principles", "Principles"),
    ("advice", "Trade-offs"),
    ("scorecard", "Scorecard"),
    ("timeline", "Timeline"),
    ("history", "History"),
    ("predictions", "Predictions"),
    ("audit", "Audit"),
    ("tree", "Tree"),
    ("choices", "Choices"),
    ("parallel", "All trials"),
    ("failures", "Failures"),
)
ALWAYS = ("words", "network", "alternatives", "front", "effects", "timeline", "history")

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
    "part": words.share,
    "reading": reading,
    "ids": lambda claims: " ".join(c.claim_id for c in claims),
}


def write_report(result: SearchResult) -> Path:
    """Writes RUN/report.html from the run's trials, proposals and written claims."""
    path = result.path / "report.html"
    write_atomically(path, page(result).encode())
    return path


def page(result: SearchResult) -> str:
    """The page as HTML; every text of the run is escaped."""
    found = from_frame(result.claims)
    contents = (
        _facts(result, found)
        | _design(result, found)
        | _charts(result, found)
        | _claims(result, found)
        | _forms(result, found)
    )
    titles = [
        (name, contents[name].title if name == "shared" else title)
        for name, title in CONTENTS
        if name in ALWAYS or contents[name]
    ]
    known = {o.name: o.direction for o in (*result.info.searched, *result.info.objectives)}
    contents |= {
        "titles": titles,
        "verdicts": VERDICTS,
        "lower": [name for name, direction in known.items() if direction == "min"],
        "screened": result.info.screening is not None,
        "legend": MARKS | (SCREENED if result.info.screening else {}),
    }
    return ENVIRONMENT.get_template("report.html.jinja").render(contents)


def _facts(result: SearchResult, found: Sequence[Claim]) -> dict[str, Any]:
    info = result.info
    begun = result.trials["started_at"][result.trials["seconds"] > 0].min()
    has_best = bool(len(result.front()))
    return {
        "info": info,
        "title": str(info.data.get("name", info.space.name)),
        "problem": sections.problem_line(info),
        "card": card(result, found),
        "settings": sections.settings(info),
        "begun": "" if pd.isna(begun) else f"{begun:%Y-%m-%d %H:%M} UTC",
        "best": int(result.front().iloc[0]["number"]) if has_best else None,
        "front_table": sections.front_table(result) if has_best else None,
        "feedback": feedback(result, found),
        "shared": shared(result, found),
        "scaling": grown(result, found),
        "predictions": predicted(result, found),
        "costs": costs(result),
        "history": history(result, found) if has_best else [],
        "proposed": _said(c for c in found if c.kind == "provenance" and c.trial is None)[
            :MOST_TOLD
        ],
        "failures": sections.failures(result.trials),
        "notes": sections.notes(result),
    }


def _design(result: SearchResult, found: Sequence[Claim]) -> dict[str, Any]:
    """The best design as a picture, and what its decisions add."""
    if not len(result.front()):
        return {"network": None, "cells": [], "waterfalls": [], "reference": None}
    number = int(result.front().iloc[0]["number"])
    info = result.info
    added = contributions(found, number, (*info.searched, *info.objectives))
    first = added[0] if added else None
    drawn = cells(result.code, result.architecture(), first) if result.code else []
    return {
        "network": sections.network(result, first),
        "cells": drawn,
        "waterfalls": [fall for each in added if (fall := waterfall(each))],
        "reference": first,
    }


def _charts(result: SearchResult, found: Sequence[Claim]) -> dict[str, Any]:
    info, front = result.info, result.front()
    names = [f"m.{o.name}" for o in info.objectives[:2]]
    if not set(names) <= set(result.trials.columns):
        return dict.fromkeys(("scatter", "closer", "timeline", "parallel"))
    trials = result.trials[result.trials["purpose"] != "supernet"]
    rows = trials[trials["status"].isin(["finished", "stopped_early"])].dropna(subset=names)
    near = charts.close_to(rows, front, info.objectives[0])
    draw = charts.by_number if len(names) == 1 else charts.trade_off
    ended = charts.with_ends(result.trials, result.proposals)
    untrained = ["supernet", "search"] if info.screening else ["supernet"]
    ended = ended[~ended["purpose"].isin(untrained)]
    parents = ancestors(result) if len(front) else {}
    whole = rows[rows["status"] == "finished"]
    return {
        "scatter": draw(rows, front, info) if len(rows) else None,
        "closer": draw(near, front, info) if len(near) else None,
        "timeline": charts.timeline(ended, front, info, parents) if len(rows) else None,
        "parallel": parallel(whole, front, info, found) if len(whole) else None,
    }


def _claims(result: SearchResult, found: Sequence[Claim]) -> dict[str, Any]:
    picks = chosen(found, LEVELS[result.info.settings["explanation_level"]])
    effects = [c for c in found if c.kind == "effect"]
    whole = [c for c in effects if c.family == "whole design"]
    contrasts = [c for c in found if c.kind == "contrast"]
    layered = [c for c in contrasts if "." in (c.path or "")]
    return {
        "said": _said(picks),
        "collapse": _said(c for c in found if c.kind == "collapse"),
        "summary": summary(found),
        "counted": effects,
        "effects": whole,
        "most": MOST,
        "most_effects": MOST_EFFECTS,
        "clear": [c for c in whole if c.verdict in CLEAR],
        "unclear": [c for c in whole if c.verdict not in CLEAR],
        "single": [c for c in effects if c.family != "whole design"],
        "effect_axis": interval_axis(whole),
        "contrasts": (layers := list(sections.by_layer(contrasts))),
        "clearest": clearest(contrasts, len(layers)),
        "most_open": MOST_OPEN,
        "contrast_axis": interval_axis(contrasts, _audited(contrasts)),
        "forms": forms(contrasts, (*result.info.searched, *result.info.objectives)),
        "audited": any(c.audit_estimate is not None for c in contrasts),
        "layer_axis": interval_axis(layered, _audited(layered)),
        "unit": words.unit((effects or contrasts)[0]) if effects or contrasts else "",
    }


def _said(claims: Iterable[Claim]) -> list[tuple[str, Claim]]:
    return [(sentence(c), c) for c in claims]


def _audited(claims: Sequence[Claim]) -> list[float]:
    return [c.audit_estimate for c in claims if c.audit_estimate is not None]


def _forms(result: SearchResult, found: Sequence[Claim]) -> dict[str, Any]:
    """What is known of the space as a whole, in forms that a person can use."""
    best = result.architecture() if len(result.front()) else None
    principles = [c for c in found if c.kind == "principle" and c.estimate is not None]
    motifs = [c for c in found if c.kind == "motif" and c.estimate is not None]
    beliefs = [c for c in found if c.kind == "belief" and c.estimate is not None]
    return {
        "importance": importance(found),
        "principles": [*principles, *motifs],
        "rules_learned": principles,
        "motifs": motifs,
        "rule_axis": interval_axis([*principles, *motifs]),
        "advice": advice(found),
        "scorecard": scorecard(found, result.code or result.info.space, best),
        "audit": audit(found, result.trials, read(result.path / "claims", AUDITED)),
        "tree": tree(found),
        "drawn": choices(result.choices, best),
        "beliefs": beliefs,
        "choices": bool(len(result.choices)) or bool(beliefs),
    }

"""`raynas explain`: what the claims of a run say, or the answer to one question."""

from __future__ import annotations

import argparse
import sys

import pandas as pd

from raynas.explanation.sentences import chosen, plural, sentence, summary, value
from raynas.report.words import named
from raynas.result import LEVELS, SearchResult, load


def explain(a: argparse.Namespace) -> int:
    """Prints what is known of a design, or of what was asked; returns the exit code."""
    result = load(a.run_folder, a.space)
    for note in result.notes:
        print(f"raynas: {note}", file=sys.stderr)
    print(result.architecture(a.trial), end="\n\n")
    asked = {
        "layer": result.get_explanation_for_layer,
        "decision": result.why,
        "versus": result.versus,
        "why_not": result.why_not,
    }
    for name, answer in asked.items():
        if (about := getattr(a, name)) is not None:
            print(answer(about, a.trial))  # type: ignore[operator]  # each takes what its flag gives
            return 0
    claims = result.explain(a.trial)
    if a.trial is not None:
        print(f"• {_reading(result, a.trial)}")
        claims = [c for c in claims if c.trial in (a.trial, None) or c.kind == "effect"]
    for claim in chosen(claims, LEVELS[a.level]):
        print(f"• {sentence(claim)}")
    print(f"• {summary(claims)}")
    return 0


def _reading(result: SearchResult, trial: int) -> str:
    """How a trial ended and what was read."""
    row = result._row(trial)
    wanted = dict.fromkeys([*result.info.objectives, *result.info.searched])
    names = [o.name for o in wanted if not pd.isna(row.get(f"m.{o.name}"))]
    read = [f"{named(n)} {value(float(row[f'm.{n}']), n)}" for n in names]
    ended = str(row["status"]).replace("_", " ")
    return f"Trial {trial}: {ended} after {plural(row['fidelity'], 'epoch')}; {', '.join(read)}"

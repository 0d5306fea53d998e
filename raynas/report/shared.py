"""A search by scores in its phases, and whether their ranking can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from raynas.explanation import ranking
from raynas.explanation.claims import Claim
from raynas.explanation.sentences import plural, sentence, value
from raynas.phases import TRAINED
from raynas.report.axes import axis
from raynas.report.charts import Chart, Point, hint, in_order, numbered, readings, spread
from raynas.report.words import duration
from raynas.result import SearchResult, busy_seconds
from raynas.screening import Proxy


@dataclass(frozen=True)
class Shared:
    """What the page says of shared weights, or of a proxy.

    Attributes:
        title: of the section.
        lead: what was done, in a sentence.
        phases: (name, how much, remark) of shared training, scoring and training alone.
        said: whether the ranking can be trusted, with its claim.
        ranking: score against what the design reached when trained alone.
        scored: all designs with a score, those trained alone marked.
    """

    title: str
    lead: str
    phases: Sequence[tuple[str, str, str]]
    said: Sequence[tuple[str, Claim]]
    ranking: Chart | None
    scored: Chart | None


def shared(result: SearchResult, claims: Sequence[Claim]) -> Shared | None:
    """None for a run whose designs were all trained."""
    if (how := result.info.screening) is None:
        return None
    first = "One network that holds all designs was trained; designs were searched by how they do "
    title, lead = "Shared weights", f"{first}with its weights"
    if isinstance(how, Proxy):
        title, lead = f"Scores by {how.name}", f"Designs were searched by {how.by}, untrained"
    lead += "; and a few were then trained alone, which says how far the scores can be trusted."
    said = [(sentence(c), c) for c in claims if c.kind == "ranking"]
    return Shared(title, lead, _phases(result), said, _ranking(result), _scored(result))


def _phases(result: SearchResult) -> list[tuple[str, str, str]]:
    trials = result.trials
    purpose = trials["purpose"]
    training, search = trials[purpose == "supernet"], trials[purpose == "search"]
    scored = search[search["status"] == "finished"]
    alone = trials[purpose.isin(TRAINED) & (trials["status"] == "finished")]
    best = int((alone["purpose"] == "confirm").sum())
    how = "trained on from shared weights" if ranking.inherited(result.info) else "from scratch"
    told = [f"{best} best, {len(alone) - best} spread over the ranking", how] if len(alone) else []
    if len(alone):
        told.append(f"{plural(int(alone['fidelity'].max()), 'epoch')} each")
    weights = ("shared training", _epochs(training), _remark(training, _sampled(training)))
    how = "with shared weights" if result.info.shared else "without training"
    phases = [
        *([weights] if result.info.shared else []),
        (f"search {how}", f"{len(scored):,} scored", _remark(search, pace(search))),
        ("trained alone", plural(len(alone), "design"), _remark(alone, told)),
    ]
    return [(f"{i}. {name}", much, remark) for i, (name, much, remark) in enumerate(phases, 1)]


def pace(search: pd.DataFrame) -> list[str]:
    """How many designs were scored in a second; nothing where none was."""
    scored, seconds = int((search["status"] == "finished").sum()), busy_seconds(search)
    return [f"{scored / seconds:.3g} designs per second"] if scored and seconds else []


def _epochs(training: pd.DataFrame) -> str:
    return plural(int(training["fidelity"].max()), "epoch") if len(training) else "not begun"


def _sampled(training: pd.DataFrame) -> list[str]:
    """How random designs do with the weights as they are in the end."""
    read = training.get("m.sampled_accuracy", pd.Series(dtype=float)).dropna()
    if not len(read):
        return []
    return [f"random designs reach {value(float(read.iloc[-1]), 'accuracy')}"]


def _remark(trials: pd.DataFrame, told: Sequence[str]) -> str:
    return ", ".join([*told, duration(busy_seconds(trials))] if len(trials) else told)


def _ranking(result: SearchResult) -> Chart | None:
    pair = ranking.compared(result.info)
    rows = ranking.both(result.trials, result.info)
    if pair is None or not len(rows):
        return None
    score, alone = pair
    x, y = axis(rows["score"], score.name), axis(rows["alone"], alone.name)
    points = [
        Point(
            row["number"],
            x.at(row["score"]),
            y.at(row["alone"]),
            str(row["purpose"]),
            readings({**row, f"m.{score.name}": row["score"]}, (alone, score)),
        )
        for row in rows.to_dict("records")
    ]
    return Chart(x, y, hint(score), hint(alone), points, (), numbered(points))


def _scored(result: SearchResult) -> Chart | None:
    """The marked ones are labelled by the number under which they were trained."""
    objectives = result.info.searched
    names = [f"m.{o.name}" for o in objectives[:2]]
    if not set(names) <= set(result.trials.columns):
        return None
    trials = result.trials
    rows = trials[(trials["purpose"] == "search") & (trials["status"] == "finished")]
    rows = rows.dropna(subset=names).assign(status="scored")
    if not len(rows):
        return None
    trained = trials[trials["purpose"].isin(TRAINED)]
    later = {row["architecture"]: row for row in trained.to_dict("records")}
    texts = zip(rows["number"], rows["architecture"], strict=True)
    found = {int(number): later[text] for number, text in texts if text in later}
    kinds = {number: str(row["purpose"]) for number, row in found.items()}
    chart = (spread if len(objectives) > 1 else in_order)(rows, kinds, objectives)
    labelled = [p for p in chart.points if p.number in found]
    marked = [replace(p, number=found[p.number]["number"]) for p in labelled]
    return replace(chart, labels=numbered(marked))

"""The answer card: what the best design is expected to reach, what it costs, what was spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from raynas.explanation.claims import Claim
from raynas.explanation.sentences import plural, value
from raynas.objective import COSTS, Objective
from raynas.report.contributions import side
from raynas.report.sections import counted, metric_text, states
from raynas.report.words import duration, goal, signed, span, unit
from raynas.result import SearchResult, busy_seconds

LUCK = {
    "better": "than to be expected: the best of many readings is partly luck",
    "worse": "than to be expected: this reading was not a lucky one",
    "even": "than to be expected",
}


@dataclass(frozen=True)
class Tile:
    """One number of the card, with the claim or the trial that it is from."""

    name: str
    text: str
    remark: str = ""
    claim: str = ""
    trial: int | None = None


def card(result: SearchResult, claims: Sequence[Claim]) -> list[Tile]:
    """What matters first."""
    front = result.front()
    tiles = _best(result, claims) if len(front) else []
    tiles += [Tile(name, f"{len(rows):,}", states(rows)) for name, rows in counted(result)]
    tiles.append(Tile("time at work", duration(busy_seconds(result.trials))))
    tiles.append(Tile("seed", str(result.info.settings["seed"])))
    return tiles


def _best(result: SearchResult, claims: Sequence[Claim]) -> list[Tile]:
    best, info = result.front().iloc[0], result.info
    number = int(best["number"])
    confirmed = {
        c.metric: c for c in claims if c.kind == "confirmation" and c.trial == number and c.estimate
    }
    others = [c for c in claims if c.kind == "confirmation" and c.trial != number and c.estimate]
    tiles = []
    for o in info.objectives:
        if c := confirmed.get(o.name):
            tiles += _expected(c, o)
            continue
        text = metric_text(best, o.name)
        better = [c for c in others if c.metric == o.name]
        remark = "one reading, the best of many, not confirmed" if better else goal(o)
        tiles.append(Tile(o.name, text, remark, trial=number))
        if better:
            c = min(better, key=lambda c: o.loss(c.estimate or 0.0))
            expected = _expected(c, o)[0]
            tiles.append(replace(expected, name=f"{expected.name} of trial {c.trial}"))
    for c in claims:
        if c.kind == "performance" and c.metric.startswith("test_"):
            name, text = c.metric.replace("_", " "), value(c.estimate or 0, c.metric)
            tiles.append(Tile(name, text, span(c), c.claim_id, c.trial))
    shown = {o.name for o in info.objectives}
    for name in COSTS:
        if name not in shown and (text := metric_text(best, name)):
            tiles.append(Tile(name, text, "of the best design", trial=number))
    return tiles


def _expected(c: Claim, objective: Objective) -> list[Tile]:
    """The mean of fresh seeds, and beside it the reading by which the design was chosen."""
    seeds = c.n_seeds or len(c.trial_ids)
    remark = ", ".join(filter(None, [span(c), f"mean of {plural(seeds, 'fresh seed')}"]))
    name = objective.name
    tiles = [Tile(f"expected {name}", value(c.estimate or 0, name), remark, c.claim_id, c.trial)]
    effects = c.side_effects
    if "reading" in effects:
        excess = effects.get("excess", effects["reading"] - (c.estimate or 0))
        much = (
            f"{signed(excess, name)} {unit(c)}".rstrip() + f" more {LUCK[side(excess, objective)]}"
        )
        text = value(effects["reading"], name)
        tiles.append(Tile(f"{name} as the search read it", text, much, c.claim_id, c.trial))
    return tiles

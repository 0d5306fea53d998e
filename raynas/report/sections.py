"""What the page says besides charts: a run as short texts and rows, without markup."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from raynas.architecture import Architecture, Option, changes, option_text
from raynas.compressing import NOTE
from raynas.explanation.claims import Claim
from raynas.explanation.sentences import quantity, value
from raynas.objective import COSTS
from raynas.report.words import changed_text, duration, goal, named, size_text, span
from raynas.result import SearchResult, busy_seconds
from raynas.run import RunInfo

SCORED = "designs scored"  # how they are called that were not trained alone
MOST_ROWS = 50  # of the front's table
MOST_ANCESTORS = 40
MOST_CHIPS = 8  # choices that are listed within a part of the network
SKIP = "skip_connection"  # the decision that is drawn as an arc


@dataclass(frozen=True)
class Block:
    """One part of the chosen network: what was decided for it and what it costs."""

    name: str
    kind: str
    options: Sequence[str]
    shape: str = ""
    params: str = ""
    flops: str = ""
    share: float | None = None  # of all parameters, in per cent
    skip: bool = False


@dataclass(frozen=True)
class Step:
    """One ancestor of the chosen design."""

    number: int
    reading: str
    kind: str
    note: str
    parents: Sequence[int]
    changed: Sequence[str]
    turned_away: Sequence[Mapping[str, Any]]
    scores: Sequence[str]


def problem_line(info: RunInfo) -> str:
    """The problem in one sentence."""
    wishes = " and ".join(f"{o.name} ({goal(o)})" for o in info.objectives)
    bounds = [
        f"{c.metric} at {_most(c.sense)} {value(c.bound, c.metric)}" for c in info.constraints
    ]
    limits = f" with {' and '.join(bounds)}" if bounds else ""
    what = f"on {info.data['name']}" if "name" in info.data else "by an evaluator of your own"
    return (
        f"Designs of the space {info.space.name} ({size_text(info.space.size)} designs) were "
        f"measured {what} for {wishes}{limits}."
    )


def card(result: SearchResult, claims: Sequence[Claim]) -> list[tuple[str, str, str]]:
    """(name, value, remark) of what matters first."""
    tiles = []
    front = result.front()
    if len(front):
        best = front.iloc[0]
        for o in result.info.objectives:
            tiles.append((o.name, _reading(best, o.name), goal(o)))
        for c in claims:
            if c.kind == "performance" and c.metric.startswith("test_"):
                tiles.append(
                    (c.metric.replace("_", " "), value(c.estimate or 0, c.metric), span(c))
                )
        shown = {o.name for o in result.info.objectives}
        for name in COSTS:
            if name not in shown and (text := _reading(best, name)):
                tiles.append((name, text, "of the best design"))
    tiles += [(name, f"{len(rows):,}", _states(rows)) for name, rows in counted(result)]
    tiles.append(("time at work", duration(busy_seconds(result.trials)), ""))
    tiles.append(("seed", str(result.info.settings["seed"]), ""))
    return tiles


def settings(info: RunInfo) -> list[tuple[str, str]]:
    """What the run was asked for and ran with, flat."""
    rows = []
    given = {**info.settings, "recipe": info.data.get("recipe", info.settings["recipe"])}
    for name, entry in given.items():
        inner = entry if isinstance(entry, Mapping) else {"": entry}
        rows += [(f"{name} {k}".strip(), str(v)) for k, v in inner.items() if v is not None]
    return rows


def front_table(result: SearchResult) -> tuple[list[str], list[list[str]], list[str], int]:
    """Column names, rows, the design of each row, and how many rows were left out."""
    front, info = result.front(), result.info
    names = [o.name for o in info.objectives]
    tested = f"test_{names[0]}"
    extra = [n for n in (tested, *COSTS) if n not in names and f"m.{n}" in front]
    columns = [*names, *extra]
    rows = [
        [str(r["number"]), *(_reading(r, n) for n in columns), *_effort(r)]
        for _, r in front.head(MOST_ROWS).iterrows()
    ]
    said = [n.replace("_", " ") for n in columns]
    designs = [str(text) for text in front["architecture"].head(MOST_ROWS)]
    return ["trial", *said, "epochs", "seconds"], rows, designs, max(0, len(front) - MOST_ROWS)


def network(result: SearchResult) -> tuple[list[Block], list[str], list[Block]]:
    """The best design: its parts in order, choices about the whole, and choices about no part."""
    design = result.architecture()
    left = {n: o for n, o in design.choices if "." in n}
    whole = _said({n: o for n, o in design.choices if "." not in n})
    layers = result.layers()
    total = sum(layer["params"] for layer in layers)
    parts: list[Block] = []
    told: dict[tuple[str, ...], str] = {}
    for layer in layers:
        made = tuple(layer["decisions"])
        options = {n.rpartition(".")[2]: design[n] for n in made}
        many = len(made) > MOST_CHIPS or len(options) < len(made)  # of several nodes of a cell
        if many:
            said = [f"{len(made)} choices, below"]
        elif made and made in told:
            said = [f"as {told[made]}"]
        else:
            said = _said(options)
        if not many:
            left = {n: o for n, o in left.items() if n not in made}
        told.setdefault(made, layer["name"])
        parts.append(
            Block(
                layer["name"],
                layer["kind"],
                said,
                " × ".join(str(n) for n in layer["shape"]),
                f"{layer['params']:,}",
                f"{layer['flops']:,}",
                round(100 * layer["params"] / total, 1) if total else None,
                options.get(SKIP) is True,
            )
        )
    groups: dict[str, dict[str, Option]] = {}
    for name, option in left.items():
        group, _, leaf = name.rpartition(".")
        groups.setdefault(group, {})[leaf] = option
    rest = [Block(n, "", _said(o), skip=o.get(SKIP) is True) for n, o in groups.items()]
    return (parts, whole, rest) if parts else (rest, whole, [])


def history(result: SearchResult) -> list[Step]:
    """From the first ancestors of the best design to the design itself; the latest if many."""
    proposals = result.proposals.set_index("number")
    best = int(result.front().iloc[0]["number"])
    found: dict[int, None] = {best: None}
    open_ = [best]
    while open_ and len(found) < MOST_ANCESTORS:
        parents = [int(p) for n in open_ if n in proposals.index for p in proposals["parents"][n]]
        open_ = [p for p in dict.fromkeys(parents) if p not in found]
        found |= dict.fromkeys(open_)
    trials = result.trials.set_index("number")
    steps = []
    for number in sorted(n for n in found if n in proposals.index):
        row = proposals.loc[number].to_dict()
        reading = ""
        if number in trials.index:
            trial = trials.loc[number]
            read = dict.fromkeys([*result.info.objectives, *result.info.searched])
            known = [(named(o.name), _reading(trial, o.name)) for o in read]
            reading = ", ".join(f"{name} {text}" for name, text in known if text)
        design = Architecture.parse(row["architecture"])
        turned = [_turned_away(design, c) for c in row["candidates"]]
        scores = [f"{named(n)} {_score(s, n)}" for n, s in row["scores"]]
        changed = changed_text([(c["decision"], c["before"], c["after"]) for c in row["changed"]])
        parents = [int(p) for p in row["parents"]]
        about = (row["kind"], row["note"], parents, changed, turned, scores)
        steps.append(Step(number, reading, *about))
    return steps


def failures(trials: pd.DataFrame) -> list[tuple[str, str, int, str]]:
    """(what went wrong, status, how often, trial numbers), most frequent first."""
    rows = trials[trials["status"].isin(["failed", "infeasible", "lost"])]
    rows = rows.assign(
        cause=rows["error"].fillna("").map(_cause), status=rows["status"].astype(str)
    )
    groups = [
        (str(cause), str(status).replace("_", " "), len(group), _numbers(list(group["number"])))
        for (cause, status), group in rows.groupby(["cause", "status"])
    ]
    return sorted(groups, key=lambda g: -g[2])


def notes(result: SearchResult) -> list[str]:
    """What a reader should know about the run itself."""
    ended = ["The search was interrupted by hand."] if result.interrupted else []
    ended += [f"The search ended early: {result.ended_because}"] if result.ended_because else []
    kept = [NOTE] if result.info.settings.get("search_compression") else []
    return [*ended, *result.notes, *kept, *map(str, result.info.data.get("notes", []))]


def by_layer(claims: Sequence[Claim]) -> Iterator[tuple[str, list[list[Claim]]]]:
    """Contrasts as (layer, its decisions, each with its claims)."""
    layers: dict[str, dict[str, list[Claim]]] = {}
    for c in claims:
        if c.kind == "contrast":
            layer = (c.path or "").rpartition(".")[0]
            layers.setdefault(layer, {}).setdefault(c.path or "", []).append(c)
    for layer, decisions in layers.items():
        yield layer, list(decisions.values())


def counted(result: SearchResult) -> list[tuple[str, pd.DataFrame]]:
    """The designs of a run by how they were measured; shared weights themselves are none."""
    rows = result.trials[result.trials["purpose"] != "supernet"]
    if result.info.screening is None:
        return [("trials", rows)]
    scored = rows["purpose"] == "search"
    return [(SCORED, rows[scored]), ("designs trained alone", rows[~scored])]


def _states(rows: pd.DataFrame) -> str:
    counts = rows["status"].value_counts()
    return ", ".join(f"{n:,} {str(s).replace('_', ' ')}" for s, n in counts.items() if n)


def _score(number: float, name: str) -> str:
    return value(number, name) if quantity(name) != name else f"{number:.4g}"


def _turned_away(design: Architecture, candidate: Mapping[str, Any]) -> dict[str, Any]:
    other = Architecture.parse(candidate["architecture"])
    differs = changed_text([(n, a, b) for n, a, b in changes(design, other)])
    return {
        "why": candidate["rejected_by"],
        "differs": ", ".join(differs) or "the same design",
        "design": candidate["architecture"],
        "score": "" if candidate["score"] is None else f"{candidate['score']:.4g}",
    }


def _cause(error: str) -> str:
    line = (error.splitlines() or ["no message"])[0]  # designs that break one bound belong together
    return re.sub(r" -?[\d,.]+(?:e[+-]\d+)?(?= [<>] )", "", line)


def _numbers(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:12])) + (" …" if len(numbers) > 12 else "")


def _reading(row: Any, metric: str) -> str:
    found = row.get(f"m.{metric}")
    return "" if found is None or pd.isna(found) else value(float(found), metric)


def _effort(row: Any) -> list[str]:
    return [str(row["fidelity"]), f"{row['seconds']:,.1f}"]


def _said(options: Mapping[str, Option]) -> list[str]:
    return [f"{leaf} {option_text(o)}" for leaf, o in options.items() if leaf != SKIP]


def _most(sense: str) -> str:
    return "most" if sense == "max" else "least"

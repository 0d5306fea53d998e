"""What the page says besides charts: a run as short texts and rows, without markup."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from raynas.architecture import Option, option_text
from raynas.compressing import NOTE
from raynas.explanation.claims import Claim
from raynas.explanation.sentences import value
from raynas.objective import COSTS
from raynas.report.contributions import Contributions, Gain
from raynas.report.words import goal, size_text
from raynas.result import SearchResult
from raynas.run import RunInfo

SCORED = "designs scored"  # how they are called that were not trained alone
MOST_ROWS = 50  # of the front's table
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
    gain: Gain | None = None


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
        [str(r["number"]), *(metric_text(r, n) for n in columns), *_effort(r)]
        for _, r in front.head(MOST_ROWS).iterrows()
    ]
    said = [n.replace("_", " ") for n in columns]
    designs = [str(text) for text in front["architecture"].head(MOST_ROWS)]
    return ["trial", *said, "epochs", "seconds"], rows, designs, max(0, len(front) - MOST_ROWS)


def network(
    result: SearchResult, found: Contributions | None = None
) -> tuple[list[Block], list[str], list[Block]]:
    """The best design: its parts in order, choices about the whole, and choices about no part.

    Args:
        found: what each decision of it adds, if that is known.
    """
    design = result.architecture()
    left = {n: o for n, o in design.choices if "." in n}
    whole = _said({n: o for n, o in design.choices if "." not in n})
    layers = result.layers()
    total = sum(layer["params"] for layer in layers)
    parts: list[Block] = []
    told: dict[tuple[str, ...], str] = {}
    made_by = [tuple(layer["decisions"]) for layer in layers]
    first = [() if _many(made) or made in made_by[:i] else made for i, made in enumerate(made_by)]
    gains = found.gains(first) if found else [None] * len(layers)
    for layer, gain in zip(layers, gains, strict=True):
        made = tuple(layer["decisions"])
        options = {n.rpartition(".")[2]: design[n] for n in made}
        many = _many(made)
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
                gain,
            )
        )
    groups: dict[str, dict[str, Option]] = {}
    for name, option in left.items():
        group, _, leaf = name.rpartition(".")
        groups.setdefault(group, {})[leaf] = option
    own = [[n for n in left if n.rpartition(".")[0] == group] for group in groups]
    gains = found.gains(own) if found else [None] * len(groups)
    rest = [
        Block(n, "", _said(o), skip=o.get(SKIP) is True, gain=gain)
        for (n, o), gain in zip(groups.items(), gains, strict=True)
    ]
    return (parts, whole, rest) if parts else (rest, whole, [])


def _many(made: Sequence[str]) -> bool:
    """Whether so many decisions made a layer that they are said elsewhere: several nodes'."""
    return len(made) > MOST_CHIPS or len({n.rpartition(".")[2] for n in made}) < len(made)


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


def states(rows: pd.DataFrame) -> str:
    """How many trials ended how."""
    counts = rows["status"].value_counts()
    return ", ".join(f"{n:,} {str(s).replace('_', ' ')}" for s, n in counts.items() if n)


def _cause(error: str) -> str:
    line = (error.splitlines() or ["no message"])[0]  # designs that break one bound belong together
    return re.sub(r" -?[\d,.]+(?:e[+-]\d+)?(?= [<>] )", "", line)


def _numbers(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:12])) + (" …" if len(numbers) > 12 else "")


def metric_text(row: Any, metric: str) -> str:
    """A metric of a trial as text; '' where it has none."""
    found = row.get(f"m.{metric}")
    return "" if found is None or pd.isna(found) else value(float(found), metric)


def _effort(row: Any) -> list[str]:
    return [str(row["fidelity"]), f"{row['seconds']:,.1f}"]


def _said(options: Mapping[str, Option]) -> list[str]:
    return [f"{leaf} {option_text(o)}" for leaf, o in options.items() if leaf != SKIP]


def _most(sense: str) -> str:
    return "most" if sense == "max" else "least"

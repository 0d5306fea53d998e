"""Questions about a run: all of one decision, why this design and not that, why not another option.

Every answer is sentences of claims; what is computed for a question alone is not kept.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import norm

from raynas import explained
from raynas.architecture import Architecture, Decision, Option, changes, option_text, parse_option
from raynas.errors import UserError, unknown
from raynas.explanation import provenance
from raynas.explanation.claims import LEVEL, Claim
from raynas.explanation.findings import Findings
from raynas.explanation.sentences import sentence
from raynas.objective import COSTS
from raynas.space import Space

if TYPE_CHECKING:
    from raynas.result import SearchResult

WAYS = 8  # to fill in parts that options add, when several are changed at once
KINDS = (  # of claims about a decision, in the order in which they are read
    "attribution",
    "contrast",
    "advice",
    "importance",
    "interaction",
    "effect",
    "principle",
    "motif",
    "belief",
)


def decision(result: SearchResult, name: str, trial: int | None = None) -> str:
    """All that is known of one decision: in the design, over the space, and in rules.

    Args:
        name: of a decision, `layer3.kernel_size`; `*.kernel_size` is that of all layers.

    Raises:
        UserError: the space has no such decision.
    """
    space = result.info.space
    together = [d for d in space.decisions if f"*.{d.leaf}" == name]
    if name not in space.by_name and not together:
        raise unknown("decision", name, list(space.by_name))
    number, design = _subject(result, trial)
    asked = together[0] if together else space.by_name[name]
    options = ", ".join(map(option_text, asked.options))
    lines = [f"{name}: {asked.meaning} (options: {options})"]
    if not together:
        has = option_text(design[name]) if name in design else "no such part"
        lines[0] += f". Trial {number} has {has}."
    names = {name, f"*.{asked.leaf}"}
    found = [c for c in explained.known(result, number) if c.kind in KINDS and _about(c, names)]
    found = [c for c in found if c.trial in (None, number)]
    if not found:
        lines.append("Nothing is known of it: there are too few trials, or it has one option.")
    ordered = sorted(found, key=lambda c: KINDS.index(c.kind))
    return "\n".join([*lines, *(f"• {sentence(c)}" for c in ordered)])


def versus(result: SearchResult, other: int, trial: int | None = None) -> str:
    """Why a design and not that of another trial: what differs, and what each difference does.

    Raises:
        UserError: there is no such trial, or both are the same.
    """
    number, design = _subject(result, trial)
    second, rival = _subject(result, other)
    if number == second:
        raise UserError(
            f"expected two trials; got trial {number} twice. Name another, or the design to "
            "explain with --trial."
        )
    lines = [f"Trial {number} against trial {second}:"]
    findings = result._findings()
    if findings.info.space.identity(design) == findings.info.space.identity(rival):
        lines.append("• Both are the same network: only seeds differ (proven, not estimated).")
    differ = [(n, _option(a), _option(b)) for n, a, b in changes(rival, design)]
    lines.append(f"  from {second} to {number}: {', '.join(provenance.in_words(differ))}")
    claims = [*_difference(result, findings, number, second)]
    claims += findings.between(number, second)
    return "\n".join([*lines, *(f"• {sentence(c)}" for c in claims)])


def why_not(result: SearchResult, text: str, trial: int | None = None) -> str:
    """What other options would change of a design, whether they were tried or considered.

    Args:
        text: `layer3.kernel_size=5`; several, apart by commas, are made together.

    Raises:
        UserError: it is not of that form, or the design cannot have these options.
    """
    number, design = _subject(result, trial)
    findings = result._findings()
    space = findings.info.space
    edits = _parsed(text, space, design)
    made, whole = _made(space, design, edits)
    claims = [_contrast(result, findings, number, design, edits, made, whole)]
    if len(edits) > 1:
        each = explained.known(result, number)
        claims += [c for n, o in edits.items() if (c := _single(each, number, n, o)) is not None]
    if whole:
        claims += _limits(findings, made[0])
        given = (findings.trials, result.proposals, findings.info.objectives[0], space)
        claims += provenance.met(findings.make, *given, str(made[0]))
    head = f"Trial {number} with {' and '.join(f'{n}={option_text(o)}' for n, o in edits.items())}:"
    return "\n".join([head, *(f"• {sentence(c)}" for c in claims)])


def _option(option: Option | None) -> str | None:
    return None if option is None else option_text(option)


def _subject(result: SearchResult, trial: int | None) -> tuple[int, Architecture]:
    row = result._row(trial)
    return int(row["number"]), result.info.space.parse(str(row["architecture"]))


def _about(c: Claim, names: set[str]) -> bool:
    """Whether a claim names one of the decisions."""
    if c.path in names or (c.kind == "interaction" and c.alternative in names):
        return True
    rule = str(c.scope.get("predicate") or "") if c.kind == "principle" else str(c.chosen or "")
    if c.kind not in ("principle", "motif"):
        return False
    return any(re.search(rf"(?<![\w.]){re.escape(n)}(?![\w.])", rule) for n in names)


def _difference(
    result: SearchResult, findings: Findings, first: int, second: int
) -> Iterator[Claim]:
    """The readings of two trials, at the last epoch that both have; none if one has none."""
    objective = findings.info.objectives[0]
    log = provenance.Log(findings.trials, result.proposals, objective)
    gain, epoch = log.gain(first, second)
    if gain is None or epoch is None:
        return
    noise = getattr(findings.surface, "noise", None)
    spread = math.sqrt(2) * noise if noise and objective == findings.info.searched[0] else None
    wrong = None if spread is None else float(norm.cdf(-abs(gain) / spread))
    half = None if spread is None else spread * float(norm.ppf((1 + LEVEL) / 2))
    yield findings.make(
        "tradeoff",
        "measured",
        "open" if wrong is None or wrong > (1 - LEVEL) / 2 else "asserts",
        f"trial {first} against trial {second}",
        trial=first,
        chosen=str(first),
        alternative=str(second),
        metric=objective.name,
        unit=objective.unit,
        estimate=gain,
        ci_low=None if half is None else gain - half,
        ci_high=None if half is None else gain + half,
        ci_kind=None if half is None else "normal",
        lfsr=wrong,
        p_sign=None if wrong is None else 1 - wrong,
        fidelity=epoch,
        n_trials=2,
        n_seeds=1,
        trial_ids=[first, second],
        side_effects=_ratios(findings, first, second),
        method="difference of two readings at the same epoch; noise of the response surface",
    )


def _ratios(findings: Findings, first: int, second: int) -> dict[str, float]:
    """The costs of one trial as ratios to those of another, where they differ."""
    rows = findings.trials.set_index("number")
    both = {n: rows.loc[[first, second], f"m.{n}"].astype(float) for n in COSTS if f"m.{n}" in rows}
    pairs = {n: (v.iloc[0], v.iloc[1]) for n, v in both.items() if v.notna().all() and v.min() > 0}
    return {n: mine / theirs for n, (mine, theirs) in pairs.items() if mine != theirs}


def _parsed(text: str, space: Space, design: Architecture) -> Mapping[str, Option]:
    """The edits of a text, checked against the space."""
    edits: dict[str, Option] = {}
    for part in text.split(","):
        name, equals, option = (piece.strip() for piece in part.partition("="))
        if not equals or not name or not option:
            raise UserError(
                f"expected edits such as layer3.kernel_size=5,layer3.width=16; got {text!r}."
            )
        if name not in space.by_name:
            raise unknown("decision", name, list(space.by_name))
        d = space.by_name[name]
        named = {option_text(o): o for o in d.options}
        parsed = parse_option(option)
        if option not in named and parsed not in d.options:
            raise unknown(f"option of {name}", option, list(named))
        edits[name] = named.get(option, parsed)
    if same := [n for n, o in edits.items() if n in design and design[n] == o]:
        raise UserError(
            f"expected options that the design does not have; got {same[0]}="
            f"{option_text(edits[same[0]])}, which it has. Leave it away."
        )
    return edits


def _made(
    space: Space, design: Architecture, edits: Mapping[str, Option]
) -> tuple[list[Architecture], bool]:
    """The design with other options: itself, or several ways to fill in what they add."""
    options = {**design.options, **edits}
    unsaid: set[str] = set()
    rng = np.random.default_rng(0)

    def pick(d: Decision) -> Option:
        if d.name in options:
            return options[d.name]
        unsaid.add(d.name)
        return d.options[int(rng.integers(len(d.options)))]

    made = [space.answer(pick)]
    if unsaid:
        made += [space.answer(pick) for _ in range(WAYS - 1)]
    for name in edits:
        if name not in made[0]:
            when = space.by_name[name].when
            ask = f" It is asked only where {when[0]} is " if when else ""
            only = ", ".join(sorted(map(option_text, when[1]))) if when else ""
            raise UserError(
                f"expected decisions that the design answers; got {name}, which it does not.{ask}"
                f"{only}{'. Change that too.' if when else ''}"
            )
    return made, not unsaid


def _contrast(
    result: SearchResult,
    findings: Findings,
    number: int,
    design: Architecture,
    edits: Mapping[str, Option],
    made: Sequence[Architecture],
    whole: bool,
) -> Claim:
    """What the design has over the edited one."""
    if len(edits) == 1:
        ((name, option),) = edits.items()
        found = _single(explained.known(result, number), number, name, option)
        if found is not None:
            return found
    had = [option_text(design[n]) if n in design else "absent" for n in edits]
    chosen, alternative = " and ".join(had), " and ".join(map(option_text, edits.values()))
    about: dict[str, Any] = {
        "about": f"{' and '.join(edits)}: {chosen} instead of {alternative}",
        "trial": number,
        "path": " and ".join(edits),
        "chosen": chosen,
        "alternative": alternative,
        "n_direct": 0,
        "trial_ids": [number],
        "scope": {"type": "design", "predicate": str(design), "n_in_scope": 1},
    }
    if whole and findings.info.space.identity(made[0]) == findings.info.space.identity(design):
        method = "both are the same network with the same parameters"
        return findings.make("contrast", "proven", "null", estimate=0.0, method=method, **about)
    if findings.surface is None:
        return findings.make("contrast", "recorded", "open", method="count in the log", **about)
    about["n_direct"] = _with_all(findings, edits)
    if whole and findings.costs is not None:
        mine, theirs = findings.costs(design), findings.costs(made[0])
        about["side_effects"] = {n: mine[n] / theirs[n] for n in mine if theirs.get(n)}
    draws = findings.surface.draws([design, *made])
    change = draws[:, 0] - draws[:, 1:].mean(axis=1)
    return findings.make.estimated("contrast", change, f"question of trial {number}", 1, **about)


def _with_all(findings: Findings, edits: Mapping[str, Option]) -> int:
    """How many of the designs read have all these options."""
    rows = findings.read.rows
    has = np.ones(len(rows), dtype=bool)
    for name, option in edits.items():
        has &= (rows[f"d.{name}"] == option).fillna(False).to_numpy(dtype=bool)
    return int(has.sum())


def _single(claims: Sequence[Claim], number: int, name: str, option: Option) -> Claim | None:
    return next(
        (
            c
            for c in claims
            if c.kind == "contrast"
            and (c.trial, c.path, c.alternative) == (number, name, option_text(option))
        ),
        None,
    )


def _limits(findings: Findings, design: Architecture) -> Iterator[Claim]:
    """Which constraints the design would break, by exact counts."""
    needed = findings.costs(design) if findings.costs else {}
    for limit in findings.info.constraints:
        if limit.metric in needed and not limit.holds(needed):
            yield findings.make(
                "provenance",
                "proven",
                "asserts",
                f"{design} breaks {limit}",
                metric=limit.metric,
                unit="1",
                chosen=str(limit),
                estimate=float(needed[limit.metric]),
                family="limit",
                trial_ids=[],
                method="count of the built network",
            )

"""Numbers and changes in words, where a table or a chart needs less than a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from raynas.architecture import option_text
from raynas.explanation.claims import Claim
from raynas.explanation.sentences import SHARES, quantity, value
from raynas.objective import COUNTS, Objective

LEVEL_KINDS = ("performance", "confirmation")  # whose estimates are levels, said without a sign
COIN = 0.5  # how often a guess picks the better of two
PAIRS = (
    ("random", "two random designs"),
    ("top", "two of the better designs"),
    ("edit", "designs one change apart"),
)


@dataclass(frozen=True)
class Fidelity:
    """How often a short form picks the better of two designs, of one kind of pairs.

    Attributes:
        width: of the share that is better than a guess, in per cent of what is possible.
    """

    pairs: str
    text: str
    width: float


def changed_text(changed: Sequence[tuple[str, Any, Any]]) -> list[str]:
    """Changes of decisions in words; a layer that came or went is said once."""
    said: dict[str, None] = {}
    for name, before, after in changed:
        layer = name.rpartition(".")[0]
        same = [c for c in changed if c[0].rpartition(".")[0] == layer]
        if layer and all(c[2] is None for c in same):
            said[f"{layer} removed"] = None
        elif layer and all(c[1] is None for c in same):
            options = ", ".join(f"{c[0].rpartition('.')[2]} {_text(c[2])}" for c in same)
            said[f"{layer} added ({options})"] = None
        elif before is None or after is None:
            said[f"{name} {_text(after)}" if before is None else f"{name} gone"] = None
        else:
            said[f"{name} {_text(before)} → {_text(after)}"] = None
    return list(said)


def change(claim: Claim) -> str:
    """A claim's estimate as a change; shares in points."""
    if claim.estimate is None:
        return "unknown"
    return f"{signed(claim.estimate, claim.metric)} {unit(claim)}".rstrip()


def unit(claim: Claim) -> str:
    """The unit of a claim's change; empty if it has none."""
    return "points" if claim.metric in SHARES else claim.unit.removesuffix("1")


def signed(number: float, metric: str) -> str:
    """A change with its sign; of shares in points."""
    text = f"{100 * number:+.1f}" if metric in SHARES else f"{number:+.3g}"
    return text.replace("-", "−", 1) if float(text) else text[1:]


def span(claim: Claim) -> str:
    """A claim's interval with its level; empty without one."""
    if claim.ci_low is None or claim.ci_high is None:
        return ""
    if claim.unit == "share":
        low, high = share(claim.ci_low), share(claim.ci_high)
    else:
        say = value if claim.kind in LEVEL_KINDS else signed
        low, high = (say(v, claim.metric) for v in (claim.ci_low, claim.ci_high))
    return f"{100 * claim.ci_level:.0f} %: {low} to {high}"


def rounded(number: float) -> str:
    """A count in three digits: `1.07 M`."""
    size, suffix = next(
        ((s, t) for s, t in ((1e9, " G"), (1e6, " M"), (1e3, " k")) if number >= s), (1.0, "")
    )
    return f"{number / size:.3g}{suffix}"


def share(number: float) -> str:
    """A share in per cent; small ones with a digit more."""
    return f"{100 * number:.{0 if abs(number) >= 0.0995 else 1}f} %".replace("-", "−", 1)


def percent_change(ratio: float) -> str:
    """A ratio of costs as a change: `−35 %`."""
    return f"{100 * (ratio - 1):+.{0 if abs(ratio - 1) >= 0.0995 else 1}f} %".replace("-", "−", 1)


def fidelity(claim: Claim) -> list[Fidelity]:
    """What a scorecard's or a tree's claim says of its fidelity, by kind of pairs."""
    known = claim.side_effects
    if "random" not in known and claim.estimate is not None:
        known = {**known, "random": claim.estimate}
    return [
        Fidelity(said, share(known[name]), round(max(known[name] - COIN, 0.0) / COIN * 100, 1))
        for name, said in PAIRS
        if name in known
    ]


def named(metric: str) -> str:
    """A metric as charts and rows name it."""
    name = quantity(metric)
    return metric if name == metric else f"{name} with shared weights"


def goal(objective: Objective) -> str:
    """Which way is better, in words."""
    words = ("fewer", "more") if objective.name in COUNTS else ("lower", "higher")
    return f"{words[objective.direction == 'max']} is better"


def size_text(size: int) -> str:
    """How many designs, in figures that can be read."""
    if size < 1_000_000:
        return f"{size:,}"
    power = math.floor(math.log10(size))
    factor = 10 ** (math.log10(size) - power)
    return f"{factor:.1f} × 10{str(power).translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if 0 < seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _text(option: Any) -> str:
    return option if isinstance(option, str) else option_text(option)

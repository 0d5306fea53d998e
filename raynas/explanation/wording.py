"""How numbers, changes and certainty are said: the small words that all sentences share.

The strength of a word is fixed by the probability that the sign is right (Stephens 2017): from .99
"almost surely", from .95 "very likely", from .8 "likely", below that the archive cannot tell it
from chance. The verdict caps it: what only leans is never more than "very likely", what is open
never more than "likely", and only what is asserted "improves" anything.
"""

from __future__ import annotations

from raynas.explanation.claims import Claim
from raynas.objective import COSTS, COUNTS, KNOWN, TOLD, figure
from raynas.screening import SHARED

SHARES = ("accuracy", "test_accuracy", "shared_accuracy")  # shares of one, worded in per cent
SCORED = {score: name for name, score in SHARED.items()}  # what a score stands for
ADVERBS = ((0.99, "almost surely"), (0.95, "very likely"), (0.8, "likely"))  # from p_sign
STRONGEST = {"asserts": 3, "leans": 2, "open": 1}  # how many of them, from the weakest
DOUBT = "which this archive cannot tell from chance"
NEAR = 0.005  # what a ratio of costs is off one that is not worth saying
PARTS = ("share", "share of trials")  # units in per cent
LEVELS = (  # kinds whose estimate is a level and no change: said without a sign
    "performance",
    "confirmation",
    "ranking",
    "collapse",
    "prediction",
    "importance",
    "interaction",
)


def value(number: float, metric: str) -> str:
    """A metric's value as it is said: per cent for shares, thousands separated for counts."""
    if metric in SHARES:
        return f"{100 * number:.1f} %"
    return figure(number)


def plural(count: int, noun: str) -> str:
    """`1 epoch`, `2 epochs`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """Seconds as a person says them: `45 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def noun(metric: str) -> str:
    """A metric without its unit: `latency` for `latency_ms`."""
    return metric.rpartition("_")[0].replace("_", " ") if metric in TOLD else metric


def quantity(metric: str) -> str:
    """What a metric measures; that it was read with shared weights is said by `reading`."""
    return SCORED.get(metric, metric)


def reading(c: Claim) -> str:
    """How a claim's metric was read: `after 5 epochs`, or `with shared weights`."""
    if c.metric in SCORED:
        return "with shared weights"
    return "before training" if c.fidelity is None else f"after {epochs(c)}"


def epochs(c: Claim) -> str:
    """The epochs after which a claim's metric was read."""
    return plural(int(c.fidelity or 0), "epoch")


def scored(c: Claim) -> bool:
    """Whether it is about a score, by shared weights or by a proxy: no training stands behind it,
    and it is no count."""
    return c.fidelity is None and c.metric not in COSTS


def designs(c: Claim) -> str:
    """What an estimate rests on: trials, or designs that were only scored."""
    return "designs scored" if scored(c) else "trials"


def source(c: Claim) -> str:
    """`after 12 epochs, estimated from 100 trials`."""
    return f"{reading(c)}, estimated from {c.n_trials} {designs(c)}"


def percent(share: float) -> str:
    """`21 %`, `3.4 %`."""
    return f"{100 * share:{'.0f' if abs(share) >= 0.0995 or share == 0 else '.1f'}} %"


def amount(number: float, metric: str) -> str:
    """`48,210 params`, `3.2 ms of latency`."""
    unit = f"{KNOWN[metric][1]} of " if metric in TOLD else ""
    return f"{value(number, metric)} {unit}{noun(metric)}"


def ratio(name: str, times: float) -> str:
    """`1.7 times fewer params`; what is close, in percent."""
    less = "fewer" if name in COUNTS else "less"
    word, factor = ("more", times) if times >= 1 else (less, 1 / times)
    much = f"{factor:.1f} times" if factor >= 1.1 else f"{100 * abs(times - 1):.1f} %"
    return f"{much} {word} {noun(name)}"


def costs(c: Claim) -> list[str]:
    """The ratios of costs among a claim's side effects, in words, but for those near one."""
    found = [(n, r) for n, r in c.side_effects.items() if n in COSTS and r > 0]
    return [ratio(n, r) for n, r in found if abs(r - 1) > NEAR]


def difference(number: float, c: Claim) -> str:
    """A change of a claim's metric with its sign and unit; of shares in points."""
    if c.unit in PARTS or c.metric in SHARES:
        return f"{100 * number:+.1f} points"
    return f"{number:+.3g}" + (f" {c.unit}" if c.unit != "1" else "")


def change(c: Claim) -> str:
    """A claim's estimate as a change."""
    return difference(c.estimate or 0.0, c)


def interval(c: Claim) -> str:
    """A claim's interval with its level, in the unit of its estimate; '' without one."""
    if c.ci_low is None or c.ci_high is None:
        return ""
    sign = "" if c.kind in LEVELS else "+"
    if c.unit in PARTS:
        ends = [percent(v).removesuffix(" %") for v in (c.ci_low, c.ci_high)]
    else:
        factor, form = (100, ".1f") if c.metric in SHARES else (1, ".3g")
        if c.unit == "rank correlation" or c.kind in ("ranking", "prediction"):
            factor, form = 1, ".2f"
        ends = [f"{factor * v:{sign}{form}}" for v in (c.ci_low, c.ci_high)]
    return f" ({100 * c.ci_level:.0f} %: {ends[0]} to {ends[1]})"


def adverb(c: Claim) -> str:
    """The word for how sure the sign is; '' where it cannot be told or need not be."""
    if c.p_sign is None or c.verdict == "null":
        return ""
    words = [word for least, word in ADVERBS if c.p_sign >= least]
    return words[-min(len(words), STRONGEST[c.verdict])] if words else ""


def told(c: Claim) -> bool:
    """Whether the sign of a claim may be stated."""
    return c.verdict == "asserts" and (c.p_sign is None or bool(adverb(c)))


def likely(c: Claim) -> str:
    """What stands before a sentence that is not certain: `Very likely, not certain: `."""
    word = adverb(c)
    if not word and c.verdict == "leans":
        word = "likely"
    return "" if told(c) or not word else f"{word[0].upper()}{word[1:]}, not certain: "


def hedged(c: Claim, text: str) -> str:
    """A sentence's beginning, which is no name, after how sure it is."""
    hedge = likely(c)
    return f"{hedge}{text[0].lower()}{text[1:]}" if hedge else text


def doubt(c: Claim) -> str:
    """What stands behind a sentence whose sign cannot be told."""
    return f", {DOUBT}" if not told(c) and not likely(c) and c.verdict != "null" else ""


def verb(c: Claim) -> str:
    """`improves` or `worsens` where it is known which way is better, else `raises`, `lowers`."""
    up = (c.estimate or 0.0) >= 0
    name = quantity(c.metric).removeprefix("test_")
    if name not in KNOWN:
        return "raises" if up else "lowers"
    return "improves" if up == (KNOWN[name][0] == "max") else "worsens"


def effect(c: Claim, what: str) -> str:
    """`X almost surely improves accuracy: +2.1 points (...)`, or with less certainty.

    The sentence still needs its end, `doubt` included.
    """
    much = f"{quantity(c.metric)}: {change(c)}{interval(c)}"
    if told(c):
        sure = adverb(c)
        return f"{what} {sure}{' ' if sure else ''}{verb(c)} {much}"
    return f"{likely(c)}{what}: {much.replace(':', '', 1)}"

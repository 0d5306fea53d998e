"""Axes: values to positions in per cent of a drawing, and round numbers to label them by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from raynas.explanation.claims import Claim
from raynas.explanation.sentences import SHARES

NUMBER = "number"  # the column of trial numbers
MARGIN = 0.05  # of an axis, on either side of its values
UNITS = (  # name, seconds, up to how many seconds it is used
    ("ms", 0.001, 1),
    ("s", 1, 120),
    ("min", 60, 7200),
    ("h", 3600, 172_800),
    ("days", 86_400, math.inf),
)


@dataclass(frozen=True)
class Tick:
    """A labelled position; a minor one may be left out where there is little room."""

    at: float
    text: str
    minor: bool = False


@dataclass(frozen=True)
class Axis:
    """Maps values to per cent of an axis."""

    low: float
    high: float
    log: bool
    ticks: tuple[Tick, ...] = ()

    def at(self, number: float) -> float:
        low, high = (_log(self.low), _log(self.high)) if self.log else (self.low, self.high)
        share = ((_log(number) if self.log else number) - low) / (high - low)
        return round(100 * share, 2)


def axis(values: Iterable[float], metric: str, signed: bool = False, linear: bool = False) -> Axis:
    """An axis that holds all values: logarithmic if they span more than a factor of ten.

    Args:
        metric: shares and numbers of trials are never logarithmic.
        signed: for changes, whose ticks carry a sign (shares: in points).
        linear: never logarithmic, because lengths are compared.
    """
    found = [float(v) for v in values]
    low, high = (min(found), max(found)) if found else (0.0, 1.0)
    log = not linear and metric not in (*SHARES, NUMBER) and low > 0 and high > 10 * low
    if log:
        room = (high / low) ** MARGIN
        low, high = low / room, high * room
    else:
        room = MARGIN * (high - low) or 0.05 * abs(high) or 0.5
        low, high = low - room, high + room
    bare = Axis(low, high, log)
    numbers = _log_ticks(low, high) if log else _even_ticks(low, high)
    if metric == NUMBER:
        numbers = [n for n in numbers if n >= 0 and n % 1 == 0]
    return Axis(low, high, log, tuple(_tick(bare, n, metric, signed) for n in numbers))


def interval_axis(claims: Sequence[Claim], also: Iterable[float] = ()) -> Axis | None:
    """One axis for the intervals of claims about the same metric, with zero on it."""
    ends = [end for c in claims for end in (c.estimate, c.ci_low, c.ci_high) if end is not None]
    return axis([0.0, *ends, *also], claims[0].metric, signed=True) if ends else None


def time_axis(seconds: float) -> Axis:
    """From 0 to a number of seconds."""
    name, unit = next((n, u) for n, u, most in UNITS if seconds <= most)
    high = seconds * (1 + MARGIN) or 1.0
    bare = Axis(-high * MARGIN, high, False)
    numbers = [n for n in _even_ticks(0, high / unit) if n >= 0]
    return Axis(
        bare.low, high, False, tuple(Tick(bare.at(n * unit), f"{n:g} {name}") for n in numbers)
    )


def _even_ticks(low: float, high: float) -> list[float]:
    step = 10.0 ** math.floor(math.log10((high - low) / 5))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= 6)
    numbers = range(math.ceil(low / step), math.floor(high / step) + 1)
    return [float(f"{n * step:.12g}") for n in numbers]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = max(1, math.ceil((len(powers) - 1) / 6))
    factors = (1, 2, 5) if len(powers) <= 4 else (1,)
    numbers = [m * 10.0**p for p in powers if p % every == 0 for m in factors]
    return [n for n in numbers if low <= n <= high]


def _tick(scale: Axis, number: float, metric: str, signed: bool) -> Tick:
    if metric in SHARES:
        text = f"{100 * number:{'+' if signed else ''}g}" + ("" if signed else " %")
    else:
        size, suffix = next(
            ((s, t) for s, t in ((1e9, " G"), (1e6, " M"), (1e3, " k")) if abs(number) >= s),
            (1.0, ""),
        )
        text = f"{number / size:{'+' if signed else ''}.4g}{suffix}"
    text = "0" if number == 0 and signed else text
    minor = scale.log and not math.isclose(10 ** round(math.log10(number)), number)
    return Tick(scale.at(number), text.replace("-", "−"), minor)


def _log(number: float) -> float:
    return math.log10(number)

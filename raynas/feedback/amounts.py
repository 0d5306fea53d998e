"""Bounds in speech: "under 2 ms", "at most 50k parameters", "accuracy above 95 %"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from raynas.directives import Directive
from raynas.errors import UserError
from raynas.feedback.checking import checked
from raynas.feedback.context import Context
from raynas.feedback.wishes import COST_WISHES, direction, measured
from raynas.objective import COUNTS, figure

Amount = tuple[float, str]  # a value in the base of its dimension, and the dimension ('' if none)

EXPECTED = {  # metric -> dimension -> what one of it is in the metric's unit
    "accuracy": {"%": 1.0, "": 1.0},
    "loss": {"": 1.0},
    "params": {"count": 1.0, "": 1.0},
    "flops": {"flops": 1.0, "count": 1.0, "": 1.0},
    "latency_ms": {"ms": 1.0, "s": 1.0},
    "model_size_kb": {"kB": 1.0},
    "peak_memory_mb": {"kB": 1e-3},
    "train_seconds": {"s": 1e-3, "ms": 1e-3},
}
ALONE = {"ms": "latency_ms", "flops": "flops"}  # dimension -> metric, where none is named
UNIT_SAID = {
    "accuracy": "95 %",
    "params": "50k",
    "flops": "10 MFLOPs",
    "latency_ms": "2 ms",
    "model_size_kb": "256 kB",
    "peak_memory_mb": "1 MB",
    "train_seconds": "60 s",
    "loss": "0.3",
}


def bounded(
    kind: str, sense: str, amount: Amount, metric: str, words: str, context: Context
) -> list[Directive]:
    """A limit or an aim; without a metric the unit says which.

    Raises:
        UserError: number, unit and metric do not go together.
    """
    name = _metric(metric, amount)
    value, dimension = amount
    scale = EXPECTED.get(name, {"": 1.0})
    if dimension not in scale:
        raise UserError(
            f"{name}: expected a number such as {UNIT_SAID.get(name, '3')}; got "
            f"{figure(value)} {dimension or 'without a unit'}."
        )
    value *= scale[dimension]
    if name in COUNTS and (value != round(value) or value < 1):
        raise UserError(f"{name}: expected a whole number; got {value:g}.")
    if sense == "max" and direction(name, context) == "max":
        raise UserError(
            f"{name} is to be raised: a bound above it would refuse the better designs."
        )
    return [checked(Directive(kind, words, metric=name, sense=sense, bound=value), context)]  # type: ignore[arg-type]


def _metric(metric: str, amount: Amount) -> str:
    dimension = amount[1]
    if metric == "size":
        if dimension == "":
            raise UserError("a size needs a unit: 50k parameters, or 256 kB.")
        return "model_size_kb" if dimension == "kB" else "params"
    if metric == "speed" and dimension in ("ms", "s"):
        return "latency_ms"
    if metric in ("speed", "efficiency"):
        raise UserError(f"{metric} has no unit; say 'latency under 2 ms' or 'at most 10 MFLOPs'.")
    if metric:
        return metric
    if dimension not in ALONE:
        raise UserError(
            "what is bounded? Say 50k parameters, 95 % accuracy, or latency under 2 ms."
        )
    return ALONE[dimension]


def exact(metric: str, context: Context) -> list[str]:
    """The metrics that a word such as `size` or `speed` is about in this run."""
    if metric == "size":
        return ["params", *(["model_size_kb"] if measured("model_size_kb", context) else [])]
    if metric == "speed":
        return ["latency_ms" if measured("latency_ms", context) else "flops"]
    if metric == "efficiency":
        also = [m for m in COST_WISHES[2:] if measured(m, context)]
        return ["params", "flops", *also]
    return [metric]


def dropped(metrics: Sequence[str], words: str, context: Context) -> list[Directive]:
    """No bound any more on these metrics; refused where there is none."""
    made: list[Directive] = []
    problem = context.state.problem
    for kind, bounds in (("limit", problem.constraints), ("aim", context.state.aims)):
        made += [
            Directive(kind, words, metric=c.metric, sense=c.sense)  # type: ignore[arg-type]
            for c in bounds
            if c.metric in metrics and (kind == "limit" or len(made) == 0)
        ]
    if not made:
        raise UserError(f"there is no limit on {' or '.join(metrics)}.")
    return made


def at_reading(
    metric: str, loss: float, words: str, context: Context, note: str = ""
) -> list[Directive]:
    """A limit at the design's own reading, `loss` worse than it at most."""
    if metric not in context.readings:
        raise UserError(f"there is no reading of {metric} to compare with yet; say a number.")
    up = direction(metric, context) == "max"
    reading = context.readings[metric]
    bound = reading - loss if up else reading + loss
    said = note or f"{context.subject} has {figure(reading)}"
    sense: Literal["min", "max"] = "min" if up else "max"
    limit = Directive("limit", words, metric=metric, sense=sense, bound=round(bound, 12), note=said)
    return [checked(limit, context)]

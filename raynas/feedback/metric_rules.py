"""What clauses about metrics come to: limits, reference points, the order of objectives."""

from __future__ import annotations

from collections.abc import Sequence

from raynas.directives import Directive
from raynas.errors import UserError
from raynas.feedback.amounts import Amount, at_reading, bounded, dropped, exact
from raynas.feedback.clauses import Clause
from raynas.feedback.context import Context
from raynas.feedback.lexing import Token
from raynas.feedback.wishes import direction, noted, prioritized, shares


def _amount(token: Token) -> Amount:
    return (token.value, "") if token.kind == "N" else (token.value[0], token.value[1])


def bound(clause: Clause) -> list[Directive]:
    metric = clause.groups["m"][0].value if clause.groups.get("m") else ""
    amount = _amount(clause.groups["q"][0])
    kind = "aim" if clause.kind("g") or clause.kind("h") or clause.kind("h2") else "limit"
    said = clause.kind("s")
    if said == "b" and amount[1] != "kB":
        raise UserError("what fits is told in kB or MB.")
    if said == "b" and not metric:
        metric = "model_size_kb"
    if said == "n" and metric in ("accuracy",):
        raise UserError("a limit above accuracy would refuse the better designs; say 'at least'.")
    if said in ("A", "b", "n", "-"):
        sense = "max"
    elif said in ("B", "V", "+"):
        sense = "min"
    else:
        sense = ""
    words, context = clause.words, clause.context
    if not sense:  # "I need 95 % accuracy"
        name = {"size": "params", "speed": "latency_ms", "": "latency_ms"}.get(metric, metric)
        sense = "min" if direction(name, context) == "max" else "max"
    if said in ("V", "B") and sense == "min":
        name = {"size": "params", "speed": "latency_ms", "": "latency_ms", "efficiency": "flops"}
        called = name.get(metric, metric)
        exactly = clause.groups["s"][0].words in (
            "at least",
            "no less than",
            ">=",
            "minimum",
            "a minimum of",
        )
        if direction(called, context) == "min" and not exactly:
            raise UserError(f"{called} is to be lowered; say 'at least' if a lower bound is meant.")
    return bounded(kind, sense, amount, metric, words, context)


def bound_loosely(clause: Clause) -> list[Directive]:
    """`max params 40k`, `3 ms at most`: only words that read so in this order."""
    said = clause.groups["s"][0].words
    if said not in ("max", "maximum", "min", "minimum", "at most", "at least"):
        raise UserError(f"{said!r} stands before a number, such as 'under 2 ms'.")
    return bound(clause)


def between(clause: Clause) -> list[Directive]:
    low, high = (_amount(t) for t in (clause.groups["x"][0], clause.groups["y"][0]))
    metric = clause.groups["m"][0].value if clause.groups.get("m") else ""
    if low[1] != high[1] or low[0] >= high[0] or metric == "accuracy":
        raise UserError("expected a lower and a higher number of one unit.")
    words, context = clause.words, clause.context
    return [
        *bounded("limit", "min", low, metric, words, context),
        *bounded("limit", "max", high, metric, words, context),
    ]


COMPARATIVES = frozenset(
    (
        "smaller",
        "lighter",
        "slimmer",
        "leaner",
        "more compact",
        "faster",
        "quicker",
        "speedier",
        "shrink it",
        "shrink the network",
        "shrink the model",
        "shrink the design",
    )
)


def share(clause: Clause) -> list[Directive]:
    left = clause.groups.get("t")  # "to a third"
    token = (left or clause.groups.get("q") or clause.groups["r"])[0]
    value = 0.5 if token.kind == "/" else token.value[0]
    if token.kind == "Q" and token.value[1] == "times":
        if value <= 1:
            raise UserError("expected more than once.")
        share = 1 / value
    else:
        share = value if left else 1 - value
    if not 0 < share < 1:
        raise UserError("expected a share between 0 and 100 %.")
    said = clause.groups["m"][0]
    if said.kind == "C" and said.words not in COMPARATIVES:
        raise UserError(f"{said.words!r} by how much? Say '20 % smaller' or '20 % faster'.")
    metric = said.value
    if metric in ("accuracy", "loss"):
        raise UserError(f"a share of {metric} is no clear wish; say a number, such as 95 %.")
    if metric == "efficiency":
        raise UserError("a share of what? Name parameters, flops, latency or size.")
    return _shared(metric, share, clause)


def runs(clause: Clause) -> list[Directive]:
    """`it must run in 3 ms`: a bound on the latency."""
    value, dimension = _amount(clause.groups["q"][0])
    named = clause.groups["m"][0].value if clause.groups.get("m") else "latency_ms"
    if dimension not in ("ms", "s") or named != "latency_ms":
        raise UserError("run in what time? Say 'latency under 2 ms'.")
    words, context = clause.words, clause.context
    return bounded("limit", "max", (value, dimension), "latency_ms", words, context)


def _shared(metric: str, share: float, clause: Clause) -> list[Directive]:
    made = shares(exact(metric, clause.context), share, clause.words, clause.context)
    guessed = metric == "speed" and made[0].metric == "flops"
    return noted(made, "this run knows no latency") if guessed else made


def wished(clause: Clause) -> list[Directive]:
    made: list[Directive] = []
    if clause.kind("e") and "edge" not in clause.groups["c"][0].words:
        raise UserError("to be run where? Only 'the edge' is known.")
    for token in clause.groups["c"]:
        if token.kind != "C":
            continue
        if token.value == "accuracy":
            made += prioritized(["accuracy"], (), clause.words, clause.context)
        else:
            made += _shared(token.value, 0.5, clause)
    return made


def lowered(clause: Clause) -> list[Directive]:
    metric = clause.groups["m"][0].value
    up = clause.kind("v") in "mg+"
    if metric in ("speed", "efficiency", "accuracy"):
        if not up:
            raise UserError(
                f"less {metric} is no wish that could be followed; say what shall gain."
            )
        if metric == "accuracy":
            return prioritized(["accuracy"], (), clause.words, clause.context)
    elif up:
        raise UserError(f"more {metric} is no aim of its own; say what shall gain by it.")
    return _shared(metric, 0.5, clause)


def _metrics(tokens: Sequence[Token], context: Context) -> list[str]:
    """The objectives that metrics named in an order mean."""
    objectives = [o.name for o in context.state.problem.objectives]
    found: list[str] = []
    for token in tokens:
        if token.kind == "M":
            names = exact(token.value, context)
            found += [n for n in names if n in objectives] or names[:1]
    return list(dict.fromkeys(found))


def order(clause: Clause) -> list[Directive]:
    first = _metrics(clause.groups["m"], clause.context)
    # what is named after "over" is all that the word means: an aim on any of it is dropped
    after = [t for t in clause.groups.get("w", ()) if t.kind == "M"]
    over = [n for t in after for n in exact(t.value, clause.context)]
    if set(first) & set(over):
        raise UserError("the same metric is on both sides.")
    verb = clause.groups.get("v", ())
    named = [t.value for t in clause.groups["m"] if t.kind == "M"]
    goals = [n for n in named if n not in ("speed", "efficiency", "size")]
    lowers = any(direction(n, clause.context) == "min" for n in goals) or "size" in named
    if verb and verb[0].words.startswith("maximi") and lowers:
        raise UserError(f"more {', '.join(named)} is no aim of a search.")
    if verb and verb[0].kind == "y" and not lowers:
        raise UserError(f"less {', '.join(named)} is no aim of a search.")
    return prioritized(first, over, clause.words, clause.context)


def loss(clause: Clause) -> list[Directive]:
    token, metric = clause.groups["q"][0], clause.groups["m"][0].value
    if metric != "accuracy":
        raise UserError("a loss of what? Only one of accuracy can be bounded so.")
    value = token.value[0]
    name = f"{clause.context.subject} has {100 * clause.context.readings.get(metric, 0):.4g} %"
    return at_reading(metric, value, clause.words, clause.context, name)


def no_worse(clause: Clause) -> list[Directive]:
    if clause.kind("k"):
        said = clause.groups["k"][0].words
        metric = "speed" if "slow" in said else "accuracy" if "accurate" in said else "size"
    else:
        metric = clause.groups["m"][0].value
    made: list[Directive] = []
    for name in exact(metric, clause.context):
        made += at_reading(name, 0.0, clause.words, clause.context)
    return made


def limit_dropped(clause: Clause) -> list[Directive]:
    names = exact(clause.groups["m"][0].value, clause.context)
    return dropped(names, clause.words, clause.context)

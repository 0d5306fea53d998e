"""Feedback as a mapping: each key of it in plain words, all of it or nothing.

```yaml
layer_3: {comment: larger receptive field, suggestion: {kernel_size: 5}}
layer2: {keep: true}
constraint_update: {prioritize: accuracy_over_size, max_params: 40_000, max_latency_ms: null}
avoid: {layer3.type: [separable_conv]}      # or phrases: [7x7 kernels]
keep: [layer2, layer3.kernel_size]          # as they are; or options: {num_layers: [4, 8]}
try: [a design's text, the name of a published one, {layer3.kernel_size: 5}]
prefer: {layer3.type: {separable_conv: high}}
add: {layer3.kernel_size: [9]}
say: free words
```
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from raynas.architecture import Decision, Option
from raynas.directives import CONFIDENCES, Directive
from raynas.errors import UserError, unknown
from raynas.feedback.checking import checked, option_of
from raynas.feedback.context import Context
from raynas.feedback.options import leaf_called
from raynas.feedback.places import active, named
from raynas.feedback.plain import decision_of
from raynas.feedback.wishes import attempt, keep, pin, prioritized
from raynas.objective import KNOWN

Say = Callable[[str, Context], list[Directive]]

SPOKEN = {  # metrics as they are called in `accuracy_over_size`
    "size": "params",
    "parameters": "params",
    "latency": "latency_ms",
    "compute": "flops",
    "memory": "peak_memory_mb",
}
OF_LAYER = ("comment", "suggestion", "keep")
KEYS = ("layer_K", "constraint_update", "avoid", "keep", "try", "prefer", "add", "say")


def directives_of(feedback: Mapping[str, Any], context: Context, say: Say) -> list[Directive]:
    """What a mapping comes to; `say` reads free words.

    Raises:
        UserError: names every wrong field.
    """
    made: list[Directive] = []
    wrong: list[str] = []
    readers: dict[str, Callable[[Any], Iterable[Directive]]] = {
        "constraint_update": lambda v: _constraints(v, context),
        "avoid": lambda v: _avoided(v, context, say),
        "keep": lambda v: _kept(v, context),
        "try": lambda v: [_tried(t, context) for t in _items(v)],
        "prefer": lambda v: _preferred(v, context),
        "add": lambda v: _added(v, context),
        "say": lambda v: [d for text in _names(v) for d in say(text, context)],
    }
    for key, value in feedback.items():
        key = str(key)
        try:
            made += readers[key](value) if key in readers else _layer(key, value, context)
        except UserError as error:
            wrong += [f"{key}: {line}" for line in str(error).splitlines()]
    if wrong:
        raise UserError("\n".join(wrong))
    return made


def _layer(key: str, value: Any, context: Context) -> list[Directive]:
    try:
        paths = named(key, context)
    except UserError as error:
        if key.startswith("layer"):
            raise
        raise UserError(f"expected one of {', '.join(KEYS)}, or a layer; {error}") from None
    if not isinstance(value, Mapping):
        raise UserError(f"expected a mapping of {', '.join(OF_LAYER)}; got {value!r}.")
    for name in value:
        if name not in OF_LAYER:
            raise unknown("layer", name, list(OF_LAYER))
    comment = str(value.get("comment") or "")
    made, wrong = [], []
    suggestion = value.get("suggestion") or {}
    if not isinstance(suggestion, Mapping):
        raise UserError(
            f"suggestion: expected a mapping of decisions to options; got {suggestion!r}."
        )
    for leaf, given in suggestion.items():
        try:
            path = _within(str(leaf), paths, key, context)
            active([path], context)
            words = comment or f"{key}: {leaf} {given}"
            made += pin([path], _items(given), words, context)
        except UserError as error:
            wrong.append(str(error))
    if wrong:
        raise UserError("\n".join(wrong))
    if value.get("keep"):
        kept = paths if value["keep"] is True else [
            _within(leaf, paths, key, context) for leaf in _names(value["keep"])
        ]  # fmt: skip
        made += keep(kept, comment or f"{key}: keep", context)
    if comment and not made:
        made.append(Directive("comment", f"{key}: {comment}"))
    if not made:
        raise UserError(f"expected one or more of {', '.join(OF_LAYER)}; got {value!r}.")
    return made


def _within(leaf: str, paths: Sequence[str], key: str, context: Context) -> str:
    """The decision of a layer that a leaf's name means."""
    leaves: dict[str, list[str]] = {}
    for path in paths:
        leaves.setdefault(context.space.by_name[path].leaf, []).append(path)
    if leaf in paths:
        return leaf
    called = leaf_called(leaf, leaves)
    if called is None:
        raise unknown(f"{key} decides", leaf, list(leaves))
    if len(leaves[called]) > 1:
        raise UserError(f"{leaf}: {key} has several; name one of {', '.join(leaves[called])}.")
    return leaves[called][0]


def _constraints(value: Any, context: Context) -> list[Directive]:
    if not isinstance(value, Mapping):
        raise UserError(f"expected a mapping such as {{'max_params': 40_000}}; got {value!r}.")
    made, wrong = [], []
    for name, given in value.items():
        try:
            made += _constraint(str(name), given, context)
        except UserError as error:
            wrong.append(str(error))
    if wrong:
        raise UserError("\n".join(wrong))
    return made


def _constraint(name: str, given: Any, context: Context) -> list[Directive]:
    words = f"{name}: {given}"
    if name == "prioritize":
        first, _, over = str(given).partition("_over_") if isinstance(given, str) else ("", "", "")
        wanted = [first] if first else list(_names(given))
        less = [over] if over else []
        return prioritized(
            [_metric(m, context) for m in wanted],
            [_metric(m, context) for m in less],
            words,
            context,
        )
    if name == "target_device":
        now = context.state.problem.target_device
        if given == now:
            return []
        raise UserError(
            f"target_device: a run keeps its device, as its latencies are of it ({now or 'none'}); "
            f"got {given!r}. Begin a search of its own, from this one's designs (start_from)."
        )
    sense, _, metric = name.partition("_")
    if sense not in ("min", "max") or not metric:
        raise unknown(
            "constraint", name, ["prioritize", "max_<metric>", "min_<metric>", "target_device"]
        )
    metric = metric if metric in KNOWN else SPOKEN.get(metric, metric)
    bound = Directive("limit", words, metric=metric, sense=sense, bound=given)  # type: ignore[arg-type]
    return [checked(bound, context)]


def _metric(name: str, context: Context) -> str:
    names = [o.name for o in context.state.problem.objectives]
    if name in names or name in KNOWN:
        return name
    if name in SPOKEN:
        return SPOKEN[name]
    if name == "speed":
        return "latency_ms" if "latency_ms" in {*context.readings, *names} else "flops"
    raise unknown("prioritize", name, [*names, *KNOWN, *SPOKEN, "speed"])


def _avoided(value: Any, context: Context, say: Say) -> list[Directive]:
    if not isinstance(value, Mapping):
        return [d for phrase in _names(value) for d in say(f"no {phrase}", context)]
    return [
        d
        for name, given in value.items()
        for d in _each("forbid", str(name), _items(given), context)
    ]


def _kept(value: Any, context: Context) -> list[Directive]:
    """Pins: of what the design under discussion has, or of the options that a mapping gives."""
    if not isinstance(value, Mapping):
        return [d for n in _names(value) for d in keep(named(n, context), f"keep {n}", context)]
    return [
        d for name, given in value.items() for d in _each("pin", str(name), _items(given), context)
    ]


def _preferred(value: Any, context: Context) -> list[Directive]:
    if not isinstance(value, Mapping):
        raise UserError(
            f"expected a mapping such as {{'layer3.type': {{'conv': 'high'}}}}; got {value!r}."
        )
    made = []
    for name, given in value.items():
        sure = given if isinstance(given, Mapping) else dict.fromkeys(_items(given), "medium")
        by_confidence: dict[str, list[Any]] = {}
        for option, confidence in sure.items():
            if confidence not in CONFIDENCES:
                raise unknown(f"{name}: confidence", confidence, list(CONFIDENCES))
            by_confidence.setdefault(confidence, []).append(option)
        for confidence, options in by_confidence.items():
            made += _each("prefer", str(name), options, context, confidence)
    return made


def _each(
    kind: str, name: str, given: Sequence[Any], context: Context, confidence: str = "medium"
) -> list[Directive]:
    """One directive per set of options that the words mean at the decisions of this name."""
    groups: dict[tuple[Option, ...], list[str]] = {}
    for path in decisions_called(name, context):
        meant = dict.fromkeys(o for g in given for o in option_of(path, g, context))
        groups.setdefault(tuple(meant), []).append(path)
    words = f"{name}: {', '.join(map(str, given))}"
    return [
        checked(Directive(kind, words, tuple(p), o, confidence=confidence), context)  # type: ignore[arg-type]
        for o, p in groups.items()
    ]


def decisions_called(name: str, context: Context) -> tuple[str, ...]:
    """A decision by its name, or all of one leaf (`kernel_size`)."""
    leaves = [d.leaf for d in context.space.decisions]
    if name not in context.space.by_name and (leaf := leaf_called(name, leaves)):
        return tuple(d.name for d in context.space.decisions if d.leaf == leaf)
    found = named(name, context)
    if len(found) > 1:
        raise UserError(
            f"{name}: expected a decision; got a layer. Name one of {', '.join(found)}."
        )
    return found


def _tried(given: Any, context: Context) -> Directive:
    if not isinstance(given, Mapping):
        words = str(given)
        return checked(Directive("try", words, architecture=words, tested=False), context)
    edits: dict[str, Option] = {}
    for name, option in given.items():
        paths = named(str(name), context)
        if len(paths) > 1:
            raise UserError(f"{name}: expected a decision; got a layer. One of {', '.join(paths)}.")
        edits[paths[0]] = option_of(paths[0], option, context)[0]
    return attempt(edits, "try " + ", ".join(f"{n} {o}" for n, o in given.items()), context)


def _added(value: Any, context: Context) -> list[Directive]:
    if not isinstance(value, Mapping):
        raise UserError(f"expected a mapping such as {{'layer3.kernel_size': [9]}}; got {value!r}.")
    made = []
    for name, given in value.items():
        if isinstance(given, Mapping):
            rest = {k: v for k, v in given.items() if k != "before"}
            decision: Decision = decision_of({"name": name, **rest})
            d = Directive("add", f"{name}", decision=decision, before=given.get("before"))
        else:
            paths = decisions_called(str(name), context)
            d = Directive("add", f"{name}: {given}", paths, tuple(_items(given)))
        made.append(checked(d, context))
    return made


def _items(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _names(value: Any) -> list[str]:
    items = _items(value)
    if not items or not all(isinstance(item, str) for item in items):
        raise UserError(f"expected a text or a list of texts; got {value!r}.")
    return items

"""Which claims are worth saying: the same for every level, more of them at each.

A level says the first so many of one ranking, so that what is said briefly is also said at length;
then what is said is put in the order in which a person reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest

from raynas.explanation.claims import Claim

LEVELS = {"brief": 5, "standard": 8, "detailed": 20}  # sentences, at most
SURE = 0.8  # a probability from which a sign is at least likely
CLEAR = ("asserts", "leans")
FIRST = ("ranking", "collapse")  # what everything else depends on
ORDER = (  # of reading
    "performance",
    "suggestion",
    "progress",
    "directive",
    "confirmation",
    "audit",
    "ranking",
    "collapse",
    "scaling",
    "attribution",
    "effect",
    "contrast",
    "importance",
    "interaction",
    "principle",
    "motif",
    "scorecard",
    "tree",
    "tradeoff",
    "advice",
    "provenance",
    "belief",
    "prediction",
    "calibration",
    "share",
)


def chosen(claims: Sequence[Claim], most: int) -> list[Claim]:
    """The claims worth saying first, at most so many, in the order in which they are read.

    In a few: what is to be expected of the best design, whether scores can be trusted, the most
    valuable decision, the one that is least certain, the cheapest saving, the best untried edit.
    """
    ranked: dict[str, Claim] = {}
    for claim in _ranking(claims):
        ranked.setdefault(claim.claim_id, claim)
    picked = set(list(ranked)[:most])
    return in_order([c for c in claims if c.claim_id in picked])


def in_order(claims: Sequence[Claim]) -> list[Claim]:
    """Claims as they are read: by kind, what was taken back last, what is clear before open."""

    def place(c: Claim) -> tuple[int, bool, bool]:
        return ORDER.index(c.kind), c.status == "taken back", c.verdict == "open"

    return sorted(claims, key=place)


def _ranking(claims: Sequence[Claim]) -> Iterator[Claim]:
    """All that is worth saying, what matters most first; a claim may come twice."""

    def of(kind: str, keep: Callable[[Claim], bool] | None = None) -> list[Claim]:
        return [c for c in claims if c.kind == kind and (keep is None or keep(c))]

    effects = _clearest(of("effect", lambda c: c.family == "whole design"))
    clear = [c for c in effects if c.verdict in CLEAR]
    parts = sorted(of("attribution", _clear), key=_size, reverse=True)
    saving = [*of("advice", lambda c: c.family == "saving")[:1], *_best_saving(claims)]
    untried = of("advice", lambda c: c.family != "saving")
    performance = of("performance")
    best = performance[0].trial if performance else None
    fresh = of("confirmation", lambda c: c.trial == best)
    yield from (fresh or performance)[:1]
    yield from _of_last_turn(of("suggestion"))[:2]
    yield from _of_last_turn(of("progress"))[:1]
    yield from [c for kind in FIRST for c in of(kind)]
    yield from of("scaling")[:1]  # against the best of the others
    yield from (parts or clear)[:1]
    yield from _least_certain(claims, effects)
    yield from saving[:1]
    yield from untried[:1]
    yield from _of_last_turn(of("directive"))[:2]
    yield from [*performance, *of("audit"), *of("confirmation")[:1]]
    yield from of("importance", _whole)[:1]
    yield from [c for c in of("principle") if c.verdict == "asserts"][:1]
    yield from of("interaction")[:1]
    yield from [*of("share"), *of("scorecard")]
    yield from [*of("suggestion"), *of("progress")]
    rows = (
        parts[1:4],
        clear[: None if not parts else 4],
        of("contrast", _clear)[:3],
        of("principle")[:3],
        of("motif", _clear)[:2],
        of("importance")[1:3],
        [*of("tree"), *of("belief")[:1], *of("provenance")[:1]],
        saving[1:],
    )
    for row in zip_longest(*rows):
        yield from (c for c in row if c is not None)


def _of_last_turn(claims: Sequence[Claim]) -> list[Claim]:
    """Those of the last turn that has any and was not taken back."""
    held = [c for c in claims if c.status == "in force"]
    last = max((_turn(c) for c in held), default=0)
    return [c for c in held if _turn(c) == last]


def _turn(c: Claim) -> int:
    return int((c.family or "0").rpartition(" ")[2])


def _clear(c: Claim) -> bool:
    return c.verdict in CLEAR


def _whole(c: Claim) -> bool:
    return c.family == "whole space" and c.path is not None


def _size(c: Claim) -> float:
    return abs(c.estimate or 0.0)


def _clearest(effects: Sequence[Claim]) -> list[Claim]:
    """Of each decision the clearest comparison, which stands first."""
    found: dict[str | None, Claim] = {}
    for claim in effects:
        found.setdefault(claim.path, claim)
    return list(found.values())


def _least_certain(claims: Sequence[Claim], effects: Sequence[Claim]) -> list[Claim]:
    """The choice of the design of which least is known: with the widest interval of those that
    cannot be told; without any the like among the effects."""
    for found in ([c for c in claims if c.kind == "contrast"], effects):
        unknown = [c for c in found if c.verdict == "open" and c.ci_low is not None]
        dim = [c for c in unknown if (c.p_sign or 0.0) < SURE] or unknown
        if dim:
            return [max(dim, key=lambda c: (c.ci_high or 0.0) - (c.ci_low or 0.0))]
    return []


def _best_saving(claims: Sequence[Claim]) -> list[Claim]:
    """The trade-off that saves most among those that may cost nothing, else the cheapest."""
    offers = [c for c in claims if c.kind == "tradeoff" and c.side_effects]
    free = [c for c in offers if c.verdict == "open"]
    return sorted(free or offers, key=lambda c: sum(c.side_effects.values()))[:1]

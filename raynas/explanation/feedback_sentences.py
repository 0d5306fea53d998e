"""Words for what feedback did: suggestions put to the test, directives, and turns as a whole."""

from __future__ import annotations

from collections.abc import Callable

from raynas.explanation.claims import Claim
from raynas.explanation.wording import (
    change,
    costs,
    effect,
    epochs,
    interval,
    percent,
    plural,
    quantity,
    told,
    value,
    verb,
)
from raynas.objective import COSTS

BACK = "taken back"  # the status of what holds no more because somebody took it back
REPLACED = "replaced"  # or because it was said otherwise later


def _suggestion(c: Claim) -> str:
    if c.verdict == "null":
        return f"{c.about} makes no difference: it is the same network (proven, not estimated)."
    edits, controls = (int(c.side_effects[name]) for name in ("edits", "controls"))
    if c.estimate is None:
        return f"{c.about}: not tested yet ({_trainings(edits, controls)}). {_adopted(c)}."
    both = interval(c)
    against = f"{edits} against {plural(controls, 'trial')}"
    shown = f" ({both.strip(' ()')}; {against})" if both else f" ({against}, no interval)"
    if told(c):
        said = effect(c, c.about).removesuffix(both)
    else:
        said = f"{c.about}: {quantity(c.metric)} {change(c)}"
    after = f" after {epochs(c)}" if c.fidelity else ""
    return f"{said}{after}{shown}{_price(c)}. {_adopted(c)}; {_evidence(c)}."


def _trainings(edits: int, controls: int) -> str:
    """What there is of fresh trainings where the two cannot be compared."""
    if edits and controls:
        return "no two trainings of both to the same epoch"
    return f"{plural(edits, 'fresh training')} of it, {controls} of the design that it changes"


def _price(c: Claim) -> str:
    """What it costs: `, latency +0.21 ms; it needs 1.2 times more params`."""
    slower = c.side_effects.get("latency_difference")
    said = "" if slower is None else f", latency {slower:+.2g} ms"
    needs = [n for n in costs(c) if slower is None or not n.endswith("latency")]
    return f"{said}; it needs {' and '.join(needs)}" if needs else said


def _adopted(c: Claim) -> str:
    done = "Tried" if c.path is None else "Adopted"
    return f"{done} because you asked{', taken back since' if c.status == BACK else ''}"


def _evidence(c: Claim) -> str:
    if c.ci_low is None:
        one = c.side_effects["edits"] == c.side_effects["controls"] == 1
        few = "one reading each tells" if one else "readings that are all the same tell"
        return f"{few} nothing of chance"
    if not told(c):
        return "the evidence does not yet tell it from chance"
    if verb(c) == "worsens":
        return "the evidence speaks against it"
    return "the evidence speaks for it" if verb(c) == "improves" else "it is no chance"


def _directive(c: Claim) -> str:
    turn = (c.family or "").capitalize()
    tell = _RESULTS.get(c.method_args)  # of a comment there is nothing to tell
    result = tell(c) if tell else ""
    ended = {BACK: "taken back", REPLACED: "replaced"}.get(c.status)
    by = (c.scope.get("predicate") or "") if ended else ""
    end = f" It was {ended} in {by}." if ended and by else " It was taken back." if ended else ""
    return f"{turn}: {c.about}.{' ' if result else ''}{result}{end}"


def _counts(c: Claim) -> tuple[int, int]:
    return int(c.side_effects["hits"]), int(c.side_effects["of"])


def _keeping(c: Claim) -> str:
    hits, count = _counts(c)
    if not count:
        return "No design was proposed since."
    if hits < count:
        return f"{hits} of the {plural(count, 'design')} proposed since {_verb(hits, 'keep')} it."
    if count == 1:
        return "The one design proposed since keeps it."
    return f"All {count} designs proposed since keep it."


def _having(c: Claim) -> str:
    hits, count = _counts(c)
    if not count:
        return "No design was proposed since."
    return f"{hits} of {plural(count, 'design')} proposed since {_verb(hits, 'have')} it."


def _limiting(c: Claim) -> str:
    hits, count = _counts(c)
    if c.metric not in COSTS:
        keep = f"{hits} of {plural(count, 'design')} read since {_verb(hits, 'keep')} it."
        return keep if count else "No design was read since."
    if not count:
        return "No design was proposed since."
    were = "was" if hits == 1 else "were"
    return f"Of {plural(count, 'design')} proposed since, {hits or 'none'} {were} refused for it."


def _aiming(c: Claim) -> str:
    hits, count = _counts(c)
    if not count:
        return f"No design was trained to the end since.{_before(c, 'reached it')}"
    share = percent(c.estimate or 0.0)
    reach = f"{hits} of {plural(count, 'design')} trained to the end since {_verb(hits, 'reach')}"
    return f"{reach} it ({share}).{_before(c, 'did')}"


def _preferring(c: Claim) -> str:
    hits, count = _counts(c)
    if not count:
        return "No design that answers it was proposed since."
    share = percent(c.estimate or 0.0)
    said = f"{hits} of {plural(count, 'answer')} proposed since {_verb(hits, 'are')} preferred"
    return f"{said} ({share}).{_before(c, 'were')}"


def _before(c: Claim, did: str) -> str:
    if "of_before" not in c.side_effects:
        return ""
    hits, count = (int(c.side_effects[name]) for name in ("hits_before", "of_before"))
    return f" Before, {hits} of {count} {did} ({percent(c.side_effects['first'])})."


def _ordering(c: Claim) -> str:
    if c.chosen is None:
        return "No design stands on the front."
    if c.alternative is None:
        return f"Trial {c.chosen} stands first now; none did before."
    if c.chosen == c.alternative:
        return f"Trial {c.chosen} stood first before and does now."
    return f"Trial {c.alternative} stood first before, trial {c.chosen} does now."


def _trying(c: Claim) -> str:
    if c.trial is None:
        return "Not tried yet."
    if c.estimate is None:
        return f"It was tried as trial {c.trial}, which has no reading."
    read = f"{quantity(c.metric)} {value(c.estimate, c.metric)}"
    after = f" after {epochs(c)}" if c.fidelity else ""
    return f"It was tried as trial {c.trial}: {read}{after}, one reading."


def _verb(count: int, plural_form: str) -> str:
    """A verb as it goes with a count."""
    if count != 1:
        return plural_form
    irregular = {"have": "has", "are": "is", "reach": "reaches"}
    return irregular.get(plural_form, f"{plural_form}s")


_RESULTS: dict[str, Callable[[Claim], str]] = {
    "pin": _keeping,
    "forbid": _keeping,
    "add": _having,
    "limit": _limiting,
    "aim": _aiming,
    "prefer": _preferring,
    "order": _ordering,
    "try": _trying,
}


def _progress(c: Claim) -> str:
    start = f"Since {c.family}, {plural(c.n_trials, 'design')} {_were(c.n_trials)} proposed"
    now, was = (int(c.side_effects[f"front_{when}"]) for when in ("now", "before"))
    front = f"the front has {plural(now, 'design')}, it had {was}"
    if c.chosen is None:
        return f"{start}. No design stands on the front now; it had {plural(was, 'design')} before."
    best = f"trial {c.chosen}{_read(c, 'design')}"
    if c.alternative is None:
        return f"{start}. The best is {best}; there was none before; {front} (single readings)."
    if c.alternative == c.chosen:
        return f"{start}. The best is still {best}; {front} (single readings)."
    passed = {
        "left out": ", now left out by what was said",
        "behind": ", now ranked behind by what was said",
    }.get(c.method_args, "")
    before = f"trial {c.alternative}{_read(c, 'reference')}{passed}"
    return f"{start}. The best is {best}, before it was {before}; {front} (single readings)."


def _read(c: Claim, name: str) -> str:
    found = c.side_effects.get(name)
    return "" if found is None else f" with {quantity(c.metric)} {value(found, c.metric)}"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


FEEDBACK_WORDS: dict[str, Callable[[Claim], str]] = {
    "suggestion": _suggestion,
    "directive": _directive,
    "progress": _progress,
}

"""What people add to a run's space: whether it can be had, and what designs had before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from raynas import mapping
from raynas.architecture import Architecture, Decision, Option
from raynas.buildable import fault_in, known_words, words
from raynas.compressing import DECISIONS as COMPRESSION
from raynas.directives import Directive, listing
from raynas.errors import UserError, unknown
from raynas.recipe import DECISIONS as TRAINING
from raynas.recipe import USUAL
from raynas.run import RunInfo
from raynas.space import Shape, Space

__all__ = ["check_added", "check_widening", "decisions_of", "may_widen"]

GROUPS = {"training": TRAINING, "compression": COMPRESSION}  # decisions for any space, by name


def may_widen(info: RunInfo) -> None:
    """Raises UserError if nothing can be added to a run's space."""
    if info.shared:
        raise UserError(
            "this search scores designs by weights that they share, and these were trained "
            "without what you add. Begin a new search for it: the space as it is can still be "
            "narrowed (pin, forbid)."
        )


def decisions_of(name: str, info: RunInfo) -> tuple[Directive, ...]:
    """The directives that add a group of decisions which any space can be given.

    Designs so far have what the run trained them with, and ordinary weights.

    Args:
        name: `training` or `compression`.

    Raises:
        UserError: there is no such group, or the run has these decisions.
    """
    if name not in GROUPS:
        raise unknown("group of decisions to add", name, list(GROUPS))
    recipe = info.settings.get("recipe") or {}
    had = {**USUAL, **_trained(recipe)}
    if all(d.name in info.space.by_name for d in GROUPS[name]):
        raise UserError(f"the decisions of {name} are in this space already.")
    if name == "compression" and info.screening is not None:
        raise UserError("only networks that are trained alone are rounded and pruned.")
    if name == "compression" and any(d.leaf == "bits" for d in info.space.decisions):
        raise UserError(f"the space {info.space.name} decides bits itself: there is none to add.")
    return tuple(
        Directive("add", words=f"add {name}", decision=_with(d, had[d.name]), before=had[d.name])
        for d in GROUPS[name]
        if d.name not in info.space.by_name
    )


def _trained(recipe: Any) -> dict[str, Option]:
    """How designs were trained so far, as answers to the decisions of training."""
    optimizer = str(recipe.get("optimizer") or "adamw")
    usual = {"adamw": (0.003, 0.02), "sgd": (0.1, 0.0005)}[optimizer]
    rate = float(recipe.get("learning_rate") or usual[0])
    return {
        "train.optimizer": optimizer,
        "train.learning_rate": rate,
        "train.weight_decay": usual[1],
    }


def _with(decision: Decision, option: Option) -> Decision:
    """The decision, which has this option too."""
    alone = Space("any", (decision,)).with_options(decision.name, [option])
    return alone.decisions[0]


def check_added(
    space: Space,
    directives: Iterable[Directive],
    shape: Shape,
    classes: int,
    design: Architecture | None = None,
) -> None:
    """`check_widening` of all `add` directives of a turn, which may need each other."""
    added = [d for d in directives if d.kind == "add"]
    for d in added:
        if d.decision is not None and d.before is not None and d.decision.name not in space.by_name:
            space = _asking(space, d.decision)
            if design is not None and not _for_any(d.decision):
                design = mapping.design(design, {d.decision.name: d.before})
    for d in added:
        check_widening(space, d, shape, classes, design)


def check_widening(
    space: Space,
    directive: Directive,
    shape: Shape,
    classes: int,
    design: Architecture | None = None,
) -> None:
    """Raises UserError unless networks with what is added can be built and are different ones.

    Args:
        space: with its code, as it is without the directive; for a new decision of an own space
            the code is that of its new version, which asks for it.
        shape, classes: of the data.
        design: under discussion; it must be possible with the option as well.
    """
    if directive.decision is not None:
        _check_decision(space, directive, shape, classes, design)
        return
    for path in directive.paths:
        if path not in space.by_name:
            raise unknown(f"decision of {space.name}", path, list(space.by_name))
        for option in directive.options:
            if option not in space.by_name[path].options:
                _check_option(space, path, option, shape, classes, design)


def _check_decision(
    space: Space, directive: Directive, shape: Shape, classes: int, design: Architecture | None
) -> None:
    new, had = directive.decision, directive.before
    assert new is not None, "seen to by the caller"
    if had is None or had not in new.options:
        raise UserError(
            f"new decision {new.name}: expected the option that designs so far had (`before`), one "
            f"of {listing(new.options)}; got {'none' if had is None else had}."
        )
    if _for_any(new):
        return
    asked = space.by_name.get(new.name)
    if asked is None:
        space = _asking(space, new)
    elif asked.when is not None:
        raise UserError(
            f"new decision {new.name}: {space.name} asks for it only where {asked.when[0]} is "
            f"{listing(sorted(asked.when[1], key=str))}. What is added to a run is asked of every "
            "design: ask for it always, and let it do nothing elsewhere."
        )
    for option in new.options:
        if option != had and (fault := fault_in(space, new.name, option, shape, classes, design)):
            raise UserError(
                f"new decision {new.name} cannot be {option} in {space.name}: {fault}. In a space "
                f"of your own, give the version that has it (space=): with raynas.choice"
                f"({new.name!r}, [...])."
            )


def _for_any(decision: Decision) -> bool:
    """Whether any network can be given the decision."""
    return decision.name.partition(".")[0] in ("train", "compress")


def _asking(space: Space, new: Decision) -> Space:
    """The space with a decision that its code may ask for: it was opened for a run without it.

    Whether the code really asks is seen by building networks.
    """
    if _for_any(new):
        return space
    return replace(space, canonical=None, simplify=None).with_decision(new)


def _check_option(
    space: Space,
    path: str,
    option: Option,
    shape: Shape,
    classes: int,
    design: Architecture | None,
) -> None:
    fault = fault_in(space, path, option, shape, classes, design)
    if not fault:
        return
    decision = space.by_name[path]
    allowed = f"The space allows {listing(decision.options)}"
    if isinstance(option, str) and isinstance(decision.options[0], str):
        others = [w for w in words(space) if w not in decision.options and w != option]
        can = known_words(space, path, others, shape, classes)
        allowed += f"; its code could do {listing(can)} as well" if can else ""
    raise UserError(
        f"{path} cannot be {option} in {space.name}: {fault}. {allowed}. In a space of your own, "
        f"raynas.choice({path!r}, [...]) with one option more widens it: change its file and give "
        "it again (space=)."
    )

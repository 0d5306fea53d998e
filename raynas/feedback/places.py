"""Where something is said to be: names of layers and decisions -> the decisions there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from raynas.directives import listing, parts
from raynas.errors import UserError, unknown
from raynas.feedback.context import Context
from raynas.space import Space


@dataclass(frozen=True)
class Place:
    """Decisions that words point at.

    Attributes:
        paths: all of them, in every design of the space.
        parts: the decisions of each layer that was named; all of these must be in a design that a
            suggestion is about, of others (`loose`: "after layer 4") some.
        words: what was said.
    """

    paths: tuple[str, ...]
    parts: tuple[tuple[str, ...], ...]
    words: str
    loose: bool = False
    everywhere: bool = False

    def check_active(self, context: Context) -> None:
        """Raises UserError if the design under discussion has no such part."""
        design = context.design
        if design is None or self.everywhere:
            return
        on = [any(p in design for p in part) for part in self.parts]
        if not any(on) or (not self.loose and not all(on)):
            raise UserError(why_off(self.parts[on.index(False)][0], context))


def layers_of(space: Space) -> list[str]:
    """All names that decisions stand under: `stage1`, `stage1.block0`."""
    names: dict[str, None] = {}
    for d in space.decisions:
        pieces = d.layer.split(".") if d.layer else []
        names.update({".".join(pieces[: i + 1]): None for i in range(len(pieces))})
    return list(names)


def within(space: Space, layer: str) -> tuple[str, ...]:
    """The decisions of a layer and of what it holds."""
    return tuple(d.name for d in space.decisions if d.name.startswith(f"{layer}."))


def network_layer(number: int, context: Context) -> tuple[str, ...]:
    """The decisions behind layer `number` of the network, where no decisions are named so.

    Raises:
        UserError: there is no such layer, or nothing decides it.
    """
    if not context.layers:
        have = parts(layers_of(context.space))
        raise UserError(
            f"no decisions are named layer {number}, and no design is under discussion whose "
            f"layers could be counted; there are {have}."
        )
    if number >= len(context.layers):
        raise UserError(
            f"{context.subject} has {len(context.layers)} layers, 0 to {len(context.layers) - 1}; "
            f"there is no layer {number}."
        )
    name, decisions = context.layers[number]
    if not decisions:
        raise UserError(f"layer {number} ({name}) is the same in all designs: nothing decides it.")
    return tuple(decisions)


def named(name: str, context: Context) -> tuple[str, ...]:
    """The decisions that a key such as `layer_3`, `stage1` or `layer3.kernel_size` means.

    Raises:
        UserError: there is nothing of this name.
    """
    space = context.space
    if name in space.by_name:
        return (name,)
    layers = layers_of(space)
    plain = re.sub(r"_(?=\d)", "", name)
    if plain in layers:
        return within(space, plain)
    if plain in space.by_name:
        return (plain,)
    if number := re.fullmatch(r"layer(\d+)", plain):
        if not any(re.fullmatch(r"layer\d+", known) for known in layers):
            return network_layer(int(number[1]), context)
        raise UserError(
            f"there is no layer {number[1]}; the space has "
            f"{parts([n for n in layers if n.startswith('layer')])}."
        )
    raise unknown("layer or decision", name, [*layers, *space.by_name])


def active(paths: Sequence[str], context: Context, what: str = "") -> tuple[str, ...]:
    """Those of the decisions that the design under discussion answers; all where there is none.

    Raises:
        UserError: it answers none of them.
    """
    if context.design is None:
        return tuple(paths)
    on = tuple(p for p in paths if p in context.design)
    if not on:
        raise UserError(why_off(paths[0], context, what))
    return on


def why_off(path: str, context: Context, what: str = "") -> str:
    """Why a decision is no part of the design under discussion."""
    space, design = context.space, context.design
    decision = space.by_name[path]
    assert design is not None
    what = what or (parts([decision.layer]) if decision.layer else path)
    while decision.when is not None and decision.when[0] not in design:
        decision = space.by_name[decision.when[0]]
    if decision.when is None:
        return f"{what} is no part of {context.subject}."
    parent = space.by_name[decision.when[0]]
    needed = [o for o in parent.options if o in decision.when[1]]
    return (
        f"{what} is part of designs with {parent.name} {listing(needed)} only; {context.subject} "
        f"has {parent.name} {listing([design[parent.name]])}{_has(path, context)}."
    )


def _has(path: str, context: Context) -> str:
    """`: layers 0 to 3`, the siblings that the design has."""
    assert context.design is not None
    layer = context.space.by_name[path].layer
    stem = layer.rstrip("0123456789")
    names = dict.fromkeys(context.space.by_name[n].layer for n in context.design.options)
    alike = [n for n in names if n.rstrip("0123456789") == stem and n != stem]
    return f": {parts(alike)}" if alike and stem != layer else ""

"""A clause that a rule matched: what was named in it, and where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from raynas.errors import UserError
from raynas.feedback.context import Context
from raynas.feedback.lexing import Token
from raynas.feedback.phrases import Phrase
from raynas.feedback.places import Place, why_off


@dataclass(frozen=True)
class Clause:
    """A clause that a pattern matched: the tokens of each group, and what they are about."""

    groups: dict[str, tuple[Token, ...]]
    words: str
    context: Context
    verb: str = ""

    def kind(self, group: str) -> str:
        """The kind of the first token of a group; '' if it is empty."""
        tokens = self.groups.get(group, ())
        return tokens[0].kind if tokens else ""

    @property
    def phrases(self) -> list[Phrase]:
        """The options that were named; a number after "kernel 3 or" is one of kernels too."""
        found: list[Phrase] = []
        for token in self.groups.get("o", ()):
            if token.kind == "O":
                found.append(token.value)
            elif token.kind == "N":
                if not found or found[-1].number is None:
                    raise UserError(f"{token.words}: a number of what?")
                found.append(Phrase(token.words, found[-1].leaf, number=token.value))
        return found

    @property
    def either(self) -> bool:
        """Whether the options are joined by "or"."""
        return any(t.kind == "|" for t in self.groups.get("o", ()))

    @property
    def place(self) -> Place | None:
        """Where; None if nowhere was said."""
        places = [
            t.value for g in ("p", "p2", "p3") for t in self.groups.get(g, ()) if t.kind == "P"
        ]
        groups = [g for g in ("p", "p2", "p3") if self.groups.get(g)]
        if len(groups) > 1:
            raise UserError("two places are named for one wish.")
        if not places:
            return None
        return Place(
            tuple(dict.fromkeys(path for one in places for path in one.paths)),
            tuple(part for one in places for part in one.parts),
            " and ".join(one.words for one in places),
            loose=any(one.loose for one in places),
            everywhere=all(one.everywhere for one in places),
        )

    @property
    def paths(self) -> tuple[str, ...]:
        """The decisions there; all of the space if nowhere was said."""
        place = self.place
        return place.paths if place else tuple(d.name for d in self.context.space.decisions)

    def require_on(self, paths: Iterable[str]) -> None:
        """Raises UserError if none of the decisions meant in a place is in the design."""
        place, design = self.place, self.context.design
        if place is None or design is None or place.everywhere:
            return
        for part in (place.paths,) if place.loose else place.parts:
            meant = [p for p in paths if p in part]
            if meant and not any(p in design for p in meant):
                raise UserError(why_off(meant[0], self.context, meant[0]))

    def require_active(self) -> None:
        """Raises UserError if the design under discussion has no such part."""
        if self.place is not None:
            self.place.check_active(self.context)

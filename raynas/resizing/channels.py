"""Groups of channels that change together, and where tensors have them, as data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Part:
    """Entries next to each other: `count` channels of one group, `repeat` entries for each."""

    group: int
    count: int
    repeat: int = 1


Parts = tuple[Part, ...]


@dataclass(frozen=True)
class Layout:
    """The one dimension of a tensor that may change, and what it is made of."""

    dim: int
    parts: Parts


@dataclass(frozen=True)
class Size:
    """A number that the forward code computes from shapes; `exact`: the count of `parts`."""

    parts: Parts
    exact: bool


Known = Layout | Size | None  # None: does not change with any group


@dataclass(frozen=True)
class Layer:
    """What a layer takes and makes; () where that does not change."""

    inputs: Parts = ()
    outputs: Parts = ()


@dataclass
class Group:
    """Channels that change together.

    Attributes:
        count: how many there are in the network as given.
        makers: the layers whose outputs they are, in the order of the forward pass.
        divisor: what every count must be a multiple of.
        frozen: why the count cannot change; empty if it can.
    """

    count: int
    makers: list[str] = field(default_factory=list)
    divisor: int = 1
    frozen: list[str] = field(default_factory=list)


@dataclass
class Groups:
    """Union-find over groups; the one made first stands for those tied to it."""

    _parents: list[int] = field(default_factory=list)
    _groups: list[Group] = field(default_factory=list)

    def new(self, count: int, makers: list[str]) -> Parts:
        self._parents.append(len(self._parents))
        self._groups.append(Group(count, makers))
        return (Part(self._parents[-1], count),)

    def find(self, group: int) -> int:
        while self._parents[group] != group:
            group = self._parents[group]
        return group

    def roots(self) -> dict[int, Group]:
        return {i: g for i, g in enumerate(self._groups) if self._parents[i] == i}

    def resolved(self, parts: Parts) -> Parts:
        return tuple(Part(self.find(p.group), p.count, p.repeat) for p in parts)

    def tie(self, some: Parts, others: Parts) -> None:
        """Makes two dimensions of one size change together, part by part."""
        if [(p.count, p.repeat) for p in some] != [(p.count, p.repeat) for p in others]:
            self.freeze((*some, *others), "channels joined in different ways are combined")
            return
        for a, b in zip(some, others, strict=True):
            root, other = sorted((self.find(a.group), self.find(b.group)))
            if root != other:
                self._parents[other] = root
                kept, gone = self._groups[root], self._groups[other]
                kept.makers += gone.makers
                kept.divisor = math.lcm(kept.divisor, gone.divisor)
                kept.frozen += gone.frozen

    def divide(self, parts: Parts, divisor: int) -> None:
        for part in parts:
            group = self._groups[self.find(part.group)]
            group.divisor = math.lcm(group.divisor, divisor)

    def freeze(self, parts: Parts, reason: str) -> None:
        for part in parts:
            self._groups[self.find(part.group)].frozen.append(reason)

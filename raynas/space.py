"""Search spaces: decisions as plain, immutable data, and the code that gives them a meaning.

A space is a forest of decisions: a decision may depend on one earlier decision (`when`), so
sizes are exact products and sums, and every operation below walks the decisions once, in order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from raynas.architecture import (
    Architecture,
    Decision,
    InvalidArchitecture,
    InvalidSpace,
    Option,
    option_text,
)
from raynas.errors import UserError, unknown
from raynas.graphs import Graph

if TYPE_CHECKING:
    from torch import nn

    from raynas.mixtures import Mixture

Pick = Callable[[Decision], Option]
Shape = tuple[int, int, int]
Build = Callable[[Architecture, Shape, int], "nn.Module"]
Chances = Mapping[str, Mapping[str, float]]  # edge -> option -> how strong it is


@dataclass(frozen=True)
class Known:
    """A published design as a member of a space.

    Attributes:
        options: decision name -> option, for every active decision.
        source: who published it, and what the space cannot say of it, if anything.
        params, flops: as published (two FLOPs per multiply-add), for networks built with
            `settings`, `input_shape` and `num_classes`; None where nothing was published.
        settings: of the space (`space(**settings)` in its file) under which it was published.
    """

    options: Mapping[str, Option]
    source: str
    params: float | None = None
    flops: float | None = None
    input_shape: Shape = (3, 224, 224)
    num_classes: int = 1000
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Space:
    """A finite set of architectures, described by decisions; code says what they mean.

    Attributes:
        name: also the first word of its architectures' texts.
        decisions: in the order in which they are answered; `when` looks only backwards.
        canonical: maps an architecture to one text shared by all that compute the same network
            with the same parameters, so that nothing is evaluated twice; None means that every
            architecture is a network of its own.
        simplify: maps an architecture to the plainest one that computes the same, with dead parts
            taken out: that is the one a search trains and keeps.
        build: makes the network: (architecture, (channels, height, width) of the images, number
            of classes) -> a module from images `[N, C, H, W]` to logits `[N, num_classes]`,
            whose direct children are the layers that reports number.
        mixture: makes the network with all options of this space side by side, with the layers
            that `build` gives its designs: (this space, shape, number of classes, part) -> a
            module; its operations have one `part`-th of the channels.
        discretize: the design that stands out: (this space, strengths of a mixture's options).
        costs: `params` and `flops` of what `build` makes, faster than by building it.
        graphs: the design's cells for pictures, by title; chains need none.
        known: published designs by name.
        notes: what a user should be told of the space before a search.
    """

    name: str
    decisions: tuple[Decision, ...]
    canonical: Callable[[Architecture], str] | None = field(default=None, compare=False)
    simplify: Callable[[Architecture], Architecture] | None = field(default=None, compare=False)
    build: Build | None = field(default=None, compare=False)
    mixture: Callable[[Space, Shape, int, int], Mixture] | None = field(default=None, compare=False)
    discretize: Callable[[Space, Chances], Architecture] | None = field(default=None, compare=False)
    costs: Callable[[Architecture, Shape, int], dict[str, float]] | None = field(
        default=None, compare=False
    )
    graphs: Callable[[Architecture], Mapping[str, Graph]] | None = field(
        default=None, compare=False
    )
    known: Mapping[str, Known] = field(default_factory=dict, compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "decisions", tuple(self.decisions))
        earlier: dict[str, Decision] = {}
        for decision in self.decisions:
            if decision.name in earlier:
                raise InvalidSpace(f"{self.name}: two decisions are named {decision.name!r}.")
            if decision.when is not None:
                parent, options = decision.when
                if parent not in earlier or not options <= set(earlier[parent].options):
                    raise InvalidSpace(
                        f"{self.name}.{decision.name}: `when` must name an earlier decision and "
                        f"some of its options; got {parent!r}, {sorted(options, key=str)}."
                    )
            earlier[decision.name] = decision

    @cached_property
    def by_name(self) -> Mapping[str, Decision]:
        """Decision name -> decision."""
        return {d.name: d for d in self.decisions}

    @cached_property
    def size(self) -> int:
        """How many distinct architectures there are (active assignments), exactly."""
        return math.prod(sum(self._ways[d.name]) for d in self.decisions if d.when is None)

    @cached_property
    def _ways(self) -> Mapping[str, list[int]]:
        """For each decision, per option: how many assignments of what depends on it there are."""
        ways = {d.name: [1] * len(d.options) for d in self.decisions}
        for d in reversed(self.decisions):  # what depends on a decision stands after it
            if d.when is not None:
                parent, total = self.by_name[d.when[0]], sum(ways[d.name])
                for i, option in enumerate(parent.options):
                    if option in d.when[1]:
                        ways[parent.name][i] *= total
        return ways

    def answer(self, pick: Pick) -> Architecture:
        """Answers every active decision by `pick`, in order."""
        chosen: dict[str, Option] = {}
        for d in self.decisions:
            if _active(d, chosen):
                chosen[d.name] = pick(d)
        return Architecture(self.name, tuple(chosen.items()))

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draws each active decision uniformly from its options.

        Uniform per decision, so that every branch is met: `sample_uniformly` nearly always
        draws the deepest designs, of which there are most.
        """
        return self.answer(lambda d: d.options[rng.integers(len(d.options))])

    def sample_uniformly(self, rng: np.random.Generator) -> Architecture:
        """Draws one of all `size` architectures, each with the same probability."""

        def pick(d: Decision) -> Option:
            ways = self._ways[d.name]
            total = sum(ways)  # may be far beyond what a float holds; the shares are not
            return d.options[rng.choice(len(ways), p=[w / total for w in ways])]

        return self.answer(pick)

    def mutate(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """Changes one active decision; what becomes active by it is sampled, the rest stays.

        A decision that others depend on (a depth, a switch) is taken in a quarter of the cases,
        so that parts are added and removed also where decisions within parts abound. An ordered
        decision moves k ranks with weight 2^-k.
        """
        open_ = [self.by_name[n] for n, _ in architecture.choices]
        open_ = [d for d in open_ if len(d.options) > 1]
        if not open_:
            return architecture
        parents = {d.when[0] for d in self.decisions if d.when}
        structural = [d for d in open_ if d.name in parents]
        within = [d for d in open_ if d.name not in parents]
        take_structural = structural and (not within or rng.random() < 0.25)
        pool = structural if take_structural else within
        changed = pool[rng.integers(len(pool))]
        others = [o for o in changed.options if o != architecture[changed.name]]
        weights = np.ones(len(others))
        if changed.ordered:
            rank = changed.options.index(architecture[changed.name])
            weights = np.array([0.5 ** abs(changed.options.index(o) - rank) for o in others])
        new = others[rng.choice(len(others), p=weights / weights.sum())]

        def pick(d: Decision) -> Option:
            if d is changed:
                return new
            if d.name in architecture.options:
                return architecture[d.name]
            return d.options[rng.integers(len(d.options))]

        return self.answer(pick)

    def crossover(self, a: Architecture, b: Architecture, rng: np.random.Generator) -> Architecture:
        """Takes each layer whole from one of the two, so that what fits together stays so.

        Decisions that neither parent answers are sampled.
        """
        source: dict[str, tuple[Architecture, Architecture]] = {}

        def pick(d: Decision) -> Option:
            if d.layer not in source or not d.layer:
                source[d.layer] = (a, b) if rng.random() < 0.5 else (b, a)
            for parent in source[d.layer]:
                if d.name in parent.options:
                    return parent[d.name]
            return d.options[rng.integers(len(d.options))]

        return self.answer(pick)

    def neighbours(self, architecture: Architecture) -> Iterator[Architecture]:
        """Yields every architecture one edit away.

        Two architectures are neighbours if they differ in one decision that both answer, and
        what only one of them answers stands at its first option: a symmetric relation.
        """
        for name, option in self.edits(architecture):
            if (other := self.neighbour(architecture, name, option)) is not None:
                yield other

    def edits(self, architecture: Architecture) -> Iterator[tuple[str, Option]]:
        """Yields every decision that it answers with every other option."""
        for name, old in architecture.choices:
            yield from ((name, new) for new in self.by_name[name].options if new != old)

    def neighbour(
        self, architecture: Architecture, name: str, option: Option
    ) -> Architecture | None:
        """The neighbour by one edit, see `neighbours`; None if the edit makes none."""

        def pick(d: Decision) -> Option:
            return option if d.name == name else architecture.options.get(d.name, d.options[0])

        other = self.answer(pick)
        lost = architecture.options.keys() - other.options.keys()
        kept = all(architecture[n] == self.by_name[n].options[0] for n in lost)
        return other if kept else None

    def enumerate(self) -> Iterator[Architecture]:
        """Yields every architecture once, the last decisions changing fastest."""

        def extend(i: int, chosen: dict[str, Option]) -> Iterator[Architecture]:
            while i < len(self.decisions) and not _active(self.decisions[i], chosen):
                i += 1
            if i == len(self.decisions):
                yield Architecture(self.name, tuple(chosen.items()))
                return
            for option in self.decisions[i].options:
                yield from extend(i + 1, {**chosen, self.decisions[i].name: option})

        return extend(0, {})

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The meaning of `encode`'s entries, in order.

        An ordered decision has one column (its rank from 0 to 1), any other one column per
        option (`name=option`: 1 if chosen); a conditional decision first has `name?` (1 if
        active). The columns of an inactive decision are 0.
        """
        names: list[str] = []
        for d in self.decisions:
            names += [f"{d.name}?"] if d.when else []
            names += [d.name] if d.ordered else [f"{d.name}={option_text(o)}" for o in d.options]
        return tuple(names)

    @cached_property
    def _column(self) -> Mapping[str, int]:
        return {name: i for i, name in enumerate(self.columns)}

    def encode(self, architecture: Architecture) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Returns the architecture as numbers, float64 `[len(columns)]`."""
        code = np.zeros(len(self.columns))
        for name, option in architecture.choices:
            d = self.by_name[name]
            if d.when:
                code[self._column[f"{name}?"]] = 1.0
            if d.ordered:
                top = max(len(d.options) - 1, 1)
                code[self._column[name]] = d.options.index(option) / top
            else:
                code[self._column[f"{name}={option_text(option)}"]] = 1.0
        return code

    def identity(self, architecture: Architecture) -> str:
        """The text that all names of one network share (`canonical`)."""
        return self.canonical(architecture) if self.canonical else str(architecture)

    def plainest(self, architecture: Architecture) -> Architecture:
        """The design that a search trains in place of this one: `simplify`'s, if it is here.

        A narrowed space may have lost the option that stands for a dead part.
        """
        if self.simplify is None:
            return architecture
        plain = self.simplify(architecture)
        here = all(n in self.by_name and o in self.by_name[n].options for n, o in plain.choices)
        return plain if here else architecture

    def check(self, architecture: Architecture) -> None:
        """Raises InvalidArchitecture unless this space contains `architecture`."""
        if architecture.space != self.name:
            raise InvalidArchitecture(
                f"expected an architecture of the space {self.name!r}; got one of "
                f"{architecture.space!r}. Architectures of another space cannot be used here."
            )
        given = architecture.options
        for name in given:
            if name not in self.by_name:
                raise InvalidArchitecture(str(unknown(self.name, name, list(self.by_name))))

        def pick(d: Decision) -> Option:
            if d.name not in given:
                raise InvalidArchitecture(
                    f"{self.name}.{d.name}: expected one of {_listing(d.options)}; got nothing. "
                    "Every active decision needs an option."
                )
            if given[d.name] not in d.options or type(given[d.name]) is not type(d.options[0]):
                raise InvalidArchitecture(
                    f"{self.name}.{d.name}: expected one of {_listing(d.options)}; got "
                    f"{option_text(given[d.name])}. Pick a listed option or add it to the space."
                )
            return given[d.name]

        built = self.answer(pick)
        if extra := given.keys() - built.options.keys():
            raise InvalidArchitecture(
                f"{self.name}: {', '.join(sorted(extra))} must not be answered here, because what "
                "it depends on is chosen otherwise. Leave it out."
            )
        if built.choices != architecture.choices:
            raise InvalidArchitecture(
                f"{self.name}: the decisions stand in another order than the space's. Use "
                "Space.architecture or Space.parse."
            )

    def holds(self, architecture: Architecture) -> bool:
        """Whether this space contains `architecture`."""
        try:
            self.check(architecture)
        except InvalidArchitecture:
            return False
        return True

    def architecture(self, options: Mapping[str, Option]) -> Architecture:
        """Makes and checks an architecture from decision names and options, in any order."""
        order = {d.name: i for i, d in enumerate(self.decisions)}
        named = sorted(options.items(), key=lambda item: order.get(item[0], len(order)))
        architecture = Architecture(self.name, tuple(named))
        self.check(architecture)
        return architecture

    def parse(self, text: str) -> Architecture:
        """Reads an architecture's text and checks that this space contains it."""
        parsed = Architecture.parse(text)
        if parsed.space != self.name:
            self.check(parsed)
        return self.architecture(parsed.options)

    def narrow(
        self,
        pins: Mapping[str, Option] | None = None,
        forbidden: Mapping[str, Collection[Option]] | None = None,
    ) -> Space:
        """The part of the space where `pins` hold and no `forbidden` option is chosen.

        Decisions that can no longer become active disappear.

        Raises:
            InvalidSpace: a name or option is unknown, or a decision is left without options.
        """
        pins, forbidden = pins or {}, forbidden or {}
        for name in (*pins, *forbidden):
            if name not in self.by_name:
                raise InvalidSpace(str(unknown(self.name, name, list(self.by_name))))
        kept: dict[str, Decision] = {}
        for d in self.decisions:
            when = d.when
            if when is not None:
                parent = kept.get(when[0])
                reachable = when[1] & set(parent.options) if parent else frozenset()
                if not reachable:
                    continue
                when = (when[0], reachable)
            wanted = (pins[d.name],) if d.name in pins else d.options
            left = tuple(o for o in wanted if o in d.options and o not in forbidden.get(d.name, ()))
            if not left:
                raise InvalidSpace(
                    f"{self.name}.{d.name}: nothing is left of {_listing(d.options)} after "
                    f"pinning {_listing(wanted)} and forbidding "
                    f"{_listing(forbidden.get(d.name, ())) or 'nothing'}."
                )
            kept[d.name] = replace(d, options=left, when=when)
        return replace(self, decisions=tuple(kept.values()))

    def fit(self, architecture: Architecture) -> Architecture:
        """The nearest design of this space to one of a wider space.

        Each option stays if it is here; otherwise an ordered one moves to the nearest rank (of
        two, the lower), any other to the first option. What becomes active by it is answered as
        the last decision of the same leaf was, or by its first option.
        """
        last: dict[str, Option] = {}

        def pick(d: Decision) -> Option:
            wanted = architecture.options.get(d.name, last.get(d.leaf, d.options[0]))
            if wanted not in d.options:
                numbers = d.ordered and not isinstance(wanted, str)
                near = min(d.options, key=lambda o: abs(o - wanted)) if numbers else d.options[0]  # type: ignore[operator]
                wanted = near
            last[d.leaf] = wanted
            return wanted

        return self.answer(pick)

    def with_options(self, name: str, options: Collection[Option]) -> Space:
        """The space in which a decision has more options; those of ordered ones in their order.

        What depends on the decision does not become active by them. Whether networks can be built
        with them is for the code to say (`raynas.widening`).

        Raises:
            InvalidSpace: there is no such decision, or the options are of another type.
        """
        if name not in self.by_name:
            raise InvalidSpace(str(unknown(self.name, name, list(self.by_name))))
        old = self.by_name[name]
        both = list(dict.fromkeys([*old.options, *options]))
        if old.ordered and not any(isinstance(o, str) for o in both):
            both = sorted(both)
        wider = replace(old, options=tuple(both))
        return replace(
            self, decisions=tuple(wider if d.name == name else d for d in self.decisions)
        )

    def with_decision(self, decision: Decision) -> Space:
        """The space that asks one question more, the last; each option makes another design."""

        def rest(architecture: Architecture) -> Architecture:
            kept = tuple(c for c in architecture.choices if c[0] != decision.name)
            return Architecture(architecture.space, kept)

        def canonical(architecture: Architecture) -> str:
            chosen = architecture.options.get(decision.name)
            return f"{self.identity(rest(architecture))} {decision.name}={chosen}"

        def simplify(architecture: Architecture) -> Architecture:
            chosen = tuple(c for c in architecture.choices if c[0] == decision.name)
            return Architecture(
                architecture.space, self.plainest(rest(architecture)).choices + chosen
            )

        return replace(
            self,
            decisions=(*self.decisions, decision),
            canonical=canonical,
            simplify=simplify if self.simplify else None,
        )

    def with_decisions(self, kept: Space) -> Space:
        """This space's code for decisions that a run kept, which may have been narrowed since.

        Raises:
            UserError: the code knows other decisions by now.
        """
        missing = [
            d.name
            for d in kept.decisions
            if d.name not in self.by_name or not {*d.options} <= {*self.by_name[d.name].options}
        ]
        if missing:
            raise UserError(
                f"the run was made with decisions or options that the space {self.name!r} does not "
                f"have (any more): {', '.join(missing[:5])}. Use the code it was last searched "
                "with."
            )
        here = replace(self, name=kept.name, decisions=kept.decisions)
        both = [d.name for d in self.decisions if d.name in kept.by_name]
        if both == [d.name for d in kept.decisions]:
            return here
        # what was added to the run stands last there, and where it belongs in the code
        mine = {d.name: i for i, d in enumerate(self.decisions)}
        theirs = {d.name: i for i, d in enumerate(kept.decisions)}
        canonical, simplify = self.canonical, self.simplify
        return replace(
            here,
            canonical=canonical and (lambda a: canonical(_ordered(a, mine))),
            simplify=simplify and (lambda a: _ordered(simplify(_ordered(a, mine)), theirs)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for run.json; the code stays behind."""
        return {"name": self.name, "decisions": [d.to_dict() for d in self.decisions]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Space:
        """Reads `to_dict` back."""
        return cls(data["name"], tuple(map(Decision.from_dict, data["decisions"])))


def _active(d: Decision, chosen: Mapping[str, Option]) -> bool:
    return d.when is None or (d.when[0] in chosen and chosen[d.when[0]] in d.when[1])


def _ordered(architecture: Architecture, places: Mapping[str, int]) -> Architecture:
    choices = sorted(architecture.choices, key=lambda choice: places[choice[0]])
    return Architecture(architecture.space, tuple(choices))


def _listing(options: Collection[Option]) -> str:
    return ", ".join(option_text(o) for o in options)

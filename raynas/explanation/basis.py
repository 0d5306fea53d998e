"""The functions of a design that a surface is a weighted sum of, in groups of one spread each.

Linear in the named features of a group; products of two decisions (exactly where there are few,
else sketched by random signs, whose products estimate the sum over all pairs, Pham & Pagh 2013);
and smooth functions of everything, by random Fourier features (Rahimi & Recht 2007) at three
lengths. Within a group a random design has mean square 1, so that spreads can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from raynas.architecture import Architecture
from raynas.explanation.features import Described
from raynas.objective import Array

WAVES = 320  # random functions per length
LENGTHS = (0.35, 0.7, 1.4)  # of the distance of two random designs
PAIRS = 512  # most columns of products
FAR = 4.0  # standard deviations beyond which structure is not told apart


@dataclass(frozen=True, eq=False)
class Basis:
    """Turns designs into the values of all functions.

    Attributes:
        sizes: what the columns of `main` are multiplied by, wherever they enter: decisions that
            do much on their own are also those whose products are likely to.
    """

    described: Described
    sizes: Array | float = 1.0

    def __call__(self, designs: Sequence[Architecture]) -> Array:
        """Float64 `[N, functions]`."""
        blocks = [(b - m) * s for b, (m, s) in zip(self._raw(designs), self._scales, strict=True)]
        return np.hstack([np.ones((len(designs), 1)), *blocks])

    @cached_property
    def groups(self) -> dict[str, slice]:
        """Which functions belong to which group."""
        widths = [1, *(len(m) for m, _ in self._scales)]
        ends = np.cumsum(widths).tolist()
        slices = [slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
        return dict(zip(["level", *self._names], slices, strict=True))

    @cached_property
    def _linear(self) -> list[str]:
        return list(self.described.columns)

    @cached_property
    def _names(self) -> list[str]:
        return [*self._linear, "pairs", *(f"smooth {length}" for length in LENGTHS)]

    @cached_property
    def _scales(self) -> list[tuple[Array, float]]:
        """Centre and scale of each group, from random designs."""
        found = []
        for block in self._raw(self.described.reference):
            centre = block.mean(axis=0)
            square = float(((block - centre) ** 2).sum(axis=1).mean())
            found.append((centre, 1 / np.sqrt(square) if square > 1e-12 else 0.0))
        return found

    def _raw(self, designs: Sequence[Architecture]) -> list[Array]:
        linear = self._columns(designs)
        smooth = self._place(linear)
        waves = [np.cos(smooth @ w / length + b) for length, (w, b) in self._waves.items()]
        return [*linear.values(), self._products(linear["main"]), *waves]

    def _columns(self, designs: Sequence[Architecture]) -> dict[str, Array]:
        linear = {name: self.described.group(name, designs) for name in self._linear}
        linear["structure"] = self._standard(linear["structure"])
        linear["main"] = linear["main"] * self.sizes
        return linear

    def _standard(self, structure: Array) -> Array:
        centre, scale = self._structure
        return np.clip((structure - centre) * scale, -FAR, FAR)

    @cached_property
    def _structure(self) -> tuple[Array, Array]:
        reference = self.described.group("structure", self.described.reference)
        deviation = reference.std(axis=0)
        return reference.mean(axis=0), np.where(
            deviation > 1e-9, 1 / np.maximum(deviation, 1e-9), 0
        )

    def _products(self, main: Array) -> Array:
        if self._signs is None:
            first, second = np.triu_indices(main.shape[1], 1)
            return np.asarray(main[:, first] * main[:, second])
        one, two = self._signs
        return np.asarray((main @ one) * (main @ two))

    @cached_property
    def _signs(self) -> tuple[Array, Array] | None:
        columns = len(self.described.columns["main"])
        if columns * (columns - 1) // 2 <= PAIRS:
            return None
        rng = np.random.default_rng(1)
        return rng.choice([-1.0, 1.0], (columns, PAIRS)), rng.choice([-1.0, 1.0], (columns, PAIRS))

    def _place(self, linear: dict[str, Array]) -> Array:
        """Where designs stand to each other; two random ones have a mean square distance of 1."""
        return np.hstack([self._part(n, linear[n]) * s for n, s in self._spreads.items()])

    def _part(self, name: str, block: Array) -> Array:
        return np.sqrt(block) if name == "paths" else block

    @cached_property
    def _spreads(self) -> dict[str, float]:
        linear = self._columns(self.described.reference)
        used = ["paths", "structure"] if "paths" in linear else ["main", "tied", "structure"]
        found = {}
        for name in used:
            if name in linear:
                square = 2 * self._part(name, linear[name]).var(axis=0).sum()
                found[name] = float(1 / np.sqrt(max(square, 1e-12)))
        return {name: s / np.sqrt(len(found)) for name, s in found.items()}

    @cached_property
    def _waves(self) -> dict[float, tuple[Array, Array]]:
        rng = np.random.default_rng(2)
        columns = sum(len(self.described.columns[name]) for name in self._spreads)
        return {
            length: (rng.standard_normal((columns, WAVES)), rng.uniform(0, 2 * np.pi, WAVES))
            for length in LENGTHS
        }


class Functions:
    """A basis and, if there is one, a further number per design, standardized."""

    def __init__(
        self,
        basis: Basis,
        extra: Callable[[Sequence[Architecture]], Array] | None,
        designs: Sequence[Architecture],
    ) -> None:
        self.basis, self.extra = basis, extra
        self.groups = dict(basis.groups)
        if extra is not None:
            end = max(group.stop for group in self.groups.values())
            self.groups["extra"] = slice(end, end + 1)
            known = np.asarray(extra(designs), dtype=float)
            self._centre, self._scale = float(known.mean()), max(float(known.std()), 1e-12)

    def __call__(self, designs: Sequence[Architecture]) -> Array:
        """Float64 `[N, functions]`."""
        x = self.basis(designs)
        if self.extra is None:
            return x
        said = (np.asarray(self.extra(designs), dtype=float) - self._centre) / self._scale
        return np.hstack([x, said[:, None]])

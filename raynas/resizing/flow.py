"""The steps of a recorded forward pass and what is known of their channels so far."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx, nn

from raynas.resizing.channels import Groups, Known, Layer, Layout, Parts

Convolution = nn.modules.conv._ConvNd
Norm = nn.modules.batchnorm._NormBase
LAYERS = (Convolution, nn.Linear, Norm, nn.GroupNorm, nn.LayerNorm, nn.PReLU)


def understood(module: nn.Module) -> bool:
    """Whether it is one of LAYERS, or inherits from one without another way of computing."""
    if not isinstance(module, LAYERS) or reset_of(module) is None:
        return False
    own = type(module)
    home = next(c for c in own.__mro__ if c.__module__.startswith("torch.nn."))
    ways = ("forward", "_conv_forward", "__call__")
    return all(getattr(own, way, None) is getattr(home, way, None) for way in ways)


def reset_of(part: nn.Module) -> Callable[[], object] | None:
    """What draws a module's weights anew, if it can be called as it is."""
    official = type(part).__module__.startswith("torch.nn.")
    private = getattr(part, "_reset_parameters", None) if official else None
    reset = getattr(part, "reset_parameters", private)
    if not callable(reset):
        return None
    needed = (p.default is p.empty for p in inspect.signature(reset).parameters.values())
    return None if any(needed) else reset


@dataclass
class Flow:
    """A forward pass, read step by step.

    Attributes:
        model: on the meta device.
        values: what every step returned in a run on that device.
        known: where each step's result has channels that may change.
        layers: path -> what the layer takes and makes.
        unknown: class -> paths of modules with weights that were not understood.
    """

    model: nn.Module
    values: Mapping[fx.Node, Any]
    known: dict[fx.Node, Known] = field(default_factory=dict)
    layers: dict[str, Layer] = field(default_factory=dict)
    unknown: dict[str, list[str]] = field(default_factory=dict)
    groups: Groups = field(default_factory=Groups)

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        return tuple(self.values[node].shape)

    def entering(self, node: fx.Node) -> tuple[Layout | None, tuple[int, ...]]:
        """The layout and the shape of the tensor that enters a step first."""
        source = node.all_input_nodes[0]
        known = self.known[source]
        return known if isinstance(known, Layout) else None, self.shape(source)

    def parts(self, node: fx.Node) -> Parts:
        """All groups that enter a step."""
        known = [self.known[n] for n in node.all_input_nodes]
        return tuple(part for k in known if k is not None for part in k.parts)

    def freeze(self, node: fx.Node, reason: str) -> Known:
        """All that enters a step keeps its channels, so what leaves it does too."""
        self.groups.freeze(self.parts(node), reason)
        return None

    def make(self, path: str, inputs: Parts, count: int, divisor: int = 1) -> Parts:
        """The outputs of a layer that makes channels of its own."""
        made = () if path in self.layers else self.groups.new(count, [path])
        self.groups.divide((*inputs, *made), divisor)
        return self.use(path, inputs, made)

    def use(self, path: str, inputs: Parts, outputs: Parts) -> Parts:
        """Notes what a layer takes and makes; a layer used again must take the same again."""
        if path in self.layers:
            self.groups.tie(self.layers[path].inputs, inputs)
            return self.layers[path].outputs
        self.layers[path] = Layer(inputs, outputs)
        return outputs

    def alike(self, a: fx.Node, b: fx.Node) -> bool:
        """Whether two tensors have one shape in every design."""
        if not all(isinstance(self.values[n], Tensor) for n in (a, b)):
            return False
        return self.shape(a) == self.shape(b) and self._changing(a) == self._changing(b)

    def _changing(self, node: fx.Node) -> tuple[int, Parts] | None:
        known, roots = self.known[node], self.groups.roots()
        if not isinstance(known, Layout):
            return None
        parts = self.groups.resolved(known.parts)
        return None if all(roots[p.group].frozen for p in parts) else (known.dim, parts)

"""Records what a network does and reads which of its channels must change together.

torch.fx records the steps of the forward pass, a run on the meta device (shapes without numbers)
how large every tensor is; `raynas.resizing.rules` says what each step does to channels.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from raynas.errors import UserError
from raynas.resizing.channels import Group, Layer
from raynas.resizing.flow import Flow, understood
from raynas.resizing.rules import read
from raynas.resizing.wording import DOOR, brief


@dataclass(frozen=True)
class Channels:
    """What is known of a network's channels.

    Attributes:
        order: paths of the layers that are called, in the order of the forward pass.
        layers: path -> what a layer takes and makes.
        groups: by the number that stands in `Part.group`.
        bound: paths of layers whose weights are also used elsewhere.
        keeping: paths of the modules that, called once with one tensor, return one of the same
            shape in every design: the network also works without them.
        unknown: class -> paths of the modules with weights that were not understood.
        output: shape of what the network returns.
    """

    order: tuple[str, ...]
    layers: Mapping[str, Layer]
    groups: Mapping[int, Group]
    bound: frozenset[str]
    keeping: frozenset[str]
    unknown: Mapping[str, list[str]]
    output: tuple[int, ...]


def channels_of(model: nn.Module, images: Tensor) -> Channels:
    """Reads the channels of a network.

    Args:
        model: on the meta device; its forward pass is run.
        images: `[N, C, H, W]` on the meta device.

    Raises:
        UserError: the forward pass cannot be recorded, or does not return one tensor.
    """
    calls, runner, output = _recorded(model, images)
    flow = Flow(model, runner.values)
    for node in runner.values:
        flow.known[node] = read(flow, node)
    bound = frozenset(_bound(model, runner.values))
    for path in bound & flow.layers.keys():
        layer = flow.layers[path]
        flow.groups.freeze((*layer.inputs, *layer.outputs), "the weights are also used elsewhere")
    resolved = flow.groups.resolved
    return Channels(
        tuple(dict.fromkeys(str(n.target) for n in runner.values if n.op == "call_module")),
        {p: Layer(resolved(x.inputs), resolved(x.outputs)) for p, x in flow.layers.items()},
        flow.groups.roots(),
        bound,
        frozenset(_keeping(calls, flow)),
        flow.unknown,
        tuple(output.shape),
    )


def _recorded(model: nn.Module, images: Tensor) -> tuple[list[_Call], _Shapes, Tensor]:
    name, tracer = type(model).__name__, _Tracer()
    optional = {
        p.name: p.default
        for p in inspect.signature(model.forward).parameters.values()
        if isinstance(p.default, bool | int | float | str | None)
    }
    try:
        runner = _Shapes(fx.GraphModule(model, tracer.trace(model, optional)))
    except Exception as error:
        raise UserError(
            f"{name}: expected a forward pass that takes the same steps for all images, so that "
            f"torch.fx can record it; got {brief(error)}. {DOOR}"
        ) from error
    try:
        with torch.no_grad():
            output = runner.run(images)
    except Exception as error:
        raise UserError(
            f"{name}: expected a network for images {list(images.shape)} whose tensors are all "
            "parameters or buffers and whose steps do not depend on their values, so that it "
            "runs on torch's meta device; got "
            f"{brief(error)}. {DOOR}"
        ) from error
    if not isinstance(output, Tensor) or output.dim() < 2:
        raise UserError(
            f"{name}: expected one tensor [N, classes] from the network in training mode; got "
            f"{type(output).__name__}. Switch auxiliary outputs off, or wrap it in a module that "
            "returns the logits."
        )
    return tracer.calls, runner, output


def _bound(model: nn.Module, nodes: Mapping[fx.Node, Any]) -> Iterator[str]:
    """Layers whose parameters another layer has too, or the forward code reads itself."""
    owners: dict[int, list[str]] = {}
    for path, part in model.named_modules():
        for parameter in part.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(path)
    for node in nodes:
        if node.op == "get_attr":
            yield str(node.target).rpartition(".")[0]
    for paths in owners.values():
        if len(paths) > 1:
            yield from paths


_Call = tuple[str, tuple[Any, ...], dict[str, Any], Any]


def _keeping(calls: list[_Call], flow: Flow) -> Iterator[str]:
    times = Counter(path for path, *_ in calls)
    for path, args, kwargs, result in calls:
        if times[path] == 1 and len(args) == 1 and not kwargs:
            ends = (args[0], result)
            if all(isinstance(e, fx.Proxy) for e in ends) and flow.alike(*(e.node for e in ends)):
                yield path


class _Tracer(fx.Tracer):
    """Records a forward pass; a module that cannot be recorded becomes one step of it.

    Attributes:
        calls: (path, arguments, named arguments, result) of every module that was called.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Call] = []

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return understood(m) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: dict[str, Any]
    ) -> Any:
        path = self.path_of_module(m)
        nodes, calls, depth = len(self.graph.nodes), len(self.calls), len(self.module_stack)
        try:
            result = super().call_module(m, forward, args, kwargs)
        except Exception:
            for node in reversed(list(self.graph.nodes)[nodes:]):
                self.graph.erase_node(node)
            while len(self.module_stack) > depth:  # which fx leaves behind
                self.module_stack.popitem()
            del self.calls[calls:]
            result = self.create_proxy("call_module", path, args, kwargs)
        self.calls.append((path, args, kwargs, result))
        return result


class _Shapes(fx.Interpreter):
    """Runs a recorded forward pass and keeps what every step returned, in order."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.values: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        self.values[n] = super().run_node(n)
        return self.values[n]

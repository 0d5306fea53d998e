"""What each operation does to channels: the tables LAYER_RULES, SAME, SPATIAL and FUNCTIONS.

A convolution or linear layer makes a group of channels; what follows hands it on, ties it to
another (a residual sum), joins it with others (a concatenation) or spreads it over more entries (a
flattening). What stands in no table freezes the channels that enter it. That channels depend on
each other along such paths is the idea of DepGraph (Fang 2023, arXiv:2301.12900).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from raynas.resizing.channels import Known, Layout, Part, Parts, Size
from raynas.resizing.flow import Convolution, Flow, Norm, understood


def read(flow: Flow, node: fx.Node) -> Known:
    """What is known of a step's result; what no rule expects freezes the channels that enter."""
    try:
        known, value = _read(flow, node), flow.values[node]
        wrong = isinstance(known, Layout) and isinstance(value, Tensor) and not _fits(known, value)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        wrong = True
    if wrong:
        return flow.freeze(node, f"this use of {_name(node)} is not understood")
    return known


def _fits(layout: Layout, tensor: Tensor) -> bool:
    entries = sum(p.count * p.repeat for p in layout.parts)
    return layout.dim < tensor.dim() and tensor.shape[layout.dim] == entries


def _read(flow: Flow, node: fx.Node) -> Known:
    if node.op in ("placeholder", "get_attr"):
        return None
    if node.op == "output":
        return flow.freeze(node, "they are the network's output")
    if node.op == "call_module":
        return _module(flow, node)
    key = _key(_name(node))
    if key in _SHAPES:
        return _SHAPES[key](flow, node)
    if not _has_tensor(flow.values[node]):
        parts = flow.parts(node)
        return Size(parts, exact=False) if parts else None
    if key in SAME:
        return _same(flow, node)
    if key in SPATIAL:
        return _spatial(flow, node)
    if key in FUNCTIONS:
        return FUNCTIONS[key](flow, node)
    return flow.freeze(node, f"what {_name(node)} does to channels is not understood")


def _module(flow: Flow, node: fx.Node) -> Known:
    path = str(node.target)
    module = flow.model.get_submodule(path)
    kind = type(module).__name__
    if understood(module):
        rule = next(rule for layer, rule in LAYER_RULES.items() if isinstance(module, layer))
        return rule(flow, node, path, module)
    if isinstance(module, nn.Flatten):
        return _flattened(flow, node, module.start_dim, module.end_dim)
    if type(module).__module__.startswith("torch.nn."):
        if _key(kind) in SAME or kind == "Identity":
            return _same(flow, node)
        if _key(kind) in SPATIAL or kind == "Upsample":
            return _spatial(flow, node)
    if any(True for _ in module.parameters()):
        flow.unknown.setdefault(kind, []).append(path)
    return flow.freeze(node, f"{kind} is not understood")


def _name(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target))


def _key(name: str) -> str:
    """How the tables spell it: `max_pool2d` and `MaxPool2d` -> `maxpool`, `add_` -> `add`."""
    key = name.replace("_", "").lower()
    return key[:-2] if key[-2:] in ("1d", "2d", "3d") else key


# Layers


def _convolution(flow: Flow, node: fx.Node, path: str, module: Any) -> Known:
    layout, _ = flow.entering(node)
    if layout and layout.dim != 1:
        flow.freeze(node, "a convolution runs along them")
        layout = None
    inputs = layout.parts if layout else ()
    if not 1 < module.groups == module.in_channels:
        return Layout(1, flow.make(path, inputs, module.out_channels, module.groups))
    times = module.out_channels // module.in_channels  # depthwise: the channels are the input's
    outputs = flow.use(path, inputs, _spread(inputs, times))
    return Layout(1, outputs) if layout else None


def _linear(flow: Flow, node: fx.Node, path: str, module: Any) -> Known:
    (layout, _), last = flow.entering(node), len(flow.shape(node)) - 1
    if layout and layout.dim != last:
        flow.freeze(node, "a linear layer acts on another dimension")
        layout = None
    return Layout(last, flow.make(path, layout.parts if layout else (), module.out_features))


def _norm(flow: Flow, node: fx.Node, path: str, module: Any) -> Known:
    """Batch, instance and group norm, PReLU: a number for each channel of dimension 1."""
    layout, _ = flow.entering(node)
    if isinstance(module, nn.PReLU) and module.num_parameters == 1:
        return layout
    if layout and layout.dim != 1:
        return flow.freeze(node, f"{type(module).__name__} acts on another dimension")
    parts = layout.parts if layout else ()
    if isinstance(module, nn.GroupNorm):
        flow.groups.divide(parts, module.num_groups)
    flow.use(path, parts, parts)
    return layout


def _layer_norm(flow: Flow, node: fx.Node, path: str, module: Any) -> Known:
    layout, shape = flow.entering(node)
    first = len(shape) - len(module.normalized_shape)
    if layout and layout.dim > first:
        return flow.freeze(node, "LayerNorm covers more dimensions than the channels")
    parts = layout.parts if layout and layout.dim == first else ()
    flow.use(path, parts, parts)
    return layout


LAYER_RULES: dict[Any, Callable[[Flow, fx.Node, str, Any], Known]] = {
    Convolution: _convolution,
    nn.Linear: _linear,
    Norm: _norm,
    nn.GroupNorm: _norm,
    nn.PReLU: _norm,
    nn.LayerNorm: _layer_norm,
}

# Functions, methods and modules without weights, by their names in small letters without `_`

# fmt: off
SAME = frozenset((
    "add", "iadd", "sub", "isub", "mul", "imul", "div", "truediv", "itruediv", "neg", "abs", "pow",
    "square", "exp", "log", "sqrt", "rsqrt", "clamp", "clip", "maximum", "minimum", "relu", "relu6",
    "leakyrelu", "elu", "selu", "celu", "gelu", "silu", "mish", "sigmoid", "logsigmoid", "tanh",
    "softplus", "softsign", "hardtanh", "hardswish", "hardsigmoid", "hardshrink", "softshrink",
    "softmax", "logsoftmax", "dropout", "alphadropout", "featuredropout", "featurealphadropout",
    "stochasticdepth", "contiguous", "clone", "detach", "float", "expandas",
))
SPATIAL = frozenset((
    "maxpool", "avgpool", "adaptiveavgpool", "adaptivemaxpool", "interpolate", "pad", "zeropad",
    "constantpad", "reflectionpad", "replicationpad", "circularpad",
))
# fmt: on


def _same(flow: Flow, node: fx.Node) -> Known:
    """Entry by entry, smaller tensors repeated: what stands in one place is tied together."""
    shape = flow.shape(node)
    tensors = [n for n in node.all_input_nodes if isinstance(flow.values[n], Tensor)]
    layouts = [(n, k) for n in tensors if isinstance(k := flow.known[n], Layout)]
    if not layouts:
        return None
    dims = {k.dim + len(shape) - len(flow.shape(n)) for n, k in layouts}
    if len(dims) > 1:
        return flow.freeze(node, "channels of different dimensions are combined")
    (dim,) = dims
    for n in tensors:
        place = dim - len(shape) + len(flow.shape(n))
        size = flow.shape(n)[place] if place >= 0 else 1
        if size != 1 and not isinstance(flow.known[n], Layout):
            return flow.freeze(node, "they meet a tensor of fixed size")
    full = [k.parts for n, k in layouts if flow.shape(n)[k.dim] == shape[dim]]
    for n, k in layouts:
        if flow.shape(n)[k.dim] != shape[dim]:
            flow.groups.freeze(k.parts, "one channel acts on many")
    for other in full[1:]:
        flow.groups.tie(full[0], other)
    return Layout(dim, full[0]) if full else None


def _spatial(flow: Flow, node: fx.Node) -> Known:
    """Pooling, padding, resizing: images `[N, C, ...]` keep their channels."""
    layout, before = flow.entering(node)
    if layout and (layout.dim != 1 or before[1] != flow.shape(node)[1]):
        return flow.freeze(node, "pooling, padding or resizing acts on channels")
    return layout


def _reduced(flow: Flow, node: fx.Node) -> Known:
    """Mean, sum, maximum over some dimensions."""
    layout, before = flow.entering(node)
    dims, keep = _argument(node, 1, "dim"), _argument(node, 2, "keepdim", False)
    if layout is None or dims is None:
        return flow.freeze(node, f"this use of {_name(node)} is not understood")
    gone = {d % len(before) for d in ([dims] if isinstance(dims, int) else dims)}
    if layout.dim in gone:
        return None
    return Layout(layout.dim - (0 if keep else sum(d < layout.dim for d in gone)), layout.parts)


def _flatten(flow: Flow, node: fx.Node) -> Known:
    start, end = _argument(node, 1, "start_dim", 0), _argument(node, 2, "end_dim", -1)
    return _flattened(flow, node, start, end)


def _flattened(flow: Flow, node: fx.Node, start: int, end: int) -> Known:
    layout, before = flow.entering(node)
    start, end = start % len(before), end % len(before)
    if layout is None or layout.dim < start:
        return layout
    if layout.dim > end:
        return Layout(layout.dim - (end - start), layout.parts)
    if math.prod(before[start : layout.dim]) != 1:
        return flow.freeze(node, "they are flattened behind another dimension")
    return Layout(start, _spread(layout.parts, math.prod(before[layout.dim + 1 : end + 1])))


def _reshaped(flow: Flow, node: fx.Node) -> Known:
    """`view` and `reshape`, where the channels stay in one piece and are not a written number."""
    (layout, before), after = flow.entering(node), flow.shape(node)
    given = _argument(node, 1, "shape")
    sizes = given if isinstance(given, tuple | list) else node.args[1:]
    numbers = [flow.known[s] if isinstance(s, fx.Node) else s for s in sizes]
    reason = "view or reshape in forward fixes them"
    if layout is None or len(numbers) != len(after):
        return flow.freeze(node, reason)
    outside = math.prod(before[: layout.dim])
    inside = [math.prod(before[layout.dim + 1 : end]) for end in range(layout.dim + 1, 9)]
    for place, number in enumerate(numbers):
        times, rest = divmod(after[place], before[layout.dim])
        if rest or times not in inside or math.prod(after[:place]) != outside:
            continue
        if any(isinstance(n, Size) for i, n in enumerate(numbers) if i != place):
            break
        if isinstance(number, Size) and number.exact and times == 1:
            flow.groups.tie(layout.parts, number.parts)
        elif number != -1:
            break
        return Layout(place, _spread(layout.parts, times))
    return flow.freeze(node, reason)


def _permuted(flow: Flow, node: fx.Node) -> Known:
    layout, before = flow.entering(node)
    given = _argument(node, 1, "dims")
    order: Sequence[Any] = given if isinstance(given, tuple | list) else node.args[1:]
    if layout is None:
        return None
    return Layout([d % len(before) for d in order].index(layout.dim), layout.parts)


def _transposed(flow: Flow, node: fx.Node) -> Known:
    layout, before = flow.entering(node)
    a, b = _argument(node, 1, "dim0") % len(before), _argument(node, 2, "dim1") % len(before)
    return layout and Layout({a: b, b: a}.get(layout.dim, layout.dim), layout.parts)


def _squeezed(flow: Flow, node: fx.Node) -> Known:
    layout, before = flow.entering(node)
    dim = _argument(node, 1, "dim")
    if layout is None or not isinstance(dim, int) or dim % len(before) == layout.dim:
        return flow.freeze(node, "squeeze may remove them")
    gone = before[dim] == 1 and dim % len(before) < layout.dim
    return Layout(layout.dim - gone, layout.parts)


def _unsqueezed(flow: Flow, node: fx.Node) -> Known:
    layout, _ = flow.entering(node)
    dim = _argument(node, 1, "dim") % len(flow.shape(node))
    return layout and Layout(layout.dim + (dim <= layout.dim), layout.parts)


def _joined(flow: Flow, node: fx.Node) -> Known:
    """Concatenation: along the channels one after the other, else entry by entry."""
    tensors, dim = _argument(node, 0, "tensors"), _argument(node, 1, "dim", 0)
    knowns = [flow.known[n] for n in tensors]
    layouts = [k for k in knowns if isinstance(k, Layout)]
    if not layouts:
        return None
    if any(k.dim != layouts[0].dim for k in layouts):
        return flow.freeze(node, "channels of different dimensions are joined")
    if layouts[0].dim == dim % len(flow.shape(node)):
        counts = [flow.shape(n)[dim] for n in tensors]
        pairs = zip(knowns, counts, strict=True)
        parts = (k.parts if k is not None else _constant(flow, count) for k, count in pairs)
        return Layout(layouts[0].dim, sum(parts, ()))
    if len(layouts) < len(knowns):
        return flow.freeze(node, "they meet a tensor of fixed size")
    for other in layouts[1:]:
        flow.groups.tie(layouts[0].parts, other.parts)
    return layouts[0]


def _constant(flow: Flow, count: int) -> Parts:
    parts = flow.groups.new(count, [])
    flow.groups.freeze(parts, "they meet a tensor of fixed size")
    return parts


FUNCTIONS: dict[str, Callable[[Flow, fx.Node], Known]] = {
    "to": lambda flow, node: flow.entering(node)[0],
    "mean": _reduced,
    "sum": _reduced,
    "amax": _reduced,
    "max": _reduced,
    "flatten": _flatten,
    "view": _reshaped,
    "reshape": _reshaped,
    "permute": _permuted,
    "transpose": _transposed,
    "squeeze": _squeezed,
    "unsqueeze": _unsqueezed,
    "cat": _joined,
    "concat": _joined,
}

# Shapes read in forward: `x.shape` is known as the tensor is, `x.shape[1]` as one number


def _size(flow: Flow, node: fx.Node) -> Known:
    layout, before = flow.entering(node)
    index = _argument(node, 1, "dim")
    return layout if layout is None or index is None else _number(layout, index, before)


def _attribute(flow: Flow, node: fx.Node) -> Known:
    if node.args[1] == "shape":
        return flow.entering(node)[0]
    if _has_tensor(flow.values[node]):
        return flow.freeze(node, f"what .{node.args[1]} does to channels is not understood")
    return None


def _item(flow: Flow, node: fx.Node) -> Known:
    """Of a shape: one number. Of a tensor: a part that leaves the channels whole."""
    index, source = node.args[1], node.all_input_nodes[0]
    known, value = flow.known[source], flow.values[source]
    if isinstance(known, Layout) and isinstance(value, torch.Size):
        return _number(known, index, value)
    if not isinstance(known, Layout) or not isinstance(value, Tensor):
        return known
    entries: Sequence[Any] = index if isinstance(index, tuple) else (index,)
    whole = known.dim >= len(entries) or entries[known.dim] == slice(None)
    if not whole or not all(isinstance(e, int | slice) for e in entries):
        return flow.freeze(node, "single channels are taken out")
    return Layout(known.dim - sum(isinstance(e, int) for e in entries[: known.dim]), known.parts)


def _number(layout: Layout, index: Any, shape: Sequence[int]) -> Known:
    if isinstance(index, int):
        return Size(layout.parts, True) if index % len(shape) == layout.dim else None
    taken = isinstance(index, slice) and layout.dim not in range(len(shape))[index]
    return None if taken else Size(layout.parts, False)


_SHAPES: dict[str, Callable[[Flow, fx.Node], Known]] = {
    "size": _size,
    "getattr": _attribute,
    "getitem": _item,
}


def _spread(parts: Parts, times: int) -> Parts:
    return tuple(Part(p.group, p.count, p.repeat * times) for p in parts)


def _argument(node: fx.Node, index: int, name: str, default: Any = None) -> Any:
    """An argument of a step, by position or by its name in torch or numpy."""
    names = {"dim": ("dim", "axis"), "keepdim": ("keepdim", "keepdims")}.get(name, (name,))
    given = [node.kwargs[n] for n in names if n in node.kwargs] + list(node.args[index : index + 1])
    return given[0] if given else default


def _has_tensor(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return any(_has_tensor(v) for v in value)
    return isinstance(value, Tensor)

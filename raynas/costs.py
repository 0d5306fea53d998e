"""What a design costs before it is trained: counts, sizes, memory and an estimate of its time."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from raynas.architecture import Architecture
from raynas.compression import deployed, stored_bytes
from raynas.errors import UserError
from raynas.memory import MB, Tally, passed
from raynas.objective import COUNTS
from raynas.space import Shape, Space

PLAIN = (bool, int, float, str, tuple, list, frozenset, dict, type(None))
OWN = frozenset(vars(nn.Module()))  # what every module has: its parts are looked at one by one
KB = 1e3


class Latencies(Protocol):
    """What estimates how long a design takes: a `LatencyTable`, or `mobile()`."""

    @property
    def device(self) -> str:
        """cpu, cuda or mobile."""
        ...

    @property
    def threads(self) -> int:
        """On the processor, for which it tells; 0 where there are none."""
        ...

    @property
    def note(self) -> str:
        """What a report must say of the estimates; '' if nothing."""
        ...

    def estimate(self, build: Callable[[], nn.Module], input_shape: Shape) -> float:
        """Milliseconds to classify one image."""
        ...


def costs_of(
    space: Space,
    architecture: Architecture,
    input_shape: Shape,
    num_classes: int,
    names: Collection[str] = COUNTS,
    table: Latencies | None = None,
) -> dict[str, float]:
    """Costs of a design, from its shapes alone: nothing is trained, no memory is used.

    Args:
        names: of `params` and `flops` (by the space's formula, or by counting its network),
            `model_size_kb` (the file of the weights as they are stored, 10^3 bytes),
            `peak_memory_mb` (`raynas.memory.peak_memory_mb`) and `latency_ms`.
        table: estimates `latency_ms`.

    Raises:
        UserError: the network has other outputs, or the table misses an entry.
    """
    assert space.build is not None or space.costs is not None, "there is nothing to count"
    build = space.build
    costs: dict[str, float] = {}
    if space.costs is not None:
        costs |= space.costs(architecture, input_shape, num_classes)
    if (left := set(names) - set(costs)) and build is not None:
        with torch.device("meta"):
            model = build(architecture, input_shape, num_classes).eval()
        costs["model_size_kb"] = stored_bytes(model) / KB
        costs.setdefault("params", _params(model))
        if left & {"flops", "peak_memory_mb"}:
            plain = deployed(model) if "peak_memory_mb" in left else model
            tally = _checked(passed(plain, input_shape), num_classes)
            costs["peak_memory_mb"] = tally.peak_bytes / MB
            costs.setdefault("flops", float(tally.flops))
        if "latency_ms" in left:
            assert table is not None, "only a table can tell how long a design takes"
            with Tally():  # which remembers shapes
                costs["latency_ms"] = table.estimate(lambda: deployed(model), input_shape)
    return {name: costs[name] for name in names}


def count(
    build: Callable[[], nn.Module], input_shape: Shape, num_classes: int | None = None
) -> dict[str, float]:
    """Counts a network that is built on the meta device, which holds shapes but no numbers.

    Args:
        build: makes the network.
        input_shape: (channels, height, width) of one image.
        num_classes: how many outputs the network must have.

    Raises:
        UserError: it has other outputs.

    Returns:
        `params`: trainable numbers. `flops`: floating point operations to classify one image,
        two per multiply-add, of convolutions, matrix products and attention (what torch's
        counter counts; on CPU tensors it would miss attention).
    """
    with torch.device("meta"):
        model = build().eval()
    tally = _checked(passed(model, input_shape), num_classes)
    return {"params": _params(model), "flops": float(tally.flops)}


def _params(model: nn.Module) -> float:
    return float(sum(p.numel() for p in model.parameters() if p.requires_grad))


def _checked(tally: Tally, num_classes: int | None) -> Tally:
    """The tally of a network with as many outputs as there are classes."""
    shape = getattr(tally.output, "shape", None)
    if num_classes is not None and shape != (1, num_classes):
        given = list(shape or []) or type(tally.output).__name__
        raise UserError(
            f"expected a network from images to logits [N, {num_classes}]; for one image it gives "
            f"{given}. Take the number of classes from num_classes."
        )
    return tally


def layers(
    space: Space, architecture: Architecture, input_shape: Shape, num_classes: int
) -> list[dict[str, Any]]:
    """The design as numbered layers, in the order in which an image passes them.

    A layer is a direct child of the network; of a child that is a plain container, its children.

    Returns:
        One row per layer: `name`, `kind` (its class), `shape_in` and `shape` of what enters and
        leaves for one image, `params`, `flops`, and `decisions` (the names of those that made it:
        by the layer's name, or in a network whose layers are named otherwise, those that change
        it when they are changed).
    """
    rows = _measured(space, architecture, input_shape, num_classes)
    for row in rows:
        row["decisions"] = decisions_of(row["name"], architecture)
    claimed = {name for row in rows for name in row["decisions"]}
    claimed |= {d.when[0] for d in space.decisions if d.when}  # these add and remove layers
    left = [n for n in architecture.options if n not in claimed and not n.startswith("train.")]
    _find_decisions(rows, left, space, architecture, input_shape, num_classes)
    for row in rows:
        del row["look"]
    return rows


def _find_decisions(
    rows: list[dict[str, Any]],
    names: Sequence[str],
    space: Space,
    architecture: Architecture,
    input_shape: Shape,
    num_classes: int,
) -> None:
    """Changes each decision once: it made the layers that change though their input does not."""
    before = {row["name"]: row for row in rows}
    left = set(names)
    for other in space.neighbours(architecture) if left else ():
        name = next(n for n in architecture.options if other.options.get(n) != architecture[n])
        if name not in left:
            continue
        left.remove(name)
        for row in _measured(space, other, input_shape, num_classes):
            old = before.get(row["name"], row)
            if old["look"] != row["look"] and old["shape_in"] == row["shape_in"]:
                old["decisions"].append(name)


def _measured(
    space: Space, architecture: Architecture, input_shape: Shape, num_classes: int
) -> list[dict[str, Any]]:
    assert space.build is not None, "only a space that builds networks has layers"
    with torch.device("meta"):
        model = space.build(architecture, input_shape, num_classes).eval()
        images = torch.empty(1, *input_shape)
    rows: list[dict[str, Any]] = []
    with Tally() as counter:
        for name, part in _parts(model):
            part.register_forward_pre_hook(_opener(rows, name, part, counter))
            part.register_forward_hook(_closer(rows, name, counter))
        with torch.no_grad():
            model(images)
    return rows


def _parts(model: nn.Module, prefix: str = "") -> Iterable[tuple[str, nn.Module]]:
    for name, part in model.named_children():
        if isinstance(part, nn.ModuleList | nn.ModuleDict):
            yield from _parts(part, f"{prefix}{name}.")
        else:
            yield prefix + name, part


def _opener(
    rows: list[dict[str, Any]],
    name: str,
    part: nn.Module,
    counter: Tally,
) -> Callable[[nn.Module, Any], None]:
    def opened(_: nn.Module, inputs: Any) -> None:
        again = any(row["name"] == name for row in rows)
        params = sum(p.numel() for p in part.parameters() if p.requires_grad)
        rows.append(
            {
                "name": name,
                "kind": parametrize.type_before_parametrizations(part).__name__,
                "shape_in": _shape(inputs),
                "shape": (),
                "params": 0 if again else params,  # a part used twice has its weights once
                "flops": -counter.flops,
                "look": fingerprint(part),
                "decisions": [],
            }
        )

    return opened


def _closer(
    rows: list[dict[str, Any]], name: str, counter: Tally
) -> Callable[[nn.Module, Any, Any], None]:
    def closed(_: nn.Module, inputs: Any, output: Any) -> None:
        del inputs
        row = next(row for row in reversed(rows) if row["name"] == name)
        row["shape"] = _shape(output)
        row["flops"] += counter.flops

    return closed


def _shape(value: Any) -> tuple[int, ...]:
    """Of a tensor, or of the last tensor in what was passed: cells pass two."""
    while isinstance(value, tuple | list):
        value = value[-1]
    return tuple(value.shape[1:]) if isinstance(value, Tensor) else ()


def decisions_of(name: str, architecture: Architecture) -> list[str]:
    """The active decisions that a layer of this name goes back to.

    The name's underscores are read as dots: `stage1_block0` goes back to what was decided for
    `stage1.block0`, within it, and for all of `stage1`. Where nothing was, decisions named after
    parts of the layer (`layer1`: `layer1_0_conv1.width`), and at last its number counts
    repetitions: `normal3` goes back to `normal`, `stage1_2` to `stage1`.
    """
    word = re.sub(r"\W", "_", name)
    word = f"layer{word}" if word[0].isdigit() else word
    for layer in (name, name.replace("_", "."), word, re.sub(r"_?\d+\Z", "", name)):
        within = (f"{layer}.", f"{layer}_") if layer == word else (f"{layer}.",)
        own = [n for n in architecture.options if "." in n and n.startswith(within)]
        if own:
            above = [
                n
                for n in architecture.options
                if "." in n and layer.startswith(n.rpartition(".")[0] + ".")
            ]
            return [*above, *own]
    return []


def fingerprint(model: nn.Module) -> str:
    """A digest of everything of a network that can be seen without running it."""
    digest = hashlib.sha256(str(model).encode())
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
    for path, module in model.named_modules():
        for name, value in _visible(module):
            digest.update(f"{path}.{name}={value}".encode())
    return digest.hexdigest()


def _visible(module: nn.Module) -> Iterator[tuple[str, str]]:
    for name, value in vars(module).items():
        if isinstance(value, PLAIN) and name not in OWN:
            yield name, repr(value)
        elif callable(value) and name not in OWN:
            yield name, str(getattr(value, "__qualname__", type(value)))

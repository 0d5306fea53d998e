"""What may change in a network, as decisions, and what stays as it is, in sentences."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from raynas.architecture import Decision, Option
from raynas.resizing.flow import Convolution, understood
from raynas.resizing.tracing import Channels
from raynas.resizing.wording import listed


@dataclass(frozen=True)
class Row:
    """Blocks of one class after each other; all but the first return what they take in shape."""

    decision: str
    paths: tuple[str, ...]
    kind: str


def rows_of(model: nn.Module, channels: Channels) -> list[Row]:
    """All rows of two or more blocks, those within a block after that block's own row."""
    rows = []
    for parent, module in model.named_modules():
        if isinstance(module, nn.Sequential | nn.ModuleList):
            found = [tuple(paths) for paths in _runs(parent, module, channels) if len(paths) > 1]
            for paths in found:
                owner = parent if len(found) == 1 and parent else paths[0]
                kind = type(model.get_submodule(paths[0])).__name__
                rows.append(Row(f"{word(owner)}.depth", paths, kind))
    return rows


def _runs(parent: str, module: nn.Module, channels: Channels) -> list[list[str]]:
    makers = [maker for group in channels.groups.values() for maker in group.makers]
    runs: list[list[str]] = [[]]
    before: type[nn.Module] | None = None
    for name, block in module.named_children():
        path = f"{parent}.{name}".lstrip(".")
        whole = not understood(block) and any(_within(maker, path) for maker in makers)
        if not whole or type(block) is not before or path not in channels.keeping:
            runs.append([])
        if whole:
            runs[-1].append(path)
        before = type(block)
    return runs


def _within(path: str, block: str) -> bool:
    return f"{path}.".startswith(f"{block}.")


def _condition(rows: Sequence[Row], paths: Iterable[str]) -> tuple[str, frozenset[Option]] | None:
    """The depth that at least one of the paths needs to be part of the network; None: any."""
    wanted = list(paths)
    for row in reversed(rows):
        blocks = [[i for i, b in enumerate(row.paths) if _within(p, b)] for p in wanted]
        if all(blocks) and (least := min(i for (i,) in blocks)):
            return row.decision, frozenset(range(least + 1, len(row.paths) + 1))
    return None


def depths(rows: Sequence[Row]) -> Iterator[Decision]:
    for i, row in enumerate(rows):
        meaning = (
            f"how many of the {len(row.paths)} {row.kind} blocks from {row.paths[0]} to "
            f"{row.paths[-1]} are kept, from the first"
        )
        options = tuple(range(1, len(row.paths) + 1))
        yield Decision(row.decision, options, meaning, True, _condition(rows[:i], row.paths))


def widths(channels: Channels, rows: Sequence[Row], shares: Sequence[float]) -> Iterator[Decision]:
    for number, group in channels.groups.items():
        options = counts(group.count, group.divisor, shares)
        if group.frozen or len(options) == 1:
            continue
        first, *others = dict.fromkeys(group.makers)
        through = [
            path
            for path, layer in channels.layers.items()
            if path not in group.makers and any(p.group == number for p in layer.outputs)
        ]
        meaning = f"output channels of {first}"
        meaning += f", tied to those of {listed(others)}" if others else ""
        meaning += f" (they pass {listed(through)})" if through else ""
        when = _condition(rows, group.makers)
        yield Decision(f"{word(first)}.width", options, meaning, True, when)


def counts(count: int, divisor: int, shares: Sequence[float]) -> tuple[int, ...]:
    """Shares of a count as numbers of channels, multiples of 8 (else 4, 2, 1) and of `divisor`.

    The count itself is always among them, whatever it is a multiple of.
    """
    best: tuple[int, ...] = (count,)
    if count % divisor:
        return best
    for multiple in (8, 4, 2, 1):
        step = math.lcm(multiple, divisor)
        found = {max(round(count * share / step), 1) * step for share in shares if share != 1}
        options = sorted({n for n in found if n < count or max(shares) > 1} | {count})
        best = max(best, tuple(options), key=len)
    return best


def kernels(model: nn.Module, channels: Channels, rows: Sequence[Row]) -> Iterator[Decision]:
    for path in channels.order:
        layer = model.get_submodule(path)
        if isinstance(layer, Convolution) and not _rigid(path, layer, channels):
            size = layer.kernel_size[0]
            options = tuple(k for k in (size - 2, size, size + 2) if k >= 3)
            meaning = f"kernel size of the convolution {path}"
            when = _condition(rows, [path])
            yield Decision(f"{word(path)}.kernel_size", options, meaning, True, when)


def _rigid(path: str, layer: Convolution, channels: Channels) -> str:
    """Why the size of a kernel stays; '' if it may change."""
    if not isinstance(layer, nn.Conv2d) or not understood(layer):
        return "only those of plain Conv2d layers change"
    size = layer.kernel_size[0]
    same = tuple(d * (size - 1) // 2 for d in layer.dilation)
    if layer.kernel_size != (size, size) or size % 2 == 0:
        return "it is not odd and square"
    if size == 1:
        return _ONE
    if layer.padding not in ("same", same) or layer.padding_mode != "zeros":
        return "the padding is not the zeros that keep the size of the image"
    return "the weights are also used elsewhere" if path in channels.bound else ""


_ONE = "1x1"  # not worth a note


def originals(model: nn.Module, channels: Channels) -> dict[str, int]:
    """The width and kernel size that the network as given has, by decision; depths are full."""
    made = {f"{word(g.makers[0])}.width": g.count for g in channels.groups.values() if g.makers}
    called = ((path, model.get_submodule(path)) for path in channels.order)
    sizes = ((p, m.kernel_size[0]) for p, m in called if isinstance(m, nn.Conv2d))
    return made | {f"{word(path)}.kernel_size": size for path, size in sizes}


def word(path: str) -> str:
    """A module's path as an identifier: `layer1.0.conv2` -> `layer1_0_conv2`, `0` -> `layer0`."""
    text = re.sub(r"\W", "_", path)
    return f"layer{text}" if text[:1].isdigit() else text


def in_order(
    decisions: Iterable[Decision], rows: Sequence[Row], channels: Channels
) -> list[Decision]:
    """As an image meets them; a depth before what its blocks contain."""
    place = {word(path): i for i, path in enumerate(channels.order)}
    start = {
        row.decision: next(i for i, p in enumerate(channels.order) if _within(p, row.paths[0]))
        for row in rows
    }
    return sorted(
        decisions, key=lambda d: (start.get(d.name, place.get(d.layer)), d.name not in start)
    )


def notes(model: nn.Module, channels: Channels) -> list[str]:
    """What stays as it is and why, a sentence for each reason."""
    said = [
        f"{listed(paths)}: {kind} is not understood and stays as it is."
        for kind, paths in channels.unknown.items()
    ]
    reasons: dict[str, list[str]] = {}
    for group in channels.groups.values():
        if group.frozen or group.count % group.divisor:
            why = [*group.frozen, "they do not divide into the groups of the layers"][0]
            reasons.setdefault(f"the output channels stay, because {why}", []).extend(group.makers)
    for path in channels.order:
        layer = model.get_submodule(path)
        why = _rigid(path, layer, channels) if isinstance(layer, Convolution) else ""
        if why not in ("", _ONE):
            reasons.setdefault(f"the kernel size stays, because {why}", []).append(path)
    return said + [f"{listed(paths)}: {why}." for why, paths in reasons.items() if paths]

"""Coarse and pruned weights: searched, trained, packed and read back to the bit.

Weights get 4, 8 or 32 bits and lose a share of their smallest (`Compressed`); both act while the
network is trained, so what is measured is the network as it is kept. Rounding is that of
`raynas.blocks.quantized`, quantization-aware with a straight-through gradient (Jacob et al. 2018,
arXiv:1712.05877); pruning is by magnitude within each layer and gradual (Zhu & Gupta 2017,
arXiv:1710.01878), with the masks of `torch.nn.utils.prune`. Activations stay in float32.

What that is good for: the size on disk and on the way to a device. It does not make a network
faster here: the kernels that run it multiply floats, and by dense matrices (`deployed`), so its
latency is that of the plain network. Pruning that takes channels out does (`elastic`). Kernels
for 8-bit numbers were weighed and left out: onnxruntime's, one image at a time on a CPU, were up
to 3 times as fast as its own in float on plain convolutions and transformers, hardly faster on
mobile networks, and 2 to 5 times slower on cells (benchmarks/compression.py); they would need
activations in 8 bits as well, and so another accuracy.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from raynas.blocks import Convolution, quantized, step_of

KINDS = {  # as a file of safetensors calls them, in the library's order
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.float32: "F32",
    torch.complex64: "C64",
    torch.float64: "F64",
    torch.int64: "I64",
}
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)  # their first axis is the output's channels


class Compressed(nn.Module):
    """Weights `[C_out, ...]` as they act: those of `kept`, rounded to `bits` bits.

    A parametrization (`torch.nn.utils.parametrize`): the layer's own weights stay in full
    precision underneath, for the gradient.

    Attributes:
        pruning: the share of the weights that is zero at the end of the training.
        kept: which are not zero now. Not saved: zeros are zeros when they are read again.
    """

    kept: Tensor

    def __init__(self, weight: Tensor, bits: int, pruning: float) -> None:
        super().__init__()
        self.bits, self.pruning = bits, pruning
        if pruning:
            self.register_buffer(
                "kept", torch.ones_like(weight, dtype=torch.bool), persistent=False
            )

    def forward(self, weight: Tensor) -> Tensor:
        """Keeps the shape."""
        return quantized(weight * self.kept if self.pruning else weight, self.bits)

    def extra_repr(self) -> str:
        """Bits and pruning, as PyTorch prints them."""
        return f"bits={self.bits}, pruning={self.pruning}"


@dataclass(frozen=True)
class _Layer:
    """A layer with coarse or pruned weights: its name in the network, and how they are kept."""

    name: str
    module: nn.Module
    bits: int
    pruning: float

    @property
    def key(self) -> str:
        """Of the weights in full precision, in the network's `state_dict`."""
        compressed = parametrize.is_parametrized(self.module)
        own = "parametrizations.weight.original" if compressed else "weight"
        return f"{self.name}.{own}".removeprefix(".")

    @property
    def packed(self) -> str:
        """Of the weights as they are packed."""
        return f"{self.name}.weight".removeprefix(".")

    @property
    def weight(self) -> Tensor:
        """The weights as they act."""
        weight, module = cast(Tensor, self.module.weight).detach(), self.module
        return quantized(weight, module.bits) if isinstance(module, Convolution) else weight

    @property
    def left(self) -> int:
        """How many weights are kept."""
        weight = cast(Tensor, self.module.weight)
        return weight.numel() - round(self.pruning * weight.numel())


def _layers(model: nn.Module) -> Iterator[_Layer]:
    for name, module in model.named_modules():
        if (compression := _compression(module)) is not None:
            yield _Layer(name, module, compression.bits, compression.pruning)
        elif isinstance(module, Convolution) and module.bits < 32:
            yield _Layer(name, module, module.bits, 0.0)


def _compression(module: nn.Module) -> Compressed | None:
    if not isinstance(module, LAYERS) or not parametrize.is_parametrized(module, "weight"):
        return None
    first = module.parametrizations["weight"][0]  # type: ignore[index]
    return first if isinstance(first, Compressed) else None


def compress(model: nn.Module, thirds: Sequence[tuple[int, float]]) -> nn.Module:
    """Gives each third of the convolutions and linear layers, in order, its bits and pruning.

    In place, and returns the network. Layers whose weights are parametrized already stay.
    """
    found = [
        m
        for m in model.modules()
        if isinstance(m, LAYERS)
        and "weight" in m._parameters
        and not hasattr(m, "parametrizations")
    ]
    for i, module in enumerate(found):
        bits, pruning = thirds[i * len(thirds) // len(found)]
        if bits < 32 or pruning:
            rule = Compressed(module.weight, bits, pruning)
            parametrize.register_parametrization(module, "weight", rule, unsafe=True)
    return model


def prune_to(model: nn.Module, progress: float) -> None:
    """Zeroes the smallest weights of each pruned layer: its share, once `progress` is 1.

    Before, s (1 - (1 - progress)^3) of its share s (Zhu & Gupta 2017, equation 1). What was zeroed
    stays so.
    """
    for layer in _layers(model):
        if layer.pruning:
            rule = _compression(layer.module)
            assert rule is not None, "only compressed layers are pruned"
            own = layer.module.parametrizations["weight"].original  # type: ignore[index,union-attr]
            total = layer.pruning * (1 - (1 - min(progress, 1.0)) ** 3)
            rule.kept = _largest(own.detach() * rule.kept, own.numel() - round(total * own.numel()))


def _largest(weight: Tensor, count: int) -> Tensor:
    """Marks so many of the largest magnitudes, as bool of the weights' shape."""
    pruning = prune.L1Unstructured(amount=weight.numel() - count)
    plain = weight.contiguous()
    mask = pruning.compute_mask(plain, torch.ones_like(plain))  # type: ignore[no-untyped-call]
    return cast(Tensor, mask).bool()


def stored_bytes(model: nn.Module) -> int:
    """Bytes of the file that `safetensors.torch.save(packed(model))` makes, to the byte.

    Its header of names and shapes included. Works on the meta device.
    """
    kinds = [*KINDS]
    # As the library lays them out: the kinds backwards, and by name.
    order = sorted(_kept(model).items(), key=lambda item: (-kinds.index(item[1][0]), item[0]))
    header: dict[str, Any] = {}
    end = 0
    for name, (kind, shape) in order:
        begin, end = end, end + math.prod(shape) * kind.itemsize
        header[name] = {"dtype": KINDS[kind], "shape": shape, "data_offsets": [begin, end]}
    said = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-said // 8) * 8 + end


def _kept(model: nn.Module) -> dict[str, tuple[torch.dtype, list[int]]]:
    """Type and shape of each tensor that `packed` would make, by name."""
    kept = {name: (value.dtype, list(value.shape)) for name, value in model.state_dict().items()}
    for layer in _layers(model):
        weight, left = cast(Tensor, layer.module.weight), layer.left
        del kept[layer.key]
        kept[layer.packed] = {
            4: (torch.uint8, [-(-left // 2)]),
            8: (torch.int8, [left]),
            32: (weight.dtype, [left]),
        }[layer.bits]
        if layer.bits < 32:
            kept[f"{layer.packed}.scale"] = (torch.bfloat16, [len(weight)])
        if layer.pruning:
            kept[f"{layer.packed}.kept"] = (torch.uint8, [-(-weight.numel() // 8)])
    return kept


def packed(model: nn.Module) -> dict[str, Tensor]:
    """The network as it is stored, on the CPU: its `state_dict`, with coarse and pruned weights

    as `NAME.weight`, the kept ones in order as int8, as two numbers of 4 bits in each uint8 (the
    first one low, plus 8), or as float32; `NAME.weight.scale`, bfloat16 `[C_out]`, by which a
    channel's numbers are multiplied; `NAME.weight.kept`, one bit for each weight, the first one
    highest.
    """
    state = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
    for layer in _layers(model):
        del state[layer.key]
        weight = layer.weight.cpu().contiguous()
        numbers = weight
        if layer.bits < 32:
            step = step_of(weight, layer.bits)
            state[f"{layer.packed}.scale"] = step.flatten().to(torch.bfloat16)
            numbers = torch.round(weight / step).to(torch.int8)
        if layer.pruning:
            kept = _largest(weight, layer.left)
            assert not weight[~kept].any(), "a network is packed once it is pruned"
            state[f"{layer.packed}.kept"] = _in_eights(kept)
            numbers = numbers[kept]
        numbers = numbers.flatten()
        state[layer.packed] = _in_pairs(numbers) if layer.bits == 4 else numbers
    return state


def unpack(model: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Gives a network, in place, the weights that `packed` made of one of the same design.

    They act as those did, to the bit. Returns the network.
    """
    state = dict(tensors)
    for layer in _layers(model):
        weight = cast(Tensor, layer.module.weight)
        numbers = state.pop(layer.packed)
        if layer.bits == 4:
            numbers = torch.stack([numbers & 15, numbers >> 4], 1).flatten().to(torch.int8) - 8
            numbers = numbers[: layer.left]
        if layer.pruning:
            kept = _bits_of(state.pop(f"{layer.packed}.kept"), weight.numel())
            spread = torch.zeros(weight.numel(), dtype=numbers.dtype)
            spread[kept] = numbers
            numbers = spread
        whole = numbers.to(weight.dtype).reshape(weight.shape)
        if layer.bits < 32:
            step = state.pop(f"{layer.packed}.scale").to(weight.dtype)
            whole = whole * step.reshape(-1, *[1] * (weight.dim() - 1))
        state[layer.key] = whole
    model.load_state_dict(state)
    return model


def _in_pairs(numbers: Tensor) -> Tensor:
    """Numbers from -7 to 7, two in each uint8."""
    from_zero = nn.functional.pad((numbers + 8).to(torch.uint8), (0, len(numbers) % 2))
    low, high = from_zero.reshape(-1, 2).T
    pairs: Tensor = low | high << 4
    return pairs


def _in_eights(marks: Tensor) -> Tensor:
    """Truth values in order, eight in each uint8, the first one highest."""
    rows = nn.functional.pad(marks.flatten().to(torch.uint8), (0, -marks.numel() % 8))
    places = 1 << torch.arange(7, -1, -1, dtype=torch.uint8)
    return (rows.reshape(-1, 8) * places).sum(1, dtype=torch.uint8)


def _bits_of(eights: Tensor, count: int) -> Tensor:
    places = torch.arange(7, -1, -1, dtype=torch.uint8)
    marks: Tensor = (eights[:, None] >> places & 1).flatten()[:count].bool()
    return marks


def deployed(model: nn.Module) -> nn.Module:
    """The network as it runs where it is used: weights rounded and pruned once, for all.

    A copy of ordinary layers with float32 weights, which act as before, to the bit; the network
    itself where nothing is compressed. Latency and memory are measured of this, and it is what
    is exported. Works on the meta device.
    """
    if not any(True for _ in _layers(model)):
        return model
    plain = copy.deepcopy(model)
    for layer in list(_layers(plain)):
        module, weight = layer.module, layer.weight.clone()
        if parametrize.is_parametrized(module):
            settle(module)
        if isinstance(module, Convolution):
            module.bits = 32
        module._parameters["weight"] = nn.Parameter(weight)
    return plain


def settle(module: nn.Module) -> None:
    """Makes ordinary parameters of a layer's parametrized ones, as they act.

    By hand: `remove_parametrizations` changes a class that a network's copies have in common.
    """
    names = [*module.get_submodule("parametrizations")._modules]
    values = {name: nn.Parameter(getattr(module, name).detach().clone()) for name in names}
    del module.parametrizations
    module.__class__ = type(module).__bases__[0]
    module._parameters = {**values, **module._parameters}  # in the usual order

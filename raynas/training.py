"""Training a network on images in memory, and measuring it."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raynas.compression import prune_to
from raynas.data import ImageData, Split
from raynas.recipe import Recipe

_log = logging.getLogger(__name__)


class Diverged(ArithmeticError):
    """A training whose loss is no longer a number."""


@dataclass(frozen=True)
class DeviceSplit:
    """Images `[N, C, H, W]` as stored and labels `[N]`, on the device."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class DeviceData:
    """A data set on a device, once: every training in this process reads the same tensors."""

    train: DeviceSplit
    validation: DeviceSplit
    test: DeviceSplit
    mean: Tensor
    scale: Tensor  # one over the deviation
    flips: bool

    @classmethod
    def of(cls, data: ImageData, device: torch.device) -> DeviceData:
        def place(split: Split) -> DeviceSplit:
            # The arrays may lie read-only in shared memory; nothing here writes to them.
            images = torch.from_numpy(split.images)
            return DeviceSplit(images.to(device), torch.from_numpy(split.labels).to(device))

        mean, scale = (
            torch.from_numpy(v).view(1, -1, 1, 1).to(device) for v in (data.mean, 1 / data.std)
        )
        train, validation, test = map(place, (data.train, data.validation, data.test))
        return cls(train, validation, test, mean, scale, data.flips)

    def normalized(self, images: Tensor) -> Tensor:
        """Float images with mean 0 and deviation 1 per channel of the training split."""
        return images.to(torch.float32, copy=True).sub_(self.mean).mul_(self.scale)


@dataclass
class Checkpoint:
    """A training between two epochs, with all that it needs to go on as if it had not stopped.

    Attributes:
        readings: of the epochs that are done.
        order: the state of the generator that shuffles and augments.
        optimizer: the state of each parameter, by its place among them and by name.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    order: torch.Generator
    readings: list[dict[str, float]] = field(default_factory=list)

    def dump(self) -> bytes:
        """As safetensors, the readings among its metadata."""
        from safetensors.torch import save

        tensors = {f"model/{name}": tensor for name, tensor in self._tensors().items()}
        tensors["order"] = self.order.get_state()
        for place, parameter in enumerate(self._parameters()):
            for name, moment in self.optimizer.state.get(parameter, {}).items():
                if moment is not None:
                    tensors[f"optimizer/{place}/{name}"] = moment
        plain = {
            name: tensor.detach().to("cpu", copy=True).contiguous()
            for name, tensor in tensors.items()
        }
        return save(plain, {"readings": json.dumps(self.readings)})

    def restore(self, data: bytes) -> None:
        """Takes over what `dump` returned of the same design and recipe on such a device.

        Raises:
            ValueError: it is something else; nothing was taken over.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        own, parameters = self._tensors(), self._parameters()
        state: dict[int, dict[str, Tensor]] = {}
        kept = {}
        try:
            tensors = load(data)
            size = int.from_bytes(data[:8], "little")
            readings = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["readings"])
            for name, tensor in tensors.items():
                part, _, rest = name.partition("/")
                if part == "model":
                    kept[rest] = tensor
                elif part == "optimizer":
                    place, _, moment = rest.partition("/")
                    state.setdefault(int(place), {})[moment] = tensor
            moments: dict[Tensor, Any] = {
                parameters[number]: {n: _beside(parameters[number], t) for n, t in named.items()}
                for number, named in state.items()
            }
            if {n: t.shape for n, t in own.items()} != {n: t.shape for n, t in kept.items()}:
                raise ValueError("it has the weights of another design")
            self.order.set_state(tensors["order"])
        except (SafetensorError, KeyError, IndexError, TypeError, RuntimeError) as error:
            raise ValueError(f"it is no checkpoint of such a training: {error}") from None
        with torch.no_grad():
            for name, tensor in kept.items():
                own[name].copy_(tensor)
        self.optimizer.state.update(moments)
        self.readings = readings

    def _parameters(self) -> list[nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _tensors(self) -> dict[str, Tensor]:
        return {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}


def _beside(parameter: Tensor, moment: Tensor) -> Tensor:
    """A moment of a parameter, where and as the parameter lies in memory."""
    placed = moment.to(parameter.device)
    if placed.shape != parameter.shape:
        return placed  # a count of steps
    return torch.empty_like(parameter, dtype=placed.dtype).copy_(placed)


def train(
    model: nn.Module,
    data: DeviceData,
    recipe: Recipe,
    seed: int,
    begun: bytes | None = None,
    keep: Callable[[Callable[[], bytes]], None] | None = None,
) -> Iterator[dict[str, float]]:
    """Trains `model` in place and measures it after every epoch.

    Weights that are pruned go in twenty steps, all in the first half of the training.

    Args:
        begun: what `keep` was given of the same training, which then goes on there; anything else
            is passed over.
        keep: called after each epoch but the last with what returns a checkpoint.

    Yields:
        `train_loss`, `loss` and `accuracy` on the validation split; the last epoch's also has
        `test_loss` and `test_accuracy`. Those of the epochs in `begun` come first.

    Raises:
        Diverged: the training loss is not finite.
    """
    device = data.train.labels.device
    cuda = device.type == "cuda"
    model.to(device)
    model.to(memory_format=torch.channels_last)  # faster for convolutions, on CPUs as well
    generator = torch.Generator(device).manual_seed(seed)
    total = len(data.train.labels)
    size = batch_size(recipe, total)
    steps = max(total // size, 1)  # the rest, fewer than a batch, comes round in another epoch
    optimizer = optimizer_for(model, recipe)
    whole = recipe.epochs * steps
    peak, factor = optimizer.param_groups[0]["lr"], schedule(whole)
    pause = max(whole // 40, 1)  # steps between two prunings
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    checkpoint = Checkpoint(model, optimizer, generator)
    if begun is not None:
        try:
            checkpoint.restore(begun)
        except ValueError as error:  # it can be done without
            _log.warning("A checkpoint is not used: %s. The training begins anew.", error)
    yield from checkpoint.readings
    for epoch in range(len(checkpoint.readings), recipe.epochs):
        model.train()
        order = torch.randperm(total, generator=generator, device=device)
        losses = torch.zeros((), device=device)
        with _drawing_from(seed, epoch, device):
            for step in range(steps):
                done = epoch * steps + step
                if done % pause == 0 and done < whole / 2 + pause:
                    prune_to(model, 2 * (done + pause) / whole)
                rows = order[step * size : (step + 1) * size]
                images = data.normalized(data.train.images[rows])
                if recipe.augment:
                    images = augmented(images, data.flips, generator)
                images = images.contiguous(memory_format=torch.channels_last)
                with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
                    logits = model(images)
                loss = F.cross_entropy(
                    logits.float(), data.train.labels[rows], label_smoothing=recipe.label_smoothing
                )
                for group in optimizer.param_groups:
                    group["lr"] = peak * factor(done)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(parameters, recipe.clip, foreach=True)
                optimizer.step()
                losses += loss.detach()
        train_loss = float(losses) / steps  # the only wait for the device in an epoch
        if not math.isfinite(train_loss):
            raise Diverged(f"the training loss is {train_loss} after epoch {epoch + 1}")
        reading = {"train_loss": train_loss, **measure(model, data, data.validation)}
        checkpoint.readings.append(reading)
        if epoch + 1 == recipe.epochs:
            test = measure(model, data, data.test)
            reading |= {f"test_{name}": value for name, value in test.items()}
        elif keep is not None:
            keep(checkpoint.dump)
        yield reading


@contextmanager
def _drawing_from(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """What a network draws itself, such as dropout, depends on seed and epoch alone."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed + 1_000_003 * (epoch + 1))
        yield


def batch_size(recipe: Recipe, total: int) -> int:
    """Images per step of a training on so many."""
    return min(recipe.batch_size or min(max(total // 100, 32), 128), total)


@torch.no_grad()
def measure(
    model: nn.Module, data: DeviceData, split: DeviceSplit, batch_size: int = 500
) -> dict[str, float]:
    """Cross-entropy (nats) and share of right answers of a network on a split."""
    model.eval()
    loss = torch.zeros((), device=split.labels.device)
    right = torch.zeros((), device=split.labels.device)
    cuda = split.labels.device.type == "cuda"
    for start in range(0, len(split.labels), batch_size):
        images = split.images[start : start + batch_size]
        labels = split.labels[start : start + batch_size]
        with torch.autocast(labels.device.type, torch.bfloat16, enabled=cuda):
            logits = model(data.normalized(images)).float()
        loss += F.cross_entropy(logits, labels, reduction="sum")
        right += (logits.argmax(1) == labels).sum()
    total = len(split.labels)
    return {"loss": float(loss) / total, "accuracy": float(right) / total}


def augmented(images: Tensor, flips: bool, generator: torch.Generator) -> Tensor:
    """Shifts each image by up to an eighth of its side (edges filled with the mean), and mirrors
    half of them if `flips`. Images `[N, C, H, W]`, normalized."""
    n, _, height, width = images.shape
    device = images.device
    reach = max(min(height, width) // 8, 1)
    padded = F.pad(images, (reach, reach, reach, reach))
    top, left = torch.randint(0, 2 * reach + 1, (2, n, 1), generator=generator, device=device)
    rows = top + torch.arange(height, device=device)  # [N, H]
    columns = left + torch.arange(width, device=device)  # [N, W]
    if flips:
        mirrored = torch.rand(n, 1, generator=generator, device=device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    which = torch.arange(n, device=device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(
        0, 3, 1, 2
    )


def optimizer_for(model: nn.Module, recipe: Recipe, sparse: bool = False) -> torch.optim.Optimizer:
    """What follows the gradients of a network's parameters, as the recipe says.

    Args:
        sparse: whether parameters may be without a gradient in some steps, which torch's fused
            SGD cannot bear.
    """
    adam = recipe.optimizer == "adamw"
    decay = recipe.weight_decay if recipe.weight_decay is not None else (0.02 if adam else 5e-4)
    rate = recipe.learning_rate if recipe.learning_rate is not None else (0.003 if adam else 0.1)
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if adam:
        return torch.optim.AdamW(groups, lr=rate, fused=True)
    kind = {"foreach": True} if sparse else {"fused": True}
    return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True, **kind)


def schedule(total: int) -> Callable[[int], float]:
    """The share of the peak learning rate at each of so many steps: warm-up, then a cosine."""
    warmup = max(total // 10, 1)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))

    return factor

"""Training the shared weights of a space, an epoch at a time, and scoring a design by them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from raynas.architecture import Architecture
from raynas.errors import UserError
from raynas.recipe import Recipe
from raynas.supernet import Supernet
from raynas.training import (
    DeviceData,
    DeviceSplit,
    Diverged,
    augmented,
    batch_size,
    measure,
    optimizer_for,
    schedule,
)
from raynas.trial import Proposal

SAMPLED = 3  # random designs whose accuracy is read after each epoch
FEW = 250  # validation images for that


class OneShot(Protocol):
    """How shared weights are trained, and what decides between options meanwhile.

    All that is random comes from the trainer, whose generators begin anew with each epoch: with
    what `tensors` returns, a training goes on as if it had never been cut off.
    """

    @property
    def scores(self) -> bool:
        """Whether designs can be judged by the weights that it trains; once it has started."""
        ...

    def start(self, trainer: Trainer) -> None:
        """Makes what it learns beside the weights.

        Raises:
            UserError: it cannot search this space.
        """
        ...

    def epoch(self, trainer: Trainer) -> dict[str, float]:
        """Trains one epoch; returns readings, of which `train_loss` is one."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint must keep beside the weights and their optimizer."""
        ...

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes over what `tensors` returned, after `start`."""
        ...

    def chances(self) -> dict[str, dict[str, float]]:
        """Decision -> option -> its chance now; empty where nothing decides."""
        ...

    def designs(self, trainer: Trainer, number: int) -> list[Proposal]:
        """Up to so many distinct designs after the training, the best first."""
        ...


@dataclass
class Trainer:
    """Shared weights in training.

    Attributes:
        seconds: how long it may take from now; once an epoch has shown how long one takes, there
            are as many as fit (and a search is no longer repeatable to the digit).
        epochs: planned in all; a method lowers it to end early.
        epoch: how many are done.
        batch_size: images per step; halved when memory runs out.
        notes: warnings for a person.
        readings: of the epochs that are done.
    """

    supernet: Supernet
    data: DeviceData
    recipe: Recipe
    seed: int
    seconds: float | None = None
    epochs: int = field(init=False)
    epoch: int = field(default=0, init=False)
    batch_size: int = field(init=False)
    notes: list[str] = field(default_factory=list, init=False)
    readings: list[dict[str, float]] = field(default_factory=list, init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    rng: np.random.Generator = field(init=False)
    generator: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.epochs = self.recipe.epochs
        self.batch_size = batch_size(self.recipe, len(self.data.train.labels))
        self.supernet.to(self.device).train()
        self.optimizer = optimizer_for(self.supernet, self.recipe, sparse=True)
        self._peak = self.optimizer.param_groups[0]["lr"]
        self._draw()

    @property
    def device(self) -> torch.device:
        return self.data.train.labels.device

    def say(self, text: str) -> None:
        """Leaves a note, once."""
        if text not in self.notes:
            self.notes.append(text)

    def run(self, method: OneShot) -> dict[str, float]:
        """Trains one epoch; where memory runs out, again with half the images per step.

        Raises:
            Diverged: the training loss is not finite.
            UserError: there is no memory for a single image.
        """
        reading = None
        while reading is None:
            self._draw()
            try:
                reading = method.epoch(self)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
                self._shrink()  # what the failed step held is freed when this block is left
        if not math.isfinite(reading["train_loss"]):
            raise Diverged(
                f"the training loss is {reading['train_loss']} after epoch {self.epoch + 1}"
            )
        self.epoch += 1
        rest = {"sampled_accuracy": self.sampled(), "batch_size": float(self.batch_size)}
        self.readings.append({**reading, **rest})
        return self.readings[-1]

    def sampled(self) -> float:
        """The mean accuracy of a few random designs with the weights as they are."""
        space = self.supernet.space
        designs = [space.sample(self.rng) for _ in range(SAMPLED)]
        read = [score(self.supernet, a, self.data, FEW, batches=1)["accuracy"] for a in designs]
        return sum(read) / SAMPLED

    def take_threads(self, most: int) -> None:
        """Uses as many threads, up to `most`, as make a step of some path clearly quicker.

        Small layers are slower with many, which wait for each other: on a machine that does other
        work as well, thirty times when measured.
        """
        if self.device.type != "cpu":
            return
        images = self.data.normalized(self.data.train.images[: self.batch_size])
        design = self.supernet.space.sample(np.random.default_rng(0))
        seconds: dict[int, float] = {}
        for threads in (2**k for k in range(most.bit_length()) if 2**k <= most):
            torch.set_num_threads(threads)
            for _ in range(3):  # the last is the one that counts
                begun = time.perf_counter()
                self.supernet(images, design).sum().backward()
                seconds[threads] = time.perf_counter() - begun
        torch.set_num_threads(min(seconds, key=lambda n: seconds[n] * n**0.2))
        self.optimizer.zero_grad(set_to_none=True)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """This epoch's training images `[N, C, H, W]`, normalized and augmented, and labels `[N]`.

        The learning rate is set before each.
        """
        total = len(self.data.train.labels)
        steps = max(total // self.batch_size, 1)
        factor = schedule(max(self.epochs, self.epoch + 1) * steps)
        order = torch.randperm(total, generator=self.generator, device=self.device)
        for step in range(steps):
            rows = order[step * self.batch_size : (step + 1) * self.batch_size]
            for group in self.optimizer.param_groups:
                group["lr"] = self._peak * factor(self.epoch * steps + step)
            images = self.data.normalized(self.data.train.images[rows])
            if self.recipe.augment:
                images = augmented(images, self.data.flips, self.generator)
            labels = self.data.train.labels[rows]
            yield images.contiguous(memory_format=torch.channels_last), labels

    def held_out(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Validation images, normalized, and labels, without end, in a new order each round."""
        split = self.data.validation
        size = min(self.batch_size, len(split.labels))
        while True:
            order = torch.randperm(len(split.labels), generator=self.generator, device=self.device)
            for first in range(0, len(order) - size + 1, size):
                rows = order[first : first + size]
                images = self.data.normalized(split.images[rows])
                yield images.contiguous(memory_format=torch.channels_last), split.labels[rows]

    def autocast(self) -> AbstractContextManager[object]:
        """In which networks are run: with bfloat16 on CUDA."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def step(self) -> None:
        """Moves the weights along their gradients, which are cut and then dropped."""
        parameters = list(self.supernet.parameters())
        nn.utils.clip_grad_norm_(parameters, self.recipe.clip, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def dump(self, method: OneShot) -> bytes:
        """Weights and all that a training needs to go on, as safetensors."""
        extra = {f"method/{name}": tensor for name, tensor in method.tensors().items()}
        for key, parameter in self.supernet.shared.items():
            for name, moment in self.optimizer.state.get(parameter, {}).items():
                extra[f"optimizer/{key}/{name}"] = moment
        names = ("epoch", "epochs", "batch_size", "notes", "readings")
        return self.supernet.dump(extra, {name: getattr(self, name) for name in names})

    def restore(self, method: OneShot, data: bytes) -> None:
        """Takes over what `dump` returned.

        Raises:
            UserError: it is of another space, data shape or number of classes.
        """
        extra, progress = self.supernet.restore(data)
        taken: dict[str, Tensor] = {}
        for name, tensor in extra.items():
            part, _, rest = name.partition("/")
            if part == "method":
                taken[rest] = tensor
            else:
                key, _, moment = rest.rpartition("/")
                state = self.optimizer.state[self.supernet.shared[key]]
                state[moment] = tensor.to(self.device)
        self.epoch, self.epochs = progress["epoch"], progress["epochs"]
        self.batch_size, self.notes = progress["batch_size"], list(progress["notes"])
        self.readings = list(progress["readings"])
        method.restore(taken)

    def fit_into(self, seconds_per_epoch: float, spent: float) -> None:
        """Plans as many epochs as fit into `seconds`, but no more than were planned."""
        if self.seconds is not None:
            left = max(int((self.seconds - spent) / max(seconds_per_epoch, 1e-9)), 0)
            self.epochs = min(self.epochs, self.epoch + left)

    def _draw(self) -> None:
        self.rng = np.random.default_rng((self.seed, self.epoch))
        seed = int(self.rng.integers(2**62))
        self.generator = torch.Generator(self.device).manual_seed(seed)

    def _shrink(self) -> None:
        failed = self.batch_size
        if failed == 1:
            raise UserError(
                "the memory does not hold the training of shared weights on a single image. Take "
                "smaller images (--image-size), a narrower space, or a larger machine."
            )
        self.batch_size = failed // 2
        self.say(
            f"epoch {self.epoch + 1}: a batch of {failed} images did not fit into memory; "
            f"went on with {self.batch_size}."
        )
        self.optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _out_of_memory(error: BaseException) -> bool:
    """On CPUs, what is raised is known by its text alone."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def score(
    supernet: Supernet,
    architecture: Architecture,
    data: DeviceData,
    images: int | None = None,
    batches: int = 4,
) -> dict[str, float]:
    """`loss` and `accuracy` of a design on the validation split, with the shared weights.

    Its batch norms' statistics are first measured on so many batches of 250 training images; no
    weight is copied.

    Args:
        images: of the validation split; None takes all.
    """
    some = data.train.images[: 250 * batches].split(250)  # type: ignore[no-untyped-call]
    network = supernet.view(architecture, (data.normalized(part) for part in some))
    split = data.validation
    if images is not None:
        split = DeviceSplit(split.images[:images], split.labels[:images])
    return measure(network, data, split)

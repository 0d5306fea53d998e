"""Evaluators: architecture -> metrics."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from raynas.architecture import Architecture
from raynas.data import ImageData
from raynas.errors import UserError
from raynas.objective import Metrics
from raynas.session import Context

Build = Callable[[Architecture, tuple[int, int, int], int], Any]  # -> nn.Module


@dataclass
class FunctionEvaluator:
    """A function `architecture -> metrics` of the user's as an evaluator."""

    function: Callable[[Architecture], Mapping[str, float]]
    metrics: frozenset[str] | None = None
    epochs: int = 1
    split: str = ""

    def costs(self, architecture: Architecture) -> Metrics:
        del architecture
        return {}

    def evaluate(
        self, architecture: Architecture, context: Context
    ) -> Generator[Metrics, None, None]:
        del context
        answer = self.function(architecture)
        if not isinstance(answer, Mapping):
            raise UserError(
                f"expected metrics such as {{'accuracy': 0.9}} from the evaluator; got {answer!r}."
            )
        yield {str(name): float(value) for name, value in answer.items()}


@dataclass
class TrainingEvaluator:
    """Trains each design from scratch.

    Attributes:
        build: makes the network of an architecture for an input shape and number of classes.
        recipe: a `raynas.training.Recipe`.
    """

    build: Build
    data: ImageData
    recipe: Any
    _on_device: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    metrics = frozenset(
        {"accuracy", "loss", "train_loss", "test_accuracy", "test_loss", "params", "flops"}
    )

    @property
    def epochs(self) -> int:
        return int(self.recipe.epochs)

    @cached_property
    def split(self) -> str:
        digest = hashlib.sha256()
        for part in (self.data.train, self.data.validation, self.data.test):
            digest.update(part.labels.tobytes())
        return digest.hexdigest()[:12]

    def costs(self, architecture: Architecture) -> Metrics:
        from raynas.costs import count

        shape, classes = self.data.input_shape, self.data.num_classes
        return count(lambda: self.build(architecture, shape, classes), shape)

    def evaluate(
        self, architecture: Architecture, context: Context
    ) -> Generator[Metrics, None, bytes]:
        import torch
        from safetensors.torch import save

        from raynas.training import DeviceData, train

        device = resolve_device(context.device)
        torch.set_num_threads(max(context.cpus, 1))
        if str(device) not in self._on_device:
            self._on_device[str(device)] = DeviceData.of(self.data, device)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(context.seed)
            model = self.build(architecture, self.data.input_shape, self.data.num_classes)
        yield from train(model, self._on_device[str(device)], self.recipe, context.seed)
        state = model.state_dict()
        return save({name: value.cpu().contiguous() for name, value in state.items()})

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_on_device": {}}  # tensors stay in their process


def resolve_device(name: str) -> Any:
    """`auto` becomes CUDA where there is some, else the CPU."""
    import torch

    return torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    )

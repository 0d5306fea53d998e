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
from raynas.recipe import Recipe
from raynas.session import Context
from raynas.space import Space


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
        space: builds the networks.
        recipe: how they are trained, where a design does not say itself (`train.*`).
    """

    space: Space
    data: ImageData
    recipe: Recipe
    _on_device: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    metrics = frozenset(
        {"accuracy", "loss", "train_loss", "test_accuracy", "test_loss", "params", "flops"}
    )

    @property
    def epochs(self) -> int:
        return self.recipe.epochs

    @cached_property
    def split(self) -> str:
        digest = hashlib.sha256()
        for part in (self.data.train, self.data.validation, self.data.test):
            digest.update(part.labels.tobytes())
        return digest.hexdigest()[:12]

    def costs(self, architecture: Architecture) -> Metrics:
        from raynas.costs import costs_of

        return costs_of(self.space, architecture, self.data.input_shape, self.data.num_classes)

    def evaluate(
        self, architecture: Architecture, context: Context
    ) -> Generator[Metrics, None, bytes]:
        import torch
        from safetensors.torch import save

        from raynas.training import DeviceData, train

        device = resolve_device(context.device)
        torch.set_num_threads(max(context.cpus, 1))
        assert self.space.build is not None, "a space without networks cannot be trained"
        if str(device) not in self._on_device:
            self._on_device[str(device)] = DeviceData.of(self.data, device)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(context.seed)
            model = self.space.build(architecture, self.data.input_shape, self.data.num_classes)
        recipe = self.recipe.of(architecture)
        yield from train(model, self._on_device[str(device)], recipe, context.seed)
        state = model.state_dict()
        return save({name: value.cpu().contiguous() for name, value in state.items()})

    def __getstate__(self) -> dict[str, Any]:
        """What a worker needs: it builds and trains; tensors stay in their process."""
        builder = Space(self.space.name, (), build=self.space.build)
        return {**self.__dict__, "space": builder, "_on_device": {}}


def resolve_device(name: str) -> Any:
    """`auto` becomes CUDA where there is some, else the CPU."""
    import torch

    return torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    )

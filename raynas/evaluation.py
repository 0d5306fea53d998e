"""Evaluators: architecture -> metrics. Those of shared weights: `raynas.one_shot`."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from raynas.architecture import Architecture
from raynas.data import ImageData
from raynas.errors import UserError
from raynas.objective import COSTS, COUNTS, Metrics
from raynas.recipe import Recipe
from raynas.session import Context
from raynas.space import Space

if TYPE_CHECKING:
    from torch import nn

    from raynas.costs import Latencies
    from raynas.proxies.ranks import Population
    from raynas.supernet import Supernet
    from raynas.training import DeviceData

BATCH = 64  # images that a proxy sees
CHECKPOINT = 30.0  # seconds of a training from one checkpoint to the next, at least
SHARE = 0.05  # of the time, that keeping them may take at most
POPULATION = "population.parquet"  # in a run: what random designs score, by which others rank

_log = logging.getLogger(__name__)


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
class TableEvaluator:
    """Reads what others have measured from a Parquet file: a column `architecture` and metrics.

    Raises:
        UserError: there is no such file, or it has no architectures or no numbers.
    """

    path: str
    _rows: dict[str, Metrics] = field(init=False, repr=False)

    epochs = 1
    split = ""

    def __post_init__(self) -> None:
        try:
            frame = pd.read_parquet(self.path)
        except (OSError, ValueError) as error:
            raise UserError(f"table {self.path!r} cannot be read: {error}.") from None
        numbers = frame.select_dtypes("number").astype(float)
        if "architecture" not in frame or numbers.empty:
            raise UserError(
                f"table {self.path!r}: expected a column `architecture` with texts of the space "
                f"and columns of numbers; got {', '.join(map(str, frame.columns))}."
            )
        rows = zip(frame["architecture"].astype(str), numbers.to_dict("records"), strict=True)
        self._rows = {
            text: {str(k): v for k, v in row.items() if math.isfinite(v)} for text, row in rows
        }

    @property
    def metrics(self) -> frozenset[str]:
        return frozenset(name for row in self._rows.values() for name in row)

    def costs(self, architecture: Architecture) -> Metrics:
        row = self._rows.get(str(architecture), {})
        return {name: row[name] for name in COSTS if name in row}

    def evaluate(
        self, architecture: Architecture, context: Context
    ) -> Generator[Metrics, None, None]:
        del context
        if str(architecture) not in self._rows:
            raise UserError(f"the table {self.path!r} has no row of {architecture}.")
        yield dict(self._rows[str(architecture)])


@dataclass
class TrainingEvaluator:
    """Trains each design from scratch.

    Attributes:
        space: builds the networks.
        recipe: how they are trained, where a design does not say itself (`train.*`).
        inherited: shared weights by key that they begin with; None begins with new ones.
        told: the costs that each design is told beforehand.
        table: by which `latency_ms` is, where it is among them.
    """

    space: Space
    data: ImageData
    recipe: Recipe
    inherited: Mapping[str, Any] | None = None
    told: tuple[str, ...] = COUNTS
    table: Latencies | None = None
    _on_device: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    metrics = frozenset({"accuracy", "loss", "train_loss", "test_accuracy", "test_loss", *COSTS})

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

        shape, classes = self.data.input_shape, self.data.num_classes
        return costs_of(self.space, architecture, shape, classes, self.told, self.table)

    def evaluate(
        self, architecture: Architecture, context: Context
    ) -> Generator[Metrics, None, bytes]:
        from safetensors.torch import save

        from raynas.compression import packed
        from raynas.training import train

        data = self.placed(context)
        if self.inherited:
            model = self.shared(self.inherited, "cpu").network(architecture)
        else:
            model = self.network(architecture, context.seed, data.train.labels.device)
        keeper = Keeper(context)
        recipe, seed = self.recipe.of(architecture), context.seed
        yield from train(model, data, recipe, seed, keeper.kept, keeper.keep)
        return save(packed(model))

    def network(self, architecture: Architecture, seed: int, device: Any) -> nn.Module:
        """A new network, on the CPU; its weights depend on the seed alone.

        Args:
            device: whose global generator is left as it was, beside the CPU's.
        """
        import torch

        assert self.space.build is not None, "a space without networks cannot be trained"
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            return self.space.build(architecture, self.data.input_shape, self.data.num_classes)

    def placed(self, context: Context) -> DeviceData:
        """The images on the device, put there once; takes the processors it was given."""
        import torch

        from raynas.training import DeviceData

        device = resolve_device(context.device)
        torch.set_num_threads(max(context.cpus, 1))
        if str(device) not in self._on_device:
            self._on_device[str(device)] = DeviceData.of(self.data, device)
        found: DeviceData = self._on_device[str(device)]
        return found

    def shared(self, weights: Mapping[str, Any], device: Any) -> Supernet:
        """The supernet over these arrays, which are copied to a GPU and nowhere else."""
        from raynas.supernet import Supernet, views

        placed = {key: tensor.to(device) for key, tensor in views(weights).items()}
        shape, classes = self.data.input_shape, self.data.num_classes
        return Supernet(self.space, shape, classes, weights=placed)

    def __getstate__(self) -> dict[str, Any]:
        """What a worker needs: it builds and trains; tensors stay in their process."""
        builder = Space(self.space.name, (), build=self.space.build)
        return {**self.__dict__, "space": builder, "table": None, "_on_device": {}}


class Keeper:
    """Keeps checkpoints of a training in the run's folder, every CHECKPOINT seconds.

    Attributes:
        kept: the last one of an earlier attempt at this training; None if there is none.
    """

    def __init__(self, context: Context) -> None:
        self._files = context.files if context.checkpoint else None
        self._name, self._pause, self._last = context.checkpoint, CHECKPOINT, time.monotonic()
        self.kept: bytes | None = None
        if self._files is not None:
            with self._optional():
                self.kept = self._files.cached(self._name)

    def keep(self, dump: Callable[[], bytes]) -> None:
        """Keeps what `dump` returns, if it is time."""
        began = time.monotonic()
        if self._files is not None and began - self._last > self._pause:
            with self._optional():
                self._files.cache(self._name, dump())
            self._last = time.monotonic()
            self._pause = max(CHECKPOINT, (self._last - began) / SHARE)

    @contextmanager
    def _optional(self) -> Iterator[None]:
        """A training can do without checkpoints, whatever is wrong with them."""
        try:
            yield
        except Exception as error:
            _log.warning("%s cannot be used: %s", self._name, error)


@dataclass
class ProxyEvaluator:
    """Scores networks that nobody has trained, all on one batch of training images.

    Attributes:
        full: space and data.
        name: of the proxy, and of the metric.
        seed: of the batch; a network's weights are drawn by the seed of its trial.
        population: random designs of the space, for a proxy that ranks among them: see `ready`.
    """

    full: TrainingEvaluator
    name: str
    seed: int
    population: Population | None = None

    epochs = 1

    @property
    def metrics(self) -> frozenset[str]:
        return frozenset({self.name, *COSTS})

    @property
    def split(self) -> str:
        return self.full.split

    def costs(self, architecture: Architecture) -> Metrics:
        return self.full.costs(architecture)

    def evaluate(
        self, architecture: Architecture, context: Context
    ) -> Generator[Metrics, None, None]:
        found = self.scores(architecture, context)
        parts = {n: s for n, s in found.items() if math.isfinite(s) and n not in COSTS}
        yield {**parts, self.name: found[self.name]}

    def scores(self, architecture: Architecture, context: Context) -> dict[str, float]:
        """The score by the proxy's name and, if it ranks by others, theirs: `-inf` for none.

        Args:
            context: whose seed draws the network's weights.
        """
        from raynas.proxies import PROXIES

        row = PROXIES[self.name]
        model, images, labels = self._shown(architecture, context)
        if row.score is not None:
            return {self.name: row.score(model, images, labels)}
        assert self.population is not None, "ranks need others: see `ready`"
        found = row.parts(model, images, labels)
        return {**found, self.name: self.population.score(found)}

    def ready(self, context: Context) -> ProxyEvaluator:
        """Itself; if it ranks designs, with a population drawn at random and scored here.

        Args:
            context: with the run's files, where the scores are kept for a resumed search.
        """
        from raynas.proxies import PROXIES
        from raynas.proxies.ranks import SIZE, Population

        if not PROXIES[self.name].ranks or self.population is not None:
            return self
        kept = context.files.cached(POPULATION) if context.files else None
        if kept is not None:
            return replace(self, population=Population(pd.read_parquet(BytesIO(kept))))
        rows = []
        for i in range(SIZE):
            design = self.full.space.sample(np.random.default_rng((self.seed, i, 2)))
            try:
                given = self._shown(design, replace(context, seed=self.seed + i))
            except Exception:  # a design of somebody's own space that cannot be built
                continue
            rows.append(PROXIES[self.name].parts(*given))
        found = pd.DataFrame(rows)
        if context.files:
            file = BytesIO()
            found.to_parquet(file)
            context.files.cache(POPULATION, file.getvalue())
        return replace(self, population=Population(found))

    def _shown(self, architecture: Architecture, context: Context) -> tuple[nn.Module, Any, Any]:
        """The network, the images, their labels, all on the device."""
        import torch

        data = self.full.placed(context)
        order = np.random.default_rng(self.seed).permutation(len(data.train.labels))
        rows = order[:BATCH].tolist()
        images, labels = data.normalized(data.train.images[rows]), data.train.labels[rows]
        model = self.full.network(architecture, context.seed, labels.device).to(labels.device)
        return model, images.contiguous(memory_format=torch.channels_last), labels


def resolve_device(name: str) -> Any:
    """`auto` becomes CUDA where there is some, else the CPU."""
    import torch

    return torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    )

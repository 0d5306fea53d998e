"""Evaluators of shared weights: one trains them, one scores designs by them.

What a run keeps of them: `supernet/weights.safetensors`, while they are trained a checkpoint;
`supernet/choices.parquet`, how what decides between options developed (epoch, decision, option,
chance); `supernet/log.json`, warnings for a person, the designs that it came to, and whether the
weights can judge them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from raynas.architecture import Architecture
from raynas.evaluation import TrainingEvaluator
from raynas.objective import COSTS, Metrics
from raynas.session import Context, Files
from raynas.space import Space
from raynas.trial import Candidate, Proposal, Reason

if TYPE_CHECKING:
    from raynas.supernet.training import OneShot, Trainer

WEIGHTS = "supernet/weights.safetensors"
CHOICES = "supernet/choices.parquet"
LOG = "supernet/log.json"
SCHEMA = pa.schema(
    [
        ("epoch", pa.int64()),
        ("decision", pa.string()),
        ("option", pa.string()),
        ("chance", pa.float64()),
    ]
)
SECONDS = 10.0  # between checkpoints


@dataclass
class SupernetEvaluator:
    """Trains the shared weights of a whole space; goes on where a killed training was.

    Attributes:
        full: space, data and recipe; the recipe's epochs are those of the shared training.
        method: how they are trained.
        drawn: how many designs a method that decides between options is asked for at the end.
        seconds: how long it may take; None means as long as it takes.
        given: weights that another search kept, which are taken as they are.
    """

    full: TrainingEvaluator
    method: OneShot
    drawn: int
    seconds: float | None = None
    given: bytes | None = None
    space: Space = field(init=False)

    metrics = frozenset({"train_loss", "sampled_accuracy", "batch_size"})

    def __post_init__(self) -> None:
        self.space = self.full.space  # with its decisions, which `full` leaves behind in a pickle

    @property
    def epochs(self) -> int:
        return self.full.recipe.epochs

    @property
    def split(self) -> str:
        return self.full.split

    def costs(self, architecture: Architecture) -> Metrics:
        del architecture  # it stands in for all
        return {}

    def evaluate(
        self, architecture: Architecture, context: Context
    ) -> Generator[Metrics, None, None]:
        from raynas.supernet import Supernet
        from raynas.supernet.training import Trainer

        del architecture
        begun = time.monotonic()
        data, files = self.full.placed(context), context.files or _Nowhere()
        shape, classes = self.full.data.input_shape, self.full.data.num_classes
        supernet = Supernet(self.space, shape, classes, context.seed)
        trainer = Trainer(supernet, data, self.full.recipe, context.seed, self.seconds)
        trainer.take_threads(context.cpus)
        rows: list[dict[str, Any]] = []
        if self.given is not None:
            supernet.restore(self.given)
            self.method.start(trainer)
            self._keep(files, trainer, rows)
            yield {"sampled_accuracy": trainer.sampled()}
            return
        self.method.start(trainer)
        if (checkpoint := files.cached(WEIGHTS)) is not None:
            trainer.restore(self.method, checkpoint)
            rows = [row for row in _choices(files) if row["epoch"] <= trainer.epoch]
            yield from trainer.readings
        kept = started = time.monotonic()
        first = trainer.epoch
        while trainer.epoch < trainer.epochs:
            reading = trainer.run(self.method)
            rows += self._chances(trainer)
            now = time.monotonic()
            trainer.fit_into((now - started) / (trainer.epoch - first), now - begun)
            if now - kept > SECONDS or self.seconds is not None:  # it may be ended after any epoch
                self._keep(files, trainer, rows)
                kept = now
            yield reading
        self._keep(files, trainer, rows)

    def _chances(self, trainer: Trainer) -> list[dict[str, Any]]:
        return [
            {"epoch": trainer.epoch, "decision": name, "option": option, "chance": chance}
            for name, options in self.method.chances().items()
            for option, chance in options.items()
        ]

    def _keep(self, files: Files, trainer: Trainer, rows: list[dict[str, Any]]) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), sink, compression="zstd")
        files.cache(CHOICES, sink.getvalue().to_pybytes())
        last = trainer.epoch >= trainer.epochs or self.seconds is not None
        designs = self.method.designs(trainer, self.drawn) if last else []
        log = {
            "notes": trainer.notes,
            "scores": self.method.scores,
            "designs": [_to_dict(design) for design in designs],
        }
        files.cache(LOG, json.dumps(log, indent=1).encode())
        files.cache(WEIGHTS, trainer.dump(self.method))


class _Nowhere:
    """Files of an evaluation outside of a search."""

    def cached(self, name: str) -> None:
        del name

    def cache(self, name: str, data: bytes) -> None:
        del name, data


@dataclass
class SharedEvaluator:
    """Scores designs by shared weights, without training.

    Attributes:
        full: space and data.
        weights: the shared ones by key, float arrays; in a process of a cluster they lie in the
            memory that it shares with others.
    """

    full: TrainingEvaluator
    weights: Mapping[str, Any]
    _supernets: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    metrics = frozenset({"shared_accuracy", "shared_loss", *COSTS})
    epochs = 1

    @property
    def split(self) -> str:
        return self.full.split

    def costs(self, architecture: Architecture) -> Metrics:
        return self.full.costs(architecture)

    def evaluate(
        self, architecture: Architecture, context: Context
    ) -> Generator[Metrics, None, None]:
        from raynas.supernet.training import score

        data = self.full.placed(context)
        device = data.train.labels.device
        if str(device) not in self._supernets:
            self._supernets[str(device)] = self.full.shared(self.weights, device)
        supernet = self._supernets[str(device)]
        reading = score(supernet, architecture, data)
        yield {f"shared_{name}": value for name, value in reading.items()}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_supernets": {}}


def weights_in(data: bytes) -> dict[str, Any]:
    """The shared weights among what a checkpoint holds, as arrays by key."""
    from raynas.supernet import read

    tensors, _ = read(data)
    found = {name.partition("/"): tensor.numpy() for name, tensor in tensors.items()}
    return {key: array for (part, _, key), array in found.items() if part == "weights"}


def designs_in(log: bytes) -> tuple[list[Proposal], bool]:
    """The designs that a shared training came to, the best first; if its weights judge them."""
    told = json.loads(log)
    return [_from_dict(entry) for entry in told["designs"]], told["scores"]


def _choices(files: Files) -> list[dict[str, Any]]:
    data = files.cached(CHOICES)
    return [] if data is None else list(pq.read_table(pa.BufferReader(data)).to_pylist())


def _to_dict(design: Proposal) -> dict[str, Any]:
    return {
        "architecture": str(design.architecture),
        "reason": asdict(design.reason),
        "candidates": [asdict(c) for c in design.candidates],
    }


def _from_dict(data: Mapping[str, Any]) -> Proposal:
    given = data["reason"]
    reason = Reason(
        given["kind"],
        given["note"],
        scores=given["scores"],
        chances={name: tuple(row) for name, row in given["chances"].items()},
    )
    candidates = tuple(Candidate(**c) for c in data["candidates"])
    return Proposal(Architecture.parse(data["architecture"]), reason, candidates)

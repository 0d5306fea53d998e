"""How a network is trained: settings, and by option decisions that are searched as well."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from raynas.architecture import Architecture, Decision, Option
from raynas.space import Space

DECISIONS = (
    Decision("train.optimizer", ("adamw", "sgd"), "what follows the gradient"),
    Decision(
        "train.learning_rate",
        (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1),
        "the largest step size of the training",
        ordered=True,
    ),
    Decision(
        "train.weight_decay",
        (0.0, 0.0005, 0.005, 0.02, 0.05),
        "how strongly weights are drawn towards zero",
        ordered=True,
    ),
)
USUAL: dict[str, Option] = {  # where nobody says otherwise: what `Recipe` does, ordinary weights
    "train.optimizer": "adamw",
    "train.learning_rate": 0.003,
    "train.weight_decay": 0.02,
    **{f"compress.{part}.bits": 32 for part in ("early", "middle", "late")},
    **{f"compress.{part}.pruning": 0.0 for part in ("early", "middle", "late")},
}


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        epochs: passes over the training images, at full length.
        batch_size: images per step; None means a hundredth of the training images, 32 to 128.
        optimizer: AdamW, or SGD with Nesterov momentum 0.9.
        learning_rate: its peak; None means 0.003 for AdamW, 0.1 for SGD. Warmed up linearly over
            the first tenth of the steps, then brought to zero by a cosine.
        weight_decay: None means 0.02 for AdamW, 0.0005 for SGD; weights only, no biases or norms.
        label_smoothing: probability taken from the true class (Szegedy et al. 2016).
        augment: random shifts by an eighth of the image and, where a mirrored image keeps its
            label, mirroring.
        clip: the gradient's norm is cut to this.
    """

    epochs: int = 18
    batch_size: int | None = None
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float | None = None
    weight_decay: float | None = None
    label_smoothing: float = 0.1
    augment: bool = True
    clip: float = 2.0

    def for_weights(self, epochs: int, optimizer: Literal["adamw", "sgd"] = "sgd") -> Recipe:
        """The recipe of weights that designs share, where trainings alone have this one.

        SGD as in the papers (Guo et al. 2020, Pham et al. 2018, Liu et al. 2019): weights that
        followed AdamW ranked designs far worse when measured (docs/benchmarks.md). No label
        smoothing.
        """
        rate = 0.05 if optimizer == "sgd" else None
        return replace(
            self,
            epochs=epochs,
            optimizer=optimizer,
            learning_rate=rate,
            weight_decay=None,
            label_smoothing=0.0,
        )

    def of(self, architecture: Architecture) -> Recipe:
        """The recipe of one design: its own `train.*` decisions, and these settings otherwise."""
        chosen = {d.leaf: architecture.options[d.name] for d in DECISIONS if d.name in architecture}
        return replace(self, **chosen)  # type: ignore[arg-type]  # the options have their types


def with_training(space: Space) -> Space:
    """The space of designs together with how each of them is trained.

    The three decisions under `train` are searched like any other. Two trainings of one network
    are two designs.
    """
    return extended(space, DECISIONS)


def extended(space: Space, more: tuple[Decision, ...]) -> Space:
    """The space with decisions that any network can be given; each option makes another design."""
    names = {d.name for d in more}

    def network(architecture: Architecture) -> Architecture:
        kept = tuple(c for c in architecture.choices if c[0] not in names)
        return Architecture(architecture.space, kept)

    def canonical(architecture: Architecture) -> str:
        chosen = " ".join(f"{n}={o}" for n, o in architecture.choices if n in names)
        return f"{space.identity(network(architecture))} {chosen}"

    def simplify(architecture: Architecture) -> Architecture:
        chosen = tuple(c for c in architecture.choices if c[0] in names)
        return Architecture(
            architecture.space, space.plainest(network(architecture)).choices + chosen
        )

    return replace(
        space,
        decisions=(*space.decisions, *more),
        canonical=canonical,
        simplify=simplify if space.simplify else None,
    )

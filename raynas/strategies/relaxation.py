"""What differentiable methods share: losses of the mixture, when to stop, and what comes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from raynas.architecture import Architecture
from raynas.mixtures import NOTHING, Mixture, Paths
from raynas.space import Chances
from raynas.strategies.bilevel import dominant_eigenvalue, turned_sharp
from raynas.strategies.chances import INPUTS, Choices, factors
from raynas.supernet import Supernet
from raynas.supernet.training import Trainer
from raynas.trial import Proposal, Reason

SKIPS = ("skip_connect", "identity")  # options that pass a value on as it is, in all spaces
FEW = 32  # images on which the Hessian is measured: twenty passes back, as costly as ten steps
TRIES = 50  # draws per design wanted
MOVED, ENOUGH = 1.0, 6.0  # how far choices may move: hardly; as in Liu et al. 2019
SLOWEST, FASTEST = 3e-4, 0.03  # rates of the choices where none is given
QUIET = 0.4  # of the planned epochs pass before sharpness may end a training
CLEARLY = 1.1  # times the chance of the next: less is the noise of the first epochs
LEADING = "skip connections lead on"

Batch = tuple[Tensor, Tensor]


@dataclass
class Relaxation:
    """The choices between a mixture's options while both are trained.

    Attributes:
        choices: of the mixture's edges. Where there are decisions `NODE.inputs` as well, chances
            among the edges of a node are factors of what these carry.
        part: of the channels on which operations work, see `raynas.mixtures.blended`.
        stop: whether the training ends when the validation loss turns sharp.
        eigenvalues: of its Hessian by the choices, after each epoch; only with `stop`.
        history: the choices then.
    """

    supernet: Supernet
    choices: Choices
    part: int = 1
    stop: bool = False
    eigenvalues: list[float] = field(default_factory=list, init=False)
    history: list[Tensor] = field(default_factory=list, init=False)

    def begin(self, trainer: Trainer) -> None:
        """Sets the rate where none was given; warns where by another choices hardly move."""
        steps = trainer.epochs * max(len(trainer.data.train.labels) // trainer.batch_size, 1)
        if not self.choices.rate:
            self.choices.pace(min(max(ENOUGH / steps, SLOWEST), FASTEST))
        if steps * self.choices.rate < MOVED:
            trainer.say(
                f"{steps} steps of learning_rate={self.choices.rate} hardly move the choices: take "
                f"more epochs, or learning_rate={ENOUGH / steps:.1g}."
            )

    @property
    def mixture(self) -> Mixture:
        """Over the shared weights as they are now."""
        return self.supernet.mixture(self.part)

    def loss(
        self,
        trainer: Trainer,
        batch: Batch,
        weights: Mapping[str, Tensor],
        paths: Paths | None = None,
        smoothing: float = 0.0,
    ) -> Tensor:
        """Cross-entropy of the mixture.

        Args:
            weights: of all decisions.
            paths: see `Mixture.forward`.
        """
        mixture, (images, labels) = self.mixture, batch
        own = {edge: weights[edge] for edge in mixture.edges}
        with trainer.autocast():
            logits: Tensor = mixture(images, own, paths, factors(mixture.edges, weights))
        return F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)

    def train(
        self,
        trainer: Trainer,
        batch: Batch,
        weights: Mapping[str, Tensor],
        paths: Paths | None = None,
    ) -> Tensor:
        """One step of the shared weights; returns the loss before it."""
        fixed = {name: weight.detach() for name, weight in weights.items()}
        loss = self.loss(trainer, batch, fixed, paths, trainer.recipe.label_smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        trainer.step()
        return loss.detach()

    def close(self, trainer: Trainer, losses: Sequence[Tensor]) -> dict[str, float]:
        """Ends an epoch: readings, warnings, and whether it was the last.

        Returns:
            `train_loss`; `entropy`, the mean over edges in nats; with `stop`, `eigenvalue`.
        """
        chances = self.chances()
        entropies = [-sum(p * math.log(p) for p in row.values() if p) for row in chances.values()]
        reading = {
            "train_loss": float(torch.stack(list(losses)).mean()),
            "entropy": sum(entropies) / len(entropies),
        }
        warning = skips_lead(chances)
        if warning and not any(LEADING in note for note in trainer.notes):
            trainer.say(f"epoch {trainer.epoch + 1}: {warning}")
        if self.stop:
            reading["eigenvalue"] = self._sharpness(trainer)
            self._end(trainer, reading["eigenvalue"])
        return reading

    def _sharpness(self, trainer: Trainer) -> float:
        images, labels = next(trainer.held_out())
        few, choices, every = (images[:FEW], labels[:FEW]), self.choices, self.mixture.every

        def loss(values: Tensor) -> Tensor:
            return self.loss(trainer, few, choices.weights(values.to(trainer.device)), every)

        shape = choices.values.shape
        start = torch.randn(shape, generator=trainer.generator, device=trainer.device)
        return dominant_eigenvalue(loss, choices.values, start.to(choices.device))

    def _end(self, trainer: Trainer, eigenvalue: float) -> None:
        self.eigenvalues.append(eigenvalue)
        self.history.append(self.choices.values.detach().clone())
        early = trainer.epoch + 1 < QUIET * trainer.epochs  # sharpness rises in any case
        if not early and (best := turned_sharp(self.eigenvalues)) is not None:
            self.choices.put(self.history[best])
            trainer.epochs = trainer.epoch + 1
            trainer.say(
                f"epoch {trainer.epoch + 1}: stopped early, for the validation loss has become "
                f"sharp in the choices; those of epoch {best + 1} are taken (Zela et al. 2020)."
            )

    def tensors(self) -> dict[str, Tensor]:
        """Everything, for a checkpoint."""
        kept = {f"choices.{name}": tensor for name, tensor in self.choices.tensors().items()}
        if self.eigenvalues:
            kept["eigenvalues"] = torch.tensor(self.eigenvalues, dtype=torch.float64)
            kept["history"] = torch.stack(self.history)
        return kept

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes over what `tensors` returned."""
        own = "choices."
        self.choices.restore({n[len(own) :]: t for n, t in tensors.items() if n.startswith(own)})
        if "eigenvalues" in tensors:
            self.eigenvalues = tensors["eigenvalues"].tolist()
            self.history = list(tensors["history"].to(self.choices.device))

    def chances(self) -> dict[str, dict[str, float]]:
        """Edge -> option -> chance."""
        found = self.choices.chances()
        return {edge: found[edge] for edge in self.mixture.edges}

    def designs(self, trainer: Trainer, number: int, method: str) -> list[Proposal]:
        """The design that stands out, then others drawn by their chances, the likelier first.

        Where a method's rule says more than the chances of single options (which two edges a node
        keeps), a draw is what that rule makes of noisy chances.
        """
        space, discretize = trainer.supernet.space, trainer.supernet.space.discretize
        assert discretize is not None, "a space with a mixture says what stands out of it"
        strengths, rng = self._strengths(), np.random.default_rng((trainer.seed, trainer.epoch))
        first = discretize(space, strengths)
        found = {space.identity(first): first}
        for _ in range(TRIES * number):
            if len(found) >= number:
                break
            drawn = discretize(space, _noisy(strengths, rng))
            found.setdefault(space.identity(drawn), drawn)
        likely = {a: self._log_probability(a) for a in found.values()}
        others = sorted((a for a in likely if a != first), key=lambda a: -likely[a])
        shown = {e: tuple(row.values()) for e, row in self.chances().items() if e in space.by_name}
        after, proposals = f"after {trainer.epoch} epochs of {method}", []
        for i, design in enumerate([first, *others]):
            note = f"{'drawn from the chances' if i else 'the strongest options'} {after}"
            scores = {"log_probability": likely[design]}
            reason = Reason("policy" if i else "derived", note, scores=scores, chances=shown)
            proposals.append(Proposal(space.plainest(design), reason))
        return proposals[:number]

    def _strengths(self) -> dict[str, dict[str, float]]:
        every, strengths = self.choices.chances(), {}
        for edge in self.mixture.edges:
            node, _, source = edge.rpartition(".")
            factor = every.get(f"{node}.{INPUTS}", {}).get(source, 1.0)
            strengths[edge] = {option: factor * p for option, p in every[edge].items()}
        return strengths

    def _log_probability(self, design: Architecture) -> float:
        """Of the options on all edges that the design has."""
        taken, chances = self.mixture.taken(design), self.chances()
        return sum(math.log(max(chances[e][option], 1e-30)) for e, option in taken.items())


def _noisy(strengths: Chances, rng: np.random.Generator) -> Chances:
    """Strengths whose largest is drawn by what they were: the Gumbel-max trick."""
    return {e: {o: p / rng.exponential() for o, p in row.items()} for e, row in strengths.items()}


def skips_lead(chances: Chances) -> str:
    """A warning where skip connections win: on more than half of the edges that may have one.

    They win where they are likelier than any other option, `none` left out, by a tenth or more.
    In spaces of two kinds of cells the normal ones count, in which a skip has no weights.
    """
    rows = {e: row for e, row in chances.items() if e.startswith("normal.")} or chances
    open_, lost = 0, 0
    for row in rows.values():
        others = [p for option, p in row.items() if option not in (NOTHING, *SKIPS)]
        skips = [p for option, p in row.items() if option in SKIPS]
        if others and skips:
            open_, lost = open_ + 1, lost + (max(skips) >= CLEARLY * max(others))
    if 2 * lost <= open_:
        return ""
    return (
        f"{LEADING} {lost} of {open_} edges: designs of such a search often train badly "
        "(Zela et al. 2020). Stop earlier, or forbid some of them."
    )

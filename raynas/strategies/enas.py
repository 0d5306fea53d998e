"""An LSTM controller that learns on shared weights (ENAS, Pham et al. 2018, arXiv:1802.03268)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from raynas.architecture import Architecture, option_text
from raynas.errors import UserError
from raynas.strategies.controllers import Controller, Draws, Floats
from raynas.strategies.policy import improve
from raynas.supernet.training import Trainer
from raynas.trial import Proposal, Reason

AHEAD = 64  # paths that are drawn at once for the training of the weights
LOOKED = 256  # designs drawn to tell how probable options are, or to choose the best among
HEATS = (1.0, 1.5, 2.5)  # one after the other, until there are as many designs as wanted
LIMITS = {  # of settings: the least, and what they must stay below
    "warmup": (0, 1),
    "updates": (1, math.inf),
    "batch": (1, math.inf),
    "learning_rate": (0, math.inf),
    "curiosity": (0, math.inf),
    "fading": (0, 1),
}


@dataclass
class Enas:
    """Trains shared weights and an LSTM that draws their paths, in turn.

    In each epoch the weights are trained on the training split, every step a path drawn from the
    controller; then the controller is trained by REINFORCE while the weights stand still. A design
    is rewarded by its accuracy on a batch of the validation split, less the moving average of
    what was rewarded before; the entropy of the answers is rewarded a little as well.

    Where we depart from the paper: a few large controller steps instead of 2,000 small ones, as a
    search has tens of epochs and not 150 or more; all designs of a step are measured on the same
    images, so that they differ by themselves only, and each network once; options are not held
    close to uniform by a bounded and heated output; in the first epochs the controller, all of
    whose options are equally likely then, is not trained. In the end, designs are taken by their
    probability, for those that are taken are measured anyway.

    What is rewarded is what shared weights soon do well: with few epochs these are designs with
    few weights of their own (shortcuts, pooling), which need not be the best when trained alone.

    Attributes:
        warmup: share of the epochs, at the beginning, in which the controller is not trained.
        updates: steps of the controller after each pass over the training images.
        batch: designs per step.
        learning_rate: of Adam.
        curiosity: weight of the entropy bonus (nats per decision, for accuracies from 0 to 1).
        fading: how much of the baseline a step keeps.
    """

    warmup: float = 0.2
    updates: int = 20
    batch: int = 8
    learning_rate: float = 0.005
    curiosity: float = 0.03
    fading: float = 0.9
    scores = True
    controller: Controller = field(init=False)
    steps: int = field(init=False)  # of the controller
    _baseline: float = field(init=False)  # not a number before the first reward
    _optimizer: torch.optim.Adam = field(init=False)

    def __post_init__(self) -> None:
        for name, (low, high) in LIMITS.items():
            if not low <= getattr(self, name) < high:
                below = f" and below {high}" if high < math.inf else ""
                raise UserError(
                    f"enas: expected {name} to be at least {low}{below}; got {getattr(self, name)}."
                )

    def start(self, trainer: Trainer) -> None:
        self.controller = Controller(trainer.supernet.space)
        self._optimizer = torch.optim.Adam(self.controller.parameters(), self.learning_rate)
        self.steps, self._baseline = 0, math.nan

    def epoch(self, trainer: Trainer) -> dict[str, float]:
        loss = self._train_weights(trainer)
        learns = trainer.epoch >= int(self.warmup * trainer.epochs)
        batches, rewards, entropies = trainer.held_out(), [], []
        for _ in range(self.updates if learns else 1):
            draws = self.controller.draw(trainer.rng, self.batch)
            reward = self._rewards(trainer, draws, next(batches))
            if learns:
                self._learn(draws, reward)
            rewards.append(reward.mean())
            entropies.append((draws.entropy / (draws.answers >= 0).sum(1)).mean())
        reading = {"reward": float(np.mean(rewards)), "entropy": float(np.mean(entropies))}
        return {"train_loss": loss, **reading}

    def tensors(self) -> dict[str, Tensor]:
        kept = {f"controller.{n}": t for n, t in self.controller.state_dict().items()}
        for i, moments in self._optimizer.state_dict()["state"].items():
            kept |= {f"adam.{i}.{name}": moment for name, moment in moments.items()}
        return {**kept, "rest": torch.tensor([self._baseline, self.steps], dtype=torch.float64)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        weights: dict[str, Tensor] = {}
        state = self._optimizer.state_dict()
        for name, tensor in tensors.items():
            part, _, key = name.partition(".")
            if part == "controller":
                weights[key] = tensor
            elif part == "adam":
                place, _, moment = key.partition(".")
                state["state"].setdefault(int(place), {})[moment] = tensor
        self.controller.load_state_dict(weights)
        self._optimizer.load_state_dict(state)
        self._baseline, steps = tensors["rest"].tolist()
        self.steps = int(steps)

    def chances(self) -> dict[str, dict[str, float]]:
        """The average over designs, which are always drawn alike, in which a decision is active.

        A decision that none of them has is missing.
        """
        draws = self.controller.draw(np.random.default_rng(0), LOOKED)
        found: dict[str, dict[str, float]] = {}
        for i, d in enumerate(self.controller.space.decisions):
            active = draws.answers[:, i] >= 0
            if active.any():
                means = draws.chances[active, i].mean(0)[: len(d.options)].tolist()
                found[d.name] = dict(zip(map(option_text, d.options), means, strict=True))
        return found

    def designs(self, trainer: Trainer, number: int) -> list[Proposal]:
        """The most probable of the networks that the controller draws.

        Where it draws too few, it is heated (`Reason.chances` are those of the draw, scores those
        without heat); fewer than `number` where it knows no more.
        """
        space, found = trainer.supernet.space, dict[str, Proposal]()
        # The trainer's own generator stands elsewhere in a training that has just been restored.
        rng = np.random.default_rng((trainer.seed, trainer.epoch))
        for heat in HEATS:
            draws = self.controller.draw(rng, max(LOOKED, 4 * number), None, (heat,))
            with torch.no_grad():
                log_p, entropy = self.controller.score(torch.from_numpy(draws.answers))
            hot = f" at temperature {heat}" if heat != 1 else ""
            note = f"drawn by the controller after {self.steps} steps{hot}"
            for row in torch.argsort(log_p, descending=True, stable=True).tolist():
                design = space.plainest(self.controller.read(draws.answers[row]))
                scores = {"log_probability": float(log_p[row]), "entropy": float(entropy[row])}
                chances = self.controller.chances(draws, row)
                reason = Reason("policy", note, scores=scores, chances=chances)
                found.setdefault(space.identity(design), Proposal(design, reason))
            if len(found) >= number:
                break
        best = sorted(found.values(), key=lambda p: -p.reason.scores["log_probability"])
        return best[:number]

    def _train_weights(self, trainer: Trainer) -> float:
        trainer.supernet.train()
        paths, steps = self._paths(trainer.rng), 0
        losses = torch.zeros((), device=trainer.device)
        for images, labels in trainer.batches():
            with trainer.autocast():
                logits = trainer.supernet(images, next(paths))
            smoothing = trainer.recipe.label_smoothing
            loss = F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)
            loss.backward()  # type: ignore[no-untyped-call]
            trainer.step()
            losses, steps = losses + loss.detach(), steps + 1
        return float(losses) / steps

    def _paths(self, rng: np.random.Generator) -> Iterator[Architecture]:
        while True:
            for row in self.controller.draw(rng, AHEAD).answers:
                yield self.controller.read(row)

    @torch.no_grad()
    def _rewards(self, trainer: Trainer, draws: Draws, batch: tuple[Tensor, Tensor]) -> Floats:
        """The accuracy of each design, on the same images."""
        space, (images, labels) = trainer.supernet.space, batch
        designs = [space.plainest(self.controller.read(row)) for row in draws.answers]
        trainer.supernet.eval()  # batch norm goes by the images nevertheless
        right: dict[Architecture, Tensor] = {}
        for design in dict.fromkeys(designs):
            with trainer.autocast():
                logits = trainer.supernet(images, design)
            right[design] = (logits.argmax(1) == labels).float().mean()
        trainer.supernet.train()
        measured = dict(zip(right, torch.stack(list(right.values())).tolist(), strict=True))
        return np.array([measured[design] for design in designs])

    def _learn(self, draws: Draws, rewards: Floats) -> None:
        """One step of the controller, on designs that it has drawn since the last."""
        mean = float(rewards.mean())
        if math.isnan(self._baseline):
            self._baseline = mean
        self._baseline += (1 - self.fading) * (mean - self._baseline)
        improve(
            self.controller,
            self._optimizer,
            draws.answers,
            draws.log_probability,
            rewards - self._baseline,
            math.inf,
            self.curiosity,
        )
        self.steps += 1

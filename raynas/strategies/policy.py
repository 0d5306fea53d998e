"""What strategies with a controller share: proposing from it, and teaching it with trials."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from raynas.architecture import Architecture
from raynas.objective import Constraint, Objective
from raynas.space import Space
from raynas.strategies.base import Seen
from raynas.strategies.controllers import Answers, Controller, Floats
from raynas.strategies.standing import standings
from raynas.trial import Proposal, Reason, Trial

# How many designs are drawn at once, and how hot, until one is new. A controller that has
# settled draws what has been tried; heat makes it look around what it likes.
ROUNDS = ((1.0,) * 4, (1.0,) * 8 + (1.5,) * 8 + (2.5,) * 8)
STARTUP = 10  # trials before the first update: ranks of fewer mislead
FADING = 0.95  # of the moving-average baseline, per trial
EARLIER, LESSONS = 256, 60  # trials of earlier searches, and steps that are made on them


@dataclass
class Lesson:
    """A trial as a controller learns from it.

    Attributes:
        answers: its design, int64 `[D]`.
        proposed: log-probability under the policy that proposed it; uniform if that was none.
    """

    trial: Trial
    answers: Answers
    proposed: float


@dataclass
class Policy:
    """A controller, its optimizer and the trials it learns from; knows nothing of Ray.

    Attributes:
        memory: how many trials it learns from: the `elite` best and the latest others.
        batch: trials told between updates; a strategy then makes `steps` steps.
        learning_rate: of Adam.
        curiosity: weight of the entropy bonus (nats per decision, for rewards from 0 to 1).
        clip: the most that an importance weight may be.
        earlier: trials of searches on other data, learned from once, before any of this one; each
            is rewarded by its place among those of its own data.
        told: numbers of the trials it was told of, in order.
    """

    space: Space
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    memory: int
    elite: int
    batch: int
    steps: int
    learning_rate: float
    curiosity: float
    clip: float
    attention: bool = False
    earlier: Sequence[Trial] = ()
    updates: int = field(default=0, init=False)
    told: list[int] = field(default_factory=list, init=False)
    lessons: list[Lesson] = field(default_factory=list, init=False)
    controller: Controller = field(init=False)
    seen: Seen = field(init=False)
    _fresh: int = field(default=0, init=False)
    _optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        self.controller = Controller(self.space, self.attention)
        self._optimizer = torch.optim.Adam(self.controller.parameters(), self.learning_rate)
        self.seen = Seen(self.space)
        self._begin()

    def propose(
        self,
        rng: np.random.Generator,
        pending: Sequence[Architecture],
        budget: float | None = None,
        wish: str = "",
    ) -> Proposal:
        """A new design from the controller, or at random where it has nothing new.

        Args:
            wish: what the note says of the budget.
        """
        for heats in ROUNDS:
            draws = self.controller.draw(rng, len(heats), budget, heats)
            rows = iter(designs := [self.controller.read(row) for row in draws.answers])
            taken, rejected = self.seen.first_new(rows.__next__, pending, len(heats))
            if taken is not None:
                row = designs.index(taken)
                scores = {
                    "log_probability": float(draws.log_probability[row]),
                    "entropy": float(draws.entropy[row]),
                }
                hot = f" at temperature {heats[row]}" if heats[row] != 1 else ""
                note = f"drawn by the controller after {self.updates} updates{hot}{wish}"
                chances = self.controller.chances(draws, row)
                reason = Reason("policy", note, scores=scores, chances=chances)
                return Proposal(taken, reason, rejected)
        drawn, rejected = self.seen.first_new(lambda: self.space.sample(rng), pending)
        reason = Reason("random", "drawn at random: all that the controller drew has been tried")
        return Proposal(drawn or self.seen.any_new(pending), reason, rejected)

    def keep(self, trial: Trial) -> Floats | None:
        """Remembers a trial; at the end of a batch, tells how the memory's trials stand."""
        self.seen.add(trial)
        self.told.append(trial.number)
        if trial.status == "lost":
            return None
        self.lessons.append(self._lesson(trial))
        self._fresh += 1
        if self._fresh < self.batch or len(self.lessons) < STARTUP:
            return None
        self._fresh = 0
        self.updates += 1
        trials = [lesson.trial for lesson in self.lessons]
        places = standings(trials, self.objectives, self.constraints)
        if len(trials) > self.memory:
            best = np.argsort(-places, kind="stable")[: self.elite].tolist()
            others = sorted(set(range(len(trials))) - set(best))
            kept = sorted([*best, *others[len(best) - self.memory :]])
            self.lessons, places = [self.lessons[i] for i in kept], places[kept]
        return places

    def dump(self) -> bytes:
        """What a replay of the told trials makes, as safetensors; a cache of it and no more."""
        tensors = {f"controller.{n}": t for n, t in self.controller.state_dict().items()}
        for i, moments in self._optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{i}.{name}": moment for name, moment in moments.items()}
        rest = {"told": self.told, "updates": self.updates, "fresh": self._fresh}
        rest["lessons"] = [lesson.trial.number for lesson in self.lessons]
        text = torch.frombuffer(bytearray(json.dumps(rest).encode()), dtype=torch.uint8)
        return bytes(save({**tensors, "rest": text}))

    def restore(self, data: bytes, trials: Mapping[int, Trial]) -> None:
        """Takes over what `dump` returned.

        Args:
            trials: at least those that were told then, by number.

        Raises:
            KeyError, RuntimeError, ValueError: it does not belong to these trials or this space.
        """
        tensors = load(data)
        rest = json.loads(bytes(tensors.pop("rest").tolist()))
        within: dict[str, dict[str, Tensor]] = {"controller": {}, "adam": {}}
        for name, tensor in tensors.items():
            part, _, key = name.partition(".")
            within[part][key] = tensor
        state = self._optimizer.state_dict()
        for key, moment in within["adam"].items():
            place, _, name = key.partition(".")
            state["state"].setdefault(int(place), {})[name] = moment
        told = [trials[number] for number in rest["told"]]
        self.controller.load_state_dict(within["controller"])
        self._optimizer.load_state_dict(state)
        self.updates, self._fresh = rest["updates"], rest["fresh"]
        self.told = list(rest["told"])
        self.lessons = [self._lesson(trials[number]) for number in rest["lessons"]]
        for trial in told:
            self.seen.add(trial)

    def _begin(self) -> None:
        """Learns from earlier searches: what was good on other data is likely at the start."""
        groups: dict[str, list[Trial]] = {}
        for trial in self.earlier:
            groups.setdefault(trial.split, []).append(trial)
        taught: list[tuple[Lesson, float]] = []
        for group in groups.values():
            places = standings(group, self.objectives)
            known = np.flatnonzero(np.isfinite(places))
            rewards = utilities(places[known])
            taught += [(self._lesson(group[i]), r) for i, r in zip(known, rewards, strict=True)]
        taught = sorted(taught, key=lambda pair: -pair[1])
        few = np.linspace(0, len(taught) - 1, min(len(taught), EARLIER)).astype(int)
        if not len(few):
            return
        self.lessons = [taught[i][0] for i in few]
        rewards = np.array([taught[i][1] for i in few])
        for _ in range(LESSONS):
            self.learn(rewards - rewards.mean())
        self.lessons = []

    def _lesson(self, trial: Trial) -> Lesson:
        answers = self.controller.write([trial.architecture])[0]
        scores: Mapping[str, float] = trial.reason.scores if trial.reason else {}
        uniform = -float(np.log(np.array(self.controller.sizes)[answers >= 0]).sum())
        return Lesson(trial, answers, scores.get("log_probability", uniform))

    def learn(self, advantage: Floats, budgets: Floats | None = None) -> None:
        """Makes one step on all lessons, each for its budget if there are budgets."""
        improve(
            self.controller,
            self._optimizer,
            np.array([lesson.answers for lesson in self.lessons]),
            np.array([lesson.proposed for lesson in self.lessons]),
            advantage,
            self.clip,
            self.curiosity,
            budgets,
        )


def baseline(rewards: Floats) -> Floats:
    """The moving average at the last of `[..., N]` rewards, in the order of their trials."""
    return np.asarray(
        np.average(rewards, axis=-1, weights=FADING ** np.arange(rewards.shape[-1])[::-1])
    )


def utilities(places: Floats) -> Floats:
    """Rewards from 0 to 1 for places from 0 (the worst) to 1 (the best)."""
    return reward((1 - places) * (len(places) - 1) + 1, np.full(len(places), len(places)))


def reward(rank: Floats, among: Floats) -> Floats:
    """1 for the first of so many, 0 for the worse half, by the logarithm of the rank between.

    The weights of CMA-ES (Hansen & Ostermeier 2001): the good are told apart, and neither the
    scale of a metric nor its outliers matter.
    """
    top = np.log(among / 2 + 1)
    return np.asarray(np.maximum(top - np.log(rank), 0.0) / top)


def improve(
    controller: Controller,
    optimizer: torch.optim.Optimizer,
    answers: Answers,
    proposed: Floats,
    advantage: Floats,
    clip: float,
    curiosity: float,
    budget: Floats | None = None,
) -> None:
    """One step of REINFORCE (Williams 1992) with importance weights, upwards in reward.

    Args:
        proposed: log-probability `[N]` under the policies that proposed the designs, which may
            be older or others; the weight of a design is the ratio of its present probability to
            that one, at most `clip` (Espeholt et al. 2018, arXiv:1802.01561).
        advantage: reward less baseline `[N]`.
        curiosity: weight of the entropy bonus (nats per decision).
    """
    told = torch.from_numpy(answers)
    log_p, entropy = controller.score(
        told, None if budget is None else torch.from_numpy(budget).float()
    )
    weight = (log_p.detach() - torch.from_numpy(proposed)).exp().clamp(max=clip)
    gain = (weight * torch.from_numpy(advantage) * log_p).mean()
    gain = gain + curiosity * (entropy / (told >= 0).sum(1)).mean()
    optimizer.zero_grad()
    (-gain).backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(controller.parameters(), 1.0)
    optimizer.step()

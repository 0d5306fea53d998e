"""How designs are scored of which only a few are trained alone: settings of `--evaluation`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal

from raynas.errors import UserError, unknown
from raynas.named import settings_in
from raynas.objective import Objective

SHARED = {"accuracy": "shared_accuracy", "loss": "shared_loss"}  # as scored with shared weights


@dataclass(frozen=True)
class Shared:
    """Settings of an evaluation by shared weights.

    Attributes:
        rule: which paths a step trains, where the strategy does not say: `uniform`, `fair`,
            `sandwich` or `progressive` (see `raynas.supernet.paths`).
        epochs: of the shared training; 0 means four times those of a design alone.
        optimizer: of the shared training, `sgd` or `adamw`.
        finalists: how many of the best are trained alone.
        probes: how many others, spread over the ranking.
        inherit: whether those begin with the shared weights instead of new ones.
        weights: a file of weights to take as they are (`RUN/supernet/weights.safetensors`).
    """

    rule: str = "uniform"
    epochs: int = 0
    optimizer: Literal["sgd", "adamw"] = "sgd"
    finalists: int = 5
    probes: int = 5
    inherit: bool = False
    weights: str = ""

    by: ClassVar[str] = "shared weights"

    @classmethod
    def of(cls, text: str) -> Shared:
        """Reads `shared:rule=fair,epochs=60`.

        Raises:
            UserError: there is no such setting, or no design would be trained.
        """
        made = cls(**_settings(cls, text))
        if made.optimizer not in ("sgd", "adamw"):
            raise unknown("optimizer of shared weights", made.optimizer, ["sgd", "adamw"])
        return made

    def seen(self, objective: Objective) -> Objective:
        """An objective as a search by scores sees it."""
        return replace(objective, name=SHARED.get(objective.name, objective.name))


@dataclass(frozen=True)
class Proxy:
    """Settings of an evaluation by a proxy, a score that needs no training.

    Attributes:
        name: of the proxy, and of the metric (see `raynas.proxies`).
        finalists: how many of the best are trained alone.
        probes: how many others, spread over the ranking.
    """

    name: str = "az"
    finalists: int = 5
    probes: int = 5

    @classmethod
    def of(cls, text: str) -> Proxy:
        """Reads `proxy:name=synflow,finalists=3`.

        Raises:
            UserError: there is no such setting, or no design would be trained.
        """
        return cls(**_settings(cls, text))

    @property
    def by(self) -> str:
        return f"the proxy {self.name}"

    def seen(self, objective: Objective) -> Objective:
        """An objective as a search by scores sees it: the score for what only training tells."""
        return Objective(self.name, "max") if objective.name in SHARED else objective


@dataclass(frozen=True)
class Screen:
    """How proposals are screened before training: the best of some by a proxy is trained.

    Attributes:
        name: of the proxy.
        among: how many designs a strategy proposes for each that is trained.
    """

    name: str
    among: int

    @classmethod
    def of(cls, text: str) -> Screen:
        """Reads `az:10`.

        Raises:
            UserError: it is not a name and a number of 2 or more.
        """
        name, _, among = text.partition(":")
        if not name or not among.isdecimal() or int(among) < 2:
            raise UserError(
                f"screen: expected a proxy and how many designs to choose from, 2 or more, such as "
                f"az:10; got {text!r}."
            )
        return cls(name, int(among))


Screening = Shared | Proxy


def screening(evaluation: str) -> Screening | None:
    """What an evaluation's text says; None if it trains or looks up every design."""
    kinds: Mapping[str, type[Shared] | type[Proxy]] = {"shared": Shared, "proxy": Proxy}
    kind = kinds.get(evaluation.partition(":")[0])
    return None if kind is None else kind.of(evaluation)


def _settings(cls: type[Shared] | type[Proxy], text: str) -> dict[str, Any]:
    given = settings_in("evaluation", text, {f.name: f.default for f in fields(cls)})
    if given.get("finalists", 1) < 1 or given.get("probes", 0) < 0:
        raise UserError(
            f"evaluation {text}: expected finalists of 1 or more and probes of 0 or more, so "
            "that some design is trained."
        )
    return given

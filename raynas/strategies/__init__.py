"""Search strategies: pure ask/tell objects. To add one: write its file, add its row."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any

from raynas.errors import unknown
from raynas.named import settings_in
from raynas.objective import Constraint, Objective
from raynas.space import Space
from raynas.strategies.base import SpaceExhausted, Strategy
from raynas.strategies.scored import ScoresOf
from raynas.trial import Trial

__all__ = [
    "ANYWHERE",
    "PROPOSING",
    "STRATEGIES",
    "Row",
    "SpaceExhausted",
    "Strategy",
    "asked_proxies",
    "make",
    "takes_all",
]

GIVEN = (
    "space",
    "objectives",
    "constraints",
    "trials",
    "earlier",
    "scorer",
    "wide",
)  # what a search tells a strategy


@dataclass(frozen=True)
class Row:
    """A strategy in the table.

    Attributes:
        path: `module:Class` within this package; imported when it is used, for some are heavy.
        good_for, needs, reference: what a person reads before choosing.
        controller: whether it trains a policy, which on a cluster is an actor of its own.
        one_shot: whether it is no Strategy but a way to train shared weights that decides
            meanwhile (`raynas.supernet.training.OneShot`); its fields are settings only.
        scales: whether it needs a space whose designs grow by decisions (`compound_scaling`).
    """

    path: str
    good_for: str
    needs: str
    reference: str
    controller: bool = False
    one_shot: bool = False
    scales: bool = False

    def load(self) -> Any:
        """The class: a dataclass whose first fields, unless `one_shot`, are space, objectives."""
        module, _, name = self.path.partition(":")
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)

    def settings(self) -> Mapping[str, Any]:
        """What can be set, with defaults."""
        return {
            f.name: f.default
            for f in self.fields()
            if f.name not in GIVEN and f.default is not MISSING
        }

    def fields(self) -> list[Field[Any]]:
        """What can be given to the class."""
        return [f for f in fields(self.load()) if f.init]


STRATEGIES: dict[str, Row] = {
    "auto": Row(
        "auto:Auto",
        "whoever does not want to choose: it picks one of the others and says why",
        "nothing",
        "ours, by the figures in docs/benchmarks.md",
    ),
    "bananas": Row(
        "bananas:Bananas",
        "few trials in large spaces; many at a time",
        "some twenty trials before it is better than random",
        "White et al. 2019, arXiv:1910.11858",
    ),
    "bohb": Row(
        "bohb:BOHB",
        "spaces with conditions and ordered sizes; with a scheduler of HyperBand's kind",
        "nothing; ten trials before it is better than random",
        "Falkner et al. 2018, arXiv:1807.01774",
    ),
    "compound_scaling": Row(
        "compound_scaling:CompoundScaling",
        "one base in several sizes: a grid at twice its FLOPs, then the family of the best",
        "a space that asks how far, how deep and how wide to grow (compound_scaling)",
        "Tan & Le 2019, arXiv:1905.11946",
        scales=True,
    ),
    "darts": Row(
        "differentiable:Darts",
        "cell spaces: one training that decides between all options by gradients",
        "a space with mixtures (nasbench201, darts); memory for all options at once",
        "Liu et al. 2019, arXiv:1806.09055; Zela et al. 2020, arXiv:1909.09656",
        one_shot=True,
    ),
    "enas": Row(
        "enas:Enas",
        "any space with a supernet: a policy that learns from shared weights as they learn",
        "a space whose designs share weights",
        "Pham et al. 2018, arXiv:1802.03268",
        one_shot=True,
    ),
    "evolution": Row(
        "evolution:RegularizedEvolution",
        "a robust default for any space; finds good designs soon after its first population",
        "nothing; some ten trials before it is better than random",
        "Real et al. 2019, arXiv:1802.01548",
    ),
    "gdas": Row(
        "differentiable:Gdas",
        "cell spaces: as darts, at the cost of two paths per step",
        "a space with mixtures (nasbench201, darts)",
        "Dong & Yang 2019, arXiv:1910.04465",
        one_shot=True,
    ),
    "generator": Row(
        "generator:Generator",
        "one trained model that answers for many budgets of parameters or FLOPs",
        "torch; trials that report the cost; a hundred or more of them",
        "Guo et al. 2022, arXiv:2210.07634",
        controller=True,
    ),
    "local_search": Row(
        "local_search:LocalSearch",
        "small spaces and smooth ones; several objectives; nothing to tune",
        "nothing; little noise, for it believes each comparison",
        "White et al. 2020, arXiv:2005.02960",
    ),
    "nsga2": Row(
        "nsga2:NSGA2",
        "several objectives and constraints: an even front for little computing",
        "nothing; some twenty trials before it is better than random",
        "Deb et al. 2002, doi:10.1109/4235.996017",
    ),
    "pc_darts": Row(
        "differentiable:PCDarts",
        "cell spaces: as darts, on a part of the channels, in less time and memory",
        "a space with mixtures (nasbench201, darts)",
        "Xu et al. 2020, arXiv:1907.05737",
        one_shot=True,
    ),
    "predictor": Row(
        "predictor:Predictor",
        "the fewest trials: where each costs minutes or more; with several objectives, the front",
        "some ten trials before it is better than random; tens of milliseconds per proposal",
        "Ru et al. 2021, arXiv:2006.07556; Emmerich et al. 2006",
    ),
    "proxyless": Row(
        "differentiable:Proxyless",
        "cell spaces under a budget: the expected cost stands in the loss; two paths per step",
        "a space with mixtures (nasbench201, darts)",
        "Cai et al. 2019, arXiv:1812.00332",
        one_shot=True,
    ),
    "random": Row(
        "random_search:RandomSearch",
        "unbiased archives, and the baseline that any other must beat",
        "nothing",
        "Bergstra & Bengio 2012; Li & Talwalkar 2019, arXiv:1902.07638",
    ),
    "reinforce": Row(
        "reinforce:Reinforce",
        "a policy that can be looked into: how probable each option is, and when that changed",
        "torch; some twenty trials before it is better than random",
        "Zoph & Le 2017, arXiv:1611.01578; Pham et al. 2018, arXiv:1802.03268",
        controller=True,
    ),
}

PROPOSING = tuple(name for name, row in STRATEGIES.items() if not row.one_shot)
ANYWHERE = tuple(name for name in PROPOSING if not STRATEGIES[name].scales)  # in any space


def asked_proxies(text: str) -> tuple[str, ...]:
    """The proxies that a strategy wants as features: `predictor:proxies=naswot+synflow`."""
    row = STRATEGIES.get(text.partition(":")[0])
    if row is None or "proxies=" not in text:
        return ()
    names = settings_in("strategy", text, row.settings()).get("proxies", "")
    return tuple(filter(None, names.split("+")))


def takes_all(text: str) -> bool:
    """Whether a strategy learns from trials outside the space that it proposes from (`wide`).

    The others must be told only of trials inside. Of `auto` this is true: it passes on what
    the strategy that it picks can take.
    """
    row = STRATEGIES.get(text.partition(":")[0])
    return row is not None and any(f.name == "wide" for f in row.fields())


def make(
    text: str,
    space: Space,
    objectives: tuple[Objective, ...],
    constraints: tuple[Constraint, ...] = (),
    trials: int | None = None,
    earlier: tuple[Trial, ...] = (),
    scorer: ScoresOf | None = None,
    wide: Space | None = None,
) -> Strategy:
    """A strategy by its name, with settings by option: `evolution:population=50,tournament=5`.

    Args:
        trials: how many the search may make, as far as that is known.
        earlier: trials of searches of the same space on other data, which may guide this one.
        scorer: computes scores that need no training, for a strategy that asks for them.
        wide: the space that `space` is a part of, where people have narrowed it; a strategy that
            `takes_all` is then told of trials from all of it.

    Raises:
        UserError: there is none of this name, or it has no such setting.
    """
    name = text.partition(":")[0]
    if name not in STRATEGIES:
        raise unknown("strategy", name, sorted(STRATEGIES))
    row = STRATEGIES[name]
    strategy = row.load()
    assert not row.one_shot, "trains shared weights: see raynas.stages"
    wanted = {f.name for f in row.fields()}
    whole = wide if wide is not None and "wide" in wanted else space
    earlier = tuple(t for t in earlier if whole.holds(t.architecture))
    given: dict[str, Any] = {"constraints": constraints, "trials": trials, "earlier": earlier}
    given |= {"scorer": scorer, "wide": wide}
    told = {key: value for key, value in given.items() if key in wanted}
    made: Strategy = strategy(
        space, objectives, **told, **settings_in("strategy", text, row.settings())
    )
    return made

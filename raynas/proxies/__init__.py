"""Zero-cost proxies: scores of networks that nobody has trained.

Every proxy is a function `(model, images, labels) -> float`, a row of PROXIES. Higher is better;
the score has no unit and is finite or `-inf`, the same for the same network and batch; the model
with its gradients, buffers and mode is left as it was. Batch norms use the batch's statistics
while all else is in eval mode, whatever mode the model is in. `az` ranks a design by several of
them among others, and so needs a population beside the network (`raynas.proxies.ranks`).

What a score is worth, a search finds out: it trains some of the designs that it scored. The honest
baselines are `params` and `flops`, which cost less and often rank as well (White et al. 2022, "A
Deeper Look at Zero-Cost Proxies").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from raynas.proxies.counts import flops, params
from raynas.proxies.features import all_three, expressivity, progressivity, trainability
from raynas.proxies.flow import synflow
from raynas.proxies.gradients import fisher, grad_norm, grasp, snip, zico
from raynas.proxies.ranks import AZ, Population
from raynas.proxies.responses import jacob_cov, naswot, zen

__all__ = ["PROXIES", "Population", "Row", "naswot", "synflow"]

Score = Callable[[nn.Module, Tensor, Tensor], float]
OWN, DRAWN = "its own, untrained", "drawn anew, alike for all"


@dataclass(frozen=True)
class Row:
    """A proxy in the table.

    Attributes:
        score: the function; None where `ranks` are added instead.
        reference, good_for: what a person reads before choosing.
        cost: what it takes beside building the network, in passes of the batch.
        weights: of the network that is scored.
        ranks: the proxies that it ranks designs by.
    """

    score: Score | None
    reference: str
    good_for: str
    cost: str
    weights: str = OWN
    ranks: tuple[str, ...] = ()

    def parts(self, model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, float]:
        """What it ranks designs by, as scores; those that look at features share one pass."""
        found = all_three(model, images)
        for name in self.ranks:
            if name not in found and (score := PROXIES[name].score):
                found[name] = score(model, images, labels)
        return {name: found[name] for name in self.ranks}


PROXIES: dict[str, Row] = {
    "az": Row(
        None,
        "Lee & Ham 2024, arXiv:2403.19232",
        "networks of blocks: a design must do well by four scores at once; the best here",
        "one pass forward, one back; once, the same for a population",
        DRAWN,
        AZ,
    ),
    "expressivity": Row(
        expressivity,
        "Lee & Ham 2024, arXiv:2403.19232",
        "a part of az: whether features fill many directions",
        "one pass forward",
        DRAWN,
    ),
    "fisher": Row(
        fisher,
        "Theis et al. 2018, arXiv:1801.05787",
        "pruning channels; ranks whole networks worse than their size does",
        "one pass forward, one back",
    ),
    "flops": Row(
        flops,
        "White et al. 2022",
        "the baseline that any other must beat",
        "none: shapes only",
        "none",
    ),
    "grad_norm": Row(
        grad_norm,
        "Abdelfattah et al. 2021, arXiv:2101.08134",
        "a plain look at the first step of training",
        "one pass forward, one back",
    ),
    "grasp": Row(
        grasp,
        "Wang et al. 2020, arXiv:2002.07376",
        "pruning weights; costly, and ranks whole networks worse than their size does",
        "two passes forward and back, the latter twice: by far the most",
    ),
    "jacob_cov": Row(
        jacob_cov,
        "Mellor et al. 2020, arXiv:2006.04647",
        "whether images are told apart by slopes; for any nonlinearity",
        "one pass forward, one back",
    ),
    "naswot": Row(
        naswot,
        "Mellor et al. 2021, arXiv:2006.04647",
        "cells and networks with many nonlinearities; sees images but no labels",
        "one pass forward",
    ),
    "params": Row(
        params,
        "White et al. 2022",
        "the baseline that any other must beat",
        "none",
        "none",
    ),
    "progressivity": Row(
        progressivity,
        "Lee & Ham 2024, arXiv:2403.19232",
        "a part of az: whether features fill more directions from block to block",
        "one pass forward",
        DRAWN,
    ),
    "snip": Row(
        snip,
        "Lee et al. 2019, arXiv:1810.02340",
        "pruning weights; ranks whole networks worse than their size does",
        "one pass forward, one back",
    ),
    "synflow": Row(
        synflow,
        "Tanaka et al. 2020, arXiv:2006.05467",
        "cells whose parts may be cut off; sees no images; the fastest",
        "one image forward and back, in 64 bits",
    ),
    "trainability": Row(
        trainability,
        "Lee & Ham 2024, arXiv:2403.19232",
        "a part of az: whether blocks keep the size of gradients",
        "one pass forward, one back",
        DRAWN,
    ),
    "zen": Row(
        zen,
        "Lin et al. 2021, arXiv:2102.01063",
        "convolutional networks of many widths and depths; sees no images",
        "two passes forward",
        DRAWN,
    ),
    "zico": Row(
        zico,
        "Li et al. 2023, arXiv:2301.11300",
        "networks of many layers: whether batches agree on the gradients",
        "one pass forward, one back",
    ),
}

"""How much sooner is a design found that is good, if trials on other data are known?

    python benchmarks/warm_start.py warm --table nasbench201-cifar10.parquet \\
        --earlier spikenas-curves.parquet

300 random designs were trained before, on other data; a search of the same space is then
replayed from a table, as in `nasbench201.py`. Printed: the best value so far after 10, 25 and 50
evaluations, mean over seeds and its standard error. Questions:

- `warm`: before: spiking networks (`--earlier`, CIFAR-10, 100 epochs), whose cells have the same
  edges, none, skip and three others, taken for a 1x1 and a 3x3 convolution and a pooling; then:
  NAS-Bench-201 (`--table`, validation after 200 epochs). Rank correlation of the two: 0.29, and
  none among the good designs;
- `epochs`: before: NAS-Bench-201 after 12 epochs, a training of its own; then: after 200. Rank
  correlation 0.82;
- `back`: before: NAS-Bench-201 after 12 epochs; then: the spiking networks. 690 of them were not
  trained for 100 epochs: here they fail;
- `nothing`: before: NAS-Bench-201 after 12 epochs, values exchanged at random; then: after 200.

`cold` knows nothing of it; `first` is told nothing either, but tries the best five of the earlier
designs first; `told` is told of the earlier trials; `both` does both.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from machine import header
from nasbench201 import Memory, Table

from raynas.objective import Objective
from raynas.session import Context, Session, carry_out
from raynas.strategies import make
from raynas.trial import Trial
from search_spaces.nasbench201 import EDGES, OPERATIONS, SPACE, from_arch_str

ACCURACY = Objective("accuracy", "max")
BEFORE, FIRST = 300, 5  # earlier trials; of them those that are tried first
AT = (10, 25, 50)
Values = Mapping[str, float]  # architecture text -> accuracy
VALUES: dict[str, Values] = {}  # of this process
SPIKES = ("none", "skip", "lif_low_conv3x3", "lif_mid_conv3x3", "lif_high_conv3x3")
SPIKING = dict(zip(SPIKES, OPERATIONS, strict=True))
STARTS = ("cold", "first", "told", "both")
QUESTIONS = {
    "warm": ("spiking", "200"),
    "epochs": ("12", "200"),
    "back": ("12", "spiking"),
    "nothing": ("shuffled", "200"),
}


def load(table: Path, earlier: Path) -> None:
    """Reads both tables once per process."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rows = pd.read_parquet(table).set_index("arch_str")
    rows.index = rows.index.map(lambda text: str(from_arch_str(text)))
    VALUES["12"] = rows["cifar10_val_12ep"].to_dict()
    VALUES["200"] = rows["cifar10_val_200ep"].to_dict()
    others = np.random.default_rng(0).permutation(rows["cifar10_val_12ep"])
    VALUES["shuffled"] = dict(zip(rows.index, others, strict=True))
    curves = pd.read_parquet(earlier)
    curves = curves[(curves["dataset"] == "cifar10") & (curves["n_epochs"] == 100)]
    VALUES["spiking"] = {spiking(r): r["final_val_acc"] for r in curves.to_dict("records")}


def spiking(row: Mapping[str, Any]) -> str:
    """The text of the design that stands for a spiking network."""
    options = {f"cell.node{t}.from_{s}": SPIKING[row[f"op_{s}_{t}"]] for s, t in EDGES}
    return str(SPACE.architecture(options))


def before(values: Values, seed: int) -> tuple[Trial, ...]:
    """Trials of random designs."""
    rng = np.random.default_rng((seed, 1))
    texts = rng.choice(sorted(values), size=BEFORE, replace=False)
    return tuple(
        Trial(i, SPACE.parse(str(text)), "finished", {"accuracy": values[text]}, 1, split="before")
        for i, text in enumerate(texts)
    )


def search(strategy: str, question: str, start: str, seed: int) -> dict[str, float]:
    """The best values so far of one search."""
    known, then = (VALUES[name] for name in QUESTIONS[question])
    earlier = before(known, seed)
    best = sorted(earlier, key=lambda t: -t.metrics["accuracy"])[:FIRST]
    told = earlier if start in ("told", "both") else ()
    made = make(strategy, SPACE, (ACCURACY,), earlier=told)
    table = Table({text: {"accuracy": value} for text, value in then.items()}, lambda row, _: row)
    session = Session(SPACE, made, (ACCURACY,), Memory(), table.costs, seed=seed)
    if start in ("first", "both"):
        session.starts = [(t.architecture, "among the best of an earlier search") for t in best]
    top, found = -np.inf, {}
    for count in range(1, AT[-1] + 1):
        job = session.ask()
        *_, (trial, _) = carry_out(job, table, (ACCURACY,), Context(job.seed))
        session.tell(trial)
        top = max(top, trial.metrics.get("accuracy", top))
        if count in AT:
            found[f"at {count}"] = top
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("question", choices=QUESTIONS)
    parser.add_argument("--table", type=Path, required=True, help="NAS-Bench-201 as Parquet")
    parser.add_argument("--earlier", type=Path, required=True, help="spiking networks as Parquet")
    parser.add_argument("--strategies", nargs="+", default=["predictor", "bananas"])
    parser.add_argument("--starts", nargs="+", default=STARTS, choices=STARTS)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    header()
    known, then = QUESTIONS[arguments.question]
    print(f"{known} -> {then}, {arguments.seeds} seeds; best so far, mean and its standard error")
    with ProcessPoolExecutor(
        arguments.processes, initializer=load, initargs=(arguments.table, arguments.earlier)
    ) as pool:
        print(f"{'':20}", *(f"{f'at {count}':>18}" for count in AT), sep="")
        for strategy in arguments.strategies:
            for start in arguments.starts:
                one = partial(search, strategy, arguments.question, start)
                found = pd.DataFrame(pool.map(one, range(arguments.seeds)))
                told = (f"{c.mean():.3f} ± {c.sem():.3f}" for _, c in found.items())
                print(
                    f"{strategy + ' ' + start:20}", *(f"{t:>18}" for t in told), sep="", flush=True
                )


if __name__ == "__main__":
    main()

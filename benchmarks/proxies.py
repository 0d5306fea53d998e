"""How well do zero-cost proxies rank NAS-Bench-201, and what does a search by them find?

    python benchmarks/proxies.py --table nasbench201-cifar10.parquet --images 'cifar10-*.parquet' \
        --out scores.parquet score --designs 1000 --costly 300
    python benchmarks/proxies.py --table nasbench201-cifar10.parquet --out scores.parquet table
    python benchmarks/proxies.py --table nasbench201-cifar10.parquet --images 'cifar10-*.parquet' \
        --out scores.parquet search --proxy az --seconds 60

- `score`: scores random designs (C = 16, N = 5) on one batch of 64 CIFAR-10 images of 32x32 and
  keeps the scores; those that differentiate the loss for the first few only (`--costly`). Goes on
  where it ended.
- `table`: Spearman's rank correlation with the benchmark's test accuracy after 200 epochs: over
  all designs, those without a score being the worst; over those with a score; and over those whose
  cell uses all that it has; beside the published figures. And how `az` with a population compares
  with ranks over all.
- `search`: random designs are scored for so long; the best are looked up in the table.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from machine import header
from nasbench201 import Memory
from scipy.stats import rankdata, spearmanr

import raynas.data
from raynas.evaluation import ProxyEvaluator, TrainingEvaluator
from raynas.graphs import live
from raynas.objective import Array, Objective
from raynas.proxies import PROXIES, Population
from raynas.proxies.features import all_three
from raynas.proxies.ranks import AZ, SIZE
from raynas.recipe import Recipe
from raynas.session import Context, Session, run_local
from raynas.strategies import make
from raynas.training import DeviceData
from raynas.trial import Trial
from search_spaces.nasbench201 import SPACE, arch_str, from_arch_str, graph, simplify

SHAPE, CLASSES, BATCH = (3, 32, 32), 10, 64
LIGHT = ("params", "flops", "synflow", "naswot", "zen", "az", "jacob_cov", "zico")
COSTLY = ("grad_norm", "snip", "fisher")  # scored for the first few designs only
COSTLIEST = ("grasp",)  # likewise, and last
PUBLISHED: dict[str, tuple[float | None, float | None]] = {  # all designs, and those reached
    "params": (0.753, None),
    "flops": (0.753, None),
    "synflow": (0.737, None),
    "grad_norm": (0.594, None),
    "snip": (0.596, None),
    "grasp": (0.514, None),
    "fisher": (0.360, None),
    "jacob_cov": (0.731, None),
    "naswot": (None, 0.80),
    "zico": (None, 0.80),
    "az_ranks": (None, 0.89),
}


def batch(images: str, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """The batch that a search with this seed would score by."""
    data = DeviceData.of(raynas.data.load(images), torch.device("cpu"))
    rows = np.random.default_rng(seed).permutation(len(data.train.labels))[:BATCH].tolist()
    normalized = data.normalized(data.train.images[rows])
    return normalized.contiguous(memory_format=torch.channels_last), data.train.labels[rows]


def network(text: str, seed: int) -> torch.nn.Module:
    assert SPACE.build is not None
    torch.manual_seed(seed)
    return SPACE.build(from_arch_str(text), SHAPE, CLASSES)


def scored(text: str, number: int, names: Iterable[str], data: Any) -> dict[str, Any]:
    """Scores by name, with the processor's seconds for each; `az` stands for its three parts."""
    row: dict[str, Any] = {}
    model = network(text, number)
    for name in names:
        began = time.process_time()
        function = PROXIES[name].score
        row |= {name: function(model, *data)} if function else all_three(model, data[0])
        row[f"{name}_s"] = time.process_time() - began
    return row


def score(options: argparse.Namespace) -> None:
    table = pd.read_parquet(options.table)
    texts = table["arch_str"].sample(frac=1, random_state=0)[: options.designs].tolist()
    data = batch(options.images)
    rows = pd.read_parquet(options.out).to_dict("index") if options.out.exists() else {}
    few = range(options.costly)
    for names, numbers in ((LIGHT + COSTLY, few), (LIGHT, range(len(texts))), (COSTLIEST, few)):
        for number in numbers:
            row = rows.setdefault(number, {"arch_str": texts[number]})
            left = [name for name in names if not row.get(f"{name}_s", math.nan) >= 0]
            if left:
                row |= scored(texts[number], number, left, data)
                beside = options.out.with_suffix(".part")
                pd.DataFrame.from_dict(rows, orient="index").to_parquet(beside)
                beside.replace(options.out)
                if number % 20 == 0:
                    print(number, left, f"{time.process_time():,.0f} s", flush=True)


def table(options: argparse.Namespace) -> None:
    """Prints the correlations, and how well a small population stands for all designs."""
    header()
    rows = pd.read_parquet(options.out)
    truth = pd.read_parquet(options.table).set_index("arch_str")["cifar10_test_200ep"]
    rows = rows.join(truth.rename("accuracy"), on="arch_str")
    rows["reached"] = [reached(text) for text in rows["arch_str"]]
    rows["az_ranks"] = sum(np.log(rankdata(rows[name])) for name in AZ)
    rows["az"] = [among(rows[i : i + 1], rows, SIZE, i) for i in range(len(rows))]
    print("| proxy | designs | all | 90 % | scored | published | reached | published | s |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name in (
        "params",
        "flops",
        "az",
        "az_ranks",
        *AZ[:3],
        *LIGHT[2:5],
        *LIGHT[6:],
        *COSTLY,
        *COSTLIEST,
    ):
        if name not in rows or rows[name].isna().all():
            continue
        known = rows[rows[name].notna()]
        every, low, high = correlation(known, name)
        part, *_ = correlation(known[known["reached"]], name)
        alive, *_ = correlation(known[np.isfinite(known[name])], name)
        seconds = known.get(f"{name}_s", pd.Series([math.nan])).mean()
        told = ["" if p is None else f"{p:.3f}" for p in PUBLISHED.get(name, (None, None))]
        print(
            f"| {name} | {len(known)} | {every:.3f} | {low:.3f} to {high:.3f} | {alive:.3f} "
            f"| {told[0]} | {part:.3f} | {told[1]} | {seconds:.2f} |"
        )
    print("\n| population | with ranks over all | with accuracy | the best tenth's accuracy |")
    print("|---:|---:|---:|---:|")
    for size in (8, 16, 32, 64, 128, 256):
        print(f"| {size} | " + " | ".join(f"{x:.3f}" for x in by_population(rows, size)) + " |")


def reached(text: str) -> bool:
    """Whether the cell carries its input to its output, and all that it has takes part."""
    design = from_arch_str(text)
    return bool(live(graph(design))) and simplify(design) == design


def correlation(rows: pd.DataFrame, name: str) -> tuple[float, float, float]:
    """Spearman's, with the 5 % and 95 % quantiles of resampled designs; `-inf` is the last."""
    scores, accuracy = rankdata(rows[name]), rankdata(rows["accuracy"])
    rng = np.random.default_rng(0)
    drawn = (rng.integers(len(rows), size=len(rows)) for _ in range(300))
    low, high = np.quantile([spearmanr(scores[i], accuracy[i])[0] for i in drawn], (0.05, 0.95))
    return float(spearmanr(scores, accuracy)[0]), low, high


def among(row: pd.DataFrame, rows: pd.DataFrame, size: int, leave: int) -> float:
    """A design's `az` among the first designs, as a search has it, without itself."""
    others = rows.drop(index=rows.index[leave])[:size]
    return Population(others[list(AZ)]).score(row.iloc[0][list(AZ)])


def by_population(rows: pd.DataFrame, size: int, repeats: int = 10) -> Array:
    """How `az` by random populations of this size does on the other designs, on average."""
    found = []
    for seed in range(repeats):
        chosen = rows.sample(size, random_state=seed)
        rest = rows.drop(index=chosen.index)
        population = Population(chosen[list(AZ)])
        scores = pd.Series([population.score(r) for r in rest.to_dict("records")], rest.index)
        best = rest.loc[scores.nlargest(len(rest) // 10).index, "accuracy"].mean()
        with_ranks = spearmanr(scores, rest["az_ranks"])[0]
        found.append((with_ranks, spearmanr(scores, rest["accuracy"])[0], best))
    return np.mean(found, axis=0)


def search(options: argparse.Namespace) -> None:
    """Searches by a proxy for so long; says how fast it was and what it picked."""
    header()
    truth = pd.read_parquet(options.table).set_index("arch_str")["cifar10_test_200ep"]
    full = TrainingEvaluator(SPACE, raynas.data.load(options.images), Recipe())
    full.placed(Context(0))
    goal = (Objective(options.proxy, "max"),)
    print("| proxy | strategy | seed | designs | per second | population, s | picked | its place |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for seed in range(options.seeds):
        began = time.monotonic()
        scorer = ProxyEvaluator(full, options.proxy, seed).ready(Context(seed))
        ready = time.monotonic() - began
        strategy = make(options.strategy, SPACE, goal)
        session = Session(SPACE, strategy, goal, Memory(), scorer.costs, seed=seed)
        done: list[Trial] = []
        session.observe = done.append
        run_local(session, scorer, 15_625, Context(seed), began + options.seconds)
        scored = [t for t in done if t.status == "finished"]
        rate = len(scored) / (time.monotonic() - began - ready)
        best = max(scored, key=lambda t: t.metrics[options.proxy])
        found = truth[arch_str(best.architecture)]
        print(
            f"| {options.proxy} | {options.strategy} | {seed} | {len(scored)} | {rate:.2f} "
            f"| {ready:.1f} | {found:.2f} | {int((truth > found).sum()) + 1} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", required=True, type=Path)
    parser.add_argument("--images", default="cifar10")
    parser.add_argument("--out", default="scores.parquet", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("score")
    command.add_argument("--designs", type=int, default=1000)
    command.add_argument("--costly", type=int, default=300)
    commands.add_parser("table")
    command = commands.add_parser("search")
    command.add_argument("--proxy", default="az")
    command.add_argument("--strategy", default="evolution")
    command.add_argument("--seconds", type=float, default=60)
    command.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    {"score": score, "table": table, "search": search}[options.command](options)


if __name__ == "__main__":
    main()

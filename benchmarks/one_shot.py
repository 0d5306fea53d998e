"""How well do shared weights rank designs, and how good are those that one-shot methods choose?

    python benchmarks/one_shot.py table --table nasbench201-cifar10.parquet \\
        --data "cifar10-*.parquet" --epochs 60 --seeds 3 --out runs/one_shot
    python benchmarks/one_shot.py quality --data digits --epochs 60 --out runs/one_shot

Each method trains the shared weights of NAS-Bench-201 cells in a small skeleton (`--channels 8
--cells 1`) on at most `--images` training images (of `--size` pixels a side, 0 as they are), of
which a fifth is held out; then it chooses a
design. Weights that are trained path by path (`uniform`, `fair`) decide nothing themselves: there
it is the best by shared accuracy of `--designs` random ones. Methods are named as strategies are
on the command line, with their settings: `darts:order=2,stop=false`.

- `table`: accuracies of the chosen design after 200 epochs in the full skeleton, as others measured
  them (Dong & Yang 2020), mean and deviation over seeds. `ranks`: Spearman's correlation of shared
  accuracy with the table's test accuracy over `--designs` random networks, others for each seed;
  means over seeds of it and of its interval of 90 %, which says how far other designs would change
  it, not other trainings. Weights of pc_darts are parts of those of whole designs and score none.
  Published rows searched in the full skeleton, on all images, with other recipes.
- `quality`: the chosen design is trained alone in the small skeleton, `--runs` times with other
  seeds, against `--controls` random networks within 20 % of its parameters, once each. Means of
  the test accuracy in percent and of the difference, with intervals of 90 % (t; Welch's for the
  difference) for this one design; that of the mean difference is over searches.

Whatever is done is kept at once in CSV files under `--out`: the same command goes on where it was
ended, `quality` takes searches that `table` made on the same images, and several processes may
share the folder if they have other methods. Times are of this process, one thread by default.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from machine import header
from scipy.stats import ttest_1samp, ttest_ind

from raynas.architecture import Architecture
from raynas.data import load
from raynas.evaluation import TrainingEvaluator
from raynas.explanation.ranking import correlation, interval
from raynas.named import settings_in
from raynas.recipe import Recipe
from raynas.session import Context
from raynas.space import Space
from raynas.strategies import STRATEGIES
from raynas.supernet import Supernet
from raynas.supernet.paths import RULES, Paths
from raynas.supernet.training import OneShot, Trainer, score
from search_spaces import nasbench201

METHODS = ("darts", "darts:order=2", "gdas", "pc_darts", "proxyless", "enas", "uniform", "fair")
PUBLISHED = {  # test accuracy: NAS-Bench-201, NATS-Bench
    "darts": "54.30, 59.84",
    "gdas": "93.61, 93.23",
    "enas": "53.89, 93.76",
    "uniform": "RSPS -, 91.05",
}
ALIKE = 0.2  # share of its parameters by which a control may differ from a design
COLUMNS = {"epochs_done": ("epochs", 8), "seconds": ("train s", 9), "scoring_s": ("score s", 9)}
WIDTHS = (11, 22, 22, 22)  # of the columns of `quality`
TRIES = 50_000  # draws in search of controls
LEVEL = 0.9  # of intervals; that of the rank correlation is the same
Row = dict[str, Any]


@dataclass(frozen=True)
class Kept:
    """Rows in a CSV file, kept as soon as they are known."""

    path: Path
    key: Mapping[str, Any]  # what all of this call have in common; others may lie in the file

    def find(self, **wanted: Any) -> pd.DataFrame:
        """The rows with these values."""
        if not self.path.exists():
            return pd.DataFrame()
        rows = pd.read_csv(self.path, keep_default_na=False)
        for name, value in {**self.key, **wanted}.items():
            rows = rows[rows[name].astype(str) == str(value)]
        return rows

    def add(self, rows: Iterable[Row]) -> None:
        if (frame := pd.DataFrame([{**self.key, **row} for row in rows])).empty:
            return
        frame.to_csv(self.path, mode="a", header=not self.path.exists(), index=False)


@dataclass
class Bench:
    """Images, space and what is known already."""

    given: argparse.Namespace
    space: Space = field(init=False)
    evaluator: TrainingEvaluator = field(init=False)

    def __post_init__(self) -> None:
        g = self.given
        self.space = nasbench201.space(g.channels, g.cells)
        images = load(g.data, subset=g.images, image_size=g.size or None)
        self.evaluator = TrainingEvaluator(self.space, images, Recipe(g.train_epochs))
        print(f"{images.name}: {' '.join(images.notes)}")
        base = {"data": images.name, "images": g.images, "size": g.size}
        base |= {"channels": g.channels, "cells": g.cells}
        searched = {**base, "epochs": g.epochs, "drawn": g.designs}
        out = Path(g.out)
        out.mkdir(parents=True, exist_ok=True)
        self.searches = Kept(out / "searches.csv", searched)
        self.scores = Kept(out / "scores.csv", searched)
        self.trainings = Kept(out / "trainings.csv", {**base, "epochs": g.train_epochs})

    def context(self, seed: int) -> Context:
        return Context(seed, self.given.threads, self.given.device)

    def drawn(self, rng: np.random.Generator, number: int, like: float = 0.0) -> list[Architecture]:
        """Distinct random networks with about `like` parameters (0: any), as plain as searched."""
        found: dict[str, Architecture] = {}
        for _ in range(TRIES):
            if len(found) == number:
                break
            design = self.space.plainest(self.space.sample(rng))
            if not like or abs(self.params(design) - like) <= ALIKE * like:
                found.setdefault(self.space.identity(design), design)
        return list(found.values())

    def params(self, design: Architecture) -> float:
        return self.evaluator.costs(design)["params"]

    def searched(self, method: str, seed: int) -> Row:
        """What a method chooses; its weights' scores of random designs lie in `scores`."""
        if (rows := self.searches.find(method=method, seed=seed)).empty:
            row, scores = self._search(method, seed)
            self.scores.add({"method": method, "seed": seed, **entry} for entry in scores)
            self.searches.add([row])
            each = row["processor_s"] / max(row["epochs_done"], 1)
            print(f"{method}, seed {seed}: {row['design']}\n  {row['notes'] or 'no notes'}")
            print(f"  {row['seconds']:.0f} s to train, {row['scoring_s']:.0f} s to score; ", end="")
            print(f"{each:.1f} s of processors per epoch", flush=True)
            rows = self.searches.find(method=method, seed=seed)
        return dict(rows.iloc[-1])

    def _search(self, method: str, seed: int) -> tuple[Row, list[Row]]:
        began, busy = time.perf_counter(), time.process_time()
        images = self.evaluator.data
        supernet = Supernet(self.space, images.input_shape, images.num_classes, seed)
        data = self.evaluator.placed(self.context(seed))
        trainer = Trainer(supernet, data, Recipe().for_weights(self.given.epochs), seed)
        one_shot = made(method)
        one_shot.start(trainer)
        while trainer.epoch < trainer.epochs:
            trainer.run(one_shot)
        chosen = [proposal.architecture for proposal in one_shot.designs(trainer, 1)]
        row: Row = {"method": method, "seed": seed, "epochs_done": trainer.epoch}
        row |= {name: trainer.readings[-1][name] for name in ("train_loss", "sampled_accuracy")}
        row |= {"seconds": time.perf_counter() - began, "processor_s": time.process_time() - busy}
        began, scores = time.perf_counter(), list[Row]()
        if not method.startswith("pc_darts"):
            for design in self.drawn(np.random.default_rng((seed, 1)), self.given.designs):
                read = score(supernet, design, data)
                scores += [{"design": str(design), "score": read["accuracy"], "loss": read["loss"]}]
        if not chosen:
            best = max(scores, key=lambda entry: (entry["score"], -entry["loss"]))
            chosen = [self.space.parse(best["design"])]
        row |= {"scoring_s": time.perf_counter() - began, "design": str(chosen[0])}
        return {**row, "notes": " | ".join(trainer.notes)}, scores

    def trained(self, design: Architecture, seed: int) -> float:
        """The test accuracy of a design trained alone, in percent."""
        if (rows := self.trainings.find(design=design, seed=seed)).empty:
            began = time.perf_counter()
            *_, last = self.evaluator.evaluate(design, self.context(seed))
            costs = {"params": self.params(design), "seconds": time.perf_counter() - began}
            self.trainings.add([{"design": str(design), "seed": seed, **costs, **last}])
            rows = self.trainings.find(design=design, seed=seed)
        return 100 * float(rows["test_accuracy"].iloc[-1])


def made(method: str) -> OneShot:
    """A way to train shared weights, by its text."""
    name = method.partition(":")[0]
    if name in RULES:
        return Paths(name)
    row = STRATEGIES[name]
    one_shot: OneShot = row.load()(**settings_in("strategy", method, row.settings()))
    return one_shot


def table(bench: Bench) -> None:
    given, rows, simple = bench.given, [], []
    published = pd.read_parquet(given.table)
    published.index = published["arch_str"].map(lambda text: str(nasbench201.from_arch_str(text)))
    validation, test = published["cifar10_val_200ep"], published["cifar10_test_200ep"]
    for seed in range(given.seeds):
        designs = bench.drawn(np.random.default_rng((seed, 1)), given.designs)
        sizes = pd.DataFrame({"design": map(str, designs), "score": map(bench.params, designs)})
        simple.append(ranking(sizes, test)["r"])
        for method in given.methods:
            row = bench.searched(method, seed)
            scored = bench.scores.find(method=method, seed=seed)
            row |= {"val": validation[row["design"]], "test": test[row["design"]]}
            rows.append(row | ranking(scored, test))
    heads = "".join(f"{title:>{width}}" for title, width in COLUMNS.values())
    print(f"\n{'method':28}{'validation':>16}{'test':>16}{'published':>16}{'ranks':>24}{heads}")
    found = pd.DataFrame(rows)
    for method in given.methods:
        own = found[found["method"] == method]
        r, low, high = own[["r", "low", "high"]].astype(float).mean()
        ranks = "-" if math.isnan(r) else f"{r:.3f} [{low:.3f}, {high:.3f}]"
        line = f"{method:28}{spread(own['val']):>16}{spread(own['test']):>16}"
        line += f"{PUBLISHED.get(method, '-'):>16}{ranks:>24}"
        print(line, *(f"{own[c].mean():{w}.0f}" for c, (_, w) in COLUMNS.items()), sep="")
    top = test.iloc[int(validation.argmax())]
    print(f"{'a random design (all 15,625)':28}{validation.mean():16.2f}{test.mean():16.2f}")
    print(f"{'the best by validation':28}{validation.max():16.2f}{top:16.2f}")
    print(f"{'parameters as a score':76}{np.array(simple, float).mean():24.3f}")
    print("published: NAS-Bench-201, NATS-Bench (test); without a row here: SETN 87.64, 92.72")


def ranking(scored: pd.DataFrame, real: pd.Series[float]) -> Row:
    """Rank correlation of the column `score` with what is real of those designs; its interval."""
    if scored.empty:
        return dict.fromkeys(("r", "low", "high"))
    scored = scored.drop_duplicates("design", keep="last")
    r = correlation(scored["score"].to_numpy(float), real[scored["design"]].to_numpy())
    low, high = (None, None) if r is None else interval(r, len(scored))
    return {"r": r, "low": low, "high": high}


def quality(bench: Bench) -> None:
    given = bench.given
    titles = ("parameters", "test accuracy", "random of like size", "difference")
    print(f"{'method':24} seed", *(f"{t:>{w}}" for t, w in zip(titles, WIDTHS, strict=True)))
    for method in given.methods:
        gains = []
        for seed in range(given.seeds):
            design = bench.space.parse(bench.searched(method, seed)["design"])
            params, own = bench.params(design), bench.space.identity(design)
            near = bench.drawn(np.random.default_rng((seed, 2)), given.controls + 1, params)
            others = [a for a in near if bench.space.identity(a) != own][: given.controls]
            chosen = [bench.trained(design, run) for run in range(given.runs)]
            random = [bench.trained(other, run) for run, other in enumerate(others)]
            gains.append(float(np.mean(chosen) - np.mean(random)) if random else math.nan)
            told = (f"{params:,.0f}", mean_of(chosen), mean_of(random), against(chosen, random))
            cells = (f"{text:>{width}}" for text, width in zip(told, WIDTHS, strict=True))
            print(f"{method:24}{seed:5}", *cells, f"  ({len(random)} controls)", flush=True)
        print(f"{method:24} mean of the differences over searches: {mean_of(gains)}", flush=True)


def spread(values: pd.Series[float]) -> str:
    """Mean and deviation."""
    return f"{values.mean():.2f}" + (f" ± {values.std():.2f}" if len(values) > 1 else "")


def mean_of(values: Sequence[float]) -> str:
    """The mean and its interval."""
    if len(values) < 2:
        return f"{values[0]:.2f}" if values else "-"
    low, high = ttest_1samp(values, 0.0).confidence_interval(LEVEL)
    return f"{np.mean(values):.2f} [{low:.2f}, {high:.2f}]"


def against(a: Sequence[float], b: Sequence[float]) -> str:
    """The difference of the means and Welch's interval."""
    if min(len(a), len(b)) < 2:
        return "-"
    low, high = ttest_ind(a, b, equal_var=False).confidence_interval(LEVEL)
    return f"{np.mean(a) - np.mean(b):+.2f} [{low:+.2f}, {high:+.2f}]"


QUESTIONS: dict[str, Callable[[Bench], None]] = {"table": table, "quality": quality}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("question", choices=QUESTIONS)
    parser.add_argument("--table", help="nasbench201-cifar10.parquet, for `table`")
    parser.add_argument("--data", required=True, help="a name or path for raynas.data.load")
    parser.add_argument("--out", required=True, help="folder of the rows")
    parser.add_argument("--methods", nargs="+", default=METHODS, metavar="NAME")
    numbers = {"images": 5000, "channels": 8, "cells": 1, "epochs": 60, "seeds": 1, "designs": 200}
    numbers |= {"size": 0, "runs": 5, "controls": 10, "train-epochs": 18, "threads": 1}
    for name, usual in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto (default)")
    given = parser.parse_args()
    if given.question == "table" and not given.table:
        parser.error("table: expected --table PATH")
    header()
    QUESTIONS[given.question](Bench(given))


if __name__ == "__main__":
    main()

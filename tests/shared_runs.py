"""A run with shared weights made by hand: all three phases, without training anything."""

import math

import numpy as np
import pandas as pd

from raynas.architecture import Decision
from raynas.archive import Archive
from raynas.problem import Problem
from raynas.result import SearchResult
from raynas.run import RunInfo
from raynas.space import Space
from raynas.trial import Job, Proposal, Reason, Trial

OPTIONS = ("none", "skip_connect", "conv_3x3", "pool_3x3")
SPACE = Space(
    "cell",
    tuple(Decision(f"cell.node{i}.from_0", OPTIONS, "what feeds the node") for i in range(1, 5)),
)
WORTH = {"none": -1.0, "skip_connect": 0.0, "conv_3x3": 1.0, "pool_3x3": -0.3}


def quality(architecture):
    """Planted: convolutions help, pooling and nothing do not."""
    return 0.4 * sum(WORTH[o] for o in architecture.options.values())


def share(logit):
    return 1 / (1 + math.exp(-logit))


def shared_info(space=SPACE, objectives=("accuracy:max", "params:min"), evaluation="", **fields):
    settings = {"space": None, "explanation_level": "standard", "seed": 0, "recipe": {}}
    settings |= {"search_training": False, "evaluation": f"shared:rule=fair{evaluation}"}
    data = {"name": "digits", "sizes": {"validation": 360, "test": 360}}
    problem = Problem.of({"objectives": list(objectives), **fields})
    return RunInfo(problem, space, settings, data, {"raynas": "0"}, "raynas search")


def shared_trials(space=SPACE, designs=60, finalists=5, probes=5, noise=0.3, seed=0):
    """Trials in order: shared training, scores, the best trained alone, then some of the rest."""
    rng = np.random.default_rng(seed)
    clock = 1.7e9

    def trial(number, design, purpose, metrics, epochs, seconds):
        nonlocal clock
        clock += seconds
        curve = (metrics,) * epochs
        times = {"started_at": clock - seconds, "seconds": seconds}
        return Trial(number, design, "finished", metrics, epochs, curve, purpose, **times)

    learned = {"train_loss": 1.1, "sampled_accuracy": 0.41, "batch_size": 64.0}
    largest = space.architecture({d.name: d.options[2] for d in space.decisions})
    found = [trial(0, largest, "supernet", learned, 30, 95.0)]
    known = {}
    while len(known) < min(designs, space.size):
        design = space.sample(rng)
        known.setdefault(str(design), design)
    for design in known.values():
        costs = {"params": 1000.0 + 500 * sum(map(len, map(str, design.options.values())))}
        score = {"shared_accuracy": share(quality(design) - 1 + noise * rng.normal()), **costs}
        found.append(trial(len(found), design, "search", score, 1, 0.5))
    ranking = sorted(found[1:], key=lambda t: -t.metrics["shared_accuracy"])
    spread = [ranking[i] for i in np.linspace(finalists, len(ranking) - 1, probes).astype(int)]
    chosen = [(t, "confirm") for t in ranking[:finalists]]
    for scored, purpose in [*chosen, *((t, "uniform_probe") for t in spread)]:
        reached = share(quality(scored.architecture) + 1.5 + 0.1 * rng.normal())
        metrics = {"accuracy": reached, "loss": 1 - reached, "test_accuracy": reached - 0.01}
        metrics["params"] = scored.metrics["params"]
        found.append(trial(len(found), scored.architecture, purpose, metrics, 12, 20.0))
    return found


def shared_choices(space=SPACE, epochs=30, winner="conv_3x3", seed=0):
    """Chances that begin equal and drift, most towards the winner on every edge."""
    rng = np.random.default_rng(seed)
    rows = []
    for d in space.decisions:
        drift = rng.normal(0, 0.5, len(d.options))
        drift += [2.5 * (option == winner) for option in d.options]
        for epoch in range(1, epochs + 1):
            chances = np.exp(drift * (epoch / epochs) ** 2 + 0.02 * rng.normal(size=len(drift)))
            for option, chance in zip(d.options, chances / chances.sum(), strict=True):
                rows.append((epoch, d.name, str(option), float(chance)))
    return pd.DataFrame(rows, columns=["epoch", "decision", "option", "chance"])


def shared_run(folder, trials=None, choices=None, info=None):
    """The run on disk, with its claims."""
    info = info or shared_info()
    info.write(folder)
    archive = Archive(folder)
    trials = shared_trials(info.space) if trials is None else trials
    scored = {str(t.architecture): t for t in trials if t.purpose == "search"}
    entries = []
    for t in trials:
        reason = Reason("random", "drawn from the whole space")
        if t.purpose in ("confirm", "uniform_probe"):
            first = scored[str(t.architecture)]
            score = {"shared_accuracy": first.metrics["shared_accuracy"]}
            reason = Reason("derived", "to be trained alone", (first.number,), (), score)
        proposal = Proposal(t.architecture, reason, purpose=t.purpose)
        entries += [(Job(t.number, proposal, 0, {}, t.started_at), None), (t, None)]
    archive.append(entries)
    archive.close()
    if choices is not None:
        (folder / "supernet").mkdir(exist_ok=True)
        choices.to_parquet(folder / "supernet/choices.parquet")
    result = SearchResult(folder)
    result.write_claims()
    return result

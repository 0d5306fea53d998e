"""The table of trained designs, and the scores of strategies and explanations on it."""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raynas import benchmark
from raynas.architecture import Decision
from raynas.benchmark import explained, replay
from raynas.cli import main
from raynas.errors import UserError
from raynas.space import Space
from search_spaces.layered import SPACE as LAYERED

OPTIONS = ("a", "b", "c", "d")
SMALL = Space(
    "small",
    (
        Decision("depth", (1, 2), "how many", ordered=True),
        Decision("layer0.kind", OPTIONS, "what"),
        Decision("layer0.width", (1, 2, 3, 4), "how wide", ordered=True),
        Decision("layer1.kind", OPTIONS, "what", when=("depth", frozenset({2}))),
        Decision("layer1.width", (1, 2, 3, 4), "how wide", ordered=True, when=("depth", {2})),
    ),
)
NOISE = 0.02


def planted(design):
    """What designs of `SMALL` truly reach: effects of every decision, and one pair."""
    kinds = {"a": 0.0, "b": 0.06, "c": -0.04, "d": 0.02}
    value = 0.6 + kinds[design["layer0.kind"]] + 0.03 * design["layer0.width"]
    if design["depth"] == 2:
        value += 0.05 + 0.5 * kinds[design["layer1.kind"]] - 0.02 * design["layer1.width"]
        value += 0.05 * (design["layer0.kind"] == design["layer1.kind"])
    return value


def write(path, space=SMALL, truth=planted, noise=NOISE, seeds=3):
    rng = np.random.default_rng(0)
    rows = [
        {"architecture": str(a), "seed": s, "accuracy": truth(a) + noise * rng.standard_normal()}
        for a in space.enumerate()
        for s in range(seeds)
    ]
    frame = pd.DataFrame(rows)
    frame["test_accuracy"] = frame["accuracy"]
    frame["curve"] = [[v / 2, v] for v in frame["accuracy"]]
    frame["params"] = frame["flops"] = 1
    found = pa.Table.from_pandas(frame, preserve_index=False)
    about = json.dumps({"space": space.to_dict()})
    pq.write_table(found.replace_schema_metadata({"raynas": about}), path)
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write(tmp_path_factory.mktemp("table") / "small.parquet")


@pytest.fixture(scope="module")
def small(path):
    return benchmark.read(path)


# The table in the package


@pytest.fixture(scope="module")
def digits():
    return benchmark.read()


def test_the_table_holds_every_design_of_its_space_once_for_each_seed():
    rows, space = benchmark.table(), benchmark.space()
    texts = [str(a) for a in space.enumerate()]
    assert len(texts) == space.size >= 1000
    assert rows["architecture"].tolist() == [t for t in texts for _ in range(3)]
    assert rows["seed"].tolist() == [0, 1, 2] * space.size


def test_the_table_is_small():
    assert benchmark.DIGITS.stat().st_size < 1_000_000


def test_the_table_has_what_it_says():
    rows = benchmark.table()
    for name in ("accuracy", "test_accuracy"):
        assert rows[name].between(0.05, 1).all()
    for name in ("loss", "test_loss", "seconds", "params", "flops"):
        assert (rows[name] > 0).all()
    for curve, last in (("curve", "accuracy"), ("loss_curve", "loss")):
        assert set(rows[curve].str.len()) == {3}
        assert (rows[curve].str[-1] == rows[last]).all()
    assert len(rows.groupby(["accuracy", "loss", "test_loss"])) == len(rows)  # none was copied


def test_the_space_is_a_part_of_layered():
    space = LAYERED.with_decisions(benchmark.space())
    for design in list(space.enumerate())[::97]:
        LAYERED.check(design)


def test_the_costs_are_those_of_the_networks():
    from raynas.costs import costs_of

    rows = benchmark.table().iloc[::373]
    for text, params, flops in zip(
        rows["architecture"], rows["params"], rows["flops"], strict=True
    ):
        told = costs_of(LAYERED, LAYERED.parse(text), (1, 8, 8), 10)
        assert told == {"params": params, "flops": flops}


def test_designs_differ_by_far_more_than_the_seeds_of_one(digits):
    means = digits.readings.mean(axis=1)
    noise = np.sqrt(digits.readings.var(axis=1, ddof=1).mean())
    assert means.std() > 4 * noise
    assert 0.95 < digits.best < means.max()


def test_one_training_of_the_table_can_be_repeated():
    """With another torch or processor to the rounding of its sums: the noise, at most."""
    from raynas.data import load
    from raynas.evaluation import TrainingEvaluator
    from raynas.recipe import Recipe
    from raynas.session import Context

    row = benchmark.table().set_index(["architecture", "seed"]).sort_values("flops").iloc[5]
    text, seed = row.name
    evaluator = TrainingEvaluator(LAYERED, load("digits"), Recipe(epochs=3, augment=False))
    *_, last = evaluator.evaluate(LAYERED.parse(text), Context(int(seed), device="cpu"))
    assert last["accuracy"] == pytest.approx(row["accuracy"], abs=0.1)


# Reading tables


def test_truth_is_the_mean_over_seeds(path):
    rows = benchmark.table(path)
    assert benchmark.truth(path).to_dict() == pytest.approx(
        rows.groupby("architecture")["accuracy"].mean().to_dict()
    )


def test_the_noise_is_found(small):
    assert np.sqrt((small.noise**2).mean()) == pytest.approx(NOISE, rel=0.1)


def test_the_best_is_not_the_luckiest(small):
    best = max(map(planted, small.designs))
    assert abs(small.best - best) < small.readings.max() - best


def test_others_are_the_trainings_that_were_not_read(small):
    readings = small.readings[7]
    assert small.others(7, 1) == pytest.approx((readings[0] + readings[2]) / 2)
    assert small.others([7, 7], [-1, 0]) == pytest.approx([readings.mean(), readings[1:].mean()])


def test_an_evaluation_reads_one_of_the_trainings(small):
    from raynas.session import Context

    evaluator, design = benchmark.Replayed(small), small.designs[3]
    read = set()
    for seed in range(30):
        *_, last = evaluator.evaluate(design, Context(seed))
        assert last["accuracy"] == small.readings[3, evaluator.drawn(seed)]
        read.add(evaluator.drawn(seed))
    assert read == {0, 1, 2}


def test_a_table_that_misses_a_training_is_refused(path, tmp_path):
    found = pq.read_table(path)
    pq.write_table(found.slice(1), tmp_path / "part.parquet")
    with pytest.raises(UserError, match="expected each of 272 designs"):
        benchmark.read(tmp_path / "part.parquet")


def test_what_is_no_such_table_is_refused(tmp_path):
    with pytest.raises(UserError, match="nothing is at"):
        benchmark.read(tmp_path / "none.parquet")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(UserError, match="which names its space"):
        benchmark.read(tmp_path / "other.parquet")


# Strategies


def test_a_search_is_the_same_again(small):
    first, again = (replay.search(small, "evolution", 40, seed=3) for _ in range(2))
    assert first == again != replay.search(small, "evolution", 40, seed=4)
    assert len({reading.place for reading in first}) == 40


def test_local_search_beats_random_where_it_must(small):
    found = {
        name: replay.scores(small, name, range(12), 60)["regret"].mean()
        for name in ("random", "local_search")
    }
    assert found["local_search"] < found["random"] - 0.5  # percentage points


def test_a_search_ends_with_the_space(small):
    assert len(replay.search(small, "random", 1000, seed=0)) == small.space.size
    found = replay.scores(small, "random", [0], 1000)
    assert found["excess"].item() > 0  # the luckiest of 272


# Explanations


def test_noise_is_taken_off_a_share_of_signs():
    rng = np.random.default_rng(0)
    for right in (0.6, 0.8, 0.95):
        size = np.abs(rng.normal(0, 2, 3000)) + 0.2
        real = np.where(rng.random(3000) < right, size, -size)
        deviation = rng.uniform(0.5, 1.0, 3000)
        read = real + deviation * rng.standard_normal(3000)
        assert explained.settled(read, deviation) == pytest.approx(right, abs=0.03)
        assert (read > 0).mean() < right - 0.02 or right < 0.7  # as read, it looks worse


def test_exact_knowledge_has_full_marks(small):
    """A method that knows the planted truth: every figure is what it must be then."""

    def knows(space, designs, values):
        rng = np.random.default_rng(0)
        doubt = 0.002 * rng.standard_normal((200, small.space.size))
        real = np.array([planted(a) for a in small.designs])
        surface = real + doubt - doubt.mean(axis=0)
        return lambda wanted: surface[:, [small.place[str(a)] for a in wanted]]

    parts, kept = zip(
        *(explained.score(small, "random", s, 60, knows) for s in range(20)), strict=True
    )
    found = explained.summed(pd.concat(parts))
    assert found["precision"] > 0.99
    assert 0.97 < found["as read"] < 1
    assert 0.87 < found["coverage"] < 0.95
    assert found["winkler"] < 1.1 * found["floor"]
    assert min(kept) > 0.97


@pytest.mark.parametrize("wrong", ["signs", "narrow"])
def test_wrong_knowledge_is_found_out(small, wrong):
    def errs(space, designs, values):
        real = np.array([planted(a) for a in small.designs])
        real = -real if wrong == "signs" else real + 0.04 * np.sin(np.arange(len(real)))
        surface = real + 1e-4 * np.random.default_rng(0).standard_normal((50, len(real)))
        return lambda wanted: surface[:, [small.place[str(a)] for a in wanted]]

    found = explained.summed(
        pd.concat(explained.score(small, "random", s, 60, errs)[0] for s in range(5))
    )
    assert found["coverage"] < 0.8
    assert wrong == "narrow" or np.isnan(found["precision"])  # 0.6 are never right


def test_explanations_of_the_digits_table(digits):
    """What `raynas benchmark --explanations` says: fewer archives cannot tell methods apart."""
    ours, marginal = [], []
    for strategy, seed in product(explained.SEARCHES, range(5)):
        ours.append(explained.score(digits, strategy, seed, 100))
        marginal.append(explained.score(digits, strategy, seed, 100, explained.marginal))
    found = explained.summed(pd.concat(contrasts for contrasts, _ in ours))
    common = explained.summed(pd.concat(contrasts for contrasts, _ in marginal))
    assert found["precision"] > 0.97
    assert found["precision"] > common["precision"]
    assert 0.85 < found["coverage"] < 0.95
    assert found["winkler"] < 2.3 * found["floor"]
    assert np.mean([kept for _, kept in ours]) > 0.9


# The command


def test_the_command_scores_strategies(path, capsys):
    arguments = ["benchmark", "--table", str(path), "--strategy", "random", "--seeds", "3"]
    assert main([*arguments, "--strategy", "evolution", "--evaluations", "40"]) == 0
    text = capsys.readouterr().out
    assert "272 designs of small, 3 trainings each" in text
    for word in ("at 10", "at 20", "at 40", "regret", "excess", "random", "evolution"):
        assert word in text


def test_the_command_scores_explanations(path, capsys):
    arguments = ["benchmark", "--table", str(path), "--explanations", "--seeds", "1"]
    assert main([*arguments, "--strategy", "random", "--evaluations", "40"]) == 0
    text = capsys.readouterr().out
    for word in ("precision", "coverage", "winkler", "importance", "marginal means"):
        assert word in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strategy", "evolutoin"], "Did you mean 'evolution'"),
        (["--table", "nowhere.parquet"], "nothing is at nowhere.parquet"),
        (["--explanations", "--evaluations", "5"], "expected 20 or more"),
    ],
)
def test_what_the_command_cannot_do(path, arguments, message, capsys):
    given = [] if "--table" in arguments else ["--table", str(path)]
    assert main(["benchmark", *given, *arguments]) == 1
    assert message in capsys.readouterr().err


def test_scoring_starts_without_torch_and_ray():
    code = (
        "import sys, raynas.benchmark.replay, raynas.benchmark.explained, raynas.commands\n"
        "print(*sys.modules)"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert not {"torch", "ray"} & set(done.stdout.split())

"""What is kept of trials says the same as looking into each of them again, to the last bit."""

import numpy as np
import pytest

from raynas.objective import Constraint, Objective
from raynas.strategies.comparable import comparable_losses, fitness
from raynas.strategies.compared import Compared
from raynas.trial import Trial
from tests.spaces import CELL

DESIGN = next(CELL.enumerate())
THREE = tuple(map(Objective.parse, ("accuracy:max", "params:min", "flops:min")))
SMALL = (Constraint("params", "max", 0.7),)


def made_up(rng, number, digits):
    """A trial that was stopped after one or two epochs, or finished after four."""
    epochs = int(rng.choice([1, 2, 4]))
    curve = [{"accuracy": round(float(rng.random()), digits)} for _ in range(epochs)]
    if rng.random() < 0.1:
        curve[0] = {}  # an epoch without a reading
    costs = {name: round(float(rng.random()), digits) for name in ("params", "flops")}
    metrics = {"accuracy": 0.5, **costs, **curve[-1]}
    status = "finished" if epochs == 4 else "stopped_early"
    return Trial(number, DESIGN, status, metrics, fidelity=epochs, curve=curve)


@pytest.mark.parametrize("digits", [1, 16])
@pytest.mark.parametrize("constraints", [(), SMALL])
@pytest.mark.parametrize("objectives", [1, 3])
def test_it_says_what_looking_again_says(objectives, constraints, digits):
    rng, wanted = np.random.default_rng(objectives), THREE[:objectives]
    compared, trials = Compared(wanted, constraints), []
    for number in range(150):
        trials.append(made_up(rng, number, digits))
        compared.add(trials[-1])
        losses = compared.comparable()
        assert np.array_equal(losses, comparable_losses(trials, wanted))
        assert np.array_equal(compared.newest(), losses[-1])
        expected = fitness(trials, wanted, constraints)
        assert all(map(np.array_equal, compared.fitness(), expected))
        if rng.random() < 0.2:
            trials.pop()
            compared.take_back()
        elif len(trials) > 20:
            kept = rng.permutation(len(trials))[: rng.integers(1, 20)]
            trials = [trials[i] for i in kept]
            compared.keep(kept)
        assert compared.trials == trials


def test_epochs_at_which_nobody_was_stopped_any_more_are_forgotten():
    compared = Compared(THREE)
    rng = np.random.default_rng(0)
    trials = [made_up(rng, n, 16) for n in range(12)]
    for trial in trials:
        compared.add(trial)
    assert sorted(compared.stops) == [1, 2]
    compared.keep([i for i, t in enumerate(trials) if t.fidelity != 1])
    assert compared.stops == [2]
    compared.keep([i for i, t in enumerate(compared.trials) if t.fidelity == 4])
    assert compared.stops == []
    assert compared.plain

"""Which strategy is taken for a person who does not choose."""

import numpy as np
import pytest

from raynas.objective import Objective
from raynas.strategies import make
from search_spaces.layered import SPACE as LAYERED
from tests.spaces import CELL

ONE = (Objective.parse("accuracy:max"),)
TWO = (*ONE, Objective.parse("params:min"))


@pytest.mark.parametrize(
    ("space", "objectives", "trials", "taken"),
    [
        (CELL, ONE, CELL.size, "random, for all 250 designs can be tried"),
        (CELL, ONE, CELL.size - 1, "predictor"),
        (LAYERED, TWO, 100, "predictor"),
        (LAYERED, TWO, None, "predictor"),
        (LAYERED, ONE, 10_000, "evolution, for 10,000 trials"),
        (LAYERED, TWO, 10_000, "nsga2"),
    ],
)
def test_it_picks_and_says_why(space, objectives, trials, taken):
    strategy = make("auto", space, objectives, trials=trials)
    note = strategy.ask(np.random.default_rng(0), []).reason.note
    assert f"auto takes {taken}" in note

"""Search strategies: pure ask/tell objects. To add one: write its file, add its row."""

from collections.abc import Callable

from raynas.objective import Objective
from raynas.space import Space
from raynas.strategies.base import SpaceExhausted, Strategy
from raynas.strategies.evolution import RegularizedEvolution
from raynas.strategies.random_search import RandomSearch

__all__ = ["STRATEGIES", "SpaceExhausted", "Strategy"]

STRATEGIES: dict[str, Callable[[Space, tuple[Objective, ...]], Strategy]] = {
    "evolution": RegularizedEvolution,
    "random": RandomSearch,
}

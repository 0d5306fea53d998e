"""Small spaces and a made-up metric that several tests share."""

from raynas.architecture import Architecture, Decision
from raynas.space import Space
from raynas.strategies import STRATEGIES

EDGE = ("none", "skip", "conv1x1", "conv3x3", "avgpool3x3")
CELL = Space(
    "tiny_cell",
    (
        Decision("input_to_a", EDGE, "what carries the input to node a"),
        Decision("input_to_out", EDGE, "what bypasses node a"),
        Decision("a_to_out", EDGE, "what carries node a to the output"),
        Decision("width", (16, 32), "channels", ordered=True),
    ),
)


def _same_network(architecture: Architecture) -> str:
    """With `a_to_out` none, nobody sees what goes into node a."""
    dead = architecture["a_to_out"] == "none"
    return str(tuple(o for n, o in architecture.choices if not (dead and n == "input_to_a")))


MERGED = Space("tiny_cell", CELL.decisions, canonical=_same_network)

TREE = Space(
    "tree",
    (
        Decision("depth", (1, 2, 3), "layers", ordered=True),
        Decision("layer0.width", (8, 16), "channels", ordered=True),
        Decision("layer1.kind", ("a", "b"), "kind", when=("depth", frozenset({2, 3}))),
        Decision("layer1.bonus", (True, False), "more", when=("layer1.kind", frozenset({"b"}))),
        Decision("layer2.rate", (0.1, 0.5, 1.0), "rate", True, ("depth", frozenset({3}))),
    ),
)

SCALED = Space(
    "scaled",
    (
        Decision("scale", (-1, 0, 1, 2, 3), "how often the FLOPs double", ordered=True),
        Decision(
            "depth_growth", (1.0, 1.1, 1.2, 1.5, 2.0), "blocks", True, ("scale", {-1, 1, 2, 3})
        ),
        Decision(
            "width_growth",
            (1.0, 1.1, 1.2, 1.25, 1.3, 1.4),
            "channels",
            True,
            ("scale", {-1, 1, 2, 3}),
        ),
        Decision("width", (16,), "channels of the base"),
    ),
)


def score(architecture: Architecture) -> dict[str, float]:
    """More 3x3 convolutions are better, and cost more."""
    convolutions = sum(o == "conv3x3" for o in architecture.options.values())
    return {
        "accuracy": convolutions / 3,
        "params": 100.0 * convolutions + float(architecture["width"]),
        "flops": 7.0 * convolutions,
    }


def home(strategy: str, otherwise: Space) -> Space:
    """The space to test a strategy in: one that it can search."""
    return SCALED if STRATEGIES[strategy.partition(":")[0]].scales else otherwise

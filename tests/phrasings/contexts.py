"""The situations that phrasings are read in, by the names that before.yaml and after.yaml use."""

from functools import cache

import search_spaces
from raynas.architecture import Architecture
from raynas.directives import Directive, Turn, fold
from raynas.feedback import Context
from raynas.problem import Problem

LAYERED = (
    "layered{num_layers=4} "
    "layer0{type=conv filter_size=16 kernel_size=3 activation=relu skip_connection=false} "
    "layer1{type=separable_conv filter_size=32 kernel_size=3 activation=relu skip_connection=true} "
    "layer2{type=conv filter_size=32 kernel_size=5 activation=gelu skip_connection=false} "
    "layer3{type=separable_conv filter_size=64 kernel_size=3 activation=swish skip_connection=true}"
)
READINGS = {"accuracy": 0.912, "params": 24_310.0, "flops": 3_100_000.0}
BEST = {"accuracy": (0.93, 9), "params": (2_000.0, 3)}


def _context(space_name, design=None, trial=None, layers=(), readings=None, best=None, **state):
    space = search_spaces.find(space_name)
    problem = Problem(**state.get("problem", {}))
    if isinstance(design, str) and design in space.known:
        design = space.architecture(space.known[design].options)
    elif isinstance(design, str):
        design = space.parse(design)
    elif design is not None:
        design = space.fit(Architecture(space.name, tuple(design.items())))
    return Context(
        fold(problem, space, state.get("turns", ())),
        design,
        trial,
        layers,
        dict(READINGS if readings is None else readings),
        dict(BEST if best is None else best),
    )


def _layered():
    """Trial 17, four layers; accuracy and params are the objectives; nothing is bounded."""
    return _context("layered", LAYERED, 17)


def _layered_timed():
    """The same design on a device: latency 4 ms and 100 kB are known, accuracy and latency_ms are
    the objectives, at most 50,000 parameters, and a reference point of 12,155 parameters."""
    aim = Directive("aim", "smaller", metric="params", sense="max", bound=12_155.0)
    return _context(
        "layered",
        LAYERED,
        17,
        readings={**READINGS, "latency_ms": 4.0, "model_size_kb": 100.0},
        best={"accuracy": (0.93, 9), "latency_ms": (1.5, 12)},
        problem={"objectives": ["accuracy", "latency_ms"], "constraints": {"max_params": 50_000}},
        turns=(Turn(1, 0.0, "feedback", "smaller", (aim,), 10),),
    )


def _layered_bare():
    """Before anything was tried: no design is under discussion and there are no readings."""
    return _context("layered", readings={}, best={})


def _nasbench201():
    """Trial 5. Its six edges are cell.node1.from_0 to cell.node3.from_2."""
    design = {
        "cell.node1.from_0": "nor_conv_3x3",
        "cell.node2.from_0": "skip_connect",
        "cell.node2.from_1": "nor_conv_1x1",
        "cell.node3.from_0": "avg_pool_3x3",
        "cell.node3.from_1": "none",
        "cell.node3.from_2": "nor_conv_3x3",
    }
    return _context("nasbench201", design, 5)


def _mobile():
    """Trial 8 is mobilenet_v3_large; network layers 0 to 2 are counted, layer 1 is the first block
    of stage 1."""
    blocks = ("stage1.block0.kernel", "stage1.block0.expansion")
    layers = (("stem", ("stem.width", "stem.activation")), ("stage1.block0", blocks), ("pool", ()))
    return _context("mobile", "mobilenet_v3_large", 8, layers)


def _vit():
    """Trial 2 is deit_tiny: 12 blocks of 3 heads."""
    return _context("vit", "deit_tiny", 2)


def _darts():
    """Trial 4 is darts_v2."""
    return _context("darts", "darts_v2", 4)


def _hierarchical():
    """Trial 6: the first options of everything, but 2 cells and a width of 32."""
    return _context("hierarchical", {"cells": 2, "width": 32}, 6)


def _network():
    """Trial 3 is resnet18."""
    return _context("network", "resnet18", 3)


CONTEXTS = {
    "layered": _layered,
    "layered_timed": _layered_timed,
    "layered_bare": _layered_bare,
    "nasbench201": _nasbench201,
    "mobile": _mobile,
    "vit": _vit,
    "darts": _darts,
    "hierarchical": _hierarchical,
    "network": _network,
}


@cache
def context(name):
    """A context by its name."""
    return CONTEXTS[name]()

"""How long a network, or a part of one, takes: timed with torch's benchmark utilities."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import nn

from raynas.space import Shape

BLOCK = 0.0005  # seconds of calls between two looks at the clock
ROUNDS = 5  # of the quickest of which the median counts: what else runs here comes and goes


@torch.inference_mode()
def latency_ms(
    network: nn.Module,
    input_shape: Shape,
    batch: int = 1,
    seconds: float = 0.1,
    threads: int | None = None,
) -> float:
    """The time of one pass of `batch` images, in milliseconds, on the network's device.

    The network is left in eval mode.

    Args:
        network: from images `[N, C, H, W]`.
        input_shape: (channels, height, width) of an image.
        batch: how many images pass at once.
        seconds: how long to measure.
        threads: on the processor; default: as many as torch uses now.
    """
    return float(latencies_ms([network], input_shape, batch, seconds, threads)[0])


@torch.inference_mode()
def latencies_ms(
    networks: Sequence[nn.Module],
    input_shape: Shape,
    batch: int = 1,
    seconds: float = 0.1,
    threads: int | None = None,
) -> list[float]:
    """As `latency_ms`, of several networks that take turns.

    Each gets ROUNDS turns. What counts is its quickest turn's median: where a machine is shared,
    the others make some turns slow and none quick.
    """
    device = _device(networks)
    images = torch.zeros(batch, *input_shape, device=device)
    passes = [partial(network.eval(), images) for network in networks]
    for one in passes:
        one()  # warms up
    return [min(times) for times in in_turns(passes, seconds, threads, device.type)]


def in_turns(
    calls: Sequence[Callable[[], Any]], seconds: float, threads: int | None, device: str
) -> list[list[float]]:
    """Milliseconds of each call: the median of each of its ROUNDS turns, which take `seconds`.

    On one thread of the processor the clock is the thread's: it stands while others have the
    core, which is no time that the network takes, and goes with the clock on the wall while they
    do not. Otherwise it is the clock on the wall.
    """
    # Here, because it looks for compilers when it is imported, and says what it does not find.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch.utils.benchmark import Timer
    from torch.utils.benchmark import timer as default_timer

    threads = threads or torch.get_num_threads()
    clock = time.thread_time if threads == 1 and device == "cpu" else default_timer
    timers = [
        Timer("call()", globals={"call": call}, num_threads=threads, timer=clock) for call in calls
    ]
    each = [timer.timeit(2).mean for timer in timers]
    times: list[list[float]] = [[] for _ in timers]
    for _ in range(ROUNDS):
        for timer, one, mine in zip(timers, each, times, strict=True):
            number = max(int(BLOCK / one), 1)
            blocks = max(round(seconds / ROUNDS / (number * one)), 1)
            mine.append(median(timer.timeit(number).mean for _ in range(blocks)) * 1000)
    return times


def _device(networks: Sequence[nn.Module]) -> torch.device:
    weights = (p.device for network in networks for p in network.parameters())
    return next(weights, torch.device("cpu"))

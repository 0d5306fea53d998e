"""An estimate for phones from operation counts: no measurement, and every report says so.

A network takes FLOPs / FLOPS_PER_MS + bytes moved / BYTES_PER_MS milliseconds. The two rates were
fitted, by least squares of the relative errors, to 60 of 137 random cells of NAS-Bench-201 as they
were measured on a Pixel 3 (HW-NAS-Bench: Li et al. 2021, arXiv:2103.10584; three cells without a
way through are left out). On the other 77 the median error is 15 % and the rank correlation 0.88.
For other networks, phones and runtimes, it says which design is slower rather than how slow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from torch import nn

from raynas.latency.calls import Call, calls_of
from raynas.space import Shape

FOLDED = ("batch_norm", "relu", "dropout", "identity")  # a phone's runtime folds them into others
FLOPS_PER_MS = 1.4e7
BYTES_PER_MS = 3.1e6


@dataclass(frozen=True)
class Counted:
    """Estimates as a `LatencyTable` does, from what each call computes and moves."""

    device: str = "mobile"
    note: str = "estimated from operation counts for a phone, not measured"
    threads: int = 1

    def estimate(self, build: Callable[[], nn.Module], input_shape: Shape) -> float:
        """Milliseconds that a network needs for one image; `build` as in `LatencyTable`."""
        flops, moved = counts(calls_of(build, input_shape))
        return flops / FLOPS_PER_MS + moved / BYTES_PER_MS


def mobile() -> Counted:
    """The estimate that `target_device="mobile"` means until a table is given."""
    return Counted()


def counts(calls: list[Call]) -> tuple[float, float]:
    """Floating point operations of calls, and the bytes that they read and write."""
    made = [call for call in calls if call.operation not in FOLDED]
    moved = sum(call.output.bytes + sum(t.bytes for t in call.tensors) for call in made)
    return sum(map(flops_of, made)), float(moved)


def flops_of(call: Call) -> float:
    """Of convolutions, matrix products and attention, two per multiply-add; of others, none."""
    shapes, out = [t.shape for t in call.tensors], prod(call.output.shape)
    if "conv" in call.operation:
        return 2.0 * out * prod(shapes[1][1:])
    if call.operation == "linear" or call.operation in ("matmul", "bmm", "mm"):
        return 2.0 * out * shapes[0][-1]
    if "attention" in call.operation:  # queries [.., L, E], keys [.., S, E]
        return 4.0 * out * shapes[1][-2]
    return 0.0

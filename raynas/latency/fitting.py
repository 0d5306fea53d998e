"""From what a network's calls take one by one to what the network takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from raynas.latency.calls import Call

HEAVY = ("conv", "linear", "matmul", "attention", "bmm", "einsum")  # parts of their names
PRIOR = 0.1
SUMS = np.array([0, 1, 1, 0, 0, 0])  # the features that are times
FEATURES = ("constant", "heavy_ms", "light_ms", "calls", "weights_mb", "activations_mb")


@dataclass(frozen=True)
class Fit:
    """The linear model of a network's time.

    A call that is timed alone, again and again, finds its weights and inputs in the cache and its
    function ready; in a network it does not. What that costs is learned from networks that were
    measured whole: one weight for each of FEATURES, none negative, by least squares of the
    relative errors.

    Attributes:
        weights: of the features, in their order.
        designs: how many networks it was fitted to.
        error: the median of their relative errors.
    """

    weights: tuple[float, ...]
    designs: int
    error: float

    def predict(self, features: Sequence[float]) -> float:
        """Milliseconds of a network with these features."""
        return float(np.dot(self.weights, features))


def features(calls: Sequence[Call], times: Mapping[str, float]) -> tuple[float, ...]:
    """The FEATURES of a network.

    Args:
        calls: what it does.
        times: milliseconds of each call, by its text.

    Returns:
        A one; the sum of the times of convolutions and matrix products; of all others; the number
        of calls; 10^6 bytes of weights that they read; and of what they write.
    """
    heavy = [any(word in call.operation for word in HEAVY) for call in calls]
    each = [times[call.text] for call in calls]
    return (
        1.0,
        sum(t for t, is_heavy in zip(each, heavy, strict=True) if is_heavy),
        sum(t for t, is_heavy in zip(each, heavy, strict=True) if not is_heavy),
        float(len(calls)),
        sum(call.weights for call in calls) / 1e6,
        sum(call.output.bytes for call in calls) / 1e6,
    )


def fitted(rows: Sequence[Sequence[float]], measured: Sequence[float]) -> Fit:
    """The model that suits networks best, and where they cannot tell, one that adds times up.

    Args:
        rows: the features of each.
        measured: milliseconds that each took as a whole.
    """
    target = np.asarray(measured)
    matrix = np.asarray(rows) / target[:, None]
    # Two more equations say, with PRIOR of the others' weight, that a sum counts once.
    held = PRIOR * np.sqrt((matrix**2).sum(axis=0)) * SUMS
    matrix, wanted = np.vstack([matrix, np.diag(held)[held > 0]]), np.ones(len(target))
    scale = np.maximum(np.abs(matrix).max(axis=0), 1e-12)
    weights = nnls(matrix / scale, np.concatenate([wanted, held[held > 0]]))[0] / scale
    matrix = matrix[: len(target)]
    errors = np.abs(matrix @ weights - 1)
    return Fit(tuple(float(w) for w in weights), len(target), float(np.median(errors)))

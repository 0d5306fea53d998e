"""The nodes of a Ray cluster, and what trials find room on them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import ray


class Cluster:
    """What is known of a cluster since the last `look`.

    Attributes:
        nodes: those that are alive: name, address, cpus, gpus, head (whether it is that).
        gone: how many nodes were lost.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._fitted = False
        self._one = threading.Lock()  # look at a time, else a node may be lost twice
        self.nodes: list[dict[str, Any]] = []
        self.gone = 0
        self.look()

    def look(self) -> None:
        """Asks Ray anew."""
        with self._one:
            alive = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
            self.gone += len(self._known - alive.keys())
            self._known = set(alive)
            self.nodes = [_described(node) for node in alive.values()]

    @property
    def has_gpus(self) -> bool:
        return any(node["gpus"] for node in self.nodes)

    @property
    def has_nodes_without_gpu(self) -> bool:
        """Besides those with one."""
        kinds = {bool(node["gpus"]) for node in self.nodes if node["cpus"]}
        return len(kinds) == 2

    def slots(self, cpus: float, gpus: float) -> int:
        """How many trials that ask for so much find room."""
        found = sum(_room(node["cpus"], node["gpus"], cpus, gpus) for node in self.nodes)
        self._fitted |= found > 0
        return found

    def had_room(self, cpus: float, gpus: float) -> bool:
        """Whether such a trial finds room, or did: then it is worth to wait for the next node."""
        return self.slots(cpus, gpus) > 0 or self._fitted

    def why_none(self, cpus: float, gpus: float) -> str:
        """What stands in the way of a trial that fits nowhere."""
        have = [f"{n['name']}: {n['cpus']:g} CPUs, {n['gpus']:g} GPUs" for n in self.nodes]
        return (
            f"a trial asks for {cpus:g} CPUs and {gpus:g} GPUs on one node, and no node has that "
            f"({'; '.join(have[:10]) or 'there are none'}). Lower --cpus-per-trial or "
            "--gpus-per-trial, start a node that has it, or say by --max-concurrent how many "
            "trials a cluster will have room for that is yet to grow."
        )


def _room(have_cpus: float, have_gpus: float, cpus: float, gpus: float) -> int:
    fits = [] if not cpus else [int(have_cpus // cpus)]
    if 0 < gpus < 1:
        fits.append(int(have_gpus) * int(1 / gpus + 1e-9))  # a trial is on one GPU
    elif gpus:
        fits.append(int(have_gpus // gpus))
    return min(fits, default=0)


def _described(node: Mapping[str, Any]) -> dict[str, Any]:
    have = node["Resources"]
    return {
        "name": node["NodeName"]
        if node["NodeName"] != node["NodeManagerAddress"]
        else node["NodeManagerHostname"],
        "address": node["NodeManagerAddress"],
        "cpus": have.get("CPU", 0.0),
        "gpus": have.get("GPU", 0.0),
        "head": "node:__internal_head__" in have,
    }

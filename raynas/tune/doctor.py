"""Why is nothing starting: what can be found out of a cluster and its nodes."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray
from ray import cloudpickle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raynas.files import place
from raynas.remote import Remote
from raynas.tune import machine

SECONDS = 120.0  # for a node to answer; trying a GPU alone may take 90
GREETING, JOINING = 40.0, 60.0  # seconds to speak to a head that listens, and to join it
TOKEN = (
    "Copy the head's ~/.ray/auth_token to the same place here (mode 600), and set "
    "RAY_AUTH_MODE=token; a token in RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH counts first."
)
GREET = """
import sys
from ray._private.services import canonicalize_bootstrap_address
from ray._raylet import GcsClient
GcsClient(address=canonicalize_bootstrap_address(sys.argv[1]))
"""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        about: what, in a word.
        text: what was found.
        todo: what to do about it; '' if nothing.
    """

    about: str
    verdict: Literal["ok", "warning", "problem"]
    text: str
    todo: str = ""


@dataclass(frozen=True, eq=False)  # each is itself, as their mappings cannot be hashed
class Node:
    """A node of the cluster, as Ray has it, and what it said of itself.

    Attributes:
        said: see `machine.look`; None if it did not answer.
        off: seconds by which its clock is ahead of the one here, at least.
    """

    id: str
    name: str
    address: str
    head: bool
    have: Mapping[str, float]
    free: Mapping[str, float]
    said: Mapping[str, Any] | None = None
    off: float = 0.0

    def __str__(self) -> str:
        return f"{self.name} ({self.address})"


@contextlib.contextmanager
def joined(address: str | None) -> Iterator[Check]:
    """Joins a cluster, or starts Ray here, for as long as it takes to look."""
    if ray.is_initialized():
        yield Check("cluster", "ok", "this process is part of it already")
        return
    check = _knock(address) or _join(address)
    try:
        yield check
    finally:
        if check.verdict != "problem":
            ray.shutdown()


def nodes(probe: tuple[str, str], try_gpu: bool, seconds: float) -> list[Node]:
    """Asks every node of the cluster what it is.

    Args:
        probe: see `machine.look`.
        try_gpu: whether to try one on every node, and not only where Ray knows of one.
        seconds: to wait for answers.
    """
    from ray._private.state import available_resources_per_node

    cloudpickle.register_pickle_by_value(machine)
    free = available_resources_per_node()
    alive = [node for node in ray.nodes() if node["Alive"]]
    task = ray.remote(num_cpus=0, max_retries=0)(machine.look)
    asked, sent = {}, time.time()
    for node in alive:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        trying = try_gpu or bool(node["Resources"].get("GPU"))
        asked[task.options(scheduling_strategy=there).remote(*probe, trying)] = node
    told: dict[str, tuple[Mapping[str, Any] | None, float]] = {}
    waiting, until = list(asked), time.monotonic() + seconds
    while waiting and time.monotonic() < until:
        done, waiting = ray.wait(waiting, timeout=max(0.0, until - time.monotonic()))
        for ref in done:
            told[asked[ref]["NodeID"]] = _answer(ref, sent)
    for ref in waiting:
        ray.cancel(ref, force=True)
    found = [
        _node(n, free.get(n["NodeID"], {}), *told.get(n["NodeID"], (None, 0.0))) for n in alive
    ]
    # Ray lists them in no order: the head first, then by name, the same at every look.
    return sorted(found, key=lambda n: (not n.head, n.name, n.address, n.id))


@contextlib.contextmanager
def probed(run: str | None) -> Iterator[tuple[tuple[str, str], Check | None]]:
    """Puts a small file where a run is or will be, for as long as it takes to look for it.

    Yields:
        its place and content, and what is wrong if it could not be put there.
    """
    if run is None:
        yield ("", ""), None
        return
    content = uuid.uuid4().hex
    where = place(run)
    folder = where if isinstance(where, Remote) else _existing(where.resolve())
    file = folder / f".doctor-{content[:8]}"
    try:
        file.write_bytes(content.encode())
    except Exception as error:  # a client of a store raises kinds of its own
        todo = "Give a --run that can be written, with the rights and credentials for it."
        text = f"{folder} cannot be written from here: {error}"
        yield ("", ""), Check("storage", "problem", text, todo)
        return
    try:
        yield (str(file), content), None
    finally:
        file.unlink(missing_ok=True)


def held_by() -> list[str]:
    """Who is at work on the cluster, as far as Ray tells: searches, and other programs."""
    from ray._private.state import jobs

    named = ray.util.list_named_actors(all_namespaces=True)
    said = [
        f"the search of {a['name'].partition(':')[2]}" for a in named if "archive:" in a["name"]
    ]
    for job in jobs():
        if not job["IsDead"] and job["DriverPid"] != os.getpid():
            what = str(job.get("Entrypoint") or "a program")[:80]
            said.append(f"{what!r} (process {job['DriverPid']} on {job['DriverIPAddress']})")
    return said


def pending() -> list[Mapping[str, float]]:
    """What tasks, actors and groups wait for that no node has free."""
    groups = ray.util.placement_group_table().values()
    return [
        bundle
        for group in groups
        if group["state"] in ("PENDING", "RESCHEDULING")
        for bundle in group["bundles"].values()
    ]


def ports() -> dict[str, int]:
    """The ports of the head through which programs can be run."""
    gcs = str(ray.get_runtime_context().gcs_address).rpartition(":")[2]
    return {"Ray itself": int(gcs), "the dashboard": 8265, "Ray Client": 10001}


def places(have: Mapping[str, float], cpus: float, gpus: float) -> int:
    """How many trials fit on a node with these resources at once."""
    fits = have.get("CPU", 0.0) / cpus if cpus else math.inf
    if gpus:
        cards = have.get("GPU", 0.0)
        fits = min(fits, int(1 / gpus + 1e-9) * cards if gpus < 1 else cards / gpus)
    return int(fits + 1e-9)


def _knock(address: str | None) -> Check | None:
    """What is wrong with an address, as far as can be told without joining, which may hang."""
    if address is None:
        return None
    if ":" not in address:
        return _greeted(address)
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except socket.gaierror:
        text = f"{host!r} is the name of no machine that this one knows"
        return Check(
            "cluster", "problem", text, "Give the head's address, as its start printed it."
        )
    except TimeoutError:
        text = f"{address} does not answer: a firewall or another network is between"
        todo = "Run this on a node, or open the port for this machine alone."
        return Check("cluster", "problem", text, todo)
    except (OSError, ValueError) as error:
        text = f"nothing listens at {address} ({error})"
        todo = "Start the head: ray start --head --port=6379; or give the port that it has."
        return Check("cluster", "problem", text, todo)
    return None if address.startswith("ray://") else _greeted(address)


def _greeted(address: str) -> Check | None:
    """Lets a process of its own speak to the head: what goes wrong is said to its terminal only."""
    greeting = subprocess.Popen(
        [sys.executable, "-c", GREET, address], stderr=subprocess.PIPE, text=True
    )
    late = threading.Timer(GREETING, greeting.kill)
    late.start()
    assert greeting.stderr is not None
    try:
        for line in greeting.stderr:
            if "Unauthenticated" in line or "AuthenticationError" in line:
                text = (
                    f"the cluster at {address} refuses the token of this machine, or asks for one"
                )
                return Check("authentication", "problem", text, TOKEN)
            if "ConnectionError" in line:
                text = f"no cluster was found: {line.partition(': ')[2].strip()}"
                return Check("cluster", "problem", text, "Start one: ray start --head.")
        if greeting.wait() < 0:
            text = f"what listens at {address} does not speak as a head does"
            todo = "Is it the port of Ray itself (6379), and the same version of Ray?"
            return Check("cluster", "problem", text, todo)
    finally:
        late.cancel()
        greeting.kill()
        greeting.wait()
        greeting.stderr.close()
    return None


def _join(address: str | None) -> Check:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    failed: list[BaseException] = []

    def start(**where: Any) -> None:
        try:
            ray.init(**where, **quiet)
        except BaseException as error:
            failed.append(error)

    if address is None:  # not in a thread: what Ray starts ends with the thread that started it
        what = "Ray on this machine"
        start(address="local", include_dashboard=False)
    else:
        what = f"the cluster at {address}"
        thread = threading.Thread(target=start, kwargs={"address": address}, daemon=True)
        thread.start()
        thread.join(JOINING)
        if thread.is_alive():
            text = f"{what} listens, but does not let this process in within {JOINING:g} s"
            return Check("cluster", "problem", text, "Is it the same version of Ray?")
    if failed:
        return _refused(what, failed[0])
    return Check("cluster", "ok", f"joined {what}")


def _refused(what: str, error: BaseException) -> Check:
    text = str(error).strip() or type(error).__name__
    if isinstance(error, ray.exceptions.AuthenticationError) or "token" in text.lower():
        return Check(
            "authentication", "problem", f"{what} refuses the token of this machine", TOKEN
        )
    first = text.splitlines()[0][:300]
    todo = "Start one: ray start --head; a program joins from a node (or leave --address away)."
    if "ersion" in text:
        todo = "Install the same Ray and Python here as on the head."
    return Check("cluster", "problem", f"{what} cannot be joined: {first}", todo)


def _answer(ref: Any, sent: float) -> tuple[Mapping[str, Any] | None, float]:
    received = time.time()
    try:
        said: Mapping[str, Any] = ray.get(ref)
    except Exception as error:  # whatever it is, the node cannot do what a trial needs
        return {"failed": f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"}, 0.0
    ahead, behind = said["ended"] - received, sent - said["began"]
    return said, ahead if ahead > 0 else -max(behind, 0.0)


def _node(node: Mapping[str, Any], free: Mapping[str, float], said: Any, off: float) -> Node:
    have = node["Resources"]
    head = "node:__internal_head__" in have
    return Node(
        node["NodeID"], node["NodeManagerHostname"], node["NodeManagerAddress"], head, have, free,
        said, off,
    )  # fmt: skip


def _existing(path: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(p for p in (path, *path.parents) if p.is_dir())

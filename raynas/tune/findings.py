"""What the answers of a cluster's nodes mean: pure functions from nodes to checks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raynas.tune.doctor import Check, Node, places

GIB = 2.0**30
LEAST_MEMORY = 1.0 * GIB  # for a trial: its process alone takes 0.4 to 0.6 with torch
LEAST_DISK = 2.0 * GIB
CLOCK = (2.0, 300.0)  # seconds off that are worth saying, and from which stores refuse requests


def answers(nodes: Sequence[Node], seconds: float) -> Iterator[Check]:
    """Whether every node does what it is asked."""
    for node in nodes:
        if node.said is None:
            text = f"{node} does not answer within {seconds:g} s"
            todo = (
                "Is it overloaded or cut off? On it: ray status, and /tmp/ray/session_latest/logs."
            )
            yield Check("nodes", "problem", text, todo)
        elif "failed" in node.said:
            text = f"{node} cannot run a task: {node.said['failed']}"
            yield Check("nodes", "problem", text, "Read /tmp/ray/session_latest/logs on that node.")
    good = _good(nodes)
    if len(good) == len(nodes):
        yield Check("nodes", "ok", f"{_count(nodes)}, and all answer: {_names(nodes)}")


def versions(nodes: Sequence[Node], ours: Mapping[str, Any]) -> Iterator[Check]:
    """Whether Python and packages are the same here and everywhere."""
    bad = False
    for name in ("python", *ours["packages"]):

        def of(said: Mapping[str, Any], name: str = name) -> str:
            return str(said["python"] if name == "python" else said["packages"].get(name, ""))

        other = [(n, of(n.said or {})) for n in _good(nodes) if of(n.said or {}) != of(ours)]
        if not other:
            continue
        bad = True
        listed = ", ".join(f"{v or 'none'} on {n}" for n, v in other)
        needed = name in ("python", "raynas", "ray", "torch")
        none = [n for n, v in other if not v]
        yield Check(
            "versions",
            "problem" if needed and (none or name in ("raynas", "ray")) else "warning",
            f"{name}: {of(ours) or 'none'} here, {listed}",
            f"Install {name} {of(ours)} on every node, in the Python that starts Ray there.",
        )
    for name, code in ours["code"].items():
        other_code = [
            n for n in _good(nodes) if n.said and n.said["code"].get(name) not in ("", code)
        ]
        if other_code:
            bad = True
            text = f"{name}: its code on {_names(other_code)} is another than here"
            yield Check("versions", "warning", text, "Install the same checkout everywhere.")
    if not bad and _good(nodes):
        told = ", ".join(f"{n} {v}" for n, v in ours["packages"].items() if v)
        yield Check("versions", "ok", f"the same everywhere: Python {ours['python']}, {told}")


def resources(
    nodes: Sequence[Node], cpus: float, gpus: float, waiting: Sequence[Mapping[str, float]],
    holders: Sequence[str],
) -> Iterator[Check]:  # fmt: skip
    """Whether trials fit on the nodes, and whether there is room for them now."""
    ask = f"a trial asks for {_amounts({'CPU': cpus, 'GPU': gpus})}"
    if gpus > 1 and gpus % 1:
        text, todo = f"{ask}", "More than one GPU must be a whole number: --gpus-per-trial 1 or 2."
        yield Check("resources", "problem", text, todo)
        return
    room = {node: places(node.have, cpus, gpus) for node in nodes}
    without = [n for n in nodes if not room[n]]
    lacks = [f"{n} has {_amounts(n.have)}: {_lack(n.have, cpus, gpus)}" for n in without]
    if len(without) == len(nodes):
        todo = "Lower --cpus-per-trial or --gpus-per-trial, or add a node that has so much."
        yield Check("resources", "problem", f"{ask}, which no node has: {'; '.join(lacks)}", todo)
        return
    listed = ", ".join(f"{count} on {n}" for n, count in room.items() if count)
    rest = f"; none on: {'; '.join(lacks)}" if lacks else ""
    yield Check("resources", "ok", f"{ask}: room for {sum(room.values())} ({listed}){rest}")
    left = {node: places(node.free, cpus, gpus) for node in nodes}
    by = f"; at work: {', '.join(holders)}" if holders else ""
    full = [n for n in nodes if room[n] and not left[n]]
    if not sum(left.values()):
        text = f"no place is free now, on {_names(full)}{by}"
        todo = "Wait for what runs there, end it, or add a node."
        yield Check("room", "warning", text, todo)
    else:
        some = f"; full: {_names(full)}" if full else ""
        yield Check(
            "room", "ok", f"free now: {sum(left.values())} of {sum(room.values())}{some}{by}"
        )
    if waiting:
        amounts = sorted({_amounts(w) for w in waiting})
        never = [w for w in waiting if not any(_fits(w, n.have) for n in nodes)]
        text = f"{len(waiting)} waiting for room ({'; '.join(amounts)})"
        if never:
            text += f", of which {len(never)} fit on no node"
        yield Check("waiting", "warning" if never else "ok", text)


def gpus_known(nodes: Sequence[Node], asked: float) -> Iterator[Check]:
    """Whether the GPUs of a node are known to Ray, and whether torch can use them."""
    fine = []
    for node in _good(nodes):
        assert node.said is not None
        real, known = len(node.said["gpus"]), node.have.get("GPU", 0.0)
        count, wrong = node.said["torch"] or (0, "")
        if real > known:
            text = f"{node} has {real} GPUs, of which Ray knows {known:g}"
            todo = f"Start Ray there with --num-gpus={real}, and CUDA_VISIBLE_DEVICES unset."
            yield Check("GPUs", "warning", text, todo)
        if known > max(real, count):
            text = f"Ray believes that {node} has {known:g} GPUs, but there are {max(real, count)}"
            yield Check(
                "GPUs",
                "problem",
                text,
                "Start Ray there without --num-gpus, or install the driver.",
            )
        if (known or real) and wrong and known <= max(real, count):
            text = f"torch cannot use the GPUs of {node}: {wrong}"
            todo = "Install a build of torch for its driver (pytorch.org/get-started)."
            yield Check("GPUs", "problem" if asked else "warning", text, todo)
        if known and known <= real <= count:
            fine.append(f"{known:g} on {node}")
    if fine:
        yield Check("GPUs", "ok", f"known to Ray and used by torch: {', '.join(fine)}")


def memory(nodes: Sequence[Node], cpus: float, gpus: float) -> Iterator[Check]:
    """Whether the memory of nodes is enough for as many trials as they would run."""
    shares = {
        n: n.said["memory"][0] / max(1, places(n.have, cpus, gpus)) for n in _good(nodes) if n.said
    }
    small = {n: share for n, share in shares.items() if 0 < share < LEAST_MEMORY}
    if small:
        listed = ", ".join(f"{share / GIB:.1f} GiB on {n}" for n, share in small.items())
        todo = "A process with torch takes half a GiB before any data: raise --cpus-per-trial."
        yield Check("memory", "warning", f"per trial: {listed}", todo)
    elif shares:
        yield Check("memory", "ok", f"per trial at least {min(shares.values()) / GIB:.1f} GiB")


def disks(nodes: Sequence[Node]) -> Iterator[Check]:
    """Whether temporary files and the object store have room."""
    low = []
    for node in _good(nodes):
        for path, told in (node.said or {})["disks"].items():
            if told and told[0] < (LEAST_DISK if path != "/dev/shm" else LEAST_DISK / 8):
                low.append(
                    f"{told[0] / GIB:.2f} of {told[1] / GIB:.1f} GiB free in {path} on {node}"
                )
        store, shm = (
            node.have.get("object_store_memory", 0.0),
            (node.said or {})["disks"]["/dev/shm"],
        )
        if shm and store > shm[1]:
            text = (
                f"{node}: /dev/shm has {shm[1] / GIB:.2f} GiB, Ray's object store {store / GIB:.2f}"
            )
            todo = "It then lies on disk, which is slow: in a container, --shm-size=4g or more."
            yield Check("disks", "warning", text, todo)
    if low:
        todo = "Make room: Ray stops when temporary files fill a disk to 95 %."
        yield Check("disks", "warning", "; ".join(low), todo)
    elif _good(nodes):
        yield Check("disks", "ok", "temporary files and shared memory have room on every node")


def storage(nodes: Sequence[Node], place: str, run: str) -> Iterator[Check]:
    """Whether nodes see what was put where the run is."""
    if not place:
        return
    bad = {n: str((n.said or {})["storage"]) for n in _good(nodes) if (n.said or {})["storage"]}
    for node, wrong in bad.items():
        text = f"{node} does not see {run} as it is here: {wrong}"
        if "://" in run:
            todo = "Give that node the store's client, credentials, endpoint and network."
        else:
            todo = "Use a folder that all machines share at the same path (NFS), or s3:// or gs://."
        if not node.head:
            todo += " The head alone writes a run: this matters if it moves there."
        yield Check("storage", "problem" if node.head else "warning", text, todo)
    if not bad and _good(nodes):
        yield Check("storage", "ok", f"{run} is the same for here and for {_names(_good(nodes))}")


def authentication(nodes: Sequence[Node], alone: bool) -> Iterator[Check]:
    """Whether a token is asked for, and on all nodes."""
    modes: dict[str, list[Node]] = defaultdict(list)
    for node in _good(nodes):
        modes[str((node.said or {})["auth"]).lower()].append(node)
    if set(modes) == {"token"}:
        yield Check(
            "authentication", "ok", "every node asks for the token, and this one's is right"
        )
    elif "token" in modes:
        rest = [n for mode, some in modes.items() if mode != "token" for n in some]
        text = f"RAY_AUTH_MODE=token is not set on {_names(rest)}, but on others"
        yield Check(
            "authentication", "problem", text, "Set it where Ray is started there, on every node."
        )
    elif modes and not alone:
        text = "no token is asked for: who reaches a port of the cluster can run any program on it"
        todo = "Set RAY_AUTH_MODE=token on every node: cluster/README.md, Security."
        yield Check("authentication", "warning", text, todo)


def ports(nodes: Sequence[Node], known: Mapping[str, int], token: bool) -> Iterator[Check]:
    """Whether ports that run programs listen for all networks."""
    for node in _good(nodes):
        heard = [f"{what} ({p})" for what, p in known.items() if p in (node.said or {})["open"]]
        if node.head and heard:
            text = f"{node} listens for all networks: {', '.join(heard)}"
            todo = "Let a firewall close them to all but the nodes; the dashboard through a tunnel."
            yield Check("ports", "ok" if token else "warning", text, "" if token else todo)


def clocks(nodes: Sequence[Node]) -> Iterator[Check]:
    """Whether clocks agree."""
    off = {n: n.off for n in _good(nodes) if abs(n.off) > CLOCK[0]}
    for node, seconds in off.items():
        text = (
            f"{node}: at least {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} here"
        )
        verdict: Any = "problem" if abs(seconds) > CLOCK[1] else "warning"
        yield Check("clocks", verdict, text, "Let NTP set it (chrony): stores refuse 15 minutes.")
    if not off and _good(nodes):
        yield Check("clocks", "ok", f"within {CLOCK[0]:g} s of each other")


def _good(nodes: Sequence[Node]) -> list[Node]:
    return [n for n in nodes if n.said is not None and "failed" not in n.said]


def _names(nodes: Sequence[Node]) -> str:
    return ", ".join(map(str, nodes[:12])) + (
        f" and {len(nodes) - 12} more" if len(nodes) > 12 else ""
    )


def _count(nodes: Sequence[Node]) -> str:
    return f"{len(nodes)} node{'' if len(nodes) == 1 else 's'}"


def _amounts(have: Mapping[str, float]) -> str:
    named = [(name, have.get(name, 0.0)) for name in ("CPU", "GPU")]
    return " and ".join(f"{v:g} {name}{'' if v == 1 else 's'}" for name, v in named)


def _lack(have: Mapping[str, float], cpus: float, gpus: float) -> str:
    asked = {"CPU": cpus, "GPU": gpus}
    short = [n for n, v in asked.items() if have.get(n, 0.0) < v]
    return " and ".join(f"no {n}" if not have.get(n) else f"too few {n}s" for n in short)


def _fits(ask: Mapping[str, float], have: Mapping[str, float]) -> bool:
    return all(have.get(name, 0.0) >= amount for name, amount in ask.items())

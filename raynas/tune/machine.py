"""What a machine says of itself: sent to every node as it stands here, also where RayNAS is not
installed. So it uses the standard library alone, at its top."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

PACKAGES = ("raynas", "ray", "torch", "numpy", "pyarrow", "pandas")
OURS = ("raynas", "search_spaces")
TRY_GPU = """
import json, torch
found = torch.cuda.device_count()
if not found:
    built = torch.version.cuda or torch.version.hip
    print(json.dumps([0, "it finds none" if built else "this build of torch is for CPUs only"]))
else:
    ones = torch.ones(64, 64, device="cuda")
    assert float((ones @ ones).sum()) == 64.0 ** 3
    print(json.dumps([found, ""]))
"""


def look(place: str, content: str, try_gpu: bool) -> dict[str, Any]:
    """All that is asked of a node.

    Args:
        place: a file or object that holds `content`; '' if none is to be looked for.
        try_gpu: whether to compute something on a GPU, if there may be one.
    """
    began = time.time()
    cards = gpus()
    own = [str(Path(place).parent)] if place and "://" not in place else []
    return {
        "began": began,
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "code": {name: digest(name) for name in OURS},
        "memory": memory(),
        "disks": {path: free(path) for path in (tempfile.gettempdir(), "/dev/shm", *own)},
        "gpus": cards,
        "torch": torch_gpu() if try_gpu or cards else None,
        "auth": os.environ.get("RAY_AUTH_MODE", ""),
        "open": listening(),
        "storage": storage(place, content) if place else "",
        "ended": time.time(),
    }


def version(name: str) -> str:
    """Of an installed package; '' if there is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def digest(name: str) -> str:
    """A checksum of a package's source: two checkouts may say that they are the same version."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.origin:
        return ""
    folder, total = Path(spec.origin).parent, 0
    for file in sorted(folder.rglob("*.py")):
        total = zlib.crc32(str(file.relative_to(folder)).encode() + file.read_bytes(), total)
    return f"{total:08x}"


def memory() -> tuple[float, float]:
    """Bytes of memory: in all (of the container, if it is in one), and free."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0.0, 0.0
    told = {line.split(":")[0]: 1024.0 * float(line.split()[1]) for line in lines}
    total, left = told.get("MemTotal", 0.0), told.get("MemAvailable", 0.0)
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limit = float(Path(file).read_text())
        except (OSError, ValueError):  # `max`: there is none
            continue
        total = min(total, limit)
    return total, min(left, total)


def free(path: str) -> tuple[float, float] | None:
    """Bytes free and in all of the disk that a path is on; None if there is no such path."""
    try:
        told = shutil.disk_usage(path)
    except OSError:
        return None
    return float(told.free), float(told.total)


def gpus() -> list[dict[str, Any]]:
    """The GPUs that the driver of NVIDIA knows."""
    what = ["--query-gpu=name,memory.total,memory.used", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            ["nvidia-smi", *what], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    found = []
    for line in done.stdout.splitlines():
        name, *numbers = (cell.strip() for cell in line.split(","))
        total, used = (float(n) if n.replace(".", "").isdigit() else 0.0 for n in numbers)
        found.append({"name": name, "mb": total, "used_mb": used})
    return found


def torch_gpu() -> tuple[int, str]:
    """How many GPUs torch can use here, and what is wrong if it cannot use any.

    In a process of its own: what fails may end it, and Ray hides GPUs from who did not ask.
    """
    seen = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES" or v}
    try:
        done = subprocess.run(
            [sys.executable, "-c", TRY_GPU], capture_output=True, text=True, timeout=90, env=seen
        )
        count, wrong = json.loads(done.stdout.splitlines()[-1])
        return int(count), str(wrong)
    except subprocess.TimeoutExpired:
        return 0, "it does not answer within 90 s"
    except (OSError, ValueError, IndexError):
        return 0, (done.stderr.strip().splitlines() or ["its process died"])[-1][:300]


def listening() -> list[int]:
    """Ports at which something listens for all networks."""
    found = set()
    for file, anywhere in (("tcp", "00000000"), ("tcp6", 32 * "0")):
        try:
            rows = Path(f"/proc/net/{file}").read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            local, state = (row.split()[i] for i in (1, 3))
            address, _, port = local.partition(":")
            if state == "0A" and address == anywhere:
                found.add(int(port, 16))
    return sorted(found)


def storage(place: str, content: str) -> str:
    """What is wrong with a file or object that should hold something; '' if all is well."""
    try:
        if "://" in place:
            from raynas.files import place as at

            found = at(place).read_bytes().decode()
        else:
            found = Path(place).read_text()
    except FileNotFoundError:
        return "it is not there"
    except Exception as error:  # a client of a store raises kinds of its own
        return f"{type(error).__name__}: {error}"[:300]
    return "" if found == content else "something else is there"

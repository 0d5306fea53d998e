"""What every figure here must be read with: the machine and the versions."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path


def header() -> None:
    """Prints cores, load and versions; a high load means that others used the machine too."""
    cores = len(os.sched_getaffinity(0))
    print(f"machine: {cores} cores ({_processor()}), load {os.getloadavg()[0]:.1f} at the start")
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "ray", "raynas"))
    print(f"versions: python {platform.python_version()}, {versions}", flush=True)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()

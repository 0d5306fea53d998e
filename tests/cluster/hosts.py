"""Hosts made of Linux namespaces, for a real `ray up` on one machine.

Each host has a network, processes, mounts and a name of its own, sshd, and an own home, /tmp/ray
and shared memory; the rest of the disk is shared, as with NFS. Nothing changes in the machine's
own network. A host is switched off by killing its first process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

NEEDED = ("ip", "unshare", "nsenter", "sshd", "ssh", "ssh-keygen", "rsync")
NET = "10.77.0"  # in namespaces of its own: no other network can see it
SCRIPT = Path(__file__).with_name("host.sh")


def why_not() -> str:
    """What this machine lacks for hosts of namespaces; '' if nothing."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs Linux and root, to make hosts of namespaces"
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    if missing := [name for name in NEEDED if shutil.which(name, path=path) is None]:
        return (
            f"needs {', '.join(missing)} (packages iproute2, util-linux, openssh-server, "
            "openssh-client, rsync)"
        )
    tried = subprocess.run(["unshare", "-n", "-p", "-m", "-u", "-f", "true"], capture_output=True)
    return "" if tried.returncode == 0 else "may not make namespaces here"


@dataclass
class Hosts:
    """Hosts 1, 2, ... at 10.77.0.11, ... and a launcher beside them, from which `ray up` is run."""

    folder: Path
    prefix: str = field(default_factory=lambda: f"raynas{os.getpid()}")
    _first: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def key(self) -> Path:
        return self.folder / "id"

    def address(self, number: int) -> str:
        return f"{NET}.{10 + number}"

    def start(self) -> None:
        """Makes the keys and the switch that all hosts hang on."""
        self.folder.mkdir(parents=True)
        (self.folder / "home").mkdir()
        for name in ("id", "hostkey"):
            key = str(self.folder / name)
            _do(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
        _do(["ip", "netns", "add", self._switch])
        on = ["ip", "-n", self._switch]
        _do([*on, "link", "set", "lo", "up"])
        _do([*on, "link", "add", "br0", "type", "bridge"])
        _do([*on, "addr", "add", f"{NET}.1/24", "dev", "br0"])
        _do([*on, "link", "set", "br0", "up"])

    def add(self, number: int) -> None:
        """Switches a host on, and waits until it can be entered."""
        name, own = self._name(number), self.folder / f"host{number}"
        own.mkdir(exist_ok=True)
        _do(["ip", "netns", "add", name])
        switch, host, port = ["ip", "-n", self._switch], ["ip", "-n", name], f"v{number}"
        _do([*switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name])
        _do([*switch, "link", "set", port, "master", "br0", "up"])
        _do([*host, "link", "set", "lo", "up"])
        _do([*host, "addr", "add", f"{self.address(number)}/24", "dev", "eth0"])
        _do([*host, "link", "set", "eth0", "up"])
        _do([*host, "route", "add", "default", "via", f"{NET}.1"])
        spaces = ["unshare", "-p", "-m", "-u", "-f", "--kill-child", "--mount-proc"]
        inside = [str(SCRIPT), f"host{number}", self.address(number), str(self.folder), str(own)]
        with (own / "log").open("wb") as log:
            self._first[number] = subprocess.Popen(
                ["ip", "netns", "exec", name, *spaces, "bash", *inside, str(self.folder / "home")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        knock = f"echo > /dev/tcp/{self.address(number)}/22"
        for _ in range(100):
            if self.run(["bash", "-c", knock]).returncode == 0:
                return
            time.sleep(0.1)
        raise RuntimeError(f"host {number} has no sshd: {(own / 'log').read_text()}")

    def run(
        self, command: Sequence[str], timeout: float = 120, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command where `ray up` is run: outside all hosts, but on their network."""
        return subprocess.run(
            ["ip", "netns", "exec", self._switch, *command],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=env,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    def cut_off(self, number: int) -> None:
        """Pulls a host's network cable; it goes on by itself."""
        _do(["ip", "-n", self._switch, "link", "set", f"v{number}", "down"])

    def switch_off(self, number: int) -> None:
        """Takes the power of a host: all its processes end at once."""
        first = self._first.pop(number)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(first.pid, signal.SIGKILL)
        first.wait(10)
        _do(["ip", "netns", "del", self._name(number)])

    def stop(self) -> None:
        """Switches off what is on, and removes the network."""
        for number in list(self._first):
            self.switch_off(number)
        subprocess.run(["ip", "netns", "del", self._switch], capture_output=True, check=False)

    @property
    def _switch(self) -> str:
        return f"{self.prefix}-switch"

    def _name(self, number: int) -> str:
        return f"{self.prefix}-host{number}"


def _do(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")

"""`cluster/on-premises.yaml` for real, on hosts made of namespaces (see `hosts.py`)."""

from __future__ import annotations

import os
import secrets
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from raynas import load
from tests.cluster.hosts import Hosts, why_not

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "can run here"),
]
HERE = Path(sys.executable).parent
TRIALS = 30


class Cluster:
    """Three machines in one file, of which the third is off at first; one CPU each for trials."""

    def __init__(self, folder: Path) -> None:
        self.hosts, self.token = Hosts(folder / "hosts"), folder / "token"
        self.file = folder / "cluster.yaml"
        self.began = time.monotonic()

    def start(self) -> None:
        self.hosts.start()
        self.hosts.add(1)
        self.hosts.add(2)
        self.token.write_text(secrets.token_hex(32))
        self.token.chmod(0o600)
        self.file.write_text(yaml.safe_dump(self._config()))

    def ray(self, *arguments: str, token: bool = True) -> str:
        """What a `ray` command said, run outside all hosts."""
        environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token"}
        environment["RAY_AUTH_TOKEN_PATH" if token else "RAY_AUTH_TOKEN"] = (
            str(self.token) if token else "not the token"
        )
        done = self.hosts.run([str(HERE / "ray"), *arguments], env=environment)
        return f"{done.stdout}\n{done.stderr}\nexit code {done.returncode}"

    def on_head(self, command: str) -> str:
        return self.ray("exec", str(self.file), command)

    def wait(self, what: str, seconds: float, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
            time.sleep(1)
        print(f"{time.monotonic() - self.began:6.1f} s: {what}")

    def _config(self) -> dict[str, object]:
        """The file that people are given; only what tells of the machines is changed.

        The hosts share a disk that has the package, and there is no network to install it from.
        """
        file = Path(__file__).parents[2] / "cluster" / "on-premises.yaml"
        config: dict[str, object] = yaml.safe_load(file.read_text())
        config["cluster_name"] = self.hosts.prefix
        workers = [self.hosts.address(2), self.hosts.address(3)]
        config["provider"] = {
            "type": "local",
            "head_ip": self.hosts.address(1),
            "worker_ips": workers,
        }
        config["auth"] = {"ssh_user": "root", "ssh_private_key": str(self.hosts.key)}
        config["file_mounts"] = {"~/.ray/auth_token": str(self.token)}
        link = f"mkdir -p ~/raynas-env && ln -sfn {shlex.quote(str(HERE))} ~/raynas-env/bin"
        config["setup_commands"] = [link, config["setup_commands"][-1]]
        for key in ("head_start_ray_commands", "worker_start_ray_commands"):
            small = "ray start --num-cpus=1 --object-store-memory=200000000"
            config[key] = [command.replace("ray start", small) for command in config[key]]
        return config


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.hosts.stop()


def test_a_search_outlives_a_worker_and_takes_in_another(cluster, tmp_path):
    run = tmp_path / "runs" / "the first's"
    said = cluster.ray("up", "-y", str(cluster.file))
    assert "exit code 0" in said, said
    cluster.wait("2 nodes", 60, lambda: "/2.0 CPU" in cluster.on_head("ray status"))
    address = f"{cluster.hosts.address(1)}:6379"
    assert "exit code 0" in cluster.ray("status", "--address", address)
    refused = cluster.ray("status", "--address", address, token=False)
    assert "exit code 0" not in refused, refused

    search = (
        f"raynas search --address auto --trials {TRIALS} --epochs 3 --objective accuracy:max "
        f"--max-params 100000 --scheduler none --run {shlex.quote(str(run))}"
    )
    cluster.on_head(f"setsid nohup {search} > ~/search.log 2>&1 < /dev/null &")

    def nodes() -> set[str]:
        if not (run / "run.json").exists():
            return set()
        trials = load(run).trials
        return set(trials.loc[trials["status"] == "finished", "node"])

    cluster.wait("both hosts finished trials", 90, lambda: nodes() >= {"host1", "host2"})
    before = load(run).trials.set_index("number")["status"]
    cluster.hosts.cut_off(2)
    cluster.hosts.switch_off(2)
    cluster.hosts.add(3)
    cluster.wait("the new host finished trials", 120, lambda: "host3" in nodes())
    outside = cluster.hosts.run([str(HERE / "raynas"), "status", str(run)])
    assert "best so far" in outside.stdout, outside.stderr
    cluster.wait(
        "the search is done", 180, lambda: "report.html" in cluster.on_head("tail -n 1 search.log")
    )
    trials = load(run).trials
    designs = trials[trials["status"] != "infeasible"]
    assert trials["number"].is_unique
    assert set(before.index) <= set(trials["number"])
    assert set(designs["status"]) == {"finished"}
    assert len(designs) == TRIALS
    said = cluster.ray("down", "-y", str(cluster.file))
    assert "No nodes remaining" in said, said
    print(f"{time.monotonic() - cluster.began:6.1f} s: down")

"""What `cluster/` holds is what Ray accepts, and closed to the world; no cloud is asked."""

import copy
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from raynas.cli import _parser

FOLDER = Path(__file__).parents[1] / "cluster"
FILES = {
    name: yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    for name in ("aws", "gcp", "on-premises", "kubernetes-rayjob")
}
LAUNCHED = ("aws", "gcp", "on-premises")
JOB = FILES["kubernetes-rayjob"]


@pytest.mark.parametrize("name", LAUNCHED)
def test_ray_accepts_the_file(name):
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(FILES[name]))
    validate_config(prepared)
    assert all(
        node.get("min_workers", 0) <= node["max_workers"] <= prepared["max_workers"]
        for node in prepared["available_node_types"].values()
    )


@pytest.mark.parametrize("name", LAUNCHED)
def test_every_node_asks_for_the_token_and_the_dashboard_stays_inside(name):
    given = FILES[name]
    assert given["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        (start,) = (c for c in given[key] if "ray start" in c)
        assert "RAY_AUTH_MODE=token" in start.split("ray start")[0]
    assert any("RAY_AUTH_MODE=token" in command for command in given["setup_commands"])
    head = " ".join(given["head_start_ray_commands"])
    assert re.findall(r"--dashboard-host=(\S+)", head) == ["127.0.0.1"]


@pytest.mark.parametrize("name", LAUNCHED)
def test_commands_are_shell(name, tmp_path):
    given = FILES[name]
    keys = (
        "initialization_commands",
        "setup_commands",
        "head_start_ray_commands",
        "worker_start_ray_commands",
    )
    commands = [command for key in keys for command in given.get(key, [])]
    script = tmp_path / "commands.sh"
    script.write_text("\n".join(commands))
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_on_amazon_only_the_group_given_decides_who_may_enter():
    """Without one Ray makes a group that opens port 22 to the world."""
    nodes = FILES["aws"]["available_node_types"].values()
    assert all(node["node_config"]["SecurityGroupIds"] for node in nodes)
    assert all(node["node_config"]["MetadataOptions"]["HttpTokens"] == "required" for node in nodes)


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_workers_are_spot_and_the_head_is_not(name):
    given = FILES[name]
    for kind, node in given["available_node_types"].items():
        settings = json.dumps(node["node_config"])
        assert ("spot" in settings.lower()) == (kind != given["head_node_type"])


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_no_worker_costs_without_a_search_and_no_trial_is_on_the_head(name):
    given = FILES[name]
    for kind, node in given["available_node_types"].items():
        if kind == given["head_node_type"]:
            assert node["resources"]["CPU"] == 0
        else:
            assert node["min_workers"] == 0 < node["max_workers"]


def test_the_kubernetes_job_asks_for_the_token_and_has_limits():
    assert (JOB["apiVersion"], JOB["kind"]) == ("ray.io/v1", "RayJob")
    spec = JOB["spec"]
    assert spec["shutdownAfterJobFinishes"]
    assert spec["activeDeadlineSeconds"] > 0
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert spec["rayClusterSpec"]["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    groups = spec["rayClusterSpec"]["workerGroupSpecs"]
    assert all(group["minReplicas"] == 0 < group["maxReplicas"] for group in groups)
    assert "--max-concurrent" in spec["entrypoint"]


def test_the_kubernetes_pods_are_of_one_image_and_ask_for_what_they_are_limited_to():
    cluster = JOB["spec"]["rayClusterSpec"]
    pods = [g["template"]["spec"] for g in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    containers = [pod["containers"][0] for pod in pods]
    assert len({container["image"] for container in containers}) == 1
    for container in containers:
        assert container["resources"]["requests"] == container["resources"]["limits"]


def test_the_kubernetes_job_is_the_ray_that_is_pinned():
    pinned = re.search(r"ray\[tune\]>=(\d+\.\d+)", (FOLDER.parent / "pyproject.toml").read_text())
    assert pinned is not None
    assert JOB["spec"]["rayClusterSpec"]["rayVersion"].startswith(pinned[1])


def test_the_kubernetes_entrypoint_is_what_the_command_line_takes():
    """It passes through several shells: none of them may find anything to expand."""
    bash, flag, script = shlex.split(JOB["spec"]["entrypoint"])
    assert (bash, flag) == ("bash", "-c")
    assert not set(script) & set("$`\"'\\")
    commands = re.findall(r"raynas ([^;]+)", script)
    assert [command.split()[0] for command in commands] == ["status", "resume", "search"]
    for command in commands:
        _parser().parse_args(shlex.split(command))

"""A search on a cluster that an autoscaler makes from nothing, and takes down again.

Run by `test_autoscaling.py` in namespaces of its own; Ray's fake provider starts the nodes as
processes. Prints what was seen as JSON.
"""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import raynas
import raynas.tune  # before ray, which reads its environment when imported

import ray  # isort: skip

from tests.spaces import CELL, score

WORKERS = 3
SECONDS = 3.0  # of a trial
TRIALS = 14
CONFIG = {
    "cluster_name": "fake",
    "max_workers": WORKERS,
    "provider": {
        "type": "fake_multinode",
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    },
    "head_node_type": "ray.head.default",
    "available_node_types": {
        "ray.head.default": {
            "resources": {"CPU": 0, "object_store_memory": 100 * 2**20},
            "node_config": {},
            "max_workers": 0,
        },
        "worker": {
            "resources": {"CPU": 1, "object_store_memory": 100 * 2**20},
            "node_config": {},
            "min_workers": 0,
            "max_workers": WORKERS,
        },
    },
    "upscaling_speed": 1.0,
    "idle_timeout_minutes": 0.2,
    **{key: {} for key in ("auth", "docker", "file_mounts")},
    **{
        key: []
        for key in (
            "initialization_commands",
            "setup_commands",
            "head_setup_commands",
            "worker_setup_commands",
            "head_start_ray_commands",
            "worker_start_ray_commands",
            "cluster_synced_files",
            "rsync_exclude",
            "rsync_filter",
        )
    },
    "file_mounts_sync_continuously": False,
}


def main(folder: Path) -> None:
    file = folder / "autoscaling.json"
    file.write_text(json.dumps(CONFIG))
    command = ["ray", "start", "--head", "--num-cpus=0", f"--autoscaling-config={file}"]
    environment = {**os.environ, "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1"}
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    seen: list[tuple[float, int]] = []
    began, ended = time.monotonic(), threading.Event()
    ray.init(address="auto", log_to_driver=False, logging_level="ERROR")

    def watch() -> None:
        while not ended.wait(0.2):
            workers = sum(n["Alive"] and "CPU" in n["Resources"] for n in ray.nodes())
            if not seen or seen[-1][1] != workers:
                seen.append((round(time.monotonic() - began, 1), workers))

    def evaluate(architecture):
        time.sleep(SECONDS)
        return score(architecture)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    result = raynas.search(
        {"objectives": ["accuracy:max", "params:min"]},
        space=CELL,
        evaluator=evaluate,
        trials=TRIALS,
        explanation_level="brief",
        gpus_per_trial=0,
        max_concurrent=WORKERS,
        address="auto",
        run=folder / "run",
    )
    done, until = time.monotonic() - began, time.monotonic() + 90
    while seen[-1][1] and time.monotonic() < until:
        time.sleep(0.5)
    ended.set()
    thread.join()
    statuses = result.trials["status"].astype(str).tolist()
    print(json.dumps({"workers": seen, "statuses": statuses, "search": round(done, 1)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

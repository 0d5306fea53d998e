"""A cluster without workers grows while a search has trials for it, and shrinks afterwards."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.hosts import why_not

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "can run here"),
]
ROOT = Path(__file__).parents[2]


def test_a_cluster_grows_from_nothing_to_its_limit_and_back(tmp_path):
    # Namespaces of its own: what is left of the cluster ends with the first process in them.
    alone = ["unshare", "--fork", "--pid", "--mount-proc", "--net", "--kill-child"]
    inside = f"ip link set lo up && exec {sys.executable} -m tests.cluster.autoscaling {tmp_path}"
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [*alone, "sh", "-c", inside],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert not done.returncode, done.stderr[-3000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    print(seen)
    workers = [count for _, count in seen["workers"]]
    assert workers[0] == 0
    assert max(workers) == 3
    assert workers[-1] == 0
    assert seen["statuses"] == ["finished"] * 14

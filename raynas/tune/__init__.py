"""Searches on Ray: the only folder that imports ray.

`driver.run` starts or joins a cluster and drives a session through Ray Tune.
"""

import os

# Before ray is imported: quiet, local, and without a copy of `uv run` in front of every worker.
for _name, _value in {
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # it prints a banner even when told to be quiet
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "100000",  # the archive is the truth, not Tune's snapshots
    "TUNE_MAX_PENDING_TRIALS_PG": "1000000",  # the searcher has a limit of its own
}.items():
    os.environ.setdefault(_name, _value)

"""Before any test: the networks here are small, and threads would wait for each other."""

import os
import sys

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _one_thread():
    """Takes threads back that a test gave torch: where cores are busy they wait for each other."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)

"""A run that is killed at any moment continues to the weights of one that was not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 20


@pytest.mark.slow
def test_killed_at_twenty_random_moments_the_weights_are_the_same(encoder, reviews, tmp_path):
    worker = Path(__file__).with_name("kill_worker.py")
    root = Path(__file__).parents[2]
    command = [sys.executable, str(worker), str(encoder), str(reviews), str(tmp_path), str(KILLS)]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes = json.loads(done.stdout.splitlines()[-1])
    assert len(outcomes) == KILLS
    assert all(outcome["killed"] for outcome in outcomes), outcomes
    assert all(outcome["equal"] for outcome in outcomes), outcomes
    assert len({outcome["newest"] for outcome in outcomes}) > 3, "moments all over the run"

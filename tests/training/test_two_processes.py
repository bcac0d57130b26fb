"""Under torchrun the processes are one run: one of them claims, writes and logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lorakit.runs.checkpoints import newest_whole


@pytest.mark.slow
@pytest.mark.parametrize("compiled", ["off", "on"])
def test_two_processes_are_one_run_and_go_on_from_a_whole_checkpoint(
    compiled, encoder, reviews, tmp_path
):
    output = tmp_path / "run"
    program = "lorakit" if compiled == "off" else "tests.training.compiled_worker"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["-m", program, "train", "--base", str(encoder), "--data", str(reviews)]
    command += ["--set", f"training.compile={compiled}"]
    command += ["--output", str(output), "--set", "training.max_steps=4"]
    command += ["--set", "training.evaluations=2", "--set", "data.test=12"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def start() -> str:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    first = start()
    assert first.count("guessed from") == 1
    assert first.count("a compiled step takes") == (compiled == "on")
    assert json.loads((output / "result.json").read_text())["steps"] == 4
    whole = newest_whole(output / "checkpoints", print)
    assert whole is not None
    assert len([*whole.path.glob("rng_state_*.pth")]) == 2
    Path(whole.path / "scheduler.pt").unlink()
    (output / "result.json").unlink()
    said = start()
    assert said.count(f"{whole.path} is not used") == 1
    assert said.count(f"resuming from {output / 'checkpoints/checkpoint-2'}") == 1

"""Ctrl-C in a real terminal's way: the signal reaches a process that trains."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lorakit.runs.checkpoints import complete_checkpoints
from tests.cli.files import write_csv

LORAKIT = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
from lorakit.cli import main
main()
"""
TEXTS = [("a joy", "good"), ("a bore", "bad"), ("warm and wise", "good"), ("a mess", "bad")] * 16


def wait_for_checkpoint(process: subprocess.Popen[str], checkpoints: Path) -> None:
    """Until the run has written one; fails if the process ends before that."""
    deadline = time.monotonic() + 200
    while not complete_checkpoints(checkpoints):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no checkpoint"
        time.sleep(0.01)


@pytest.mark.slow
def test_ctrl_c_is_one_message_and_the_run_continues(small_bert, tmp_path):
    data = write_csv(tmp_path / "data.csv", [("text", "label"), *TEXTS])
    output = tmp_path / "run"
    command = [sys.executable, "-c", LORAKIT, "train", "--base", str(small_bert)]
    command += ["--data", str(data), "--output", str(output)]
    command += ["--set", "training.max_steps=200", "--set", "training.evaluations=10"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for_checkpoint(process, output / "checkpoints")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.strip() == f"Interrupted; the same command resumes the run in {output}."
    assert not (output / "result.json").exists()
    newest = complete_checkpoints(output / "checkpoints")[-1]
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert again.returncode == 0, again.stderr
    assert f"resuming from {newest}" in again.stdout
    assert json.loads((output / "result.json").read_text(encoding="utf-8"))["steps"] == 200
    log = json.loads((output / "log.json").read_text(encoding="utf-8"))
    assert [entry["step"] for entry in log] == list(range(4, 201, 4)), (
        "no step twice, none left out"
    )

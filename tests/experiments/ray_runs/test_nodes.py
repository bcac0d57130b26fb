"""Real Ray on loopback: two nodes, one of which is killed while it is at something."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.experiments.ray_runs.nodes import LOOPBACK, two_nodes

DRIVER = Path(__file__).with_name("squares.py")


def test_what_a_killed_node_was_at_is_done_elsewhere_once(tmp_path: Path) -> None:
    with two_nodes() as nodes:
        command = [sys.executable, str(DRIVER), nodes.address, str(tmp_path)]
        environment = {**os.environ, **LOOPBACK}
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, text=True
        ) as driver:
            assert driver.stdout is not None
            assert driver.stdout.readline() == "2\n", "a run for each core"
            assert driver.stdout.readline() == "hello hello\n", "asked of each node"
            assert driver.stdout.readline() == (
                "Lost(reason=\"ModuleNotFoundError: No module named 'only_here'\")\n"
            ), "as of lorakit, where a node has none"
            while len(list(tmp_path.glob("start-*"))) < 2:
                time.sleep(0.05)
            nodes.kill_second("square")
            (tmp_path / "go").touch()
            lines = driver.stdout.read().splitlines()
    assert driver.returncode == 0
    answers = [line for line in lines if not line.endswith(" None")]
    assert sorted(answers) == [
        "-1 Lost(reason='ValueError: -1 is negative')",
        "2 4",
        "3 9",
        "4 16",
    ]
    assert Counter(lines)["2 None"] == 1, "the start of a call that is made again is told once"
    starts = Counter(file.name.split("-")[1] or "-1" for file in tmp_path.glob("start-*"))
    assert starts.total() == 5, "one was made again, and one that failed was not"

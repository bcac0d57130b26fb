"""A sweep on two nodes, one of which is killed midway, as its user sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lorakit.recipe.yaml_file import mapping_text
from tests.experiments.ray_runs.nodes import LOOPBACK, two_nodes
from tests.training import tiny

pytestmark = pytest.mark.slow

RUNS = 4


def command(place: Path, address: str) -> subprocess.Popen[str]:
    arguments = ["-m", "lorakit", "compare", "sweep.yaml", "--ray", address, "--json"]
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=place,
        env={**os.environ, **LOOPBACK},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def results(place: Path) -> dict[Path, tuple[int, int]]:
    """When each result was written, and as which file."""
    found = {file: file.stat() for file in place.rglob("result.json")}
    return {file: (stat.st_mtime_ns, stat.st_ino) for file, stat in found.items()}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    tiny.save_encoder(tmp_path / "base")
    tiny.save_reviews(tmp_path / "reviews.csv")
    sweep = {
        "output": "runs",
        "base": "./base",
        "settings": {"data.train": "reviews.csv", "training.epochs": 20},
        "tasks": {"reviews": {"data.task": "classification"}},
        "methods": ["lora"],
        "seeds": [0, 1, 2, 3],
    }
    (tmp_path / "sweep.yaml").write_text(mapping_text(sweep))
    return tmp_path


@pytest.mark.timeout(900)
def test_no_run_of_a_killed_node_is_lost_and_none_is_made_twice(place: Path) -> None:
    with two_nodes() as nodes:
        with command(place, nodes.address) as driver:
            nodes.kill_second("train_here")
            table, said = driver.communicate()
        assert driver.returncode == 0, said
        cells = [cell for row in json.loads(table)["rows"] for cell in row["cells"]]
        [cell] = [cell for cell in cells if cell["seeds"]]  # the baseline has none
        assert (cell["seeds"], len(cell["values"])) == ([0, 1, 2, 3], RUNS)
        made = results(place)
        assert len(made) == RUNS
        with command(place, nodes.address) as again:
            assert again.communicate()[0] == table
        assert results(place) == made


@pytest.mark.timeout(900)
def test_a_killed_sweep_goes_on_with_what_is_left(place: Path) -> None:
    with two_nodes() as nodes:
        with command(place, nodes.address) as driver:
            while not (first := results(place)):
                assert driver.poll() is None
            driver.kill()
        nodes.wait_until_idle("train_here")
        first = results(place)
        assert len(first) < RUNS
        with command(place, nodes.address) as again:
            said = again.communicate()[1]
        assert again.returncode == 0, said
        made = results(place)
        assert len(made) == RUNS
        assert first.items() <= made.items(), "what was finished is as it was"

"""Results are read when their files change, and not before."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lorakit.experiments import results
from lorakit.experiments.results import result_in
from tests.experiments.sweeps import Runs, result, run, sweep

RECIPE = {"method": "lora", "data": {}, "training": {"seed": 0}, "output": "o", "base": "b"}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read from now on."""
    found: list[Path] = []
    content = results.result_content

    def reading(file: Path) -> dict[str, object]:
        found.append(file)
        return content(file)

    monkeypatch.setattr(results, "result_content", reading)
    return found


def write(directory: Path, accuracy: float) -> None:
    (directory / "new").write_text(json.dumps(result(RECIPE, {"accuracy": accuracy})))
    os.replace(directory / "new", directory / "result.json")


def test_a_result_is_read_again_when_its_file_has_changed(tmp_path: Path, read) -> None:
    assert result_in(tmp_path) is None
    for accuracy in (0.5, 0.6):
        write(tmp_path, accuracy)
        for _ in range(3):
            found = result_in(tmp_path)
            assert found is not None
            assert found["metrics"]["accuracy"] == accuracy
    assert len(read) == 2
    (tmp_path / "result.json").unlink()
    assert result_in(tmp_path) is None


def test_a_sweep_reads_each_result_once(tmp_path: Path, read) -> None:
    rates = {"training.learning_rate": [0.1, 0.2]}
    run(sweep(tmp_path, choose=rates), Runs())
    assert len(read) == len(set(read)) == 2 * 2 * (2 + 2)

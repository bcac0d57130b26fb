"""A run that is measured on its validation set calls nothing of it a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lorakit.runs.model_card import model_card
from lorakit.runs.publishing import open_run
from tests.cli.files import write_csv


def test_metrics_of_the_validation_set_are_called_so(
    run: Any, small_bert: Path, tmp_path: Path
) -> None:
    rows = [("text", "label"), *[("a joy", "good"), ("a bore", "bad")] * 8]
    data, output = write_csv(tmp_path / "data.csv", rows), tmp_path / "run"
    values = {
        "data.measured_on": "validation",
        "data.validation": 4,
        "training.max_steps": 1,
        "training.learning_rate": "1e-3",
    }
    place = ["--base", small_bert, "--data", data, "--output", output]
    settings = [f"--set={name}={value}" for name, value in values.items()]
    code, out, err = run("train", *place, *settings)
    assert code == 0, err
    assert "4 validation rows after 1 steps" in out
    code, out, err = run("evaluate", output)
    assert code == 0, err
    assert "its validation set" in out
    card = model_card(open_run(output, "user/run"))
    assert "| 4 validation rows | |" in card
    assert "rows: 10 train, 4 validation\n" in card

"""The end of a run says that it learned nothing, and what to try."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorakit.training import train
from tests.training import tiny

STILL = {"max_steps": 1, "learning_rate": 1e-12, "check": "off", "evaluations": 1}
"""Nothing moves."""


def result_and_lines(base: Path, data: Path, output: Path, **training: object) -> tuple:
    said: list[str] = []
    result = train(tiny.recipe(base, data, output, training=STILL | training), said.append)
    return result, said


def test_a_run_that_is_no_better_than_the_majority_says_so(encoder, reviews, tmp_path):
    result, said = result_and_lines(encoder, reviews, tmp_path)
    assert result.baseline is not None
    assert result.metrics["accuracy"] <= result.baseline["value"], "the test needs a bad run"
    line = next(line for line in said if line.startswith("No better than the majority class: "))
    assert "Try more steps (training.max_steps, now 1), another training.learning_rate" in line
    stored = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert stored["remarks"] == result.remarks
    assert line in result.remarks


def test_a_run_of_texts_is_compared_with_the_model_before_training(decoder, tmp_path):
    data = tiny.save_completions(tmp_path / "data.csv")
    still, _ = result_and_lines(decoder, data, tmp_path / "still")
    assert still.baseline is not None
    before = still.baseline["value"]
    assert before == pytest.approx(still.metrics["loss"], abs=1e-6)
    learned, said = result_and_lines(
        decoder, data, tmp_path / "learned", max_steps=12, learning_rate=0.02
    )
    assert learned.baseline == still.baseline
    assert learned.metrics["loss"] < before
    assert not any(line.startswith("No better") for line in said)

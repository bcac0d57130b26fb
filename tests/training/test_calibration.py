"""`data.thresholds: calibrate`: chosen on the validation set alone, kept with the task."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from lorakit.errors import ConfigError
from lorakit.inference import LoadOptions, evaluate, open_session, predict
from lorakit.recipe.data import split
from lorakit.recipe.schema import from_mapping
from lorakit.tables.reading import read_table
from lorakit.tasks.task_file import load_task
from lorakit.training import train
from tests.training import tiny


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tiny.save_encoder(tmp_path_factory.mktemp("base"), dropout=0.0)


def recipe(base: Path, place: Path, **data: Any) -> Any:
    """A run on texts with the labels `film` and `bad`, and twice `rare`."""
    draw, rows = random.Random(0), []
    for number in range(80):
        labels = [name for name in ("film", "bad") if draw.random() < 0.6]
        labels += ["rare"] if number in (3, 40) else []
        words = [draw.choice(tiny.OTHER[2:]) for _ in range(3)] + labels
        rows.append({"text": " ".join(words), "labels": labels})
    file = place / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return from_mapping({
        "base": str(base), "output": str(place / "run"),
        "data": {"train": str(file), "test": 16, "thresholds": "calibrate", **data},
        "training": {"max_steps": 4, "learning_rate": 0.01},
    })  # fmt: skip


def test_each_label_gets_the_threshold_of_the_best_f1_on_the_validation_set(base, tmp_path):
    lines: list[str] = []
    result = train(recipe(base, tmp_path, validation=32), lines.append)
    run = Path(result.output)
    task = load_task(run / "adapter")
    chosen = dict(zip(task.labels, task.thresholds, strict=True))
    assert chosen["rare"] == 0.5
    said = next(line for line in lines if "highest F1" in line)
    assert "32 validation rows" in said
    assert all(f"{label} {value:.3f}" in said for label, value in chosen.items())
    assert "0.5 is kept for labels of fewer than 10 of these rows: rare" in lines
    session = open_session(str(run))
    rows = split(session.recipe.data)["validation"]
    predicted = predict(session, rows, "rows", probabilities=True)
    for row, labels in zip(predicted.probabilities, predicted.values, strict=True):
        assert labels == [name for name in task.labels if row[name] > chosen[name]]
    half = open_session(str(run), LoadOptions(thresholds=(0.5,)))
    by_half, by_chosen = (evaluate(s, rows, "rows").metrics["f1_macro"] for s in (half, session))
    assert by_chosen > by_half
    assert evaluate(session, split(session.recipe.data)["test"], "test").metrics == pytest.approx(
        result.metrics
    )


def test_without_a_validation_set_a_share_of_training_is_set_apart(base, tmp_path):
    result = train(recipe(base, tmp_path), log=lambda text: None)
    assert result.examples["validation"] == 6
    assert len(read_table(str(tmp_path / "rows.jsonl"))) == 80


def test_a_task_without_thresholds_refuses_to_calibrate(base, tmp_path):
    file = tiny.save_reviews(tmp_path / "reviews.csv")
    with pytest.raises(ConfigError, match="has no thresholds"):
        train(recipe(base, tmp_path, train=str(file)), log=lambda text: None)

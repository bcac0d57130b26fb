"""Classes with one row: it stays in training, or what to change is said."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from lorakit.errors import ConfigError
from lorakit.recipe.data import split
from lorakit.recipe.data_config import DataConfig


def save(path: Path, labels: list[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([f"row {i}", label] for i, label in enumerate(labels))
    return path


def data(path: Path, **settings: object) -> DataConfig:
    known = {"task": "classification", "text": ["text"], "label": "label"}
    return DataConfig(str(path), **{**known, **settings})


def test_a_class_that_only_the_test_part_would_have_stays_in_training(tmp_path):
    labels = ["a", "b"] * 9 + ["rare", "1.0"]
    path, said = save(tmp_path / "rows.csv", labels), []
    for seed in range(8):
        tables = split(data(path, test=0.4, validation=4, split_seed=seed), said.append)
        assert {*tables["train"]["label"]} == {"a", "b", "rare", "1.0"}
        assert {*tables["test"]["label"], *tables["validation"]["label"]} <= {"a", "b"}
        assert sorted(text for table in tables.values() for text in table["text"]) == sorted(
            f"row {i}" for i in range(20)
        )
    expected = "data.test leaves 1 row in training, which would have no other with the label: rare"
    assert expected in said


def test_twenty_classes_of_one_row_say_what_to_change(tmp_path):
    path = save(tmp_path / "rows.csv", [f"class {i}" for i in range(20)])
    with pytest.raises(
        ConfigError, match=r"2 rows.*no other row has \(class 4, class 19\)"
    ) as info:
        split(data(path, test=0.1))
    assert "Have more rows of each label, or more rows in data.test" in str(info.value)


def test_a_blank_label_is_no_class_and_numbers_have_none(tmp_path):
    path = save(tmp_path / "rows.csv", [*"ab" * 5, ""])
    whole = split(data(path, test=10, split_seed=1))
    assert len(whole["train"]) + len(whole["test"]) == 11
    numbers = save(tmp_path / "numbers.csv", [str(i / 2) for i in range(11)])
    assert len(split(data(numbers, task="regression", test=10))["test"]) == 10

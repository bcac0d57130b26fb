"""`data.train_rows`: a part of the training rows."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from lorakit.errors import ConfigError
from lorakit.recipe import from_mapping
from lorakit.recipe.data import split, with_guesses
from lorakit.recipe.data_config import DataConfig

LABELS = ["a", "b"] * 19 + ["rare", "rare"]


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as opened:
        rows = ([f"row {i}", label] for i, label in enumerate(LABELS))
        csv.writer(opened).writerows([["text", "label"], *rows])
    return str(path)


def texts(file: str, train_rows: float | None, **settings: object) -> dict[str, list[str]]:
    known = {"task": "classification", "text": ["text"], "label": "label", "test": 10}
    data = DataConfig(file, train_rows=train_rows, **{**known, **settings})
    return {name: list(table["text"]) for name, table in split(data).items()}


@pytest.mark.parametrize(("train_rows", "count"), [(None, 30), (30, 30), (6, 6), (0.5, 15)])
def test_a_number_and_a_share_of_the_training_rows_are_drawn(file, train_rows, count):
    found = texts(file, train_rows)
    assert count <= len(found["train"]) <= count + 1
    assert found["test"] == texts(file, None)["test"]
    assert [t for t in texts(file, None)["train"] if t in found["train"]] == found["train"]


def test_a_smaller_part_is_in_a_larger_one(file):
    small, large = ({*texts(file, size, split_seed=3)["train"]} for size in (8, 20))
    assert small < large


def test_one_row_of_each_label_that_the_part_lacks_is_added(file):
    labels = dict(zip([f"row {i}" for i in range(len(LABELS))], LABELS, strict=True))
    for seed in range(8):
        train = texts(file, 2, split_seed=seed)["train"]
        assert {labels[text] for text in train} == {"a", "b", "rare"}
        assert len(train) <= 4


def test_more_rows_than_there_are_is_refused(file):
    with pytest.raises(ConfigError, match=r"train_rows is 31, and 30 rows of .* are left for tr"):
        texts(file, 31)
    with pytest.raises(ConfigError, match="train_rows is 0; it must be a share or a number"):
        texts(file, 0)


def test_what_is_derived_counts_the_rows_that_are_drawn(file):
    mapping = {"base": "b", "output": "o", "data": {"train": file, "train_rows": 10, "test": 10}}
    mapping["training"] = {"learning_rate": 1e-3}
    said: list[str] = []
    with_guesses(from_mapping(mapping), said.append)
    assert any(line.startswith("derived from 10 examples") for line in said)

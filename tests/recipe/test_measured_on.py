"""A run that is measured on its validation set sees nothing of the test set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.recipe.test_sources import save, tables_of


def texts(tables: dict[str, Any]) -> dict[str, set[str]]:
    return {name: set(table["text"][:]) for name, table in tables.items()}


def test_the_rows_of_the_test_set_are_the_same_and_are_in_no_table(tmp_path: Path) -> None:
    file = save(tmp_path / "a.csv", 0, 60)
    final = texts(tables_of(file, test=10))
    chosen = texts(tables_of(file, test=10, validation=5, measured_on="validation"))
    assert chosen["test"] == chosen["validation"]
    assert len(chosen["test"]) == 5
    assert len(chosen["train"]) == 45
    assert not final["test"] & (chosen["train"] | chosen["test"])
    assert final["train"] == chosen["train"] | chosen["test"]


def test_a_file_of_test_rows_is_not_read(tmp_path: Path) -> None:
    file = save(tmp_path / "a.csv", 0, 60)
    nowhere = str(tmp_path / "nowhere.csv")
    tables = tables_of(file, test=nowhere, validation=6, measured_on="validation")
    assert {name: len(table) for name, table in tables.items()} == {
        "train": 54, "validation": 6, "test": 6,
    }  # fmt: skip


def test_a_validation_file_is_what_is_measured_on(tmp_path: Path) -> None:
    file, other = save(tmp_path / "a.csv", 0, 60), save(tmp_path / "b.csv", 60, 70)
    tables = texts(tables_of(file, test=6, validation=other, measured_on="validation"))
    assert tables["test"] == {f"text {i}" for i in range(60, 70)}


@pytest.mark.parametrize(("measured_on", "rows"), [("validation", 6), ("test", None)])
def test_without_a_validation_set_it_is_a_tenth(tmp_path: Path, measured_on, rows) -> None:
    file, other = save(tmp_path / "a.csv", 0, 60), save(tmp_path / "b.csv", 60, 70)
    tables = tables_of(file, test=other, measured_on=measured_on)
    assert len(tables.get("validation", ())) == (rows or 0)

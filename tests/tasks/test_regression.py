"""Numbers with a decimal comma are read as what they are, or refused."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from lorakit.errors import ConfigError
from lorakit.tables import read_table
from lorakit.tasks.columns import make_task, resolve
from lorakit.tasks.spec import Columns
from lorakit.tasks.task_file import load_task, save_task

COLUMNS = Columns("regression", ("text",), "score")


def table(*scores: str) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"text": ["a"] * len(scores), "score": [*scores]})


def test_ratings_between_semicolons_have_decimal_commas(tmp_path: Path) -> None:
    file = tmp_path / "ratings.csv"
    file.write_text("text;score\ngood, really;4,5\nso so;3\nbad;-1,25\n")
    rows = read_table(str(file))
    assert resolve(rows, Columns()) == COLUMNS
    task = make_task(rows, COLUMNS, 8)
    assert [task.target(cell) for cell in rows["score"]] == [4.5, 3.0, -1.25]
    assert task.remarks(None, rows) == [
        "The numbers of score are read with decimals after a comma."
    ]


def test_the_decimal_mark_stays_with_the_task(tmp_path: Path) -> None:
    save_task(make_task(table("1,5", "2"), COLUMNS, 8), tmp_path)
    task = load_task(tmp_path)
    assert task is not None
    assert task.target("0,5") == 0.5
    with pytest.raises(ConfigError, match=r"'0\.5', .* after a comma as in training"):
        task.target("0.5")


@pytest.mark.parametrize("given", [Columns(), COLUMNS])
def test_thousands_or_decimals_are_refused(given: Columns) -> None:
    with pytest.raises(ConfigError, match=r"'1,234' may be .* three decimals, or one of thousands"):
        resolve(table("1,234", "12,500", "3"), given)


def test_a_comma_before_three_digits_is_decimal_beside_another() -> None:
    rows = table("1,234", "12,5")
    assert make_task(rows, COLUMNS, 8).target("1,234") == 1.234


def test_both_marks_in_one_column_are_refused() -> None:
    with pytest.raises(ConfigError, match="'3,5', which is not a finite number: row 1"):
        resolve(table("3,5", "4.5"), COLUMNS)

"""Rows with their predictions, in files that read back."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorakit.errors import SaveError
from lorakit.runs.prediction_files import check_output, write_predictions
from lorakit.tables.json_cells import table_of
from lorakit.tables.reading import read_table

ROWS = {"text": ["a", "b"], "id": [2**70, 1], "calls": [[{"x": None}], [{"y": "\u00e9"}]]}


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv"])
def test_columns_that_nobody_read_are_written_as_they_are(tmp_path: Path, suffix: str) -> None:
    rows = {**ROWS, "note": ["half \ud83d", "\u00e9"]}
    write_predictions(tmp_path / f"p{suffix}", table_of(rows), ["c", "d"])
    table = read_table(str(tmp_path / f"p{suffix}"))
    assert table["prediction"][:] == ["c", "d"]
    if suffix == ".jsonl":
        assert {name: table[name][:] for name in rows} == rows


def test_a_place_is_checked_without_a_trace_and_made_with_the_file(tmp_path: Path) -> None:
    output = tmp_path / "new" / "deep" / "p.csv"
    check_output(output, overwrite=False)
    assert list(tmp_path.iterdir()) == []
    write_predictions(output, table_of(ROWS), ["c", "d"])
    assert output.is_file()


@pytest.mark.parametrize("name", ["file/new", "link/new", f"new/{'x' * 300}"], ids=lambda n: n[:9])
def test_a_directory_that_cannot_be_made_is_refused_at_once(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    there = sorted(tmp_path.iterdir())
    with pytest.raises(SaveError, match="cannot be written"):
        check_output(tmp_path / name / "p.csv", overwrite=False)
    assert sorted(tmp_path.iterdir()) == there

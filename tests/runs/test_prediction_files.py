"""Rows with their predictions, in files that read back."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorakit.runs.prediction_files import write_predictions
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

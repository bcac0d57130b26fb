"""Each cell reads as it was written, whatever the others of its column are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorakit.errors import FormatError
from lorakit.runs.prediction_files import write_predictions
from lorakit.tables.json_cells import JsonCell, table_of
from lorakit.tables.reading import read_table

CALLS = [[{"arguments": {"text": "hey"}}], [{"arguments": {"x": None, "y": [{"z": 1}]}}]]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5
)


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def deep(depth: int, key: str | None = None) -> Any:
    """Lists in each other, or objects of that key."""
    value: Any = 1
    for _ in range(depth - 1):
        value = [value] if key is None else {key: value}
    return value


def in_parquet(path: Path, columns: dict[str, Any]) -> str:
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return str(path)


@given(st.lists(VALUES, min_size=1))
def test_a_column_of_any_values_reads_as_it_was_written(values: list[Any]) -> None:
    cells = table_of({"a": values})["a"][:]
    assert cells == values
    assert table_of({"a": [[value] for value in values]})["a"][:] == [[value] for value in values]


def test_objects_keep_their_own_keys_at_any_depth(tmp_path: Path) -> None:
    rows = [{"calls": calls} for calls in CALLS]
    table = read_table(written(tmp_path / "t.jsonl", rows))
    assert table["calls"][:] == CALLS
    assert [row["calls"] for row in table.train_test_split(test_size=1, seed=0)["test"]] in (
        CALLS[:1],
        CALLS[1:],
    )


@pytest.mark.parametrize(
    "value",
    [1234567890123456789012, "half \ud83d", [1], {"a": {}}, 2**63],
    ids=["above 64 bits", "half a pair", "list", "object", "64 bits"],
)
def test_a_column_that_nobody_reads_is_no_reason_to_refuse(tmp_path: Path, value: Any) -> None:
    rows = [{"text": "a", "label": 1, "id": 5}, {"text": "b", "label": 0, "id": value}]
    table = read_table(written(tmp_path / "t.jsonl", rows))
    assert (table["text"][:], table["label"][:]) == (["a", "b"], [1, 0])
    assert table["id"][:] in ([5, value], ["5", value])


@pytest.mark.parametrize("depth", [16, 17, 64, 100, 300, 399])
def test_a_deep_cell_reads_and_is_written_as_it_was(tmp_path: Path, depth: int) -> None:
    rows = [{"text": "a", "deep": deep(depth), "objects": deep(depth, "a")}, {"text": "b"}]
    table = read_table(written(tmp_path / "t.jsonl", rows))
    assert table["deep"][:] == [rows[0]["deep"], None]
    assert table["objects"][:] == [rows[0]["objects"], None]
    write_predictions(tmp_path / "p.jsonl", table, [0, 1])
    assert read_table(str(tmp_path / "p.jsonl"))["deep"][0] == rows[0]["deep"]


@pytest.mark.parametrize("depth", [400, 900, 100_000])
def test_a_cell_deeper_than_python_follows_is_refused_by_its_line(
    tmp_path: Path, depth: int
) -> None:
    cell = "[" * depth + "]" * depth
    (tmp_path / "t.jsonl").write_text(f'{{"text": "a"}}\n{{"text": "b", "deep": {cell}}}\n')
    with pytest.raises(FormatError, match="line 2: "):
        read_table(str(tmp_path / "t.jsonl"))


@pytest.mark.parametrize("depth", [17, 50, 64])
def test_deep_objects_of_parquet_are_read(tmp_path: Path, depth: int) -> None:
    cell = {"absent": None, "a": deep(depth, "a")}
    table = read_table(in_parquet(tmp_path / "t.parquet", {"deep": [cell, {"absent": "here"}]}))
    assert table["deep"][:] == [{"a": cell["a"]}, {"absent": "here"}]


def test_a_key_with_half_a_surrogate_pair_is_escaped(tmp_path: Path) -> None:
    table = read_table(written(tmp_path / "t.jsonl", [{"text": "a", "\ud83d": 1}]))
    assert table.column_names == ["text", "\\ud83d"]


def test_keys_that_arrow_added_are_left_out(tmp_path: Path) -> None:
    united = datasets.Dataset.from_dict({"text": ["a", "b"], "calls": CALLS})
    united.save_to_disk(tmp_path / "saved")
    united.to_parquet(tmp_path / "t.parquet")
    for source in ("saved", "t.parquet"):
        table = read_table(str(tmp_path / source))
        assert table.column_names == ["text", "calls"]
        assert table["calls"][:] == [CALLS[0], [{"arguments": {"y": [{"z": 1}]}}]]


def test_types_that_datasets_does_not_know_are_read(tmp_path: Path) -> None:
    pairs = pyarrow.array([[("a", 1)], None], pyarrow.map_(pyarrow.string(), pyarrow.int64()))
    source = in_parquet(tmp_path / "t.parquet", {"text": ["a", "b"], "pairs": pairs})
    assert read_table(source)["pairs"][:] == [[["a", 1]], None]


def test_a_table_with_json_cells_is_saved_and_loaded(tmp_path: Path) -> None:
    table_of({"calls": CALLS}).save_to_disk(tmp_path / "saved")
    loaded = read_table(str(tmp_path / "saved"))
    assert loaded.features["calls"] == JsonCell()
    assert loaded["calls"][:] == CALLS


def test_the_only_column_of_objects_keeps_its_rows(tmp_path: Path) -> None:
    table = pyarrow.table({"call": [{"x": 1, "y": None}, {"x": None, "y": 2}]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert read_table(str(tmp_path / "a.parquet"))["call"][:] == [{"x": 1}, {"y": 2}]

"""A file that is more than memory should hold is read in chunks, which are on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pandas
import pytest
from transformers import AutoTokenizer

from lorakit.errors import FormatError, SaveError
from lorakit.tables import chunks, read_table, reading_of
from lorakit.tables.chunks import Cells, scratch_file
from lorakit.tasks.columns import make_task, resolve
from lorakit.tasks.encoding import encode_table
from lorakit.tasks.spec import Columns

ROWS = [
    {"text": f"text {i}, \u00e9", "label": "xy"[i % 2], "n": i, "call": {"a": i} if i % 3 else None}
    for i in range(50)
]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of a few rows, of which few stay in memory."""
    monkeypatch.setattr(chunks, "CHUNK", 200)
    monkeypatch.setattr(chunks, "IN_MEMORY", 300)


def save(path: Path, rows: list[dict[str, Any]]) -> str:
    if path.suffix == ".parquet":
        pandas.DataFrame(rows).to_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    else:
        pandas.DataFrame(rows).to_csv(path, index=False, sep=";")
    return str(path)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet"])
def test_chunks_on_disk_are_the_rows_in_memory(
    tmp_path: Path, request: pytest.FixtureRequest, name: str
) -> None:
    source = save(tmp_path / name, ROWS)
    in_memory = read_table(source)
    request.getfixturevalue("small")
    on_disk = read_table(source)
    assert not in_memory.cache_files
    assert on_disk.cache_files
    assert on_disk.to_list() == in_memory.to_list()
    assert on_disk[:] == in_memory[:]
    assert [*Cells(on_disk, "text")] == in_memory["text"][:]
    assert reading_of(on_disk) == reading_of(in_memory)


def test_a_large_file_is_converted_again_only_if_it_has_changed(
    tmp_path: Path, small: None
) -> None:
    source = save(tmp_path / "a.jsonl", ROWS)
    first = read_table(source).cache_files
    assert read_table(source).cache_files == first
    save(tmp_path / "a.jsonl", ROWS[:40])
    assert len(read_table(source)) == 40


def test_shards_are_on_disk_where_all_of_them_are_large(tmp_path: Path, small: None) -> None:
    for i in range(5):
        save(tmp_path / f"{i}.jsonl", ROWS[i * 10 : i * 10 + 3])
    assert not read_table(str(tmp_path / "0.jsonl")).cache_files
    table = read_table(str(tmp_path / "*.jsonl"))
    assert table.cache_files
    assert table["n"][:] == [row["n"] for i in range(5) for row in ROWS[i * 10 : i * 10 + 3]]


def test_a_column_whose_type_a_later_chunk_changes_reads_as_it_is_written(
    tmp_path: Path, small: None
) -> None:
    cells = [None] * 20 + [1] * 20 + [2.5] * 20 + [[1, "a"]] * 20 + ["x"] * 20
    rows = [{"text": "a long enough text", "cell": cell} for cell in cells]
    rows += [{"text": "t", "late": {"k": 1}}]
    table = read_table(save(tmp_path / "a.jsonl", rows))
    assert table["cell"][:] == [*cells, None]
    assert table["late"][:] == [None] * len(cells) + [{"k": 1}]


def test_errors_of_a_large_file_name_its_lines(tmp_path: Path, small: None) -> None:
    lines = [json.dumps(row) for row in ROWS]
    lines[2] = lines[40] = "{"
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    with pytest.raises(FormatError, match=r"line 3: (.|\n)*line 41: "):
        read_table(str(tmp_path / "a.jsonl"))
    text = "text;label\n" + "good, really;pos\n" * 40 + "bad\n"
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(FormatError, match=r"row 41: not 2 cells"):
        read_table(str(tmp_path / "a.csv"))


def test_tokens_of_a_table_on_disk_are_on_disk(tmp_path: Path, small: None, minilm: Path) -> None:
    table = read_table(save(tmp_path / "a.jsonl", ROWS))
    columns = resolve(table, Columns("classification", ("text",), "label"))
    task = make_task(table, columns, 16)
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    encoded, _ = encode_table(task, tokenizer, table)
    assert encoded.cache_files
    again, _ = encode_table(task, tokenizer, datasets.Dataset.from_list(table.to_list()))
    assert not again.cache_files
    assert encoded.to_list() == again.to_list()


def test_a_full_disk_is_said_with_another_place(
    tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "scratch_file", lambda: tmp_path / "nowhere" / "0.arrow")
    with pytest.raises(SaveError, match=r"HF_DATASETS_CACHE names another place"):
        read_table(save(tmp_path / "a.jsonl", ROWS))


def test_files_of_a_process_are_removed_at_its_end() -> None:
    program = "from lorakit.tables.chunks import scratch_file as s; p = s(); p.touch(); print(p)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0
    assert not Path(done.stdout.strip()).parent.exists()
    assert scratch_file() != scratch_file()

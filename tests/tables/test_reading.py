"""Files become tables without loss, or one clear error."""

from __future__ import annotations

import csv
import gzip
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pandas
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorakit.errors import ConfigError, FormatError
from lorakit.tables.delimited import parse_csv, parse_tsv
from lorakit.tables.json_rows import parse_json, parse_json_lines
from lorakit.tables.reading import read_table

Write = Callable[..., str]
ROWS = [{"text": "good, really", "label": "1"}, {"text": 'a "bad"\none', "label": "0"}]
CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A file with this name and content."""

    def put(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return put


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for data sets, with the cache of `datasets` beside it."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path


def in_csv(rows: list[dict[str, str]], **options: Any) -> str:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]), **options)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def rows_of(source: str, split: str = "train") -> list[dict[str, Any]]:
    return [dict(row) for row in read_table(source, split)]


def in_parquet(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    pandas.DataFrame(rows).to_parquet(file)
    return file.getvalue()


CONTENTS: dict[str, bytes] = {
    "a.csv": in_csv(ROWS).encode(),
    "B.CSV": in_csv(ROWS, lineterminator="\n").encode("utf-8-sig"),
    "a.tsv": in_csv(ROWS, delimiter="\t").encode(),
    "a.jsonl": "\n".join(map(json.dumps, ROWS)).encode(),
    "b.jsonl": "\r\n".join(json.dumps(row) + "\r\n" for row in ROWS).encode("utf-8-sig"),
    "a.json": json.dumps(ROWS).encode(),
    "lines.json": "\n".join(map(json.dumps, ROWS)).encode(),
    "a.parquet": in_parquet(ROWS),
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_every_kind_of_file_gives_the_same_rows(write: Write, name: str, packed: bool) -> None:
    content = CONTENTS[name]
    source = write(f"{name}.gz", gzip.compress(content)) if packed else write(name, content)
    assert rows_of(source) == ROWS


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5))
def test_csv_reads_what_pythons_writer_wrote(cells: list[tuple[str, str]]) -> None:
    rows = [{"a": first, "b": second} for first, second in cells]
    text = in_csv(rows, quoting=csv.QUOTE_ALL)
    assert parse_csv(text) == {"a": [a for a, _ in cells], "b": [b for _, b in cells]}


@given(st.lists(st.dictionaries(st.sampled_from("abc"), CELLS, min_size=1), min_size=1))
def test_json_lines_read_what_json_wrote(rows: list[dict[str, str]]) -> None:
    columns = parse_json_lines("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    for name, values in columns.items():
        assert values == [row.get(name) for row in rows]


def test_cells_stay_as_they_are_written() -> None:
    columns = parse_csv("id,text\n007,NA\n1.0,null\n 2 ,\n")
    assert columns == {"id": ["007", "1.0", " 2 "], "text": ["NA", "null", ""]}


def test_an_index_without_a_name_is_left_out() -> None:
    frame = pandas.DataFrame({"text": ["a", "b"], "label": [1, 2]})
    assert parse_csv(frame.to_csv()) == {"text": ["a", "b"], "label": ["1", "2"]}


def test_quotes_in_tsv_that_do_not_pair_are_characters() -> None:
    columns = parse_tsv('text\tlabel\n"Good" film\t1\n"odd\t0\n')
    assert columns == {"text": ['"Good" film', '"odd'], "label": ["1", "0"]}


def test_a_cell_may_be_long() -> None:
    assert parse_csv(f"text\n{'x' * 200_000}\n")["text"] == ["x" * 200_000]


def test_numbers_and_texts_in_one_json_column_become_texts() -> None:
    columns = parse_json('[{"l": 1, "f": 1}, {"l": "2", "f": 2.5}, {"l": null, "f": null}]')
    assert columns == {"l": ["1", "2", None], "f": [1, 2.5, None]}


def test_categories_in_parquet_become_their_values(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"text": ["a", "b"], "label": pandas.Categorical(["x", "y"])})
    frame.index = pandas.Index([5, 7])
    frame.to_parquet(tmp_path / "t.parquet")
    assert rows_of(str(tmp_path / "t.parquet")) == [
        {"text": "a", "label": "x"},
        {"text": "b", "label": "y"},
    ]


BAD = {
    "empty.csv": (b"", "is empty"),
    "blank.jsonl": (b"\n \n", "is empty"),
    "header.csv": (b"text,label\n", "has no rows"),
    "none.json": (b"[]", "has no rows"),
    "twice.csv": (b"text,text\na,b\n", "'text' occurs more than once"),
    "uneven.csv": (b"text,label\na,1\nb,c,0\nd\n", "rows 2, 3: not 2 cells"),
    "quotes.csv": (b'text,label\n"a" b,1\n', "line 2"),
    "latin.csv": ("text,label\na,1\ncaf\u00e9,0\n".encode("latin-1"), r"byte 18 \(line 3\)"),
    "utf16.csv": ("text,label\na,1\n".encode("utf-16-le"), "is not UTF-8"),
    "broken.jsonl": (b'{"a": 1}\n{"a"\n[1]\n', "line 2: (.|\n)*line 3: .* is not an object"),
    "key.jsonl": (b'{"a": 1, "a": 2}\n', "line 1: a key occurs more than once"),
    "scalar.json": (b"3", "not a list of objects|not an object"),
    "damaged.parquet": (b"PAR1 and nothing", "as Parquet"),
    "plain.csv.gz": (b"text,label\na,1\n", "cannot be read"),
    "short.csv.gz": (gzip.compress(b"text,label\na,1\n")[:-9], "cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_by_name(write: Write, name: str) -> None:
    content, message = BAD[name]
    with pytest.raises(FormatError, match=message) as caught:
        read_table(write(name, content))
    assert name in str(caught.value)


def test_columns_of_the_same_name_in_parquet_are_refused(tmp_path: Path) -> None:
    table = pyarrow.table([[1], [2]], names=["a", "a"])
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(FormatError, match="same name: a"):
        read_table(str(tmp_path / "t.parquet"))


def test_many_columns_are_compared_in_one_pass() -> None:
    names = [f"column{i}" for i in range(50_000)]
    start = time.process_time()
    with pytest.raises(FormatError, match=r"'column7' occurs"):
        parse_csv(",".join([*names, "column7"]) + "\n")
    assert time.process_time() - start < 5


def test_a_file_that_is_not_there_is_named_with_its_neighbours(write: Write) -> None:
    there = write("reviews.csv", "text\na\n")
    with pytest.raises(FormatError, match=r"does not exist .*did you mean 'reviews.csv'"):
        read_table(there.replace("reviews", "review"))


def test_another_kind_of_file_is_refused(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"ends in \.csv, \.tsv"):
        read_table(write("t.xlsx", b"PK"))


def test_a_directory_is_read_by_datasets(hub: Path) -> None:
    data = hub / "reviews"
    data.mkdir()
    (data / "reviews-train.csv").write_text("text,label\na,1\nb,0\n")
    (data / "reviews-test.csv").write_text("text,label\nc,1\n")
    assert [row["text"] for row in rows_of(str(data))] == ["a", "b"]
    assert [row["text"] for row in rows_of(str(data), "test")] == ["c"]
    assert [row["text"] for row in rows_of(f"{data}::test")] == ["c"]


def test_a_directorys_only_file_of_a_split_is_read_as_a_file(hub: Path) -> None:
    data = hub / "data"
    data.mkdir()
    rows = [{"call": {"x": 3.14159265358979}}, {"call": {"y": None}}]
    (data / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (data / "test.csv").write_text("id,text\n007,NA\n")
    assert rows_of(str(data)) == rows
    assert rows_of(f"{data}::test") == [{"id": "007", "text": "NA"}]


def test_a_saved_data_set_brings_the_names_of_its_classes(hub: Path) -> None:
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["neg", "pos"])
    )
    columns = {"text": ["a", "b", "c"], "label": [1, 0, -1]}
    table = datasets.Dataset.from_dict(columns, features=features)
    table.save_to_disk(hub / "one")
    datasets.DatasetDict(train=table).save_to_disk(hub / "splits")
    for name in ("one", "splits"):
        assert [row["label"] for row in rows_of(str(hub / name))] == ["pos", "neg", None]


def test_a_split_that_is_not_there_is_named(hub: Path) -> None:
    (hub / "data").mkdir()
    (hub / "data" / "train.csv").write_text("text\na\n")
    with pytest.raises(FormatError, match="could not load it with the split 'test'"):
        read_table(str(hub / "data"), "test")


def test_a_name_that_nothing_knows_is_refused(hub: Path) -> None:
    with pytest.raises(FormatError, match="no/such-set is not a local file"):
        read_table("no/such-set")

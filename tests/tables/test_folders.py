"""Folders and patterns of files as one table, and what `datasets` has saved."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import datasets
import pandas
import pytest

from lorakit.errors import FormatError
from lorakit.tables import read_table, reading_of


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for data sets, with the cache of `datasets` beside it."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path


def texts(source: Path | str, split: str = "train") -> list[Any]:
    found: list[Any] = read_table(str(source), split)["text"][:]
    return found


def save(path: Path, *rows: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"text": [*rows], "label": ["007"] * len(rows)}
    if path.suffix == ".parquet":
        pandas.DataFrame(columns).to_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps({"text": r, "label": "007"}) for r in rows))
    else:
        content = pandas.DataFrame(columns).to_csv(index=False).encode()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl", ".csv.gz"])
def test_a_folder_of_shards_is_one_table_in_the_order_of_their_names(
    tmp_path: Path, ending: str
) -> None:
    folder = tmp_path / "shards"
    for name, rows in (("2", "ef"), ("0", "ab"), ("1", "cd")):
        save(folder / f"part-{name}{ending}", *rows)
    (folder / "_SUCCESS").touch()
    (folder / ".hidden.csv").write_text("x")
    table = read_table(str(folder))
    assert table["text"][:] == [*"abcdef"]
    assert set(table["label"]) == {"007"}
    reading = reading_of(table)
    assert reading is not None
    assert reading.notes == ["3 files as one table"]
    assert texts(folder / f"part-[01]{ending}") == [*"abcd"]


def test_files_of_a_folder_are_of_the_split_that_their_names_say(tmp_path: Path) -> None:
    save(tmp_path / "d" / "train-00000-of-00002.parquet", "a")
    save(tmp_path / "d" / "train-00001-of-00002.parquet", "b")
    save(tmp_path / "d" / "validation" / "0.parquet", "c")
    save(tmp_path / "d" / "reviews_test.parquet", "d")
    assert texts(tmp_path / "d") == ["a", "b"]
    assert texts(tmp_path / "d", "validation") == ["c"]
    assert texts(f"{tmp_path / 'd'}::test") == ["d"]


def test_several_kinds_of_files_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "d" / "a.csv", "a")
    save(tmp_path / "d" / "a.jsonl", "a")
    with pytest.raises(FormatError, match=r"kinds \.csv, \.jsonl, in which rows can stand twice"):
        read_table(str(tmp_path / "d"))
    assert texts(tmp_path / "d" / "*.csv") == ["a"]


def test_shards_with_other_columns_are_refused_and_keys_of_json_may_lack(tmp_path: Path) -> None:
    (tmp_path / "0.csv").write_text("text,label\na,1\n")
    (tmp_path / "1.csv").write_text("text,class\nb,1\n")
    with pytest.raises(FormatError, match=r"1\.csv: text, class \(without label\)"):
        read_table(str(tmp_path / "*.csv"))
    (tmp_path / "0.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "1.jsonl").write_text(
        '{"text": "b", "system": "s", "n": 1}\n{"text": "c", "n": "x"}'
    )
    assert read_table(str(tmp_path / "*.jsonl")).to_list() == [
        {"text": "a", "system": None, "n": None},
        {"text": "b", "system": "s", "n": "1"},
        {"text": "c", "system": None, "n": "x"},
    ]


def test_cells_of_shards_read_as_in_their_own_file(tmp_path: Path) -> None:
    cells = [1, 2.5, "x", [1, "a"], {"k": None}, None]
    for i, cell in enumerate(cells):
        (tmp_path / f"{i}.jsonl").write_text(json.dumps({"cell": cell}))
    assert read_table(str(tmp_path / "*.jsonl"))["cell"][:] == cells


def test_a_pattern_that_nothing_fits_is_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"No file fits the pattern .*\*\.csv"):
        read_table(str(tmp_path / "*.csv"))


def test_saved_data_sets_have_their_splits(hub: Path) -> None:
    parts = {name: datasets.Dataset.from_dict({"text": [name]}) for name in ("train", "test")}
    parts["train"].save_to_disk(hub / "one")
    datasets.DatasetDict(parts).save_to_disk(hub / "splits")
    assert texts(hub / "one") == ["train"]
    assert texts(hub / "splits") == ["train"]
    assert texts(hub / "splits", "test") == texts(f"{hub / 'splits'}::test") == ["test"]
    with pytest.raises(FormatError, match="its splits are train, test"):
        read_table(str(hub / "splits"), "validation")


def test_a_folder_whose_card_has_configurations_is_read_by_datasets(hub: Path) -> None:
    save(hub / "d" / "x" / "a.csv", "a")
    save(hub / "d" / "y" / "b.csv", "b")
    (hub / "d" / "README.md").write_text(
        "---\nconfigs:\n- config_name: x\n  data_files: x/a.csv\n"
        "- config_name: y\n  data_files: y/b.csv\n---\n"
    )
    assert texts(f"{hub / 'd'}:y") == ["b"]
    with pytest.raises(FormatError, match=r"[Cc]onfig"):
        read_table(str(hub / "d"))

"""A file of plain text is read as its paragraphs, or as its lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorakit.errors import FormatError
from lorakit.tables import read_table
from lorakit.tasks.columns import resolve
from lorakit.tasks.spec import Columns


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("one\ntwo\r\n", ["one", "two"]),
        ("\n\na\nb\n\n \n\nc\n\n", ["a\nb", "c"]),
        ("  a line\n", ["  a line"]),
    ],
)
def test_paragraphs_are_rows_and_lines_where_there_are_none(
    content: str, texts: list[str], tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_bytes(content.encode())
    table = read_table(str(tmp_path / "a.txt"))
    assert table["text"][:] == texts
    assert resolve(table, Columns()) == Columns("language_modeling", ("text",))


def test_lines_with_a_tab_each_may_be_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("spam\tcall now\nham\thi\n", encoding="utf-8")
    with pytest.raises(FormatError, match=r"each line has a tab: name the file \.tsv"):
        read_table(str(tmp_path / "a.txt"))


def test_an_empty_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n \n", encoding="utf-8")
    with pytest.raises(FormatError, match="is empty"):
        read_table(str(tmp_path / "a.txt"))


def test_a_text_beside_data_in_a_folder_is_no_data(tmp_path: Path) -> None:
    (tmp_path / "LICENSE.txt").write_text("free\n", encoding="utf-8")
    (tmp_path / "rows.csv").write_text("text,label\na,b\n", encoding="utf-8")
    assert read_table(str(tmp_path))["text"][:] == ["a"]

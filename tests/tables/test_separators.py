"""What separates the cells of a file is found in its rows and said, or refused with both."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorakit.errors import FormatError
from lorakit.tables import read_table, reading_of
from lorakit.tables.delimited import parse_csv, parse_tsv
from lorakit.tables.layouts import SEPARATORS

ROWS = [("text", "label"), ("good, really", "pos"), ("bad", "neg")]
CELLS = st.text(st.sampled_from('ab,;|\t\n"'), max_size=6)


def written(rows: list[tuple[str, ...]], separator: str) -> str:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=separator).writerows(rows)
    return file.getvalue()


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
@pytest.mark.parametrize(
    ("separator", "said"),
    [(",", "commas"), (";", ";"), ("\t", "tabs"), ("|", r"|")],
)
def test_the_separator_is_found_and_said(
    tmp_path: Path, name: str, separator: str, said: str
) -> None:
    file = tmp_path / name
    file.write_text(written(ROWS, separator))
    table = read_table(str(file))
    assert table.to_dict() == {"text": ["good, really", "bad"], "label": ["pos", "neg"]}
    reading = reading_of(table)
    assert reading is not None
    assert reading.separator == separator
    usual = separator == {"a.csv": ",", "a.tsv": "\t"}[name]
    assert reading.notes == ([] if usual else [f"{said} between the cells"])


def test_rows_of_uneven_length_are_named_with_their_separator() -> None:
    with pytest.raises(FormatError, match=r"row 2: not 2 cells, .* that contains ';'"):
        parse_csv("text;label\ngood;1\nbad\n")


def test_two_separators_that_fit_are_both_named() -> None:
    with pytest.raises(FormatError, match="cannot be told") as caught:
        parse_csv("Price, EUR;text\n3,5;good\n1,0;bad\n")
    assert caught.value.problems == (
        "with ',' the columns are 'Price', ' EUR;text'",
        "with ';' the columns are 'Price, EUR', 'text'",
    )
    quoted = '"Price, EUR";text\n3,5;good\n1,0;bad\n'
    assert parse_csv(quoted) == {"Price, EUR": ["3,5", "1,0"], "text": ["good", "bad"]}


def test_a_comma_in_some_cells_separates_none() -> None:
    assert parse_csv("text, raw;label\ngood, really;1\nbad;0\n") == {
        "text, raw": ["good, really", "bad"],
        "label": ["1", "0"],
    }


def test_one_column_is_read_as_it_stands() -> None:
    assert parse_csv("text\na; b\nc\n") == {"text": ["a; b", "c"]}
    assert parse_csv('"a;b"\nc\n') == {"a;b": ["c"]}
    with pytest.raises(FormatError, match=r"not 1 cell, .* has to be in quotes"):
        parse_csv("text\na, b\nc\n")


def test_quotes_between_tabs_in_csv_are_read_as_in_tsv() -> None:
    text = 'text\tlabel\n"Good" film\t1\n"odd\t0\n'
    assert (
        parse_csv(text) == parse_tsv(text) == {"text": ['"Good" film', '"odd'], "label": ["1", "0"]}
    )


@given(st.sampled_from(SEPARATORS), st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=4))
def test_what_was_written_is_read_or_refused(separator: str, cells: list[tuple[str, str]]) -> None:
    try:
        columns = parse_csv(written([("a", "b"), *cells], separator))
    except FormatError:
        assert separator == "\t"
        assert any("\n" in cell for row in cells for cell in row)
    else:
        assert columns == {"a": [a for a, _ in cells], "b": [b for _, b in cells]}

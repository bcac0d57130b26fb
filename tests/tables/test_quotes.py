"""Quotes that enclose cells, and quotes that are characters."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorakit.errors import FormatError
from lorakit.tables.delimited import parse_csv, parse_records, parse_tsv

SWALLOWED = 'text\tlabel\n"Great stuff\tpos\nbad movie"\tneg\n'
CELLS = st.text(st.sampled_from('ab",\t\n '), max_size=6)


def test_a_quote_in_tsv_swallows_no_line() -> None:
    text = SWALLOWED + 'a "nice" film\tpos\n'
    texts = ['"Great stuff', 'bad movie"', 'a "nice" film']
    expected = {"text": texts, "label": ["pos", "neg", "pos"]}
    assert parse_tsv(text) == expected
    assert parse_tsv(text.replace("\n", "\r\n")) == expected
    assert parse_tsv(text.replace("pos\nbad", "pos\n\nso so\tneg\nbad"))["label"] == [
        "pos",
        "neg",
        "neg",
        "pos",
    ]


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "cell", ["Dear Sir,\nthank you", "good, but\nslow, and\nold", 'a "b", c\n"d", e', ",\n,"]
)
def test_a_quoted_cell_in_csv_is_one_row(cell, end, quoting) -> None:  # type: ignore[no-untyped-def]
    written = _written([("text", "label"), (cell, "pos")], ",", quoting, end)
    assert parse_csv(written) == {"text": [cell], "label": ["pos"]}


def test_a_tsv_that_pythons_writer_wrote_is_never_split_in_silence() -> None:
    rows = [("text", "label"), ("fine", "pos"), ("good\tpos\nbad", "neg")]
    with pytest.raises(FormatError, match="lines 3 to 4: one row, or 2"):
        parse_tsv(_written(rows, "\t"))


def test_a_quoted_cell_of_several_lines_stays_one_row() -> None:
    assert parse_tsv('text\tlabel\n"a\nb"\tpos\n') == {"text": ["a\nb"], "label": ["pos"]}
    assert parse_csv('text,label\n"a, b\nc, d",pos\n') == {"text": ["a, b\nc, d"], "label": ["pos"]}
    assert parse_csv('text\n"a\nb"\n') == {"text": ["a\nb"]}


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_tsv, SWALLOWED),
        (parse_tsv, SWALLOWED.replace("\n", "\r\n")),
        (parse_tsv, SWALLOWED + '"a\nb"\tpos\n'),
        (parse_tsv, SWALLOWED.replace("text\tlabel", '"text"\t"label"')),
        (parse_tsv, 'text\n"Great stuff\nbad movie"\n'),
        (parse_csv, SWALLOWED.replace("\t", ",") + 'a 5" disk,pos\n'),
    ],
    ids=["even", "even, CRLF", "uneven", "quoted header", "one column", "csv"],
)
def test_quotes_with_two_readings_are_refused_by_their_lines(parse, text) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(FormatError, match="lines 2 to 3: one row, or 2"):
        parse(text)


def test_lines_between_tabs_know_no_quotes() -> None:
    assert parse_records(SWALLOWED)[1:] == [['"Great stuff', "pos"], ['bad movie"', "neg"]]


QUOTING = st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
ROWS = st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5)


@given(ROWS, QUOTING)
def test_tsv_of_pythons_writer_is_read_or_refused(
    cells: list[tuple[str, str]], quoting: int
) -> None:
    try:
        columns = parse_tsv(_written([("a", "b"), *cells], "\t", quoting))
    except FormatError:
        assert any("\n" in cell for row in cells for cell in row)
    else:
        assert columns == {"a": [a for a, _ in cells], "b": [b for _, b in cells]}


@given(ROWS, QUOTING)
def test_csv_of_pythons_writer_is_read(cells: list[tuple[str, str]], quoting: int) -> None:
    columns = parse_csv(_written([("a", "b"), *cells], ",", quoting))
    assert columns == {"a": [a for a, _ in cells], "b": [b for _, b in cells]}


def _written(
    rows: list[tuple[str, str]], separator: str, quoting: int = csv.QUOTE_MINIMAL, end: str = "\n"
) -> str:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=separator, quoting=quoting, lineterminator=end).writerows(rows)  # type: ignore[arg-type]
    return file.getvalue()

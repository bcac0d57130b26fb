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
CELLS = st.text(st.sampled_from('ab"\t\n '), max_size=6)


def test_a_quote_in_tsv_swallows_no_line() -> None:
    expected = {"text": ['"Great stuff', 'bad movie"'], "label": ["pos", "neg"]}
    assert parse_tsv(SWALLOWED) == expected
    assert parse_tsv(SWALLOWED.replace("\n", "\r\n")) == expected
    assert parse_tsv(SWALLOWED.replace("pos\n", "pos\n\nso so\tneg\n"))["label"] == [
        "pos",
        "neg",
        "neg",
    ]


def test_a_quoted_cell_of_several_lines_stays_one_row() -> None:
    assert parse_tsv('text\tlabel\n"a\nb"\tpos\n') == {"text": ["a\nb"], "label": ["pos"]}
    assert parse_csv('text,label\n"a, b\nc, d",pos\n') == {"text": ["a, b\nc, d"], "label": ["pos"]}
    assert parse_csv('text\n"a\nb"\n') == {"text": ["a\nb"]}


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_tsv, SWALLOWED + '"a\nb"\tpos\n'),
        (parse_tsv, SWALLOWED.replace("text\tlabel", '"text"\t"label"')),
        (parse_tsv, 'text\n"Great stuff\nbad movie"\n'),
        (parse_csv, SWALLOWED.replace("\t", ",")),
    ],
    ids=["uneven", "quoted header", "one column", "csv"],
)
def test_quotes_with_two_readings_are_refused_by_their_lines(parse, text) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(FormatError, match="lines 2 to 3: one row, or 2"):
        parse(text)


def test_lines_between_tabs_know_no_quotes() -> None:
    assert parse_records(SWALLOWED)[1:] == [['"Great stuff', "pos"], ['bad movie"', "neg"]]


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5))
def test_tsv_of_pythons_writer_is_read_or_refused(cells: list[tuple[str, str]]) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([("a", "b"), *cells])
    try:
        columns = parse_tsv(file.getvalue())
    except FormatError:
        assert any("\n" in cell for row in cells for cell in row)
    else:
        assert columns == {"a": [a for a, _ in cells], "b": [b for _, b in cells]}

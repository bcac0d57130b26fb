"""The forms in which JSON files hold rows."""

from __future__ import annotations

import json
from typing import Any

import pandas
import pytest

from lorakit.errors import FormatError
from lorakit.tables.json_rows import parse_json, parse_json_lines

COLUMNS = {"text": ["a", "b"], "label": ["pos", "neg"]}
FRAME = pandas.DataFrame(COLUMNS)
FORMS = {
    "records": FRAME.to_json(orient="records"),
    "columns": FRAME.to_json(),
    "index": FRAME.to_json(orient="index"),
    "lists": json.dumps(COLUMNS),
    "data": json.dumps({"version": "1", "data": FRAME.to_dict("records")}),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_json_give_the_same_rows(name: str) -> None:
    assert parse_json(FORMS[name]) == COLUMNS


def test_pandas_table_reads_with_its_index() -> None:
    assert parse_json(FRAME.to_json(orient="table")) == {"index": [0, 1], **COLUMNS}


def test_a_list_under_the_name_of_json_lines_is_read() -> None:
    assert parse_json_lines(json.dumps(FRAME.to_dict("records"), indent=2)) == COLUMNS


def test_one_object_is_one_row() -> None:
    talk = [{"role": "user", "content": "a"}]
    assert parse_json(json.dumps({"messages": talk})) == {"messages": [talk]}


def test_gaps_in_pandas_columns_are_empty() -> None:
    assert parse_json('{"a": {"0": 1, "2": 3}, "b": {"2": 4}}') == {"a": [1, 3], "b": [None, 4]}


BAD: dict[str, tuple[Any, str]] = {
    "split": (json.loads(FRAME.to_json(orient="split")), r"entry 1 is \[.*\n.*write one object a"),
    "values": ([["a", "pos"]], r"entry 1 is \[.*\n.*write one object a"),
    "named rows": ({"x": {"text": "a"}, "y": {"text": "b"}}, "rows or columns cannot be told"),
    "numbers": ({"0": {"0": "a"}}, "rows or columns cannot be told"),
    "lengths": ({"text": ["a", "b"], "label": [1]}, "its lists differ in length\n.*text: 2"),
    "scalar": (3, "not a list of objects\n.*write one object a line"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_form_that_is_not_read_says_which_are(name: str) -> None:
    content, message = BAD[name]
    with pytest.raises(FormatError, match=message):
        parse_json(json.dumps(content))


@pytest.mark.parametrize("parse", [parse_json, parse_json_lines])
def test_deep_nesting_is_refused_by_its_line(parse: Any) -> None:
    with pytest.raises(FormatError, match="line 2"):
        parse('{"a": 1}\n{"a": ' + "[" * 100_000 + "]" * 100_000 + "}")

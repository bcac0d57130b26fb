"""Task and columns are guessed or refused, and a table that does not fit is described."""

from __future__ import annotations

from typing import Any

import pytest
from datasets import Dataset

from lorakit.errors import ConfigError
from lorakit.tables.json_cells import table_of
from lorakit.tasks.columns import make_task, resolve
from lorakit.tasks.spec import Columns

TALK = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def table(**columns: list[Any]) -> Any:
    return Dataset.from_dict(columns)


def numbered(count: int) -> list[str]:
    return [f"{i} is a number" for i in range(count)]


GUESSES: dict[str, tuple[dict[str, list[Any]], Columns]] = {
    "named": (
        {"id": ["1", "2"], "text": ["a", "b"], "label": ["0", "1"]},
        Columns("classification", ("text",), "label"),
    ),
    "case": (
        {"Review": ["a", "b"], "Sentiment": ["pos", "neg"]},
        Columns("classification", ("Review",), "Sentiment"),
    ),
    "pair": (
        {"premise": ["a", "b"], "hypothesis": ["c", "d"], "label": [0, 1]},
        Columns("classification", ("premise", "hypothesis"), "label"),
    ),
    "label first": (
        {"kind": ["x", "y", "x"], "words": ["a b", "c d", "e f"]},
        Columns("classification", ("words",), "kind"),
    ),
    "label last": (
        {"words": ["a b", "c d", "e f"], "kind": ["x", "y", "x"]},
        Columns("classification", ("words",), "kind"),
    ),
    "booleans": (
        {"text": ["a", "b"], "label": [True, False]},
        Columns("classification", ("text",), "label"),
    ),
    "stars": (
        {"text": ["a", "b"], "rating": ["1.0", "5.0"]},
        Columns("classification", ("text",), "rating"),
    ),
    "measured": (
        {"text": ["a", "b"], "score": ["1.5", "2"]},
        Columns("regression", ("text",), "score"),
    ),
    "many numbers": (
        {"text": numbered(60), "score": list(range(60))},
        Columns("regression", ("text",), "score"),
    ),
    "longest text": (
        {"id": ["x1", "x2"], "says": ["a long one", "another"], "label": ["0", "1"]},
        Columns("classification", ("says",), "label"),
    ),
    "prompt": (
        {"prompt": ["a"], "completion": ["b"], "category": ["c"]},
        Columns("generation", ("prompt",), "completion"),
    ),
    "alpaca": (
        {"instruction": ["a"], "input": [""], "output": ["b"]},
        Columns("generation", ("instruction", "input"), "output"),
    ),
    "question and answer": (
        {"question": ["a"], "answer": ["b"]},
        Columns("generation", ("question",), "answer"),
    ),
    "question about a context": (
        {"context": ["c"], "question": ["a"], "answer": ["b"]},
        Columns("generation", ("question", "context"), "answer"),
    ),
    "prompt with a context": (
        {"context": ["c"], "prompt": ["a"], "completion": ["b"]},
        Columns("generation", ("prompt", "context"), "completion"),
    ),
    "prompt with a context and a response": (
        {"context": ["c"], "prompt": ["a"], "response": ["b"]},
        Columns("generation", ("prompt", "context"), "response"),
    ),
    "instruction with a context": (
        {"instruction": ["a"], "context": ["c"], "output": ["b"]},
        Columns("generation", ("instruction", "context"), "output"),
    ),
    "instruction with an input and a response": (
        {"instruction": ["a"], "input": ["c"], "response": ["b"]},
        Columns("generation", ("instruction", "input"), "response"),
    ),
    "messages with history": (
        {"history": [[["q", "r"]]], "messages": [TALK]},
        Columns("chat", ("messages", "history")),
    ),
    "answer that is judged": (
        {"question": ["a", "b"], "answer": ["c", "d"], "label": ["0", "1"]},
        Columns("classification", ("question", "answer"), "label"),
    ),
    "choices": (
        {"ctx": ["a"], "ending0": ["b"], "ending1": ["c"], "label": ["1"]},
        Columns("multiple_choice", ("ctx", "ending0", "ending1"), "label"),
    ),
    "chat": ({"messages": [TALK]}, Columns("chat", ("messages",))),
    "chat with tools": (
        {"tools": [[{"name": "f"}]], "System": ["s"], "Messages": [TALK]},
        Columns("chat", ("Messages", "System", "tools")),
    ),
    "conversational prompt": (
        {"prompt": [TALK[:1]], "completion": [TALK[1:]], "tools": [None]},
        Columns("chat", ("prompt", "tools"), "completion"),
    ),
    "prompt with tools": (
        {"prompt": ["a", "b"], "completion": ["b", "c"], "tools": [[], [{"name": "f"}]]},
        Columns("chat", ("prompt", "tools"), "completion"),
    ),
    "instruction with history": (
        {"instruction": ["a"], "output": ["b"], "system": ["s"], "history": [[["q", "r"]]]},
        Columns("generation", ("system", "history", "instruction"), "output"),
    ),
    "whole texts": ({"text": ["a", "b"]}, Columns("language_modeling", ("text",))),
    "sharegpt": (
        {"conversations": [[{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]]},
        Columns("chat", ("conversations",)),
    ),
}


@pytest.mark.parametrize("name", GUESSES)
def test_task_and_columns_are_guessed(name: str) -> None:
    columns, expected = GUESSES[name]
    assert resolve(table(**columns), Columns()) == expected
    assert resolve(table(**columns), expected) == expected


def test_what_is_said_is_kept() -> None:
    rows = table(text=["a", "b"], label=["0", "1"], other=["1.5", "2"])
    assert resolve(rows, Columns(label="other")).task == "regression"
    assert resolve(rows, Columns(task="regression")).label == "label"
    assert resolve(rows, Columns(text=("other",))).text == ("other",)


BAD_TABLES: dict[str, tuple[dict[str, list[Any]], Columns, str]] = {
    "missing columns": (
        {"text": ["a"], "label": ["0"]},
        Columns("classify", ("txt",), "labels"),
        r"no column 'txt' \(did you mean 'text'\?\)(.|\n)*no column 'labels' "
        r"(.|\n)*task is 'classify'",
    ),
    "one column": (
        {"words": ["a", "b"]},
        Columns(),
        "the column is 'words'; set data.task and data.label",
    ),
    "semicolons": ({"text;label": ["a;1"]}, Columns(), "separated by ';'"),
    "nothing to tell": (
        {"a": ["x"], "b": ["y"], "c": ["z"]},
        Columns(),
        "the columns are 'a', 'b', 'c'; set data.task and data.label",
    ),
    "free texts": (
        {"text": numbered(60), "label": numbered(60)},
        Columns(),
        "set data.task",
    ),
    "one class": (
        {"text": ["a", "b"], "label": ["x", "x"]},
        Columns(),
        "only the label 'x'; classification needs two different labels",
    ),
    "three texts": (
        {"a": ["x"], "b": ["y"], "c": ["z"], "label": ["0"]},
        Columns("regression", ("a", "b", "c"), "label"),
        "names 3 columns; regression reads one column or two",
    ),
    "one choice": (
        {"q": ["x"], "a": ["y"], "label": ["0"]},
        Columns("multiple_choice", ("q", "a"), "label"),
        "multiple_choice reads a column of questions and two or more",
    ),
    "two roles": (
        {"text": ["a", "b"], "label": ["0", "1"]},
        Columns("classification", ("text",), "text"),
        "'text' is used more than once",
    ),
    "no header": (
        {"I liked it": ["no", "good film", "bad film"], "1": ["0", "1", "0"]},
        Columns(),
        "header seems to be a row of data, since the name '1'",
    ),
    "empty cells": (
        {"text": ["a", "", None, "b", "c"], "label": ["0", "1", "0", " ", None]},
        Columns(),
        "'text' is empty: rows 2, 3(.|\n)*'label' is empty: rows 4, 5",
    ),
    "no numbers": (
        {"text": ["a", "b", "c"], "score": ["1.5", "high", "inf"]},
        Columns("regression"),
        "'high', which is not a finite number: row 2(.|\n)*'inf'",
    ),
    "choice out of range": (
        {"q": ["x"] * 3, "choice1": ["y"] * 3, "choice2": ["z"] * 3, "label": ["2", "1", "1.5"]},
        Columns(),
        "'2', which is none of the 2 choices: use 0 to 1 .*choices count from 0(.|\n)*'1.5'",
    ),
    "nothing said": (
        {"messages": [TALK, TALK[:1]]},
        Columns(),
        "no assistant turn, so there is nothing to train on: row 2",
    ),
    "no messages": (
        {"messages": ["hello", "[1]", '{"a": 1}']},
        Columns(),
        "is not a list of messages.*rows 1, 2",
    ),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_table_that_does_not_fit_is_described(name: str) -> None:
    columns, given, message = BAD_TABLES[name]
    with pytest.raises(ConfigError, match=message):
        resolve(table(**columns), given)


def test_labels_are_those_of_the_training_table() -> None:
    task = make_task(table(text=["a"] * 3, label=["10", "9", "10.0"]), Columns(
        "classification", ("text",), "label"), 16)  # fmt: skip
    assert task.head()["id2label"] == {0: "9", 1: "10"}
    with pytest.raises(
        ConfigError,
        match=r"reviews\.csv cannot be used for the task classification(.|\n)*'8'.*row 1",
    ):
        task.check(table(text=["a", "b"], label=["8", "9"]), "reviews.csv")


def test_a_test_table_without_the_columns_is_refused() -> None:
    task = make_task(table(text=["a", "b"], label=["0", "1"]), Columns(
        "classification", ("text",), "label"), 16)  # fmt: skip
    other = table(txt=["a"], label=["0"])
    with pytest.raises(ConfigError, match="there is no column 'text'"):
        task.check(other)
    task.check(table(text=["a"]), labelled=False)


def test_many_wrong_labels_are_counted() -> None:
    rows = table(text=["a"] * 30, label=[f"x{i}" for i in range(30)])
    with pytest.raises(ConfigError, match="and 20 more such values") as caught:
        resolve(rows, Columns("regression", ("text",), "label"))
    assert len(caught.value.problems) == 11


def test_a_number_that_no_float_reaches_is_named() -> None:
    rows = table_of({"text": ["a", "b"], "score": [1.5, int("1" * 310)]})
    with pytest.raises(ConfigError, match=r"'score' has the value 1{310}, which .*: row 2"):
        resolve(rows, Columns("regression"))

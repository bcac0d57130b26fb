"""Rows of several forwards in batches of similar length."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lorakit.errors import StateError
from lorakit.training.together.mixing import mixed


def forward(lengths: list[int], **more: Any) -> dict[str, Any]:
    """Row n is n + 1 as many times as it is long."""
    longest = max(lengths)
    rows = [[n + 1] * own + [0] * (longest - own) for n, own in enumerate(lengths)]
    ids = torch.tensor(rows)
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), **more}


def test_rows_of_like_length_stand_together_those_of_one_forward_side_by_side() -> None:
    forwards = {"a": forward([2, 300, 3]), "b": forward([301, 2])}
    short, long = mixed(forwards, token_budget=4096, padding=9)
    assert short.names == ["a", "a", "b"]
    assert dict(short.rows) == {"a": [0, 2], "b": [1]}
    assert short.arguments["input_ids"].tolist() == [[1, 1, 0], [3, 3, 3], [2, 2, 0]]
    assert short.arguments["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1], [1, 1, 0]]
    assert long.names == ["a", "b"]
    assert long.tokens == 301
    assert long.arguments["input_ids"][0, -1] == 9


def test_each_row_is_in_one_batch_within_the_budget() -> None:
    forwards = {name: forward(list(range(1, 30))) for name in "abc"}
    batches = mixed(forwards, token_budget=100, padding=0)
    assert all(len(batch.names) * batch.tokens <= 100 for batch in batches)
    seen = [(n, row) for batch in batches for n, rows in batch.rows.items() for row in rows]
    assert sorted(seen) == sorted((name, row) for name in "abc" for row in range(29))


def test_what_is_left_out_is_filled_in() -> None:
    without = {"input_ids": torch.ones(1, 2, dtype=torch.long), "token_type_ids": None}
    (batch,) = mixed(
        {"a": forward([3], token_type_ids=torch.ones(1, 3)), "b": without}, 4096, padding=0
    )
    assert batch.names == ["b", "a"][::-1]
    assert batch.arguments["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch.arguments["token_type_ids"].tolist() == [[1, 1, 1], [0, 0, 0]]


def test_other_arguments_are_one_for_all() -> None:
    (batch,) = mixed({"a": forward([2], use_cache=False), "b": forward([1], use_cache=False)}, 9, 0)
    assert batch.arguments["use_cache"] is False
    with pytest.raises(StateError, match="differ in use_cache"):
        mixed({"a": forward([2], use_cache=False), "b": forward([1], use_cache=True)}, 9, 0)


def test_an_argument_that_is_not_by_row_and_token_is_refused() -> None:
    with pytest.raises(StateError, match=r"a: position_ids has the shape \(1, 2\) beside"):
        mixed({"a": forward([2, 1], position_ids=torch.zeros(1, 2))}, 99, 0)


def test_padding_on_the_left_is_refused() -> None:
    arguments = {name: value.flip(1) for name, value in forward([3, 1]).items()}
    with pytest.raises(StateError, match="a pads its rows on the left"):
        mixed({"a": arguments}, 99, 0)

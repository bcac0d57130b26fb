"""Whole texts: every token is learned, and once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorakit.tasks.base import TRUNCATED
from lorakit.tasks.language_modeling import LanguageModeling

TEXTS = ["the user asks", "a\n\nb", "\u00e9t\u00e9 \U0001f600"]


def learned(tokenizer: Any, text: str, max_length: int = 512) -> list[int]:
    """What the loss counts of a text: of each piece all but its first token."""
    columns = LanguageModeling(("text",), None, max_length).encode(tokenizer, {"text": [text]})
    assert columns["labels"] == columns["input_ids"]
    assert not any(columns[TRUNCATED])
    assert max(map(len, columns["labels"])) <= max_length
    return [label for labels in columns["labels"] for label in labels[1:]]


def test_a_text_is_learned_to_its_end(gpt: Any) -> None:
    columns = LanguageModeling(("text",), None, 512).encode(gpt, {"text": TEXTS})
    assert [gpt.decode(ids) for ids in columns["input_ids"]] == [f"{t}<|im_end|>" for t in TEXTS]
    assert columns["labels"] == columns["input_ids"]


def test_an_end_token_that_is_set_closes_a_text(gpt: Any) -> None:
    task = LanguageModeling(("text",), None, 512).with_end_token(gpt, "<|endoftext|>")
    assert gpt.decode(task.encode(gpt, {"text": ["a"]})["labels"][0]) == "a<|endoftext|>"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.text("abc \n\u00e9", min_size=2, max_size=40), st.integers(2, 12))
def test_each_token_after_the_first_is_learned_once(gpt: Any, text: str, max_length: int) -> None:
    assert learned(gpt, text, max_length) == learned(gpt, text)


@pytest.mark.parametrize("max_length", [1, 2])
def test_the_shortest_pieces_are_pieces(gpt: Any, max_length: int) -> None:
    task = LanguageModeling(("text",), None, max_length)
    assert {len(ids) for ids in task.encode(gpt, {"text": TEXTS})["input_ids"]} == {max_length}


def test_a_prompt_is_a_text_without_its_end(gpt: Any) -> None:
    task = LanguageModeling(("text",), None, 4)
    ids = gpt(TEXTS[0])["input_ids"]
    assert task.prompts(gpt, {"text": TEXTS[:1]})["input_ids"] == [ids[-4:]]
    assert task.references({"text": TEXTS}) == [""] * 3

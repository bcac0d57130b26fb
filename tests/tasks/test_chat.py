"""Conversations: the loss counts what the assistant says, as transformers marks it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorakit.errors import ConfigError
from lorakit.tasks.base import TRUNCATED
from lorakit.tasks.chat import Chat
from lorakit.tasks.generation import IGNORED
from tests.tasks.conftest import CHATML, MARKED, REASONING

Messages = list[dict[str, str]]


def turns(*contents: str, system: str | None = None) -> Messages:
    """User and assistant in turn."""
    format_metrics = [
        {"role": ("user", "assistant")[i % 2], "content": content}
        for i, content in enumerate(contents)
    ]
    return [*([{"role": "system", "content": system}] if system else []), *format_metrics]


TALK = turns("the user asks", "a\n\nb", "\u00e9t\u00e9", "the end \U0001f600", system="c")


def encode(tokenizer: Any, *conversations: Any, max_length: int = 512) -> dict[str, list[Any]]:
    return Chat(("messages",), None, max_length).encode(tokenizer, {"messages": conversations})


def learned(tokenizer: Any, columns: dict[str, list[Any]], row: int = 0) -> list[str]:
    """The texts that the loss counts, one a turn."""
    texts: list[list[int]] = [[]]
    for label in columns["labels"][row]:
        if label == IGNORED:
            texts += [[]] if texts[-1] else []
        else:
            texts[-1].append(label)
    return [tokenizer.decode(ids) for ids in texts if ids]


def test_all_turns_of_the_assistant_are_learned_with_their_end(gpt: Any) -> None:
    columns = encode(gpt, TALK, turns("a", "b"))
    assert learned(gpt, columns) == ["a\n\nb<|im_end|>", "the end \U0001f600<|im_end|>"]
    assert learned(gpt, columns, 1) == ["b<|im_end|>"]


def test_ids_are_those_of_the_chat_template(gpt: Any) -> None:
    ids = gpt.apply_chat_template(TALK, tokenize=True, return_dict=True)["input_ids"]
    columns = encode(gpt, TALK)
    assert columns["input_ids"] == [ids]
    assert columns["attention_mask"] == [[1] * len(ids)]


WORDS = st.text("abc \n\u00e9\U0001f600", min_size=1, max_size=8).filter(str.strip)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=3))
def test_the_mask_equals_that_of_transformers(gpt: Any, pairs: list[tuple[str, str]]) -> None:
    messages = turns(*(content for pair in pairs for content in pair))
    gpt.chat_template = MARKED
    expected = gpt.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    wanted = [
        i if kept else IGNORED
        for i, kept in zip(expected["input_ids"], expected["assistant_masks"], strict=True)
    ]
    marked = encode(gpt, messages)
    gpt.chat_template = CHATML
    plain = encode(gpt, messages)
    for columns in (marked, plain):
        assert columns["input_ids"] == [expected["input_ids"]]
        assert columns["labels"] == [wanted]


def test_a_template_that_drops_earlier_reasoning_is_followed(gpt: Any) -> None:
    gpt.chat_template = REASONING
    columns = encode(gpt, turns("a", "b", "c", "d"))
    assert learned(gpt, columns) == ["b<|im_end|>", "<think>\n\n</think>\n\nd<|im_end|>"]


def test_a_template_that_rewrites_a_turn_is_refused(gpt: Any) -> None:
    gpt.chat_template = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"
    with pytest.raises(
        ConfigError,
        match="does not render an assistant turn as a continuation of its generation prompt",
    ):
        encode(gpt, turns("a", "b"))


def test_a_template_that_refuses_a_conversation_says_why(gpt: Any) -> None:
    gpt.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(ConfigError, match="roles must alternate"):
        encode(gpt, turns("a", "b"))


def test_a_conversation_may_begin_with_the_assistant(gpt: Any) -> None:
    assert learned(gpt, encode(gpt, turns("x", "hello")[1:])) == ["hello<|im_end|>"]


def test_a_tokenizer_without_a_template_is_refused(gpt: Any) -> None:
    gpt.chat_template = None
    with pytest.raises(ConfigError, match="no chat template"):
        encode(gpt, TALK)


def test_a_long_conversation_keeps_its_first_answer(gpt: Any) -> None:
    messages = turns("x" * 40, "abc", "y" * 40, "z")
    whole = encode(gpt, messages)
    short = encode(gpt, messages, max_length=20)
    assert learned(gpt, short) == ["abc<|im_end|>"]
    assert [len(ids) for ids in short["input_ids"]] == [20]
    assert (whole[TRUNCATED], short[TRUNCATED]) == ([0], [len(whole["input_ids"][0]) - 20])


def test_json_in_a_cell_and_empty_keys_are_read(gpt: Any) -> None:
    padded = [{**message, "name": None} for message in TALK]
    assert encode(gpt, json.dumps(TALK)) == encode(gpt, padded) == encode(gpt, TALK)


def test_a_prompt_ends_where_the_last_answer_begins(gpt: Any) -> None:
    chat = Chat(("messages",), None, 512)
    rows = {"messages": [TALK, TALK[:-1]]}
    prompts = chat.prompts(gpt, rows)
    asked = gpt.apply_chat_template(TALK[:-1], tokenize=True, add_generation_prompt=True)
    assert prompts["input_ids"] == [asked["input_ids"]] * 2
    assert chat.references(rows) == [TALK[-1]["content"], ""]

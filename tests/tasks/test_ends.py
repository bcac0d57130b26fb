"""Which token ends a completion, and where it is put."""

from __future__ import annotations

from typing import Any

import pytest

from lorakit.tasks.chat import Chat
from lorakit.tasks.ends import IGNORED, end_tokens, with_end
from lorakit.tasks.generation import Generation
from tests.tasks.conftest import CHATML

TALK = [
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "b"},
    {"role": "user", "content": "c"},
    {"role": "assistant", "content": "d"},
]
BARE = CHATML.replace("<|im_end|>", "")
UNCOUNTED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% generation %}{{ m['content'] }}{% endgeneration %}{{ '<|im_end|>\n' }}{% endfor %}"
)


def ids_of(tokenizer: Any, *tokens: str) -> list[int]:
    return tokenizer.convert_tokens_to_ids(list(tokens))


def encoded(tokenizer: Any, max_length: int = 512, **settings: Any) -> dict[str, list[Any]]:
    chat = Chat(("messages",), None, max_length, **settings)
    return chat.encode(tokenizer, {"messages": [TALK]})


def test_the_last_labelled_token_ends_a_completion(gpt) -> None:
    end, text = ids_of(gpt, "<|im_end|>", "<|endoftext|>")
    labels = [[IGNORED, 9, end, IGNORED, 8, end], [IGNORED, 7, text], [IGNORED]]
    assert end_tokens(gpt, labels, 512) == [end, text]


def test_a_piece_of_text_ends_none(gpt) -> None:
    assert end_tokens(gpt, [[IGNORED, 9, 8]], 512) == []


def test_a_special_token_where_a_completion_was_truncated_ends_none(gpt) -> None:
    end, other = ids_of(gpt, "<|im_end|>", "<|im_start|>")
    cut = [IGNORED, IGNORED, 9, other]
    assert end_tokens(gpt, [[IGNORED, 9, end], cut], max_length=4) == [end]


def test_completions_that_fill_the_maximum_length_end_all_the_same(gpt) -> None:
    (end,) = ids_of(gpt, "<|im_end|>")
    assert end_tokens(gpt, [[IGNORED, IGNORED, 9, end]] * 2, max_length=4) == [end]


def test_a_turn_that_the_template_does_not_close_gets_the_token_as_its_next_label(gpt) -> None:
    gpt.chat_template = BARE
    (end,) = ids_of(gpt, "<|endoftext|>")
    before, after = encoded(gpt), encoded(gpt, end_token="<|endoftext|>")
    assert before["labels"][0].count(end) == 0
    assert after["labels"][0].count(end) == 2
    assert after["input_ids"][0][:-1] == before["input_ids"][0][: len(after["input_ids"][0]) - 1]
    first = after["labels"][0].index(end)
    assert gpt.decode(after["labels"][0][first - 1]) == "b"
    assert after["input_ids"][0][first] != end


def test_an_end_that_the_template_writes_and_does_not_count_is_counted(gpt) -> None:
    gpt.chat_template = UNCOUNTED
    (end,) = ids_of(gpt, "<|im_end|>")
    before, after = encoded(gpt), encoded(gpt, end_token="<|im_end|>")
    assert after["input_ids"] == before["input_ids"]
    assert [label for label in after["labels"][0] if label == end] == [end] * 4


def test_an_end_that_is_there_already_is_not_put_twice(gpt) -> None:
    assert encoded(gpt, end_token="<|im_end|>") == encoded(gpt)


def test_a_completion_ends_with_the_end_token_in_place_of_eos(gpt) -> None:
    end, eos = ids_of(gpt, "<|endoftext|>", "<|im_end|>")
    rows = {"asked": ["a"], "said": ["b"]}
    default = Generation(("asked",), "said", 64).encode(gpt, rows)
    given = Generation(("asked",), "said", 64, end_token="<|endoftext|>").encode(gpt, rows)
    assert default["labels"][0][-1] == eos
    assert given["labels"][0] == [*default["labels"][0][:-1], end]


@pytest.mark.parametrize("labels", [[], [IGNORED, IGNORED]], ids=["empty", "nothing learned"])
def test_without_a_completion_nothing_is_put(labels) -> None:
    assert with_end(labels, labels, 9) == (labels, labels)


# --- the templates of published models, each with its tokens

FAMILIES = {
    "llama 2": ("[INST] ", " [/INST] ", "{a} </s>", "</s>"),
    "llama 3": (
        "<|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "{a}<|eot_id|>",
        "<|eot_id|>",
    ),
    "gemma": (
        "<start_of_turn>user\n",
        "<end_of_turn>\n<start_of_turn>model\n",
        "{a}<end_of_turn>\n",
        "<end_of_turn>",
    ),
    "phi 3": ("<|user|>\n", "<|end|>\n<|assistant|>\n", "{a}<|end|>\n", "<|end|>"),
    "zephyr": ("<|user|>\n", "</s>\n<|assistant|>\n", "{a}</s>\n", "</s>"),
    "mistral": ("[INST]", "[/INST]", "{a}</s>", "</s>"),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_end_of_a_turn_of_published_templates_is_found(gpt, name) -> None:
    user, asked, answer, end = FAMILIES[name]
    gpt.add_special_tokens({"additional_special_tokens": sorted({end, "<|end_header_id|>"})})
    before, after = answer.split("{a}")
    gpt.chat_template = (
        f"{{% for m in messages %}}{{% if m.role == 'user' %}}{{{{ {user!r} + m.content }}}}"
        f"{{{{ {asked!r} }}}}{{% else %}}"
        f"{{{{ {before!r} + m.content + {after!r} }}}}{{% endif %}}{{% endfor %}}"
    )
    chat = Chat(("messages",), None, 512)
    labels = chat.encode(gpt, {"messages": [TALK]})["labels"]
    assert chat.stop_tokens(gpt, labels) == chat.stop_tokens(gpt) == ids_of(gpt, end)

"""A turn ends before the next message, also where no special token closes it."""

from __future__ import annotations

from typing import Any

import pytest

from lorakit.errors import ConfigError
from tests.tasks.test_chat import Messages, encode, learned, turns

HEADERS = (  # no turn is closed, and EOS follows the whole conversation
    "{% for m in messages %}### {{m.role}}:\n{{m.content}}\n\n{% endfor %}"
    "{% if add_generation_prompt %}### assistant:\n{% else %}{{ eos_token }}{% endif %}"
)
PHI = (  # as Phi-3's, with a tokenizer for which <|end|> is text
    "{% for m in messages %}{{'<|' + m.role + '|>\n' + m.content + '<|end|>\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{'<|assistant|>\n'}}{% else %}{{ eos_token }}{% endif %}"
)
LAST = (  # EOS follows the last answer, a generation prompt or not
    "{% for m in messages %}### {{m.role}}:\n{{m.content}}"
    "{{ eos_token if loop.last and m.role == 'assistant' }}\n\n"
    "{% endfor %}{% if add_generation_prompt %}### assistant:\n{% endif %}"
)
OPENED = (  # a special token opens each turn
    "{% for m in messages %}<|im_start|>{{m.role}}\n{{m.content}}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% else %}{{ eos_token }}{% endif %}"
)
DROPPED = HEADERS.replace(
    "{{m.content}}", "{{'thought ' if loop.last and m.role == 'assistant'}}{{m.content}}"
)
ENDS = {
    "headers": (HEADERS, "", "\n\n<|im_end|>"),
    "phi": (PHI, "<|end|>", "<|end|>\n<|im_end|>"),
    "last": (LAST, "", "<|im_end|>"),
    "opened": (OPENED, "", "\n<|im_end|>"),
}


def weighted(*weights: int) -> Messages:
    """Three questions and answers; the answers have these weights."""
    messages: list[Any] = turns("left", "yes", "right", "no", "up", "so")
    for message, weight in zip(messages[1::2], weights, strict=True):
        message["weight"] = weight
    return messages


@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1)])
@pytest.mark.parametrize("name", ENDS)
def test_a_turn_never_reaches_into_the_next_message(
    gpt: Any, name: str, weights: tuple[int, ...]
) -> None:
    gpt.chat_template, end, last = ENDS[name]
    answers = [f"yes{end}", f"no{end}", f"so{last}"]
    wanted = [answer for answer, weight in zip(answers, weights, strict=True) if weight]
    assert learned(gpt, encode(gpt, weighted(*weights))) == wanted


def test_the_next_message_may_say_what_the_turn_says(gpt: Any) -> None:
    gpt.chat_template = HEADERS
    columns = encode(gpt, turns("yes", "yes", "yes", "?", "?", "yes"))
    assert learned(gpt, columns) == ["yes", "?", "yes\n\n<|im_end|>"]


def test_a_turn_whose_end_cannot_be_located_is_refused(gpt: Any) -> None:
    gpt.chat_template = DROPPED
    assert learned(gpt, encode(gpt, turns("a", "b"))) == ["thought b\n\n<|im_end|>"]
    with pytest.raises(ConfigError, match="the turn's tokens cannot be located"):
        encode(gpt, turns("a", "b", "c", "d"))

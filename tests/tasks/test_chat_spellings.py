"""Each template is given what it reads: arguments as objects or texts, contents or parts."""

from __future__ import annotations

from typing import Any

import pytest

from lorakit.errors import ConfigError
from lorakit.tables.json_cells import table_of
from lorakit.tasks.chat import Chat
from tests.tasks.conftest import REASONING, TOOL_USE
from tests.tasks.test_conversations import BOT, USER, chatml, learned

AS_JSON = "{{ 'call ' + call.function.name + ' ' + (call.function.arguments | tojson) }}"
TEMPLATES = {
    "as json": (AS_JSON, '{"x": "\u00e9"}'),
    "a text": ("{{ 'call ' + call.function.name + ' ' + call.function.arguments }}",
               '{"x": "\u00e9"}'),
    "as python": ("{{ 'call ' + call.function.name }} {{ call.function.arguments }}",
                  '{"x": "\u00e9"}'),
    "an object": ("{{ 'call ' + call.function.name + ' ' }}"
                  "{% for k, v in call.function.arguments.items() %}{{ k }}={{ v }}{% endfor %}",
                  "x=\u00e9"),
}  # fmt: skip
PARTS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% for part in m.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{{ '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.mark.parametrize("arguments", [{"x": "\u00e9"}, '{"x": "\u00e9"}'], ids=["object", "text"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_arguments_are_spelled_as_the_template_reads_them(
    gpt: Any, name: str, arguments: Any
) -> None:
    written, expected = TEMPLATES[name]
    assert AS_JSON in TOOL_USE
    gpt.chat_template = TOOL_USE.replace(AS_JSON, written)
    call = {"function": {"name": "f", "arguments": arguments}}
    row = {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [call]}]}
    assert learned(gpt, [row])[0][1] == f"call f {expected}<|im_end|>"


@pytest.mark.parametrize("arguments", ["{}", {}, "no JSON", "[1]"])
def test_other_arguments_are_as_they_are(gpt: Any, arguments: Any) -> None:
    gpt.chat_template = TOOL_USE.replace("(call.function.arguments | tojson)",
                                         "(call.function.arguments | string)")  # fmt: skip
    call = {"function": {"name": "f", "arguments": arguments}}
    row = {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [call]}]}
    assert learned(gpt, [row])[0][1] == f"call f {arguments}<|im_end|>"


def test_a_template_of_parts_is_given_parts(gpt: Any) -> None:
    gpt.chat_template = PARTS
    assert learned(gpt, [{"messages": [USER, BOT, USER, BOT]}]) == [
        (chatml("user: Q", "assistant: A") * 2, "A<|im_end|>|A<|im_end|>")
    ]
    prompts = Chat(("messages",), None, 512).prompts(gpt, table_of({"messages": [[USER]]})[:])
    assert gpt.decode(prompts["input_ids"][0]) == chatml("user: Q") + "<|im_start|>assistant\n"


def test_a_template_that_writes_no_text_is_refused(gpt: Any) -> None:
    gpt.chat_template = "{% for m in messages %}{{ '<|im_start|><|im_end|>' }}{% endfor %}"
    with pytest.raises(ConfigError, match="writes none of the texts of a conversation"):
        learned(gpt, [{"messages": [USER, BOT]}])


def test_a_call_before_other_turns_ends_with_its_own_token(gpt: Any) -> None:
    """Qwen3's template shows an empty thought in the last turn only."""
    gpt.chat_template = REASONING.replace(
        "m['content'] +", "(m.tool_calls | tojson if m.tool_calls else m.content) +"
    )
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "f"}]}
    row = {"messages": [USER, call, {"role": "tool", "content": "t"}, BOT]}
    assert learned(gpt, [row])[0][1] == (
        '[{"name": "f"}]<|im_end|>|<think>\n\n</think>\n\nA<|im_end|>'
    )

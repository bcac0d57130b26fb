"""What a template does not write is said, once."""

from __future__ import annotations

from typing import Any

import pytest

from lorakit.errors import ConfigError
from lorakit.tables.json_cells import table_of
from lorakit.tasks.columns import make_task, resolve
from lorakit.tasks.spec import Columns
from tests.tasks.conftest import TOOL_USE
from tests.tasks.test_conversations import BOT, MOVE, USER, Row


def unread(tokenizer: Any, *rows: Row) -> list[str]:
    table = table_of({name: [row.get(name) for row in rows] for name in rows[0]})
    columns = resolve(table, Columns())
    return make_task(table, columns, 512).remarks(tokenizer, table)


def test_what_the_template_does_not_read_is_said_once(gpt: Any) -> None:
    odd = {**BOT, "id": 7, "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    row = {"messages": [USER, odd], "tools": [MOVE]}
    assert unread(gpt, {"messages": [USER, BOT]}) == []
    (said,) = unread(gpt, row, row)
    assert "tools" in said
    assert "the key 'id' of messages" in said
    assert "the key 'tool_calls' of messages" in said
    gpt.chat_template = TOOL_USE
    (said,) = unread(gpt, row, row)
    assert said == (
        "The chat template does not use the key 'id' of messages: the model will not see that."
    )


def test_a_key_that_is_read_in_some_row_is_not_said(gpt: Any) -> None:
    gpt.chat_template = gpt.chat_template.replace("m['role'] +", "m['role'] + (m.name or '') +")
    rows = [{"messages": [{**USER, "name": name}, BOT]} for name in ("", "Ada")]
    assert unread(gpt, *rows) == []


def test_a_system_message_that_the_template_drops_is_said(gpt: Any) -> None:
    gpt.chat_template = gpt.chat_template.replace(
        "for m in messages", "for m in messages if m.role != 'system'"
    )
    row = {"messages": [{"role": "system", "content": "s"}, USER, BOT]}
    assert unread(gpt, row) == [
        "The chat template does not use system messages: the model will not see that."
    ]


def test_a_turn_of_which_nothing_is_written_is_refused(gpt: Any) -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "f"}]}
    with pytest.raises(ConfigError, match="does not write tool calls"):
        unread(gpt, {"messages": [USER, call, BOT]})
    (said,) = unread(gpt, {"messages": [USER, {**call, "weight": 0}, BOT]})
    assert "the key 'tool_calls' of messages" in said

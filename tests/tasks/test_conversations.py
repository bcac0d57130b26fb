"""Rows of every form as conversations: what is asked, what is answered, and what is learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from lorakit.errors import ConfigError
from lorakit.tables.json_cells import table_of
from lorakit.tables.reading import read_table
from lorakit.tasks.chat import Chat
from lorakit.tasks.columns import make_task, resolve
from lorakit.tasks.ends import IGNORED
from lorakit.tasks.spec import Columns
from tests.tasks.conftest import MARKED, TOOL_USE

Row = dict[str, Any]

USER, BOT = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}
MOVE = {"type": "function", "function": {"name": "move"}}


def learned(tokenizer: Any, rows: list[Row], task: str | None = None) -> list[tuple[str, str]]:
    """What the model sees of each row, and what of it the loss counts, turn by turn."""
    table = table_of({name: [row.get(name) for row in rows] for row in rows for name in row})
    columns = resolve(table, Columns(task))
    encoded = make_task(table, columns, 512).encode(tokenizer, table[:])
    found = []
    for ids, labels in zip(encoded["input_ids"], encoded["labels"], strict=True):
        kept = [i if label != IGNORED else tokenizer.pad_token_id
                for i, label in zip(ids, labels, strict=True)]  # fmt: skip
        turns = tokenizer.decode(kept).split(tokenizer.pad_token)
        found.append((tokenizer.decode(ids), "|".join(filter(None, turns))))
    return found


def chatml(*turns: str) -> str:
    """ChatML of "role: content"."""
    parts = [turn.partition(": ") for turn in turns]
    return "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, _, content in parts)


ASKED = chatml("user: Q", "assistant: A")
FORMS: dict[str, tuple[Row, str, str]] = {
    "messages": ({"messages": [USER, BOT]}, ASKED, "A<|im_end|>"),
    "prompt and completion": ({"prompt": [USER], "completion": [BOT]}, ASKED, "A<|im_end|>"),
    "json in cells": (
        {"prompt": json.dumps([USER]), "completion": json.dumps([BOT])},
        ASKED,
        "A<|im_end|>",
    ),
    "python in cells, as pandas writes CSV": (
        {"prompt": str([USER]), "completion": str([BOT])},
        ASKED,
        "A<|im_end|>",
    ),
    "a text is answered by messages": ({"prompt": "Q", "completion": [BOT]}, ASKED, "A<|im_end|>"),
    "answers in a prompt are context": (
        {"prompt": [USER, BOT, USER], "completion": "B"},
        chatml("user: Q", "assistant: A", "user: Q", "assistant: B"),
        "B<|im_end|>",
    ),
    "sharegpt": (
        {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}]},
        chatml("user: hi", "assistant: yo"),
        "yo<|im_end|>",
    ),
    "sharegpt with roles of transformers": (
        {"conversations": [{"from": "user", "value": "hi"}, {"from": "assistant", "value": "yo"}]},
        chatml("user: hi", "assistant: yo"),
        "yo<|im_end|>",
    ),
    "sharegpt with system and tool": (
        {
            "conversations": [
                {"from": "system", "value": "s"},
                {"from": "human", "value": "hi"},
                {"from": "tool", "value": "t"},
                {"from": "observation", "value": "o"},
                {"from": "gpt", "value": "yo"},
            ]
        },
        chatml("system: s", "user: hi", "tool: t", "tool: o", "assistant: yo"),
        "yo<|im_end|>",
    ),
    "a column of system messages": (
        {"conversations": [USER, BOT], "system": "Be brief."},
        chatml("system: Be brief.", "user: Q", "assistant: A"),
        "A<|im_end|>",
    ),
    "a history before messages": (
        {"history": [["q0", "a0"]], "messages": [USER, BOT]},
        chatml("user: q0", "assistant: a0", "user: Q", "assistant: A"),
        "A<|im_end|>",
    ),
    "a history after the system message": (
        {"messages": [{"role": "system", "content": "s"}, USER, BOT], "history": [["q0", "a0"]]},
        chatml("system: s", "user: q0", "assistant: a0", "user: Q", "assistant: A"),
        "A<|im_end|>",
    ),
    "roles in another case": (
        {"messages": [{**USER, "role": "User"}, {**BOT, "role": "Assistant"}, USER, BOT]},
        ASKED * 2,
        "A<|im_end|>|A<|im_end|>",
    ),
    "sharegpt in another case": (
        {"conversations": [{"from": "Human", "value": "hi"}, {"from": "GPT", "value": "yo"}]},
        chatml("user: hi", "assistant: yo"),
        "yo<|im_end|>",
    ),
    "system twice": (
        {"messages": [{"role": "system", "content": "s"}, USER, BOT], "system": "s"},
        chatml("system: s", "user: Q", "assistant: A"),
        "A<|im_end|>",
    ),
    "parts of text": (
        {"messages": [{**USER, "content": [{"type": "text", "text": "Q"}]}, BOT]},
        ASKED,
        "A<|im_end|>",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_a_row_of_a_conversation_becomes_chat(gpt: Any, name: str) -> None:
    row, seen, counted = FORMS[name]
    assert learned(gpt, [row]) == [(seen, counted)]


INSTRUCTION = {"instruction": "do", "input": "", "output": "done", "system": "Be brief.",
               "history": [["q0", "a0"]]}  # fmt: skip


def test_an_instruction_is_asked_after_its_system_message_and_history(gpt: Any) -> None:
    plain = {"instruction": "do", "input": "it", "output": "done", "system": "", "history": []}
    assert learned(gpt, [INSTRUCTION, plain]) == [
        ("Be brief.\n\nq0\n\na0\n\ndo done<|im_end|>", " done<|im_end|>"),
        ("do\n\nit done<|im_end|>", " done<|im_end|>"),
    ]
    assert learned(gpt, [INSTRUCTION, plain], "chat") == [
        (
            chatml("system: Be brief.", "user: q0", "assistant: a0", "user: do", "assistant: done"),
            "done<|im_end|>",
        ),
        (chatml("user: do\n\nit", "assistant: done"), "done<|im_end|>"),
    ]


def test_a_context_is_a_part_of_the_prompt(gpt: Any) -> None:
    rows = [{"context": "where", "question": "Q", "answer": "A"},
            {"context": "", "question": "Q", "answer": "A"}]  # fmt: skip
    assert learned(gpt, rows) == [
        ("Q\n\nwhere A<|im_end|>", " A<|im_end|>"),
        ("Q A<|im_end|>", " A<|im_end|>"),
    ]


def test_alpacas_file_is_one_list(gpt: Any, tmp_path: Path) -> None:
    rows = [{"instruction": "do", "input": text, "output": "done"} for text in ("", "it")]
    (tmp_path / "alpaca.json").write_text(json.dumps(rows, indent=4))
    assert learned(gpt, [dict(row) for row in read_table(str(tmp_path / "alpaca.json"))]) == [
        ("do done<|im_end|>", " done<|im_end|>"),
        ("do\n\nit done<|im_end|>", " done<|im_end|>"),
    ]


def test_a_history_may_be_json_or_text_in_a_cell(gpt: Any) -> None:
    rows = [{**INSTRUCTION, "history": '[["q0", "a0"]]'}, {**INSTRUCTION, "history": "q0\n\na0"}]
    assert learned(gpt, rows) == learned(gpt, [INSTRUCTION]) * 2


@pytest.mark.parametrize("template", [TOOL_USE, {"default": "none", "tool_use": TOOL_USE}])
def test_a_rows_own_tools_reach_the_template(gpt: Any, template: Any) -> None:
    gpt.chat_template = template
    rows = [{"messages": [USER, BOT], "tools": [MOVE]},
            {"messages": [USER, BOT], "tools": json.dumps([{**MOVE, "x": 1}])}]  # fmt: skip
    seen = [text for text, _ in learned(gpt, rows)]
    assert seen[0] == f"tools: {json.dumps([MOVE])}\n{ASKED}"
    assert seen[1] == f"tools: {json.dumps([{**MOVE, 'x': 1}])}\n{ASKED}"
    prompts = Chat(("messages", "tools"), None, 512).prompts(gpt, table_of(
        {name: [row[name] for row in rows] for name in rows[0]})[:])  # fmt: skip
    assert gpt.decode(prompts["input_ids"][0]).startswith("tools: ")


def test_each_call_has_its_own_arguments(gpt: Any) -> None:
    gpt.chat_template = TOOL_USE
    calls = [{"text": "hey"}, {"x": None, "deep": [{"y": 1}]}]
    rows = [
        {"messages": [USER, {"role": "assistant", "content": None,
                             "tool_calls": [{"function": {"name": "f", "arguments": call}}]}]}
        for call in calls
    ]  # fmt: skip
    assert [counted for _, counted in learned(gpt, rows)] == [
        f"call f {json.dumps(call)}<|im_end|>" for call in calls
    ]


def test_a_function_call_of_sharegpt_is_a_tool_call(gpt: Any) -> None:
    gpt.chat_template = TOOL_USE
    call = {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'}
    rows = [{"conversations": [{"from": "human", "value": "hi"}, call]}]
    assert learned(gpt, rows)[0][1] == 'call f {"x": 1}<|im_end|>'


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("key", [{"weight": 0}, {"train": False}, {"loss": False}])
def test_a_turn_of_no_weight_is_not_learned(gpt: Any, key: Row, marked: bool) -> None:
    gpt.chat_template = MARKED if marked else gpt.chat_template
    bad = {"role": "assistant", "content": "BAD", **key}
    good = {"role": "assistant", "content": "A", **dict.fromkeys(key, 1)}
    (seen, counted), (_, first) = learned(
        gpt, [{"messages": [USER, bad, USER, good]}, {"messages": [USER, good, USER, bad]}]
    )
    assert seen == chatml("user: Q", "assistant: BAD", "user: Q", "assistant: A")
    assert counted == first == "A<|im_end|>"


BAD: dict[str, tuple[Row, str]] = {
    "no role": ({"messages": [{"content": "a"}]}, "has a message without role and content"),
    "no content": ({"messages": [{"role": "a"}]}, "has a message without role and content"),
    "unknown speaker": (
        {"conversations": [{"from": "bot", "value": "a"}]},
        "has a message from 'bot', which is none of user, assistant, system, tool, human, gpt",
    ),
    "half a weight": ({"messages": [USER, {**BOT, "weight": 0.5}]}, "weight 0.5; it is 0 or 1"),
    "no weight": ({"messages": [USER, {**BOT, "weight": 0}]}, "weight 0 for each assistant turn"),
    "a picture": (
        {"messages": [{**USER, "content": [{"type": "image", "url": "x"}]}, BOT]},
        "content is not text, nor parts of text",
    ),
    "a call without a name": (
        {"conversations": [{"from": "function_call", "value": "{}"}]},
        "has a function_call that is not JSON with name and arguments",
    ),
    "half a pair": ({"messages": [{**USER, "content": "\ud83d"}, BOT]}, "half a surrogate pair"),
    "no tools": ({"messages": [USER, BOT], "tools": "move"}, "'tools' is not a list of tools"),
    "two systems": (
        {"messages": [{"role": "system", "content": "s"}, USER, BOT], "system": "t"},
        "a column of its own and another one among the messages",
    ),
    "nothing said": ({"prompt": [USER], "completion": [USER]}, "has no assistant turn"),
    "an empty answer": ({"prompt": [USER], "completion": ""}, "'completion' is empty"),
    "no prompt": ({"prompt": [], "completion": [BOT]}, "there is no prompt in prompt"),
    "nothing at all": (
        {"prompt": [], "completion": [], "tools": [MOVE]},
        "has no assistant turn",
    ),
    "no pairs": ({**INSTRUCTION, "history": [["q0"]]}, "'history' is not a list of pairs"),
    "a list of words": (
        {"prompt": ["a", "b"], "completion": "c"},
        "column 'prompt' is a list, where text is wanted",
    ),
    "a list as a completion": (
        {"prompt": "a", "completion": ["b"]},
        "column 'completion' is a list, where text is wanted",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_row_that_is_no_conversation_is_named(name: str) -> None:
    row, message = BAD[name]
    good = {"messages": [USER, BOT], "conversations": [USER, BOT], "prompt": "a",
            "completion": "b", **INSTRUCTION, "tools": None}  # fmt: skip
    rows = [{name: good[name] for name in row}, row]
    table = table_of({name: [each[name] for each in rows] for name in row})
    with pytest.raises(ConfigError, match=f"{message}.*: row 2"):
        resolve(table, Columns())


@pytest.mark.parametrize("spelling", [list, json.dumps, str])
def test_a_list_is_no_text_of_a_generation(spelling: Any) -> None:
    table = Dataset.from_dict({"prompt": [spelling([USER])], "completion": [spelling([BOT])]})
    with pytest.raises(ConfigError, match="is a list, where text is wanted; the task chat reads"):
        resolve(table, Columns("generation"))


def test_json_that_is_no_message_is_text(gpt: Any) -> None:
    people = '[{"role": "CEO", "name": "Ada"}]'
    rows = [{"prompt": "Who?", "completion": people}]
    assert learned(gpt, rows) == [(f"Who? {people}<|im_end|>", f" {people}<|im_end|>")]

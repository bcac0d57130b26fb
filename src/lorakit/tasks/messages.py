"""Messages in the spellings of the field's data sets, as chat templates take them.

    {"role": "user", "content": "hi"}                     transformers, OpenAI
    {"from": "human", "value": "hi"}                      ShareGPT
    {"role": "assistant", "content": "yo", "weight": 0}   not learned; also "train", "loss": false
    ["hi", "yo"]                                          what user and assistant said, in a history

The content is text, or a list of parts that are text. A `function_call` of ShareGPT becomes the
`tool_calls` of an assistant turn. Roles are compared without case.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lorakit.errors import ConfigError
from lorakit.tables.cells import is_blank, json_in, list_in

Message = dict[str, Any]

ASSISTANT, CALL = "assistant", "function_call"
_ROLES = {"human": "user", "gpt": ASSISTANT, "observation": "tool", CALL: ASSISTANT}
"""The role of a name that has no other meaning."""
_SHAREGPT = ("user", ASSISTANT, "system", "tool", *_ROLES)
_NEEDED = ({"role", "from"}, {"content", "value", "tool_calls"})
_COUNTS = ("weight", "train", "loss")
"""Keys that say whether the loss counts a message: 0 and false, or 1 and true."""


@dataclass(frozen=True)
class Turn:
    """A message, and whether the loss counts it."""

    message: Message
    learned: bool

    @property
    def is_answer(self) -> bool:
        return bool(self.message["role"] == ASSISTANT)

    @property
    def content(self) -> str:
        """The content as text, also of parts."""
        content = self.message["content"]
        if isinstance(content, list):
            return "".join(str(part["text"]) for part in content if "text" in part)
        return "" if content is None else str(content)

    @property
    def text(self) -> str:
        """The content; without one, the tool calls as JSON."""
        calls = self.message.get("tool_calls")
        only_calls = calls and is_blank(self.content)
        return json.dumps(calls, ensure_ascii=False) if only_calls else self.content

    def as_context(self) -> Turn:
        """The turn, not learned."""
        return replace(self, learned=False)


def said(role: str, content: str) -> Turn:
    """A turn of plain text."""
    return Turn({"role": role, "content": content}, role == ASSISTANT)


def read_turns(cell: Any) -> list[Turn]:
    """The turns of a list of messages, or a list in text; raises ConfigError for anything else."""
    if is_blank(cell):
        raise ConfigError("is empty")
    messages = list_in(cell)
    if messages is None or not all(isinstance(message, Mapping) for message in messages):
        raise ConfigError("is not a list of messages with role and content")
    return [_turn(message) for message in messages]


def read_history(cell: Any) -> list[Turn]:
    """The turns of a list of (user, assistant) pairs, of a list of messages, or one in text."""
    pairs = [] if is_blank(cell) else list_in(cell)
    if pairs and isinstance(pairs[0], Mapping):
        return read_turns(pairs)
    if pairs is None or not all(map(_is_pair, pairs)):
        raise ConfigError("is not a list of pairs, what the user and the assistant said")
    return [
        turn for user, answer in pairs for turn in (said("user", user), said(ASSISTANT, answer))
    ]


def history_problem(cell: Any) -> str | None:
    """What is wrong with a history, if anything is."""
    try:
        read_history(cell)
    except ConfigError as error:
        return error.headline
    return None


def holds_messages(cell: Any) -> bool:
    """Whether the cell is a list of messages, or one in text, and no other list or text."""
    messages = list_in(cell)
    return bool(messages) and all(
        isinstance(message, Mapping) and all(not keys.isdisjoint(message) for keys in _NEEDED)
        for message in messages or []
    )


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value)


def _turn(raw: Mapping[str, Any]) -> Turn:
    rest = {key: value for key, value in raw.items() if value is not None}
    named = rest.pop("role", None)
    role = _sharegpt_role(rest) if named is None else _lowered(named)
    content = rest.pop("content" if "content" in raw else "value", None)
    counts = [_counts(key, rest.pop(key)) for key in _COUNTS if key in rest]
    has_content = not {"content", "value", "tool_calls"}.isdisjoint(raw)
    if not isinstance(role, str) or not has_content:
        raise ConfigError("has a message without role and content")
    message = {"role": _ROLES.get(role, role), "content": _text(content, role), **rest}
    if role == CALL:
        message |= {"content": None, "tool_calls": _calls(content)}
    _require_text(message)
    return Turn(message, all(counts) and message["role"] == ASSISTANT)


def _sharegpt_role(rest: Message) -> Any:
    role = _lowered(rest.pop("from", None))
    if role is not None and role not in _SHAREGPT:
        known = ", ".join(_SHAREGPT)
        raise ConfigError(f"has a message from {role!r}, which is none of {known}")
    return role


def _lowered(role: Any) -> Any:
    """A role of the field in lower case; any other as it is, for the template."""
    lower = role.lower() if isinstance(role, str) else role
    return lower if lower in _SHAREGPT else role


def _counts(key: str, value: Any) -> bool:
    if value not in (0, 1):
        raise ConfigError(f"has a message with {key} {value!r}; it is 0 or 1, false or true")
    return bool(value)


def _text(content: Any, role: str) -> Any:
    """The content as text; a tool's answer may be any value."""
    if content is None or isinstance(content, str) or role in ("tool", "observation"):
        return content
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, Mapping) else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise ConfigError("has a message whose content is not text, nor parts of text")
    return "".join(map(str, texts))


def _calls(content: Any) -> list[dict[str, Any]]:
    """The tool calls of JSON of {"name": ..., "arguments": {...}}, or of a list of them."""
    found = json_in(content)
    calls = found if isinstance(found, list) else [found]
    if not all(isinstance(call, dict) and {"name", "arguments"} <= set(call) for call in calls):
        raise ConfigError("has a function_call that is not JSON with name and arguments")
    return [{"type": "function", "function": call} for call in calls]


def _require_text(message: Message) -> None:
    """Raise ConfigError if the message holds half of a surrogate pair at any depth."""
    try:
        json.dumps(message, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        raise ConfigError("has half a surrogate pair, which is no text") from error

"""A conversation in the spelling that a chat template reads.

Templates agree on role and content, and differ in two things, without a word about it:

    arguments of a tool call   an object, or JSON of one in a text (OpenAI, DeepSeek)
    content                    a text, or a list of parts (SmolVLM)

Given the other spelling, a template raises an error, writes an object as Python does, or writes
nothing. So the spellings are tried in turn until one is written as it should be.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from lorakit.errors import ConfigError
from lorakit.tables.cells import json_in
from lorakit.tasks.chat_template import render
from lorakit.tasks.conversations import Conversation
from lorakit.tasks.messages import Message


def spelled(tokenizer: Any, conversation: Conversation) -> Conversation:
    """The conversation in the first spelling that the template writes as it should.

    Raises ConfigError if it raises an error for all of them, or writes no text of any turn.
    """
    errors: list[ConfigError] = []
    written: list[Conversation] = []
    for spelling in SPELLINGS:
        turns = [replace(turn, message=spelling(turn.message)) for turn in conversation.turns]
        candidate = replace(conversation, turns=turns)
        try:
            text = render(tokenizer, candidate)
        except ConfigError as error:
            errors.append(error)
            continue
        if _shows_texts(candidate, text):
            if not _shows_python(candidate, text):
                return candidate
            written.append(candidate)
    if written:
        return written[0]
    if errors:
        raise errors[0]
    raise ConfigError("The tokenizer's chat template writes none of the texts of a conversation.")


def _shows_texts(conversation: Conversation, text: str) -> bool:
    """Whether the template has written what some turn says, if any says something."""
    contents = [content for turn in conversation.turns if (content := turn.content.strip())]
    return not contents or any(content in text for content in contents)


def _shows_python(conversation: Conversation, text: str) -> bool:
    """Whether the template has written the arguments of a call as Python does."""
    messages = (turn.message for turn in conversation.turns)
    found = [call["arguments"] for message in messages for call in _calls(message)]
    return any(isinstance(value, dict) and value and repr(value) in text for value in found)


def _with_objects(message: Message) -> Message:
    return _with_arguments(message, _as_object)


def _with_texts(message: Message) -> Message:
    return _with_arguments(message, _as_text)


def _with_parts(message: Message) -> Message:
    message, content = _with_objects(message), message["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return {**message, "content": parts}


SPELLINGS: tuple[Callable[[Message], Message], ...] = (_with_objects, _with_texts, _with_parts)


def _with_arguments(message: Message, spelling: Callable[[Any], Any]) -> Message:
    if not any(_calls(message)):
        return message
    message = copy.deepcopy(message)
    for call in _calls(message):
        call["arguments"] = spelling(call["arguments"])
    return message


def _calls(message: Message) -> Iterator[dict[str, Any]]:
    """The tool calls of a message that have arguments, without what they are wrapped in."""
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        inner = call.get("function", call) if isinstance(call, dict) else None
        if isinstance(inner, dict) and "arguments" in inner:
            yield inner


def _as_object(value: Any) -> Any:
    found = json_in(value)
    return found if isinstance(found, dict) else value


def _as_text(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value

"""What a conversation holds and a chat template does not write, so that the model never sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from lorakit.errors import ConfigError
from lorakit.tasks.chat_spellings import spelled
from lorakit.tasks.chat_template import render
from lorakit.tasks.conversations import Conversation

KEY = "the key {!r} of messages"
_TRIED = 100
"""Conversations with a part after which it is said to be unread."""


def unread(tokenizer: Any, conversations: Iterable[Conversation]) -> list[str]:
    """What conversations hold and the template does not write: it writes the same without that."""
    tried: Counter[str] = Counter()
    is_read: set[str] = set()
    for conversation in conversations:
        for part, rest in _without_each_part(conversation):
            if part not in is_read and tried[part] < _TRIED:
                tried[part] += 1
                if _differs(tokenizer, conversation, rest):
                    is_read.add(part)
    return [part for part in tried if part not in is_read]


def _without_each_part(conversation: Conversation) -> Iterator[tuple[str, Conversation]]:
    """Each part that a template may leave out, and the conversation without it."""
    turns = conversation.turns
    if conversation.tools:
        yield "tools", replace(conversation, tools=None)
    others = [turn for turn in turns if turn.message["role"] != "system"]
    if len(others) < len(turns):
        yield "system messages", replace(conversation, turns=others)
    keys = dict.fromkeys(key for turn in turns for key in turn.message)
    for key in [key for key in keys if key not in ("role", "content")]:
        rest = [replace(turn, message={k: v for k, v in turn.message.items() if k != key})
                for turn in turns]  # fmt: skip
        yield KEY.format(key), replace(conversation, turns=rest)


def _differs(tokenizer: Any, one: Conversation, other: Conversation) -> bool:
    try:
        return _written(tokenizer, one) != _written(tokenizer, other)
    except ConfigError:  # the template needs the part
        return True


def _written(tokenizer: Any, conversation: Conversation) -> str:
    return render(tokenizer, spelled(tokenizer, conversation))

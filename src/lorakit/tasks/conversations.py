"""A row as a conversation, from the parts that its columns hold.

    system     what the conversation begins with
    history    pairs of what was said before, or messages; not learned
    tools      what the template shows beside the messages
    others     messages, or texts of the user, joined with empty lines between them
    label      the answer: text, or messages

The first three are columns of that name, unless one of them is the only column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from lorakit.errors import ConfigError
from lorakit.tables.cells import is_blank, json_in, text_problem
from lorakit.tasks.messages import (
    ASSISTANT,
    Message,
    Turn,
    holds_messages,
    read_history,
    read_turns,
    said,
)

SYSTEM, HISTORY, TOOLS = ("system", "system_prompt"), ("history",), ("tools",)
CONTEXT = (*SYSTEM, *HISTORY, *TOOLS)
"""The names of columns that are a part of their own, in lower case."""


@dataclass(frozen=True)
class Conversation:
    """Turns, and the tools that a row offers in them."""

    turns: Sequence[Turn]
    tools: list[Any] | None = None

    @property
    def messages(self) -> list[Message]:
        return [turn.message for turn in self.turns]

    def question(self) -> Conversation:
        """What comes before the last answer; all, if that is not the last turn."""
        asked = self.turns[:-1] if self.turns and self.turns[-1].is_answer else self.turns
        return Conversation(asked, self.tools)


@dataclass
class _Parts:
    """What the columns of one row have added so far."""

    plain: bool
    """Whether a cell may be text rather than messages."""
    system: list[str] = field(default_factory=list)
    history: list[Turn] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    tools: list[Any] | None = None


AddPart = Callable[[_Parts, Any], None]


def read_conversation(
    row: Mapping[str, Any], text: Sequence[str], label: str | None, plain: bool
) -> Conversation:
    """The conversation of a row; with a label its answer alone is learned, else every answer is.

    `plain`: a cell may be text rather than messages. Raises ConfigError that says what is wrong
    with which column.
    """
    parts = _Parts(plain)
    for column in text:
        _naming(column, partial(_part_of(column, text), parts), row[column])
    asked = [said("user", "\n\n".join(parts.words))] if parts.words else []
    turns = _with_system(parts.system, _with_history(parts.history, [*parts.turns, *asked]))
    if label is not None:
        answer = _naming(label, _answer, row[label])
        turns = [*(turn.as_context() for turn in turns), *answer]
    return Conversation(turns, parts.tools)


def _part_of(column: str, text: Sequence[str]) -> AddPart:
    return _PARTS.get(column.lower(), _add_words) if len(text) > 1 else _add_words


def _naming(column: str, read: Callable[[Any], Any], cell: Any) -> Any:
    try:
        return read(cell)
    except ConfigError as error:
        raise ConfigError(f"column {column!r} {error.headline}") from error


def _add_words(parts: _Parts, cell: Any) -> None:
    if not parts.plain or _holds_turns(cell):
        parts.turns += read_turns(cell)
    elif not is_blank(cell):
        parts.words.append(_text(cell))


def _add_system(parts: _Parts, cell: Any) -> None:
    if not is_blank(cell):
        parts.system.append(_text(cell))


def _add_history(parts: _Parts, cell: Any) -> None:
    parts.history += [turn.as_context() for turn in read_history(cell)]


def _add_tools(parts: _Parts, cell: Any) -> None:
    listed = [] if is_blank(cell) else json_in(cell)
    tools = list(map(json_in, listed)) if isinstance(listed, list) or listed == {} else [None]
    if not all(isinstance(tool, Mapping) for tool in tools):
        raise ConfigError("is not a list of tools, nor JSON of one")
    parts.tools = tools or None


_PARTS: dict[str, AddPart] = {
    **dict.fromkeys(SYSTEM, _add_system),
    **dict.fromkeys(HISTORY, _add_history),
    **dict.fromkeys(TOOLS, _add_tools),
}


def _answer(cell: Any) -> list[Turn]:
    return read_turns(cell) if _holds_turns(cell) else [said(ASSISTANT, _text(cell))]


def _holds_turns(cell: Any) -> bool:
    """Whether the cell is a list, or JSON of messages, rather than text."""
    return isinstance(cell, list) or holds_messages(cell)


def _text(cell: Any) -> str:
    if problem := "is empty" if is_blank(cell) else text_problem(cell):
        raise ConfigError(problem)
    return str(cell)


def _with_history(history: Sequence[Turn], turns: Sequence[Turn]) -> list[Turn]:
    """The turns after what was said before them, and a system message before all."""
    begins = 1 if turns and turns[0].message["role"] == "system" else 0
    return [*turns[:begins], *history, *turns[begins:]]


def _with_system(system: Sequence[str], turns: list[Turn]) -> list[Turn]:
    """The turns after the system column's message, which may also be the first of them."""
    if not system:
        return turns
    first = said("system", "\n\n".join(system))
    if not turns or turns[0].message["role"] != "system":
        return [first, *turns]
    if turns[0].text != first.text:
        raise ConfigError(
            "a system message stands in a column of its own and another one among the messages; "
            "keep one of them"
        )
    return turns

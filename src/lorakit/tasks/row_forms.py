"""The forms of rows that a language model learns from, by the names that data sets give columns.

A row's system message and history are part of what is asked, so their columns are read with those
of a form, and so are the tools of a conversation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lorakit.tables.cells import is_blank
from lorakit.tasks.conversations import HISTORY, SYSTEM, TOOLS
from lorakit.tasks.guessing import LABELS, by_lower_case
from lorakit.tasks.messages import holds_messages
from lorakit.tasks.spec import Columns


@dataclass(frozen=True)
class RowForm:
    """One form: the columns that a table has to have, all of them."""

    prompt: tuple[str, ...]
    completion: str | None = None
    """None: the prompt's column holds the answers as well."""

    @property
    def columns(self) -> tuple[str, ...]:
        return self.prompt if self.completion is None else (*self.prompt, self.completion)


MESSAGES = (RowForm(("messages",)), RowForm(("conversation",)), RowForm(("conversations",)))
"""Conversations: lists of messages with role and content, or ShareGPT's with from and value."""
PROMPTS = (
    RowForm(("prompt", "context"), "completion"),
    RowForm(("prompt",), "completion"),
    RowForm(("instruction", "input"), "output"),
    RowForm(("instruction", "context"), "output"),
    RowForm(("instruction", "input"), "response"),
    RowForm(("instruction", "context"), "response"),
    RowForm(("instruction",), "output"),
    RowForm(("instruction",), "response"),
    RowForm(("prompt", "context"), "response"),
    RowForm(("prompt",), "response"),
)
"""Prompts and completions, of text or of messages."""
UNSURE_PROMPTS = (
    RowForm(("question", "context"), "answer"),
    RowForm(("question",), "answer"),
    RowForm(("input",), "output"),
    RowForm(("source",), "target"),
)
"""Those that are something else in a table which also has labels."""
_LOOKED_AT = 100
"""Rows by whose cells a form is told."""
TEXT = "text"
"""The column of whole texts."""


def chat_columns(table: Any, given: Columns) -> Columns | None:
    """The column of messages, or the columns of a prompt and a completion that are messages."""
    names = by_lower_case(table)
    if given.label is not None:
        return None
    if form := _first(names, MESSAGES):
        return replace(given, text=_present(names, (*form.prompt, *SYSTEM, *HISTORY, *TOOLS)))
    form = _first(names, PROMPTS if given.task is None else (*PROMPTS, *UNSURE_PROMPTS))
    if form is None or (given.task is None and not _are_messages(table, names, form)):
        return None
    return _pair(given, names, form, TOOLS)


def completion_columns(table: Any, given: Columns) -> Columns | None:
    """The columns of prompts and the one of completions."""
    names = by_lower_case(table)
    if given.label is not None:
        return None
    form = _first(names, PROMPTS)
    if form is None and (unsure := _first(names, UNSURE_PROMPTS)):
        has_labels = any(name in names and name != unsure.completion for name in LABELS)
        form = unsure if given.task is not None or not has_labels else None
    if form is not None:
        return _pair(given, names, form)
    if given.task is not None and len(names) == 2:
        prompt, completion = names.values()
        return replace(given, text=(prompt,), label=completion)
    return None


def text_columns(table: Any, given: Columns) -> Columns | None:
    """The column of whole texts, which stands alone unless the task is given."""
    names = by_lower_case(table)
    alone = tuple(names.values()) if len(names) == 1 else None
    if given.task is not None:
        text = _present(names, (TEXT,)) or alone
    else:
        text = alone if TEXT in names else None
    return replace(given, text=text) if text and given.label is None else None


def _first(names: Mapping[str, str], forms: Sequence[RowForm]) -> RowForm | None:
    """The first of the forms whose columns are all there."""
    return next((form for form in forms if names.keys() >= set(form.columns)), None)


def _pair(
    given: Columns, names: Mapping[str, str], form: RowForm, beside: Sequence[str] = ()
) -> Columns:
    text = _present(names, (*SYSTEM, *HISTORY, *form.prompt, *beside))
    return replace(given, text=text, label=names[str(form.completion)])


def _present(names: Mapping[str, str], wanted: Sequence[str]) -> tuple[str, ...]:
    """The wanted columns that are there, in the table's spelling."""
    return tuple(names[name] for name in wanted if name in names)


def _are_messages(table: Any, names: Mapping[str, str], form: RowForm) -> bool:
    """Whether cells of the form are messages rather than text, or rows have tools."""
    tools = (cell for name in _present(names, TOOLS) for cell in table[name][:_LOOKED_AT])
    cells = (cell for name in form.columns for cell in table[names[name]][:_LOOKED_AT])
    return any(map(holds_messages, cells)) or any(not is_blank(cell) and cell for cell in tools)

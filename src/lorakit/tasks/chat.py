"""Conversations in the tokenizer's chat template; the loss is over the assistant turns.

The conversation is rendered and tokenized once, as the model will see it. Which of its tokens
are an assistant turn, the template's `{% generation %}` block says. Without one, a turn goes from
the end of its generation prompt to the end of the conversation up to it, with its closing token, so
that the model learns to stop, and without the white space between turns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from lorakit.errors import ConfigError
from lorakit.tables.cells import is_blank
from lorakit.tasks.base import Rows
from lorakit.tasks.ends import IGNORED
from lorakit.tasks.generation import CausalTask, Labelled, columns_of, last_tokens

Message = dict[str, Any]
Span = tuple[int, int]

_SAMPLE: list[Message] = [
    {"role": "user", "content": "Question"},
    {"role": "assistant", "content": "Answer"},
]
_MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True)
class Chat(CausalTask):
    """`text` is the column of messages: lists of {"role", "content"}, or JSON of them."""

    name: ClassVar[str] = "chat"
    needs_label: ClassVar[bool] = False

    def prompt_cell(self, prompt: str) -> list[Message]:
        """A conversation of one user message."""
        return [{"role": "user", "content": prompt}]

    def text_problem(self, column: str, value: Any) -> str | None:
        return "is empty" if is_blank(value) else _message_problem(value)

    def end_id(self, tokenizer: Any) -> int | None:
        """None where the chat template closes a turn itself."""
        return None if self.end_token is None else super().end_id(tokenizer)

    def stop_tokens(self, tokenizer: Any, labels: Iterable[Sequence[int]] = ()) -> list[int]:
        """Without labels by the chat template, if it renders a question and its answer."""
        return super().stop_tokens(tokenizer, labels or _sample_labels(tokenizer))

    def encode(self, tokenizer: Any, rows: Rows) -> dict[str, list[Any]]:
        conversations = [_messages(value) for value in rows[self.text[0]]]
        examples = [_labelled(tokenizer, c) for c in conversations]
        return columns_of(examples, self.max_length, self.end_id(tokenizer))

    def prompts(self, tokenizer: Any, rows: Rows) -> dict[str, list[Any]]:
        """Each conversation up to the last assistant turn, truncated at its beginning."""
        texts = [
            _render(tokenizer, _question(_messages(value)), prompt=True)
            for value in rows[self.text[0]]
        ]
        ids = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        return last_tokens(ids, self.max_length)

    def references(self, rows: Rows) -> list[str]:
        conversations = [_messages(value) for value in rows[self.text[0]]]
        return [
            str(c[len(_question(c))]["content"]) if len(_question(c)) < len(c) else ""
            for c in conversations
        ]


def _message_problem(value: Any) -> str | None:
    try:
        messages = _messages(value)
    except (ValueError, TypeError, AttributeError):
        return "is not a list of messages with role and content"
    if not all(isinstance(m.get("role"), str) and "content" in m for m in messages):
        return "has a message without role and content"
    answers = [m for m in messages if m["role"] == "assistant"]
    if not answers:
        return "has no assistant turn, so there is nothing to train on"
    if any(is_blank(m["content"]) and not m.get("tool_calls") for m in answers):
        return "has an empty assistant turn"
    return None


def _messages(value: Any) -> list[Message]:
    """The messages of a cell, without the empty keys that a table adds to some of them."""
    messages = json.loads(value) if isinstance(value, str) else value
    return [
        {key: part for key, part in message.items() if part is not None or key == "content"}
        for message in messages
    ]


def _question(messages: list[Message]) -> list[Message]:
    """The messages before the last assistant turn; all, if that is not the last message."""
    turns = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    return messages[: turns[-1]] if turns and turns[-1] == len(messages) - 1 else messages


def _labelled(tokenizer: Any, messages: list[Message]) -> Labelled:
    """Ids of the whole conversation, and labels for the assistant turns."""
    if _MARKED.search(_template(tokenizer)):
        encoded = _apply(
            tokenizer, messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        mask = encoded["assistant_masks"]
        ids = encoded["input_ids"]
        return ids, [i if kept else IGNORED for i, kept in zip(ids, mask, strict=True)]
    text = _render(tokenizer, messages)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    spans = [
        _span(tokenizer, messages, turn, text)
        for turn, message in enumerate(messages)
        if message["role"] == "assistant"
    ]
    return ids, [
        i if any(start < end and stop > begin for begin, end in spans) else IGNORED
        for i, (start, stop) in zip(ids, offsets, strict=True)
    ]


def _span(tokenizer: Any, messages: list[Message], turn: int, text: str) -> Span:
    """The characters of a turn: from its prompt's end to its closing token.

    Some templates render a turn otherwise when others follow it (they drop its reasoning). There
    the content is looked for, and the first special token after it closes the turn.
    """
    content = str(messages[turn]["content"] or "").strip()
    before = messages[:turn]
    prompt = _render(tokenizer, before, prompt=True) if before else text.partition(content)[0]
    through = _render(tokenizer, messages[: turn + 1])
    if text.startswith(prompt) and text.startswith(through):
        return len(prompt), len(through.rstrip())
    at = text.find(content, len(prompt)) if text.startswith(prompt) else -1
    if at < 0:
        raise ConfigError(
            "The chat template does not render an assistant turn as a continuation of its "
            "generation prompt, so the turn's tokens cannot be located; put {% generation %} "
            "around assistant turns in the template.",
            [f"turn {turn + 1}: {content[:60]!r}"],
        )
    return len(prompt), _closing(tokenizer, text, at + len(content))


def _sample_labels(tokenizer: Any) -> list[list[int]]:
    """The labels of a question and its answer; none if the template refuses them."""
    try:
        return [_labelled(tokenizer, _SAMPLE)[1]]
    except ConfigError:
        return []


def _closing(tokenizer: Any, text: str, stop: int) -> int:
    """The end of the first special token from `stop` on, or `stop`."""
    added = tokenizer.added_tokens_decoder.values()
    special = {*tokenizer.all_special_tokens, *(str(token) for token in added if token.special)}
    found = [(text.find(token, stop), len(token)) for token in special]
    return min((at + length for at, length in found if at >= 0), default=stop)


def _render(tokenizer: Any, messages: Sequence[Message], prompt: bool = False) -> str:
    return str(_apply(tokenizer, messages, tokenize=False, add_generation_prompt=prompt))


def _apply(tokenizer: Any, messages: Sequence[Mapping[str, Any]], **options: Any) -> Any:
    try:
        return tokenizer.apply_chat_template(messages, **options)
    except Exception as error:  # a template raises what it likes
        raise ConfigError(
            f"The tokenizer's chat template raised an error for a conversation: {error}",
            [f"the conversation begins {json.dumps(messages, ensure_ascii=False)[:100]}"],
        ) from error


def _template(tokenizer: Any) -> str:
    if tokenizer.chat_template is None:
        raise ConfigError(
            "The tokenizer has no chat template, which the task chat needs; use the task "
            "generation."
        )
    if not tokenizer.is_fast:
        raise ConfigError(
            "The task chat needs a fast tokenizer, for the offsets of tokens; this one is slow."
        )
    return str(tokenizer.get_chat_template())

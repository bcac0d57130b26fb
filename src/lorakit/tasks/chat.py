"""Conversations in the tokenizer's chat template; the loss is over the assistant turns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from lorakit.errors import ConfigError
from lorakit.tables.cells import is_blank
from lorakit.tables.chunks import Cells
from lorakit.tasks.base import Row, Rows
from lorakit.tasks.chat_spellings import spelled
from lorakit.tasks.chat_template import labelled, render
from lorakit.tasks.conversations import CONTEXT, Conversation, read_conversation
from lorakit.tasks.generation import CausalTask
from lorakit.tasks.messages import ASSISTANT, Message, Turn, said
from lorakit.tasks.pieces import Piece
from lorakit.tasks.table_checks import AtRows, by_problem
from lorakit.tasks.text_models.decoder import columns_of, last_tokens
from lorakit.tasks.unread_parts import KEY, unread

_SAMPLE = Conversation([said("user", "Question"), said(ASSISTANT, "Answer")])


@dataclass(frozen=True)
class Chat(CausalTask):
    """`text` is the column of messages, or those of a prompt whose answer stands in `label`.

    Messages are lists of {"role", "content"}, or JSON of them. Columns called system, history and
    tools are parts of the conversation: see `conversations`.
    """

    name: ClassVar[str] = "chat"
    needs_label: ClassVar[bool] = False
    keeps_history: ClassVar[bool] = True

    def prompt_cell(self, prompt: str) -> list[Message]:
        """A conversation of one user message."""
        return [{"role": "user", "content": prompt}]

    def conversation_cell(self, messages: Sequence[Message]) -> list[Message]:
        """All of it."""
        return [*messages]

    def blank_cells(self, rows: Rows) -> dict[str, list[int]]:
        """Of several columns one may be empty if another has what is asked."""
        asked = [name for name in self.text if name.lower() not in CONTEXT] or [*self.text]
        cells = {", ".join(asked): list(zip(*(rows[name] for name in asked), strict=True))}
        if self.label is not None:
            cells[self.label] = [(cell,) for cell in rows[self.label]]
        return {
            name: [row for row, parts in enumerate(column) if all(map(is_blank, parts))]
            for name, column in cells.items()
        }

    def cell_problems(self, columns: Rows) -> list[AtRows]:
        return by_problem(self._problem(row) for row in self._rows(columns))

    def end_id(self, tokenizer: Any) -> int | None:
        """None where the chat template closes a turn itself."""
        return None if self.end_token is None else super().end_id(tokenizer)

    def stop_tokens(self, tokenizer: Any, labels: Iterable[Sequence[int]] = ()) -> list[int]:
        """Without labels by the chat template, if it renders a question and its answer."""
        return super().stop_tokens(tokenizer, labels or _sample_labels(tokenizer))

    def encode(self, tokenizer: Any, rows: Rows) -> dict[str, list[Any]]:
        if self.label is not None and self.label not in rows:
            return self.prompts(tokenizer, rows)
        conversations = [self._conversation(row) for row in self._rows(rows)]
        examples = [labelled(tokenizer, spelled(tokenizer, c)) for c in conversations]
        return columns_of(examples, self.max_length, self.end_id(tokenizer))

    def row_pieces(self, row: Row) -> list[Piece]:
        """A line for each turn."""
        lines = [
            (Piece(f"{turn.message['role']}: "), Piece(turn.text, turn.learned), Piece("\n"))
            for turn in self._conversation(row).turns
        ]
        return [piece for line in lines for piece in line][:-1]

    def prompts(self, tokenizer: Any, rows: Rows) -> dict[str, list[Any]]:
        """Each conversation up to the answer, truncated at its beginning."""
        asked = [spelled(tokenizer, self._split(row)[0]) for row in self._rows(rows)]
        texts = [render(tokenizer, conversation, prompt=True) for conversation in asked]
        ids = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        return last_tokens(ids, self.max_length)

    def references(self, rows: Rows) -> list[str]:
        answers = [self._split(row)[1] for row in self._rows(rows)]
        return ["" if answer is None else answer.text for answer in answers]

    def remarks(self, tokenizer: Any, table: Any) -> list[str]:
        """Raises ConfigError if a turn is learned of which the template writes nothing."""
        parts = unread(tokenizer, self._conversations(table))
        turns = (turn for conversation in self._conversations(table) for turn in conversation.turns)
        only_calls = any(turn.learned and is_blank(turn.content) for turn in turns)
        if only_calls and KEY.format("tool_calls") in parts:
            raise ConfigError(
                "The chat template does not write tool calls, and some assistant turns are nothing "
                "else, so the model would learn to say nothing; use a base whose template does, or "
                "give those messages weight 0."
            )
        if not parts:
            return []
        return [f"The chat template does not use {', '.join(parts)}: the model will not see that."]

    def _conversation(self, row: Row) -> Conversation:
        label = self.label if self.label in row else None
        return read_conversation(row, self.text, label, plain=self.label is not None)

    def _conversations(self, table: Any) -> Iterator[Conversation]:
        rows = self._rows({name: Cells(table, name) for name in self.known_columns})
        return map(self._conversation, rows)

    def _split(self, row: Row) -> tuple[Conversation, Turn | None]:
        """What is asked, and the answer: the label's first, or the last assistant turn."""
        asked = read_conversation(row, self.text, None, plain=True)
        if self.label in row:
            turns = read_conversation(row, (), self.label, plain=True).turns
            return asked, next((turn for turn in turns if turn.is_answer), None)
        question = asked.question()
        is_answered = len(question.turns) < len(asked.turns)
        return question, asked.turns[-1] if is_answered else None

    def _problem(self, row: Row) -> str | None:
        try:
            turns = self._conversation(row).turns
        except ConfigError as error:
            return error.headline
        if self.label is not None and self.label not in row:
            return None
        if self.label is not None and turns and turns[0].learned:
            return f"there is no prompt in {', '.join(self.text)}"
        column = self.label or self.text[0]
        answers = [turn for turn in turns if turn.is_answer and (turn.learned or not self.label)]
        if not answers:
            return f"column {column!r} has no assistant turn, so there is nothing to train on"
        if not any(turn.learned for turn in answers):
            return f"column {column!r} has weight 0 for each assistant turn"
        if any(turn.learned and not turn.text for turn in answers):
            return f"column {column!r} has an empty assistant turn"
        return None

    def _rows(self, columns: Rows) -> Iterator[Row]:
        """The rows, with the columns that the task knows."""
        names = [name for name in self.known_columns if name in columns]
        for cells in zip(*(columns[name] for name in names), strict=True):
            yield dict(zip(names, cells, strict=True))


def _sample_labels(tokenizer: Any) -> list[list[int]]:
    """The labels of a question and its answer; none if the template refuses them."""
    try:
        return [labelled(tokenizer, spelled(tokenizer, _SAMPLE))[1]]
    except ConfigError:
        return []

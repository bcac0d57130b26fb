"""Text from a prompt: the loss counts the completion only.

    ids     p p p p c c c e        p: the prompt's tokens, c: the completion's, e: EOS
    labels  - - - - c c c e        -: IGNORED

Prompt and completion are tokenized together, as they stand in the text, unless the tokenizer would
then merge the end of one with the beginning of the other: in generation the model sees the prompt's
own tokens.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from lorakit.errors import ConfigError
from lorakit.tables.cells import is_blank, list_in, text_problem
from lorakit.tasks.base import TRUNCATED, Example, Rows, Task
from lorakit.tasks.conversations import HISTORY, SYSTEM
from lorakit.tasks.ends import IGNORED, end_id, end_tokens, with_end
from lorakit.tasks.messages import history_problem, holds_messages, read_history
from lorakit.tasks.padding import padding_id

REFERENCE = "reference"
"""The column of predictions.jsonl with the expected completion."""
Labelled = tuple[list[int], list[int]]
"""Ids and labels of one example."""


@dataclass(frozen=True)
class CausalTask(Task):
    """What every task of next-token prediction shares."""

    end_token: str | None = None
    """The token that closes a completion; None: EOS, or what the chat template writes."""

    auto_class: ClassVar[str] = "AutoModelForCausalLM"
    best_metric: ClassVar[str] = "loss"
    higher_is_better: ClassVar[bool] = False
    generates: ClassVar[bool] = True
    has_references: ClassVar[bool] = True
    """Whether rows have an expected completion, which test rows are compared with."""

    @abstractmethod
    def prompts(self, tokenizer: Any, rows: Rows) -> dict[str, list[Any]]:
        """The prompts, tokenized: ids, masks and TRUNCATED; no labels."""

    def prompt_cell(self, prompt: str) -> Any:
        """The cell of the text column that holds this prompt."""
        return prompt

    @abstractmethod
    def references(self, rows: Rows) -> list[str]:
        """The expected completion of each prompt."""

    def head(self) -> dict[str, Any]:
        return {}

    def with_end_token(self, tokenizer: Any, token: str) -> CausalTask:
        end_id(tokenizer, token)
        return replace(self, end_token=token)

    def end_id(self, tokenizer: Any) -> int | None:
        """The id of the token that training puts after a completion, if any."""
        if self.end_token is not None:
            return end_id(tokenizer, self.end_token)
        eos: int | None = tokenizer.eos_token_id
        return eos

    def stop_tokens(self, tokenizer: Any, labels: Iterable[Sequence[int]] = ()) -> list[int]:
        put = self.end_id(tokenizer)
        found = end_tokens(tokenizer, labels, self.max_length)
        return found if put is None else [put, *(token for token in found if token != put)]

    def target(self, value: Any) -> str:
        """The text itself."""
        return str(value)

    def predictions(self, outputs: Tensor) -> list[Any]:
        raise NotImplementedError(
            "a task that generates text has no predictions from logits; use generate"
        )

    def score(self, outputs: Tensor, labels: Tensor) -> dict[str, float]:
        """Accuracy over the completion's tokens; exp(loss) is their perplexity."""
        targets = labels[:, 1:]
        kept = targets != IGNORED
        hits = outputs[:, :-1].argmax(-1).to(targets.device)[kept] == targets[kept]
        return {"token_accuracy": float(hits.float().mean())}

    @property
    def added_columns(self) -> tuple[str, ...]:
        """The expected completion, unless the label's column already has that name."""
        return () if self.label == REFERENCE else (REFERENCE,)

    def prediction_rows(self, table: Any) -> Iterable[dict[str, Any]]:
        return [
            {**row, REFERENCE: self.references({k: [v] for k, v in row.items()})[0]}
            for row in super().prediction_rows(table)
        ]

    def weight(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The number of tokens that the loss averages over."""
        return (batch["labels"][:, 1:] != IGNORED).sum()

    def collate(self, tokenizer: Any, examples: Sequence[Example]) -> dict[str, Tensor]:
        """The batch, padded on the right; padding is masked and ignored in the loss."""
        longest = max(len(example["input_ids"]) for example in examples)
        fill = {"input_ids": padding_id(tokenizer), "attention_mask": 0, "labels": IGNORED}
        return {
            key: torch.tensor([e[key] + [value] * (longest - len(e[key])) for e in examples])
            for key, value in fill.items()
            if key in examples[0]
        }


@dataclass(frozen=True)
class Generation(CausalTask):
    """`text` is the column of prompts, `label` that of completions.

    Several text columns are joined to one prompt with an empty line between them; cells of all but
    the main one may be empty. A column history holds pairs of what was said before.
    """

    name: ClassVar[str] = "generation"

    def text_problem(self, column: str, value: Any) -> str | None:
        if column != self._main_column and is_blank(value):
            return None
        if self._is_history(column, value):
            return history_problem(value)
        problem = super().text_problem(column, value)
        return f"{problem}; the task chat reads messages" if holds_messages(value) else problem

    def target(self, value: Any) -> str:
        """The text itself; raises ConfigError for a cell that is none."""
        if problem := text_problem(value):
            raise ConfigError(problem)
        return super().target(value)

    def encode(self, tokenizer: Any, rows: Rows) -> dict[str, list[Any]]:
        if self.label is None or self.label not in rows:
            return self.prompts(tokenizer, rows)
        prompts = self._texts(rows)
        completions = [
            _continuing(prompt, completion)
            for prompt, completion in zip(prompts, self.references(rows), strict=True)
        ]
        pairs = _ids(tokenizer, prompts, completions)
        examples = [(p + c, [IGNORED] * len(p) + c) for p, c in pairs]
        return columns_of(examples, self.max_length, self.end_id(tokenizer))

    def prompts(self, tokenizer: Any, rows: Rows) -> dict[str, list[Any]]:
        """Prompts, truncated at their beginning."""
        return last_tokens(open_ended(tokenizer, self._texts(rows)), self.max_length)

    def references(self, rows: Rows) -> list[str]:
        return [str(value) for value in rows[str(self.label)]]

    @property
    def _main_column(self) -> str:
        """The first column that holds neither a system message nor a history."""
        context = (*SYSTEM, *HISTORY)
        return next((name for name in self.text if name.lower() not in context), self.text[0])

    def _is_history(self, column: str, value: Any) -> bool:
        is_named = column.lower() in HISTORY and column != self._main_column
        return is_named and list_in(value) is not None

    def _texts(self, rows: Rows) -> list[str]:
        parts = zip(*(self._paragraphs(column, rows[column]) for column in self.text), strict=True)
        return ["\n\n".join(filter(None, row)) for row in parts]

    def _paragraphs(self, column: str, cells: Sequence[Any]) -> list[str]:
        return [
            "\n\n".join(turn.text for turn in read_history(cell))
            if self._is_history(column, cell)
            else ("" if is_blank(cell) else str(cell))
            for cell in cells
        ]


def require_generating(task: Task, source: str) -> CausalTask:
    """The task as one that generates text; raises ConfigError if it does not."""
    if isinstance(task, CausalTask):
        return task
    raise ConfigError(
        f"{source} was trained for {task.name}, which does not generate text; use lorakit predict."
    )


def columns_of(
    examples: Sequence[Labelled], max_length: int, end: int | None = None
) -> dict[str, list[Any]]:
    """The columns of an encoded table from each example's ids and labels, truncated by `fit`.

    `end` is the token that closes a completion, where there is one.
    """
    if end is not None:
        examples = [with_end(ids, labels, end) for ids, labels in examples]
    kept = [fit(ids, labels, max_length) for ids, labels in examples]
    return {
        "input_ids": [ids for ids, _ in kept],
        "attention_mask": [[1] * len(ids) for ids, _ in kept],
        "labels": [labels for _, labels in kept],
        TRUNCATED: [len(ids) > max_length for ids, _ in examples],
    }


def last_tokens(prompts: Sequence[list[int]], max_length: int) -> dict[str, list[Any]]:
    """The columns of prompts without labels, truncated at their beginning."""
    kept = [ids[-max_length:] for ids in prompts]
    masks = [[1] * len(ids) for ids in kept]
    truncated = [len(ids) > max_length for ids in prompts]
    return {"input_ids": kept, "attention_mask": masks, TRUNCATED: truncated}


def fit(ids: list[int], labels: list[int], max_length: int) -> Labelled:
    """At most `max_length` tokens, with labels among them.

    The first completion is kept: the prompt is truncated at its beginning, what follows at its end.

    >>> fit([1, 2, 3, 4], [IGNORED, IGNORED, 3, 4], 3)
    ([2, 3, 4], [-100, 3, 4])
    >>> fit([1, 2, 3, 4], [IGNORED, 2, IGNORED, 4], 3)
    ([1, 2, 3], [-100, 2, -100])
    """
    first = next((i for i, label in enumerate(labels) if label != IGNORED), 0)
    stop = next((i for i in range(first, len(labels)) if labels[i] == IGNORED), len(labels))
    start = max(0, min(stop - max_length, first - 1))
    return ids[start : start + max_length], labels[start : start + max_length]


def _continuing(prompt: str, completion: str) -> str:
    """The completion with a space before it, unless there is white space between them already."""
    apart = not prompt or prompt[-1].isspace() or completion[:1].isspace()
    return completion if apart else f" {completion}"


def _ids(
    tokenizer: Any, prompts: list[str], completions: list[str]
) -> list[tuple[list[int], list[int]]]:
    """The ids of each prompt and of its completion."""
    starts = open_ended(tokenizer, prompts)
    whole = open_ended(tokenizer, [p + c for p, c in zip(prompts, completions, strict=True)])
    alone = tokenizer(completions, add_special_tokens=False, verbose=False)["input_ids"]
    return [
        (start, ids[len(start) :] if ids[: len(start)] == start else own)
        for start, ids, own in zip(starts, whole, alone, strict=True)
    ]


def open_ended(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """The ids of texts without the EOS token that some tokenizers add."""
    ids: list[list[int]] = tokenizer(texts, verbose=False)["input_ids"]
    return [row[:-1] if row and row[-1] == tokenizer.eos_token_id else row for row in ids]

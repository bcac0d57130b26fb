"""Text from a prompt: the loss counts the completion only.

`text_models` says how a decoder and an encoder-decoder see the two.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor

from lorakit.errors import ConfigError
from lorakit.tables.cells import is_blank, list_in, text_problem
from lorakit.tasks.base import Example, Rows, Task
from lorakit.tasks.baseline import same_answer
from lorakit.tasks.conversations import HISTORY, SYSTEM
from lorakit.tasks.ends import IGNORED, end_id, end_tokens
from lorakit.tasks.messages import Message, history_problem, holds_messages, read_history
from lorakit.tasks.padding import padded, padding_id
from lorakit.tasks.pieces import Piece
from lorakit.tasks.text_models import DECODER, TEXT_MODELS, TextModel, text_model_of

REFERENCE = "reference"
"""The column of predictions.jsonl with the expected completion."""
MASKS = ("attention_mask", "decoder_attention_mask")
_MESSAGES = "is a list, where text is wanted; the task chat reads messages"


TOKENS = ("perplexity", "token_accuracy")
"""The metrics of next-token prediction beside its loss."""


@dataclass(frozen=True)
class CausalTask(Task):
    """What every task of next-token prediction shares."""

    end_token: str | None = None
    """The token that closes a completion; None: EOS, or what the chat template writes."""
    architecture: str = DECODER.name
    """That of the base: a name in `TEXT_MODELS`."""

    architectures: ClassVar[tuple[str, ...]] = (DECODER.name,)
    """Those that the task can train."""
    best_metric: ClassVar[str] = "loss"
    higher_is_better: ClassVar[bool] = False
    generates: ClassVar[bool] = True
    least_steps: ClassVar[int] = 100  # it has no new head to learn
    keeps_history: ClassVar[bool] = False
    """Whether a prompt shows what was said before."""
    has_references: ClassVar[bool] = True
    """Whether rows have an expected completion, which test rows are compared with."""

    @property
    def text_model(self) -> TextModel:
        """The base's architecture."""
        return TEXT_MODELS[self.architecture]

    @property
    def auto_class(self) -> str:
        return self.text_model.auto_class

    def for_base(self, config: Any) -> Task:
        found = text_model_of(config).name
        if found not in self.architectures:
            raise ConfigError(
                f"The base is an {found.replace('_', '-')} ({config.model_type}), which the task "
                f"{self.name} does not train; use the task generation, of prompts and completions."
            )
        return replace(self, architecture=found)

    @abstractmethod
    def prompts(self, tokenizer: Any, rows: Rows) -> dict[str, list[Any]]:
        """The prompts, tokenized: ids, masks and TRUNCATED; no labels."""

    def prompt_cell(self, prompt: str) -> Any:
        """The cell of the text column that holds this prompt."""
        return prompt

    def conversation_cell(self, messages: Sequence[Message]) -> Any:
        """The cell of a conversation that the model is to answer: its last message."""
        return self.prompt_cell(str(messages[-1]["content"]))

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

    def pieces(self, tokenizer: Any, example: Example) -> list[Piece]:
        return self.text_model.pieces(tokenizer, example["input_ids"], example["labels"])

    def predictions(self, outputs: Tensor) -> list[Any]:
        raise NotImplementedError(
            "a task that generates text has no predictions from logits; use generate"
        )

    def score(self, outputs: Tensor, labels: Tensor) -> dict[str, float]:
        """Accuracy over the completion's tokens; exp(loss) is their perplexity."""
        targets = self.text_model.targets(labels)
        kept = targets != IGNORED
        found = outputs[:, : targets.shape[1]].argmax(-1).to(targets.device)
        hits = found[kept] == targets[kept]
        return {"token_accuracy": float(hits.float().mean())}

    def sameness(self, predictions: Sequence[Any], test: Any) -> str | None:
        """About one text, perhaps an empty one, for most rows."""
        columns = {name: test[name][:] for name in self.known_columns}
        return same_answer(predictions, self.references(columns), 0.5)

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
        return (self.text_model.targets(batch["labels"]) != IGNORED).sum()

    def collate(self, tokenizer: Any, examples: Sequence[Example]) -> dict[str, Tensor]:
        """The batch, padded on the right; padding is masked and ignored in the loss."""
        fill = {"input_ids": padding_id(tokenizer), "labels": IGNORED, **dict.fromkeys(MASKS, 0)}
        return {
            key: padded([example[key] for example in examples], value)
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
    architectures: ClassVar[tuple[str, ...]] = tuple(TEXT_MODELS)

    def text_problem(self, column: str, value: Any) -> str | None:
        if column != self._main_column and is_blank(value):
            return None
        if self._is_history(column, value):
            return history_problem(value)
        return _MESSAGES if holds_messages(value) else super().text_problem(column, value)

    def target(self, value: Any) -> str:
        """The text itself; raises ConfigError for a cell that is none."""
        if problem := _MESSAGES if holds_messages(value) else text_problem(value):
            raise ConfigError(problem)
        return super().target(value)

    def encode(self, tokenizer: Any, rows: Rows) -> dict[str, list[Any]]:
        if self.label is None or self.label not in rows:
            return self.prompts(tokenizer, rows)
        return self.text_model.encode(
            tokenizer,
            self._texts(rows),
            self.references(rows),
            self.max_length,
            self.end_id(tokenizer),
        )

    def prompts(self, tokenizer: Any, rows: Rows) -> dict[str, list[Any]]:
        return self.text_model.encode_prompts(tokenizer, self._texts(rows), self.max_length)

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

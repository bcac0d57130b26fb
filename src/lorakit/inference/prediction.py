"""Evaluate and predict with a session: rows in, metrics or one prediction a row out.

Batches hold rows of similar length, so that little is computed for padding; results come back in
the order of the rows. In float32 LoRA's adapters run merged, at the base's speed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from torch import Tensor
from tqdm import tqdm

from lorakit.errors import ConfigError
from lorakit.inference.scoring import BatchOutput, joined, model_outputs, own_logits, scores
from lorakit.inference.session import Opened, Session
from lorakit.methods import method_of
from lorakit.models.dtypes import autocast
from lorakit.tasks.base import TRUNCATED, Example, Task
from lorakit.tasks.batching import batches, length
from lorakit.tasks.columns import resolve
from lorakit.tasks.pooling import require_eos
from lorakit.tasks.spec import Columns
from lorakit.tasks.table_checks import missing_columns
from lorakit.text import plural

AnyTask = TypeVar("AnyTask", bound=Task)


@dataclass(frozen=True)
class Evaluation:
    """Metrics of the predictions for a table."""

    source: str
    data: str
    task: str
    rows: int
    truncated_rows: int
    """The number of rows that were longer than the maximum length."""
    metrics: dict[str, float]
    seconds: float

    def __str__(self) -> str:
        title = f"{self.source} on {self.data}: {self.rows:,} rows, {self.seconds:.1f} s"
        return "\n".join([title, *truncation(self.truncated_rows), *metric_lines(self.metrics)])


@dataclass(frozen=True)
class Predictions:
    """One prediction a row, in the rows' order."""

    values: list[Any]
    truncated_rows: int
    probabilities: list[dict[str, float]] | None = None
    """Of each row that of every answer, if they were asked for."""


def evaluate_tables(
    session: Session, tables: Mapping[str, Any], data: str, progress: bool = False
) -> Evaluation:
    """Metrics of the predictions for the table "test", and for further ones beside it.

    Raises ConfigError for missing columns and unknown labels.
    """
    found = {name: evaluate(session, table, data, progress) for name, table in tables.items()}
    return replace(
        found["test"],
        rows=sum(one.rows for one in found.values()),
        truncated_rows=sum(one.truncated_rows for one in found.values()),
        metrics=joined({name: one.metrics for name, one in found.items()}),
        seconds=round(sum(one.seconds for one in found.values()), 2),
    )


def evaluate(session: Session, table: Any, data: str, progress: bool = False) -> Evaluation:
    """Metrics of the predictions of `session` for the rows of `table`, which needs the labels.

    `data` is what messages and the result call the table; `progress` shows a bar.
    Raises ConfigError for missing columns and unknown labels.
    """
    started = time.perf_counter()
    task = fitted(session.task, table, data, with_label=True)
    task.check(table, data)
    examples = encode_rows(session, task, table, data)
    outputs = run_model(session, task, examples, progress)
    metrics, _ = scores(task, examples, outputs, session.model.device)
    seconds = round(time.perf_counter() - started, 2)
    truncated = sum(bool(example.get(TRUNCATED)) for example in examples)
    return Evaluation(session.source, data, task.name, len(table), truncated, metrics, seconds)


def predict(
    session: Session, table: Any, data: str, progress: bool = False, probabilities: bool = False
) -> Predictions:
    """One prediction of `session` a row of `table`: a label, a number, a choice or tags of words.

    `data` is what messages call the table; `progress` shows a bar.
    With `probabilities` also that of every label or choice: a softmax of the logits in float64, or
    where several labels may be right, a sigmoid of each.

    Raises ConfigError for missing columns, empty texts, and for a task that generates text or has
    no probabilities.
    """
    require_predicting(session, probabilities)
    task = replace(fitted(session.task, table, data, with_label=False), label=None)
    task.check(table, data, labelled=False)
    examples = encode_rows(session, task, table, data)
    parts: dict[int, Tensor] = {}
    for batch in run_model(session, task, examples, progress):
        own = own_logits(task, batch, [examples[i] for i in batch.examples])
        parts |= zip(batch.examples, own, strict=True)
    return answers_of(task, table, examples, parts, probabilities)


def answers_of(
    task: Task,
    table: Any,
    examples: Sequence[Example],
    own: Mapping[int, Tensor],
    probabilities: bool = False,
) -> Predictions:
    """The answers to the rows of `table`, from what is each example's own in the logits."""
    outputs = task.joined([own[i] for i in range(len(examples))], examples)
    values = task.answers(columns_read(task, table), task.predictions(outputs))
    truncated = sum(bool(example.get(TRUNCATED)) for example in examples)
    return Predictions(values, truncated, _named(task, outputs) if probabilities else None)


def _named(task: Task, outputs: Any) -> list[dict[str, float]]:
    """The probabilities of each row, by what they are of."""
    rows = task.probabilities(outputs).tolist()
    return [dict(zip(task.answer_names, row, strict=True)) for row in rows]


def require_predicting(opened: Opened, probabilities: bool = False) -> None:
    """Raise ConfigError if the task generates text, or has no probabilities that are wanted."""
    if opened.task.generates:
        raise ConfigError(
            f"{opened.source} was trained for text generation ({opened.task.name}) and has no "
            "labels to predict; use lorakit generate."
        )
    if probabilities:
        opened.task.require_probabilities()


def encode_rows(
    session: Session, task: Task, table: Any, data: str, numbers: Sequence[int] | None = None
) -> list[Example]:
    """What the model reads of a table; messages call it `data`, and number its rows by `numbers`.

    Raises ConfigError for texts that the session's head cannot read.
    """
    encoded = task.encode(session.tokenizer, columns_read(task, table))
    ids = encoded["input_ids"]
    require_eos(session.model.config, task, session.tokenizer, ids, data, numbers)
    return as_examples(encoded)


def run_model(
    session: Session, task: Task, examples: Sequence[Example], progress: bool = False
) -> Iterator[BatchOutput]:
    """The model's outputs for every example, in batches of similar length."""
    model = session.model
    task_batches = batches([length(example) for example in examples], session.token_budget)
    with inference_context(session), progress_bar(len(examples), progress) as shown:
        for output in model_outputs(model, task, session.tokenizer, examples, task_batches):
            yield output
            shown.update(len(output.examples))


@contextmanager
def inference_context(session: Session) -> Iterator[None]:
    """The session's dtype, and in float32 the fastest way: with LoRA, merged.

    In 16 bits a merged weight would round a part of the update away.
    """
    method = method_of(session.model) if session.dtype == "fp32" else None
    fastest = nullcontext() if method is None else method.inference(session.model)
    with autocast(session.model.device, session.dtype), fastest:
        yield


def progress_bar(total: int, progress: bool) -> Any:
    """A progress bar over rows that is cleared when it is full."""
    return tqdm(total=total, unit="row", leave=False, disable=not progress)


def fitted(task: AnyTask, table: Any, data: str, with_label: bool) -> AnyTask:
    """The task with columns of this table.

    Raises ConfigError that lists the missing columns, with the nearest names.
    """
    if not task.text or (with_label and task.label is None and task.needs_label):
        columns = resolve(table, Columns(task.name, task.text or None, task.label))
        task = replace(task, text=columns.text or (), label=columns.label)
    wanted = [*task.text, *([task.label] if with_label and task.label else [])]
    if missing := missing_columns(table.column_names, wanted):
        raise ConfigError(f"{data} lacks columns that the task {task.name} reads:", missing)
    return task


def columns_read(task: Task, table: Any) -> dict[str, list[Any]]:
    """The columns of the task, as lists; without the label's if the table has none."""
    present = [
        name for name in task.known_columns if name != task.label or name in table.column_names
    ]
    return {name: list(table[name]) for name in present}


def as_examples(columns: Mapping[str, Sequence[Any]]) -> list[Example]:
    """Encoded columns as one example a row."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def truncation(rows: int) -> list[str]:
    """A line about rows that were too long, if there were any."""
    return [f"  {plural(rows, 'row')} truncated to the maximum length"] if rows else []


def metric_lines(metrics: Mapping[str, float]) -> list[str]:
    """One aligned line a metric."""
    width = max(map(len, metrics), default=0)
    return [f"  {name.ljust(width)}  {value:.4f}" for name, value in metrics.items()]

"""Evaluate and predict with a saved model: rows in, scores or one prediction a row out.

Batches are formed by length, so that little is computed for padding; results come back in the
order of the rows. The model runs as its method computes fastest: LoRA's adapters merged, at the
base's speed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from tqdm import tqdm

from lorakit.errors import ConfigError
from lorakit.inference.scoring import BatchOutput, joined, run_batches, scores
from lorakit.inference.session import Session
from lorakit.methods import method_of
from lorakit.tasks.base import CUT, Example, Task
from lorakit.tasks.batching import batches, length
from lorakit.tasks.columns import resolve
from lorakit.tasks.spec import Columns
from lorakit.tasks.table_checks import missing_columns
from lorakit.text import plural

AnyTask = TypeVar("AnyTask", bound=Task)


@dataclass(frozen=True)
class Evaluation:
    """How good the predictions for a table are."""

    source: str
    data: str
    task: str
    rows: int
    truncated_rows: int
    """Those that were longer than the model reads."""
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


def evaluate_tables(
    saved: Session, tables: Mapping[str, Any], data: str, progress: bool = False
) -> Evaluation:
    """Metrics of the predictions for the table "test", and for further ones beside it.

    Raises ConfigError for missing columns and unknown labels.
    """
    found = {name: evaluate(saved, table, data, progress) for name, table in tables.items()}
    return replace(
        found["test"],
        rows=sum(one.rows for one in found.values()),
        truncated_rows=sum(one.truncated_rows for one in found.values()),
        metrics=joined({name: one.metrics for name, one in found.items()}),
        seconds=round(sum(one.seconds for one in found.values()), 2),
    )


def evaluate(saved: Session, table: Any, data: str, progress: bool = False) -> Evaluation:
    """Metrics of the predictions for the rows of `table`, which needs the label's column.

    Raises ConfigError for missing columns and unknown labels.
    """
    started = time.perf_counter()
    task = fitted(saved.task, table, data, with_label=True)
    task.check(table, data)
    examples = as_examples(task.encode(saved.tokenizer, columns_read(task, table)))
    metrics, _ = scores(task, run_model(saved, task, examples, progress), saved.model.device)
    seconds = round(time.perf_counter() - started, 2)
    cut = sum(bool(example.get(CUT)) for example in examples)
    return Evaluation(saved.source, data, task.name, len(examples), cut, metrics, seconds)


def predict(saved: Session, table: Any, data: str, progress: bool = False) -> Predictions:
    """One prediction for each row of `table`: a label, a number or a choice's column.

    Raises ConfigError for missing columns, empty texts, and for a task that generates text.
    """
    if saved.task.generates:
        raise ConfigError(f"{saved.source} generates text; use lorakit generate.")
    task = replace(fitted(saved.task, table, data, with_label=False), label=None)
    task.check(table, data, labelled=False)
    examples = as_examples(task.encode(saved.tokenizer, columns_read(task, table)))
    values: list[Any] = [None] * len(examples)
    for batch in run_model(saved, task, examples, progress):
        found = task.predictions(batch.logits.float().cpu())
        for row, prediction in zip(batch.rows, found, strict=True):
            values[row] = prediction
    return Predictions(values, sum(bool(example.get(CUT)) for example in examples))


def run_model(
    saved: Session, task: Task, examples: Sequence[Example], progress: bool = False
) -> Iterator[BatchOutput]:
    """Every example after the model, in batches of like length."""
    model, task_batches = saved.model, batches([length(example) for example in examples])
    with running(model), bar(len(examples), progress) as shown:
        for output in run_batches(model, task, saved.tokenizer, examples, task_batches):
            yield output
            shown.update(len(output.rows))


def running(model: Any) -> AbstractContextManager[Any]:
    """The state in which the model computes fastest: with LoRA, merged."""
    method = method_of(model)
    return method.inference(model) if method is not None else nullcontext()


def bar(total: int, progress: bool) -> Any:
    """A progress bar over rows that goes away when it is full."""
    return tqdm(total=total, unit="row", leave=False, disable=not progress)


def fitted(task: AnyTask, table: Any, data: str, with_label: bool) -> AnyTask:
    """The task with its columns found in this table.

    Raises ConfigError that lists the columns that are missing, with the nearest names.
    """
    if not task.text or (with_label and task.label is None and task.needs_label):
        columns = resolve(table, Columns(task.name, task.text or None, task.label))
        task = replace(task, text=columns.text or (), label=columns.label)
    wanted = [*task.text, *([task.label] if with_label and task.label else [])]
    if missing := missing_columns(table.column_names, wanted):
        raise ConfigError(f"{data} does not fit what was learned:", missing)
    return task


def columns_read(task: Task, table: Any) -> dict[str, list[Any]]:
    """The columns that the task knows, as lists."""
    there = [
        name for name in task.known_columns if name != task.label or name in table.column_names
    ]
    return {name: list(table[name]) for name in there}


def as_examples(columns: Mapping[str, Sequence[Any]]) -> list[Example]:
    """Encoded columns, row by row."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def truncation(rows: int) -> list[str]:
    """A line about texts that were too long, if there were any."""
    return [f"  {plural(rows, 'row')} longer than the model reads: cut"] if rows else []


def metric_lines(metrics: Mapping[str, float]) -> list[str]:
    """One aligned line a metric."""
    width = max(map(len, metrics), default=0)
    return [f"  {name.ljust(width)}  {value:.4f}" for name, value in metrics.items()]

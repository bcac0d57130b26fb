"""Labelled examples through a model, in batches of similar length, and their metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lorakit.errors import ConfigError
from lorakit.models.processes import gathered, total
from lorakit.tasks.base import Example, Task


@dataclass(frozen=True)
class BatchOutput:
    """A model's output for one batch: logits, labels, mean loss and its weight."""

    examples: list[int]
    """Their indices."""
    logits: Tensor
    labels: Tensor | None
    loss: float
    weight: float


def model_outputs(
    model: Any,
    task: Task,
    tokenizer: Any,
    examples: Sequence[Example],
    batches: Iterable[Sequence[int]],
) -> Iterator[BatchOutput]:
    """The output for each batch, given as indices of `examples`."""
    device = next(model.parameters()).device
    for indices in batches:
        batch = task.collate(tokenizer, [dict(examples[i]) for i in indices])
        with torch.no_grad():
            result = model(**{name: tensor.to(device) for name, tensor in batch.items()})
        labels = batch.get("labels")
        loss, weight = math.nan, 0.0
        if labels is not None:
            loss, weight = float(result.loss), float(task.weight(batch))
        yield BatchOutput(list(indices), result.logits, labels, loss, weight)


class Scores:
    """Labelled outputs, batch by batch, and the metrics of all of them.

    A task that generates text has no predictions here. Its metrics are loss and accuracy per token
    of the completions, and perplexity = exp(loss).
    """

    def __init__(self, task: Task, examples: Sequence[Example]) -> None:
        self._task, self._examples = task, examples
        self._loss = self._hits = self._weight = 0.0
        self._parts: list[tuple[int, tuple[Tensor, Tensor]]] = []

    def add(self, batch: BatchOutput) -> None:
        """One more batch, with its labels."""
        assert batch.labels is not None
        task, weight = self._task, batch.weight
        if weight:
            self._loss, self._weight = self._loss + batch.loss * weight, self._weight + weight
        if not task.generates:
            of = [self._examples[i] for i in batch.examples]
            own = zip(own_logits(task, batch, of), task.own(batch.labels, of), strict=True)
            self._parts += zip(batch.examples, own, strict=True)
        elif weight:
            self._hits += task.score(batch.logits, batch.labels)["token_accuracy"] * weight

    def found(self, device: torch.device) -> tuple[dict[str, float], list[Any]]:
        """Metrics and, in the rows' order, predictions, gathered from all processes on `device`.

        Raises ConfigError if no row has a label.
        """
        task, sums = self._task, (self._loss, self._hits, self._weight)
        loss, hits, weight = (total(value, device) for value in sums)
        if weight == 0:
            raise ConfigError(
                "There is nothing to evaluate: every label of every row is ignored in the loss "
                "(-100)."
            )
        loss = loss / weight
        if task.generates:
            perplexity = math.exp(min(loss, 700))
            return {"loss": loss, "perplexity": perplexity, "token_accuracy": hits / weight}, []
        ordered = [pair for _, pair in sorted(gathered(self._parts), key=lambda part: part[0])]
        columns = zip(*ordered, strict=True)
        logits, labels = (task.joined(part, self._examples) for part in columns)
        return {"loss": loss, **task.score(logits, labels)}, task.predictions(logits)


def scores(
    task: Task,
    examples: Sequence[Example],
    outputs: Iterable[BatchOutput],
    device: torch.device,
) -> tuple[dict[str, float], list[Any]]:
    """The metrics and the predictions of these outputs; raises as `Scores.found` does."""
    result = Scores(task, examples)
    for batch in outputs:
        result.add(batch)
    return result.found(device)


def own_logits(task: Task, batch: BatchOutput, examples: Sequence[Example]) -> Sequence[Tensor]:
    """The logits of each of the batch's examples."""
    return task.own(batch.logits.float().cpu(), examples)


def joined(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The metrics of the table "test", and those of further tables after the tables' names.

    >>> joined({"test": {"accuracy": 0.5}, "mismatched": {"accuracy": 0.75}})
    {'accuracy': 0.5, 'mismatched_accuracy': 0.75}
    """
    further = {
        f"{table}_{name}": value
        for table, found in metrics.items()
        if table != "test"
        for name, value in found.items()
    }
    return {**metrics["test"], **further}

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


def scores(
    task: Task,
    examples: Sequence[Example],
    outputs: Iterable[BatchOutput],
    device: torch.device,
) -> tuple[dict[str, float], list[Any]]:
    """Metrics and, in the rows' order, predictions, gathered from all processes on `device`.

    A task that generates text has no predictions here. Its metrics are loss and accuracy per token
    of the completions, and perplexity = exp(loss).

    Raises ConfigError if no row has a label.
    """
    loss = hits = count = 0.0
    parts: list[tuple[int, tuple[Tensor, Tensor]]] = []
    for batch in outputs:
        assert batch.labels is not None
        if batch.weight:
            loss, count = loss + batch.loss * batch.weight, count + batch.weight
        if not task.generates:
            of = [examples[i] for i in batch.examples]
            own = zip(own_logits(task, batch, of), task.own(batch.labels, of), strict=True)
            parts += zip(batch.examples, own, strict=True)
        elif batch.weight:
            accuracy = task.score(batch.logits, batch.labels)["token_accuracy"]
            hits += accuracy * batch.weight
    loss, hits, count = (total(value, device) for value in (loss, hits, count))
    if count == 0:
        raise ConfigError(
            "There is nothing to evaluate: every label of every row is ignored in the loss (-100)."
        )
    loss = loss / count
    if task.generates:
        perplexity = math.exp(min(loss, 700))
        return {"loss": loss, "perplexity": perplexity, "token_accuracy": hits / count}, []
    ordered = [pair for _, pair in sorted(gathered(parts), key=lambda part: part[0])]
    logits, labels = (task.joined(part, examples) for part in zip(*ordered, strict=True))
    return {"loss": loss, **task.score(logits, labels)}, task.predictions(logits)


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

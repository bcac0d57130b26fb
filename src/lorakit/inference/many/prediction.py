"""Predict with many adapters: one answer a row, each by its adapter's own task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from lorakit.errors import ConfigError
from lorakit.inference.many.forward import Read, outputs
from lorakit.inference.many.names import Names
from lorakit.inference.many.parts import Part, parts_of
from lorakit.inference.many.problems import noted
from lorakit.inference.many.sessions import Sessions, title_of
from lorakit.inference.prediction import Predictions, answers_of, require_predicting
from lorakit.inference.scoring import own_logits
from lorakit.inference.session import Opened


def predict(
    sessions: Sessions,
    names: Names,
    table: Any,
    data: str,
    progress: bool = False,
    probabilities: bool = False,
) -> Predictions:
    """One prediction a row of `table`, by the adapter of its name, which that alone would give.

    `data` is what messages call the table; `progress` shows a bar. With `probabilities` each row
    has those of its adapter's labels.

    Raises ConfigError that lists what any adapter cannot read, for a task that generates text, and
    for one that has no probabilities.
    """
    require_predictions(sessions.opened, probabilities)
    parts = parts_of(sessions, names, table, data, labelled=False)
    values: list[Any] = [None] * len(table)
    named: list[dict[str, float]] = [{} for _ in values]
    found = predict_parts(sessions, parts, progress, probabilities)
    for part, own in zip(parts, found, strict=True):
        for at, row in enumerate(part.rows):
            values[row] = own.values[at]
            named[row] = own.probabilities[at] if own.probabilities is not None else {}
    truncated = sum(own.truncated_rows for own in found)
    return Predictions(values, truncated, named if probabilities else None)


def predict_parts(
    sessions: Sessions, parts: Sequence[Part], progress: bool = False, probabilities: bool = False
) -> list[Predictions]:
    """The predictions of each part, from batches of all."""
    reads = [Read(part, part.examples()) for part in parts]
    own: list[dict[int, Tensor]] = [{} for _ in reads]
    for p, batch in outputs(sessions, reads, progress):
        examples = [reads[p].examples[i] for i in batch.examples]
        own[p] |= zip(batch.examples, own_logits(parts[p].task, batch, examples), strict=True)
    return [
        answers_of(part.task, part.table, read.examples, logits, probabilities)
        for part, read, logits in zip(parts, reads, own, strict=True)
    ]


def require_predictions(opened: Mapping[Any, Opened], probabilities: bool = False) -> None:
    """Raise ConfigError that lists the adapters which predict nothing, or no probabilities."""
    problems: list[str] = []
    for name, one in opened.items():
        with noted(problems, title_of(name)):
            require_predicting(one, probabilities)
    if problems:
        raise ConfigError("These adapters cannot predict that:", problems)

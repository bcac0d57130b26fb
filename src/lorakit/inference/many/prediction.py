"""Predict with many adapters: one answer a row, each by its adapter's own task."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lorakit.errors import ConfigError
from lorakit.inference.many.forward import Read, outputs
from lorakit.inference.many.names import Names
from lorakit.inference.many.parts import parts_of
from lorakit.inference.many.sessions import Sessions
from lorakit.inference.prediction import Predictions, answers_of, require_predicting
from lorakit.inference.scoring import own_logits


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
    require_predictions(sessions, probabilities)
    parts = parts_of(sessions, names, table, data, labelled=False)
    reads = [Read(part, part.examples(data)) for part in parts]
    own: list[dict[int, Tensor]] = [{} for _ in reads]
    for p, batch in outputs(sessions, reads, progress):
        examples = [reads[p].examples[i] for i in batch.examples]
        own[p] |= zip(batch.examples, own_logits(parts[p].task, batch, examples), strict=True)
    values: list[Any] = [None] * len(table)
    named: list[dict[str, float]] = [{} for _ in values]
    truncated = 0
    for part, read, logits in zip(parts, reads, own, strict=True):
        found = answers_of(part.task, part.table, read.examples, logits, probabilities)
        truncated += found.truncated_rows
        for at, row in enumerate(part.rows):
            values[row] = found.values[at]
            named[row] = found.probabilities[at] if found.probabilities is not None else {}
    return Predictions(values, truncated, named if probabilities else None)


def require_predictions(sessions: Sessions, probabilities: bool = False) -> None:
    """Raise ConfigError that lists the adapters which predict nothing, or no probabilities."""
    problems = []
    for member in sessions.members.values():
        try:
            require_predicting(member.session, probabilities)
        except ConfigError as error:
            problems.append(f"{member.title}: {error}")
    if problems:
        raise ConfigError("These adapters cannot predict that:", problems)

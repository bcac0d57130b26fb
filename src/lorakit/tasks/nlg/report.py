"""A data-to-text run's files: texts and references as the official scorers read them, scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lorakit.files import atomic_write_text
from lorakit.metrics.data_to_text import columns, score
from lorakit.metrics.java import missing_java
from lorakit.tasks.nlg.inputs import REFERENCES, SEEN

PREDICTED, REFERENCE, TABLE = "predictions.txt", "references.txt", "scores.md"


def score_texts(
    task: str, table: Any, texts: Sequence[str], output: Path, log: Callable[[str], None]
) -> dict[str, float]:
    """The corpus' metrics of one text a row.

    Writes the texts one a line, the references one a line with an empty line after each input, as
    e2e-metrics reads both, and then the metrics as a table.
    """
    references = table[REFERENCES][:]
    seen = table[SEEN][:] if SEEN in table.column_names else None
    lines = [_line(text) for text in texts]
    groups = ["\n".join([*map(_line, group), ""]) for group in references]
    atomic_write_text(output / PREDICTED, "\n".join([*lines, ""]))
    atomic_write_text(output / REFERENCE, "\n".join(groups))
    if missing := missing_java():
        log(f"METEOR is not computed: {missing}.")
    metrics = score(task, lines, references, seen)
    atomic_write_text(output / TABLE, _markdown(metrics))
    return metrics


def _line(text: str) -> str:
    return " ".join(text.split())


def _markdown(metrics: Mapping[str, float]) -> str:
    """A row a metric, and a column for each of what they are of."""
    table = columns(metrics)
    lines = [["metric", *table], ["---", *("---:" for _ in table)]]
    lines += [[name, *(f"{of[name]:.4f}" for of in table.values())] for name in table["all"]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)

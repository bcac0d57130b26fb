"""What a run on data-to-text leaves: texts and references as the official scorers read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lorakit.tasks.nlg.inputs import REFERENCES, SEEN
from lorakit.tasks.nlg.task import DataToText

PREDICTED, REFERENCE, TABLE = "predictions.txt", "references.txt", "scores.md"


def score_texts(
    task: DataToText, table: Any, texts: Sequence[str], output: Path
) -> dict[str, float]:
    """The corpus' metrics of one text a row.

    Writes the texts one a line, the references one a line with an empty line after each input, as
    e2e-metrics reads both, and the metrics as a table.
    """
    from lorakit.metrics.data_to_text import score

    references = table[REFERENCES][:]
    seen = table[SEEN][:] if SEEN in table.column_names else None
    metrics = score(task.name, texts, references, seen)
    lines = [_line(text) for text in texts]
    (output / PREDICTED).write_text("\n".join([*lines, ""]), encoding="utf-8")
    groups = ["\n".join([*map(_line, group), ""]) for group in references]
    (output / REFERENCE).write_text("\n".join([*groups, ""]), encoding="utf-8")
    (output / TABLE).write_text(_markdown(metrics), encoding="utf-8")
    return metrics


def _line(text: str) -> str:
    return " ".join(text.split())


def _markdown(metrics: Mapping[str, float]) -> str:
    rows = [f"| {name} | {value:.4f} |" for name, value in metrics.items()]
    return "\n".join(["| metric | value |", "| --- | ---: |", *rows, ""])

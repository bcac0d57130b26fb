"""Finished runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorakit.errors import ConfigError, FormatError
from lorakit.experiments.glue_comparison import GlueComparison, compare_glue, is_glue
from lorakit.foreign_files import local_path
from lorakit.methods import METHODS
from lorakit.runs.directory import RESULT, result_content
from lorakit.text import size_text, table

_METRICS = (
    "overall_f1",
    "accuracy",
    "f1_micro",
    "matthews_correlation",
    "pearson",
    "bleu",
    "perplexity",
)
"""Runs are compared by the first of these metrics that their task has."""
_READ = ("task", "method", "metrics", "examples")
"""What a result from elsewhere needs to be compared."""


@dataclass(frozen=True)
class Row:
    """One run, or the baseline that always predicts the most frequent class."""

    name: str
    metric: float | None
    trainable_parameters: int | None
    adapter_bytes: int | None
    seconds: float | None
    source: str | None


@dataclass(frozen=True)
class Comparison:
    """Rows of one task, and the metric that they are compared by."""

    metric: str
    """The name of the metric."""
    test_rows: int | None
    """How many rows the first run was measured on, if it says."""
    rows: tuple[Row, ...]
    """The trivial answer, if there is one, then the runs by their trainable parameters."""

    def __str__(self) -> str:
        head = ("", self.metric, "trainable parameters", "size", "seconds", "run")
        lines = [_cells(row) for row in self.rows]
        text = table([head, *lines])
        if self.test_rows and self.metric == "accuracy":
            best = max(row.metric or 0 for row in self.rows)
            error = (best * (1 - best) / self.test_rows) ** 0.5
            text.append(f"{self.test_rows:,} test rows: the standard error is {error:.3f} or more")
        return "\n".join(text)


def compare(runs: Sequence[str], references: Sequence[str] = ()) -> Comparison | GlueComparison:
    """The results of `runs` in one table, with result files from elsewhere as further rows.

    `runs` are run directories, or directories of them; of several tasks only if all are GLUE's.
    `references` are files as a run's result.json.
    Raises FormatError for a path without a finished run, ConfigError if there is no run or the
    tasks differ.
    """
    directories = [path for name in runs for path in _directories(local_path(name))]
    found = [result_content(path / RESULT, _READ) for path in directories]
    recorded = [result_content(Path(name), _READ) for name in references]
    if not found:
        raise ConfigError(
            "There is no run to compare; pass run directories, or directories of them."
        )
    if is_glue([*found, *recorded]):
        return compare_glue([*found, *recorded])
    tasks = sorted({result["task"] for result in [*found, *recorded]})
    if len(tasks) > 1:
        raise ConfigError(
            f"The runs are of different tasks ({', '.join(tasks)}), which share no metric; compare "
            "the runs of one task."
        )
    metric = _main_metric(found[0])
    rows = [_row(r, metric, str(path)) for r, path in zip(found, directories, strict=True)]
    rows += [_row(r, metric, f"recorded in {n}") for r, n in zip(recorded, references, strict=True)]
    rows.sort(key=lambda row: row.trainable_parameters or 0)
    baseline = found[0].get("baseline") or {}
    if baseline.get("metric") == metric:
        rows.insert(0, Row(baseline["answer"], baseline["value"], None, None, None, None))
    return Comparison(metric, found[0]["examples"].get("test"), tuple(rows))


def _directories(path: Path) -> list[Path]:
    if (path / RESULT).is_file():
        return [path]
    inside = sorted(file.parent for file in path.glob(f"*/{RESULT}"))
    if not inside:
        raise FormatError(
            f"{path} holds no finished run: there is no {RESULT} in it or in a directory below."
        )
    return inside


def _main_metric(result: dict[str, Any]) -> str:
    names = list(result["metrics"])
    return next((n for n in _METRICS if n in names), names[0])


def _row(result: dict[str, Any], metric: str, source: str) -> Row:
    name = result["method"]
    return Row(
        name=METHODS[name].title if name in METHODS else name,
        metric=result["metrics"].get(metric),
        trainable_parameters=result.get("trainable_parameters"),
        adapter_bytes=result.get("adapter_bytes"),
        seconds=result.get("seconds"),
        source=source,
    )


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        "" if row.metric is None else f"{row.metric:.3f}",
        "" if row.trainable_parameters is None else f"{row.trainable_parameters:,}",
        "" if row.adapter_bytes is None else size_text(row.adapter_bytes),
        "" if row.seconds is None else f"{row.seconds:,.0f}",
        row.source or "",
    )

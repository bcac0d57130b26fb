"""The files of a run directory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from lorakit.errors import FormatError
from lorakit.files import atomic_write_text
from lorakit.foreign_files import read_json
from lorakit.recipe.validation import build
from lorakit.runs.prediction_files import check_columns, write_predictions
from lorakit.runs.writing import writing
from lorakit.tasks.base import Task
from lorakit.tasks.outputs import PREDICTION
from lorakit.text import to_json

RECIPE, RESULT, ADAPTER = "recipe.yaml", "result.json", "adapter"
PREDICTIONS, CURVE, LOG = "predictions.jsonl", "curve.png", "log.json"
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class RunResult:
    """The content of result.json."""

    method: str
    task: str
    metrics: dict[str, float]
    majority: float | None
    """Accuracy of always predicting the most frequent class of the test set, for classification."""
    trainable_parameters: int
    adapter_bytes: int
    examples: dict[str, int]
    steps: int
    seconds: float
    peak_memory_bytes: int
    seed: int
    versions: dict[str, str]
    commit: str | None
    output: str
    warm_start: dict[str, Any] | None = None
    """`WarmStart`: what was loaded from `init_adapter`, what was not, and what is new."""
    base: str | None = None
    loss: str = "plain"
    """`loss.kind` of the recipe."""
    dtype: str | None = None
    """fp32, bf16 or fp16, with `auto` resolved."""


def read_result(output: Path, log: Callable[[str], None]) -> RunResult | None:
    """The result of a run, or None if it is not finished; fields of newer versions are left out.

    A result that cannot be read is said, and is none.
    """
    file, problems = output / RESULT, list[str]()
    if not file.exists():
        return None
    try:
        content = read_json(file)
    except FormatError as error:
        problems.append(str(error))
    else:
        result = build(RunResult, _known(content), "result.", problems)
        if isinstance(result, RunResult):
            return replace(result, metrics=finite_or_nan(result.metrics))
    log(f"{file} cannot be read and is made again: {'; '.join(problems)}")
    return None


def finite_or_nan(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """The metrics of a file, where null stands for a number that JSON does not have."""
    return {name: math.nan if value is None else value for name, value in metrics.items()}


def _known(content: Any) -> Any:
    if not isinstance(content, dict):
        return content
    names = {field.name for field in fields(RunResult)}
    return {name: value for name, value in content.items() if name in names}


def write_files(
    output: Path,
    result: RunResult,
    predictions: list[Any],
    test: Any,
    task: Task,
    log: list[dict[str, Any]],
) -> None:
    """The files of a finished run; result.json last, since it says that the run is finished."""
    from lorakit.runs.curve import draw_curve

    log = [entry for entry in log if "train_runtime" not in entry]  # covers the last start only
    write_predictions(output / PREDICTIONS, task.prediction_rows(test), predictions)
    with writing(output / LOG):
        atomic_write_text(output / LOG, to_json(log, indent=1))
    with writing(output / CURVE):
        draw_curve(log, output / CURVE)
    with writing(output / RESULT):
        atomic_write_text(output / RESULT, to_json(asdict(result), indent=2))


def require_free_columns(task: Task) -> None:
    """Raise ConfigError if a column added in predictions.jsonl has the name of one of the task."""
    check_columns(task.known_columns, {PREDICTION, *task.added_columns})

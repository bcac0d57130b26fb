"""The files of a run directory."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from lorakit.errors import FormatError
from lorakit.field_types import field_problems
from lorakit.files import atomic_write_text
from lorakit.foreign_files import read_json
from lorakit.models.small_files import TOKENIZER
from lorakit.models.stop_tokens import GENERATION_CONFIG
from lorakit.runs.prediction_files import check_columns, write_predictions
from lorakit.runs.writing import writing
from lorakit.tasks.base import Task
from lorakit.tasks.outputs import PREDICTION
from lorakit.tasks.task_file import TASK_FILE
from lorakit.text import to_json

RECIPE, RESULT, ADAPTER = "recipe.yaml", "result.json", "adapter"
PREDICTIONS, CURVE, LOG = "predictions.jsonl", "curve.png", "log.json"
CHECKPOINTS = "checkpoints"
BESIDE = (*TOKENIZER, "added_tokens.json", "chat_template*", GENERATION_CONFIG, TASK_FILE)
"""What stands beside an adapter's own files: tokenizer, stop tokens, task."""
TRACKED = ("tensorboard", "wandb", "mlflow.db", "trackio")
"""What trackers leave in a run."""


@dataclass(frozen=True)
class RunResult:
    """The content of result.json."""

    method: str
    """What was trained: lora, full, head, ..."""
    task: str
    """The task's name."""
    metrics: dict[str, float]
    """On the set that `data.measured_on` names, by name."""
    trainable_parameters: int
    """Numbers that were trained, those of a head too."""
    adapter_bytes: int
    """The size of the saved tensors."""
    examples: dict[str, int]
    """Rows of train, validation and test."""
    steps: int
    """Optimizer steps."""
    seconds: float
    """The time of training, over all starts of the run."""
    peak_memory_bytes: int
    """Peak of the tensors on the accelerator, or without one of the whole process."""
    seed: int
    """`training.seed`."""
    versions: dict[str, str]
    """Of lorakit, torch and transformers."""
    commit: str | None
    """lorakit's commit, in a checkout; None elsewhere."""
    output: str
    """The run directory."""
    planned_peak_bytes: int | None = None
    """Predicted peak of the tensors of a training step; None where it was not predicted."""
    head_parameters: int = 0
    """Those of them that any method trains in full: of the task's head, of `modules_to_save`."""
    warm_start: dict[str, Any] | None = None
    """`WarmStart`: what was loaded from `init_adapter`, what was not, and what is new."""
    base: str | None = None
    """The base model, as the recipe names it."""
    loss: str = "plain"
    """`loss.kind` of the recipe."""
    dtype: str | None = None
    """fp32, bf16 or fp16, with `auto` resolved."""
    baseline: dict[str, Any] | None = None
    """`Baseline`: what an answer that looks at no text scores on that set."""
    remarks: list[str] = field(default_factory=list)
    """Sentences about a run that learned nothing."""


def read_result(output: Path, log: Callable[[str], None]) -> RunResult | None:
    """The result of a run, or None if it is not finished; fields of newer versions are left out.

    A result that cannot be read is said, and is none. It stands where it is found, whatever the
    directory was called when it was written.
    """
    file = output / RESULT
    if not file.exists():
        return None
    try:
        content = result_content(file)
    except FormatError as error:
        log(f"{file} cannot be read and is made again: {error}")
        return None
    known = {field.name for field in fields(RunResult)}
    values = {name: value for name, value in content.items() if name in known}
    return RunResult(**{**values, "output": str(output)})


def result_content(file: Path, required: Collection[str] | None = None) -> dict[str, Any]:
    """What is in a result.json, with NaN for the null that stands for it among the metrics.

    `required` are the fields that have to be there; None: all without a default. Raises FormatError
    that lists what is missing or of another type.
    """
    content = read_json(file)
    if not isinstance(content, dict):
        raise FormatError(f"{file} is not the result of a run: it must be a mapping.")
    if isinstance(content.get("metrics"), dict):
        found = content["metrics"].items()
        content["metrics"] = {n: math.nan if v is None else v for n, v in found}
    problems = field_problems(RunResult, content, required)
    if content.get("metrics") == {}:
        problems.append("metrics is {}; it must hold at least one metric")
    examples = content.get("examples")
    if isinstance(examples, dict) and "test" not in examples:
        problems.append(f"examples is {examples!r}; it must hold the number of rows of test")
    if problems:
        raise FormatError(f"{file} is not the result of a run:", problems)
    return content


def missing_adapter(directory: Path) -> str:
    """Why a run has no adapter, and what to do."""
    again = shlex.join(["lorakit", "train", str(directory / RECIPE), "--output", str(directory)])
    if not (directory / RESULT).exists():
        return (
            f"{directory} is an unfinished run, which has no adapter yet; finish it first with: "
            f"{again}"
        )
    return (
        f"{directory} is a finished run whose adapter, {directory / ADAPTER}, is gone; delete "
        f"{directory / RESULT} to make it again, from the newest checkpoint that is there, with: "
        f"{again}"
    )


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

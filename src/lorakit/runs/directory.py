"""The files of a run directory, and the claim of one by a recipe."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lorakit.errors import ConfigError, LorakitError, StateError
from lorakit.files import atomic_write_text
from lorakit.recipe.schema import Recipe, differences, from_mapping
from lorakit.recipe.yaml_file import load_recipe, to_yaml
from lorakit.runs.prediction_files import check_columns, write_predictions
from lorakit.tasks.base import Task
from lorakit.tasks.outputs import PREDICTION

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


def claim(output: Path, recipe: Recipe) -> RunResult | None:
    """Create the run directory with its recipe; return the result if the run is finished.

    Raises StateError if the directory holds another recipe's run or other files, ConfigError if it
    cannot be written.
    """
    file = output / RECIPE
    try:
        if file.exists():
            _require_same(output, recipe)
        elif output.exists() and any(p.suffix != ".tmp" for p in output.iterdir()):
            raise StateError(
                f"{output} is not empty and is not a run directory; choose another output."
            )
        if (output / RESULT).exists():
            return RunResult(**json.loads((output / RESULT).read_text(encoding="utf-8")))
        output.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            atomic_write_text(file, to_yaml(recipe))
        if not os.access(output, os.W_OK):
            raise PermissionError(f"no permission to write in {output}")
    except OSError as error:
        raise ConfigError(f"The run directory {output} cannot be written: {error}") from error
    return None


@contextmanager
def released_if_refused(output: Path, owner: bool) -> Iterator[None]:
    """Delete the claimed recipe.yaml if the recipe turns out not to fit its base or data.

    A directory that holds more of a run than its recipe stays as it is.
    """
    try:
        yield
    except LorakitError:
        files = [path for path in output.rglob("*") if not path.is_dir()]
        if owner and files == [output / RECIPE]:
            shutil.rmtree(output / CHECKPOINTS, ignore_errors=True)  # empty; the Trainer's
            (output / RECIPE).unlink()
        raise


def _require_same(output: Path, recipe: Recipe) -> None:
    try:
        there = from_mapping(load_recipe(output / RECIPE))
    except ConfigError as error:
        raise StateError(f"{output} holds a run whose recipe cannot be read: {error}") from error
    if found := differences(there, recipe):
        raise StateError(
            f"{output} holds a run of another recipe; choose another output, or delete it:", found
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
    atomic_write_text(output / LOG, json.dumps(log, indent=1))
    draw_curve(log, output / CURVE)
    atomic_write_text(output / RESULT, json.dumps(asdict(result), indent=2))


def require_free_columns(task: Task) -> None:
    """Raise ConfigError if a column added in predictions.jsonl has the name of one of the task."""
    check_columns(task.known_columns, {PREDICTION, *task.added_columns})

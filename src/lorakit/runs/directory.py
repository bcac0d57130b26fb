"""What a run leaves on disk, and who may write there."""

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
    """What result.json holds."""

    method: str
    task: str
    metrics: dict[str, float]
    majority: float | None
    """Accuracy of always saying the most frequent label, for classification."""
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
    """What was taken from `init_adapter`, what was left, and what is new."""
    base: str | None = None
    loss: str = "plain"
    """The kind of the recipe's loss."""
    dtype: str | None = None
    """That the run computed in, which `auto` chose."""


def claim(output: Path, recipe: Recipe) -> RunResult | None:
    """Take the directory for this recipe; its result if the run is finished."""
    file = output / RECIPE
    try:
        if file.exists():
            _require_same(output, recipe)
        elif output.exists() and any(p.suffix != ".tmp" for p in output.iterdir()):
            raise StateError(f"{output} is not empty and holds no run; choose another output.")
        if (output / RESULT).exists():
            return RunResult(**json.loads((output / RESULT).read_text(encoding="utf-8")))
        output.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            atomic_write_text(file, to_yaml(recipe))
        if not os.access(output, os.W_OK):
            raise PermissionError(f"no permission to write in {output}")
    except OSError as error:
        raise ConfigError(f"The output {output} cannot be written: {error}") from error
    return None


@contextmanager
def released_if_refused(output: Path, owner: bool) -> Iterator[None]:
    """Give a claimed directory back if the recipe turns out not to fit its base or data.

    It is empty then; one that holds anything of a run but its recipe stays as it is.
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
            f"{output} holds a run of another recipe; choose another output, or remove it:", found
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

    log = [entry for entry in log if "train_runtime" not in entry]  # it is of the last start only
    write_predictions(output / PREDICTIONS, task.answered(test), predictions)
    atomic_write_text(output / LOG, json.dumps(log, indent=1))
    draw_curve(log, output / CURVE)
    atomic_write_text(output / RESULT, json.dumps(asdict(result), indent=2))


def require_free_columns(task: Task) -> None:
    """Raise ConfigError if a column of predictions.jsonl would hide one that the task reads."""
    check_columns(task.known_columns, {PREDICTION, *task.added_columns})

"""From a trained model to the files of a finished run."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorakit.inference.generation import generate_test_rows
from lorakit.inference.partial_outputs import remove_partial
from lorakit.inference.scoring import joined
from lorakit.inference.session import Session
from lorakit.methods import find, save_adapter
from lorakit.models.dtypes import resolve_dtype
from lorakit.models.stop_tokens import save_generation_config, set_stop_tokens
from lorakit.recipe.data import tested
from lorakit.runs.directory import ADAPTER, PREDICTIONS, RunResult, write_files
from lorakit.runs.writing import writing
from lorakit.tasks.base import Task
from lorakit.tasks.baseline import Baseline
from lorakit.tasks.registry import task_spec
from lorakit.tasks.task_file import save_task
from lorakit.training.calibration import calibrated
from lorakit.training.preparation import Prepared, Workplace
from lorakit.training.remarks import remarks
from lorakit.training.result import run_result
from lorakit.training.target_units import fold_units


def complete_run(
    run: Prepared, baseline: Baseline | None, planned: int | None, place: Workplace
) -> RunResult:
    """Measure what was trained, save it, and write what came of it, beside the planned peak.

    Raises TrainingError if a test set's loss is not finite, SaveError for what cannot be written.
    """
    seconds, output = run.trainer.seconds, place.output
    find(run.recipe.method).finish(run.model)
    task = fold_units(run.model, run.task)
    if run.recipe.data.calibrates:
        run.model.eval()
        task = calibrated(task, _session(run, output), run.tables["validation"], place.log)
    run.trainer.task = task
    run = replace(run, task=task)
    if task.generates:
        set_stop_tokens(run.model, run.tokenizer, run.ends)
    examined = {name: run.trainer.examine(table) for name, table in tested(run.encoded).items()}
    place.require_held()
    if place.process.is_main_process:
        with writing(output / ADAPTER):
            _save(run.model, run.tokenizer, task, output / ADAPTER)
    metrics = joined({name: found for name, (found, _) in examined.items()})
    test = run.tables["test"]
    predictions = _completions(run, output) if task.generates else examined["test"][1]
    place.require_held()
    if place.process.is_main_process:
        with writing(output / PREDICTIONS):
            metrics |= task.report(test, predictions, output, place.log)
    place.process.wait_for_everyone()
    place.trackers.close(run.trainer, {f"test_{name}": value for name, value in metrics.items()})
    said = remarks(run.recipe, task, metrics, baseline, predictions, test)
    result = run_result(run, metrics, baseline, said, seconds, planned, output)
    for sentence in said:
        place.log(sentence)
    if place.process.is_main_process:
        write_files(output, result, predictions, test, task, run.trainer.state.log_history)
        remove_partial(output / PREDICTIONS)
    return result


def _save(model: Any, tokenizer: Any, task: Task, directory: Path) -> None:
    """The adapter, and beside it what it takes to use it."""
    save_adapter(model, directory)
    tokenizer.save_pretrained(directory)
    save_task(task, directory)
    if task.generates:
        save_generation_config(model, directory)


def _completions(run: Prepared, output: Path) -> list[str]:
    """The generated text of each test row."""
    return generate_test_rows(
        _session(run, output), run.tables["test"], output / PREDICTIONS, sys.stderr.isatty()
    )


def _session(run: Prepared, output: Path) -> Session:
    """The trained model, opened for inference."""
    recipe, task = run.recipe, run.task
    return Session(
        str(output),
        recipe.base,
        recipe.method,
        run.model,
        run.tokenizer,
        task,
        recipe,
        task_spec(recipe.data.task or task.name),
        resolve_dtype(recipe.training.dtype),
    )

"""From a recipe to a run directory: adapter, recipe as run, metrics, predictions, curve."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import AutoConfig, AutoTokenizer, set_seed

import lorakit.training.base_model as base_model
from lorakit.baselines import train_full, train_head
from lorakit.errors import ConfigError, StateError
from lorakit.injection.adaptation import inject
from lorakit.tasks.base import Task
from lorakit.tasks.columns import Columns, make_task, resolve
from lorakit.tasks.encoding import cut_text, encode_table
from lorakit.tasks.tables import read_table
from lorakit.training.checkpoints import complete_checkpoints, save_trained
from lorakit.training.recipe import DataConfig, Recipe, differences, from_mapping
from lorakit.training.recipe_file import load_recipe, to_yaml
from lorakit.training.task_file import save_task
from lorakit.training.training_arguments import make_trainer

Say = Callable[[str], None]

RECIPE, RESULT, ADAPTER = "recipe.yaml", "result.json", "adapter"
PREDICTIONS, CURVE, LOG = "predictions.jsonl", "curve.png", "log.json"


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


def run(recipe: Recipe, say: Say = print) -> RunResult:
    """Train as the recipe says; continues a run that was interrupted, and returns a finished one.

    Under `torchrun` every process trains its share and the first one writes and speaks.

    Raises ConfigError, FormatError or MismatchError for what does not fit, StateError if the output
    holds another recipe's run, TrainingError if something cannot learn.
    """
    process = PartialState()
    say = say if process.is_main_process else _silent
    output = Path(recipe.output)
    with process.main_process_first():
        recipe = with_guesses(recipe, say)
        finished = _claim(output, recipe)
    if finished is not None:
        say(f"{output} holds this run already; its result:")
        return finished
    with _determinism(recipe.training.deterministic):
        return _train(recipe, output, process, say)


def _train(recipe: Recipe, output: Path, process: PartialState, say: Say) -> RunResult:
    set_seed(recipe.training.seed)
    tables = split(recipe.data)
    tokenizer, task = prepare(recipe, tables["train"])
    encoded = {n: encode(task, tokenizer, table, n, say) for n, table in tables.items()}
    model = build_model(recipe, task, say)
    trainer = make_trainer(recipe, model, task, tokenizer, encoded, output, say)
    checkpoints = complete_checkpoints(output / "checkpoints")
    if checkpoints:
        say(f"continuing from {checkpoints[-1]}")
    process.wait_for_everyone()  # all have seen the same checkpoints before one writes
    trainer.train_from(checkpoints[-1] if checkpoints else None)
    seconds = trainer.seconds
    if process.is_main_process:
        save_trained(model, output / ADAPTER)
        tokenizer.save_pretrained(output / ADAPTER)
        save_task(task, output / ADAPTER)
    metrics, predictions = trainer.examine(encoded["test"])
    process.wait_for_everyone()
    result = _result(recipe, task, trainer, tables, metrics, seconds, output)
    if process.is_main_process:
        _write(output, result, predictions, tables["test"], task, trainer.state.log_history)
    return result


@contextmanager
def _determinism(wanted: bool) -> Iterator[None]:
    """Deterministic algorithms inside, as the caller had it afterwards."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(wanted or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _silent(text: str) -> None:
    """What processes other than the first say."""


def split(data: DataConfig) -> dict[str, Any]:
    """The tables `train`, `test` and, where asked for, `validation`."""
    table = read_table(data.train)
    tables: dict[str, Any] = {}
    for name, part in (("test", data.test if data.test is not None else 0.1),
                       ("validation", data.validation)):  # fmt: skip
        if isinstance(part, str):
            tables[name] = read_table(part, "validation" if name == "validation" else "test")
        elif part is not None:
            size = int(part) if part >= 1 else max(1, round(part * len(table)))
            if size >= len(table):
                raise ConfigError(
                    f"{data.train} has {len(table)} rows; {size} of them cannot be set apart for "
                    f"{name}."
                )
            parts = table.train_test_split(test_size=size, seed=data.split_seed)
            table, tables[name] = parts["train"], parts["test"]
    return {"train": table, **tables}


def prepare(recipe: Recipe, train: Any) -> tuple[Any, Task]:
    """The tokenizer, and the task with the labels of the training table."""
    tokenizer = AutoTokenizer.from_pretrained(recipe.base, revision=recipe.revision)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    data = recipe.data
    columns = Columns(data.task, tuple(data.text or ()) or None, data.label)
    config = AutoConfig.from_pretrained(recipe.base, revision=recipe.revision)
    limit = min(tokenizer.model_max_length, getattr(config, "max_position_embeddings", 1 << 20))
    return tokenizer, make_task(train, columns, min(data.max_length or limit, limit))


def encode(task: Task, tokenizer: Any, table: Any, name: str, say: Say) -> Any:
    """The table as token ids, with a progress bar; says how many rows were too long."""
    with _bars(sys.stderr.isatty()):
        encoded, cut = encode_table(task, tokenizer, table, name)
    if cut:
        say(cut_text(cut, len(table), name, task.max_length))
    return encoded


@contextmanager
def _bars(wanted: bool) -> Iterator[None]:
    import datasets

    before = datasets.are_progress_bars_disabled()
    if not wanted:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not wanted and not before:
            datasets.enable_progress_bars()


def build_model(recipe: Recipe, task: Task, say: Say) -> Any:
    """The base with the task's head, prepared by the recipe's method."""
    model, head = base_model.load_for_task(
        recipe.base, task.auto_class, task.head(), recipe.revision
    )
    if recipe.method == "full":
        train_full(model)
    elif recipe.method == "head":
        train_head(model, head)
    else:
        saved = tuple(dict.fromkeys([*(recipe.lora.modules_to_save or ()), *head]))
        say(str(inject(model, recipe.lora.replace(modules_to_save=saved or None))))
    return model


def with_guesses(recipe: Recipe, say: Say) -> Recipe:
    """The recipe with its columns filled in from the table."""
    table = read_table(recipe.data.train)
    data = recipe.data
    given = Columns(data.task, tuple(data.text or ()) or None, data.label)
    columns = resolve(table, given, data.train)
    if columns != given:
        say(
            f"guessed from {data.train}: task {columns.task}, text {', '.join(columns.text or ())}"
            + (f", label {columns.label}" if columns.label else "")
        )
    choosing = recipe.training.early_stopping is not None
    validation = 0.1 if choosing and data.validation is None else data.validation
    known: dict[str, Any] = {"task": columns.task, "text": columns.text, "label": columns.label}
    return replace(recipe, data=replace(data, **known, validation=validation))


def _claim(output: Path, recipe: Recipe) -> RunResult | None:
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
            _replace(file, to_yaml(recipe))
        if not os.access(output, os.W_OK):
            raise PermissionError(f"no permission to write in {output}")
    except OSError as error:
        raise ConfigError(f"The output {output} cannot be written: {error}") from error
    return None


def _require_same(output: Path, recipe: Recipe) -> None:
    try:
        there = from_mapping(load_recipe(output / RECIPE))
    except ConfigError as error:
        raise StateError(f"{output} holds a run whose recipe cannot be read: {error}") from error
    if found := differences(there, recipe):
        raise StateError(
            f"{output} holds a run of another recipe; choose another output, or remove it:", found
        )


def _replace(file: Path, text: str) -> None:
    """Write the file at once: after a kill it is there whole or not at all."""
    temporary = file.with_name(f"{file.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)


def _result(
    recipe: Recipe,
    task: Task,
    trainer: Any,
    tables: dict[str, Any],
    metrics: dict[str, float],
    seconds: float,
    output: Path,
) -> RunResult:
    files = list((output / ADAPTER).glob("*.safetensors"))
    return RunResult(
        method=recipe.method,
        task=task.name,
        metrics=metrics,
        majority=_majority(tables["test"], task),
        trainable_parameters=sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        adapter_bytes=sum(file.stat().st_size for file in files),
        examples={name: len(table) for name, table in tables.items()},
        steps=trainer.state.global_step,
        seconds=round(seconds, 1),
        peak_memory_bytes=_peak_memory(),
        seed=recipe.training.seed,
        versions={name: _version(name) for name in ("lorakit", "torch", "transformers")},
        commit=_commit(),
        output=str(output),
    )


def _majority(table: Any, task: Task) -> float | None:
    if task.name != "classification" or task.label is None:
        return None
    values = [str(value) for value in table[task.label]]
    return max(map(values.count, set(values))) / len(values)


def _peak_memory() -> int:
    """Of the accelerator where there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _commit() -> str | None:
    """The commit of the checkout that lorakit runs from, if it is one."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


def _write(
    output: Path,
    result: RunResult,
    predictions: list[Any],
    test: Any,
    task: Task,
    log: list[dict[str, Any]],
) -> None:
    """The files of a finished run; result.json last, since it says that the run is finished."""
    from lorakit.training.curve import draw_curve

    log = [entry for entry in log if "train_runtime" not in entry]  # it is of the last start only
    columns = [*task.text, *([task.label] if task.label else [])]
    if predictions:
        rows = zip(test.select_columns(columns), predictions, strict=True)
        lines = [_json({**row, "prediction": prediction}) for row, prediction in rows]
        (output / PREDICTIONS).write_text("\n".join([*lines, ""]), encoding="utf-8")
    (output / LOG).write_text(json.dumps(log, indent=1), encoding="utf-8")
    draw_curve(log, output / CURVE)
    _replace(output / RESULT, json.dumps(asdict(result), indent=2))


def _json(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, default=str)

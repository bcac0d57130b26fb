"""The model card (README.md) with which a finished run is shared on the Hub; no local paths."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from lorakit.checkpoint import AdapterBundle
from lorakit.checkpoint.formats.peft.codec import Peft
from lorakit.checkpoint.formats.registry import format_of
from lorakit.methods import find
from lorakit.recipe.schema import Recipe
from lorakit.runs.directory import ADAPTER, RunResult
from lorakit.runs.next_steps import command_lines, peft_lines, python_lines
from lorakit.tasks.base import Task

_PIPELINES = {
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForMultipleChoice": "multiple-choice",
    "AutoModelForCausalLM": "text-generation",
    "AutoModelForSeq2SeqLM": "text2text-generation",
}
"""transformers' classes, and the Hub's tags for what they do."""
_SHOWN_LABELS = 100


@dataclass(frozen=True)
class SharedRun:
    """A finished run, and the names under which strangers find it, its base and its data."""

    directory: Path
    recipe: Recipe
    result: RunResult
    bundle: AdapterBundle
    task: Task
    repo: str
    base: str | None
    """The base's id on the Hub; None for one that has none."""
    datasets: tuple[str, ...]
    """Ids of data sets on the Hub."""
    files: tuple[str, ...]
    """Names of other files with data."""

    @property
    def base_name(self) -> str:
        return self.base or Path(self.recipe.base).name

    @property
    def data_name(self) -> str:
        return ", ".join((*self.datasets, *self.files))


def model_card(run: SharedRun) -> str:
    """Metadata for the Hub; metrics, use, training for people. The licence is the user's to add."""
    method = find(run.recipe.method).title
    parts = [
        f"---\n{_metadata(run).to_yaml()}\n---\n",
        f"# {run.repo.partition('/')[2]}\n",
        f"{method} of `{run.base_name}` for {run.result.task.replace('_', ' ')}, trained with "
        "lorakit.\n",
        *_metrics(run),
        *_use(run),
        *_training(run, method),
    ]
    return str(ModelCard("\n".join(parts)))


def _metadata(run: SharedRun) -> ModelCardData:
    pipeline = _PIPELINES.get(run.task.auto_class)
    results = [
        EvalResult(
            task_type=pipeline or run.result.task,
            dataset_type=next(iter(run.datasets), Path(run.data_name).stem),
            dataset_name=run.data_name,
            metric_type=name,
            metric_value=round(value, 4),
        )
        for name, value in run.result.metrics.items()
        if name != "loss" and math.isfinite(value)
    ]
    return ModelCardData(
        base_model=run.base,
        datasets=list(run.datasets) or None,
        eval_results=results or None,
        library_name="peft" if _is_peft(run) else "lorakit",
        model_name=run.repo.partition("/")[2],
        pipeline_tag=pipeline,
        tags=["lorakit", run.recipe.method],
    )


def _metrics(run: SharedRun) -> list[str]:
    values = dict(run.result.metrics)
    if trivial := run.result.baseline:
        values[f"{trivial['metric']} of the {trivial['answer']}"] = trivial["value"]
    rows = [f"| {name} | {value:.4g} |" for name, value in values.items()]
    measured = f"{run.result.examples['test']:,} {run.recipe.data.measured_on} rows"
    return [f"| {measured} | |", "|---|---|", *rows, ""]


def _use(run: SharedRun) -> list[str]:
    columns = len(run.recipe.data.text or ())
    commands = command_lines(run.repo, run.task.generates, columns)
    if run.base is None:
        commands = [f"{command} --base {shlex.quote(run.base_name)}" for command in commands]
    code = python_lines(
        run.directory, run.recipe, run.bundle, run.task, adapter=run.repo, base=run.base_name
    )
    parts = ["## Use\n", *_block("console", [f"$ {line}" for line in commands])]
    parts += _block("python", code)
    if _is_peft(run):
        without = [line for line in code[:-1] if line != "import lorakit as lora"]
        parts += ["With PEFT:\n", *_block("python", [*without, *peft_lines(run.repo)])]
    return parts


def _training(run: SharedRun, method: str) -> list[str]:
    training, examples = run.recipe.training, dict(run.result.examples)
    if run.recipe.data.measured_on != "test":
        del examples["test"]  # the same rows under another name
    rows = ", ".join(f"{count:,} {name}" for name, count in examples.items())
    lines = [
        f"Data: `{run.data_name}`, rows: {rows}",
        f"Method: {method}, {run.result.trainable_parameters:,} trainable parameters",
        f"Steps: {run.result.steps:,} of {training.total_batch} examples, learning rate "
        f"{training.learning_rate:g}, seed {run.result.seed}, {run.result.dtype}",
        "Versions: " + ", ".join(f"{name} {of}" for name, of in run.result.versions.items()),
    ]
    if names := run.task.class_names:
        more = f" and {len(names) - _SHOWN_LABELS:,} more" if len(names) > _SHOWN_LABELS else ""
        shown = ", ".join(f"`{name}`" for name in names[:_SHOWN_LABELS])
        lines.insert(1, f"Labels: {shown}{more}")
    if run.recipe.method == "lora":
        lora = run.bundle.config
        lines.insert(-2, f"LoRA: r {lora.r}, lora_alpha {lora.lora_alpha:g}")
    return ["## Training\n", *(f"- {line}" for line in lines), ""]


def _is_peft(run: SharedRun) -> bool:
    return isinstance(format_of(run.directory / ADAPTER), Peft)


def _block(language: str, lines: list[str]) -> list[str]:
    return [f"```{language}", *lines, "```\n"]

"""An adapter and its base become one plain model on disk, with all that the run used.

That is the adapter's own tokenizer with its chat template, the labels, and the tokens that pad and
stop; an adapter without these files gets the base's.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from lorakit.checkpoint import read
from lorakit.checkpoint.fingerprint import verdict
from lorakit.errors import ConfigError, SaveError
from lorakit.foreign_files import local_path
from lorakit.inference.beside import (
    adapter_directory,
    load_own_tokenizer,
    settle_tokens,
    stored_task,
)
from lorakit.locks import new_directory
from lorakit.methods import find, load
from lorakit.models.loading import load_base, load_tokenizer
from lorakit.models.small_files import PROCESSOR, TOKENIZER, small_files
from lorakit.models.stop_tokens import set_stop_tokens
from lorakit.models.vocabulary import fit_vocabulary
from lorakit.runs.directory import ADAPTER, RECIPE
from lorakit.runs.finished import finished_run
from lorakit.tasks.base import Task
from lorakit.tasks.padding import settle_padding
from lorakit.text import settings


@dataclass(frozen=True)
class MergedModel:
    """The report of a merge."""

    output: str
    base: str
    model_class: str
    folded_layers: int
    worst_rounding: float
    """The largest rounding error of a layer, relative to its update."""
    base_verified: bool | None
    bytes: int
    tokenizer: str | None
    """Where its tokenizer is from; None: neither the adapter nor the base has one."""
    unknown_settings: Mapping[str, Any]
    """Those in the adapter's file that lorakit does not know; they could mean another function."""
    added_mean: float
    """What a regression adds to the model's output, whose head has no bias."""

    def __str__(self) -> str:
        lines = [
            f"{self.output}: {self.model_class}, {self.bytes / 1e6:,.1f} MB, "
            f"{self.folded_layers} layers folded",
            f"base: {self.base} ({verdict(self.base_verified, self.folded_layers > 0)})",
            f"tokenizer: {self.tokenizer or 'none'}",
            f"rounding error: at most {self.worst_rounding:.2g} of a layer's update",
        ]
        if self.unknown_settings:
            lines.append(f"unknown settings of the adapter: {settings(self.unknown_settings)}")
        if self.added_mean:
            lines.append(f"the number is the model's logit + {self.added_mean}")
        return "\n".join(lines)


def merge_to_directory(
    source: str,
    base: str | None,
    output: Path,
    *,
    lora_alpha: float | None = None,
    check_base: bool = True,
    revision: str | None = None,
) -> MergedModel:
    """Load the adapter `source`, or a run's, onto its base, fold it, and save model and tokenizer.

    With a task file beside the adapter the configs have its labels, and the tokens that pad and
    stop.

    `base` is that of the adapter by default, `revision` a branch, tag or commit of the adapter on
    the Hub. `lora_alpha` is needed where the file does not store it, and `check_base=False` allows
    other base weights. `output` must not exist or be empty; it appears complete or not at all.
    Raises what reading, loading and saving raise, ConfigError if the adapter does not name its
    base.
    """
    if local_path(output).exists() and (not output.is_dir() or any(output.iterdir())):
        raise SaveError(
            f"{output} exists already and is not an empty directory; pass a new directory with "
            "--output."
        )
    if output.name == ADAPTER and (output.parent / RECIPE).is_file():
        raise SaveError(
            f"{output} is the place of the adapter of the run in {output.parent}; pass another "
            "directory with --output."
        )
    run = finished_run(source, revision)
    adapter = source if run is None else str(run.adapter)
    bundle = read(adapter, lora_alpha, revision)
    own_base = bundle.base_model if run is None else run.recipe.base
    base_revision = run.recipe.revision if run is not None and base is None else None
    base = base or own_base
    if base is None:
        raise ConfigError(
            f"The files of {adapter} do not name the base model; pass it with --base MODEL."
        )
    beside = adapter_directory(adapter, revision)
    task = stored_task(beside)
    with new_directory(output) as directory:
        model: Any = load_base(base, base_revision, bundle=bundle)
        own = tokenizer = load_own_tokenizer(beside)
        fit_vocabulary(model, bundle, own)
        loaded = load(model, bundle, adapter, check_base)
        report = find(bundle.method).fold(model)
        if own is None and small_files(base, TOKENIZER):
            tokenizer = load_tokenizer(base, base_revision)
        _settle(model, tokenizer, task, beside)
        size = _save(model, tokenizer, base, directory)
    return MergedModel(
        output=str(output),
        base=base,
        model_class=type(model).__name__,
        folded_layers=len(report.rounding),
        worst_rounding=report.worst_rounding,
        base_verified=loaded.base_verified,
        bytes=size,
        tokenizer=None if tokenizer is None else (base if own is None else adapter),
        unknown_settings=bundle.unknown_settings,
        added_mean=0.0 if task is None else task.units.mean,
    )


def _settle(model: Any, tokenizer: Any, task: Task | None, beside: Path | None) -> None:
    """Write into the model's configs what the task and the tokenizer say."""
    if task is not None:
        for name, value in task.head().items():
            setattr(model.config, name, value)
    if tokenizer is None:
        return
    if task is not None:
        settle_tokens(model, tokenizer, task, beside)
    elif model.can_generate():  # from here on another tool's adapter, which names no task
        set_stop_tokens(model, tokenizer)
    else:
        settle_padding(tokenizer, model)


def _save(model: Any, tokenizer: Any, base: str, directory: Path) -> int:
    """Write model, tokenizer and the base's processors; returns the bytes written."""
    try:
        model.save_pretrained(directory)
    except SafetensorError as error:
        raise SaveError(f"The merged model could not be saved: {error}") from error
    if tokenizer is not None:
        tokenizer.save_pretrained(directory)
    for file in small_files(base, PROCESSOR):
        shutil.copy2(file, directory / file.name)
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())

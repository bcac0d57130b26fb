"""A finished run, or an adapter alone, is opened for inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from lorakit.errors import ConfigError
from lorakit.foreign_files import local_path
from lorakit.inference.description import Description, LoadOptions, describe
from lorakit.methods import load
from lorakit.models.dtypes import Dtype, compute_in
from lorakit.models.loading import load_for_task, load_tokenizer
from lorakit.models.vocabulary import fit_vocabulary
from lorakit.recipe.data import split, tested
from lorakit.recipe.schema import Recipe
from lorakit.runs.beside import settle_tokens
from lorakit.runs.origin import require_same_rows
from lorakit.tasks.base import Task
from lorakit.tasks.batching import TOKENS
from lorakit.tasks.padding import require_padding
from lorakit.tasks.spec import TaskSpec

__all__ = ["LoadOptions", "Opened", "Session", "evaluation_tables", "open_session"]


@dataclass(frozen=True)
class Session:
    """An adapted `model` in evaluation mode, its `tokenizer` and its task."""

    source: str
    """The run or adapter that was opened."""
    base: str
    """The base model that it was loaded onto."""
    method: str
    """What trained it: a name in `lorakit.methods.METHODS`."""
    model: Any
    tokenizer: Any
    task: Task
    """Columns and labels: what rows are read as, and what outputs mean."""
    recipe: Recipe | None
    """The recipe of a run; None for an adapter alone."""
    spec: TaskSpec
    """The entry of the task in `TASKS`: mnli and rte are both a classification `task`."""
    dtype: Dtype = "fp32"
    """A run's model computes in the dtype of its training, so its metrics stay what they were."""

    @property
    def measured_on(self) -> str:
        """What its own set is called: as a run's recipe says."""
        return "test" if self.recipe is None else self.recipe.data.measured_on

    @property
    def token_budget(self) -> int:
        """Tokens of a batch at most: a run's rows form the same batches as in its training."""
        return TOKENS if self.recipe is None else self.recipe.training.token_budget


Opened = Session | Description
"""A run or an adapter, with its model or without."""


def open_session(
    source: str, options: LoadOptions | None = None, default_task: str | None = None
) -> Session:
    """Open `source`, a run directory or an adapter (directory, file or hub id), for inference.

    `options` override what stands beside it. `default_task` is the task of an adapter that names
    none. Raises ConfigError that lists what is missing, FormatError for damaged files,
    MismatchError if the adapter does not fit its base.
    """
    options = options or LoadOptions()
    described = describe(source, options, default_task)
    model = _load_adapted(described, options.check_base)
    compute_in(model, described.dtype)
    return settled(described, on_accelerator(model))


def evaluation_tables(opened: Opened, data: str | None) -> dict[str, Any]:
    """The tables to evaluate on: `data`, else a run's test rows, else the task's own test set.

    Raises ConfigError for an adapter alone whose task has no test set, StateError for a run whose
    test rows are no longer those that it was begun with, or that cannot tell.
    """
    if data is None and opened.recipe is not None:
        tables = tested(split(opened.recipe.data))
        require_same_rows(local_path(opened.source), tables, opened.task.known_columns)
        return tables
    source = data or opened.spec.hub
    if source is None:
        raise ConfigError(
            f"{opened.source} is an adapter, and its task {opened.spec.name} has no test set of "
            "its own; pass --data FILE."
        )
    return opened.spec.read(source, "test")


def on_accelerator(model: Any) -> Any:
    """The model in evaluation mode, where it computes."""
    return model.eval().to(torch.accelerator.current_accelerator(check_available=True) or "cpu")


def settled(described: Description, model: Any) -> Session:
    """The session of what was described, on its model, which gets its padding and stop tokens.

    Raises ConfigError for a tokenizer that cannot pad, FormatError for damaged files.
    """
    own, task = described.tokenizer, described.task
    tokenizer = load_tokenizer(described.base, described.revision) if own is None else own
    settle_tokens(model, tokenizer, task, described.directory)
    require_padding(tokenizer, task)
    return Session(
        described.source,
        described.base,
        described.bundle.method,
        model,
        tokenizer,
        task,
        described.recipe,
        described.spec,
        described.dtype,
    )


def _load_adapted(described: Description, check_base: bool) -> Any:
    bundle, task = described.bundle, described.task
    model, _ = load_for_task(
        described.base, task.auto_class, task.head(), described.revision, set(bundle.trained)
    )
    fit_vocabulary(model, bundle, described.tokenizer)
    load(model, bundle, described.file, check_base)
    return model

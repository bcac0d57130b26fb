"""The model that a recipe trains: the base with the task's head, then prepared by the method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorakit.errors import ConfigError
from lorakit.injection.inspection.report import Report
from lorakit.injection.selection.vocabulary import height, input_embeddings
from lorakit.methods import find
from lorakit.methods.prefixes.prompts import KnowsPrompts
from lorakit.models import loading
from lorakit.models.dtypes import compute_in, resolve_dtype
from lorakit.models.vocabulary import resize
from lorakit.models.weightless import weightless_for_task
from lorakit.recipe.data import Log
from lorakit.recipe.schema import Recipe
from lorakit.tasks.base import SEQUENCE_CLASSIFICATION, TOKEN_CLASSIFICATION, Task

_HEAD_DROPOUT = {
    SEQUENCE_CLASSIFICATION: ("classifier_dropout", "seq_classif_dropout"),
    TOKEN_CLASSIFICATION: ("classifier_dropout",),
}
"""Settings of configs for dropout before a head of this class."""


def load_model(recipe: Recipe, task: Task) -> tuple[Any, list[str]]:
    """The base with the task's head, and the modules that are new in it."""
    settings = _head_settings(recipe, task)
    return loading.load_for_task(recipe.base, task.auto_class, settings, recipe.revision)


def model_on_meta(recipe: Recipe, task: Task) -> Any:
    """The same base with the task's head, without weights."""
    settings = _head_settings(recipe, task)
    return weightless_for_task(recipe.base, task.auto_class, settings, recipe.revision)


def _head_settings(recipe: Recipe, task: Task) -> dict[str, Any]:
    settings = task.head()
    if recipe.training.base_dropout == "off":
        settings |= loading.without_dropout(recipe.base, recipe.revision)
    if recipe.training.classifier_dropout is not None:
        settings[_dropout_setting(recipe, task)] = recipe.training.classifier_dropout
    return settings


def grow_vocabulary(model: Any, tokenizer: Any, encoded: Mapping[str, Any], log: Log) -> None:
    """Resize the vocabulary if the encoded tables have tokens that the base has no rows for."""
    rows = too_few_rows(model, tokenizer, encoded)
    if rows is not None:
        log(
            f"the tokenizer has {len(tokenizer):,} tokens and the base {rows:,} rows: "
            f"{len(tokenizer) - rows:,} new rows"
        )
        resize(model, len(tokenizer))


def too_few_rows(model: Any, tokenizer: Any, encoded: Mapping[str, Any]) -> int | None:
    """The rows of the vocabulary, if the encoded tables have tokens beyond them; else None."""
    embeddings = input_embeddings(model)
    rows = None if embeddings is None else height(embeddings)
    if rows is None or len(tokenizer) <= rows:
        return None
    columns = (table[n] for table in encoded.values() for n in _IDS if n in table.column_names)
    return rows if max(map(_largest, columns)) >= rows else None


_IDS = ("input_ids", "labels")
"""The columns of encoded tables that may hold tokens."""


def _largest(ids: Any) -> int:
    """Of token ids in lists of lists; -1 without one."""
    return ids if isinstance(ids, int) else max(map(_largest, ids), default=-1)


def adapt_model(recipe: Recipe, model: Any, head: list[str]) -> Report:
    """Prepare the model by the recipe's method, in the recipe's dtypes; the method's report.

    Raises as the method's `apply` and `require_labels` do.
    """
    report = find(recipe.method).apply(model, recipe.method_config, head)
    require_labels(recipe, model)
    compute_in(model, resolve_dtype(recipe.training.dtype))
    return report


def require_labels(recipe: Recipe, model: Any) -> None:
    """Raise ConfigError if label smoothing takes labels away that this prepared model reads."""
    smoothing = recipe.training.label_smoothing
    infix = model.prefix.infix_length if isinstance(model, KnowsPrompts) else 0
    if smoothing and infix:
        raise ConfigError(
            f"training.label_smoothing is {smoothing:g} and {recipe.method}.infix is {infix}: the "
            "infix stands before the first label, and label smoothing takes the labels from the "
            "model; leave one of them out."
        )


def _dropout_setting(recipe: Recipe, task: Task) -> str:
    """The setting of the base's config for dropout before its head.

    Raises ConfigError if it has none.
    """
    config = loading.load_config(recipe.base, recipe.revision)
    if config.model_type.startswith("deberta") and task.auto_class != TOKEN_CLASSIFICATION:
        return "cls_dropout"
    known = [n for n in _HEAD_DROPOUT.get(task.auto_class, ()) if hasattr(config, n)]
    if not known:
        raise ConfigError(
            f"training.classifier_dropout is set, and {recipe.base} ({config.model_type}) has no "
            f"such setting in its config for the task {task.name}; leave it out."
        )
    return known[0]

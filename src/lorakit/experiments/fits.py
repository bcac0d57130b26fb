"""Whether a method can be applied to a base, found without its weights."""

from __future__ import annotations

from typing import Any

from torch import nn

from lorakit.errors import ConfigError, LorakitError
from lorakit.methods.registry import find
from lorakit.models import loading
from lorakit.models.classes import require_class
from lorakit.models.heads import output_layer
from lorakit.recipe.schema import Recipe
from lorakit.tasks.registry import task_spec
from lorakit.tasks.text_models import text_model_of
from lorakit.training.model import require_labels


class Fits:
    """What was found of bases and methods, each combination of which is tried once."""

    def __init__(self) -> None:
        self.found: dict[str, str | None] = {}
        """The problem of a combination; None where there is none."""

    def require(self, recipe: Recipe) -> None:
        """Raise ConfigError if the recipe's method cannot be applied to its base.

        The method prepares a model on the meta device, of the class that the task takes.
        """
        smoothing = recipe.training.label_smoothing
        what = (recipe.base, recipe.revision, recipe.data.task, recipe.method_config, smoothing)
        key = f"{recipe.method} {what!r}"
        if key not in self.found:
            self.found[key] = _problem(recipe)
        if (problem := self.found[key]) is not None:
            raise ConfigError(problem)


def _problem(recipe: Recipe) -> str | None:
    try:
        model = _bare_model(recipe)
    except LorakitError as error:
        return str(error)
    if model is None:
        return None
    tensors = output_layer(dict(model.named_parameters()))
    head = list(dict.fromkeys(name.rpartition(".")[0] for name in tensors))
    try:
        find(recipe.method).apply(model, recipe.method_config, head)
        require_labels(recipe, model)
    except LorakitError as error:
        said = " ".join([error.headline, *error.problems])
        return f"the method {recipe.method} cannot be used on {recipe.base}: {said}"
    return None


def _bare_model(recipe: Recipe) -> nn.Module | None:
    """The model without weights; None where its class is known only with the data's task."""
    import transformers

    config = loading.load_config(recipe.base, recipe.revision)
    if recipe.data.task is None:
        return None
    auto_class: Any = task_spec(recipe.data.task).task_class.auto_class
    if not isinstance(auto_class, str):  # a task that generates text takes what the base is
        auto_class = text_model_of(config).auto_class
    require_class(transformers, config, auto_class, recipe.base)
    return loading.meta_model(recipe.base, recipe.revision, auto_class)

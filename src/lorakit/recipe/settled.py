"""A recipe with nothing left open: what its table tells, and then what its base does."""

from __future__ import annotations

from dataclasses import replace

from lorakit.models import loading
from lorakit.recipe.data import Log, with_guesses
from lorakit.recipe.schema import Recipe
from lorakit.tasks.registry import TASKS
from lorakit.tasks.text_models import DECODER, text_model_of


def settled(recipe: Recipe, log: Log) -> Recipe:
    """`with_guesses`; rows of prompts and completions go through a chat template if there is one.

    Only where the recipe names no task: `data.task: generation` leaves the texts as they are.
    """
    found = with_guesses(recipe, log)
    return found if recipe.data.task is not None else through_template(found, log)


def through_template(recipe: Recipe, log: Log) -> Recipe:
    """The recipe, whose task was guessed, with the task that goes through the base's template."""
    in_template = TASKS[str(recipe.data.task)].in_template
    if in_template is None or not _has_template(recipe):
        return recipe
    log(
        "The base has a chat template, through which prompts go as the user's and completions as "
        f"the assistant's turns (task {in_template}); data.task={recipe.data.task} leaves them as "
        "they are."
    )
    return replace(recipe, data=replace(recipe.data, task=in_template))


def _has_template(recipe: Recipe) -> bool:
    """Whether the base is a decoder whose tokenizer has a chat template, and is a fast one."""
    tokenizer = loading.load_tokenizer(recipe.base, recipe.revision)
    if tokenizer.chat_template is None or not tokenizer.is_fast:
        return False
    return text_model_of(loading.load_config(recipe.base, recipe.revision)) is DECODER

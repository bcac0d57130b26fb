"""The table of tasks: by its name in a recipe, what each of them means.

`register` adds one from outside of the package. Tasks recognise columns in turn, the last entry
first, so one that was added comes before lorakit's own.
"""

from __future__ import annotations

from lorakit.errors import ConfigError, require, suggest
from lorakit.metrics.classification import DEFAULT as CLASSES
from lorakit.metrics.regression import NAMES as NUMBERS
from lorakit.tasks.chat import Chat
from lorakit.tasks.classification import Classification
from lorakit.tasks.generation import TOKENS, Generation
from lorakit.tasks.glue.specs import GLUE_TASKS
from lorakit.tasks.guessing import choice_columns
from lorakit.tasks.language_modeling import LanguageModeling
from lorakit.tasks.multi_label import MultiLabelClassification
from lorakit.tasks.multiple_choice import MultipleChoice
from lorakit.tasks.nlg.specs import CORPUS_TASKS
from lorakit.tasks.regression import Regression
from lorakit.tasks.row_forms import chat_columns, completion_columns, text_columns
from lorakit.tasks.spec import TaskSpec, TextColumns
from lorakit.tasks.table_task import TableTask
from lorakit.tasks.tag_tables import read_sentences, tag_columns
from lorakit.tasks.token_classification import TokenClassification

_CHOICES = TextColumns(3, None, "a column of questions and two or more columns of choices")
_WORDS = TextColumns(1, 1, "one column of words")
_PROMPT = TextColumns(1, None, "one or more columns of the prompt")
_WHOLE = TextColumns(1, 1, "one column of whole texts")
_LANGUAGE = ("CAUSAL_LM", "SEQ_2_SEQ_LM")
_LABELS = ("f1_micro", "f1_macro")
_ENTITIES = ("overall_f1", "overall_precision", "overall_recall", "accuracy",
             "f1_*", "precision_*", "recall_*")  # fmt: skip
_MESSAGES = TextColumns(1, None, "a column of messages, or the columns of a prompt")

TASKS: dict[str, TaskSpec] = {
    spec.name: spec
    for spec in (
        TableTask("classification", Classification, task_types=("SEQ_CLS",), metrics=CLASSES),
        TableTask("multi_label_classification", MultiLabelClassification, metrics=_LABELS),
        TableTask("regression", Regression, metrics=NUMBERS),
        TableTask("multiple_choice", MultipleChoice, _CHOICES, choice_columns, metrics=CLASSES),
        TableTask(
            "token_classification",
            TokenClassification,
            _WORDS,
            tag_columns,
            task_types=("TOKEN_CLS",),
            reader=read_sentences,
            metrics=_ENTITIES,
        ),
        TableTask(
            "generation",
            Generation,
            _PROMPT,
            completion_columns,
            task_types=_LANGUAGE,
            in_template=Chat.name,
            metrics=TOKENS,
        ),
        TableTask("language_modeling", LanguageModeling, _WHOLE, text_columns, metrics=TOKENS),
        TableTask("chat", Chat, _MESSAGES, chat_columns, metrics=TOKENS),
        *CORPUS_TASKS,
        *GLUE_TASKS,
    )
}


def register(spec: TaskSpec) -> None:
    """Add the task `spec`.

    Raises ConfigError if its name is taken, or its class has another task's name.
    """
    kept = {**TASKS, spec.name: spec}.get(spec.task_class.name)
    require(
        {
            f"a task {spec.name!r} is registered already": spec.name not in TASKS,
            f"{spec.task_class.__name__}.name is {spec.task_class.name!r}, the name that task "
            f"files store, which has to find this class; set it to {spec.name!r}": (
                kept is not None and kept.task_class is spec.task_class
            ),
        },
        f"The task {spec.name!r} cannot be registered:",
    )
    TASKS[spec.name] = spec


def task_problem(name: str | None) -> str | None:
    """What is wrong with the name of a task; None if nothing is."""
    if name is None or name in TASKS:
        return None
    return f"task is {name!r}{suggest(name, TASKS)}; it must be one of {', '.join(TASKS)}"


def task_spec(name: str) -> TaskSpec:
    """The task of this name; raises ConfigError, with the nearest names, if there is none."""
    if problem := task_problem(name):
        raise ConfigError(f"The {problem}.")
    return TASKS[name]


def task_of_type(task_type: str | None) -> str | None:
    """The task of an adapter of which only PEFT's task_type is known."""
    return next((spec.name for spec in TASKS.values() if task_type in spec.task_types), None)

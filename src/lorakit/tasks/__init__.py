"""What is learned: columns of a table become examples, predictions become scores.

A `Task` is one kind of supervised example, `TASKS` says what each name of a recipe means, and
`register` adds an entry to it.
"""

from lorakit.tasks.base import Task
from lorakit.tasks.chat import Chat
from lorakit.tasks.classification import Classification
from lorakit.tasks.generation import CausalTask, Generation
from lorakit.tasks.language_modeling import LanguageModeling
from lorakit.tasks.multi_label import MultiLabelClassification
from lorakit.tasks.multiple_choice import MultipleChoice
from lorakit.tasks.nlg.task import DataToText
from lorakit.tasks.registry import TASKS, register
from lorakit.tasks.regression import Regression
from lorakit.tasks.spec import Columns, TaskSpec, TextColumns
from lorakit.tasks.table_task import TableTask
from lorakit.tasks.token_classification import TokenClassification

__all__ = [
    "TASKS",
    "CausalTask",
    "Chat",
    "Classification",
    "Columns",
    "DataToText",
    "Generation",
    "LanguageModeling",
    "MultiLabelClassification",
    "MultipleChoice",
    "Regression",
    "TableTask",
    "Task",
    "TaskSpec",
    "TextColumns",
    "TokenClassification",
    "register",
]

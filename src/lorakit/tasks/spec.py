"""What the name of a task means: an entry of the table of tasks.

A `Task` is made for one table or one adapter. Before there is one, a recipe names a task, and the
files have to be read, columns guessed or refused, defaults chosen. That knowledge stands here, so
no other room asks which task it is. `TableTask` serves any task whose rows are a table's; a
benchmark with files and rules of its own is another leaf.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lorakit.errors import ConfigError
from lorakit.tasks.base import BareAdapter, Task


@dataclass(frozen=True)
class Columns:
    """The task and columns of a table; None: not known yet."""

    task: str | None = None
    """A name in `TASKS`."""
    text: tuple[str, ...] | None = None
    """The columns of the input, in order."""
    label: str | None = None
    """The column of labels or completions."""
    why: str = field(default="", compare=False)
    """By what the task was guessed, where it was."""


@dataclass(frozen=True)
class TextColumns:
    """How many columns of text a task reads."""

    least: int
    """The minimum."""
    most: int | None
    """None: no maximum."""
    meant: str
    """The same in words, for messages."""


ONE_OR_TWO = TextColumns(1, 2, "one column or two")

Recognise = Callable[[Any, Columns], Columns | None]
"""(table, given columns) -> text and label, if the names of the table's columns, and what kind of
cells they hold, identify the task; else None."""


@dataclass(frozen=True)
class Submission:
    """The files that a benchmark's test server takes."""

    files: Mapping[str, str]
    """The server's name for the file of each split."""
    read: Callable[[str, str], Any]
    """The rows of a source's split, which have no labels."""
    text: Callable[[Any], str]
    """A prediction as the server expects it."""


@dataclass(frozen=True)
class TaskSpec(ABC):
    """One task by its name."""

    name: str
    """What `data.task` of a recipe calls it."""
    task_class: type[Task]
    """What is made for a table or an adapter of this task."""
    texts: TextColumns = ONE_OR_TWO
    """How many columns of text it reads."""
    recognise: Recognise | None = None
    """Whether a table is for this task, and by which columns; None: it is never guessed."""
    decoding: Mapping[str, Any] = field(default_factory=dict)
    """Generation settings that differ from the defaults of `DecodingConfig`."""
    task_types: tuple[str, ...] = ()
    """The task_types in PEFT's config by which an adapter without a task file is of this task."""
    in_template: str | None = None
    """The task that renders the same rows in a base's chat template."""
    hub: str | None = None
    """The data set on the Hub with the task's own test set."""
    metrics: tuple[str, ...] = ()
    """What its runs are measured by beside the loss, as far as it is known before there are data; a
    `*` stands for what they say. Empty: it is not known."""
    submission: Submission | None = None
    """The files that its benchmark's test server takes; None: there is none."""

    @abstractmethod
    def read(self, source: str, role: str) -> dict[str, Any]:
        """The tables of "train", "validation" or "test", by that name, and further test sets."""

    def read_rows(self, source: str) -> Any:
        """The rows to predict, with labels or without, as `read` reads those to test on."""
        return self.read(source, "test")["test"]

    @abstractmethod
    def own_test(self, train: str) -> str | None:
        """The source of the test rows where a recipe names none; None: split from `train`."""

    @abstractmethod
    def known_columns(self, given: Columns) -> Columns:
        """`given` with the columns that are the task's own; raises ConfigError for others."""

    @abstractmethod
    def make(self, table: Any, columns: Columns, max_length: int) -> Task:
        """The task for a training table; raises ConfigError if its labels cannot be learned."""

    @abstractmethod
    def for_adapter(self, adapter: BareAdapter) -> Task:
        """The task of an adapter that has no task file.

        Raises ConfigError or MismatchError if its head does not fit.
        """

    @abstractmethod
    def adopt(
        self, stored: Task, given: Columns, labels: tuple[str, ...] | None, source: str
    ) -> Task:
        """The task that `source` was trained for, as this one, with the columns that are given.

        Raises ConfigError or MismatchError if it was trained for something else.
        """

    def refusal(self, stored: Task, source: str) -> ConfigError:
        """The error that `source` was trained for another task."""
        return ConfigError(f"{source} was trained for {stored.name}, not for {self.name}.")

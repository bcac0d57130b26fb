"""Tasks whose rows are those of a table: what most tasks are, and a new one begins as.

@dataclass(frozen=True)
class Irony(Classification):
    name: ClassVar[str] = "irony"

register(TableTask("irony", Irony))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from lorakit.errors import ConfigError
from lorakit.tables.reading import read_table
from lorakit.tasks.base import BareAdapter, Task
from lorakit.tasks.spec import Columns, TaskSpec

Reader = Callable[[str, str], Any]
"""(source, split) -> table."""


@dataclass(frozen=True)
class TableTask(TaskSpec):
    """A task that is trained on one table, of any file format."""

    reader: Reader = read_table
    """(source, split) -> table, for files of a form of their own."""
    columns: Columns | None = None
    """Those that the reader makes; None: a recipe names them, or they are guessed."""

    def read(self, source: str, role: str) -> dict[str, Any]:
        return {role: self.reader(source, role)}

    def own_test(self, train: str) -> str | None:
        return None

    def known_columns(self, given: Columns) -> Columns:
        return self.columns or given

    def make(self, table: Any, columns: Columns, max_length: int) -> Task:
        known = self.known_columns(columns)
        return self.task_class.from_table(table, known.text or (), known.label, max_length)

    def for_adapter(self, adapter: BareAdapter) -> Task:
        known = self.known_columns(Columns(self.name, adapter.text, adapter.label))
        return self.task_class.from_adapter(
            replace(adapter, text=known.text or (), label=known.label)
        )

    def adopt(
        self, stored: Task, given: Columns, labels: tuple[str, ...] | None, source: str
    ) -> Task:
        if stored.name != self.name:
            raise self.refusal(stored, source)
        there = tuple(stored.class_names or ())
        if labels not in (None, there):
            raise ConfigError(
                f"labels is {', '.join(labels or ())}, and {source} was trained with "
                f"{', '.join(there) or 'none'}; leave it out."
            )
        return replace(stored, text=given.text or stored.text, label=given.label or stored.label)

"""GLUE's nine tasks as entries of the table of tasks, made from their rows in `benchmark`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lorakit.errors import ConfigError, MismatchError
from lorakit.metrics.regression import NAMES as NUMBERS
from lorakit.tasks.base import SEQUENCE_CLASSIFICATION, BareAdapter, Task
from lorakit.tasks.class_head import required_head
from lorakit.tasks.classification import Classification
from lorakit.tasks.glue.benchmark import (
    GLUE,
    HUB,
    LABEL,
    GlueTask,
    make_glue_task,
    require_label_order,
)
from lorakit.tasks.glue.files import glue_rows, glue_tables, is_file
from lorakit.tasks.glue.submission import submission_of
from lorakit.tasks.regression import Regression
from lorakit.tasks.spec import Columns, TaskSpec
from lorakit.text import plural


@dataclass(frozen=True, kw_only=True)
class GlueSpec(TaskSpec):
    """A task of GLUE: its files, columns and labels are known, and its labels have an order."""

    row: GlueTask

    def read(self, source: str, role: str) -> dict[str, Any]:
        return glue_tables(source, self.row, role)

    def read_rows(self, source: str) -> Any:
        return glue_rows(source, self.row)

    def own_test(self, train: str) -> str | None:
        """The dev set, unless the source is the training file alone."""
        return None if is_file(train) else train

    def known_columns(self, given: Columns) -> Columns:
        text = self.row.text
        if given.text not in (None, text) or given.label not in (None, LABEL):
            raise ConfigError(
                f"The columns of {self.name} are fixed: text {', '.join(text)}, label {LABEL}; "
                "leave data.text and data.label (--column, --label) out."
            )
        return Columns(self.name, text, LABEL)

    def make(self, table: Any, columns: Columns, max_length: int) -> Task:
        return make_glue_task(self.row, max_length)

    def for_adapter(self, adapter: BareAdapter) -> Task:
        """Raises MismatchError unless the head has a logit for each label, in GLUE's order.

        An adapter without label names, such as microsoft/LoRA's files, is taken to have those of
        the base's config if they are the task's: run_glue trains in that order.
        """
        height, wanted = required_head(adapter), len(self.row.labels) or 1
        if height != wanted:
            raise MismatchError(
                f"The adapter's classification head has {plural(height, 'logit')}, and {self.name} "
                f"needs {wanted}."
            )
        own = tuple(label.lower() for label in adapter.base_labels)
        if adapter.labels is not None:
            require_label_order(self.row, adapter.labels, "--labels")
        elif set(own) == set(self.row.labels):
            order = "The order of labels in the base's config (id2label)"
            require_label_order(self.row, own, order)
        return make_glue_task(self.row, adapter.max_length)

    def adopt(
        self, stored: Task, given: Columns, labels: tuple[str, ...] | None, source: str
    ) -> Task:
        """Accepts what was trained for the same labels in the same order."""
        if stored.auto_class != SEQUENCE_CLASSIFICATION:
            raise self.refusal(stored, source)
        require_label_order(self.row, labels or stored.class_names, source)
        return make_glue_task(self.row, stored.max_length)


def _spec_of(row: GlueTask) -> GlueSpec:
    learned = Classification if row.labels else Regression
    metrics = row.metrics if row.labels else NUMBERS
    further = tuple(f"{part}_{name}" for part in row.parts[1:] for name in metrics)
    return GlueSpec(
        row.name, learned,
        hub=HUB, submission=submission_of(row), row=row, metrics=(*metrics, *further),
    )  # fmt: skip


GLUE_TASKS = tuple(_spec_of(row) for row in GLUE.values())

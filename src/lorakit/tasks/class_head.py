"""What tasks with a set of classes share: a logit for each, and the names of all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lorakit.errors import ConfigError
from lorakit.tasks.base import BareAdapter, Task
from lorakit.text import plural


@dataclass(frozen=True)
class ClassHead(Task):
    """A head with a logit for each class."""

    labels: tuple[str, ...] = ()
    """The names of the classes, in the order of the logits."""

    @classmethod
    def from_adapter(cls, adapter: BareAdapter) -> Task:
        """The task with a label for each logit: its number where no names are given."""
        count = required_head(adapter)
        labels = adapter.labels or tuple(map(str, range(count)))
        if len(labels) != count:
            raise ConfigError(
                f"The adapter's classification head has {plural(count, 'logit')}, and --labels "
                f"names {len(labels)}; name one label for each logit, in their order."
            )
        return cls(adapter.text, adapter.label, adapter.max_length, labels)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.labels

    def head(self) -> dict[str, Any]:
        return {
            "num_labels": len(self.labels),
            "id2label": dict(enumerate(self.labels)),
            "label2id": {label: i for i, label in enumerate(self.labels)},
        }

    def index(self, name: str) -> int:
        """The place of a label's logit; raises ConfigError for one that training did not have."""
        if name not in self.labels:
            known = ", ".join(self.labels[:10]) + (", ..." if len(self.labels) > 10 else "")
            raise ConfigError(
                f"has the label {name!r}, which is not in the training data; train with such rows, "
                f"or leave them out (its labels: {known})"
            )
        return self.labels.index(name)


def required_head(adapter: BareAdapter) -> int:
    """The number of logits of an adapter's head; raises ConfigError if it has no head."""
    if adapter.head_height is None:
        raise ConfigError(
            "The adapter contains no classification head, which this task needs; pass --task with "
            "the task that it was trained for."
        )
    return adapter.head_height

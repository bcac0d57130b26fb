"""Rows that were split off although their label occurs nowhere else: they stay in training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lorakit.errors import ConfigError
from lorakit.tables.chunks import Cells
from lorakit.tasks.base import Task
from lorakit.text import plural

_NAMED = 10


def keep_rare_labels(
    task: type[Task], train: Any, part: Any, label: str, name: str, log: Callable[[str], None]
) -> tuple[Any, Any]:
    """Both tables after the rows of `part` whose label `train` lacks went to `train`.

    Raises ConfigError if no row is left in the part.
    """
    found = task.unseen_labels(Cells(train, label), Cells(part, label))
    if not found:
        return train, part
    names = ", ".join([*dict.fromkeys(found.values())][:_NAMED])
    names += ", ..." if len(set(found.values())) > _NAMED else ""
    if len(found) == len(part):
        raise ConfigError(
            f"data.{name} splits {plural(len(part), 'row')} from the training data, and each has a "
            f"label that no other row has ({names}). Have more rows of each label, or more rows in "
            f"data.{name}; or name a file there, whose labels all occur in the training data."
        )
    log(
        f"data.{name} leaves {plural(len(found), 'row')} in training, which would have no other "
        f"with the label: {names}"
    )
    import datasets

    kept = [row for row in range(len(part)) if row not in found]
    return datasets.concatenate_datasets([train, part.select([*found])]), part.select(kept)

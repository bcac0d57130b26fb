"""A part of the training rows, drawn at random: of two sizes the smaller part is in the larger."""

from __future__ import annotations

import random
from typing import Any

from lorakit.errors import ConfigError
from lorakit.recipe.data_config import DataConfig, split_size
from lorakit.tables.chunks import Cells
from lorakit.tasks.base import Task
from lorakit.text import plural


def drawn_size(data: DataConfig, rows: int) -> int:
    """How many of `rows` are drawn."""
    return rows if data.train_rows is None else min(rows, split_size(data.train_rows, rows))


def drawn_rows(data: DataConfig, task: type[Task], train: Any) -> Any:
    """The rows of the training table that `data.train_rows` leaves, in their order.

    Raises ConfigError if there are not as many.
    """
    if data.train_rows is None:
        return train
    rows = len(train)
    if data.train_rows > rows:
        raise ConfigError(
            f"data.train_rows is {data.train_rows:g}, and {plural(rows, 'row')} of "
            f"{data.train_name} are left for training; take a share (below 1), or fewer."
        )
    order = random.Random(data.split_seed).sample(range(rows), rows)
    size = drawn_size(data, rows)
    taken = sorted(order[:size])
    return train.select(sorted([*taken, *_first_of_each(data, task, train, taken, order[size:])]))


def _first_of_each(
    data: DataConfig, task: type[Task], train: Any, taken: list[int], rest: list[int]
) -> list[int]:
    """One of the rest for each label that the rows taken lack."""
    if data.label is None or not rest:
        return []
    left = train.select(rest)
    unseen = task.unseen_labels(Cells(train.select(taken), data.label), Cells(left, data.label))
    return list({label: rest[at] for at, label in reversed(unseen.items())}.values())

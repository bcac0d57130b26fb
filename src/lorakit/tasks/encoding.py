"""A whole table becomes examples: checked first, then tokenized, and what was cut is counted."""

from __future__ import annotations

import uuid
from typing import Any

from lorakit.tasks.base import CUT, Task
from lorakit.text import plural


def encode_table(
    task: Task, tokenizer: Any, table: Any, name: str = "the table", labelled: bool = True
) -> tuple[Any, int]:
    """The table as token ids, and how many of its rows were longer than the task's limit.

    Without `labelled` a column of labels is not read. Raises ConfigError that lists missing columns
    and bad cells.
    """
    task.check(table, name, labelled)
    if not labelled and task.label in table.column_names:
        table = table.remove_columns(task.label)
    encoded = table.map(
        lambda rows: task.encode(tokenizer, rows),
        batched=True,
        remove_columns=table.column_names,
        keep_in_memory=True,
        new_fingerprint=uuid.uuid4().hex,  # not a hash of the tokenizer, which takes a second
        desc=f"tokenizing {name}",
    )
    return encoded.remove_columns(CUT), sum(encoded[CUT][:])


def cut_text(count: int, total: int, name: str, max_length: int) -> str:
    """A sentence about the rows that were cut.

    >>> cut_text(3, 1200, "train", 256)
    '3 of the 1,200 rows of train were longer than 256 tokens and were cut.'
    """
    verb = "was" if count == 1 else "were"
    return (
        f"{count:,} of the {plural(total, 'row')} of {name} {verb} longer than {max_length:,} "
        f"tokens and {verb} cut."
    )

"""A table becomes examples: checked, then tokenized; what is truncated is counted."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from lorakit.tables.chunks import scratch_file
from lorakit.tasks.base import TRUNCATED, Task
from lorakit.text import plural

_ROW = "row:"


@dataclass(frozen=True)
class Truncation:
    """What of a table is beyond the task's `max_length`."""

    rows: int
    """How many rows are longer."""
    tokens: int
    """How many of their tokens are cut off, together."""


def encode_table(
    task: Task, tokenizer: Any, table: Any, name: str = "the table", labelled: bool = True
) -> tuple[Any, Truncation]:
    """The table as token ids, and what of it was truncated to the task's max_length.

    Without `labelled` a column of labels is not read. Raises ConfigError that lists missing columns
    and bad cells.
    """
    task.check(table, name, labelled)
    if not labelled and task.label in table.column_names:
        table = table.remove_columns(task.label)
    # Under other names, since datasets casts a new column to the type of an old one of its name.
    names = {f"{_ROW}{name}": name for name in table.column_names}
    encoded = table.rename_columns({name: row for row, name in names.items()}).map(
        lambda rows: task.encode(tokenizer, {names[row]: cells for row, cells in rows.items()}),
        batched=True,
        remove_columns=[*names],
        keep_in_memory=not table.cache_files,
        cache_file_name=str(scratch_file()) if table.cache_files else None,
        new_fingerprint=uuid.uuid4().hex,  # not a hash of the tokenizer, which takes a second
        desc=f"tokenizing {name}",
    )
    cut = encoded[TRUNCATED][:]
    return encoded.remove_columns(TRUNCATED), Truncation(sum(map(bool, cut)), sum(cut))


def truncation_text(found: Truncation, total: int, name: str, max_length: int) -> str:
    """A sentence about the rows that were truncated.

    >>> truncation_text(Truncation(3, 40), 1200, "train", 256)
    '3 of the 1,200 rows of train were truncated to the maximum length of 256 tokens: 40 are lost.'
    """
    verb, lost = ("was" if found.rows == 1 else "were"), ("is" if found.tokens == 1 else "are")
    return (
        f"{found.rows:,} of the {plural(total, 'row')} of {name} {verb} truncated to the maximum "
        f"length of {max_length:,} tokens: {found.tokens:,} {lost} lost."
    )

"""Where a classification head reads a text: at the EOS token, for most encoder-decoders.

transformers takes the decoder's output at the last EOS token of each text, and wants equally many
of them in all texts of a batch. (T5Gemma's heads read the last token that is no padding.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lorakit.errors import ConfigError
from lorakit.tasks.base import SEQUENCE_CLASSIFICATION, Task
from lorakit.text import rows_text

READ_AT_EOS = frozenset({"bart", "bigbird_pegasus", "mbart", "mt5", "mvp", "plbart", "t5", "umt5"})
"""The `model_type` of the configs whose classification heads read a text at its EOS token."""


def require_eos(
    config: Any,
    task: Task,
    tokenizer: Any,
    rows: Iterable[Sequence[int]],
    name: str,
    numbers: Sequence[int] | None = None,
) -> None:
    """Raise ConfigError for ids of texts that the head of a model with this config cannot read.

    `numbers` are those of the rows in the table that they are from; None: they are all of it.

    These are ids of a tokenizer that appends no EOS token, and of texts that have one written in.
    """
    if task.auto_class != SEQUENCE_CLASSIFICATION or config.model_type not in READ_AT_EOS:
        return
    eos = config.eos_token_id
    empty = [[""]] * len(task.text)  # as lists: beside a bare "" no second text is read
    appended = tokenizer(*empty)["input_ids"][0].count(eos)
    if not appended:
        raise ConfigError(
            f"The classification head of {config.model_type} reads a text at its EOS token (id "
            f"{eos}), and the tokenizer appends none; use the tokenizer that the base was "
            "published with, or one that does."
        )
    if written := [row for row, ids in enumerate(rows) if list(ids).count(eos) != appended]:
        token, columns = tokenizer.convert_ids_to_tokens(eos), ", ".join(task.text)
        raise ConfigError(
            f"{name} has the EOS token {token!r} written in its texts ({columns}), where the "
            f"classification head of {config.model_type} would read them; take it out of "
            f"{rows_text(written if numbers is None else [numbers[row] for row in written])}."
        )

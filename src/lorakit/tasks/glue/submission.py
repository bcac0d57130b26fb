"""How GLUE's test server reads predictions: a file for each test set, a text for each prediction.

A label is written as the task's own files write it, by its number or its name; STS-B's numbers are
kept between 0 and 5 and have three decimals.

Source: https://gluebenchmark.com/faq (the sample submission).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from lorakit.tasks.glue.benchmark import STSB_RANGE, GlueTask
from lorakit.tasks.glue.files import read_glue
from lorakit.tasks.spec import Submission

_SHORT = {"": "", "matched": "-m", "mismatched": "-mm"}


def submission_of(row: GlueTask) -> Submission:
    """The files for one task; MNLI has two."""
    splits = row.splits("test").items()
    return Submission(
        files={split: f"{row.folder}{_SHORT[part]}.tsv" for part, split in splits},
        read=lambda source, split: read_glue(source, row, split),
        text=partial(_text, row),
    )


def _text(row: GlueTask, value: Any) -> str:
    if not row.labels:
        low, high = STSB_RANGE
        return f"{min(max(value, low), high):.3f}"
    return str(row.labels.index(value)) if row.numbered else str(value)

"""GLUE's nine tasks as one table: columns, labels in GLUE's order, metrics, files.

Names of tasks and columns are those of the data set `nyu-mll/glue`, folders and columns of files
those of GLUE's own archives.

Source: Wang et al., GLUE (ICLR 2019), table 1, and the files of gluebenchmark.com.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lorakit.errors import MismatchError
from lorakit.tables.cells import label_name
from lorakit.tasks.base import Task
from lorakit.tasks.classification import Classification
from lorakit.tasks.regression import Regression

HUB = "nyu-mll/glue"
"""GLUE's name for `datasets`."""
LABEL = "label"
STSB_RANGE = (0.0, 5.0)


@dataclass(frozen=True)
class GlueTask:
    """One row of the table."""

    name: str
    folder: str
    """In GLUE's archives, and the first part of the name of a file for the test server."""
    columns: tuple[tuple[str, str], ...]
    """Each column of text, and what it is called in the TSV files."""
    label_column: str
    """In the TSV files."""
    labels: tuple[str, ...]
    """In GLUE's order; none for STS-B, which is a number."""
    metrics: tuple[str, ...]
    numbered: bool = True
    """Whether the files write a label as its number."""
    parts: tuple[str, ...] = ("",)
    """What evaluation and test sets are called after: MNLI has two of each."""
    headless: tuple[str, ...] = ()
    """The columns of TSV files without a header; none: every file has one."""
    has_broken_lines: bool = False
    """Whether lines of the labelled files that break off in the middle are left out."""

    @property
    def text(self) -> tuple[str, ...]:
        return tuple(ours for ours, _ in self.columns)

    def splits(self, split: str) -> dict[str, str]:
        """The names of the files of "train", "dev" or "test", by part."""
        if split == "train":
            return {"": split}
        return {part: f"{split}_{part}" if part else split for part in self.parts}


_SENTENCES = (("sentence1", "sentence1"), ("sentence2", "sentence2"))
_ENTAILMENT = ("entailment", "not_entailment")
_ACCURACY = ("accuracy",)
_ACCURACY_AND_F1 = ("accuracy", "f1_binary")

GLUE: dict[str, GlueTask] = {
    task.name: task
    for task in (
        GlueTask("cola", "CoLA", (("sentence", "sentence"),), "label",
                 ("unacceptable", "acceptable"), ("matthews_correlation",),
                 headless=("source", LABEL, "mark", "sentence")),
        GlueTask("sst2", "SST-2", (("sentence", "sentence"),), "label",
                 ("negative", "positive"), _ACCURACY),
        GlueTask("mrpc", "MRPC", (("sentence1", "#1 String"), ("sentence2", "#2 String")),
                 "Quality", ("not_equivalent", "equivalent"), _ACCURACY_AND_F1),
        GlueTask("stsb", "STS-B", _SENTENCES, "score", (), ("pearson", "spearman")),
        GlueTask("qqp", "QQP", (("question1", "question1"), ("question2", "question2")),
                 "is_duplicate", ("not_duplicate", "duplicate"), _ACCURACY_AND_F1,
                 has_broken_lines=True),
        GlueTask("mnli", "MNLI", (("premise", "sentence1"), ("hypothesis", "sentence2")),
                 "gold_label", ("entailment", "neutral", "contradiction"), _ACCURACY,
                 numbered=False, parts=("matched", "mismatched")),
        GlueTask("qnli", "QNLI", (("question", "question"), ("sentence", "sentence")), "label",
                 _ENTAILMENT, _ACCURACY, numbered=False),
        GlueTask("rte", "RTE", _SENTENCES, "label", _ENTAILMENT, _ACCURACY, numbered=False),
        GlueTask("wnli", "WNLI", _SENTENCES, "label", _ENTAILMENT[::-1], _ACCURACY),
    )
}  # fmt: skip


def make_glue_task(task: GlueTask, max_length: int) -> Task:
    """The task of a row; QQP has empty questions, so a text of a pair may be empty."""
    if not task.labels:
        return Regression(task.text, LABEL, max_length)
    return Classification(
        task.text, LABEL, max_length, task.labels, task.metrics, blank_texts=len(task.text) > 1
    )


def require_label_order(task: GlueTask, labels: Sequence[str], origin: str) -> None:
    """Raise MismatchError unless `labels`, named by `origin`, are the task's in GLUE's order."""
    found = tuple(label_name(label).lower() for label in labels)
    if found != task.labels:
        raise MismatchError(
            f"{origin} does not fit the task {task.name}:",
            [f"its labels, in the order of the logits, are {', '.join(found) or 'one number'}",
             f"those of {task.name} are {', '.join(task.labels) or 'one number'}"],
        )  # fmt: skip

"""The metrics that an entry of the table of tasks names are those that runs are measured by."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

import pytest

from lorakit.metrics import classification_metrics, regression_metrics
from lorakit.metrics.data_to_text import SUITES, score
from lorakit.metrics.entities import entity_metrics, tag_accuracy
from lorakit.metrics.multi_label import multi_label_metrics
from lorakit.tasks.registry import TASKS

CLASSES = classification_metrics([0, 1], [0, 1])
TEXTS = ["a b c d e f"]
MEASURED = {
    "classification": CLASSES,
    "multiple_choice": CLASSES,
    "regression": regression_metrics([1.0, 2.0], [1.0, 2.0]),
    "multi_label_classification": multi_label_metrics([[1, 0]], [[1, 0]]),
    "token_classification": entity_metrics([["B-PER"]], [["B-PER"]])
    | tag_accuracy([["A"]], [["A"]]),
    "mrpc": classification_metrics([0, 1], [0, 1], ["accuracy", "f1_binary"]),
    "stsb": regression_metrics([1.0, 2.0], [1.0, 2.0]),
    "mnli": {"accuracy": 1.0, "mismatched_accuracy": 1.0},
}


def assert_named(task: str, metrics: Mapping[str, float]) -> None:
    patterns = TASKS[task].metrics
    assert all(any(fnmatchcase(name, pattern) for pattern in patterns) for name in metrics)


@pytest.mark.parametrize("task", MEASURED)
def test_metrics_of_labels_are_named(task: str) -> None:
    assert_named(task, MEASURED[task])
    assert {name for name in TASKS[task].metrics if "*" not in name} <= {*MEASURED[task]}


@pytest.mark.parametrize("task", SUITES)
def test_metrics_of_texts_are_named(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but METEOR, whose program takes seconds to start."""
    monkeypatch.setattr("lorakit.metrics.data_to_text.missing_java", lambda: "not asked for")
    found = score(task, TEXTS * 2, [TEXTS * 7] * 2, [True, False])
    assert_named(task, found)
    assert {"bleu", "bleu_seen", "bleu_unseen"} <= {*found}


def test_each_shipped_task_names_its_metrics() -> None:
    assert all(spec.metrics for spec in TASKS.values())

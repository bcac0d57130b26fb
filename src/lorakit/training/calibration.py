"""Thresholds of several labels, chosen on the validation set: `data.thresholds: calibrate`.

A sigmoid's 0.5 is no threshold for F1: of a rare label the best one is lower, at half of the F1
that it gives if the probabilities are right (Lipton, Elkan and Naryanaswamy 2014, arXiv 1402.1892).
The test set has no part in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lorakit.inference.prediction import predict
from lorakit.inference.session import Session
from lorakit.metrics.multi_label import best_threshold
from lorakit.tasks.base import Task
from lorakit.text import plural

LEAST_ROWS = 10
"""With a label in fewer rows of the validation set, its best threshold there is an accident."""


def calibrated(task: Task, session: Session, validation: Any, log: Callable[[str], None]) -> Task:
    """The task with the threshold of the highest F1 for each label; logs them."""
    found = predict(session, validation, "validation", probabilities=True).probabilities
    assert found is not None
    targets = [task.target(cell) for cell in validation[task.label]]
    thresholds, rare = [], []
    for label, truth in zip(task.class_names, zip(*targets, strict=True), strict=True):
        if sum(truth) < LEAST_ROWS:
            rare.append(label)
            thresholds.append(0.5)
        else:
            thresholds.append(best_threshold([row[label] for row in found], truth))
    chosen = zip(task.class_names, thresholds, strict=True)
    log(
        f"thresholds of the highest F1 on {plural(len(validation), 'validation row')}: "
        + ", ".join(f"{label} {threshold:.3f}" for label, threshold in chosen)
    )
    if rare:
        log(f"0.5 is kept for labels of fewer than {LEAST_ROWS} of these rows: {', '.join(rare)}")
    return task.with_thresholds(thresholds)

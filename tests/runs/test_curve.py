"""The learning curve, and the metrics that it and the progress follow."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure

from lorakit.runs.curve import FOLLOWED, draw_curve, paint
from lorakit.tasks.glue.benchmark import GLUE, make_glue_task
from lorakit.tasks.registry import TASKS
from lorakit.training.callbacks import format_metrics

LOG = [
    {"step": 1, "loss": 0.7},
    {"step": 1, "eval_loss": 0.6, "eval_f1_micro": 0.5, "eval_matthews_correlation": 0.1},
    {"step": 2, "loss": 0.5},
]


@pytest.mark.parametrize("name", [*TASKS])
def test_the_best_metric_of_each_task_is_followed(name: str) -> None:
    kind = TASKS[name].task_class
    labels = [("B-PER", "O")] if "labels" in {field.name for field in fields(kind)} else []
    tasks = [kind(("text",), "label", 8, *labels)]
    if name in GLUE:
        tasks.append(make_glue_task(GLUE[name], 8))
    assert {task.best_metric for task in tasks} <= {*FOLLOWED}


def test_curve_and_progress_show_what_is_followed() -> None:
    axes = Figure().subplots()
    paint(axes, LOG)
    shown = ["validation loss", "validation f1_micro", "validation matthews_correlation"]
    assert axes.get_legend_handles_labels()[1] == ["training loss", *shown]
    assert all(name in format_metrics(LOG[1]) for name in shown)


def test_a_curve_leaves_the_backend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(matplotlib.rcParams, "backend", "svg")
    draw_curve(LOG, tmp_path / "curve.png")
    assert matplotlib.get_backend() == "svg"
    assert (tmp_path / "curve.png").read_bytes()[1:4] == b"PNG"

"""The learning curve: loss and metrics over the steps, as a PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lorakit.files import atomic_write

FOLLOWED = ("loss", "accuracy", "f1_micro", "overall_f1", "pearson", "matthews_correlation")
"""Metrics of the validation part that the curve and the progress show."""


def draw_curve(log: list[dict[str, Any]], path: Path) -> None:
    """Training loss, and evaluation metrics where there were any, from a Trainer's log history."""
    from matplotlib.figure import Figure  # pyplot has a backend, which is the caller's

    figure = Figure(figsize=(7, 4))
    paint(figure.subplots(), log)
    figure.tight_layout()
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def paint(axes: Any, log: list[dict[str, Any]]) -> None:
    """The lines of the curve, on matplotlib's axes."""
    train = [(entry["step"], entry["loss"]) for entry in log if "loss" in entry]
    axes.plot(*zip(*train, strict=True), label="training loss") if train else None
    for metric in FOLLOWED:
        name = f"eval_{metric}"
        if points := [(entry["step"], entry[name]) for entry in log if name in entry]:
            axes.plot(*zip(*points, strict=True), marker="o", label=f"validation {metric}")
    axes.set(xlabel="step", ylabel="loss")
    axes.legend()

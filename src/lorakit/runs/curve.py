"""The learning curve: loss and metrics over the steps, as a PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lorakit.files import atomic_write

_EVALUATED = ("eval_loss", "eval_accuracy", "eval_overall_f1")


def draw_curve(log: list[dict[str, Any]], path: Path) -> None:
    """Training loss, and evaluation metrics where there were any, from a Trainer's log history."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    train = [(entry["step"], entry["loss"]) for entry in log if "loss" in entry]
    axes.plot(*zip(*train, strict=True), label="training loss") if train else None
    keys = sorted({k for e in log for k in e if k in _EVALUATED})
    for key in keys:
        points = [(entry["step"], entry[key]) for entry in log if key in entry]
        axes.plot(*zip(*points, strict=True), marker="o", label=key.replace("eval_", "validation "))
    axes.set(xlabel="step", ylabel="loss")
    axes.legend()
    figure.tight_layout()
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    pyplot.close(figure)

"""Draws `W + sBA`: the frozen matrix, the two thin ones, and the weight that the layer acts as.

    python docs/pictures/lora.py

writes lora.svg beside this file. The last matrix is the sum that the other three give.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot

D, K, R, SCALE = 10, 8, 2, 2
FROZEN, TRAINED, INK = "#5b6770", "#c2410c", "#1f2328"
STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "lora",  # names in the file are the same each time
    "font.family": "sans-serif",
    "font.size": 11,
}


def matrices() -> dict[str, np.ndarray]:
    """W (d, k), B (d, r), A (r, k) and the sum."""
    random = np.random.default_rng(3)
    w = random.normal(size=(D, K)).round(2)
    b, a = random.normal(size=(D, R)).round(1) / 2, random.normal(size=(R, K)).round(1)
    return {"W": w, "B": b, "A": a, "sum": w + SCALE * (b @ a)}


def draw(path: Path) -> None:
    """Write the picture as SVG."""
    values = matrices()
    with matplotlib.rc_context(STYLE):
        figure, axes = pyplot.subplots(figsize=(9, 3.6))
        axes.set_aspect("equal")
        axes.axis("off")
        axes.set_facecolor("white")
        left = 0.0
        for name, sign, label, below, colour in (
            ("W", "", "W", "frozen\nd × k", FROZEN),
            ("B", "+  s", "B", "trained\nd × r", TRAINED),
            ("A", "", "A", "trained\nr × k", TRAINED),
            ("sum", "=", "W + s·BA", "what the layer computes with\nd × k", INK),
        ):
            left += {"": 1.0, "=": 3.0}.get(sign, 4.0)
            axes.text(left - 1, -D / 2, sign, ha="right", va="center", fontsize=16, color=INK)
            matrix(axes, values[name], left, label, below, colour)
            left += values[name].shape[1]
        axes.set_xlim(0, left + 1)
        axes.set_ylim(-D - 3, 2)
        figure.savefig(
            path, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None}
        )
        pyplot.close(figure)


def matrix(
    axes: pyplot.Axes, values: np.ndarray, left: float, label: str, below: str, colour: str
) -> None:
    """One matrix, one unit a cell, with its top at 0."""
    rows, columns = values.shape
    x, y = left + np.arange(columns + 1), -np.arange(rows + 1)
    axes.pcolormesh(x, y, values, cmap="RdBu_r", vmin=-3, vmax=3, edgecolors="white", linewidth=0.5)
    axes.add_patch(pyplot.Rectangle((left, -rows), columns, rows, fill=False, ec=colour, lw=2))
    centre = left + columns / 2
    axes.text(centre, 0.5, label, ha="center", va="bottom", fontsize=14, color=colour)
    axes.text(centre, -rows - 0.5, below, ha="center", va="top", color=colour)


if __name__ == "__main__":
    draw(Path(__file__).with_suffix(".svg"))

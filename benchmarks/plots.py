"""The result files as pictures, one function a benchmark."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

LIBRARIES = ("loralib", "peft", "lorakit")
COLOURS = dict(zip((*LIBRARIES, "full"), ("#b08d57", "#7a7a7a", "#1f6fb4", "#c8c8c8"), strict=True))
AXIS_TOP = 4.0
"""Ratios above it are cut off, so that the rest can be read."""


def draw(results: Mapping[str, Any], directory: Path) -> dict[str, Path]:
    """An SVG file for each benchmark that has one; the same results give the same bytes."""
    import matplotlib

    files = {}
    settings = {"svg.hashsalt": "lorakit", "svg.fonttype": "none", "font.size": 9}
    with matplotlib.rc_context(settings):
        for name in [name for name in PLOTS if name in results]:
            figure = PLOTS[name](results[name]["rows"])
            files[name] = directory / f"{name}.svg"
            figure.savefig(files[name], metadata={"Date": None}, bbox_inches="tight")
    return files


def figure(columns: int, width: float, height: float, rows: int = 1) -> tuple[Any, Any]:
    """A figure of axes in a grid, each of this size; pyplot would choose a window system."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return made, made.subplots(rows, columns, squeeze=False)


def training_step(rows: Sequence[Any]) -> Any:
    """Bars over the floor: a panel a model, a group for each choice of targets and dtype."""
    rows = [row for row in rows if row.get("loralib") != ""]
    models = list(dict.fromkeys(row["model"] for row in rows))
    made, axes = figure(len(models), 3.4, 2.9)
    for axis, model in zip(axes[0], models, strict=True):
        cells = [row for row in rows if row["model"] == model]
        labels = [f"{row['targets']}\n{row['dtype']}" for row in cells]
        bars(axis, labels, {n: [row[n]["median"] for row in cells] for n in present(cells)})
        axis.set_title(model)
        floor_line(axis, AXIS_TOP)
    finish(made, axes[0][0], "step over the frozen floor")
    return made


def operation(rows: Sequence[Any]) -> Any:
    """Lines over width: a panel for each dtype and dropout (rows) and number of tokens; rank 8."""
    cells = [row for row in rows if row["rank"] == min(r["rank"] for r in rows)]
    kinds = list(dict.fromkeys((row["dtype"], row["dropout"]) for row in cells))
    tokens = sorted({row["tokens"] for row in cells})
    made, axes = figure(len(tokens), 2.9, 2.0, len(kinds))
    for line, (dtype, dropout) in zip(axes, kinds, strict=True):
        for axis, count in zip(line, tokens, strict=True):
            wanted = (dtype, dropout, count)
            here = [r for r in cells if (r["dtype"], r["dropout"], r["tokens"]) == wanted]
            for name in present(here):
                values = [row[name]["median"] for row in here]
                axis.plot(
                    [str(r["width"]) for r in here], values, "o-", label=name, color=COLOURS[name]
                )
            axis.set_title(f"{count} tokens, {dtype}, dropout {dropout:g}", fontsize=8)
            floor_line(axis, AXIS_TOP)
    finish(made, axes[0][0], "over the frozen floor, by width")
    return made


def kept_bytes(rows: Sequence[Any]) -> Any:
    """Bars in units of the input, a group for each dtype and dropout."""
    cells = list(dict.fromkeys((row["dtype"], row["dropout"]) for row in rows))
    values = {(row["dtype"], row["dropout"], row["library"]): row["kept"] for row in rows}
    libraries = [name for name in LIBRARIES if any(name == row["library"] for row in rows)]
    made, axes = figure(1, 7.0, 2.6)
    axis = axes[0][0]
    labels = [f"{dtype.replace(', ', chr(10))}\ndropout {dropout:g}" for dtype, dropout in cells]
    bars(axis, labels, {n: [values[(*cell, n)] for cell in cells] for n in libraries})
    floor_line(axis)
    finish(made, axis, "kept by q, k, v\nin units of the input")
    return made


def reviews(rows: Sequence[Any]) -> Any:
    """Accuracy against seconds, with the spread over the seeds."""
    made, axes = figure(1, 5.0, 3.2)
    axis = axes[0][0]
    for row in rows:
        x, y = row["seconds"], row["accuracy"]
        errors = {f"{k}err": [[v["median"] - v["min"]], [v["max"] - v["median"]]]
                  for k, v in (("x", x), ("y", y))}  # fmt: skip
        label = f"{row['variant']} ({row['dtype']})"
        axis.errorbar(x["median"], y["median"], fmt="o", capsize=2, label=label, **errors)
    axis.set_xlabel("seconds of training")
    axis.set_xlim(left=0)
    finish(made, axis, "accuracy on 1,000 reviews")
    return made


def planned_peaks(rows: Sequence[Any]) -> Any:
    """What each says over what was measured, by what was measured; on the right the plan alone."""
    made, axes = figure(2, 3.6, 3.2)
    ways = {
        "4 x weights": ("4 x the weights", "#d9a441"),
        "estimate-memory": ("accelerate estimate-memory", "#7a7a7a"),
        "process": ("the process", "#b7d3a8"),
        "predicted": ("lorakit.plan", COLOURS["lorakit"]),
    }
    measured = [row["measured"] for row in rows]
    for axis, shown in zip(axes[0], (list(ways), ["predicted"]), strict=True):
        for way in shown:
            ratios = [row[way] / row["measured"] for row in rows]
            label, colour = ways[way]
            axis.plot(measured, ratios, "o", markersize=3, label=label, color=colour)
        axis.axhspan(0.95, 1.05, color=COLOURS["lorakit"], alpha=0.15, linewidth=0)
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set_xscale("log")
        axis.set_xlabel("measured, MB")
    axes[0][0].set_yscale("log", base=2)
    axes[0][0].yaxis.set_major_formatter("{x:g}")
    axes[0][1].set_ylim(0.9, 1.1)
    finish(made, axes[0][0], "over the measured peak")
    return made


def bars(axis: Any, labels: Sequence[str], series: Mapping[str, Sequence[float]]) -> None:
    width = 0.8 / len(series)
    for turn, (name, values) in enumerate(series.items()):
        places = [i + (turn - (len(series) - 1) / 2) * width for i in range(len(labels))]
        axis.bar(places, values, width, label=name, color=COLOURS[name])
    axis.set_xticks(range(len(labels)), labels, fontsize=7)


def present(rows: Sequence[Any]) -> list[str]:
    return [name for name in COLOURS if all(name in row for row in rows)]


def floor_line(axis: Any, top: float = math.inf) -> None:
    axis.axhline(1, color="black", linewidth=0.8)
    axis.set_ylim(0, min(top, axis.get_ylim()[1]))


def finish(made: Any, axis: Any, label: str) -> None:
    made.supylabel(label, fontsize=9)
    handles, labels = axis.get_legend_handles_labels()
    made.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=7)


PLOTS: dict[str, Callable[[Sequence[Any]], Any]] = {
    plot.__name__: plot for plot in (training_step, operation, kept_bytes, reviews, planned_peaks)
}

"""Runs of several tasks of GLUE as one table, with the average of microsoft/LoRA's README."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from lorakit.metrics.glue import AVERAGED, glue_average, glue_headline
from lorakit.tasks.glue.benchmark import GLUE
from lorakit.text import table


@dataclass(frozen=True)
class GlueRow:
    """The runs of one task and method: the mean of their headline metric."""

    task: str
    method: str
    """With `loss.kind` if it is not plain, and with the base if the runs differ in it."""
    metric: str
    mean: float
    runs: int


@dataclass(frozen=True)
class GlueComparison:
    """A row for each task and method, and the averages of the methods that ran all eight tasks."""

    rows: tuple[GlueRow, ...]
    """In GLUE's order."""
    averages: dict[str, float]
    """By method, with its loss and base where they differ."""

    def __str__(self) -> str:
        head = ("task", "method", "metric", "mean", "runs")
        cells = [(r.task, r.method, r.metric, f"{r.mean:.4f}", str(r.runs)) for r in self.rows]
        lines = [
            f"average of {len(AVERAGED)} tasks, {method}: {value:.4f}"
            for method, value in self.averages.items()
        ]
        return "\n".join([*table([head, *cells]), *lines])


def is_glue(results: Sequence[dict[str, Any]]) -> bool:
    """Whether these are runs of several tasks of GLUE."""
    tasks = {result["task"] for result in results}
    return len(tasks) > 1 and tasks <= GLUE.keys()


def compare_glue(results: Sequence[dict[str, Any]]) -> GlueComparison:
    """The table for results of tasks of GLUE, in GLUE's order."""
    several_bases = len({result.get("base") for result in results}) > 1
    groups: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for result in sorted(results, key=lambda r: list(GLUE).index(r["task"])):
        headline = glue_headline(result["task"], result["metrics"])
        method = _method(result, several_bases)
        groups.setdefault((result["task"], method), []).append(headline)
    rows = tuple(
        GlueRow(task, method, found[0][0], fmean(value for _, value in found), len(found))
        for (task, method), found in groups.items()
    )
    return GlueComparison(rows, _averages(rows))


def _method(result: dict[str, Any], with_base: bool) -> str:
    loss = result.get("loss", "plain")
    base = result.get("base") or "base not recorded" if with_base else None
    parts = (result["method"], loss if loss != "plain" else None, base)
    return ", ".join(part for part in parts if part is not None)


def _averages(rows: Sequence[GlueRow]) -> dict[str, float]:
    methods = dict.fromkeys(row.method for row in rows)
    means = {m: {r.task: {r.metric: r.mean} for r in rows if r.method == m} for m in methods}
    return {m: glue_average(found) for m, found in means.items() if set(AVERAGED) <= set(found)}

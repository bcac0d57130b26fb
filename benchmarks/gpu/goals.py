"""What lorakit promises to reach on an accelerator, and what a check's parts say of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from benchmarks.goals import Goal, Values, most_kept
from benchmarks.gpu import result_file

TOKENS = 2048
"""Of a step, in the goals about its time."""


def slowest(targets: str) -> Callable[[list[Any]], Values]:
    """The largest ratio to the floor, over models and dropout."""

    def values(rows: list[Any]) -> Values:
        cells = [row for row in at_goal(rows) if row["targets"] == targets]
        return {n: max(row[n]["median"] for row in cells) for n in ("peft", "lorakit") if cells}

    return values


def least_lead(rows: list[Any]) -> Values:
    """The smallest ratio of PEFT's time to lorakit's, over models, targets and dropout."""
    ratios = [row["peft / lorakit"]["median"] for row in at_goal(rows)]
    return {"lorakit": min(ratios)} if ratios else {}


def at_goal(rows: list[Any]) -> list[Any]:
    return [row for row in rows if row["tokens"] == TOKENS]


def cells_not_below_peft(rows: list[Any]) -> Values:
    return {"lorakit": sum(row["lorakit"] >= row["peft"] for row in rows)} if rows else {}


GOALS = (
    Goal("step over floor, 2,048 tokens: q, v", "steps", 1.08, slowest("q and v")),
    Goal("the same: all linear", "steps", 1.15, slowest("all linear")),
    Goal("times faster than PEFT there", "steps", 1.25, least_lead, at_least=True),
    Goal("cells whose peak memory is not below PEFT's", "memory", 0, cells_not_below_peft),
    Goal("bytes kept by q, k, v over the input", "kept_bytes", 1.0, most_kept(0.0)),
    Goal("the same with dropout 0.1", "kept_bytes", 1.0, most_kept(0.1)),
)


def table(parts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A row for each goal; one whose part has not measured it says so."""
    for goal in GOALS:
        part = parts.get(goal.benchmark, {"rows": []})
        row = goal.row({goal.benchmark: part})
        whole = part.get("state") == result_file.DONE
        yield (
            row
            if whole or row["lorakit"] == ""
            else {**row, "reached": f"{row['reached']}, so far"}
        )

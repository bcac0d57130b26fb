"""The list of benchmarks, and what they share.

Benchmark NAME is benchmarks/NAME.py. Its docstring is the title; `check(settings)` raises
AssertionError if it would not measure what it says; `rows(settings)` yields the rows of its
table; `CONDITIONS` says what a full run holds fixed.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

NAMES = (
    "imports",
    "forward_calls",
    "merge_cycles",
    "kept_bytes",
    "operation",
    "training_step",
    "compiled_step",
    "reviews",
    "first_runs",
    "glue",
    "glue_warm_start",
    "glue_padding",
    "data_to_text",
    "data_to_text_speed",
    "adapter_analysis",
    "adapter_algebra",
    "merge_files",
    "many_adapters",
    "mixed_training",
    "four_tasks",
    "section_seven",
    "planned_peaks",
)


class Unavailable(Exception):
    """What a benchmark needs is not on this machine; it says what, and is left out."""


Spread = dict[str, float]
Row = dict[str, str | int | float | Spread]


@dataclass(frozen=True)
class Settings:
    """What a run was asked for."""

    device: str = "cpu"
    seed: int = 0
    quick: bool = False


def spread(values: Sequence[float]) -> Spread:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}

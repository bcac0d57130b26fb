"""The parts of the check, in the order of their worth: what a time limit cuts off comes last."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu import device_tests
from benchmarks.gpu.records import Record


def rows(records: list[Record]) -> dict[str, Any]:
    """The rows of a benchmark, with what it held fixed."""
    conditions = next((value for name, value in records if name == "conditions"), {})
    return {
        "conditions": conditions,
        "rows": [value for name, value in records if name == "row"],
    }


@dataclass(frozen=True)
class Part:
    """A module that runs in a process of its own."""

    name: str
    title: str
    arguments: tuple[str, ...]
    """Of Python: what runs, and what it measures."""
    seconds: float
    """It is killed after so many; above what it should take on an H200."""
    collect: Callable[[list[Record]], dict[str, Any]] = rows

    def limit(self, device: str) -> float:
        """A CPU may be slow and shared, and has three times as long for its small inputs."""
        return 3 * self.seconds if device == "cpu" else self.seconds

    def command(self, device: str, quick: bool, records: Path) -> list[str]:
        options = ["--device", device, *(["--quick"] if quick else []), "--records", str(records)]
        return [sys.executable, *self.arguments, *options]


def benchmark(name: str, title: str, module: str, seconds: float) -> Part:
    """A module with `check`, `rows` and `CONDITIONS`, as the registry describes them."""
    return Part(name, title, ("-m", "benchmarks.gpu.worker", f"benchmarks.{module}"), seconds)


PARTS = (
    Part(
        "tests",
        "The tests in tests/gpu",
        ("-m", "benchmarks.gpu.device_tests", device_tests.FOLDER),
        180,
        device_tests.collect,
    ),
    benchmark("steps", "Training steps over the frozen floor", "gpu.steps", 90),
    benchmark("kept_bytes", "What q, k and v keep for backward", "kept_bytes", 30),
    benchmark("memory", "Peak memory of a whole step with AdamW", "gpu.memory", 60),
    benchmark("planned", "The peak that a plan predicts", "gpu.planned", 90),
    benchmark("kernels", "Where the time of a step goes", "gpu.kernels", 40),
    benchmark("compiled", "The same steps with torch.compile", "gpu.compiled", 110),
    benchmark("decoding", "Tokens a second of generate", "gpu.decoding", 50),
    benchmark("operation", "One adapted linear layer over the same layer frozen", "operation", 50),
    benchmark("merge_cycles", "What merging leaves of the base weights", "merge_cycles", 40),
    benchmark("forward_calls", "Calls and operations of one forward", "forward_calls", 20),
    benchmark("demo", "The demo: accuracy, and times faster than PEFT", "reviews", 120),
)

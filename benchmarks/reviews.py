"""The demo, end to end: accuracy, and time over PEFT's with transformers.Trainer, by seed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.registry import Row, Settings, Unavailable, spread

DATA = "LORAKIT_REVIEWS"
SEEDS = (0, 1, 2)
VARIANTS = {
    "PEFT, transformers.Trainer": "peft",
    "PEFT, lorakit's batches": "peft-batches",
    "lorakit": "lorakit",
}
CONDITIONS = {
    "seeds": SEEDS,
    "rows": "9,072 to train, 1,000 to test, the same for all",
    "adapter": "all linear layers and the new head, r 8, alpha 16",
    "training": "1 epoch, batch 32, learning rate 2e-3, linear, 6% warmup, decay 0.01, fp32",
    "seconds": "training only, each run in a fresh process, the variants in turn",
}


def check(settings: Settings) -> None:
    """The data is there, and has the size that the conditions say."""
    path = Path(os.environ.get(DATA, ""))
    if not path.is_file():
        raise Unavailable(f"set {DATA} to reviews.csv, which `make demo` prepares")
    assert sum(1 for _ in path.open(encoding="utf-8")) == 10_073


def rows(settings: Settings) -> Iterator[Row]:
    """Each seed runs every variant, in turning order; the time ratio is taken within a seed."""
    results: dict[str, list[dict[str, float]]] = {label: [] for label in VARIANTS}
    for turn, seed in enumerate(SEEDS[:1] if settings.quick else SEEDS):
        order = list(VARIANTS)
        for label in order[turn % 3 :] + order[: turn % 3]:
            results[label].append(fresh(VARIANTS[label], seed, 20 if settings.quick else 0))
    base = [result["seconds"] for result in results["PEFT, transformers.Trainer"]]
    for label, runs in results.items():
        faster = [b / run["seconds"] for b, run in zip(base, runs, strict=True)]
        yield {
            "variant": label,
            "accuracy": spread([run["accuracy"] for run in runs]),
            "mean accuracy": sum(run["accuracy"] for run in runs) / len(runs),
            "times faster": spread(faster),
            "seconds": spread([run["seconds"] for run in runs]),
        }


def fresh(variant: str, seed: int, max_steps: int) -> dict[str, float]:
    """One training run in a new process."""
    with tempfile.TemporaryDirectory() as directory:
        arguments = [variant, str(seed), str(max_steps), directory]
        command = [sys.executable, "-m", "benchmarks.reviews_worker", *arguments]
        run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    result: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return result

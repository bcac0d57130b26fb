"""GLUE's small tasks on MiniLM: LoRA beside PEFT, a trained head and full fine-tuning, by seed."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.glue_runs import (
    EPOCHS,
    METHODS,
    SEEDS,
    SST2_ROWS,
    directory_and_seeds,
    require_data,
    settings_of,
    standard_error,
    train,
    train_peft,
)
from benchmarks.registry import Row, Settings, spread
from lorakit.metrics.glue import glue_headline

CONDITIONS = {
    "seeds": SEEDS,
    "recipe": "recipes/glue-minilm.yaml; head: learning rate 2e-2; full: learning rate 5e-5",
    "training": f"epochs {EPOCHS}; rows: CoLA 8,551, SST-2 {SST2_ROWS:,} of 67,349, MRPC 3,668",
    "tested on": "GLUE's dev sets: 1,043, 872 and 408 rows, after the last step",
    "peft": "its layers in lorakit's Trainer: the same rows, seeds and batches",
    "difference": "LoRA minus the method, mean over the seeds, and its standard error from them",
}


def check(settings: Settings) -> None:
    """The data is there."""
    require_data()


def rows(settings: Settings) -> Iterator[Row]:
    """Every seed runs every method; a difference is taken within a seed."""
    with directory_and_seeds(settings) as (directory, seeds):
        for task in EPOCHS:
            found: dict[str, list[dict[str, Any]]] = {m: [] for m in (*METHODS, "peft")}
            for seed in seeds:
                given = settings_of(task, seed, settings.quick, directory)
                for method, results in found.items():
                    output = directory / f"{task}-{method}-{seed}"
                    results.append(_run(method, given, output))
            yield from _rows(task, found)


def _run(method: str, settings: list[str], output: Path) -> dict[str, Any]:
    if method == "peft":
        return train_peft(settings, output)
    return train([*settings, *METHODS[method]], output)


def _rows(task: str, found: dict[str, list[dict[str, Any]]]) -> Iterator[Row]:
    scores = {m: [glue_headline(task, r["metrics"])[1] for r in found[m]] for m in found}
    for method, results in found.items():
        gaps = [a - b for a, b in zip(scores["lora"], scores[method], strict=True)]
        yield {
            "task": task,
            "method": method,
            "metric": glue_headline(task, results[0]["metrics"])[0],
            "mean": statistics.fmean(scores[method]),
            "by seed": " ".join(f"{score:.4f}" for score in scores[method]),
            "LoRA ahead by": statistics.fmean(gaps),
            "standard error": standard_error(gaps),
            "trainable parameters": results[0]["trainable_parameters"],
            "seconds": spread([result["seconds"] for result in results]),
        }

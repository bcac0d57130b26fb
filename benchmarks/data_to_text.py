"""E2E with SmolLM2-135M: scores before and after, beside PEFT on the same rows and batches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.registry import Row, Settings, Unavailable, spread

DATA, MODEL = "LORAKIT_E2E", "LORAKIT_SMOLLM2"
FILES = ("trainset.csv", "devset.csv", "testset_w_refs.csv")
SEEDS = (0, 1)
MARGIN = 0.2
"""BLEU that the adapted model must have above the base's, said before the first run."""
CONDITIONS = {
    "seeds": SEEDS,
    "base": "SmolLM2-135M-Instruct, float32",
    "train": "960 of 42,061 references: 60 steps of 16, drawn by the seed from every 12th input",
    "dev": "every 16th of the 547 inputs, all their references",
    "adapter": "all linear layers, r 8, alpha 16, learning rate 1e-3, linear",
    "decoding": "beam 10, length penalty 0.8, no repeated 4-gram, at most 64 tokens",
    "margin": f"BLEU at least {MARGIN} above the base's",
    "peft": "its layers in lorakit's Trainer: the same rows and batches",
    "lorakit less peft": "taken within a seed",
    "processes": "each run in a fresh process, one after the other",
}


def check(settings: Settings) -> None:
    """Data and model are there."""
    require_data()


def require_data() -> None:
    """Raises Unavailable if E2E's files or the model are not named."""
    folder = Path(os.environ.get(DATA, ""))
    missing = [f for f in FILES if not any((folder / f"{f}{z}").is_file() for z in ("", ".gz"))]
    if missing or not os.environ.get(DATA):
        raise Unavailable(f"set {DATA} to a folder with {', '.join(FILES)} (or .gz)")
    if not (Path(os.environ.get(MODEL, "")) / "model.safetensors").is_file():
        raise Unavailable(f"set {MODEL} to what `python -m demo.smollm2` prints")


def rows(settings: Settings) -> Iterator[Row]:
    """One measure a row: the base, then lorakit and PEFT after training, over the seeds."""
    size = "quick" if settings.quick else "full"
    found: dict[str, list[dict[str, Any]]] = {"base": [fresh(size, "score", "-")]}
    with tempfile.TemporaryDirectory() as directory:
        for seed in SEEDS[:1] if settings.quick else SEEDS:
            for variant in ("lorakit", "peft"):
                adapter = str(Path(directory) / f"{variant}-{seed}")
                values = fresh(size, "train", variant, adapter, str(seed))
                values |= fresh(size, "score", adapter)
                found.setdefault(variant, []).append(values)
    for variant, runs in found.items():
        for measure in runs[0]:
            value = spread([values[measure] for values in runs])
            yield {"variant": variant, "measure": measure, "value": value}
    pairs = list(zip(found["lorakit"], found["peft"], strict=True))
    for measure in ("dev loss", "bleu"):
        gaps = [ours[measure] - theirs[measure] for ours, theirs in pairs]
        yield {"variant": "lorakit less peft", "measure": measure, "value": spread(gaps)}
    if not settings.quick:
        gains = [values["bleu"] - found["base"][0]["bleu"] for values in found["lorakit"]]
        assert min(gains) >= MARGIN, f"BLEU rose by {min(gains):.4f}, and the margin is {MARGIN}"


def fresh(size: str, task: str, *arguments: str) -> dict[str, Any]:
    """One part of the benchmark in a new process."""
    command = [sys.executable, "-m", "benchmarks.data_to_text_worker", size, task, *arguments]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    result: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return result

"""E2E with SmolLM2-135M: scores before and after, beside PEFT; speed of decoding and training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.registry import Row, Settings, Unavailable

DATA, MODEL = "LORAKIT_E2E", "LORAKIT_SMOLLM2"
FILES = ("trainset.csv", "devset.csv", "testset_w_refs.csv")
MARGIN = 0.2
"""BLEU that the adapted model must have above the base's, said before the first run."""
TEST_INPUTS, TEST_REFERENCES = 630, 4_693
CONDITIONS = {
    "base": "SmolLM2-135M-Instruct, float32",
    "train": "960 of 42,061 references: 60 steps of 16, drawn with seed 0 from every 12th input",
    "dev": "every 8th of the 547 inputs, all their references",
    "adapter": "all linear layers, r 8, alpha 16, learning rate 1e-3, linear",
    "decoding": "beam 10, length penalty 0.8, no repeated 4-gram, at most 64 tokens",
    "margin": f"BLEU at least {MARGIN} above the base's",
    "decoding speed": "every 10th of the 630 test inputs, merged adapter, batches of 6 rows",
    "one row a reference": "2 rows padded to 512, seconds a row times 4,693 over a distinct input",
    "training speed": "tokens without padding, a second; transformers.Trainer with its own batches "
    "of 8 and no grouping, 20 steps; the others 60 steps of 16",
    "processes": "each run in a fresh process, one after the other",
}


def check(settings: Settings) -> None:
    """Data and model are there, and the data are E2E's."""
    folder = Path(os.environ.get(DATA, ""))
    missing = [f for f in FILES if not any((folder / f"{f}{z}").is_file() for z in ("", ".gz"))]
    if missing or not os.environ.get(DATA):
        raise Unavailable(f"set {DATA} to a folder with {', '.join(FILES)} (or .gz)")
    if not (Path(os.environ.get(MODEL, "")) / "model.safetensors").is_file():
        raise Unavailable(f"set {MODEL} to what `python -m demo.smollm2` prints")
    sizes = fresh("sizes", settings)
    assert sizes == {"test inputs": TEST_INPUTS, "test references": TEST_REFERENCES}, sizes


def rows(settings: Settings) -> Iterator[Row]:
    """One measure a row: base, lorakit and PEFT on the same rows; then the two speeds."""
    with tempfile.TemporaryDirectory() as directory:
        found = {"base": fresh("score", settings, "-")}
        for variant in ("lorakit", "peft"):
            adapter = str(Path(directory) / variant)
            found[variant] = fresh("train", settings, variant, adapter)
            found[variant] |= fresh("score", settings, adapter)
        found["peft, transformers.Trainer"] = fresh(
            "train", settings, "peft-trainer", f"{directory}/trainer"
        )
        decoding = fresh("decode", settings, str(Path(directory) / "lorakit"))
    for variant, values in found.items():
        for measure, value in values.items():
            yield {"variant": variant, "measure": measure, "value": value}
    for measure, value in ratios(decoding).items():
        yield {"variant": "decoding", "measure": measure, "value": value}
    if not settings.quick:
        gain = found["lorakit"]["bleu"] - found["base"]["bleu"]
        assert gain >= MARGIN, f"BLEU rose by {gain:.4f}, and the margin is {MARGIN}"


def ratios(decoding: dict[str, float]) -> dict[str, float]:
    """Seconds of three ways to decode, as times of lorakit's."""
    ours = decoding["seconds an input"]
    padded = decoding["seconds a row padded to 512"] * TEST_REFERENCES / TEST_INPUTS
    return decoding | {
        "times faster than one row a reference padded to 512": padded / ours,
        "times faster than generate in file order": decoding["seconds an input in file order"]
        / ours,
    }


def fresh(task: str, settings: Settings, *arguments: str) -> dict[str, Any]:
    """One part of the benchmark in a new process."""
    size = "quick" if settings.quick else "full"
    command = [sys.executable, "-m", "benchmarks.data_to_text_worker", size, task, *arguments]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    result: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return result

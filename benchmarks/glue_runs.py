"""Runs of recipes/glue-minilm.yaml in fresh processes, by `lorakit train` alone or by PEFT.

GLUE's folder of TSV files is named by LORAKIT_GLUE. Of SST-2 the first 3,000 rows of a fixed
shuffle train; CoLA and MRPC train whole. All are tested on GLUE's dev sets.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.registry import Settings, Unavailable
from benchmarks.reviews_worker import model_directory

DATA = "LORAKIT_GLUE"
SEEDS = (0, 1, 2)
SST2_ROWS, QNLI_STEPS = 3000, 80
QUICK_STEPS = 4
EPOCHS = {"cola": 1, "sst2": 1, "mrpc": 2}
METHODS = {
    "lora": [],
    "head": ["method=head", "training.learning_rate=2e-2"],
    "full": ["method=full", "training.learning_rate=5e-5"],
}
"""Settings beside the recipe's; the rates are those of the demo."""


def require_data() -> Path:
    """GLUE's folder; raises Unavailable if it is not named or lacks a file."""
    folder = Path(os.environ.get(DATA, "")).resolve()
    needed = ["CoLA/train", "CoLA/dev", "SST-2/train", "SST-2/dev", "MRPC/train", "MRPC/dev"]
    missing = [name for name in [*needed, "QNLI/dev"] if not list(folder.glob(f"{name}.tsv*"))]
    if DATA not in os.environ or missing:
        raise Unavailable(f"set {DATA} to GLUE's folder of TSV files, with CoLA, SST-2, MRPC, QNLI")
    return folder


@contextmanager
def directory_and_seeds(settings: Settings) -> Iterator[tuple[Path, tuple[int, ...]]]:
    """A directory for runs, which goes with them, and the seeds that they take."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory), SEEDS[:1] if settings.quick else SEEDS


def settings_of(task: str, seed: int, quick: bool, directory: Path) -> list[str]:
    """Where the data is and which rows train."""
    folder = require_data()
    train = sst2_subset(folder, directory) if task == "sst2" else folder
    settings = [
        f"task={task}",
        f"base={model_directory()}",
        f"data.train={train}",
        f"data.test={folder}",
        f"training.seed={seed}",
        f"training.epochs={EPOCHS[task]}",
        "training.evaluations=1",
    ]
    return [*settings, f"training.max_steps={QUICK_STEPS}"] if quick else settings


def sst2_subset(folder: Path, directory: Path) -> Path:
    """A file with the rows of SST-2 that train, the same in every run."""
    target = directory / "sst2-train.tsv"
    if not target.exists():
        source = next((folder / "SST-2").glob("train.tsv*"))
        content = source.read_bytes()
        text = (gzip.decompress(content) if source.suffix == ".gz" else content).decode()
        header, *rows = text.rstrip("\n").split("\n")
        random.Random(0).shuffle(rows)
        target.write_text("\n".join([header, *rows[:SST2_ROWS], ""]), encoding="utf-8")
    return target


def train_source(quick: bool, directory: Path) -> Path:
    """A LoRA run on QNLI's dev set, for a warm start."""
    file = next((require_data() / "QNLI").glob("dev.tsv*"))
    data = ["data.task=qnli", f"data.train={file}", "data.test=463"]
    steps = f"training.max_steps={QUICK_STEPS if quick else QNLI_STEPS}"
    train([*settings_of("mrpc", 0, quick, directory), *data, steps], directory / "qnli")
    return directory / "qnli"


def standard_error(values: list[float]) -> float:
    """Of the mean; 0 for a single value."""
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


def train(settings: list[str], output: Path) -> dict[str, Any]:
    """One `lorakit train` in a new process, and the result that it leaves."""
    arguments = ["train", "glue-minilm", "--output", str(output), "--json"]
    return fresh(["lorakit", *arguments, *(a for s in settings for a in ("--set", s))])


def train_peft(settings: list[str], output: Path) -> dict[str, Any]:
    """The same rows, seed and batches, with PEFT's layers."""
    return fresh(["benchmarks.glue_worker", str(output), *settings])


def fresh(module: list[str]) -> dict[str, Any]:
    run = subprocess.run([sys.executable, "-m", *module], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    text = run.stdout
    result: dict[str, Any] = json.loads(text[text.index("{") :])
    return result

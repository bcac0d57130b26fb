"""Four tasks on one MiniLM: trained in one mixed run, and one after another; scores and times."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import reviews
from benchmarks.glue_runs import require_data, sst2_subset
from benchmarks.registry import Row, Settings
from benchmarks.reviews_worker import model_directory

TASKS = ("reviews", "sst2", "mrpc", "qnli")
QUICK = ("training.max_steps=4", "data.train_rows=64", "training.evaluations=1")
CONDITIONS = {
    "recipe": "recipes/four-tasks.yaml; QNLI's dev rows, of which 463 test",
    "one after another": "each adapter's own recipe, by `lorakit train` in a process of its own",
    "seconds": "of the whole process: start, base, data, training, test",
}


def check(settings: Settings) -> None:
    """The data is there."""
    require_data()
    reviews.check(settings)


def data(directory: Path) -> dict[str, str]:
    """What each adapter learns from, as settings of the recipe."""
    folder = require_data()
    return {
        "reviews.data.train": str(reviews.data()),
        "reviews.data.test": "1000",
        "sst2.data.train": str(sst2_subset(folder, directory)),
        "sst2.data.test": str(folder),
        "mrpc.data.train": str(folder),
        "qnli.data.train": str(next((folder / "QNLI").glob("dev.tsv*"))),
        "qnli.data.test": "463",
    }


def lorakit(*arguments: str) -> tuple[dict[str, Any], float]:
    """What the command prints, and its seconds."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "lorakit", *arguments, "--json"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout[run.stdout.index("{") :])
    return found, time.perf_counter() - started


def rows(settings: Settings) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        given = [f"adapters.{key}={value}" for key, value in data(directory).items()]
        given += [f"base={model_directory()}", *(QUICK if settings.quick else ())]
        whole = directory / "together"
        together, seconds = lorakit("train", "four-tasks", "--output", str(whole), *_set(given))
        alone, each = {}, {}
        for task in TASKS:
            output = str(directory / "alone" / task)
            recipe = str(whole / task / "recipe.yaml")
            alone[task], each[task] = lorakit("train", recipe, "--output", output)
        yield from _rows(together, alone, each)
        yield {
            "task": "all",
            "together, s": seconds,
            "alone, s": sum(each.values()),
            "together / alone": seconds / sum(each.values()),
        }
        yield predicted(directory, whole)


def _rows(
    together: Mapping[str, Any], alone: Mapping[str, Any], each: Mapping[str, float]
) -> Iterator[Row]:
    for task in TASKS:
        one, other = (found[task]["metrics"]["accuracy"] for found in (together, alone))
        yield {
            "task": task,
            "steps": together[task]["steps"],
            "accuracy, together": one,
            "accuracy, alone": other,
            "alone, s": each[task],
        }


def predicted(directory: Path, whole: Path) -> Row:
    """One file with rows of all tasks, in one pass; the answers are those of each run's own."""
    rows, expected = [], []
    for task in TASKS:
        for line in (whole / task / "predictions.jsonl").read_text("utf-8").splitlines()[:50]:
            row = json.loads(line)
            expected.append(row.pop("prediction"))
            rows.append({**row, "adapter": task})
    file = directory / "mixed.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    chosen = [f"--adapter={task}={whole / task}" for task in TASKS]
    output = directory / "mixed.out.jsonl"
    place = ["--data", str(file), "--output", str(output)]
    _, seconds = lorakit("predict", *place, *chosen, "--adapter-column", "adapter")
    found = [json.loads(line)["prediction"] for line in output.read_text("utf-8").splitlines()]
    same = sum(one == other for one, other in zip(found, expected, strict=True))
    return {"task": "one mixed file", "rows": len(rows), "as alone": same, "together, s": seconds}


def _set(settings: list[str]) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]

